"""A lexer for Metal source that loses nothing: joining the texts of the tokens gives the source back.

Translation rewrites single tokens, so that line numbers survive and compiler messages point at the author's lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

TokenKind = Literal["space", "comment", "string", "number", "name", "directive", "punct"]

# `directive` is only the hash and the word after it: the rest of a #define is translated like any other code.
_PATTERN = re.compile(
    r"""
      (?P<space>(?:\s|\\\n)+)
    | (?P<comment>//(?:\\\n|[^\n])*|/\*.*?\*/)
    | (?P<string>(?:u8|[uUL])?"(?:\\.|[^"\\\n])*"|(?:[uUL])?'(?:\\.|[^'\\\n])+')
    | (?P<number>\.?[0-9](?:[eEpP][+-]|'[0-9A-Za-z]|[0-9A-Za-z_.])*)
    | (?P<name>[A-Za-z_$][A-Za-z0-9_$]*)
    | (?P<directive>\#[ \t]*[A-Za-z]+)
    | (?P<punct>::|->|\+\+|--|<<=|>>=|<=|>=|==|!=|&&|\|\||\+=|-=|\*=|/=|%=|&=|\|=|\^=|\#\#|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(slots=True)
class Token:
    """One token. ``line`` counts from 1; ``text`` may be replaced by a translation."""

    kind: TokenKind
    text: str
    line: int

    @property
    def is_code(self) -> bool:
        return self.kind not in ("space", "comment")


def tokenize(source: str) -> list[Token]:
    """Split C++-like source into tokens; never fails, since what it does not know becomes single characters."""
    tokens = []
    line = 1
    for match in _PATTERN.finditer(source):
        kind: TokenKind = match.lastgroup  # type: ignore[assignment]
        tokens.append(Token(kind, match.group(), line))
        line += match.group().count("\n")
    return tokens


def code_names(source: str) -> Iterator[str]:
    """The identifiers of a source, without those in comments and strings."""
    return (t.text for t in tokenize(source) if t.kind == "name")


def join(tokens: list[Token]) -> str:
    return "".join(t.text for t in tokens)


def next_code(tokens: list[Token], index: int) -> int:
    """Index of the first code token at or after ``index``; ``len(tokens)`` if there is none."""
    while index < len(tokens) and not tokens[index].is_code:
        index += 1
    return index


def previous_code(tokens: list[Token], index: int) -> int:
    """Index of the last code token at or before ``index``; -1 if there is none."""
    while index >= 0 and not tokens[index].is_code:
        index -= 1
    return index


def closing(tokens: list[Token], index: int) -> int:
    """Index of the bracket that closes the one at ``index``; ``len(tokens)`` if it stays open."""
    pairs = {"(": ")", "[": "]", "{": "}"}
    opened = tokens[index].text
    depth = 0
    for i in range(index, len(tokens)):
        if tokens[i].kind != "punct":
            continue
        if tokens[i].text == opened:
            depth += 1
        elif tokens[i].text == pairs[opened]:
            depth -= 1
            if depth == 0:
                return i
    return len(tokens)
