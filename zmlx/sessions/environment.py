"""The environment of a session: what is installed into it, and the proof that MLX computes there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nox

from zmlx.sessions import host

#: What is installed for a session, by name of the file in its environment that says so.
_RECORD = "zmlx-requirements.txt"

# Runs in the session's environment. What it prints last is the finding; a traceback is an error of its own.
PROBE = """
import sys
from zmlx import _compat
from zmlx.errors import CompilerNotFoundError
backend = sys.argv[1]
state = _compat.availability()[backend]
if state.available:
    _compat.select_backend(backend)
    mx = _compat.import_mx()
    mx.eval(mx.ones(8) + 1)
    if backend == "cpu":
        from zmlx.launch.compiler import find_compiler
        try:
            find_compiler()
        except CompilerNotFoundError as error:
            print("broken:", " ".join(str(error).split()))
            sys.exit()
    print("ready:", state.reason, "on", mx.default_device())
else:
    print("missing:", state.reason)
"""


def missing(session: nox.Session, reason: str) -> None:
    """End a session for lack of a back end: skip it, or fail where the back end is required."""
    print(reason)
    if host.is_required(session.posargs):
        session.error(reason)
    session.skip(reason)


@contextmanager
def usage_errors(session: nox.Session) -> Iterator[None]:
    """End a session for a wrong positional argument, without a traceback."""
    try:
        yield
    except host.UsageError as error:
        session.error(str(error))


def in_host_python(session: nox.Session) -> bool:
    """Whether --no-venv was given."""
    return session.venv_backend == "none"


def python(session: nox.Session, *arguments: str) -> None:
    """Run the session's Python. With --no-venv that is this one, which need not be called `python`.

    Tests start hundreds of processes that import zmlx: it is compiled once, also where PYTHONDONTWRITEBYTECODE is set.
    """
    executable = sys.executable if in_host_python(session) else "python"
    session.run(executable, *arguments, env={"PYTHONDONTWRITEBYTECODE": ""})


def install(session: nox.Session, root: Path, *requirements: str, alone: Sequence[str] = ()) -> None:
    """Install into the session's environment, `alone` without what it depends on. With --no-venv --no-install nothing
    happens.

    A reused environment that has these requirements already is left alone: pip takes seconds to find that
    there is nothing to do. A project that is installed is installed as its folder, and read from there.
    """
    record = None
    if not in_host_python(session):
        record = Path(session.virtualenv.location) / _RECORD
    project = root / "pyproject.toml"
    about = project.read_text(encoding="utf-8") if project.is_file() else ""
    wanted = "\n".join([*requirements, *alone, about])
    if record is not None and record.is_file() and record.read_text(encoding="utf-8") == wanted:
        session.log("The environment has what it needs. (To make it anew: nox --reuse-venv=never)")
        return
    try:
        session.install(*requirements)
        if alone:
            session.install("--no-deps", *alone)
    except ValueError:
        if record is not None:
            raise
        session.error("--no-venv uses this Python as it is and installs nothing: add --no-install")
    if record is not None:
        # A command, so that nox leaves it out when --no-install leaves out the line above.
        note = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2], encoding='utf-8')"
        session.run_install("python", "-c", note, str(record), wanted, log=False)


def prove(session: nox.Session, backend: str) -> None:
    """Compute something with MLX on the back end; skip, or fail, where it is missing."""
    executable = sys.executable if in_host_python(session) else "python"
    environment = {"ZMLX_TEST_BACKEND": backend}
    output = session.run(executable, "-c", PROBE, backend, env=environment, silent=True, log=False)
    if output is None:  # --install-only
        return
    verdict, _, finding = str(output).strip().splitlines()[-1].partition(": ")
    if verdict == "broken":
        session.error(finding)
    if verdict != "ready":
        missing(session, f"{backend} cannot be used: {finding}")
    session.log(f"Back end {backend}: {finding}.")


def environment_kind(backend: str) -> str | None:
    """No environment is made for a session that is about to be skipped."""
    try:
        host.find_wheel(backend, host.this_host())
    except host.MissingBackend:
        return "none"
    return None


def add_step_summary(folder: Path) -> None:
    """Show the Markdown of a folder on the page of a GitHub Actions run."""
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with open(summary, "a", encoding="utf-8") as page:
            page.writelines(report.read_text(encoding="utf-8") for report in sorted(folder.glob("*.md")))


def without(posargs: Sequence[str], *names: str) -> list[str]:
    """Positional arguments without some of them."""
    return [argument for argument in posargs if argument not in names]
