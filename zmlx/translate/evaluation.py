"""What decides in an expression if, and when, a part of it is evaluated."""

from __future__ import annotations

from collections.abc import Iterator

from zmlx.metal.statements import Range
from zmlx.metal.structure import Fragment
from zmlx.translate.variables import Variables

_DECIDING = frozenset({"?", "&&", "||"})


def _levels(fragment: Fragment, index: int, span: Range) -> Iterator[tuple[int, list[str]]]:
    """From the token at ``index`` outwards: each bracket around it, and what is in front within the bracket, but for
    what stands in brackets of its own."""
    while True:
        opened = fragment.parent(index)
        ahead, i = [], max(opened + 1, span[0])
        while i < index:
            ahead.append(fragment.text(i))
            i = fragment.skip_group(i)
        yield opened, ahead
        if opened < span[0]:
            return
        index = opened


def is_conditional(fragment: Fragment, index: int, span: Range) -> bool:
    """Whether a ``?``, ``&&`` or ``||`` decides if the token at ``index`` is evaluated."""
    for _, ahead in _levels(fragment, index, span):
        last = len(ahead) - ahead[::-1].index(",") if "," in ahead else 0
        if not _DECIDING.isdisjoint(ahead[last:]):
            return True
    return False


def is_behind_comma(fragment: Fragment, index: int, span: Range) -> bool:
    """Whether a comma stands in front of the token at ``index`` that is not one of a call's arguments."""
    for opened, ahead in _levels(fragment, index, span):
        called = opened >= span[0] and fragment.text(opened) == "("
        called &= fragment.is_name(opened - 1) or fragment.text(opened - 1) == ">"
        if "," in ahead and not called:
            return True
    return False


def is_sequenced(variables: Variables, call: Range, span: Range) -> bool:
    """Whether a comma puts something in front of a call that it may depend on: the comma operator, or a declarator that
    declares or changes what the call uses."""
    fragment, (index, closed) = variables.fragment, call
    *inner, (_, ahead) = _levels(fragment, index, span)
    for opened, before in inner:
        listed = fragment.text(opened) != "(" or fragment.is_name(opened - 1)
        if not listed and "," in before:
            return True
    if "," not in ahead:
        return False
    declared = [v for v in variables.all if v.statement is not None and v.statement.first == span[0]]
    used = variables.names(index, closed)
    return not declared or any(v.name in used for v in declared) or any(variables.writes(*span))
