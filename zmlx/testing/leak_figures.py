"""What a process held before and after many launches, how much more is allowed, and the file of it.

Needs neither MLX nor NumPy. `zmlx.testing.leaks` measures it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zmlx._text import count
from zmlx.testing.evidence import Form, read_form, reading

SCHEMA = 1
SUFFIX = "-leaks.json"

FORM = Form(
    what="a file of leak figures",
    schema=SCHEMA,
    keys={"backend": str, "environment": dict, "launches": int, "rows": list},
    advice="`python -m zmlx leaks --output-dir DIR` writes one.",
)

MIB = 1 << 20

#: MLX may keep one buffer more than its cache's limit.
_ONE_BUFFER = 32 * MIB


@dataclass(frozen=True)
class Held:
    """Something that a process holds.

    Attributes
    ----------
    name : str
        In files.
    title : str
        In tables.
    unit : int
        What numbers are divided by for people: 1, or a MiB.
    allowed : float
        How much more there may be after the launches, in the unit.
    varied : float
        Likewise after launches whose every shape is new: small tables of shapes, which have a bound, fill meanwhile.
    meaning : str
        For the legend.
    """

    name: str
    title: str
    unit: int
    allowed: float
    varied: float
    meaning: str


#: What is looked at.
HELD = (
    Held("active_memory", "arrays MiB", MIB, 0, 0, "memory of MLX's arrays"),
    Held("rss", "RSS MiB", MIB, 1, 4, "memory of the process that is resident"),
    Held("file_handles", "files", 1, 0, 0, "open files"),
    Held("threads", "threads", 1, 0, 0, "threads of the process"),
    Held("blocks", "blocks", 1, 100, 40_000, "blocks of memory that Python's objects have"),
    Held("cache_entries", "compiled", 1, 0, 0, "kernels that were compiled meanwhile"),
)

#: Figures of one moment, by name.
Figures = Mapping[str, int]


@dataclass(frozen=True)
class Row:
    """One operation in one direction.

    Attributes
    ----------
    op, direction : str
        "forward", "gradient", or "new shapes": forward, with another number of rows each time.
    calls, launches : int
        Calls of the operation, and launches of its kernels in them.
    before, after : mapping of str to int
        `HELD` by name, after a warm-up and after the launches.
    buffer_cache : int
        The most bytes that MLX's cache of free buffers had, of `Leaks.cache_limit`.
    failure : str
        Why there are no figures, or "".
    """

    op: str
    direction: str
    calls: int
    launches: int
    before: Figures
    after: Figures
    buffer_cache: int = 0
    failure: str = ""

    def growth(self, held: Held) -> float:
        """How much more there was after the launches, in the unit of `held`."""
        return (self.after[held.name] - self.before[held.name]) / held.unit

    def allowed(self, held: Held) -> float:
        """How much more there may be."""
        return held.varied if self.direction == "new shapes" else held.allowed

    @property
    def leaks(self) -> tuple[Held, ...]:
        """What grew by more than it may."""
        return tuple(h for h in HELD if not self.failure and self.growth(h) > self.allowed(h))

    @property
    def ok(self) -> bool:
        """Whether there are figures, and all are flat."""
        return not self.failure and not self.leaks


@dataclass(frozen=True)
class Leaks:
    """The figures of one back end. `launches` is how many calls each row was to have."""

    backend: str
    environment: Mapping[str, str]
    launches: int
    cache_limit: int
    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """Something was measured, all is flat, and MLX's cache stayed within its limit."""
        return bool(self.rows) and all(row.ok for row in self.rows) and self.is_bounded

    @property
    def is_bounded(self) -> bool:
        """Whether MLX's cache of free buffers stayed within its limit and one buffer more."""
        return self.most_cached <= self.cache_limit + _ONE_BUFFER

    @property
    def most_cached(self) -> int:
        """The most bytes that it had."""
        return max((row.buffer_cache for row in self.rows), default=0)

    @property
    def exit_code(self) -> int:
        """0 if `ok`, else 1."""
        return 0 if self.ok else 1

    @property
    def problems(self) -> list[str]:
        """What is wrong, a line each."""
        return [line for row in self.rows for line in _problem_lines(row)]

    @property
    def cache_line(self) -> str:
        """What became of that cache."""
        return (
            f"MLX's cache of free buffers: at most {self.most_cached / MIB:.1f} MiB, with a limit of "
            f"{self.cache_limit / MIB:.0f}"
        )

    @property
    def verdict(self) -> str:
        """In a sentence."""
        kernels, launches = len({row.op for row in self.rows}), sum(row.launches for row in self.rows)
        about = f"{self.backend}: {count(kernels, 'operation')}, {launches} launches"
        wrong = [row for row in self.rows if not row.ok]
        if wrong:
            names = ", ".join(f"{row.op} {row.direction}" for row in wrong)
            return f"FAIL: {about}: not flat: {names}"
        if not self.ok:
            return f"FAIL: {about}: {self.cache_line if self.rows else 'nothing was measured'}"
        return f"PASS: {about}: flat"

    def to_json(self) -> str:
        """For programs, and for `read_leaks`."""
        body = {
            "schema": SCHEMA,
            "ok": self.ok,
            "backend": self.backend,
            "environment": dict(self.environment),
            "launches": self.launches,
            "cache_limit": self.cache_limit,
            "rows": [{**asdict(row), "flat": row.ok} for row in self.rows],
        }
        return json.dumps(body, indent=2, allow_nan=False)


def figure_text(held: Held, before: int, after: int) -> str:
    """Both numbers, or the one that they are."""
    one, other = (f"{n / held.unit:.1f}" if held.unit > 1 else str(n) for n in (before, after))
    return one if before == after else f"{one} → {other}"


def _problem_lines(row: Row) -> list[str]:
    """What is wrong with a row."""
    if row.failure:
        return [f"FAIL {row.op} {row.direction}: {row.failure}"]
    each = max(row.launches, 1)
    return [
        f"LEAK {row.op} {row.direction}: expected at most {row.allowed(held):g} more {held.title} after {row.launches} "
        f"launches, got {row.growth(held):.4g} more ({row.growth(held) * held.unit / each:.3g} "
        f"{'bytes ' if held.unit > 1 else ''}a launch)"
        for held in row.leaks
    ]


def read_leaks(path: Path) -> Leaks:
    """Read what `Leaks.to_json` wrote.

    Raises
    ------
    zmlx.testing.evidence.EvidenceError
        It cannot be read, is damaged, is none, or has another schema.
    """
    raw = read_form(path, FORM)
    with reading("a row", path, FORM):
        rows = tuple(_row(body) for body in raw["rows"])
        return Leaks(raw["backend"], raw["environment"], raw["launches"], int(raw["cache_limit"]), rows)


def _row(body: Mapping[str, Any]) -> Row:
    failure = str(body["failure"])

    def figures(name: str) -> dict[str, int]:
        return {} if failure else {held.name: int(body[name][held.name]) for held in HELD}

    return Row(
        str(body["op"]),
        str(body["direction"]),
        int(body["calls"]),
        int(body["launches"]),
        figures("before"),
        figures("after"),
        int(body["buffer_cache"]),
        failure,
    )
