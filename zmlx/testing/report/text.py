"""The report as text for a terminal and as Markdown for a page."""

from __future__ import annotations

from zmlx.testing.report.model import NONE, Cell, Report, figure
from zmlx.testing.report.tables import Table, aligned_lines, markdown_lines, markdown_text


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
    parts += [*report.remarks, *report.failures]
    parts.append(("PASS: " if report.ok else "FAIL: ") + report.headline)
    return "\n".join(parts) + "\n"


def render_markdown(report: Report) -> str:
    """GitHub Markdown, for ``GITHUB_STEP_SUMMARY``."""
    mark = "✅" if report.ok else "❌"
    parts = [f"## {mark} zmlx: {report.headline}", "", f"_{report.reference_note}_", ""]
    if report.findings:
        parts += ["### Findings", ""]
        parts += [f"- **{f.kind}** {markdown_text(f.message)}" for f in report.findings]
        parts.append("")
    for remark in report.remarks:
        parts += [f"_{markdown_text(remark)}_", ""]
    for table in _tables(report):
        header = tuple(" ".join(filter(None, pair)) for pair in zip(table.groups, table.header, strict=True))
        parts += [f"### {table.title}", "", *markdown_lines([header, *table.rows]), ""]
    facts = ("device", "mlx", "os", "python", "tf32", "date")
    rows = [(p.label, str(p.cases), *(p.environment.get(f, "?") for f in facts)) for p in report.provenance]
    if rows:
        table_rows = [("values", "cases", *facts), *rows]
        parts += ["### Where the values come from", "", *markdown_lines(table_rows), ""]
    return "\n".join(parts)
