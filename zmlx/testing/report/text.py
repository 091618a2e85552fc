"""The report as text for a terminal and as Markdown for a page."""

from __future__ import annotations

from collections.abc import Sequence

from zmlx._text import count
from zmlx.testing.golden.against import VERDICTS, tally
from zmlx.testing.golden.explain import share_text
from zmlx.testing.golden.grouping import finding_lines
from zmlx.testing.report.evidence import evidence_tables
from zmlx.testing.report.model import NONE, Cell, Report, Row, figure
from zmlx.testing.report.tables import (
    COLUMNS,
    Table,
    aligned_lines,
    markdown_lines,
    markdown_text,
    plain_table,
)

_FACTS = ("device", "mlx", "os", "python", "tf32", "date")


def _ulps(cell: Cell | None) -> str:
    return NONE if cell is None else figure(cell.max_ulp) + ("" if cell.ok else " !")


def _share(cell: Cell | None) -> str:
    return NONE if cell is None or cell.share is None else share_text(cell.share)


def _both(cell: Cell | None) -> str:
    if cell is None:
        return NONE
    share = "" if cell.share is None else f" ({share_text(cell.share)})"
    return f"{figure(cell.max_ulp)}{share}" + ("" if cell.ok else " over tolerance")


def _names(report: Report) -> list[str]:
    return [column.name for column in report.columns if column.is_recorded]


def _terminal_tables(report: Report) -> list[Table]:
    names = _names(report)
    rows = report.kernels
    tables = []
    head: tuple[str, ...]
    if rows:
        header = ("operation", *names)
        ulps = tuple((row.op, *(_ulps(row.errors.get(name)) for name in names)) for row in rows)
        tables.append(plain_table("Error against the oracle (max ULP of the output dtype)", header, ulps))
        shares = tuple((row.op, *(_share(row.errors.get(name)) for name in names)) for row in rows)
        if any(cell != NONE for row in shares for cell in row[1:]):
            tables.append(plain_table("How much of the tolerance that is", header, shares))
    gradients = tuple(
        (f"{row.op} {part.removeprefix('gradient of ')}", dtype, _ulps(cell), _share(cell))
        for row in rows
        for (part, dtype), cell in row.gradients.items()
    )
    if gradients:
        head = ("operation and argument", "dtype", "max ULP", "share")
        tables.append(
            plain_table(f"Gradients on {report.live} (ULP at the RMS of the gradient)", head, gradients)
        )
    if report.drift:
        head = ("back ends", "cases", "identical", "max ULP")
        pairs = tuple(
            (f"{one} - {other}", str(cell.cases), str(cell.identical), _ulps(cell))
            for (one, other), cell in report.drift.items()
        )
        tables.append(plain_table("Drift between back ends", head, pairs))
        kernels = tuple(
            (row.op, *(_ulps(row.drift.get(pair)) for pair in report.drift)) for row in rows if row.drift
        )
        if kernels:
            head = ("operation", *(f"{one}-{other}" for one, other in report.drift))
            tables.append(plain_table("Drift by operation (max ULP)", head, kernels))
    return tables


def stock_line(report: Report) -> str:
    """One sentence on MLX's own operations, which are shown apart: they are nobody's kernels here."""
    if not report.stock:
        return ""
    every = [(cell.max_ulp, row.op, name) for row in report.stock for name, cell in row.errors.items()]
    largest = ""
    if every:
        ulps, op, name = max(every)
        largest = f", at most {figure(ulps)} ULP off ({op} on {name})"
    return f"MLX's own operations, for comparison: {count(len(report.stock), 'operation')}{largest}"


def render_terminal(report: Report) -> str:
    """The tables as aligned text, with the verdict last, where a terminal leaves the eye."""
    parts = [report.reference_note, *(f"note: {note}" for note in report.notes), ""]
    for table in _terminal_tables(report):
        parts += [table.title, *aligned_lines(table, COLUMNS), ""]
    if report.stock:
        parts += [stock_line(report), ""]
    for shown in evidence_tables(report.evidence):
        parts += [
            f"{shown.narrow.title} ({shown.about})",
            *(aligned_lines(shown.narrow, COLUMNS) if shown.narrow.rows else []),
            *(*shown.folded, *shown.lines),
            "",
        ]
    for column in report.columns:
        facts = column.environment
        device, mlx, system, date = (facts.get(key, "?") for key in ("device", "mlx", "os", "date"))
        if not column.is_recorded:
            parts.append(f"{column.name}: {column.note}")
            continue
        now = " (computed just now)" if column.name == report.live else ""
        parts.append(
            f"{column.name}{now}: {device}, MLX {mlx}, {system}, {date}, {count(column.cases, 'case')}"
        )
    parts += [f"pending: {pending.message()}" for pending in report.pending]
    parts += finding_lines(report.groups)
    parts.append(("PASS: " if report.ok else "FAIL: ") + report.headline)
    return "\n".join(parts) + "\n"


def _kernel_rows(report: Report, rows: Sequence[Row]) -> list[tuple[str, ...]]:
    pairs = list(report.drift)
    header = ("operation", *(c.name for c in report.columns), *(f"{one} - {other}" for one, other in pairs))
    lines = [
        (
            row.op,
            *(c.lacks or _both(row.errors.get(c.name)) for c in report.columns),
            *(_both(row.drift.get(pair)) for pair in pairs),
        )
        for row in rows
    ]
    return [header, *lines]


def _provenance(report: Report) -> list[tuple[str, ...]]:
    known = [column for column in report.columns if column.is_recorded]
    rows = [(c.name, str(c.cases), *(c.environment.get(fact, "?") for fact in _FACTS)) for c in known]
    return [("values", "cases", *_FACTS), *rows]


_LEGEND = (
    "Largest error in ULPs of the output dtype, over all dtypes, and in brackets how much of its tolerance the worst "
    "element takes. The last columns are differences between back ends."
)


def _markdown_tables(report: Report) -> list[str]:
    parts = []
    if report.kernels:
        parts += ["### Error against the oracle, and drift between back ends", ""]
        parts += [_LEGEND, "", *markdown_lines(_kernel_rows(report, report.kernels)), ""]
    parts += [f"{column.name}: {column.note}" for column in report.absent]
    if report.absent:
        parts.append("")
    return parts


def render_readme(report: Report) -> str:
    """The part of the Markdown that a README has room for."""
    parts = [f"_{report.reference_note}_", "", *_markdown_tables(report)]
    parts += ["### Where the values come from", "", *markdown_lines(_provenance(report))]
    return "\n".join(parts)


def render_markdown(report: Report) -> str:
    """GitHub Markdown, for ``GITHUB_STEP_SUMMARY``."""
    mark = "✅" if report.ok else "❌"
    parts = [f"## {mark} zmlx: {report.headline}", "", f"_{report.reference_note}_", ""]
    parts += [f"_{markdown_text(note)}_\n" for note in report.notes]
    if report.findings:
        parts += ["### Findings", ""]
        for group in report.groups:
            if group.op:
                parts.append(f"- **{markdown_text(group.headline)}**")
                parts += [f"  - {markdown_text(line)}" for line in (*group.lines(), *group.advice())]
            else:
                parts += [f"- **{f.kind}** {markdown_text(f.message)}" for f in group.findings]
        parts.append("")
    parts += _markdown_tables(report)
    if report.changes:
        parts += [f"### Against {markdown_text(report.revision)} (cases)", ""]
        counted = ((op, *map(str, row.values())) for op, row in tally(report.changes).items())
        parts += [*markdown_lines([("operation", *VERDICTS), *counted]), ""]
    if report.stock:
        parts += [f"<details><summary>{stock_line(report)}</summary>", ""]
        parts += [*markdown_lines(_kernel_rows(report, report.stock)), "", "</details>", ""]
    for shown in evidence_tables(report.evidence):
        parts += [f"### {markdown_text(shown.table.title)}", "", f"_{markdown_text(shown.about)}_", ""]
        parts += [*markdown_lines([shown.table.header, *shown.table.rows]), ""]
        parts += [f"{markdown_text(line)}\n" for line in shown.lines]
    parts += [f"_pending: {markdown_text(pending.message())}_\n" for pending in report.pending]
    if any(column.is_recorded for column in report.columns):
        parts += ["### Where the values come from", "", *markdown_lines(_provenance(report)), ""]
    return "\n".join(parts)
