"""Which way through a row kernel a launch takes, told from its template arguments and the rows that it got.

A kernel of the catalogue is several: a row is held in registers or read again, chunks move whole or value by value,
threads of a row meet in a simdgroup or in threadgroup memory. A test must reach all of them, and know that it did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from zmlx.launch.records import LaunchRecord, Triple

__all__ = ["PATHS", "RowLaunch", "paths_of", "unreached"]


@dataclass(frozen=True)
class RowLaunch:
    """A launch over rows.

    Attributes
    ----------
    template : mapping of str to int
        Template arguments that are numbers: N values a chunk, K chunks held, W threads a row, S chunks in turn, BLOCK
        rows at a time, PACKED.
    type : str
        The template argument T, a type of Metal; empty if there is none.
    rows, length : int
        Of the kernel's first input.
    grid, threadgroup : tuple of int
        As launched.
    """

    template: Mapping[str, int]
    type: str
    rows: int
    length: int
    grid: Triple
    threadgroup: Triple

    @property
    def width(self) -> int:
        """Threads that share a row."""
        return self.template["W"]

    @property
    def holds(self) -> int:
        """Values of a row that its threads hold in registers."""
        return self.template["K"] * self.width * self.template["N"]

    @property
    def packed(self) -> bool:
        """Whether chunks move in one access."""
        return bool(self.template["PACKED"])

    @property
    def is_ragged(self) -> bool:
        """Whether the last chunk of a row is not whole."""
        return self.length % self.template["N"] != 0

    @property
    def together(self) -> int:
        """Rows that a threadgroup works on at a time."""
        return self.threadgroup[0] // self.width

    @property
    def rows_at_once(self) -> int:
        """Rows that the grid has threads for."""
        return self.grid[0] // self.width

    @property
    def run(self) -> int:
        """Rows that a threadgroup adds up, of a kernel that also adds up over rows."""
        return -(-self.rows // (self.grid[0] // self.threadgroup[0]))


Test = Callable[[RowLaunch], bool]

# Each type is unpacked in a way of its own.
_MOVES: dict[str, Test] = {
    "packed float32": lambda at: at.packed and at.type == "float",
    "packed float16": lambda at: at.packed and at.type == "float16_t",
    "packed bfloat16": lambda at: at.packed and at.type == "bfloat16_t",
    "not packed": lambda at: not at.packed,
    "ragged": lambda at: at.is_ragged,
    "whole chunks": lambda at: not at.is_ragged,
}

#: Kind of kernel to its paths. What a kernel of the kind has, one launch or another must take.
PATHS: dict[str, dict[str, Test]] = {
    # One row a team: `K` chunks of it are held.
    "row": {
        **_MOVES,
        "one thread": lambda at: at.width == 1,
        "team in a simdgroup": lambda at: 1 < at.width <= 32,
        "wide team": lambda at: at.width > 32,
        "nothing held": lambda at: at.holds == 0,
        "held in part": lambda at: at.holds > 0 and (at.length < at.holds or at.is_ragged),
        "held whole": lambda at: 0 < at.holds <= at.length and not at.is_ragged,
        "held whole, packed": lambda at: 0 < at.holds <= at.length and not at.is_ragged and at.packed,
        "held whole, wide team": lambda at: 0 < at.holds <= at.length and not at.is_ragged and at.width > 32,
        "longer than held": lambda at: 0 < at.holds < at.length,
        "threads without a row": lambda at: at.rows % at.together != 0,
        "rows beyond the grid": lambda at: at.rows > at.rows_at_once,
    },
    # The weights' gradients: a run of rows that are held, and so are their sums.
    "run": {
        **_MOVES,
        "one simdgroup": lambda at: at.width == 32,
        "wide team": lambda at: at.width > 32,
        "held in part": lambda at: at.length != at.holds,
        "held whole": lambda at: at.length == at.holds,
        "several rows": lambda at: at.run > 1,
    },
    # The same where they are not: blocks of rows, whose sums go to memory.
    "block": {
        **_MOVES,
        "one thread": lambda at: at.width == 1,
        "one simdgroup": lambda at: at.width == 32,
        "wide team": lambda at: at.width > 32,
        "a block in part": lambda at: at.run % at.template["BLOCK"] != 0,
        "several blocks": lambda at: at.run > at.template["BLOCK"],
    },
    # The sum of those over the threadgroups.
    "column": {
        "one thread": lambda at: at.width == 1,
        "shared by threads": lambda at: at.width > 1,
        "packed": lambda at: at.packed,
        "not packed": lambda at: not at.packed,
    },
    # Elementwise: a span of chunks a thread.
    "span": {
        **_MOVES,
        "one chunk a thread": lambda at: at.template["S"] == 1,
        "several chunks a thread": lambda at: at.template["S"] > 1,
        "several threads a row": lambda at: at.grid[0] > 1,
        "rows beyond the grid": lambda at: at.rows > at.grid[1],
    },
}

#: Which template argument tells the kind; the first that the kernel has.
_KIND_BY = {"K": "row", "BLOCK": "block", "S": "span", "W": "column"}


def paths_of(record: LaunchRecord, shape: tuple[int, ...]) -> tuple[str, ...]:
    """The paths of one launch, such as "row: held whole"; none for a kernel that does not work on rows.

    Parameters
    ----------
    record : LaunchRecord
        Of a call of a kernel of the catalogue.
    shape : tuple of int
        Of the operation's first argument; with elements. A span kernel takes a row in two halves.
    """
    given = record.signature.template
    template = {a.name: int(a.value) for a in given if a.kind != "typename"}
    type_ = next((a.value for a in given if a.name == "T"), "")
    kind = next((kind for name, kind in _KIND_BY.items() if name in template), None)
    if kind is None:
        return ()
    if kind == "row" and "partial" in record.kernel.output_names:
        kind = "run"
    rows, length = 1, shape[-1]
    for extent in shape[:-1]:
        rows *= extent
    if kind == "span":
        length //= 2
    launch = RowLaunch(template, type_, rows, length, record.grid, record.threadgroup)
    return tuple(f"{kind}: {path}" for path, takes in PATHS[kind].items() if takes(launch))


def unreached(kinds: Iterable[str], counts: Counter[str]) -> list[str]:
    """The paths of some kinds of kernel that no launch took."""
    return [f"{kind}: {path}" for kind in kinds for path in PATHS[kind] if not counts[f"{kind}: {path}"]]
