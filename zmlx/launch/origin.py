"""Where a kernel was made."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from zmlx.errors import KernelCompileError
from zmlx.metal.signature import KernelSource


@dataclass(frozen=True)
class Origin:
    """The Python file and line on which a kernel was made."""

    file: str
    line: int


def caller_origin(depth: int) -> Origin:
    """The file and line of the caller ``depth`` frames up."""
    frame = sys._getframe(depth + 1)
    return Origin(frame.f_code.co_filename, frame.f_lineno)


@lru_cache(maxsize=1024)
def line_in_file(file: str, text: str, line: int, quoted: str) -> int | None:
    """The file's line that is line ``line`` of a kernel's ``text``; ``quoted`` is that line, stripped.

    The text as it stands is looked for first; a text that was put together (an f-string, joined parts) has at least
    lines that are in the file once.
    """
    written = _read(file)
    if written.count(text) == 1 and text.strip():
        return written[: written.index(text)].count("\n") + line
    lines = [number for number, found in enumerate(written.split("\n"), 1) if found.strip() == quoted]
    return lines[0] if len(lines) == 1 and quoted else None


@lru_cache(maxsize=64)
def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


#: A place in the message of a `KernelCompileError`, with the quoted line behind it.
_PLACE = re.compile(
    r"^  (?P<part>header|source) line (?P<line>\d+)(?=: .*\n    (?P<quoted>.*)$)", re.MULTILINE
)


def with_places(error: KernelCompileError, kernel: KernelSource, origin: Origin | None) -> KernelCompileError:
    """The error with file and line of each place that is found in the file which made the kernel."""
    if origin is None:
        return error

    def located(match: re.Match[str]) -> str:
        text = kernel.source if match["part"] == "source" else kernel.header
        line = line_in_file(origin.file, text, int(match["line"]), match["quoted"])
        return match[0] if line is None else f"{match[0]} ({origin.file}:{line})"

    return KernelCompileError(_PLACE.sub(located, str(error)), error.log)
