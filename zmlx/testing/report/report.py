"""The agreement report: how far each kernel is from the truth, and the back ends from each other.

`build_report` makes a `Report`, plain data, from a `Comparison`; `render_terminal`, `render_markdown` (for a
CI step summary) and `zmlx.testing.report.html.render_html` show it; `write_report` picks one by the suffix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
    )


def figure(value: float) -> str:
    """A number of ULPs in at most six characters."""
    if math.isnan(value) or math.isinf(value):
        return "inf"
    if value == 0:
        return "0"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}" if value < 1e5 else f"{value:.0e}"


@dataclass(frozen=True)
class Table:
    """Rows of text; `groups` names what stretches of columns have in common, "" for a column without."""

    title: str
    groups: tuple[str, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def _error_table(report: Report) -> Table:
    columns = [
        (dtype, subject)
        for dtype in report.dtypes
        for subject in report.subjects
        if any((op, dtype, subject) in report.errors for op in report.ops)
    ]

    def text(cell: Cell | None) -> str:
        return NONE if cell is None else figure(cell.max_ulp) + ("" if cell.ok else " !")

    return Table(
        "Error against the oracle (max ULP of the output dtype)",
        ("", *(dtype for dtype, _ in columns)),
        ("operation", *(subject for _, subject in columns)),
        tuple((op, *(text(report.errors.get((op, *column))) for column in columns)) for op in report.ops),
    )


def _drift_table(report: Report) -> Table:
    def text(cell: Cell | None) -> str:
        return NONE if cell is None else f"{figure(cell.max_ulp)} ({cell.identical}/{cell.cases} identical)"

    return Table(
        "Drift between back ends (max ULP)",
        ("",) * (len(report.subjects) + 1),
        ("", *report.subjects),
        tuple(
            (one, *(text(report.drift_between(one, other)) for other in report.subjects))
            for one in report.subjects
        ),
    )


def _tables(report: Report) -> list[Table]:
    errors = [_error_table(report)] if report.errors else []
    return errors + ([_drift_table(report)] if report.drift else [])


def render_terminal(report: Report) -> str:
    """The tables as aligned text, with the verdict last, where a terminal leaves the eye."""
    parts = [report.reference_note, ""]
    for table in _tables(report):
        parts += [table.title, *aligned_lines(table), ""]
    for source in report.provenance:
        device, mlx, system, date = (source.environment.get(k, "?") for k in ("device", "mlx", "os", "date"))
        parts.append(f"{source.label}: {device}, MLX {mlx}, {system}, {date}, {source.cases} cases")
    parts += [f"FAIL {finding.kind}: {finding.message}" for finding in report.findings]
    parts.append(("PASS: " if report.ok else "FAIL: ") + report.headline)
    return "\n".join(parts) + "\n"


def aligned_lines(table: Table) -> list[str]:
    """The table for a terminal: its groups (if it has any), header and rows, the first column left-justified."""
    # The group stands above its first column only.
    groups = tuple("" if g == table.groups[i - 1] else g for i, g in enumerate(table.groups))
    rows = [groups, table.header, *table.rows] if any(groups) else [table.header, *table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.header))]
    lines = []
    for row in rows:
        first, *others = row
        padded = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *padded]).rstrip())
    return lines


def kernels_only(report: Report) -> Report:
    """The report without the rows of stock MLX operations, for a page that has no room for them."""
    return replace(report, ops=tuple(op for op in report.ops if not op.startswith("stock.")))


def render_markdown(report: Report) -> str:
    """GitHub Markdown, for ``GITHUB_STEP_SUMMARY``."""
    mark = "✅" if report.ok else "❌"
    parts = [f"## {mark} zmlx: {report.headline}", "", f"_{report.reference_note}_", ""]
    if report.findings:
        parts += ["### Findings", ""]
        parts += [f"- **{f.kind}** {markdown_text(f.message)}" for f in report.findings]
        parts.append("")
    for table in _tables(report):
        header = tuple(" ".join(filter(None, pair)) for pair in zip(table.groups, table.header, strict=True))
        parts += [f"### {table.title}", "", *markdown_lines([header, *table.rows]), ""]
    facts = ("device", "mlx", "os", "python", "tf32", "date")
    rows = [(p.label, str(p.cases), *(p.environment.get(f, "?") for f in facts)) for p in report.provenance]
    if rows:
        table_rows = [("values", "cases", *facts), *rows]
        parts += ["### Where the values come from", "", *markdown_lines(table_rows), ""]
    return "\n".join(parts)


def markdown_text(text: str) -> str:
    """`text` with what Markdown would read as its own escaped."""
    for character in "\\`*_[]<>|":
        text = text.replace(character, "\\" + character)
    return text.replace("\n", "<br>")


def markdown_lines(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """A Markdown table, of which the first row is the header."""
    lines = ["| " + " | ".join(markdown_text(cell) for cell in row) + " |" for row in rows]
    rule = "|---|" + "---:|" * (len(rows[0]) - 1)
    return [lines[0], rule, *lines[1:]]


def _render_html(report: Report) -> str:
    from zmlx.testing.report.html import render_html

    return render_html(report)


RENDERERS: dict[str, Callable[[Report], str]] = {
    ".html": _render_html,
    ".md": render_markdown,
    ".txt": render_terminal,
}


def write_report(report: Report, path: str | Path) -> Path:
    """Write the report as HTML, Markdown or text, by the suffix of `path`; missing directories are made.

    Raises
    ------
    ValueError
        For another suffix; the message lists those that are known.
    """
    target = Path(path)
    if target.suffix not in RENDERERS:
        raise ValueError(f"Expected a report file ending in {', '.join(RENDERERS)}, got {target.name!r}.")
    text = RENDERERS[target.suffix](report)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target
