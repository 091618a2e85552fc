"""What TF32 changes: an operation in two processes, since MLX reads its variable once.

``python -m zmlx.testing.tf32 ROOT BACKEND OPERATION FILE TABLE…`` is such a process: it writes the results of the
operation's samples in float32 to FILE.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zmlx.testing.changes import between
from zmlx.testing.environment import TF32_VARIABLE
from zmlx.testing.opinfo import OpInfo
from zmlx.testing.verification import Change

#: Where MLX has TF32. On Metal only chips with matrix units use it; the CPU has none.
BACKENDS = ("cuda", "metal")

DTYPE = "float32"

#: Seconds for a process.
TIME_LIMIT = 300.0


class Tf32Error(RuntimeError):
    """A process with another setting failed; the message has the end of what it said."""


def compare_tf32(op: OpInfo, backend: str, root: Path, tables: Sequence[str]) -> Change:
    """Results and gradients with TF32 against those without.

    Parameters
    ----------
    op : OpInfo
        One that multiplies matrices.
    backend : str
        Where to run; where there is no TF32, the change says so and nothing is run.
    root, tables : pathlib.Path, sequence of str
        The project's folder and tables, by which the processes find the operation (`zmlx.testing.project.Project`).

    Raises
    ------
    Tf32Error
        A process failed or took too long.
    """
    if backend not in BACKENDS:
        return Change(0, note="not on this back end")
    with tempfile.TemporaryDirectory(prefix="zmlx-tf32-") as folder:
        runs = []
        for setting in ("0", "1"):
            file = Path(folder) / f"{setting}.npz"
            _run(op.name, backend, root, tables, file, setting)
            with np.load(file) as arrays:
                runs.append([arrays[name] for name in arrays.files])
    return between(runs)


def _run(name: str, backend: str, root: Path, tables: Sequence[str], file: Path, setting: str) -> None:
    path = os.pathsep.join(part for part in sys.path if part)
    command = [sys.executable, "-m", "zmlx.testing.tf32", str(root), backend, name, str(file), *tables]
    environment = {**os.environ, TF32_VARIABLE: setting, "PYTHONPATH": path}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Tf32Error(
            f"{name}: the process with {TF32_VARIABLE}={setting} did not end within {TIME_LIMIT:g} s."
        ) from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise Tf32Error(f"{name}: the process with {TF32_VARIABLE}={setting} failed: {said}")


def write_results(root: Path, backend: str, name: str, file: Path, tables: Sequence[str]) -> None:
    """Run the samples of an operation in float32 and write their results, in order."""
    from zmlx.testing.changes import results_of
    from zmlx.testing.golden.catalogue import working_on
    from zmlx.testing.project import load_ops

    (op,) = (op for op in load_ops(tables, root) if op.name == name)
    results: list[Any] = []
    with working_on(backend):
        for sample in op.sample_inputs():
            results += results_of(op, sample.cast(DTYPE), DTYPE)
        np.savez(file, *(np.asarray(array) for array in results))


if __name__ == "__main__":
    write_results(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]), sys.argv[5:])
