"""Branches of ``#if`` that Metal's compiler does not take, emptied: what they hold need not exist here.

``#if __METAL_VERSION__ >= 400`` guards what only a newer Metal has. Lines stay, and so do the conditions themselves,
which the C++ preprocessor evaluates again, after ``__has_include`` of Metal's headers and ``__has_feature`` were
answered. Where the author's own macros decide, it alone knows: what is in such a branch may not be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from zmlx.metal.conditions import answered, evaluate, is_defined
from zmlx.metal.structure import Program, Source
from zmlx.metal.tokens import Token, join, line_end

_MIDDLE = frozenset({"elif", "else"})
_CONDITIONAL = frozenset({"if", "ifdef", "ifndef", "endif"}) | _MIDDLE


@dataclass
class _Branch:
    """Where one ``#if … #endif`` stands: whether this branch is dead, whether an earlier one holds for certain, and
    whether it is not known if this one does."""

    dead: bool
    taken: bool
    uncertain: bool


def live_texts(program: Program) -> tuple[str, str]:
    """The header and the body without what is in dead branches; line breaks stay."""
    header, body = (
        join(
            token
            for tokens, branches in _pieces(source, _defined(program))
            for token in ([*map(_emptied, tokens)] if any(branch.dead for branch in branches) else tokens)
        )
        for source in program.sources
    )
    return header, body


@lru_cache(maxsize=64)
def uncertain_lines(program: Program) -> dict[str, frozenset[int]]:
    """The lines of the header and the body that may or may not be there, by part.

    Rewriting moves none, so that each program is asked once.
    """
    return {
        source.part: frozenset(
            token.line
            for tokens, branches in _pieces(source, _defined(program))
            if any(branch.uncertain for branch in branches)
            for token in tokens
        )
        for source in program.sources
    }


def _defined(program: Program) -> frozenset[str]:
    return frozenset(macro.name for source in program.sources for macro in source.macros)


def _pieces(source: Source, defined: frozenset[str]) -> Iterator[tuple[list[Token], list[_Branch]]]:
    """A text in pieces, with the branches around each; conditions are outside of the branches that they open."""
    open_branches: list[_Branch] = []
    tokens = source.tokens
    index = 0
    while index < len(tokens):
        token = tokens[index]
        if token.kind != "directive":
            start = index
            while index < len(tokens) and tokens[index].kind != "directive":
                index += 1
            yield tokens[start:index], open_branches
            continue
        end = line_end(tokens, index)
        word = token.text.lstrip("# \t")
        if word in ("if", "ifdef", "ifndef"):
            holds = _holds(word, tokens[index + 1 : end], defined)
            uncertain = holds is None and not _guards(tokens[index:end], tokens[end:])
            open_branches.append(_Branch(holds is False, holds is True, uncertain))
        elif word in _MIDDLE and open_branches:
            branch = open_branches[-1]
            holds = _holds("if", tokens[index + 1 : end], defined) if word == "elif" else None
            branch.dead = branch.taken or holds is False
            # Behind one that may hold, none holds for certain; `else` behind those that do not hold is certain.
            branch.uncertain |= word == "elif" and holds is None
            branch.taken = branch.taken or holds is True
        elif word == "endif" and open_branches:
            open_branches.pop()
        if word in _CONDITIONAL:
            yield (answered(tokens[index:end]) if word in ("if", "elif") else tokens[index:end]), []
        else:
            yield tokens[index:end], open_branches
        index = end


def _guards(condition: list[Token], behind: list[Token]) -> bool:
    """Whether ``#ifndef NAME`` stands in front of ``#define NAME``, as around a whole header."""
    line = [token.text for token in condition if token.is_code]
    start = next((i for i, token in enumerate(behind) if token.is_code), len(behind))
    follows = [token.text for token in behind[start : line_end(behind, start)] if token.is_code]
    if not follows or not line[0].endswith("ifndef"):
        return False
    return [follows[0].lstrip("# \t"), *follows[1:2]] == ["define", *line[1:2]]


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
