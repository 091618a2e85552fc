"""Places in a checked kernel's code as lines of its source, with the calls that were inlined there.

=====================  ============================================================
macOS                  ``atos``, which comes with the developer tools
``addr2line``          GNU binutils; comes with g++
``llvm-symbolizer``    LLVM; comes with most packages of clang
=====================  ============================================================
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from zmlx.metal.signature import KernelSource

NO_SYMBOLIZER = (
    "no lines: none of {names} is on PATH, which turn places in the code into lines. Install one ({hint})."
)


@dataclass(frozen=True)
class Place:
    """A line of a kernel: ``part`` is ``"source"`` or ``"header"``, or empty where the line is not known.

    ``file`` and ``file_line`` say where it is in the file that makes the kernel, if it was found there.
    """

    part: str = ""
    line: int | None = None
    text: str = ""
    file: str = ""
    file_line: int | None = None

    def __str__(self) -> str:
        if self.line is None:
            return "unknown line"
        file = f" ({self.file}:{self.file_line})" if self.file else ""
        return f"{self.part} line {self.line}{file}"


#: Where the line is not known.
NO_PLACE = Place()


@dataclass(frozen=True)
class Symbolizer:
    """A program that reads debug information.

    ``command`` gets the library and an address; ``parse`` makes ``(file, line)`` pairs of one address's output,
    innermost first.
    """

    name: str
    arguments: Callable[[str, list[str]], list[str]]
    split: Callable[[str, int], list[list[str]]]
    system: str = ""


def _blocks_by_address(output: str, _: int) -> list[list[str]]:
    """addr2line -a: every address begins a block, whose lines are functions and places in turn."""
    blocks: list[list[str]] = []
    for line in output.splitlines():
        if re.fullmatch(r"0x[0-9a-fA-F]+", line):
            blocks.append([])
        elif blocks:
            blocks[-1].append(line)
    return blocks


def _blocks_by_blank(output: str, _: int) -> list[list[str]]:
    """llvm-symbolizer and atos -i: a blank line ends the frames of an address."""
    return [block.splitlines() for block in output.strip().split("\n\n")]


SYMBOLIZERS = (
    Symbolizer(
        "atos",
        lambda library, offsets: ["-o", library, "-l", "0x0", "-i", "--fullPath", *offsets],
        _blocks_by_blank,
        "darwin",
    ),
    Symbolizer(
        "addr2line", lambda library, offsets: ["-a", "-i", "-e", library, *offsets], _blocks_by_address
    ),
    Symbolizer(
        "llvm-symbolizer",
        lambda library, offsets: [f"--obj={library}", "--inlining", "--functions=none", *offsets],
        _blocks_by_blank,
    ),
)

_FRAME = re.compile(r"(?P<file>[^()]*?) ?(?P<part>source|header):(?P<line>\d+)")


@lru_cache
def find_symbolizer() -> tuple[Symbolizer, str] | None:
    """The first of `SYMBOLIZERS` that this machine has, with its path."""
    for symbolizer in SYMBOLIZERS:
        path = shutil.which(symbolizer.name)
        if path is not None and symbolizer.system in ("", sys.platform):
            return symbolizer, path
    return None


def why_no_lines() -> str:
    """Why findings carry no lines here; empty if they do."""
    if find_symbolizer() is not None:
        return ""
    names = [s.name for s in SYMBOLIZERS if s.system in ("", sys.platform)]
    hint = "`xcode-select --install`" if sys.platform == "darwin" else "`apt install binutils`"
    return NO_SYMBOLIZER.format(names=", ".join(names), hint=hint)


class Places:
    """The places of one checked library; ask for all at once, since each question starts a program."""

    def __init__(self, kernel: KernelSource, library: Path, offsets: Iterable[int]) -> None:
        self._texts = {"source": kernel.source.split("\n"), "header": kernel.header.split("\n")}
        self._name = kernel.name
        wanted = sorted({offset for offset in offsets if offset})
        self._chains = dict(zip(wanted, self._ask(library, wanted), strict=False)) if wanted else {}

    def at(self, offset: int) -> Place:
        """The innermost line of the kernel's own text."""
        chain = self.chain(offset)
        return chain[0] if chain else NO_PLACE

    def chain(self, offset: int) -> tuple[Place, ...]:
        """All lines of the kernel's own text that led there by inlining, innermost first."""
        return self._chains.get(offset, ())

    def line(self, part: str, line: int) -> Place:
        """A line by its number."""
        lines = self._texts.get(part, [])
        return Place(part, line, lines[line - 1].strip() if 0 < line <= len(lines) else "")

    def named(self, file: str, line: int) -> Place:
        """A line of a file as the compiler calls it: ``<kernel> source``."""
        part = file.rpartition(" ")[2]
        return self.line(part, line) if part in self._texts else NO_PLACE

    def _ask(self, library: Path, offsets: list[int]) -> list[tuple[Place, ...]]:
        found = find_symbolizer()
        if found is None:
            return []
        symbolizer, path = found
        # A return address is that of the next instruction, which may be of another line.
        arguments = symbolizer.arguments(str(library), [hex(offset - 1) for offset in offsets])
        run = subprocess.run([path, *arguments], capture_output=True, text=True)
        if run.returncode != 0:
            return []
        blocks = symbolizer.split(run.stdout, len(offsets))
        return [self._places(block) for block in blocks]

    def _places(self, frames: list[str]) -> tuple[Place, ...]:
        places = []
        for frame in frames:
            match = _FRAME.search(frame)
            if match is not None and match["file"].endswith(self._name):
                places.append(self.line(match["part"], int(match["line"])))
        return tuple(places)
