"""The report as one HTML file: no server, no external resource, readable in the dark, without colour and without
JavaScript, which only sorts and filters."""

from __future__ import annotations

from importlib.resources import files

from zmlx._text import count
from zmlx.testing.golden.against import VERDICTS, change_text, tally
from zmlx.testing.golden.grouping import Group
from zmlx.testing.report import svg
from zmlx.testing.report.evidence import evidence_tables
from zmlx.testing.report.model import Report
from zmlx.testing.report.parts import escape, every_comparison, matrix, measured, provenance, table
from zmlx.testing.report.section import kernel_section
from zmlx.testing.report.text import stock_line

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

_HOW_TO_READ = """<p>Each number is the largest error over all recorded elements and dtypes, in units in the last place
(ULP) of the output dtype, against a float64 oracle that sees the same rounded inputs. The bar and the percentage are
the largest part of a tolerance that an element uses; a correctly rounded float16 result uses up to 49&nbsp;% of its
own. Marks: ✓ within the tolerance, ▲ above 80&nbsp;% of it, ✗ over it. The columns with two names are differences
between back ends.</p>"""

_TOOLS = """<p class="tools" id="tools" hidden><label for="filter">Filter</label>
<input type="search" id="filter" placeholder="norms, bfloat16, cuda …" autocomplete="off">
<label><input type="checkbox" id="close"> only close to or over the tolerance</label>
<output id="shown" for="filter close"></output></p>"""


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _group(group: Group) -> str:
    if not group.op:
        items = "".join(f"<li><b>{escape(f.kind)}</b> {escape(f.message)}</li>" for f in group.findings)
        return f'<div class="group"><h3>Golden files</h3><ul>{items}</ul></div>'
    lines: list[str] = []
    for line in group.lines():
        if line.startswith("  ") and lines:
            lines[-1] += f"\n{line}"
        else:
            lines.append(line)
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    advice = "".join(f'<p class="ask">{escape(line)}</p>' for line in group.advice())
    return f'<div class="group"><h3>{escape(group.headline)}</h3><ul>{items}</ul>{advice}</div>'


def _columns(report: Report) -> str:
    lines = []
    for column in report.columns:
        facts = column.environment
        known = [facts.get(key, "") for key in ("device", "date")]
        where = ", ".join(text for text in (*known, f"MLX {facts['mlx']}" if "mlx" in facts else "") if text)
        cases = f"; {count(column.cases, 'case')}" if column.is_recorded else ""
        note = escape(column.note) + (f": {escape(where)}" if where else "") + cases
        lines.append(f"<dt>{escape(column.name)}</dt><dd>{note}</dd>")
    return f'<dl class="columns">{"".join(lines)}</dl>'


def _changes(report: Report) -> str:
    if not report.changes:
        return ""
    rows = []
    for op, counts in tally(report.changes).items():
        cells = "".join(f'<td data-v="{number}">{number or "&ndash;"}</td>' for number in counts.values())
        rows.append(
            f'<tr data-name="{escape(op)}" data-close="1"><th scope="row">{escape(op)}</th>{cells}</tr>'
        )
    moved = [change for change in report.changes if change.verdict != "same"]
    items = "".join(f"<li>{escape(change_text(change))}</li>" for change in moved)
    listed = (
        f"<details><summary>{count(len(moved), 'changed case')}</summary><ul>{items}</ul></details>"
        if moved
        else ""
    )
    heads = ("operation", *VERDICTS)
    return (
        f"<h2>Against {escape(report.revision)}</h2><p>Cases by their recorded error, then and now.</p>"
        + table("Cases by what became of their error", heads, rows, sortable=True)
        + listed
    )


def _body(report: Report) -> list[str]:
    mark, verdict = ("✓", "The back ends agree") if report.ok else ("✗", "Not in agreement")
    if report.ok and not report.judged:
        verdict = "The files are whole"
    note = report.reference_note[0].upper() + report.reference_note[1:]
    parts = [
        f'<main class="{"good" if report.ok else "bad"}">',
        f'<p class="state"><i aria-hidden="true">{mark}</i>zmlx: {verdict}</p>',
        f"<h1>{escape(report.headline)}</h1><p>{escape(note)}.</p>",
        *(f'<p class="note">{escape(text[0].upper() + text[1:])}.</p>' for text in report.notes),
    ]
    if report.groups:
        parts += ["<h2>Findings</h2>", *(_group(group) for group in report.groups)]
    if report.kernels:
        parts += [_TOOLS, matrix(report, report.kernels), _columns(report), _HOW_TO_READ]
    elif report.stock:
        parts += [matrix(report, report.stock, plain=True), _columns(report), _HOW_TO_READ]
    parts += [f'<p class="note">Pending: {escape(pending.message())}.</p>' for pending in report.pending]
    parts.append(_changes(report))
    if report.stock and report.kernels:
        shown = matrix(report, report.stock, plain=True)
        parts.append(
            f'<details class="section"><summary>{escape(stock_line(report))}</summary>{shown}</details>'
        )
    if report.kernels:
        parts += ["<h2>Kernels</h2>", *(kernel_section(report, row) for row in report.kernels)]
    parts += [measured(shown) for shown in evidence_tables(report.evidence)]
    if any(column.is_recorded for column in report.columns):
        parts += ["<h2>Where the values come from</h2>", provenance(report)]
    lost = [point for point in report.history if point.trouble]
    if lost:
        items = "".join(f"<li>{escape(p.revision)}, {escape(p.date)}: {escape(p.trouble)}</li>" for p in lost)
        parts.append(f"<details><summary>Revisions without values</summary><ul>{items}</ul></details>")
    if report.results:
        title = count(len(report.results), "comparison")
        parts.append(
            f'<details class="section"><summary>All {title}</summary>{every_comparison(report)}</details>'
        )
    return [*parts, "</main>"]


def render_html(report: Report) -> str:
    """A whole HTML document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>zmlx: {escape(report.headline)}</title><style>{_asset('page.css')}</style></head>\n<body>"
        + svg.PATTERNS
        + "\n".join(_body(report))
        + f"<script>{_asset('page.js')}</script></body></html>\n"
    )
