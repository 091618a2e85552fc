"""Copies of a project in a temporary folder, with one fault in each."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from zmlx.testing.mutants.mutant import Mutant, MutantError

#: What a copy does without: environments, results, what Python and tools keep.
LEFT_OUT = ("__pycache__", ".*", "build", "dist", "docs", "*.egg-info", "node_modules")


def read_source(root: Path, mutant: Mutant) -> str:
    """The text that a mutant changes.

    Raises
    ------
    MutantError
        There is no such file.
    """
    path = root / mutant.file
    if not path.is_file():
        raise MutantError(
            f"mutant {mutant.name}: there is no file {mutant.file} in {root}. Correct the mutant's `file`, or start "
            "in the project's folder."
        )
    return path.read_text(encoding="utf-8")


@contextlib.contextmanager
def planted(root: Path, mutant: Mutant | None) -> Iterator[Path]:
    """A copy of the project with the fault in it (or without any), removed at the end of the ``with`` block."""
    with tempfile.TemporaryDirectory(prefix="zmlx-mutant-") as folder:
        copy = Path(folder) / "project"
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
        if mutant is not None:
            mutated = mutant.apply(read_source(root, mutant))
            (copy / mutant.file).write_text(mutated, encoding="utf-8")
        yield copy
