"""Variables of a thread that are read before they have a value, found by running a kernel twice.

The compiler can fill variables without an initialiser with zeros, or with a pattern. A kernel that reads one computes
different outputs, or goes wrong in only one of the two. No warning is needed for that, so there are no false ones;
warnings and declarations only say which kernels are worth it, and which variable may be meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from zmlx.metal.signature import KernelSource

#: Both fillings, as flags of GCC (12 and newer) and clang (16 and newer).
FILLINGS = ("-ftrivial-auto-var-init=zero", "-ftrivial-auto-var-init=pattern")

#: ``float best[4];``, at the beginning of a statement.
_ARRAY = re.compile(
    r"(?:^|[;{}])\s*(?P<type>[A-Za-z_][\w:]*(?:\s*<[^;<>]*>)?(?:\s+[A-Za-z_]\w*)*?)\s+"
    r"(?P<name>[A-Za-z_]\w*)\s*(?:\[[^\[\];]*\])+\s*;"
)
_NOT_LOCAL = frozenset({"threadgroup", "device", "constant", "return", "typedef", "using", "else", "goto"})

#: ``<kernel> source:3:7: warning: 'v' may be used uninitialized``, as g++ and clang say it.
_MAYBE = re.compile(
    r"(?P<file>[^:]* (?:source|header)):(?P<line>\d+)(?::\d+)?: warning: "
    r".*?['\u2018](?P<name>[A-Za-z_]\w*)[^'\u2019]*['\u2019] (?:may be|is) (?:used )?uninitialized"
)


@dataclass(frozen=True)
class Suspect:
    """A variable that may be read unset, and a line that says so: its use, or its declaration."""

    name: str
    part: str
    line: int
    declared: bool


def suspects(kernel: KernelSource, warnings: str) -> list[Suspect]:
    """The variables of a kernel's text that may lack a value when they are read."""
    found = []
    for line in warnings.splitlines():
        match = _MAYBE.search(line)
        if match is not None and match["file"].startswith(kernel.name) and is_doubtful(line):
            found.append(Suspect(match["name"], match["file"].rpartition(" ")[2], int(match["line"]), False))
    for part, text in (("source", kernel.source), ("header", kernel.header)):
        for number, line in enumerate(text.split("\n"), 1):
            for match in _ARRAY.finditer(line):
                if not _NOT_LOCAL & set(re.findall(r"\w+", match["type"])):
                    found.append(Suspect(match["name"], part, number, True))
    return found


def is_doubtful(warning: str) -> bool:
    """Whether the compiler says only that a variable may have no value, on some way through the code."""
    return " may be " in warning or "maybe-uninitialized" in warning or "sometimes-uninitialized" in warning
