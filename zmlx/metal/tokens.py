"""A lexer for Metal source that loses nothing: joining the texts of the tokens gives the source back.

Translation rewrites single tokens, so that line numbers survive and compiler messages point at the author's lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

TokenKind = Literal["space", "comment", "string", "number", "name", "directive", "punct"]

# `directive` is only the hash and the word after it: the rest of a #define is translated like any other code.
# `>>` is two tokens, since it also closes two template argument lists.
_PATTERN = re.compile(
    r"""
      (?P<space>(?:\s|\\\r?\n)+)
    | (?P<comment>//(?:\\\r?\n|[^\n])*|/\*.*?\*/)
    | (?P<string>(?:u8|[uUL])?"(?:\\.|[^"\\\n])*"|(?:[uUL])?'(?:\\.|[^'\\\n])+')
    | (?P<number>\.?[0-9](?:[eEpP][+-]|'[0-9A-Za-z]|[0-9A-Za-z_.])*)
    | (?P<name>[A-Za-z_$][A-Za-z0-9_$]*)
    | (?P<directive>\#[ \t]*[A-Za-z]+)
    | (?P<punct>::|->|\+\+|--|<<=|>>=|<<|<=|>=|==|!=|&&|\|\||\+=|-=|\*=|/=|%=|&=|\|=|\^=|\#\#|.)
    """,
    re.VERBOSE | re.DOTALL,
)

#: The end of a line that goes on in the next; files of Windows end lines with two characters.
_CONTINUED = re.compile(r"\\\r?\n")
_MAY_SPAN_LINES = frozenset({"space", "comment", "string"})


@dataclass(slots=True)
class Token:
    """One token. ``line`` counts from 1.

    A translation replaces ``text``, or puts something in front of it (``before``) and behind it (``after``).
    """

    kind: TokenKind
    text: str
    line: int
    before: str = ""
    after: str = ""

    @property
    def is_code(self) -> bool:
        return self.kind not in ("space", "comment")

    @property
    def written(self) -> str:
        """What stands in its place so far."""
        return f"{self.before}{self.text}{self.after}" if self.before or self.after else self.text


def tokenize(source: str) -> list[Token]:
    """Split C++-like source into tokens; never fails, since what it does not know becomes single characters."""
    return [Token(kind, text, line) for kind, text, line in _lexemes(source)]


@lru_cache(maxsize=256)
def _lexemes(source: str) -> tuple[tuple[TokenKind, str, int], ...]:
    """Kinds, texts and lines, which do not change: one text is read by many signatures, passes and proofs."""
    found = []
    line = 1
    for match in _PATTERN.finditer(source):
        kind, text = match.lastgroup, match.group()
        found.append((kind, text, line))
        if kind in _MAY_SPAN_LINES:
            line += text.count("\n")
    return tuple(found)  # type: ignore[arg-type]


def code_names(source: str) -> Iterator[str]:
    """The identifiers of a source, without those in comments and strings."""
    return (text for kind, text, _ in _lexemes(source) if kind == "name")


def punctuation(source: str) -> Iterator[str]:
    """The brackets and operators of a source, without those in comments and strings."""
    return (text for kind, text, _ in _lexemes(source) if kind == "punct")


def line_end(tokens: Sequence[Token], index: int) -> int:
    """The token behind the preprocessor line that ``index`` is in: continued lines are part of it."""
    while index < len(tokens):
        token = tokens[index]
        if token.kind == "space" and "\n" in _CONTINUED.sub("", token.text):
            break
        index += 1
    return index


def join(tokens: Iterable[Token]) -> str:
    """The text of the tokens as translated so far."""
    # As `Token.written`, which would take twice as long for all tokens of a text.
    return "".join([f"{t.before}{t.text}{t.after}" if t.before or t.after else t.text for t in tokens])


def one_line(tokens: Iterable[Token]) -> str:
    """The same without comments and line breaks: text that is moved must not move the lines after it."""
    return " ".join("".join([t.written if t.is_code else " " for t in tokens]).split())
