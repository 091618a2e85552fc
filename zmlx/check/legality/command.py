"""``python -m zmlx lint FILE…``: Metal source text against Metal's rules, without running anything."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from zmlx._text import count
from zmlx.check.findings import Finding, render, summarize
from zmlx.check.legality import front_end
from zmlx.check.legality.judge import static_findings
from zmlx.metal.signature import KernelSource, make_signature


def lint_files(files: Sequence[Path], body: bool = False, colour: bool | None = None) -> int:
    """Print what Metal refuses in each file; returns 0, or 1 if there is anything.

    Parameters
    ----------
    files
        Metal source as a compiler takes it, or with ``body`` the body of a kernel, as `metal_kernel` takes it.
    body
        The names of a body's inputs and outputs are not known then, and what is done with them is not judged.

    Raises
    ------
    ImportError
        There is no libclang.
    ValueError
        A file is Python, is missing or is no UTF-8 text.
    """
    if not front_end.available():
        raise ImportError(
            "lint needs a compiler front end: `pip install '.[lint]'` (libclang 18.1 or newer)."
        )
    findings: list[Finding] = []
    for path in files:
        text = _read(path)
        kernel = KernelSource(str(path), (), (), text if body else "", "" if body else text)
        found, _ = static_findings(make_signature(kernel, (), ()), (1, 1, 1))
        findings += found
    if findings:
        print(render(findings, sys.stdout.isatty() if colour is None else colour), end="\n\n")
    print(f"zmlx looked at {count(len(files), 'file')}: {summarize(findings)}")
    return 1 if findings else 0


def _read(path: Path) -> str:
    if path.suffix == ".py":
        raise ValueError(
            f"{path} is Python: lint reads Metal source. `python -m zmlx check {path}` runs a script and judges all "
            "kernels that it launches."
        )
    if not path.is_file():
        raise ValueError(f"There is no file {str(path)!r}.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error}") from error
