"""Operators that mean more in Metal than in C++: swizzles, shifts, and ``?:`` between half and float.

======================================  ===============================================================
Metal                                   portable C++
======================================  ===============================================================
``v.xyz``, ``v.xy = …``                 ``v.swizzle(swz<0,1,2>())``, ``v.swizzle_ref(swz<0,1>()) = …``
``a << n``, ``a >>= n``                 ``a << zmlx_by << n``, ``a >>= zmlx_by >>= n``
``c ? h : 1.0f``                        both sides cast to the type that the two have together
======================================  ===============================================================

Metal takes a shift's amount modulo the width of the type, where C++ leaves too large ones undefined. ``zmlx_by``
has operators that do so (runtime/msl/syntax.h); amounts that are literals below 32 need none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from zmlx.metal.structure import Fragment, Program

_COMPONENTS = {**{c: i for i, c in enumerate("xyzw")}, **{c: i for i, c in enumerate("rgba")}}
_SWIZZLE = re.compile(r"[xyzw]{2,4}|[rgba]{2,4}")
_ASSIGNMENTS = frozenset({"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>=", "++", "--"})

_SMALL_AMOUNT = re.compile(r"(?:[0-2]?[0-9]|3[01])[uU]?")
_BEHIND_AMOUNT = frozenset(
    {")", "]", "}", ";", ",", "&", "|", "^", "&&", "||", "?", ":", "==", "!=", "<", ">", "<=", ">=", "<<", ""}
)


def rewrite_swizzles(program: Program) -> None:
    """``v.xyz`` is a swizzle unless the author declared a member of that name."""
    members = frozenset(name for fragment in program.fragments for name in _members(fragment))
    for fragment in program.fragments:
        for index, token in enumerate(fragment.code):
            if (
                fragment.text(index - 1) in (".", "->")
                and _SWIZZLE.fullmatch(token.text)
                and token.text not in members
                and fragment.text(index + 1) != "("
            ):
                method = "swizzle_ref" if fragment.text(index + 1) in _ASSIGNMENTS else "swizzle"
                token.text = f"{method}(metal::swz<{', '.join(str(_COMPONENTS[c]) for c in token.text)}>())"


def _members(fragment: Fragment) -> Iterator[str]:
    """Names of the data members that the fragment's classes declare."""
    for index in range(len(fragment)):
        if fragment.text(index) not in ("struct", "class", "union"):
            continue
        opened = index + 1
        while opened < len(fragment) and fragment.text(opened) not in ("{", ";", "(", ")", ">", ","):
            opened = fragment.skip_group(opened)
        if fragment.text(opened) != "{":
            continue
        for i in range(opened + 1, max(fragment.partner(opened), opened)):
            declared = fragment.is_name(i) and fragment.parent(i) == opened
            if declared and fragment.text(i + 1) in (";", ",", "=", "[", "{", ":"):
                yield fragment.text(i)


def rewrite_shifts(fragment: Fragment) -> None:
    """Shift amounts modulo the width of what is shifted."""
    if fragment.macro is not None and fragment.macro.name in fragment.source.program.condition_names:
        return  # the preprocessor evaluates it
    for index in fragment.left():
        operator, last = _shift_at(fragment, index)
        if operator and fragment.text(index - 1) != "operator" and not _is_safe(fragment, last + 1):
            fragment.code[last].after = f" zmlx_by {operator}"


def _shift_at(fragment: Fragment, index: int) -> tuple[str, int]:
    """The shift operator that begins at ``index``, and its last token; an empty text if none does."""
    text = fragment.text(index)
    if text in ("<<", "<<=", ">>="):
        return text, index
    adjacent = index + 1 < len(fragment) and fragment.positions[index + 1] == fragment.positions[index] + 1
    if text != ">" or fragment.text(index + 1) != ">" or not adjacent:
        return "", index
    if index in fragment.angles or index + 1 in fragment.angles:
        return "", index
    return ">>", index + 1


def _is_safe(fragment: Fragment, index: int) -> bool:
    """Whether the amount at ``index`` is a literal below 32, which no type that is shifted has fewer bits than."""
    return bool(_SMALL_AMOUNT.fullmatch(fragment.text(index))) and fragment.text(index + 1) in _BEHIND_AMOUNT


def rewrite_conditionals(fragment: Fragment) -> None:
    """Give both results of each ``?:`` their common type.

    half and bfloat are classes in C++: with float or int on the other side, conversions go both ways and the
    compiler gives up.
    """
    kinds: dict[int, str] = {}
    # From the right, so that conditionals within an operand come before the one around them.
    for question in reversed(fragment.left()):
        if fragment.text(question) == "?":
            _rewrite_conditional(fragment, question, kinds)


def _rewrite_conditional(fragment: Fragment, question: int, kinds: dict[int, str]) -> None:
    colon = _colon(fragment, question)
    last = _operand_end(fragment, colon + 1) if colon > question + 1 else -1
    if last <= colon:
        return
    operands = ((question + 1, colon - 1), (colon + 1, last))
    if any(_has_lambda(fragment, *operand) for operand in operands):
        return
    first, second = (_type_of(fragment, *operand, kinds) for operand in operands)
    kinds[question] = f"::metal::detail::conditional_type<{first}, {second}>"
    for operand, mine, other in zip(operands, (first, second), (second, first), strict=True):
        start, stop = (fragment.code[index] for index in operand)
        start.before = f"(static_cast<::metal::detail::arm_t<{mine}, {other}>>({start.before}"
        stop.after = f"{stop.after}))"


def _type_of(fragment: Fragment, first: int, last: int, kinds: dict[int, str]) -> str:
    """The type of an operand. That of a further ``?:`` is known already, which keeps the texts of chains short."""
    while fragment.text(first) == "(" and fragment.partner(first) == last:
        first, last = first + 1, last - 1
    i = first
    while i <= last:
        if i in kinds and _operand_end(fragment, _colon(fragment, i) + 1) == last:
            return kinds[i]
        i = fragment.skip_group(i)
    return f"decltype(({fragment.render(first, last)}))"


def _colon(fragment: Fragment, question: int) -> int:
    """Index of the colon that belongs to a question mark; -1 if there is none."""
    depth, i = 0, question + 1
    while i < len(fragment):
        text = fragment.text(i)
        if text == "?":
            depth += 1
        elif text == ":":
            if depth == 0:
                return i
            depth -= 1
        elif text in (";", ")", "]", "}"):
            return -1
        i = fragment.skip_group(i)
    return -1


def _operand_end(fragment: Fragment, first: int) -> int:
    """Index of the last token of a conditional's last operand; -1 if that is an assignment."""
    depth, i = 0, first
    while i < len(fragment):
        text = fragment.text(i)
        if text in (";", ",", ")", "]", "}") or (text == ":" and depth == 0):
            break
        if text == ">" and fragment.angles.get(i, i) < first:
            break
        if text in _ASSIGNMENTS and text not in ("++", "--"):
            return -1
        depth += (text == "?") - (text == ":")
        i = fragment.skip_group(i)
    return i - 1


def _has_lambda(fragment: Fragment, first: int, last: int) -> bool:
    """Whether a lambda occurs: C++17 has none in decltype."""
    return any(
        fragment.text(i) == "["
        and not fragment.is_name(i - 1)
        and fragment.text(i - 1) not in (")", "]", ">", "}")
        for i in range(first, last + 1)
    )
