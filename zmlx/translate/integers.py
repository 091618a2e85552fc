"""What tokens tell of types: which names are integers or floats, as far as that can be told without a compiler."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from zmlx.metal.signature import ATTRIBUTES
from zmlx.metal.structure import Fragment, Program

_NAMES = """
uchar ushort uint ulong int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t size_t ptrdiff_t intptr_t
uintptr_t
"""
#: Integer types of one word, and the words of which others are made.
SIMPLE = frozenset(_NAMES.split())
PARTS = frozenset({"char", "short", "int", "long", "signed", "unsigned"})
QUALIFIERS = frozenset({"const", "volatile", "constexpr"})
FLOAT = re.compile(
    r"(?:packed_)?(?:float|half|bfloat)[234]?|float16_t|bfloat16_t|complex64_t|bool[234]?|float\dx\d"
)
#: Words in front of what is an expression all the same.
BEFORE_EXPRESSION = frozenset({"else", "do", "return", "case"})

_INTEGER = re.compile(r"(?:0[xX][0-9a-fA-F']+|[0-9']+)[uUlL]*")
_SPACES_AND_QUALIFIERS = frozenset({"*", "&", "const", "device", "constant", "thread", "threadgroup"})
_BEHIND_NAME = frozenset({"=", ",", ";", "[", ")", "{", ":"})
_NO_TYPE = (
    _SPACES_AND_QUALIFIERS
    | BEFORE_EXPRESSION
    | {"static", "constexpr", "volatile", "inline", "typename", "using"}
)
_BEHIND_DECLARATOR = frozenset({"=", ",", ";", "["})
_OPERATORS = frozenset({"=", "+", "-", "*", "/", "%", "&", "|", "^", "[", "?", ":", ".", "return"})
_ENDS = frozenset({",", ";", ")", "]", "}"})


def aliases(fragments: list[Fragment]) -> Iterator[str]:
    """Names of types that the program declares: template parameters, ``using`` and ``typedef``."""
    for fragment in fragments:
        for i in range(len(fragment)):
            text = fragment.text(i)
            before = fragment.text(i - 1)
            parameter = text in ("typename", "class") and before in ("<", ",") and fragment.is_name(i + 1)
            if parameter or (text == "using" and fragment.text(i + 2) == "="):
                yield fragment.text(i + 1)
            elif text == "typedef":
                end = fragment.statement_end(i)
                if fragment.is_name(end - 1):
                    yield fragment.text(end - 1)


def type_ending(
    fragment: Fragment, last: int, others: frozenset[str] = frozenset()
) -> tuple[int, str] | None:
    """An integer type, or an alias, whose last token this is: its first token and its text."""
    first, words = last, []
    while first >= 0 and (fragment.text(first) in PARTS or fragment.text(first) in QUALIFIERS):
        words.append(fragment.text(first))
        first -= 1
    words = [word for word in reversed(words) if word not in QUALIFIERS]
    if not words and (fragment.text(first) in SIMPLE or fragment.text(first) in others):
        words, first = [fragment.text(first)], first - 1
        if fragment.text(first) == "::" and fragment.text(first - 1) in ("metal", "std"):
            first -= 2
        while fragment.text(first) in QUALIFIERS:
            first -= 1
    return (first + 1, " ".join(words)) if words else None


@dataclass(frozen=True)
class Names:
    """What a program's declarations tell of its names, in the header and the body together: macros are used in both.

    This saves work and keeps texts short. A name of which it cannot be told is left to C++.

    Attributes
    ----------
    types
        Types that may be integers: template parameters and aliases.
    floats, integers
        Names that are declared as the one and never as anything else.
    bits
        Names of bit-fields.
    """

    types: frozenset[str]
    floats: frozenset[str]
    integers: frozenset[str]
    bits: frozenset[str]

    @classmethod
    def of(cls, program: Program, known: Mapping[str, bool]) -> Names:
        """``known`` names types and outputs of the body: whether each is of integers."""
        floats: set[str] = set()
        integers: set[str] = set()
        others: set[str] = set(program.macros)
        kinds = {"float": floats, "integer": integers, "other": others}
        for fragment in program.fragments:
            inside = known if fragment.source is program.body else {}
            for i in range(len(fragment)):
                if fragment.is_name(i):
                    kind = _declared_as(fragment, i, inside)
                    if kind:
                        kinds[kind].add(fragment.text(i))
        integers |= ATTRIBUTES.keys()
        return cls(
            frozenset(aliases(program.fragments)),
            frozenset(floats - integers - others),
            frozenset(integers - floats - others),
            frozenset(_bit_fields(program)),
        )


def _declared_as(fragment: Fragment, i: int, known: Mapping[str, bool]) -> str:
    """What the name at ``i`` may be declared as here; empty if it is only used."""
    before = i - 1
    while fragment.text(before) in _SPACES_AND_QUALIFIERS:
        before -= 1
    word = fragment.text(before)
    if word == ">":
        return "other"  # of a template's type
    if word == "," and before == i - 1 and fragment.text(i + 1) in _BEHIND_DECLARATOR:
        return "other"  # perhaps a further declarator, of whatever type
    if not fragment.is_name(before) or word in BEFORE_EXPRESSION:
        return ""
    if fragment.text(i - 1) in ("*", "&") and fragment.text(before - 1) in _OPERATORS:
        return ""  # a product
    if FLOAT.fullmatch(word) or known.get(word) is False:
        return "float"
    return "integer" if word in PARTS or word in SIMPLE else "other"


def _bit_fields(program: Program) -> Iterator[str]:
    for fragment in program.fragments:
        for i in range(1, len(fragment) - 2):
            named = fragment.is_name(i) and (fragment.is_name(i - 1) or fragment.text(i - 1) == ",")
            if named and fragment.text(i + 1) == ":" and _INTEGER.fullmatch(fragment.text(i + 2)):
                yield fragment.text(i)


def _hidden(fragment: Fragment) -> Iterator[tuple[str, int, int]]:
    """Names of integer types that variables hide, with the tokens between which they do: ``int uint = 1;``"""
    for i in range(1, len(fragment) - 1):
        word, before = fragment.text(i), fragment.text(i - 1)
        if word not in SIMPLE or fragment.text(i + 1) not in _BEHIND_NAME:
            continue
        typed = before in ("*", "&", ">") or (fragment.is_name(i - 1) and before not in _NO_TYPE)
        start = i
        while start > 0 and fragment.text(start - 1) not in (";", "{", "}"):
            start -= 1
        if not typed or fragment.text(start) == "typedef":
            continue
        block = fragment.parent(i)
        while block >= 0 and fragment.text(block) != "{":
            block = fragment.parent(block)
        yield word, i, fragment.partner(block) if block >= 0 else len(fragment)


class Looks:
    """The types of one fragment, by the looks of its tokens. ``parameters`` are those of the macro whose body it is."""

    def __init__(self, fragment: Fragment, names: Names, known: Mapping[str, bool]) -> None:
        self.fragment = fragment
        self.names = names
        self.known = known
        self.parameters = frozenset(fragment.macro.parameters or ()) if fragment.macro else frozenset[str]()
        self.aliases = (names.types | {name for name, integer in known.items() if integer}) - self.parameters
        self.aliases -= {name for name, integer in known.items() if not integer}

        self._hidden = tuple(_hidden(fragment))

    def is_hidden(self, i: int) -> bool:
        """Whether a name of a type is that of a variable here."""
        text = self.fragment.text(i)
        return any(text == word and first < i < last for word, first, last in self._hidden)

    def is_declared_integer(self, name: str) -> bool:
        return name in self.names.integers and name not in self.parameters

    def is_declared_float(self, name: str) -> bool:
        return (name in self.names.floats and name not in self.parameters) or self.known.get(name) is False

    def is_number(self, i: int) -> bool:
        return 0 <= i < len(self.fragment) and self.fragment.code[i].kind == "number"

    def is_integer(self, first: int, last: int) -> bool:
        """Whether an expression is an integer by its looks, or nothing at all: then there is nothing to do."""
        return all(self._stays_integer(i) for i in range(first, last + 1))

    def _stays_integer(self, i: int) -> bool:
        fragment = self.fragment
        text = fragment.text(i)
        if self.is_number(i):
            return bool(_INTEGER.fullmatch(text))
        if not fragment.is_name(i):
            # A parenthesis behind a name is a call, which may give anything.
            return not (text == "(" and fragment.is_name(i - 1)) and text not in ("{", "::", "->")
        if fragment.text(i - 1) == ".":
            return fragment.text(i - 2) in ATTRIBUTES
        return self.is_declared_integer(text) or text in ("true", "false")

    def expression_end(self, first: int) -> int:
        """The last token of an expression without commas."""
        fragment, depth, i = self.fragment, 0, first
        while i < len(fragment):
            text = fragment.text(i)
            if text in _ENDS or (text == ":" and depth == 0):
                break
            if text == ">" and fragment.angles.get(i, i) < first:
                break
            depth += (text == "?") - (text == ":")
            i = fragment.skip_group(i)
        return i - 1
