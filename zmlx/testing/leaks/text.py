"""Leak figures as text."""

from __future__ import annotations

from zmlx.testing.leak_figures import HELD, Leaks, Row, figure_text
from zmlx.testing.report.tables import aligned_lines, plain_table


def render_terminal(found: Leaks) -> str:
    """The table, what each figure is, what is wrong, and the verdict last."""
    about = found.environment
    head = ("operation", "direction", "launches", *(held.title for held in HELD), "")
    table = plain_table("", head, tuple(_cells(row) for row in found.rows))
    lines = [
        f"{found.backend}: {about['device']}, MLX {about['mlx']}, {about['date']}; {found.launches} calls a row",
        "",
        *aligned_lines(table),
        "",
        *LEGEND,
        f"{found.cache_line}.",
    ]
    return "\n".join([*lines, *found.problems, found.verdict])


#: What each figure is, and by how much it may grow.
LEGEND = (
    "What there was before and after. "
    + "; ".join(f"{held.title}: {held.meaning}, at most +{held.allowed:g}" for held in HELD)
    + ".",
    "With new shapes, at most "
    + ", ".join(f"+{held.varied:g} {held.title}" for held in HELD if held.varied != held.allowed)
    + ", since small tables of shapes, which have a bound, fill meanwhile.",
)


def _cells(row: Row) -> tuple[str, ...]:
    if row.failure:
        return (row.op, row.direction, str(row.launches), *("-" for _ in HELD), "FAIL")
    figures = (figure_text(held, row.before[held.name], row.after[held.name]) for held in HELD)
    return (row.op, row.direction, str(row.launches), *figures, "flat" if row.ok else "LEAK")
