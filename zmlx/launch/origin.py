"""Where a kernel was made."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from zmlx.errors import KernelCompileError, TranslationError
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


#: A place in the message of a `KernelCompileError` or a `TranslationError`.
_PLACE = re.compile(
    r"^(?:  |\[metal_kernel\] '\w*', )(?P<part>header|source) line (?P<line>\d+)(?=: )", re.MULTILINE
)


def with_places(
    error: KernelCompileError | TranslationError, kernel: KernelSource, origin: Origin | None
) -> KernelCompileError | TranslationError:
    """The error with file and line of each place that is found in the file which made the kernel; where none is, with
    the file and line on which it is made."""
    if origin is None:
        return error
    found = False

    def located(match: re.Match[str]) -> str:
        nonlocal found
        text = kernel.source if match["part"] == "source" else kernel.header
        number = int(match["line"])
        lines = text.split("\n")
        quoted = lines[number - 1].strip() if 0 < number <= len(lines) else ""
        line = line_in_file(origin.file, text, number, quoted)
        found |= line is not None
        return match[0] if line is None else f"{match[0]} ({origin.file}:{line})"

    message = _PLACE.sub(located, str(error))
    if not found:
        message += f"\nThe kernel is made in {origin.file}:{origin.line}."
    if isinstance(error, KernelCompileError):
        return KernelCompileError(message, error.log)
    return TranslationError(message)
