"""The commands on golden values: ``python -m zmlx golden record | compare | migrate`` and ``report``.

Each calls the module that does the work. `zmlx.__main__` puts them beside the others. What compares recorded files only
needs neither MLX nor NumPy.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zmlx import _compat
from zmlx._commands import (
    Add,
    Commands,
    backend_option,
    clear_progress,
    evidence_dir,
    evidence_dir_option,
    find_and_say,
    golden_dir,
    golden_dir_option,
    ops_option,
    show_progress,
)

if TYPE_CHECKING:
    from zmlx.testing.golden.comparison import Comparison
    from zmlx.testing.project import Project
    from zmlx.testing.report.model import Report

GOLDEN = """\
Golden values are what each back end computed, recorded in golden_values/BACKEND.json with the device, the MLX
version and the hash of every kernel's source. They show drift between back ends without their hardware. A case that
nobody with a back end's hardware has recorded yet is pending: listed, and no failure until the project's date.

examples:
  python -m zmlx golden compare                      run every case here; compare with oracle and files
  python -m zmlx golden compare --report-dir build   ... and write report.html and report.md there
  python -m zmlx golden compare --offline            the files with each other: no GPU, no MLX, no NumPy needed
  python -m zmlx golden compare --explain norms.rmsnorm/float32/odd
  python -m zmlx golden record                       record this machine's default back end
  python -m zmlx golden record --kernel swiglu       ... of one kernel, and leave the others as they are
  python -m zmlx golden migrate                      rewrite files of an older zmlx; values stay

Exit status 0: done, or everything agrees. 1: something does not, or a file cannot be used. 2: nothing matches.
"""

REPORT = """\
Compare the recorded golden files with the oracle and with each other. Nothing is run on a GPU, so a laptop
can show how Metal, CUDA and CPU agree. What `verify` and `leaks` have left in build/evidence is shown too. Without MLX
the sources of the kernels are not looked at, and without NumPy the oracle is not either: errors are then as recorded,
and the report says so.

examples:
  python -m zmlx report                              print the tables
  python -m zmlx report --html report.html --markdown report.md
  python -m zmlx report --against origin/main        better, same, worse, new, gone since a git revision
  python -m zmlx report --html report.html --history 20
  python -m zmlx report --update-readme README.md    between its two `zmlx report` comments

Exit status 0: everything agrees. 1: something does not, a file cannot be used, or an error is more than twice that of
the revision. 2: a request that makes no sense.
"""

README_BEGIN = "<!-- zmlx report: begin -->"
README_END = "<!-- zmlx report: end -->"


def _record(options: argparse.Namespace) -> int:
    from zmlx.testing.golden.run import record

    _compat.import_mx()
    backend = options.backend or _compat.detect_backend()
    ops = find_and_say(options).ops
    recording = record(backend, golden_dir(options), ops=ops, kernel=options.kernel, progress=show_progress)
    clear_progress()
    print(recording.summary())
    return 0


def _migrate(options: argparse.Namespace) -> int:
    from zmlx.testing.golden.file import migrate

    paths = sorted(golden_dir(options).glob("*.json"))
    if not paths:
        raise ValueError(f"There is no golden file in {golden_dir(options)}.")
    for path in paths:
        print(f"{path}: {'rewritten, values as before' if migrate(path) else 'has the schema of today'}")
    return 0


def _find_project_offline(options: argparse.Namespace) -> Project:
    """The project; its heading, if its table can be loaded in this Python."""
    from zmlx.testing.golden.offline import missing_package
    from zmlx.testing.project import find_project

    try:
        return find_and_say(options)
    except ImportError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        project = find_project(tables=options.ops)
        print(
            f"operations: {project.table_name} ({project.origin}), not loaded: {missing} is missing here",
            flush=True,
        )
        return project


def _recorded(options: argparse.Namespace) -> Comparison:
    from zmlx.testing.golden.offline import compare_anywhere

    project = _find_project_offline(options)
    return compare_anywhere(golden_dir(options), project)


def _live(options: argparse.Namespace) -> Comparison:
    from zmlx.testing.golden.run import compare_live

    project = find_and_say(options)
    found = compare_live(
        golden_dir(options),
        backend=options.backend,
        ops=project.ops,
        pending_until=project.pending_until,
        progress=show_progress,
    )
    clear_progress()
    return found


def _compare(options: argparse.Namespace) -> int:
    from zmlx.testing.golden.explain import explain
    from zmlx.testing.report.evidence import load_evidence
    from zmlx.testing.report.model import build_report
    from zmlx.testing.report.text import render_terminal

    # What is explained is what is recorded; a run of everything would say no more of it.
    offline = options.offline or options.explain is not None
    if offline and options.backend is not None:
        raise ValueError("--offline and --explain run nothing, so --backend has no meaning beside them.")
    comparison = _recorded(options) if offline else _live(options)
    if options.explain is not None:
        print("\n".join(explain(comparison, options.explain)))
        return 0
    report = build_report(comparison, evidence=load_evidence(evidence_dir(options)))
    sys.stdout.write(render_terminal(report))
    if options.report_dir is not None:
        _write(report, *(options.report_dir / name for name in ("report.html", "report.md")))
    return 0 if comparison.ok else 1


def _write(report: Report, *paths: Path | None) -> None:
    from zmlx.testing.report.write import write_report

    for path in filter(None, paths):
        print(f"wrote {write_report(report, path)}")


def _report(options: argparse.Namespace) -> int:
    from zmlx.testing.golden.against import against_lines, compare_with
    from zmlx.testing.golden.revisions import files_at, history
    from zmlx.testing.report.evidence import load_evidence
    from zmlx.testing.report.model import build_report
    from zmlx.testing.report.text import render_readme, render_terminal

    directory = golden_dir(options)
    # Before anything takes time: a revision that is not there ends the command.
    then = files_at(directory, options.against) if options.against is not None else None
    points = history(directory, options.history) if options.history else ()
    comparison = _recorded(options)
    changes = compare_with(comparison.files, then, comparison.damaged) if then is not None else ()
    report = build_report(
        comparison,
        history=points,
        changes=changes,
        revision=options.against or "",
        evidence=load_evidence(evidence_dir(options)),
    )
    sys.stdout.write(render_terminal(report))
    if then is not None:
        print("\n".join(against_lines(changes, options.against)))
        for backend in comparison.damaged:
            print(f"{backend}.json: damaged, and not compared")
    _write(report, options.html, options.markdown)
    if options.update_readme is not None:
        if not comparison.ok:
            print(f"zmlx: {options.update_readme} is left as it was, for the report fails", file=sys.stderr)
        elif not comparison.judged:
            raise RuntimeError(f"{options.update_readme} is left as it was: its tables need NumPy and MLX.")
        else:
            changed = update_readme(options.update_readme, render_readme(report))
            print(f"{options.update_readme}: {'updated' if changed else 'up to date'}")
    return 0 if comparison.ok and not any(change.is_regression for change in changes) else 1


def update_readme(path: Path, text: str) -> bool:
    """Put `text` between the two markers of a file; returns whether that changed it.

    Raises
    ------
    ValueError
        The markers are not there, once each and in this order.
    """
    from zmlx.testing.files import write_whole

    before = path.read_text(encoding="utf-8")
    head, begin, rest = before.partition(README_BEGIN)
    _, end, tail = rest.partition(README_END)
    if not begin or not end or README_BEGIN in rest or README_END in head + tail:
        raise ValueError(
            f"{path} needs one line {README_BEGIN!r} and after it one line {README_END!r}; what is between "
            "them is replaced."
        )
    after = f"{head}{README_BEGIN}\n{text}\n{README_END}{tail}"
    if after != before:
        write_whole(path, after)
    return after != before


def add_golden(commands: Commands[argparse.ArgumentParser], add: Add) -> None:
    """Add the parsers of ``golden``."""
    golden = add(commands, "golden", "record or compare golden values", GOLDEN, None)
    actions = golden.add_subparsers(metavar="ACTION", required=True)
    record = add(actions, "record", "compute every case and write BACKEND.json", GOLDEN, _record)
    compare = add(actions, "compare", "compute every case and compare with the files", GOLDEN, _compare)
    for action in (record, compare):
        backend_option(action)
        golden_dir_option(action)
        ops_option(action)
    record.add_argument(
        "--kernel", default="*", metavar="GLOB", help="only operations of this name or pattern; others stay"
    )
    evidence_dir_option(compare)
    brief = "rewrite files of an older schema in today's; values stay"
    golden_dir_option(add(actions, "migrate", brief, GOLDEN, _migrate))
    compare.add_argument(
        "--report-dir", type=Path, metavar="DIR", help="write report.html and report.md there"
    )
    compare.add_argument(
        "--offline", action="store_true", help="run nothing: compare the files with each other"
    )
    compare.add_argument(
        "--explain", metavar="CASE", help="run nothing: say everything that is known of one case"
    )


def add_report(commands: Commands[argparse.ArgumentParser], add: Add) -> None:
    """Add the parser of ``report``."""
    report = add(commands, "report", "how well the recorded back ends agree", REPORT, _report)
    golden_dir_option(report)
    ops_option(report)
    report.add_argument("--html", type=Path, metavar="FILE", help="write a web page")
    report.add_argument("--markdown", type=Path, metavar="FILE", help="write Markdown")
    evidence_dir_option(report)
    report.add_argument("--against", metavar="REV", help="compare with the golden files of a git revision")
    report.add_argument(
        "--history", type=int, metavar="N", help="show the last N git revisions of each file on the web page"
    )
    report.add_argument(
        "--update-readme",
        type=Path,
        metavar="FILE",
        help=f"replace what is between {README_BEGIN!r} and {README_END!r}",
    )
