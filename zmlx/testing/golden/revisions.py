"""Golden files as they were in other git revisions. Needs git, neither MLX nor NumPy."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zmlx._compat import BACKENDS
from zmlx.testing.case_names import split_case
from zmlx.testing.golden.file import GoldenError, GoldenFile, check_directory, load

#: How far back a history may go.
MOST_REVISIONS = 50


class RevisionError(ValueError):
    """A revision cannot be read: no repository, no such revision, or no golden file in it."""


class GitMissingError(RuntimeError):
    """There is no git to ask."""


def _git(directory: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    check_directory(directory)
    try:
        return subprocess.run(["git", "-C", str(directory), *arguments], capture_output=True, check=False)
    except FileNotFoundError as error:
        raise GitMissingError(
            "There is no git on the PATH, by which golden files of other revisions are read. Install it "
            "(apt install git, xcode-select --install), or leave out what asks for another revision."
        ) from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[0] if lines else f"exit status {done.returncode}"


def resolve_revision(directory: Path, revision: str) -> str:
    """The commit that `revision` names.

    Raises
    ------
    RevisionError
        `directory` is in no repository, or git knows no such revision.
    GitMissingError
        There is no git.
    """
    inside = _git(directory, "rev-parse", "--is-inside-work-tree")
    if inside.returncode:
        raise RevisionError(
            f"{directory} is in no git repository that can be read ({_said(inside)}); other revisions are taken "
            "from git."
        )
    found = _git(directory, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found.returncode:
        raise RevisionError(
            f"git knows no revision {revision!r} in {directory}. Name a commit, branch or tag; a shallow clone has no "
            "older ones (git fetch --unshallow; with actions/checkout, fetch-depth: 0)."
        )
    return found.stdout.decode().strip()


def files_at(directory: Path, revision: str) -> dict[str, GoldenFile]:
    """The golden files of a directory as they were in a revision, by back end.

    Parameters
    ----------
    directory : pathlib.Path
        Where ``<backend>.json`` are now.
    revision : str
        What git takes: a commit, branch or tag.

    Raises
    ------
    RevisionError
        As `resolve_revision`, and if the revision has no golden file there.
    GoldenError
        A file of that revision cannot be used.
    GitMissingError
        There is no git.
    """
    commit = resolve_revision(directory, revision)
    found: dict[str, GoldenFile | None] = {
        backend: _file_at(directory, commit, backend, revision) for backend in BACKENDS
    }
    files = {backend: file for backend, file in found.items() if file is not None}
    if not files:
        names = ", ".join(f"{name}.json" for name in BACKENDS)
        raise RevisionError(
            f"Revision {revision} has none of {names} in {directory}. `git log --oneline -- {directory}` lists the "
            "revisions that changed them."
        )
    return files


def _file_at(directory: Path, commit: str, backend: str, revision: str) -> GoldenFile | None:
    # First whether it is there: `git show` fails in the same way for a missing file and for anything else.
    listed = _git(directory, "ls-tree", "--name-only", commit, f"./{backend}.json")
    if listed.returncode:
        raise RevisionError(f"git cannot list {directory} in {revision}: {_said(listed)}")
    if not listed.stdout.strip():
        return None
    shown = _git(directory, "show", f"{commit}:./{backend}.json")
    if shown.returncode:
        raise RevisionError(f"git cannot show {backend}.json of {revision}: {_said(shown)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{backend}.json"
        path.write_bytes(shown.stdout)
        try:
            return load(path)
        except GoldenError as error:
            text = str(error).replace(str(path), f"{backend}.json of revision {revision}")
            raise GoldenError(text) from error


@dataclass(frozen=True)
class Point:
    """A golden file in one revision.

    Attributes
    ----------
    backend, revision, date : str
        Whose file, the commit's short name and its day.
    errors : mapping of str to float
        By operation, the largest recorded error in ULPs.
    trouble : str
        Why the file could not be read there; then there are no errors.
    """

    backend: str
    revision: str
    date: str
    errors: Mapping[str, float] = field(default_factory=dict)
    trouble: str = ""


def worst_errors(file: GoldenFile) -> dict[str, float]:
    """By operation, the largest recorded error in ULPs."""
    worst: dict[str, float] = {}
    for name, case in file.cases.items():
        op = split_case(name).op
        if case.max_ulp is not None:
            worst[op] = max(worst.get(op, 0.0), case.max_ulp)
    return worst


def history(directory: Path, most: int) -> tuple[Point, ...]:
    """The revisions that changed the golden files of a directory, the oldest first.

    Parameters
    ----------
    directory : pathlib.Path
        Where ``<backend>.json`` are.
    most : int
        How many revisions of each file, at most `MOST_REVISIONS`.

    Raises
    ------
    RevisionError
        `most` is out of bounds, or `directory` is in no repository with a commit.
    GitMissingError
        There is no git.
    """
    if not 0 < most <= MOST_REVISIONS:
        raise RevisionError(f"A history has 1 to {MOST_REVISIONS} revisions; got {most}.")
    resolve_revision(directory, "HEAD")
    points = []
    for backend in BACKENDS:
        log = _git(directory, "log", f"-n{most}", "--format=%h %cs", "--", f"./{backend}.json")
        if log.returncode:
            raise RevisionError(f"git cannot list the revisions of {directory}: {_said(log)}")
        for line in reversed(log.stdout.decode().split("\n")):
            revision, _, date = line.partition(" ")
            if revision:
                points.append(_point(directory, backend, revision, date))
    return tuple(points)


def _point(directory: Path, backend: str, revision: str, date: str) -> Point:
    try:
        file = _file_at(directory, revision, backend, revision)
    except GoldenError as error:
        return Point(backend, revision, date, trouble=str(error))
    if file is None:
        return Point(backend, revision, date, trouble=f"{backend}.json was removed")
    return Point(backend, revision, date, worst_errors(file))
