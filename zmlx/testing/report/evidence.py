"""What `verify` and `leaks` left for a report: files of measurements, and tables of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zmlx.testing.leak_figures import HELD, Leaks, figure_text, read_leaks
from zmlx.testing.leak_figures import SUFFIX as LEAKS_SUFFIX
from zmlx.testing.report.tables import Table, plain_table
from zmlx.testing.verification import SUFFIX as VERIFY_SUFFIX
from zmlx.testing.verification import Change, Row, Verification, read_verification

NONE = "-"


@dataclass(frozen=True)
class Evidence:
    """The files that were found, each of one back end."""

    verifications: tuple[Verification, ...] = ()
    leaks: tuple[Leaks, ...] = ()


@dataclass(frozen=True)
class Shown:
    """A table with what is said above and below it.

    Attributes
    ----------
    about : str
        Where it comes from.
    table : Table
        The whole of it.
    narrow : Table
        What a terminal has room for.
    lines : tuple of str
        What the figures come to.
    folded : tuple of str
        What of the whole table the narrow one has in a line.
    """

    about: str
    table: Table
    narrow: Table
    lines: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()


def load_evidence(folder: Path) -> Evidence:
    """The files in a folder, which need not exist.

    Raises
    ------
    zmlx.testing.evidence.EvidenceError
        One of them cannot be used.
    """
    return Evidence(
        tuple(read_verification(path) for path in sorted(folder.glob(f"*{VERIFY_SUFFIX}"))),
        tuple(read_leaks(path) for path in sorted(folder.glob(f"*{LEAKS_SUFFIX}"))),
    )


def evidence_tables(evidence: Evidence) -> list[Shown]:
    """Each file's table."""
    return [
        *(_same_bits(found) for found in evidence.verifications if _changes(found)),
        *(_leaks(found) for found in evidence.leaks),
    ]


def _about(environment: Mapping[str, str]) -> str:
    labels = (("", "device"), ("MLX ", "mlx"), ("zmlx ", "zmlx"), ("", "date"))
    return ", ".join(f"{label}{environment[name]}" for label, name in labels if name in environment)


#: Attribute of a row, and how its column is called for so many runs.
_ASKED = (("repeats", "{} runs"), ("orders", "{} orders of threads"), ("tf32", "with TF32 and without"))


def _changes(found: Verification) -> list[tuple[str, str]]:
    """The columns that a file has something for: attribute and head."""
    columns = []
    for name, head in _ASKED:
        given = [change for row in found.rows for change in [getattr(row, name)] if change is not None]
        if given:
            columns.append((name, head.format(max(change.runs for change in given))))
    return columns


def worst(changes: Iterable[Change | None]) -> Change | None:
    """The one that differs most."""
    given = [change for change in changes if change is not None]
    return max(given, key=lambda change: (change.differing > 0, change.max_ulp), default=None)


def _same_bits(found: Verification) -> Shown:
    columns = _changes(found)
    by_op: dict[str, list[Row]] = {}
    for row in found.rows:
        by_op.setdefault(row.op, []).append(row)
    rows, short, plain = [], [], []
    for op, of in by_op.items():
        changes = {name: worst(getattr(row, name) for row in of) for name, _ in columns}
        given = [change for change in changes.values() if change is not None]
        if not given:
            continue
        rows.append((op, *(NONE if change is None else change.cell for change in changes.values())))
        if len(given) == 1 and changes.get("repeats") in given and not given[0].differing:
            plain.append(given[0])
            continue
        brief = (NONE if c is None else "none here" if c.note else c.cell for c in changes.values())
        short.append((op, *brief))
    title = f"Runs, orders of threads and TF32 on {found.backend}"
    wide = plain_table(title, ("operation", *(head for _, head in columns)), tuple(rows))
    heads = {"orders": "orders", "tf32": "TF32"}
    narrow = plain_table(
        title, ("operation", *(heads.get(name, head) for name, head in columns)), tuple(short)
    )
    folded = [f"{len(plain)} {'more' if short else 'operations'}: {plain[0].text('runs')}"] if plain else []
    failures = tuple(
        f"FAIL {failure.direction}: {failure.message}"
        for failure in found.failures
        if failure.direction in dict(_ASKED)
    )
    return Shown(_about(found.environment), wide, narrow, failures, tuple(folded))


def _leaks(found: Leaks) -> Shown:
    title = f"What a process holds before and after many launches on {found.backend}"
    rows, short = [], []
    for row in found.rows:
        verdict = "flat" if row.ok else "FAIL" if row.failure else "LEAK"
        cells = {
            held.name: NONE if row.failure else figure_text(held, row.before[held.name], row.after[held.name])
            for held in HELD
        }
        rows.append((row.op, row.direction, str(row.launches), *cells.values(), verdict))
        short.append((f"{row.op} {row.direction}", str(row.launches), cells["rss"], verdict))
    head = ("operation", "direction", "launches", *(held.title for held in HELD), "verdict")
    wide = plain_table(title, head, tuple(rows))
    narrow = plain_table(title, ("operation", "launches", "RSS MiB", ""), tuple(short))
    return Shown(
        _about(found.environment), wide, narrow, (*found.problems, f"{found.cache_line}.", found.verdict)
    )
