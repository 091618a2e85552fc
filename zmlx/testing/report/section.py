"""A kernel's section of the page: tolerance, errors, distribution, worst element, drift, gradients, history."""

from __future__ import annotations

from zmlx.testing.golden.explain import share_text
from zmlx.testing.report import svg
from zmlx.testing.report.model import Cell, Report, Row, figure
from zmlx.testing.report.parts import CLOSE, anchor, escape, table, value_cell


def kernel_section(report: Report, row: Row) -> str:
    """The section, with its heading."""
    close = "1" if not row.ok or row.share > CLOSE else "0"
    left = [_errors(report, row), _distributions(report, row)]
    right = [_worst(report, row), _drift(row), _gradients(report, row), _history(row)]
    return (
        f'<section class="kernel" id="{anchor(row.op)}" data-name="{escape(row.op)}" data-close="{close}">'
        f"<h3>{escape(row.op)}</h3>{_about(row)}"
        f'<div class="two"><div>{"".join(left)}</div><div>{"".join(right)}</div></div></section>'
    )


def _about(row: Row) -> str:
    if row.about is None:
        return ""
    file = f" <code>{escape(row.about.file)}</code>" if row.about.file else ""
    return f"<p>{escape(row.about.source)}.{file}</p>"


def _errors(report: Report, row: Row) -> str:
    names = [c.name for c in report.columns if c.is_recorded]
    lines = []
    for dtype in row.dtypes:
        cells = "".join(
            value_cell(cell, detail=f"RMS {figure(cell.rms)}" if cell else "")
            for cell in (row.by_dtype.get((dtype, name)) for name in names)
        )
        tolerance = row.about.tolerances.get(dtype, "") if row.about else ""
        lines.append(
            f'<tr><th scope="row">{escape(dtype)}<small style="display:block;white-space:normal;max-width:24ch;'
            f'font-family:system-ui,sans-serif;font-size:12px">{escape(tolerance)}</small></th>{cells}</tr>'
        )
    heads = ["dtype and tolerance", *map(escape, names)]
    return "<h4>Error against the oracle, max ULP</h4>" + table(
        f"{row.op}: error by dtype and back end, in ULPs", heads, lines
    )


def _distributions(report: Report, row: Row) -> str:
    names = [c.name for c in report.columns if c.is_recorded]
    figures = []
    for dtype in row.dtypes:
        series = [
            (i, cell.bins)
            for i, name in enumerate(names)
            if (cell := row.by_dtype.get((dtype, name))) is not None and cell.bins
        ]
        if series:
            drawn = svg.distribution(f"{row.op}, {dtype}: distribution of errors", series)
            figures.append(f"<figure>{drawn}<figcaption>{escape(dtype)}</figcaption></figure>")
    if not figures:
        return ""
    return (
        "<h4>Distribution: part of the elements by error, up to … ULP</h4>"
        f'<div class="figures">{"".join(figures)}</div>{svg.keys(names)}'
    )


def _worst(report: Report, row: Row) -> str:
    cells = [cell for cell in row.errors.values() if cell.worst.worst is not None]
    if not cells:
        return ""
    cell = max(cells, key=lambda c: (not c.ok, c.max_ulp))
    result, worst = cell.worst, cell.worst.worst
    assert worst is not None
    subject = report.live if result.subject == "live" else result.subject
    lines = [
        ("case", f"{result.case} on {subject}"),
        ("element", str(list(worst.index))),
        ("computed", repr(worst.actual)),
        ("exact", repr(worst.desired)),
        ("error", f"{figure(result.max_ulp)} ULP, {share_text(result.share or 0)} of the tolerance"),
        *worst.inputs,
    ]
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in lines)
    return f'<h4>Worst element and its inputs</h4><dl class="worst">{items}</dl>'


def _drift(row: Row) -> str:
    if not row.drift:
        return ""
    lines = [
        f'<tr><th scope="row">{escape(one)} &ndash; {escape(other)}</th>{value_cell(cell)}'
        f"<td>{cell.identical} of {cell.cases}</td></tr>"
        for (one, other), cell in row.drift.items()
    ]
    heads = ("back ends", "max ULP", "equal cases")
    return "<h4>Drift between back ends</h4>" + table(f"{row.op}: drift", heads, lines)


def _gradients(report: Report, row: Row) -> str:
    if not row.gradients:
        if not report.live or row.stock:
            return ""
        return "<h4>Gradients</h4><p>This operation has none.</p>"
    dtypes = [dtype for dtype in row.dtypes if any(d == dtype for _, d in row.gradients)]
    parts = list(dict.fromkeys(part for part, _ in row.gradients))
    lines = [
        f'<tr><th scope="row">{escape(part.removeprefix("gradient of "))}</th>'
        + "".join(value_cell(_gradient(row, part, dtype)) for dtype in dtypes)
        + "</tr>"
        for part in parts
    ]
    title = f"<h4>Gradients on {escape(report.live)}, max ULP at the RMS of the gradient</h4>"
    return title + table(f"{row.op}: gradients", ["argument", *map(escape, dtypes)], lines)


def _gradient(row: Row, part: str, dtype: str) -> Cell | None:
    return row.gradients.get((part, dtype))


def _history(row: Row) -> str:
    if not row.history:
        return ""
    backends = list(dict.fromkeys(point.backend for point in row.history))
    points = sorted(row.history, key=lambda p: p.date)
    revisions = list(dict.fromkeys((p.date, p.revision) for p in points))
    lines = [
        (i, [(revisions.index((p.date, p.revision)), p.errors[row.op]) for p in points if p.backend == name])
        for i, name in enumerate(backends)
    ]
    told = "; ".join(f"{p.backend} {p.date} {p.revision}: {figure(p.errors[row.op])} ULP" for p in points)
    names = [f"{date} {revision}" for date, revision in revisions]
    drawn = svg.timeline(f"{row.op}: largest recorded error by revision: {told}", names, lines)
    rows = [
        f'<tr><th scope="row">{escape(p.date)} {escape(p.revision)}</th><td class="left">{escape(p.backend)}</td>'
        f"<td>{figure(p.errors[row.op])}</td></tr>"
        for p in points
    ]
    listed = table(f"{row.op}: history", ("revision", "back end", "max ULP"), rows)
    return (
        f"<h4>Largest recorded error, by revision of the golden file</h4><figure>{drawn}</figure>{svg.keys(backends)}"
        f"<details><summary>{len(rows)} recordings</summary>{listed}</details>"
    )
