"""The statements of a kernel's body, and what they declare: as much of C++'s grammar as regions.py needs.

What does not follow that grammar raises `Unclear`. Its caller then does without: a kernel whose statements are not
understood still runs, one fiber a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from zmlx.metal.structure import Fragment

Range = tuple[int, int]
StatementKind = Literal["simple", "declaration", "definition", "block", "if", "loop", "switch", "exit"]

_QUALIFIERS = frozenset(
    {"const", "constexpr", "volatile", "static", "device", "thread", "constant", "threadgroup", "typename"}
)
#: Words that make up one type together: ``unsigned long``.
_TYPE_WORDS = frozenset({"unsigned", "signed", "long", "short", "int", "char"})
_POINTER_WORDS = frozenset(
    {"*", "&", "&&", "const", "volatile", "device", "thread", "constant", "threadgroup"}
)
_DEFINITIONS = frozenset(
    {"using", "typedef", "struct", "class", "union", "enum", "static_assert", "template"}
)
_EXITS = frozenset({"return", "break", "continue"})
_NOT_A_TYPE = frozenset(
    {"case", "default", "else", "delete", "new", "throw", "asm", "sizeof", "operator", "goto"}
)
#: Statements that begin with one of these declare no variable, whatever follows.
_NO_DECLARATION = _NOT_A_TYPE | _DEFINITIONS | _EXITS | {"if", "for", "while", "do", "switch"}
#: Stands in front of a loop and says how to unroll it.
_LOOP_HINTS = frozenset({"MLX_MTL_PRAGMA_UNROLL"})
_LOOPS = frozenset({"for", "while", "do"})


class Unclear(Exception):
    """The text does not have the form that its meaning can be read off; the message says what it is."""


@dataclass(frozen=True)
class Declarator:
    """One variable of a declaration. Numbers and ranges are token indices."""

    name: int
    pointer: bool
    reference: bool
    constant: bool
    extents: Range | None
    initialiser: Range | None
    form: Literal["", "=", "(", "{"]


@dataclass(eq=False)
class Statement:
    """One statement, from token ``first`` to ``last``; which fields it has depends on its kind.

    ``keyword`` is that of a loop or an exit. ``head`` is the condition of an ``if`` or a loop (last < first: it is
    empty), ``init`` and ``step`` those of a ``for``. ``children`` are the statements of a block or a body, and
    ``otherwise`` those behind ``else``. ``type`` is the type of a declaration, qualifiers included.
    """

    kind: StatementKind
    first: int
    last: int
    keyword: str = ""
    head: Range = (0, -1)
    init: Statement | None = None
    step: Range = (0, -1)
    children: list[Statement] = field(default_factory=list)
    otherwise: list[Statement] | None = None
    type: Range = (0, -1)
    declarators: tuple[Declarator, ...] = ()

    def walk(self) -> Iterator[Statement]:
        """This statement and all within it."""
        yield self
        for child in (*([self.init] if self.init else ()), *self.children, *(self.otherwise or ())):
            yield from child.walk()


def exits(statement: Statement) -> list[Statement]:
    """What leaves a statement: ``return``, and the ``break`` and ``continue`` of loops around it."""
    return list(_exits(statement, frozenset()))


def _exits(statement: Statement, caught: frozenset[str]) -> Iterator[Statement]:
    if statement.kind == "exit" and statement.keyword not in caught:
        yield statement
    if statement.kind == "loop":
        caught = caught | {"break", "continue"}
    for child in (*statement.children, *(statement.otherwise or ())):
        yield from _exits(child, caught)


def parse(fragment: Fragment, first: int, last: int) -> list[Statement]:
    """The statements from token ``first`` to ``last``.

    Raises
    ------
    Unclear
        Something in between is no statement of C++, as a macro that stands for one is not.
    """
    statements = []
    while first <= last:
        statement = _parse_one(fragment, first)
        if statement.last > last:
            raise Unclear("a statement that does not end")
        statements.append(statement)
        first = statement.last + 1
    return statements


def _parse_one(fragment: Fragment, first: int) -> Statement:
    text = fragment.text(first)
    if text == "{":
        return Statement("block", first, _closed(fragment, first), children=_inside(fragment, first))
    if text == "if":
        return _parse_if(fragment, first)
    if text in _LOOPS or (text in _LOOP_HINTS and fragment.text(first + 1) in _LOOPS):
        return _parse_loop(fragment, first)
    if text == "switch":
        return _parse_switch(fragment, first)
    whole = _macro_end(fragment, first)
    if whole >= first:
        return Statement("simple", first, whole)
    last = fragment.statement_end(first)
    if fragment.text(last) != ";":
        raise Unclear(f"a statement that begins with `{text}` and has no semicolon")
    if text in _EXITS:
        return Statement("exit", first, last, keyword=text)
    if text in _DEFINITIONS:
        return Statement("definition", first, last)
    if text in _NOT_A_TYPE or (
        text == "auto" and fragment.text(first + 1) in ("[", "&") and _binds(fragment, first)
    ):
        raise Unclear(f"`{text}`")
    return _parse_declaration(fragment, first, last) or Statement("simple", first, last)


def _macro_end(fragment: Fragment, first: int) -> int:
    """The last token of a macro that brings its own semicolon or braces; -1 if none stands at ``first``."""
    macro = fragment.source.program.macros.get(fragment.text(first))
    if macro is None or macro.body.text(len(macro.body) - 1) not in (";", "}"):
        return -1
    last = first if macro.parameters is None else _closed(fragment, first + 1)
    return last + 1 if fragment.text(last + 1) == ";" else last


def _binds(fragment: Fragment, first: int) -> bool:
    """Whether ``auto`` begins a structured binding: ``auto [a, b] = …`` or ``auto& [a, b] = …``."""
    return fragment.text(first + 1) == "[" or fragment.text(first + 2) == "["


def _closed(fragment: Fragment, opened: int) -> int:
    closed = fragment.partner(opened)
    if closed < 0:
        raise Unclear(f"`{fragment.text(opened)}` without its end")
    return closed


def _inside(fragment: Fragment, opened: int) -> list[Statement]:
    return parse(fragment, opened + 1, _closed(fragment, opened) - 1)


def _body(fragment: Fragment, first: int) -> tuple[list[Statement], int]:
    """The statements of a body, with or without braces, and its last token."""
    statement = _parse_one(fragment, first)
    return (statement.children if statement.kind == "block" else [statement]), statement.last


def _parse_if(fragment: Fragment, first: int) -> Statement:
    opened = first + 2 if fragment.text(first + 1) == "constexpr" else first + 1
    closed = _closed(fragment, opened)
    if any(fragment.text(i) == ";" and fragment.parent(i) == opened for i in range(opened, closed)):
        raise Unclear("`if` with an initialiser")
    children, last = _body(fragment, closed + 1)
    otherwise = None
    if fragment.text(last + 1) == "else":
        otherwise, last = _body(fragment, last + 2)
    keyword = "if constexpr" if opened == first + 2 else "if"
    return Statement(
        "if", first, last, keyword, (opened + 1, closed - 1), children=children, otherwise=otherwise
    )


def _parse_switch(fragment: Fragment, first: int) -> Statement:
    """A ``switch``, which is left by ``break`` alone: its cases are not looked into."""
    last = fragment.statement_end(first)
    last_of_loop = -1  # of a loop within, which has a `continue` of its own
    for i in range(first, last + 1):
        text = fragment.text(i)
        if text in _LOOPS:
            last_of_loop = max(last_of_loop, fragment.statement_end(i))
        if text == "return" or (text == "continue" and i > last_of_loop):
            raise Unclear("a `switch` with `return` or `continue` in it")
    return Statement("switch", first, last)


def _parse_loop(fragment: Fragment, first: int) -> Statement:
    word = first + (fragment.text(first) in _LOOP_HINTS)
    keyword = fragment.text(word)
    if keyword == "do":
        children, last = _body(fragment, word + 1)
        opened = last + 2
        closed = _closed(fragment, opened)
        return Statement("loop", first, closed + 1, keyword, (opened + 1, closed - 1), children=children)
    opened = word + 1
    closed = _closed(fragment, opened)
    children, last = _body(fragment, closed + 1)
    if keyword == "while":
        return Statement("loop", first, last, keyword, (opened + 1, closed - 1), children=children)
    ends = [i for i in range(opened, closed) if fragment.text(i) == ";" and fragment.parent(i) == opened]
    if len(ends) != 2:
        raise Unclear("a `for` over a range")
    init = None
    if ends[0] > opened + 1:
        init = _parse_declaration(fragment, opened + 1, ends[0]) or Statement("simple", opened + 1, ends[0])
    return Statement(
        "loop", first, last, keyword, (ends[0] + 1, ends[1] - 1), init, (ends[1] + 1, closed - 1), children
    )


def _parse_declaration(fragment: Fragment, first: int, end: int) -> Statement | None:
    """The declaration of variables from ``first`` to the semicolon at ``end``; None if it declares none."""
    name = _type_end(fragment, first)
    if name < 0:
        return None
    constant = any(fragment.text(i) in ("const", "constexpr") for i in range(first, name))
    declarators = []
    i = name
    while True:
        pointer = reference = False
        fixed = constant
        while fragment.text(i) in _POINTER_WORDS:
            pointer |= fragment.text(i) == "*"
            reference |= fragment.text(i).startswith("&")
            # `const T* p` points to constants, `T* const p` is one.
            fixed = fragment.text(i) == "const" if pointer else fixed
            i += 1
        if not fragment.is_name(i):
            return None
        declarator, i = _declarator(fragment, i, pointer, reference, fixed)
        declarators.append(declarator)
        if i == end:
            return Statement(
                "declaration", first, end, type=(first, name - 1), declarators=tuple(declarators)
            )
        if fragment.text(i) != ",":
            return None
        i += 1


def declaration_at(fragment: Fragment, first: int, last: int) -> Statement | None:
    """The declaration of variables from ``first`` to ``last``, if that is what this statement is."""
    if fragment.text(last) != ";" or fragment.text(first) in _NO_DECLARATION:
        return None
    try:
        return _parse_declaration(fragment, first, last)
    except Unclear:  # brackets that do not close, of which the compiler tells
        return None


def begins_declaration(fragment: Fragment, first: int) -> bool:
    """Whether what stands at ``first`` looks like the declaration of a variable."""
    return _type_end(fragment, first) >= 0


def _declarator(
    fragment: Fragment, name: int, pointer: bool, reference: bool, constant: bool
) -> tuple[Declarator, int]:
    """One declarator from its name on, and the token behind it."""
    i = name + 1
    while fragment.text(i) == "[":
        i = _closed(fragment, i) + 1
    extents = (name + 1, i - 1) if i > name + 1 else None
    form = fragment.text(i)
    if form == "=":
        start = i + 1
        while fragment.text(i) not in (",", ";", ""):
            i = fragment.skip_group(i)
        return Declarator(name, pointer, reference, constant, extents, (start, i - 1), "="), i
    if form == "(" or form == "{":
        end = _closed(fragment, i)
        made = Declarator(
            name, pointer, reference, constant, extents, (i + 1, end - 1), "(" if form == "(" else "{"
        )
        return made, end + 1
    return Declarator(name, pointer, reference, constant, extents, None, ""), i


def _type_end(fragment: Fragment, first: int) -> int:
    """The token behind the type that begins at ``first``, where a declarator begins; -1 if none does."""
    i, found = first, False
    while True:
        text = fragment.text(i)
        if text in _QUALIFIERS:
            i += 1
        elif text in _TYPE_WORDS:
            i, found = i + 1, True
        elif fragment.is_name(i) and not found:
            i, found = _skip_qualified(fragment, i), True
        else:
            break
    start = i
    while fragment.text(i) in _POINTER_WORDS:
        i += 1
    return start if found and fragment.is_name(i) and fragment.text(i) not in _QUALIFIERS else -1


def _skip_qualified(fragment: Fragment, i: int) -> int:
    """The token behind a name with its scopes and template arguments: ``metal::vec<T, 4>``."""
    while True:
        i += 1
        if fragment.text(i) == "<" and fragment.angles.get(i, -1) > i:
            i = fragment.angles[i] + 1
        if fragment.text(i) != "::" or not fragment.is_name(i + 1):
            return i
        i += 1
