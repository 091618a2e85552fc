"""``python -m zmlx check script.py [args]``: a script, unchanged, with all its Metal kernels under the checker."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from zmlx.check.checker import Checking
from zmlx.check.suppressions import load_suppressions
from zmlx.check.symbolize import why_no_lines
from zmlx.launch.hook import intercepting
from zmlx.launch.installation import install


def run_script(
    script: Path,
    arguments: Sequence[str],
    *,
    json_file: Path | None = None,
    sarif_file: Path | None = None,
    suppressions: Path | None = None,
    time_limit: float = 60.0,
    colour: bool | None = None,
) -> int:
    """Run a script as ``python script.py`` would, and print what the checker found.

    Returns 0, or 1 if there was a finding or an unneeded suppression, or the script's own exit status if that is not 0.

    Raises
    ------
    ValueError
        The script or the suppressions cannot be read.
    """
    if not script.is_file():
        raise ValueError(f"There is no script {str(script)!r}.")
    known = load_suppressions(suppressions) if suppressions is not None else None
    check = Checking(raise_on_finding=False, time_limit=time_limit, suppressions=known)
    status = _run(script, arguments, check)
    if json_file is not None:
        json_file.write_text(check.to_json() + "\n", encoding="utf-8")
    if sarif_file is not None:
        sarif_file.write_text(check.to_sarif() + "\n", encoding="utf-8")
    unneeded = check.suppressions.unneeded()
    print(check.report(sys.stdout.isatty() if colour is None else colour))
    for line in [*unneeded, *filter(None, [why_no_lines() if check.findings else ""])]:
        print(line)
    return status or (1 if check.findings or unneeded else 0)


def _run(script: Path, arguments: Sequence[str], check: Checking) -> int:
    before = sys.argv, sys.path[:]
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        with install(), intercepting(check):
            runpy.run_path(str(script), run_name="__main__")
    except SystemExit as exit_:
        if isinstance(exit_.code, str):
            print(exit_.code, file=sys.stderr)
            return 1
        return exit_.code or 0
    finally:
        sys.argv, sys.path[:] = before
    return 0
