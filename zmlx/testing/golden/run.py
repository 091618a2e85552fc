"""Recording golden values and comparing them: live against recorded, recorded against each other.

========  ================================================================================================
complete  a file has exactly the golden cases that the operations give its back end; what it lacks is pending while no
          machine of that kind is at hand, until the project's date
current   the input hash and the kernel source hash of every case are those of today
true      recorded values are within the tolerance of the float64 oracle, and the recorded error is theirs
live      the values of this machine are within the tolerance of the oracle and of every recorded file, and its
          gradients within that of the oracle
ratchet   the live error is at most twice the one recorded for the same back end (checks.py)
not void  nothing recorded, or nothing compared, is a failure
========  ================================================================================================

Metal is the reference. Until a Mac has recorded ``metal.json``, the oracle is, and the summary says so.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from zmlx import _compat
from zmlx.testing.case_names import split_case
from zmlx.testing.environment import describe_environment
from zmlx.testing.golden.about import about
from zmlx.testing.golden.case import GoldenCase
from zmlx.testing.golden.catalogue import Catalogue, measure, working_on
from zmlx.testing.golden.checks import Checker, Deadline
from zmlx.testing.golden.comparison import LIVE, CaseResult, Comparison, Progress
from zmlx.testing.golden.file import GoldenError, GoldenFile, load, save
from zmlx.testing.golden.live_gradients import check_gradients
from zmlx.testing.opinfo import OpInfo
from zmlx.testing.selection import matches

__all__ = [
    "CaseResult",
    "Comparison",
    "GoldenCase",
    "GoldenError",
    "GoldenFile",
    "Progress",
    "Recording",
    "compare_files",
    "compare_live",
    "compare_recorded",
    "load",
    "record",
    "save",
]


@dataclass(frozen=True)
class Recording:
    """What `record` wrote.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    file : GoldenFile
        Its contents.
    added, changed, removed : tuple of str
        Cases compared with the file that was there before; all are `added` if there was none, or none that
        could be read.
    """

    path: Path
    file: GoldenFile
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def summary(self) -> str:
        """One line for the terminal."""
        total = len(self.file.cases)
        return (
            f"{self.path}: {total} cases on {self.file.backend} ({self.file.environment['device']}); "
            f"{len(self.added)} added, {len(self.changed)} changed, {len(self.removed)} removed, "
            f"{total - len(self.added) - len(self.changed)} as before"
        )


def record(
    backend: str,
    path: str | Path,
    *,
    ops: Iterable[OpInfo] | None = None,
    kernel: str = "*",
    progress: Progress | None = None,
) -> Recording:
    """Compute golden cases on `backend` and write its golden file.

    Nothing is written unless all cases ran and are within the tolerance of the oracle.

    Parameters
    ----------
    backend : str
        "metal", "cuda" or "cpu"; it must be available.
    path : path-like
        The file, or a directory for ``<backend>.json`` in it.
    ops : iterable of OpInfo, optional
        Instead of the project's.
    kernel : str
        A shell pattern for operations, with or without their family. What is recorded of the others stays as it is,
        and each new case says where it comes from as far as that differs from the file's environment.
    progress : callable, optional
        Called as ``progress(done, total, name)`` before each case.

    Returns
    -------
    Recording
        The file and what changed in it.

    Raises
    ------
    GoldenError
        If there is no golden case, a case is outside its tolerance, a kernel did not launch, or the file
        cannot be written.
    zmlx._compat.BackendUnavailableError
        If the back end is not available here.
    """
    target = Path(path)
    if target.suffix != ".json":
        target = target / f"{backend}.json"
    with working_on(backend):
        every = Catalogue(ops).on(backend)
        if not every:
            raise GoldenError(f"There is no golden case for {backend}: no OpInfo names golden_samples.")
        expectations = {name: case for name, case in every.items() if matches(case.op.name, kernel)}
        if not expectations:
            known = ", ".join(dict.fromkeys(case.op.name for case in every.values()))
            raise ValueError(f"No operation with golden cases matches {kernel!r}. Known: {known}.")
        recorded = {}
        for done, expected in enumerate(expectations.values()):
            if progress is not None:
                progress(done, len(expectations), expected.name)
            measured = measure(expected, backend)
            if not measured.verdict.ok:
                raise GoldenError(f"Not recorded, for it is wrong. {measured.verdict.message}")
            others = expected.other_sources(backend, measured.case.source_hash)
            recorded[expected.name] = replace(measured.case, other_sources=others)
        golden = GoldenFile(backend, describe_environment(backend), recorded)
    old = GoldenFile(backend)
    if kernel == "*":
        with contextlib.suppress(GoldenError):  # absent or damaged: recording again is the advice for both
            old = load(target, backend=backend)
    elif target.exists():
        old = load(target, backend=backend)
        golden = _with_others(golden, old, kernel)
    before, recorded = old.cases, dict(golden.cases)
    save(golden, target)
    both = sorted(before.keys() & recorded.keys())
    return Recording(
        target,
        golden,
        added=tuple(sorted(recorded.keys() - before.keys())),
        changed=tuple(n for n in both if before[n].to_json() != recorded[n].to_json()),
        removed=tuple(sorted(before.keys() - recorded.keys())),
    )


def _with_others(new: GoldenFile, old: GoldenFile, kernel: str) -> GoldenFile:
    """The cases of `old` that `kernel` does not mean, with those of `new`."""
    others = {name: case for name, case in old.cases.items() if not matches(split_case(name).op, kernel)}
    names = {*new.environment, *old.environment}
    own = {key: new.environment.get(key, "") for key in names}
    differs = {key: value for key, value in own.items() if value != old.environment.get(key, "")}
    added = {name: replace(case, environment=differs) for name, case in new.cases.items()}
    return GoldenFile(new.backend, old.environment, {**others, **added})


def compare_recorded(
    directory: str | Path,
    *,
    ops: Iterable[OpInfo] | None = None,
    pending_until: datetime.date | None = None,
) -> Comparison:
    """Check the recorded files of a directory against the operations, the oracle and each other; nothing is run.

    Parameters
    ----------
    directory : path-like
        Where ``<backend>.json`` are.
    ops : iterable of OpInfo, optional
        Instead of the project's.
    pending_until : datetime.date, optional
        The day from which a case that no one with the hardware has recorded is a failure. For a back end that is
        available here it always is.

    Returns
    -------
    Comparison
        Its `ok` is the verdict.

    Raises
    ------
    GoldenError
        If the directory cannot be read. A damaged file in it is a finding of the comparison.
    """
    checker = Checker(Catalogue(ops), Deadline.here(pending_until))
    files = checker.load_directory(Path(directory))
    for golden in files.values():
        checker.check_file(golden)
    checker.check_pairs(files)
    return _comparison(checker, files)


def compare_live(
    directory: str | Path,
    *,
    backend: str | None = None,
    ops: Iterable[OpInfo] | None = None,
    pending_until: datetime.date | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run every golden case here; compare with the oracle and with every recorded file. The files themselves
    are checked as by `compare_recorded`.

    Parameters
    ----------
    directory : path-like
        Where ``<backend>.json`` are.
    backend : str, optional
        The back end to run on; that of `zmlx._compat.detect_backend` unless given.
    ops : iterable of OpInfo, optional
        Instead of the project's.
    pending_until : datetime.date, optional
        As for `compare_recorded`.
    progress : callable, optional
        Called as ``progress(done, total, name)`` before each case.

    Returns
    -------
    Comparison
        Its `ok` is the verdict: False also if nothing was recorded or compared.

    Raises
    ------
    GoldenError
        If the directory cannot be read.
    zmlx._compat.BackendUnavailableError
        If the back end is not available here.
    """
    name = backend or _compat.detect_backend()
    if name == "unknown":
        _compat.import_mx()  # raises, and says what to install
    checker = Checker(Catalogue(ops), Deadline.here(pending_until, name))
    files = checker.load_directory(Path(directory))
    for golden in files.values():
        checker.check_file(golden)
    checker.check_pairs(files)
    with working_on(name):
        environment = describe_environment(name)
        live = checker.check_live(name, progress)
        check_gradients(checker, name)
    for golden in files.values():
        checker.check_pair(LIVE, live, golden)
    if name in files:
        checker.check_ratchet(live, files[name], environment)
    elif not any(finding.subject == name for finding in checker.findings):
        checker.fail(
            "missing",
            f"{directory} has no {name}.json, the file of the back end that ran: record it: "
            f"python -m zmlx golden record --backend {name}",
            name,
        )
    return _comparison(checker, files, name, environment)


def _comparison(
    checker: Checker,
    files: Mapping[str, GoldenFile],
    live: str = "",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Comparison:
    return Comparison(
        live,
        files,
        environment,
        tuple(checker.results),
        tuple(checker.findings),
        tuple(checker.pending),
        tuple(checker.notes),
        about(checker.catalogue.ops),
    )


def compare_files(
    first: str | Path, second: str | Path, *, ops: Iterable[OpInfo] | None = None
) -> tuple[CaseResult, ...]:
    """Drift between two golden files: one result for each case that both have from the same inputs, the first
    file's values measured against the second's.

    Raises
    ------
    GoldenError
        If a file cannot be used, or the two have no case in common.
    """
    mine, theirs = load(Path(first)), load(Path(second))
    checker = Checker(Catalogue(ops))
    checker.check_pair(mine.backend, mine.cases, theirs)
    if not checker.results:
        raise GoldenError(f"{first} and {second} have no case in common. Record both from the same sources.")
    return tuple(checker.results)
