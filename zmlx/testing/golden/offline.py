"""Golden files compared where there is no NumPy, or no MLX that a table of operations asks for.

Drift between back ends is computed from the values; errors against the oracle are those that were recorded. What takes
the table of operations (its oracle, its tolerances, which cases there should be) is left out, and said to be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from zmlx._compat import BACKENDS
from zmlx.testing._limits import Tolerance
from zmlx.testing.case_names import split_case
from zmlx.testing.golden.case import STOCK_SOURCE, GoldenCase
from zmlx.testing.golden.comparison import (
    ORACLE,
    CaseResult,
    Comparison,
    Finding,
    Pending,
)
from zmlx.testing.golden.directory import load_files
from zmlx.testing.golden.distances import drift
from zmlx.testing.golden.file import GoldenFile
from zmlx.testing.project import Project

#: The ULP at the root mean square of the values or more: what cancels to nearly zero does not count thousands.
_AT_RMS = Tolerance(rtol=0.0, atol=0.0, rms_floor=1.0)


def compare_anywhere(directory: Path, project: Project) -> Comparison:
    """Compare the recorded files of a directory as thoroughly as this Python allows; nothing is run.

    With NumPy that is `zmlx.testing.golden.run.compare_recorded`, else `compare_values`; `notes` says so.

    Parameters
    ----------
    directory : pathlib.Path
        Where ``<backend>.json`` are.
    project : Project
        Whose operations they are of.

    Raises
    ------
    GoldenError
        If the directory cannot be read.
    zmlx.testing.project.ProjectError
        If its table of operations cannot be used for another reason than a missing NumPy or MLX.
    """
    try:
        from zmlx.testing.golden.run import compare_recorded

        return compare_recorded(directory, ops=project.ops, pending_until=project.pending_until)
    except ImportError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        return compare_values(directory, f"{missing} cannot be imported here")


def missing_package(error: BaseException) -> str | None:
    """ "NumPy" or "MLX" if an import failed for lack of it; None for anything else."""
    cause: BaseException | None = error
    while cause is not None:
        name = (getattr(cause, "name", None) or "").partition(".")[0]
        if name in ("numpy", "mlx"):
            return {"numpy": "NumPy", "mlx": "MLX"}[name]
        cause = cause.__cause__
    return None


def compare_values(directory: Path, reason: str) -> Comparison:
    """Compare the recorded values of every two files of a directory, without the table of operations.

    A case that one file has and another has not counts as pending. Values from other inputs or another source are a
    finding, and so is a NaN or an infinity where the other file has a number. Other differences are shown and not
    judged: each file was within the operation's tolerance when it was recorded.

    Parameters
    ----------
    directory : pathlib.Path
        Where ``<backend>.json`` are.
    reason : str
        Why the table is left out, for the note.

    Raises
    ------
    GoldenError
        If the directory cannot be read.
    """
    files, findings = load_files(directory)
    results = [_as_recorded(backend, name, case) for backend, name, case in _every_case(files)]
    ordered = [files[name] for name in BACKENDS if name in files]
    for i, reference in enumerate(ordered):
        for other in ordered[i + 1 :]:
            made, wrong = _compare_pair(other, reference)
            results += made
            findings += wrong
    note = (
        f"not checked, for {reason}: oracles, the operations' own tolerances, and whether inputs and sources are still "
        "those of today. Errors against the oracle are as recorded, and drift is in ULPs at the RMS of the values"
    )
    return Comparison("", files, {}, tuple(results), tuple(findings), _pending(files), (note,))


def _every_case(files: Mapping[str, GoldenFile]) -> list[tuple[str, str, GoldenCase]]:
    return [
        (backend, name, case)
        for backend in BACKENDS
        if backend in files
        for name, case in files[backend].cases.items()
    ]


def _as_recorded(backend: str, name: str, case: GoldenCase) -> CaseResult:
    op, dtype, _ = split_case(name)
    return CaseResult(
        subject=backend,
        against=ORACLE,
        case=name,
        op=op,
        dtype=dtype or case.dtype,
        max_ulp=case.max_ulp or 0.0,
        rms=case.rms or 0.0,
        count=len(case.values),
        identical=False,
        ok=True,
        stock=case.source_hash == STOCK_SOURCE,
    )


def _compare_pair(mine: GoldenFile, theirs: GoldenFile) -> tuple[list[CaseResult], list[Finding]]:
    results: list[CaseResult] = []
    findings: list[Finding] = []
    for name in sorted(mine.cases.keys() & theirs.cases.keys()):
        ours, other = mine.cases[name], theirs.cases[name]
        trouble = _incomparable(mine, theirs, name)
        pair = f"{mine.backend} against {theirs.backend}: {name}"
        if trouble:
            kind, what = trouble
            message = f"{pair}: {what}. Record the older of the two again: python -m zmlx golden record"
            findings.append(Finding(kind, mine.backend, name, message))
            continue
        found = drift(ours, other, _AT_RMS)
        op, dtype, _ = split_case(name)
        results.append(
            CaseResult(
                subject=mine.backend,
                against=theirs.backend,
                case=name,
                op=op,
                dtype=dtype or ours.dtype,
                max_ulp=found.max_ulp,
                rms=found.rms,
                count=len(ours.values),
                identical=found.identical,
                ok=found.max_ulp < math.inf,
                bins=found.bins,
                worst=found.worst,
                stock=ours.source_hash == STOCK_SOURCE,
            )
        )
        if found.max_ulp == math.inf:
            message = (
                f"{pair}: one of the two has a NaN or an infinity where the other has a number. Look at both: "
                f"python -m zmlx golden compare --explain {name}"
            )
            findings.append(Finding("values", mine.backend, name, message))
    return results, findings


def _incomparable(mine: GoldenFile, theirs: GoldenFile, name: str) -> tuple[str, str] | None:
    one, other = mine.cases[name], theirs.cases[name]
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        what = f"{one.dtype} of shape {one.shape} and {other.dtype} of shape {other.shape} cannot be compared"
        return "shape", what
    if one.input_hash != other.input_hash:
        return "stale input", "the two were recorded from different inputs"
    if not (_knows(one, other, theirs.backend) or _knows(other, one, mine.backend)):
        return "stale source", "the two were recorded from different sources of the kernel"
    return None


def _knows(case: GoldenCase, other: GoldenCase, backend: str) -> bool:
    """Whether a case was recorded on a day on which the other's sources were those of its back end."""
    return case.other_sources.get(backend, case.source_hash) == other.source_hash


def _pending(files: Mapping[str, GoldenFile]) -> tuple[Pending, ...]:
    every = {name for file in files.values() for name in file.cases}
    lacking = ((name, tuple(sorted(every - files[name].cases.keys()))) for name in BACKENDS if name in files)
    return tuple(Pending(name, cases) for name, cases in lacking if cases)
