"""Tables and cells of the page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from zmlx.testing.golden.comparison import CaseResult
from zmlx.testing.golden.explain import share_text
from zmlx.testing.report.evidence import Shown
from zmlx.testing.report.model import Cell, Report, Row, figure

#: From this part of its tolerance on, a result is called close to it.
CLOSE = 0.8


def escape(text: str) -> str:
    """For text and for attributes."""
    return html.escape(text, quote=True)


def anchor(op: str) -> str:
    """The id of an operation's section."""
    return "k-" + "".join(c if c.isalnum() or c in "_-" else "-" for c in op)


def number(value: float) -> str:
    """A number for `data-v`, by which a column is sorted."""
    return f"{value:.6g}" if value < 1e300 else "1e300"


def level(cell: Cell) -> str:
    """ "over", "near" or "fine": where a cell is in its tolerance."""
    if not cell.ok:
        return "over"
    return "near" if cell.share is not None and cell.share > CLOSE else "fine"


_MARKS = {"over": "✗", "near": "▲", "fine": "✓"}


def value_cell(cell: Cell | None, *, plain: bool = False, detail: str = "", absent: str = "&ndash;") -> str:
    """A table cell with an error: the number, a bar for the share of the tolerance, and a mark.

    Parameters
    ----------
    cell : Cell or None
        None is a cell without a value.
    plain : bool
        Without bar and colours, for what is not ours to judge.
    detail : str
        A line below.
    absent : str
        What stands for no value.
    """
    if cell is None:
        return f'<td class="none" data-v="-1">{absent}</td>'
    kind = level(cell)
    if plain and kind != "over":
        kind = "plain"
    title = escape(f"worst: {cell.worst.case}" + (f", {cell.worst.part}" if cell.worst.part else ""))
    small = detail
    bar = ""
    if cell.share is not None:
        width = f"{min(cell.share, 1) * 100:.0f}%"
        bar = f'<span class="bar"><i style="--w:{width}"></i></span>'
        mark = "" if kind == "plain" else f"{_MARKS[kind]} "
        small = f"{mark}{share_text(cell.share)}" + (f"<br>{detail}" if detail else "")
    elif not detail and not cell.bins:
        small = "as recorded"
    return (
        f'<td class="{kind}" data-v="{number(cell.max_ulp)}" title="{title}"><b>{figure(cell.max_ulp)}</b>{bar}'
        f"<small>{small}</small></td>"
    )


def table(
    caption: str, heads: Sequence[str], rows: Iterable[str], *, sortable: bool = False, ident: str = ""
) -> str:
    """A table in a box of its own that scrolls sideways; `heads` and `rows` are HTML."""
    first = "".join(f'<th scope="col">{head}</th>' for head in heads)
    marks = (' data-sortable=""' if sortable else "") + (f' id="{ident}"' if ident else "")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table{marks}><caption>{escape(caption)}</caption><thead><tr>{first}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def matrix(report: Report, rows: Sequence[Row], *, plain: bool = False) -> str:
    """Operations x back ends, then the drift of each pair, then the gradients of this machine."""
    pairs = list(report.drift)
    graded = not plain and any(row.gradients for row in rows)
    heads = ["kernel" if not plain else "operation", *(escape(c.name) for c in report.columns)]
    heads += ["gradients"] if graded else []
    heads += [f"{escape(one)} &ndash; {escape(other)}" for one, other in pairs]
    lines = []
    for row in rows:
        name = escape(row.op) if plain else f'<a href="#{anchor(row.op)}">{escape(row.op)}</a>'
        cells = [
            value_cell(row.errors.get(c.name), plain=plain, absent=c.lacks or "&ndash;")
            for c in report.columns
        ]
        if graded:
            worst = max(row.gradients.values(), key=lambda c: (not c.ok, c.share or 0), default=None)
            cells.append(value_cell(worst))
        cells += [
            value_cell(row.drift.get(pair), plain=plain, detail=_identical(row.drift.get(pair)))
            for pair in pairs
        ]
        close = "1" if not row.ok or row.share > CLOSE else "0"
        lines.append(
            f'<tr data-name="{escape(row.op)}" data-close="{close}"><th scope="row">{name}</th>{"".join(cells)}</tr>'
        )
    what = "MLX's own operations" if plain else "Kernels"
    ident = "stock" if plain else "matrix"
    return table(f"{what} by back end: largest error in ULPs", heads, lines, sortable=True, ident=ident)


def _identical(cell: Cell | None) -> str:
    return "" if cell is None else f"{cell.identical} of {cell.cases} equal"


def provenance(report: Report) -> str:
    """The environment of each set of values, side by side."""
    known = [column for column in report.columns if column.is_recorded]
    facts = list(dict.fromkeys(key for column in known for key in sorted(column.environment)))
    rows = [
        f'<tr><th scope="row">{escape(fact)}</th>'
        + "".join(f'<td class="left">{escape(c.environment.get(fact, "-"))}</td>' for c in known)
        + "</tr>"
        for fact in facts
    ]
    return table("Environment of each set of values", ["", *(escape(c.name) for c in known)], rows)


def measured(shown: Shown) -> str:
    """A table of what `verify` or `leaks` measured, with its heading."""
    rows = []
    for first, *cells in shown.table.rows:
        wrong = ' class="over"' if cells[-1] in ("LEAK", "FAIL") else ""
        texts = "".join(f"<td>{escape(cell)}</td>" for cell in cells[:-1])
        name = escape(" ".join((first, *cells[:1])))
        rows.append(
            f'<tr data-name="{name}" data-close="{1 if wrong else 0}"><th scope="row">{escape(first)}</th>{texts}'
            f"<td{wrong}>{escape(cells[-1])}</td></tr>"
        )
    said = "".join(f"<p>{escape(line)}</p>" for line in shown.lines)
    title = escape(shown.table.title)
    heads = [escape(head) for head in shown.table.header]
    return f"<h2>{title}</h2><p>{escape(shown.about)}</p>{table(shown.table.title, heads, rows)}{said}"


def every_comparison(report: Report) -> str:
    """All results, one a row."""
    heads = ("case", "values", "against", "max ULP", "RMS ULP", "of tolerance", "verdict")
    return table("Every comparison", heads, [_case_row(report, r) for r in report.results], sortable=True)


def _case_row(report: Report, result: CaseResult) -> str:
    verdict = "identical" if result.identical else "within" if result.ok else "✗ over tolerance"
    subject = report.live if result.subject == "live" else result.subject
    name = result.case + (f", {result.part}" if result.part else "")
    share = "&ndash;" if result.share is None else share_text(result.share)
    close = "1" if not result.ok or (result.share or 0) > CLOSE else "0"
    cells = (
        f'<td class="left">{escape(subject)}</td>',
        f'<td class="left">{escape(result.against)}</td>',
        f'<td data-v="{number(result.max_ulp)}">{figure(result.max_ulp)}</td>',
        f'<td data-v="{number(result.rms)}">{figure(result.rms)}</td>',
        f'<td data-v="{number(result.share or 0)}">{share}</td>',
        f'<td class="left">{verdict}</td>',
    )
    searched = escape(f"{name} {subject} {result.against}")
    return f'<tr data-name="{searched}" data-close="{close}"><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>'
