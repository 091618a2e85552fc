"""The agreement report as plain data: how far each kernel is from the truth, and the back ends from each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from zmlx._compat import BACKENDS
from zmlx._text import count
from zmlx.testing.golden.against import Change
from zmlx.testing.golden.comparison import LIVE, ORACLE, About, CaseResult, Comparison, Finding, Pending
from zmlx.testing.golden.explain import share_text
from zmlx.testing.golden.grouping import Group, group_findings
from zmlx.testing.golden.revisions import Point
from zmlx.testing.report.evidence import Evidence

NONE = "-"
DTYPE_ORDER = ("float64", "float32", "float16", "bfloat16")

Pair = tuple[str, str]


@dataclass(frozen=True)
class Cell:
    """Some results together.

    Attributes
    ----------
    max_ulp, rms : float
        The largest of each, in ULPs of the output dtype.
    worst : CaseResult
        That of the largest `max_ulp`.
    cases, identical : int
        How many, and how many of them bit for bit the same.
    ok : bool
        Whether all are within their tolerance.
    share : float or None
        The largest part of a tolerance that is used; None where only figures are known.
    bins : tuple of int
        Elements by distance (`zmlx.testing.golden.comparison.BINS`); empty where only figures are known.
    """

    max_ulp: float
    rms: float
    worst: CaseResult
    cases: int
    identical: int
    ok: bool
    share: float | None
    bins: tuple[int, ...]


#: Why a column has no values.
NOT_RECORDED = "not recorded"
DAMAGED = "damaged"


@dataclass(frozen=True)
class Column:
    """A set of values: "live cpu", or a back end for its recorded file.

    Attributes
    ----------
    name : str
        How it is called.
    cases : int
        How many cases it has; 0 for a back end that no one has recorded.
    environment : mapping
        Where it comes from.
    note : str
        What a reader should know of it: that it was computed just now, or how to record it.
    lacks : str
        Why there are no values, for a cell of a table: `NOT_RECORDED` or `DAMAGED`. Empty if there are.
    """

    name: str
    cases: int
    environment: Mapping[str, str]
    note: str
    lacks: str = ""

    @property
    def is_recorded(self) -> bool:
        """Whether there are values."""
        return not self.lacks


@dataclass(frozen=True)
class Row:
    """One operation.

    Attributes
    ----------
    op : str
        Its name.
    stock : bool
        Whether it is one of MLX's own.
    about : About or None
        None where the table of operations could not be loaded.
    dtypes : tuple of str
        In order.
    errors : mapping of column to Cell
        Error against the oracle, of all dtypes.
    by_dtype : mapping of (dtype, column) to Cell
        The same by dtype.
    drift : mapping of (column, column) to Cell
        Difference between two sets of values.
    gradients : mapping of (part, dtype) to Cell
        Error of the gradients of this machine.
    history : tuple of Point
        Those that have an error of this operation.
    """

    op: str
    stock: bool
    about: About | None
    dtypes: tuple[str, ...]
    errors: Mapping[str, Cell]
    by_dtype: Mapping[Pair, Cell]
    drift: Mapping[Pair, Cell]
    gradients: Mapping[Pair, Cell]
    history: tuple[Point, ...] = ()

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All that is judged."""
        return (*self.errors.values(), *self.drift.values(), *self.gradients.values())

    @property
    def ok(self) -> bool:
        """Whether everything is within its tolerance."""
        return all(cell.ok for cell in self.cells)

    @property
    def share(self) -> float:
        """The largest part of a tolerance that is used."""
        return max((cell.share for cell in self.cells if cell.share is not None), default=0.0)


@dataclass(frozen=True)
class Report:
    """Everything that a report shows.

    Attributes
    ----------
    ok : bool
        The comparison's verdict.
    reference_note : str
        What everything is measured by.
    notes : tuple of str
        What could not be checked.
    columns : tuple of Column
        This machine's values if there are any, then every back end, recorded or not.
    kernels, stock : tuple of Row
        Kernels, those first that have something wrong, and MLX's own operations; else in the order of the table.
    drift : mapping of (column, column) to Cell
        Over all operations; each pair once.
    groups : tuple of Group
        What is wrong, by operation.
    judged : bool
        Whether results were held to tolerances.
    evidence : Evidence
        What `verify` and `leaks` measured.
    """

    ok: bool
    reference_note: str
    notes: tuple[str, ...]
    columns: tuple[Column, ...]
    kernels: tuple[Row, ...]
    stock: tuple[Row, ...]
    drift: Mapping[Pair, Cell]
    groups: tuple[Group, ...]
    findings: tuple[Finding, ...]
    pending: tuple[Pending, ...]
    results: tuple[CaseResult, ...]
    history: tuple[Point, ...] = ()
    changes: tuple[Change, ...] = ()
    revision: str = ""
    live: str = ""
    judged: bool = True
    rows: Mapping[str, Row] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)

    @property
    def recorded(self) -> tuple[Column, ...]:
        """The columns with values that are recorded."""
        return tuple(c for c in self.columns if c.is_recorded and c.name != self.live)

    @property
    def absent(self) -> tuple[Column, ...]:
        """The back ends that have no values: no one has recorded them, or their file is damaged."""
        return tuple(c for c in self.columns if not c.is_recorded)

    @property
    def headline(self) -> str:
        """The verdict in a sentence."""
        if not self.ok:
            return _verdict_of_failure(self)
        rows = self.kernels or self.stock
        noun = "kernel" if self.kernels else "operation"
        names = [c.name for c in self.recorded] or list(rows[0].errors) or [self.live]
        if not self.judged:
            files = f"{', '.join(names)}: the files are whole" + (
                " and fit together" if len(names) > 1 else ""
            )
            return f"{count(len(rows), noun)} on {files}; tolerances were not judged here"
        shares = [share for row in rows for share in [row.share] if share]
        most = max(shares, default=0.0)
        how = "less than 1 %" if most < 0.01 else f"at most {share_text(most)}"
        used = f", using {how} of a tolerance" if most else ""
        verb = "agrees" if len(rows) == 1 else "agree"
        if len(names) > 1:
            return f"{count(len(rows), noun)} {verb} on {', '.join(names[:-1])} and {names[-1]}{used}"
        verb = "is" if len(rows) == 1 else "are"
        return f"{count(len(rows), noun)} on {names[0]} {verb} within tolerance of the oracle{used}"

    def drift_between(self, one: str, other: str) -> Cell | None:
        """The drift of a pair in either order; None if the two have not been compared."""
        return self.drift.get((one, other)) or self.drift.get((other, one))


def _verdict_of_failure(report: Report) -> str:
    if not report.findings:
        return "Nothing was compared"
    said = count(len(report.findings), "finding")
    ops = [group for group in report.groups if group.op]
    if not ops:
        return said
    where = f" ({ops[0].file})" if ops[0].file else ""
    if len(ops) == 1:
        return f"{said} on {ops[0].op}{where}"
    return f"{said} on {count(len(ops), 'operation')}, {ops[0].op}{where} the worst"


def _cell(group: Sequence[CaseResult]) -> Cell:
    worst = max(group, key=lambda r: (not r.ok, r.max_ulp))
    shares = [r.share for r in group if r.share is not None]
    binned = [r.bins for r in group if r.bins]
    return Cell(
        max_ulp=max(r.max_ulp for r in group),
        rms=max(r.rms for r in group),
        worst=worst,
        cases=len(group),
        identical=sum(r.identical for r in group),
        ok=all(r.ok for r in group),
        share=max(shares, default=None),
        bins=tuple(sum(column) for column in zip(*binned, strict=True)),
    )


def _cells(results: Iterable[CaseResult], key: Callable[[CaseResult], Pair]) -> dict[Pair, Cell]:
    groups: dict[Pair, list[CaseResult]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return {name: _cell(group) for name, group in groups.items()}


def _dtype_key(dtype: str) -> tuple[int, str]:
    return (DTYPE_ORDER.index(dtype) if dtype in DTYPE_ORDER else len(DTYPE_ORDER), dtype)


def build_report(
    comparison: Comparison,
    *,
    history: tuple[Point, ...] = (),
    changes: tuple[Change, ...] = (),
    revision: str = "",
    evidence: Evidence | None = None,
) -> Report:
    """Arrange a comparison for reading.

    Parameters
    ----------
    comparison : Comparison
        From `zmlx.testing.golden.run` or `zmlx.testing.golden.offline`.
    history : tuple of Point, optional
        From `zmlx.testing.golden.revisions.history`.
    changes : tuple of Change, optional
        From `zmlx.testing.golden.against.compare_with`, and `revision`, with what.
    evidence : Evidence, optional
        From `zmlx.testing.report.evidence.load_evidence`.
    """
    live = comparison.label(LIVE) if comparison.live_backend else ""

    def label(subject: str) -> str:
        return live if subject == LIVE else subject

    def pair(result: CaseResult) -> Pair:
        return label(result.subject), result.against

    by_op: dict[str, list[CaseResult]] = {}
    for result in comparison.results:
        by_op.setdefault(result.op, []).append(result)
    rows = {}
    for op, results in by_op.items():
        truths = [r for r in results if r.against == ORACLE and not r.part]
        errors = _cells(truths, lambda r: (label(r.subject), ""))
        rows[op] = Row(
            op=op,
            stock=any(r.stock for r in results),
            about=comparison.about.get(op),
            dtypes=tuple(sorted({r.dtype for r in results}, key=_dtype_key)),
            errors={name: cell for (name, _), cell in errors.items()},
            by_dtype=_cells(truths, lambda r: (r.dtype, label(r.subject))),
            drift=_cells((r for r in results if r.against != ORACLE), pair),
            gradients=_cells((r for r in results if r.part), lambda r: (r.part, r.dtype)),
            history=tuple(point for point in history if op in point.errors),
        )
    return Report(
        ok=comparison.ok,
        reference_note=comparison.reference_note(),
        notes=comparison.notes,
        columns=_columns(comparison, live),
        kernels=tuple(sorted((row for row in rows.values() if not row.stock), key=lambda row: row.ok)),
        stock=tuple(row for row in rows.values() if row.stock),
        drift=_cells((r for r in comparison.results if r.against != ORACLE), pair),
        groups=group_findings(comparison),
        findings=comparison.findings,
        pending=comparison.pending,
        results=comparison.results,
        history=history,
        changes=changes,
        revision=revision,
        live=live,
        judged=comparison.judged,
        rows=rows,
        evidence=evidence or Evidence(),
    )


def _columns(comparison: Comparison, live: str) -> tuple[Column, ...]:
    columns = []
    if live:
        cases = sum(r.subject == LIVE and r.against == ORACLE and not r.part for r in comparison.results)
        note = f"computed just now, on this machine; {comparison.live_backend} is what its file has recorded"
        columns.append(Column(live, cases, comparison.environment, note))
    for name in BACKENDS:
        file = comparison.files.get(name)
        if file is not None:
            columns.append(Column(name, len(file.cases), file.environment, f"recorded in {name}.json"))
        elif name in comparison.damaged:
            columns.append(Column(name, 0, {}, f"{name}.json is damaged; see the findings", DAMAGED))
        else:
            how = f"{NOT_RECORDED}; on such a machine: python -m zmlx golden record --backend {name}"
            columns.append(Column(name, 0, {}, how, NOT_RECORDED))
    return tuple(columns)


def figure(value: float) -> str:
    """A number of ULPs in at most six characters."""
    if math.isnan(value) or math.isinf(value):
        return "inf"
    if value == 0:
        return "0"
    if value < 0.005:
        return "<0.01"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}" if value < 1e5 else f"{value:.0e}"
