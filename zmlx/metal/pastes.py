"""Names that a kernel's macros make with ``##``: ``simd_##op`` of ``REDUCE(sum, v)`` is ``simd_sum``.

What a kernel uses decides how it runs, so that a name which only the preprocessor sees has to be known as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from zmlx.metal.structure import Fragment, Macro, Program


def chains(fragment: Fragment) -> Iterator[tuple[int, int]]:
    """First and last token of what ``##`` puts together in a macro's body."""
    if fragment.macro is None or "##" not in fragment.texts:
        return
    index = 0
    while index < len(fragment):
        last = index
        while fragment.text(last + 1) == "##" and last + 2 < len(fragment):
            last += 2
        if last > index:
            yield index, last
        index = last + 1


def pasted_names(program: Program) -> Mapping[tuple[str, int], frozenset[str]]:
    """The names that each chain makes, over all calls of its macro: by macro and first token of the chain.

    Arguments of more than one token, which make no name, are left out.
    """

    def environments(macro: Macro, within: frozenset[str]) -> Iterator[dict[str, str]]:
        """The macro's parameters with their arguments, for each of its calls. ``within`` are macros around it."""
        for fragment in program.fragments:
            caller = fragment.macro
            if caller is not None and caller.name in within:
                continue  # the preprocessor does not expand a macro within itself
            for index in range(len(fragment)):
                if fragment.text(index) != macro.name or fragment.text(index + 1) != "(":
                    continue
                given = dict(zip(macro.parameters or (), _arguments(fragment, index + 1), strict=False))
                if caller is None or not caller.parameters:
                    yield given
                    continue
                for outer in environments(caller, within | {caller.name}):
                    yield {name: outer.get(text, text) for name, text in given.items()}

    made: dict[tuple[str, int], frozenset[str]] = {}
    for macro in program.macros.values():
        places = list(chains(macro.body))
        calls = list(environments(macro, frozenset({macro.name}))) if places else []
        for first, last in places:
            parts = [macro.body.text(i) for i in range(first, last + 1, 2)]
            names = {"".join(call.get(part, part) for part in parts) for call in calls}
            made[macro.name, first] = frozenset(name for name in names if name.isidentifier())
    return MappingProxyType(made)


def _arguments(fragment: Fragment, opened: int) -> list[str]:
    """The arguments of a macro call that are a single token; an empty text for each of the others."""
    closed, found, start = fragment.partner(opened), [], opened + 1
    index = start
    while index <= closed:
        if index == closed or fragment.text(index) == ",":
            found.append(fragment.text(start) if index == start + 1 else "")
            start = index + 1
        index = fragment.skip_group(index) if index < closed else index + 1
    return found
