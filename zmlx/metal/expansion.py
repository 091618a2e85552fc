"""Macros in which threads meet, written out: regions.py takes apart statements, and sees none within a macro.

Expansion is C's, on tokens: arguments are expanded first and put in the place of the parameters, and what comes out is
looked through again, but for the macro's own name. Macros that use ``#`` or ``##`` are left alone. What is written out
stands in one line, and the lines that the call had follow it, so that all other lines stay where they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from zmlx.metal.structure import Macro, Program
from zmlx.metal.tokens import Token, join, line_end, tokenize

_CLOSERS = {"(": ")", "[": "]", "{": "}"}


def expand(program: Program, source: str, names: frozenset[str]) -> str:
    """``source`` with the macros among ``names`` written out, each in the line in which its call begins.

    Raises
    ------
    RecursionError
        Macros are nested without end.
    """
    macros = {name: program.macros[name] for name in names & program.macros.keys()}
    return join(_expanded(tokenize(source), macros, frozenset()))


def _expanded(tokens: Sequence[Token], macros: dict[str, Macro], within: frozenset[str]) -> list[Token]:
    found: list[Token] = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        if token.kind == "directive":
            end = line_end(tokens, index)
            found += tokens[index:end]
            index = end
            continue
        macro = macros.get(token.text) if token.kind == "name" and token.text not in within else None
        taken = (
            _arguments(tokens, index + 1)
            if macro is not None and macro.parameters is not None
            else ([], index + 1)
        )
        index += 1
        if macro is None or taken is None or not _is_plain(macro):
            found.append(token)
            continue
        called, (arguments, index) = index, taken
        values = dict(
            zip(macro.parameters or (), (_expanded(a, macros, within) for a in arguments), strict=False)
        )
        replaced: list[Token] = []
        for part in macro.body.source.tokens[macro.body.positions[0] : macro.body.positions[-1] + 1]:
            name = part.text if part.kind == "name" else ""
            replaced += values.get(name, [Token(part.kind, part.text.replace("\\\n", " "), part.line)])
        found += _in_one_line(_expanded(replaced, macros, within | {macro.name}))
        breaks = sum(part.text.count("\n") for part in tokens[called:index])
        if breaks and not within:
            found.append(Token("space", "\n" * breaks, token.line))
    return found


def _in_one_line(tokens: list[Token]) -> list[Token]:
    return [t if "\n" not in t.text and t.kind != "comment" else Token("space", " ", t.line) for t in tokens]


def _is_plain(macro: Macro) -> bool:
    words = {macro.body.text(i) for i in range(len(macro.body))}
    return bool(len(macro.body)) and not words & {"#", "##", "__VA_ARGS__"}


def _arguments(tokens: Sequence[Token], index: int) -> tuple[list[list[Token]], int] | None:
    """The arguments that begin at ``index`` and the token behind them; None if none do."""
    while index < len(tokens) and not tokens[index].is_code:
        index += 1
    if index >= len(tokens) or tokens[index].text != "(":
        return None
    arguments: list[list[Token]] = [[]]
    open_brackets = [")"]
    index += 1
    while index < len(tokens):
        text = tokens[index].text
        if text == open_brackets[-1]:
            open_brackets.pop()
            if not open_brackets:
                return arguments, index + 1
        elif text in _CLOSERS:
            open_brackets.append(_CLOSERS[text])
        elif text == "," and len(open_brackets) == 1:
            arguments.append([])
            index += 1
            continue
        arguments[-1].append(tokens[index])
        index += 1
    return None
