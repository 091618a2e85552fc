"""The report as one HTML file: no scripts, no external assets, readable in the dark and without colour."""

from __future__ import annotations

import html
import math
from collections.abc import Callable

from zmlx.testing.golden.comparison import CaseResult
from zmlx.testing.report.model import NONE, Cell, Report, figure

_STEPS = (
    (0.5, "correctly rounded"),
    (1.0, "within 1 ULP"),
    (2.0, "within 2"),
    (4.0, "within 4"),
    (16.0, "within 16"),
    (math.inf, "beyond 16 ULP"),
)
"""Upper bounds of the heat steps h0 … h5, and what the legend calls them."""

_CSS = """
:root{color-scheme:light dark;--bg:#fbfaf7;--card:#fff;--ink:#1d2327;--soft:#5f6970;--line:#e4e1da;
--accent:#0b6e66;--bad:#b3261e;--h0:#e3f3ee;--h1:#c9e8dc;--h2:#f3ecc4;--h3:#f6d9a4;--h4:#f2b58c;--h5:#e88f82}
@media(prefers-color-scheme:dark){:root{--bg:#14181b;--card:#1b2024;--ink:#e7eaec;--soft:#98a3ab;
--line:#2d343a;--accent:#5cc7b8;--bad:#ff8a80;
--h0:#17352f;--h1:#1e4a3d;--h2:#4a431a;--h3:#5c4316;--h4:#6b3a1c;--h5:#7c2f2a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1240px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:27px;line-height:1.2;margin:0;letter-spacing:-.015em}
h2{font-size:17px;margin:40px 0 4px}
p{margin:4px 0 12px;color:var(--soft);max-width:72ch}
.eyebrow{color:var(--accent);font-weight:600;margin:0 0 6px}
.bad .eyebrow,.fail{color:var(--bad)}
.scroll{position:relative;overflow-x:auto;background:var(--card);border:1px solid var(--line);
border-radius:10px}
table{border-collapse:separate;border-spacing:3px;padding:8px;font-variant-numeric:tabular-nums}
caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
th{font-weight:500;text-align:right;padding:4px 8px;color:var(--soft);white-space:nowrap}
th[scope=colgroup]{text-align:center;color:var(--ink);border-bottom:1px solid var(--line)}
th[scope=row],tr>th:first-child{text-align:left}
th[scope=row]{color:var(--ink);font:13px ui-monospace,Menlo,Consolas,monospace;position:sticky;left:0;
background:var(--card)}
td{text-align:right;padding:4px 8px;border-radius:5px;white-space:nowrap}
td b{font-weight:600}
td small{display:block;font-size:11px;line-height:1.2;opacity:.75}
td.none{color:var(--soft)}
td.over{outline:2px solid var(--bad);outline-offset:-2px}
.text td,.text th{text-align:left;vertical-align:top}
.h0{background:var(--h0)}.h1{background:var(--h1)}.h2{background:var(--h2)}
.h3{background:var(--h3)}.h4{background:var(--h4)}.h5{background:var(--h5)}
.legend{display:flex;flex-wrap:wrap;gap:6px;margin:10px 0 0;padding:0;list-style:none;font-size:12px}
.legend li{padding:2px 10px;border-radius:5px}
.findings{margin:12px 0 0;padding:12px 20px 12px 36px;background:var(--card);border:1px solid var(--bad);
border-radius:10px}
.findings li{white-space:pre-wrap;overflow-wrap:anywhere;font-size:13px;margin:6px 0}
details{margin-top:40px}
summary{cursor:pointer;font-weight:600;font-size:17px}
details .scroll{margin-top:12px}
"""

_TRUTH = """<p>Largest error over all recorded elements, in units in the last place (ULP) of the output
dtype, against a float64 oracle that sees the same rounded inputs. A correctly rounded result is within half a
ULP.</p>"""
_DRIFT = """<p>Largest difference over all cases that both have, in ULPs of the output dtype; below it, how
many cases are the same bit for bit.</p>"""


def _heat(value: float) -> str:
    return f"h{next(i for i, (bound, _) in enumerate(_STEPS) if value <= bound or i == len(_STEPS) - 1)}"


def _value_cell(cell: Cell | None, small: Callable[[Cell], str]) -> str:
    if cell is None:
        return '<td class="none">&ndash;</td>'
    over = "" if cell.ok else " over"
    mark = "" if cell.ok else ' <span class="fail">over tolerance</span>'
    title = html.escape(f"worst: {cell.worst}", quote=True)
    return (
        f'<td class="{_heat(cell.max_ulp)}{over}" title="{title}"><b>{figure(cell.max_ulp)}</b>{mark}'
        f"<small>{small(cell)}</small></td>"
    )


def _error_table(report: Report) -> str:
    used = {
        dtype: [s for s in report.subjects if any((op, dtype, s) in report.errors for op in report.ops)]
        for dtype in report.dtypes
    }
    groups = "".join(
        f'<th scope="colgroup" colspan="{len(subjects)}">{html.escape(dtype)}</th>'
        for dtype, subjects in used.items()
    )
    columns = "".join(
        f'<th scope="col">{html.escape(s)}</th>' for subjects in used.values() for s in subjects
    )
    rows = []
    for op in report.ops:
        cells = "".join(
            _value_cell(report.errors.get((op, dtype, s)), lambda cell: f"RMS {figure(cell.rms)}")
            for dtype, subjects in used.items()
            for s in subjects
        )
        rows.append(f'<tr><th scope="row">{html.escape(op)}</th>{cells}</tr>')
    return _table(
        "Error against the oracle by operation, dtype and back end, in ULPs",
        f'<tr><td></td>{groups}</tr><tr><th scope="col">operation</th>{columns}</tr>',
        rows,
    )


def _drift_table(report: Report) -> str:
    columns = "".join(f'<th scope="col">{html.escape(s)}</th>' for s in report.subjects)
    rows = []
    for one in report.subjects:
        cells = "".join(
            _value_cell(report.drift_between(one, other), lambda c: f"{c.identical} of {c.cases} identical")
            for other in report.subjects
        )
        rows.append(f'<tr><th scope="row">{html.escape(one)}</th>{cells}</tr>')
    return _table(
        "Largest difference between two sets of values, in ULPs", f"<tr><td></td>{columns}</tr>", rows
    )


def _provenance_table(report: Report) -> str:
    facts = list(dict.fromkeys(key for p in report.provenance for key in sorted(p.environment)))
    columns = "".join(f'<th scope="col">{html.escape(p.label)}</th>' for p in report.provenance)
    rows = [
        f'<tr><th scope="row">{html.escape(fact)}</th>'
        + "".join(f"<td>{html.escape(p.environment.get(fact, NONE))}</td>" for p in report.provenance)
        + "</tr>"
        for fact in facts
    ]
    return _table("Environment of each set of values", f"<tr><td></td>{columns}</tr>", rows, "text")


def _case_row(result: CaseResult) -> str:
    verdict = "identical" if result.identical else "within" if result.ok else "over tolerance"
    return (
        f'<tr><th scope="row">{html.escape(result.case)}</th><td>{html.escape(result.subject)}</td>'
        f"<td>{html.escape(result.against)}</td>"
        f'<td class="{_heat(result.max_ulp)}">{figure(result.max_ulp)}</td>'
        f"<td>{figure(result.rms)}</td><td>{verdict}</td></tr>"
    )


def _case_table(report: Report) -> str:
    names = ("case", "values", "against", "max ULP", "RMS ULP", "verdict")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    return _table("Every comparison", f"<tr>{head}</tr>", [_case_row(r) for r in report.results])


def _table(caption: str, head: str, rows: list[str], kind: str = "") -> str:
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(caption, quote=True)}">'
        f'<table class="{kind}"><caption>{html.escape(caption)}</caption><thead>{head}</thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def render_html(report: Report) -> str:
    """A whole HTML document."""
    verdict = "The back ends agree" if report.ok else "Not in agreement"
    note = report.reference_note[0].upper() + report.reference_note[1:]
    legend = "".join(f'<li class="h{i}">{text}</li>' for i, (_, text) in enumerate(_STEPS))
    parts = [
        f'<main class="{"" if report.ok else "bad"}"><p class="eyebrow">zmlx · {verdict}</p>',
        f"<h1>{html.escape(report.headline)}</h1><p>{html.escape(note)}.</p>",
    ]
    parts += [f"<p>{html.escape(remark)}</p>" for remark in report.remarks]
    if report.findings:
        items = "".join(
            f"<li><b>{html.escape(f.kind)}</b> {html.escape(f.message)}</li>" for f in report.findings
        )
        parts.append(f'<h2>Findings</h2><ul class="findings">{items}</ul>')
    if report.drift:
        parts += [
            "<h2>How far the back ends are from each other</h2>",
            _DRIFT,
            _drift_table(report),
        ]
    if report.errors:
        parts += [
            "<h2>How far each operation is from the truth</h2>",
            _TRUTH,
            _error_table(report),
            f'<ul class="legend" aria-label="Colours">{legend}</ul>',
        ]
    if report.provenance:
        parts += ["<h2>Where the values come from</h2>", _provenance_table(report)]
    if report.results:
        parts.append(f"<details><summary>Every comparison</summary>{_case_table(report)}</details>")
    parts.append("</main>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>zmlx: {html.escape(report.headline)}</title><style>{_CSS}</style></head>\n<body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )
