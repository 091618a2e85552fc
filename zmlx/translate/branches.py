"""Branches of ``#if`` that Metal's compiler does not take, emptied: what they hold need not exist here.

``#if __METAL_VERSION__ >= 400`` guards what only a newer Metal has. Lines stay, and so do the conditions themselves,
which the C++ preprocessor evaluates again.
"""

from __future__ import annotations

from dataclasses import dataclass

from zmlx.metal.conditions import evaluate, is_defined
from zmlx.metal.structure import Program, Source
from zmlx.metal.tokens import Token, join, line_end

_MIDDLE = frozenset({"elif", "else"})
_CONDITIONAL = frozenset({"if", "ifdef", "ifndef", "endif"}) | _MIDDLE


@dataclass
class _Branch:
    """Where one ``#if … #endif`` stands: whether this branch is dead, and whether an earlier one holds for certain."""

    dead: bool
    taken: bool


def live_texts(program: Program) -> tuple[str, str]:
    """The header and the body without what is in dead branches; line breaks stay."""
    defined = frozenset(macro.name for source in program.sources for macro in source.macros)
    return _live_text(program.header, defined), _live_text(program.body, defined)


def _live_text(source: Source, defined: frozenset[str]) -> str:
    open_branches: list[_Branch] = []
    tokens = source.tokens
    found: list[Token] = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        end = line_end(tokens, index) if token.kind == "directive" else index + 1
        word = token.text.lstrip("# \t") if token.kind == "directive" else ""
        if word in ("if", "ifdef", "ifndef"):
            holds = _holds(word, tokens[index + 1 : end], defined)
            open_branches.append(_Branch(holds is False, holds is True))
        elif word in _MIDDLE and open_branches:
            branch = open_branches[-1]
            holds = _holds("if", tokens[index + 1 : end], defined) if word == "elif" else None
            branch.dead = branch.taken or holds is False
            branch.taken = branch.taken or holds is True
        elif word == "endif" and open_branches:
            open_branches.pop()
        dead = word not in _CONDITIONAL and any(branch.dead for branch in open_branches)
        found += [_emptied(t) for t in tokens[index:end]] if dead else tokens[index:end]
        index = end
    return join(found)


def _holds(word: str, tokens: list[Token], defined: frozenset[str]) -> bool | None:
    names = [token.text for token in tokens if token.kind == "name"]
    if defined.intersection(names):
        return None  # the author has a say
    if word == "if":
        return evaluate(tokens)
    known = is_defined(names[0]) if names else None
    return known if known is None or word == "ifdef" else not known


def _emptied(token: Token) -> Token:
    return Token("space", "\n" * token.text.count("\n"), token.line)
