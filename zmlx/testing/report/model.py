"""The agreement report as plain data: how far each kernel is from the truth, and the back ends from each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from zmlx.testing.golden.comparison import LIVE, ORACLE, CaseResult, Comparison, Finding

NONE = "-"
DTYPE_ORDER = ("float64", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Cell:
    """The worst of some results.

    Attributes
    ----------
    max_ulp, rms : float
        The largest of each, in ULPs of the output dtype.
    worst : str
        The case of the largest `max_ulp`.
    cases, identical : int
        How many, and how many of them bit for bit the same.
    ok : bool
        Whether all are within their tolerance.
    """

    max_ulp: float
    rms: float
    worst: str
    cases: int
    identical: int
    ok: bool


@dataclass(frozen=True)
class Provenance:
    """Where one set of values comes from."""

    label: str
    environment: Mapping[str, str]
    cases: int


@dataclass(frozen=True)
class Report:
    """Everything that a report shows.

    Attributes
    ----------
    ok : bool
        The comparison's verdict.
    reference_note : str
        What everything is measured by.
    subjects : tuple of str
        Labels of the sets of values: "live cpu", "metal", "cuda", "cpu" (recorded), in that order.
    dtypes, ops : tuple of str
        Rows and column groups of the error table.
    errors : mapping of (op, dtype, subject) to Cell
        Error against the oracle.
    drift : mapping of (subject, against) to Cell
        Difference between two sets of values; each pair once.
    provenance : tuple of Provenance
        One for each subject.
    results : tuple of CaseResult
        All single comparisons.
    findings : tuple of Finding
        What is wrong.
    failures, remarks : tuple of str
        The same in lines, one trouble of an operation once; and what is no failure: notes, and what is pending.
    """

    ok: bool
    reference_note: str
    subjects: tuple[str, ...]
    dtypes: tuple[str, ...]
    ops: tuple[str, ...]
    errors: Mapping[tuple[str, str, str], Cell]
    drift: Mapping[tuple[str, str], Cell]
    provenance: tuple[Provenance, ...]
    results: tuple[CaseResult, ...]
    findings: tuple[Finding, ...]
    failures: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def drift_between(self, one: str, other: str) -> Cell | None:
        """The drift of a pair in either order; None if the two have not been compared."""
        return self.drift.get((one, other)) or self.drift.get((other, one))

    @property
    def headline(self) -> str:
        """The verdict in a sentence."""
        if not self.ok:
            count = len(self.findings)
            return f"{count} finding{'s' if count != 1 else ''}" if count else "Nothing was compared"
        recorded = [s for s in self.subjects if not s.startswith(LIVE)]
        cases = len({result.case for result in self.results})
        if len(recorded) > 1:
            return f"{cases} cases agree on {', '.join(recorded[:-1])} and {recorded[-1]}"
        return f"{cases} cases on {recorded[0]} are within tolerance of the oracle"


def _cell(results: Iterable[CaseResult]) -> Cell:
    group = list(results)
    worst = max(group, key=lambda r: r.max_ulp)
    return Cell(
        max_ulp=worst.max_ulp,
        rms=max(r.rms for r in group),
        worst=worst.case,
        cases=len(group),
        identical=sum(r.identical for r in group),
        ok=all(r.ok for r in group),
    )


def build_report(comparison: Comparison) -> Report:
    """Arrange a comparison for reading.

    Parameters
    ----------
    comparison : Comparison
        From `zmlx.testing.golden.run.compare_live` or `compare_recorded`.
    """

    def label(subject: str) -> str:
        return comparison.label(LIVE) if subject == LIVE else subject

    errors: dict[tuple[str, str, str], list[CaseResult]] = {}
    drift: dict[tuple[str, str], list[CaseResult]] = {}
    for result in comparison.results:
        if result.against == ORACLE:
            errors.setdefault((result.op, result.dtype, label(result.subject)), []).append(result)
        else:
            drift.setdefault((label(result.subject), result.against), []).append(result)
    recorded = [name for name in ("metal", "cuda", "cpu") if name in comparison.files]
    live = [label(LIVE)] if comparison.live_backend else []
    seen = {dtype for _, dtype, _ in errors}
    provenance = [
        Provenance(name, comparison.files[name].environment, len(comparison.files[name].cases))
        for name in recorded
    ]
    for name in live:
        cases = sum(r.subject == LIVE and r.against == ORACLE for r in comparison.results)
        provenance.insert(0, Provenance(name, comparison.environment, cases))
    return Report(
        ok=comparison.ok,
        reference_note=comparison.reference_note(),
        subjects=(*live, *recorded),
        dtypes=tuple(sorted(seen, key=lambda d: (DTYPE_ORDER.index(d) if d in DTYPE_ORDER else 9, d))),
        ops=tuple(dict.fromkeys(op for op, _, _ in errors)),
        errors={key: _cell(group) for key, group in errors.items()},
        drift={key: _cell(group) for key, group in drift.items()},
        provenance=tuple(provenance),
        results=comparison.results,
        findings=comparison.findings,
        failures=tuple(comparison.failures()),
        remarks=tuple(comparison.remarks()),
    )


def figure(value: float) -> str:
    """A number of ULPs in at most six characters."""
    if math.isnan(value) or math.isinf(value):
        return "inf"
    if value == 0:
        return "0"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}" if value < 1e5 else f"{value:.0e}"


def kernels_only(report: Report) -> Report:
    """The report without the rows of stock MLX operations, for a page that has no room for them."""
    return replace(report, ops=tuple(op for op in report.ops if not op.startswith("stock.")))
