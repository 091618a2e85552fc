"""Random kernels without a race, and mutations that plant one.

A kernel is a sequence of phases over one value a thread. Each phase hands the value to another thread in one of the
ways that kernels do (threadgroup memory and barriers, simd operations, device memory, atomics), with every barrier in
place, so that whatever comes next is right too.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# A hand-over lies between what one thread writes and another reads. The other barriers only let the memory be used
# again, and are needed only if it is.
HAND_OVER = "  // hand-over"
TG = "threadgroup_barrier(mem_flags::mem_threadgroup);"
DEVICE = "threadgroup_barrier(mem_flags::mem_device);"
SIMD = "simdgroup_barrier(mem_flags::mem_threadgroup);"
TG_OVER, DEVICE_OVER, SIMD_OVER = TG + HAND_OVER, DEVICE + HAND_OVER, SIMD + HAND_OVER


@dataclass(frozen=True)
class Kernel:
    """The source, and the size of its threadgroups; it is launched with two of them."""

    source: str
    group: int


@dataclass(frozen=True)
class Mutation:
    """A wrong kernel and what was done to it."""

    what: str
    kernel: Kernel


class _Writer:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.group = self.random.choice((32, 64, 96, 128))
        self.arrays = self.random.choice((1, 2))

    def array(self) -> str:
        return f"s{self.random.randrange(self.arrays)}"

    def index(self, within: int | None = None) -> str:
        """A permutation of the threads; within blocks of ``within`` threads if given."""
        if within:
            return f"i ^ {self.random.randrange(1, within)}"
        shift = self.random.randrange(1, self.group)
        return self.random.choice(
            (
                f"(i + {shift}) % G",
                "G - 1 - i",
                f"i ^ {self.random.randrange(1, 32)}",
                f"(i * 5 + {shift}) % G",
            )
            if self.group % 5
            else (f"(i + {shift}) % G", "G - 1 - i")
        )

    def exchange(self) -> list[str]:
        s = self.array()
        return [f"{s}[{self.index()}] = v;", TG_OVER, f"v = 0.5f * v + {s}[{self.index()}];", TG]

    def repeated_exchange(self) -> list[str]:
        inner = [f"  {line}" for line in self.exchange()]
        return [f"for (uint r = 0; r < {self.random.randrange(2, 4)}; ++r) {{", *inner, "}"]

    def tree(self) -> list[str]:
        s = self.array()
        half = 1 << (self.group - 1).bit_length() - 1
        return [
            f"{s}[i] = v;",
            TG_OVER,
            f"for (uint k = {half}; k > 0; k /= 2) {{",
            f"  if (i < k && i + k < G) {s}[i] += {s}[i + k];",
            f"  {TG_OVER}",
            "}",
            f"v += {s}[0];",
            TG,
        ]

    def simd_exchange(self) -> list[str]:
        s = self.array()
        return [f"{s}[i] = v;", SIMD_OVER, f"v += {s}[{self.index(32)}];", TG]

    def shuffle(self) -> list[str]:
        return [f"v += simd_shuffle_xor(v, {self.random.choice((1, 2, 4, 8, 16))});"]

    def reduction(self) -> list[str]:
        return [f"v = {self.random.choice(('simd_sum(v)', 'simd_max(v)', 'simd_min(v) + v'))};"]

    def two_level_sum(self) -> list[str]:
        s = self.array()
        return [
            "v = simd_sum(v);",
            f"if (i % 32 == 0) {s}[i / 32] = v;",
            TG_OVER,
            f"v = simd_sum(i % 32 < G / 32 ? {s}[i % 32] : 0.0f);",
            TG,
        ]

    def broadcast(self) -> list[str]:
        return [f"if (i == {self.random.randrange(self.group)}) t = v;", TG_OVER, "v += t;", TG]

    def through_device(self) -> list[str]:
        return [
            f"out[base + ({self.index()})] = v;",
            DEVICE_OVER,
            f"v += out[base + ({self.index()})];",
            DEVICE,
        ]

    def counter(self) -> list[str]:
        return [
            "if (i == 0) atomic_store_explicit(&c, 0, memory_order_relaxed);",
            TG_OVER,
            "atomic_fetch_add_explicit(&c, 1, memory_order_relaxed);",
            TG_OVER,
            "v += atomic_load_explicit(&c, memory_order_relaxed);",
            TG,
        ]

    def own_array(self) -> list[str]:
        return [
            "{",
            "  float a[4];",
            "  for (uint k = 0; k < 4; ++k) a[k] = v * k;",
            "  v = a[i % 4] + a[(i + 1) % 4];",
            "}",
        ]

    def branch(self) -> list[str]:
        return [f"if (i < {self.random.randrange(1, self.group)}) v += 1;"]


_PHASES: tuple[Callable[[_Writer], list[str]], ...] = (
    _Writer.exchange,
    _Writer.repeated_exchange,
    _Writer.tree,
    _Writer.simd_exchange,
    _Writer.shuffle,
    _Writer.reduction,
    _Writer.two_level_sum,
    _Writer.broadcast,
    _Writer.through_device,
    _Writer.counter,
    _Writer.own_array,
    _Writer.branch,
)


def make_kernel(seed: int) -> Kernel:
    """The race-free kernel of a seed."""
    writer = _Writer(seed)
    lines = [
        f"constexpr uint G = {writer.group};",
        "uint i = thread_position_in_threadgroup.x;",
        "uint base = threadgroup_position_in_grid.x * G;",
        *(f"threadgroup float s{k}[G];" for k in range(writer.arrays)),
        "threadgroup float t;",
        "threadgroup atomic_int c;",
        "float v = x[base + i];",
    ]
    for _ in range(writer.random.randrange(2, 6)):
        lines += writer.random.choice(_PHASES)(writer)
    # The last value goes where only this thread has been since the last barrier that covers the output.
    lines += [DEVICE, "out[base + i] = v;"]
    return Kernel("\n".join(lines), writer.group)


def mutations(kernel: Kernel) -> Iterator[Mutation]:
    """Every single change of a kernel that makes it wrong, or may do so."""
    lines = kernel.source.split("\n")

    def with_line(number: int, text: str, what: str) -> Mutation:
        return Mutation(what, Kernel("\n".join([*lines[:number], text, *lines[number + 1 :]]), kernel.group))

    for number, line in enumerate(lines):
        if "_barrier(" in line:
            role = "hand-over" if HAND_OVER in line else "reuse"
            yield with_line(number, "", f"{role} barrier removed")
            yield with_line(
                number,
                re.sub(r"mem_flags::\w+", "mem_flags::mem_none", line),
                f"{role} barrier with mem_none",
            )
            if "threadgroup_barrier" in line:
                weaker = line.replace("threadgroup_barrier", "simdgroup_barrier")
                yield with_line(number, weaker, f"{role} barrier only of simdgroups")
                yield with_line(number, f"if (i < {kernel.group - 3}) {line.strip()}", "barrier in a branch")
        for match in re.finditer(r"(?:s\d|out)\[(?P<index>[^\]]+)\]", line):
            if line.startswith("threadgroup"):
                continue
            index = match["index"]
            changed = line[: match.start("index")] + f"({index}) + 1" + line[match.end("index") :]
            yield with_line(number, changed, "index off by one")
        if "simd_shuffle_xor" in line:
            yield with_line(
                number, re.sub(r", (\d+)\)", lambda m: f", {int(m[1]) ^ 31})", line), "swapped lane"
            )
        if re.match(r"if \(i == \d+\) t = v;", line):
            yield with_line(number, re.sub(r"i == (\d+)", r"i / 2 == \1 / 2", line), "second writer")
        if line.startswith("if (i == 0) atomic_store"):
            yield with_line(number, "", "counter not set")
