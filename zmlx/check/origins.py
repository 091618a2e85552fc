"""Where in the author's own files the lines of a kernel are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from zmlx.check.findings import Access, Finding
from zmlx.check.symbolize import Place
from zmlx.launch.origin import Origin
from zmlx.metal.signature import KernelSource


def with_files(findings: Sequence[Finding], kernel: KernelSource, origin: Origin | None) -> list[Finding]:
    """The findings with the file and line of each place, where the kernel's text is found in its author's file."""
    if origin is None:
        return list(findings)
    return [
        replace(
            f,
            accesses=tuple(_with_file(access, kernel, origin) for access in f.accesses),
            origin=(origin.file, origin.line),
        )
        for f in findings
    ]


def _with_file(access: Access, kernel: KernelSource, origin: Origin) -> Access:
    place = access.place
    if place.line is None:
        return access
    line = _line_in_file(origin.file, kernel.source if place.part == "source" else kernel.header, place)
    return access if line is None else replace(access, place=replace(place, file=origin.file, file_line=line))


@lru_cache(maxsize=1024)
def _line_in_file(file: str, text: str, place: Place) -> int | None:
    """The file's line that is line ``place.line`` of ``text``.

    The text as it stands is looked for first; a text that was put together (an f-string, joined parts) has at least
    lines that are in the file once.
    """
    written = _read(file)
    assert place.line is not None
    if written.count(text) == 1 and text.strip():
        return written[: written.index(text)].count("\n") + place.line
    lines = [number for number, line in enumerate(written.split("\n"), 1) if line.strip() == place.text]
    return lines[0] if len(lines) == 1 and place.text else None


@lru_cache(maxsize=64)
def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
