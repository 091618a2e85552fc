"""Attributes and qualifiers that only Metal's compiler reads: ``[[threadgroup(0)]]``, ``coherent(device)``."""

from __future__ import annotations

from zmlx.metal.signature import ATTRIBUTES
from zmlx.metal.structure import Fragment, Program

#: Attributes of parameters and functions that say where an argument comes from, or how the function is compiled.
METAL_ATTRIBUTES = frozenset(ATTRIBUTES) | {
    "buffer",
    "color",
    "function_constant",
    "host_name",
    "id",
    "max_total_threads_per_threadgroup",
    "position",
    "sampler",
    "stage_in",
    "texture",
    "threadgroup",
    "user",
}


def erase_attributes(program: Program) -> None:
    """Remove what C++ does not know, between ``[[`` and ``]]`` and of memory's coherence."""
    for fragment in program.fragments:
        for index in range(len(fragment)):
            if _opens_attributes(fragment, index):
                fragment.erase(index, fragment.partner(index))
            elif fragment.text(index) == "coherent" and fragment.text(index + 1) == "(":
                fragment.erase(index, max(fragment.partner(index + 1), index))


def _opens_attributes(fragment: Fragment, index: int) -> bool:
    """Whether ``[[`` begins at ``index`` with one of Metal's attributes among what it lists."""
    if fragment.text(index) != "[" or fragment.text(index + 1) != "[":
        return False
    closed = fragment.partner(index)
    if closed < 0 or fragment.partner(index + 1) != closed - 1:
        return False
    return any(
        fragment.text(first) in METAL_ATTRIBUTES for first, _ in fragment.pieces(index + 2, closed - 2)
    )
