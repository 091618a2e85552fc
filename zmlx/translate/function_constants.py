"""``constant bool causal [[function_constant(0)]];``: a value that a pipeline is given.

MLX's `metal_kernel` gives none. Where code asks whether it is given (``is_function_constant_defined``), the answer is
no; a constant that the kernel does not reach is as good as any; what it needs is refused, with how to give it.
"""

from __future__ import annotations

from collections.abc import Iterator

from zmlx.metal.declarations import used_names
from zmlx.metal.structure import Fragment, Program

FUNCTION_CONSTANT = "function_constant"
_IS_DEFINED = "is_function_constant_defined"


def needed_constants(program: Program) -> Iterator[tuple[Fragment, int, str]]:
    """The function constants that the kernel reaches without asking whether they are there: where the attribute stands,
    and the name."""
    declared = list(_declared(program))
    if not declared:
        return
    rest = Program(*(source.render() for source in program.sources))
    for fragment, index, _ in _declared(rest):
        opened = fragment.parent(fragment.parent(index))
        fragment.erase(opened - 1, fragment.partner(opened))
    reached = used_names(Program(*(source.render() for source in rest.sources)))
    asked = {fragment.text(index + 2) for fragment, index in _asked(program)}
    for fragment, index, name in declared:
        if name in reached and name not in asked:
            yield fragment, index, name


def define_constants(program: Program) -> None:
    """Make of each a constant of the value zero, and answer who asks."""
    for fragment, index in _asked(program):
        fragment.replace(index, fragment.partner(index + 1), "false")
    for fragment, index, _ in _declared(program):
        opened = fragment.parent(fragment.parent(index))
        fragment.replace(opened, fragment.partner(opened), " = {}")


def _declared(program: Program) -> Iterator[tuple[Fragment, int, str]]:
    """Declarations of function constants. An attribute of a parameter has a name in its parentheses, not a number."""
    for fragment in program.fragments:
        for index in fragment.places(FUNCTION_CONSTANT):
            if fragment.text(index + 1) != "(":
                continue
            outer = fragment.parent(fragment.parent(index))
            if outer >= 0 and fragment.parent(outer) < 0 and fragment.is_name(outer - 1):
                yield fragment, index, fragment.text(outer - 1)


def _asked(program: Program) -> Iterator[tuple[Fragment, int]]:
    for fragment in program.fragments:
        for index in fragment.places(_IS_DEFINED):
            if fragment.partner(index + 1) == index + 3:
                yield fragment, index
