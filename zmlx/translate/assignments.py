"""Which ``=`` of a fragment assign: declarations, enumerators, default arguments and captures have one too."""

from __future__ import annotations

from zmlx.metal.structure import Fragment
from zmlx.translate.integers import BEFORE_EXPRESSION, QUALIFIERS

COMPOUND = frozenset({"+=", "-=", "*=", "/="})
_OPENS_EXPRESSION = frozenset({"", ";", "{", "}", "(", ")", "=", "?", ":", ","})
_TYPES_OF = frozenset({"decltype", "typeof", "__typeof__"})
_HEADS = frozenset({"if", "while", "for", "switch", "return"})


def assigned(fragment: Fragment, index: int) -> int:
    """The first token of what the ``=`` or compound assignment at ``index`` assigns to; -1 if it assigns nothing."""
    if not (fragment.is_name(index - 1) or fragment.text(index - 1) in (")", "]")):
        return -1
    if fragment.text(index + 1) in ("default", "delete"):
        return -1  # a constructor or an operator that the compiler writes, or that there is none of
    if fragment.text(index - 1) == ")" and fragment.text(fragment.partner(index - 1) - 1) == ")":
        return -1  # a pointer to a function
    parent = fragment.parent(index)
    if (
        fragment.text(parent) == "["
        or fragment.text(index - 1) == "operator"
        or _is_enumeration(fragment, parent)
    ):
        return -1
    start = _place_start(fragment, index - 1)
    if start < 0 or (fragment.text(index) == "=" and not _is_expression(fragment, start)):
        return -1
    return start


def _place_start(fragment: Fragment, i: int) -> int:
    """The first token of the postfix expression that ends here; -1 if it is none."""
    while i >= 0:
        if fragment.text(i) in (")", "]"):
            i = fragment.partner(i)
            if i < 0:
                return -1
            if fragment.text(i) == "(" and not (
                fragment.is_name(i - 1) and fragment.text(i - 1) not in _HEADS
            ):
                return i
            if fragment.text(i - 1) not in (")", "]") and not fragment.is_name(i - 1):
                return -1
            i -= 1
        elif fragment.is_name(i):
            if fragment.text(i - 1) not in (".", "->", "::"):
                return i
            i -= 2
        else:
            return -1
    return -1


def _is_expression(fragment: Fragment, start: int) -> bool:
    """Whether what begins here is assigned to, and not declared."""
    i = start - 1
    while fragment.text(i) in ("*", "const") or (fragment.text(i) in ("++", "--")):
        i -= 1
    text = fragment.text(i)
    if text in BEFORE_EXPRESSION:
        return True
    if text not in _OPENS_EXPRESSION or (text == "(" and fragment.text(i - 1) == "template"):
        return False
    if text == ",":
        return not _in_declaration(fragment, i)
    return True


def _in_declaration(fragment: Fragment, comma: int) -> bool:
    """Whether the statement around a comma is a declaration, as far as its beginning tells."""
    parent = fragment.parent(comma)
    start = comma
    while start > 0 and fragment.text(start - 1) not in (";", "{", "}") and start - 1 != parent:
        closed = fragment.text(start - 1) in (")", "]") and fragment.partner(start - 1) > 0
        start = fragment.partner(start - 1) if closed else start - 1
    while (after := _after_call(fragment, start)) > start and fragment.is_name(after):
        if fragment.text(start) in _TYPES_OF:
            return True
        # A macro's call, of which nothing says that a statement ends with it; or the head of one.
        start = after
    while fragment.text(start) in QUALIFIERS or fragment.text(start) == "static":
        start += 1
    if not fragment.is_name(start) or fragment.text(start) in BEFORE_EXPRESSION:
        return False
    i = start + 1
    while fragment.text(i) == "::" or (fragment.is_name(i) and fragment.text(i - 1) == "::"):
        i += 1
    i = fragment.skip_group(i) if fragment.text(i) == "<" and fragment.angles.get(i, -1) > i else i
    while fragment.text(i) in ("*", "&", "const"):
        i += 1
    return fragment.is_name(i) and i > start


def _after_call(fragment: Fragment, start: int) -> int:
    """What comes after a name and its parentheses; ``start`` where there are none."""
    called = fragment.is_name(start) and fragment.text(start + 1) == "("
    return fragment.partner(start + 1) + 1 if called and fragment.partner(start + 1) > start else start


def _is_enumeration(fragment: Fragment, parent: int) -> bool:
    i = parent - 1
    if fragment.text(parent) != "{":
        return False
    while i >= 0 and (fragment.is_name(i) or fragment.text(i) in (":", "::")):
        if fragment.text(i) == "enum":
            return True
        i -= 1
    return False
