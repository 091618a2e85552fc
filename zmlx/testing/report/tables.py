"""Tables of text, aligned for a terminal or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: What a table for a terminal takes at most, if its figures allow it.
COLUMNS = 60


@dataclass(frozen=True)
class Table:
    """Rows of text; `groups` names what stretches of columns have in common, "" for a column without."""

    title: str
    groups: tuple[str, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def plain_table(title: str, header: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> Table:
    """A table without groups."""
    return Table(title, ("",) * len(header), header, rows)


def aligned_lines(table: Table, columns: int | None = None) -> list[str]:
    """The table for a terminal: its groups (if it has any), header and rows, the first column left-justified and
    shortened to what `columns`, if given, leave it."""
    # The group stands above its first column only.
    groups = tuple("" if g == table.groups[i - 1] else g for i, g in enumerate(table.groups))
    rows = [groups, table.header, *table.rows] if any(groups) else [table.header, *table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.header))]
    if columns is not None:
        room = columns - sum(width + 2 for width in widths[1:])
        widths[0] = min(widths[0], max(room, 8))
    lines = []
    for first, *others in rows:
        padded = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([_shortened(first, widths[0]).ljust(widths[0]), *padded]).rstrip())
    return lines


def _shortened(text: str, width: int) -> str:
    """The end of a name says more than its beginning, which it shares with its family."""
    return text if len(text) <= width else "…" + text[1 - width :]


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
