"""What the checker found, as objects and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from zmlx._text import count
from zmlx.check.symbolize import NO_PLACE, Place
from zmlx.errors import KernelError
from zmlx.launch.records import Triple

#: The kinds of findings, with the severity that reports give them and one line on what each is.
KINDS = {
    "out-of-bounds": ("error", "memory outside of its array is read or written"),
    "data-race": ("error", "two threads access the same memory, one writes, and nothing orders them"),
    "uninitialized": (
        "error",
        "memory is read before anything was written to it, or an output is never written",
    ),
    "barrier-divergence": ("error", "not all threads that must meet at a barrier reach it"),
    "memory-order": ("error", "a barrier's mem_flags do not cover the memory exchanged through it"),
    "misaligned": ("error", "memory is accessed at an address that its type does not allow"),
    "inactive-lane": ("error", "a shuffle or broadcast reads from a lane that takes no part"),
    "threadgroup-clamped": ("error", "a kernel counts on a larger threadgroup than the grid leaves"),
    "arithmetic": ("warning", "a result that Metal leaves undefined, or NaN out of finite numbers"),
    "schedule-dependent": ("error", "the outputs depend on the order in which threads run"),
    "metal-lint": ("warning", "C++ that Metal refuses or leaves undefined"),
    "not-metal": ("error", "Metal's compiler refuses it"),
    "stopped": ("error", "the kernel did not end by itself"),
}


@dataclass(frozen=True)
class ThreadPosition:
    """Where a thread stands in its launch."""

    thread: int
    lane: int
    simdgroup: int
    threadgroup: Triple
    position_in_threadgroup: Triple
    position_in_grid: Triple

    def __str__(self) -> str:
        return (
            f"thread {self.thread} (lane {self.lane} of simdgroup {self.simdgroup}, threadgroup "
            f"{self.threadgroup}, thread_position_in_grid {self.position_in_grid})"
        )


@dataclass(frozen=True)
class Access:
    """One of the events that a finding is about: a line, a thread, and what it did there.

    ``what`` is a verb and the rest after it; without a thread, a sentence of its own.
    """

    what: str
    place: Place = NO_PLACE
    thread: ThreadPosition | None = None

    def lines(self) -> list[str]:
        found = []
        if self.place.line is not None:
            found.append(f"  {self.place}: {self.place.text}")
        found.append(f"    {self.what}" if self.thread is None else f"    {self.thread} {self.what}")
        return found


@dataclass(frozen=True)
class Finding:
    """One finding of a checked launch.

    Attributes
    ----------
    kind
        One of `KINDS`.
    kernel
        The kernel's name.
    message
        What happened, in one sentence.
    advice
        What to change.
    accesses
        The events it consists of: one, or two for a race, the later one first.
    array, index
        The array and, as text, the element: ``"17"``, or ``"1][5"`` in an array of two dimensions.
    count
        How often the same was found in the launch.
    origin
        File and line on which the kernel was made.
    """

    kind: str
    kernel: str
    message: str
    advice: str = ""
    accesses: tuple[Access, ...] = ()
    array: str = ""
    index: str = ""
    count: int = 1
    notes: tuple[str, ...] = field(default=(), compare=False)
    origin: tuple[str, int] | None = field(default=None, compare=False)

    @property
    def place(self) -> Place:
        """The first line that the finding is about."""
        return self.accesses[0].place if self.accesses else NO_PLACE

    @property
    def part(self) -> str:
        """``"source"`` or ``"header"``: which of the kernel's texts `line` counts in."""
        return self.place.part

    @property
    def line(self) -> int | None:
        """The line, counted from 1; None where there is none, as for an element that is never written."""
        return self.place.line

    @property
    def source_line(self) -> str:
        """The text of that line."""
        return self.place.text

    @property
    def lines(self) -> tuple[int, ...]:
        """The lines of all accesses."""
        return tuple(a.place.line for a in self.accesses if a.place.line is not None)

    @property
    def threads(self) -> tuple[ThreadPosition, ...]:
        """The threads of all accesses."""
        return tuple(a.thread for a in self.accesses if a.thread is not None)

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes two findings the same: whichever of two accesses came first."""
        places = sorted((a.place.part, a.place.line or 0) for a in self.accesses)
        return (self.kind, self.kernel, self.array, *places)

    @property
    def severity(self) -> str:
        return KINDS[self.kind][0]

    def __str__(self) -> str:
        lines = [f"{self.kind} in kernel {self.kernel!r}: {self.message}"]
        for access in self.accesses:
            lines += access.lines()
        if self.line is None and self.origin is not None:
            lines.append(f"  The kernel is made in {self.origin[0]}:{self.origin[1]}.")
        lines += [f"  {note}" for note in self.notes]
        if self.count > 1:
            lines.append(f"  Found {self.count} times in this launch; this is the first.")
        if self.advice:
            lines.append(f"  What to do: {self.advice}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {
            "kind": self.kind,
            "kernel": self.kernel,
            "message": self.message,
            "advice": self.advice,
            "array": self.array,
            "index": self.index,
            "count": self.count,
            "notes": list(self.notes),
            "accesses": [
                {
                    "what": access.what,
                    "part": access.place.part,
                    "line": access.place.line,
                    "source_line": access.place.text,
                    "file": access.place.file or None,
                    "file_line": access.place.file_line,
                    "thread": None
                    if access.thread is None
                    else {
                        "thread_index_in_threadgroup": access.thread.thread,
                        "lane": access.thread.lane,
                        "simdgroup": access.thread.simdgroup,
                        "threadgroup_position_in_grid": list(access.thread.threadgroup),
                        "thread_position_in_threadgroup": list(access.thread.position_in_threadgroup),
                        "thread_position_in_grid": list(access.thread.position_in_grid),
                    },
                }
                for access in self.accesses
            ],
        }


class KernelCheckError(KernelError):
    """A checked launch had findings; they are in ``findings``."""

    def __init__(self, message: str, findings: Sequence[Finding] = ()) -> None:
        super().__init__(message)
        self.findings = list(findings)


_COLOURS = {"error": "\033[1;31m", "warning": "\033[1;33m"}


def render(findings: Sequence[Finding], colour: bool = False) -> str:
    """All findings as text, one block each."""
    blocks = []
    for finding in findings:
        text = str(finding)
        if colour:
            head, newline, rest = text.partition("\n")
            text = f"{_COLOURS[finding.severity]}{head}\033[0m{newline}{rest}"
        blocks.append(text)
    return "\n\n".join(blocks)


def summarize(findings: Iterable[Finding]) -> str:
    """``3 findings: 2 data-race, 1 out-of-bounds``."""
    counts = Counter(finding.kind for finding in findings)
    total = sum(counts.values())
    if not total:
        return "no finding"
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    return f"{count(total, 'finding')}: {kinds}"
