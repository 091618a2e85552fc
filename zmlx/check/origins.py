"""Where in the author's own files the lines of a kernel are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zmlx.check.findings import Access, Finding
from zmlx.launch.origin import Origin, line_in_file
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
    text = kernel.source if place.part == "source" else kernel.header
    line = line_in_file(origin.file, text, place.line, place.text)
    return access if line is None else replace(access, place=replace(place, file=origin.file, file_line=line))
