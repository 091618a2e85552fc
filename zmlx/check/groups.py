"""Threadgroups that MLX makes smaller than the call asks for.

A threadgroup is never larger than the grid: of ``threadgroup=(256, 1, 1)`` and ``grid=(100, 1, 1)`` 100 threads are
left. A kernel that asks for the size (``threads_per_threadgroup``) follows. One whose threads work together, and that
has the size it was written for as a number in its text, counts on threads that are not there.
"""

from __future__ import annotations

import re

from zmlx.check.findings import Finding
from zmlx.launch.records import Triple, launched_group
from zmlx.metal.signature import Signature

_ASKS = re.compile(r"\b(?:dispatch_)?threads_per_threadgroup\b|\bthreads_per_grid\b|\bgrid_size\b")
_INTEGER = re.compile(r"(?<![\w.])(\d+)[uUlL]*(?![\w.])")


def clamped(signature: Signature, grid: Triple, asked: Triple, meets: bool) -> list[Finding]:
    """The finding on a launch whose threadgroup is cut to the grid under a kernel that counts on its size."""
    group = launched_group(grid, asked)
    if not meets or 0 in grid or group == asked:
        return []
    kernel = signature.kernel
    text = f"{kernel.source}\n{kernel.header}"
    if _ASKS.search(text):
        return []
    numbers = {int(match[1]) for match in _INTEGER.finditer(f"{text} {signature.template_arguments}")}
    total, left = (a * b * c for a, b, c in (asked, group))
    sizes = {a for a, g in zip(asked, group, strict=True) if g < a} | {total}
    named = sorted(numbers & {size for size in sizes if size > 1})
    if not named:
        return []
    message = (
        f"counts on threadgroups of {named[-1]} threads, as threadgroup={asked} asks for; grid={grid} leaves {left}: "
        "MLX makes a threadgroup no larger than the grid"
    )
    advice = "make the grid a multiple of the threadgroup, or let the kernel use threads_per_threadgroup."
    return [Finding("threadgroup-clamped", kernel.name, message, advice)]
