"""The golden files of a directory: which can be used, and what is wrong with the others. Needs no NumPy."""

from __future__ import annotations

from pathlib import Path

from zmlx._compat import BACKENDS
from zmlx.testing.golden.comparison import Finding
from zmlx.testing.golden.file import GoldenError, GoldenFile, check_directory, load

RECORD = "python -m zmlx golden record"


def load_files(directory: Path) -> tuple[dict[str, GoldenFile], list[Finding]]:
    """The usable files by back end, and a finding for each other, and if there is none.

    Raises
    ------
    GoldenError
        If the directory cannot be read.
    """
    check_directory(directory)
    files: dict[str, GoldenFile] = {}
    findings: list[Finding] = []
    known = ", ".join(f"{name}.json" for name in BACKENDS)
    for path in sorted(directory.glob("*.json")):
        backend = path.stem
        if backend.startswith("registered-"):
            continue  # values that tests registered; see registry.py
        if backend not in BACKENDS:
            message = f"{path}: golden files are named {known}; rename or remove it."
            findings.append(Finding("file", backend, "", message))
            continue
        try:
            files[backend] = load(path)
        except GoldenError as error:
            findings.append(Finding("file", backend, "", str(error)))
    if not files:
        registered = sorted(path.name for path in directory.glob("registered-*.json"))
        beside = f" ({', '.join(registered)} holds what tests registered)" if registered else ""
        damaged = ", ".join(f"{finding.subject}.json" for finding in findings if finding.subject in BACKENDS)
        message = f"There is no usable golden file in {directory}{beside}. Record one: {RECORD}"
        if damaged:
            message = f"Every golden file in {directory} is damaged ({damaged}); see what is said of each."
        findings.append(Finding("nothing", "", "", message))
    return files, findings
