"""Kernels, and other entry points, that a header holds: nobody launches them, so they go.

As in MLX's own headers, where kernels stand beside the functions that they are made of. Macros that make such
functions, or name their instances, are left without a body.
"""

from __future__ import annotations

from collections.abc import Set

from zmlx.metal.declarations import declarations
from zmlx.metal.structure import Fragment, Program

#: What makes a function an entry point, in front of its type or as an attribute.
ENTRIES = ("kernel", "vertex", "fragment")


def drop_entries(program: Program) -> None:
    """Remove the entry points of the header, their declarations and explicit instantiations; line breaks stay."""
    for macro in program.header.macros:
        if any(makes_entry(macro.body, index) for index in macro.body.places(*ENTRIES)):
            macro.body.erase(0, len(macro.body) - 1)
    header = program.header.main
    marks = [index for index in header.places(*ENTRIES) if makes_entry(header, index)]
    if not marks:
        return
    declared = [d for d in declarations(header) if d.kind == "function"]
    names = {d.name for d in declared if any(d.first <= index <= d.body[0] for index in marks)}
    functions = [(d.first, d.body[1]) for d in declared]
    for index in marks:
        first, last = next(
            ((first, last) for first, last in functions if first <= index <= last), _statement(header, index)
        )
        if header.text(last) in (";", "}"):
            header.erase(first, last)
    _drop_types(header, names)


def _drop_types(header: Fragment, names: Set[str]) -> None:
    """Remove ``typedef decltype(f<float>) f_t;``, of which instantiations of an entry point are made."""
    for index in header.places("decltype"):
        if header.text(index + 2) in names:
            first, last = _statement(header, index)
            if header.text(first) in ("typedef", "using") and header.text(last) == ";":
                header.erase(first, last)


def makes_entry(fragment: Fragment, index: int) -> bool:
    """Whether ``kernel void f`` or ``[[kernel]]`` stands at ``index``, and no variable of that name."""
    if fragment.text(index) not in ENTRIES or fragment.text(index - 1) in (".", "->", "::"):
        return False
    inner = fragment.parent(index)
    if fragment.text(inner) == "[":
        return fragment.text(inner - 1) == "[" and fragment.text(index + 1) in (",", "]")
    return fragment.is_name(index + 1)


def _statement(fragment: Fragment, index: int) -> tuple[int, int]:
    """The range of a declaration without a body: what ``index`` is in, from one semicolon or brace to the next."""
    while fragment.parent(index) >= 0 and fragment.text(fragment.parent(index)) == "[":
        index = fragment.parent(index)
    first = last = index
    while first > 0 and fragment.text(first - 1) not in (";", "{", "}"):
        first -= 1
    while last < len(fragment) - 1 and fragment.text(last) not in (";", "{"):
        last = fragment.skip_group(last)
    return first, last
