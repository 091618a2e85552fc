"""The C preprocessor, for whole Metal files: which functions are kernels is often decided by macros.

``instantiate_kernel("softmax_float32", softmax, float)`` names a kernel that the file does not show otherwise. Lines
stay where they are: what a macro makes stands in the line in which its call begins. Lines of ``#include <…>`` and
``#pragma`` are left for the compilers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from zmlx.metal.conditions import PREDEFINED, answered, evaluate, is_defined
from zmlx.metal.tokens import Token, join, line_end, tokenize

_VARIADIC = "__VA_ARGS__"
_KEPT = frozenset({"include", "import", "pragma"})
#: What two characters that meet would be together, though they are of two tokens.
_JOINED = frozenset(
    ("++", "--", "->", "&&", "||", "<<", "::", "##", "//", "/*", *(f"{c}=" for c in "<>=!+-*/%&|^"))
)


@dataclass(frozen=True)
class _Macro:
    """``parameters`` is None without a parameter list; the last of a variadic macro is ``__VA_ARGS__``."""

    parameters: tuple[str, ...] | None
    body: tuple[Token, ...]


@dataclass
class _Branch:
    """One ``#if … #endif``: whether this branch is read, and whether one of it was."""

    live: bool
    taken: bool
    word: str
    line: int


def preprocess(text: str, defines: Mapping[str, str] | None = None) -> str:
    """``text`` with its macros written out and without the branches of ``#if`` that do not hold.

    Parameters
    ----------
    text
        Metal source whose ``#include "…"`` have been followed.
    defines
        Macros that are defined in front of it, and their texts.

    Raises
    ------
    ValueError
        A condition cannot be evaluated, an ``#if`` and its ``#endif`` do not match, or an ``#error`` is reached.
    """
    return _Preprocessor(defines or {}).run(tokenize(text))


class _Preprocessor:
    def __init__(self, defines: Mapping[str, str]) -> None:
        self.macros = {name: _Macro(None, _body(tokenize(value))) for name, value in defines.items()}
        self.branches: list[_Branch] = []

    @property
    def live(self) -> bool:
        return all(branch.live for branch in self.branches)

    def run(self, tokens: Sequence[Token]) -> str:
        found: list[Token] = []
        index = 0
        while index < len(tokens):
            start = index
            if tokens[index].kind == "directive":
                index = line_end(tokens, index)
                line = tokens[start:index]
                kept = self._directive(line[0].text.lstrip("# \t"), line[1:], line[0].line)
                found += line if kept else _emptied(line)
                continue
            while index < len(tokens) and tokens[index].kind != "directive":
                index += 1
            part = tokens[start:index]
            found += _apart(self._expand(part, frozenset())) if self.live else _emptied(part)
        if self.branches:
            open_branch = self.branches[-1]
            raise ValueError(
                f"line {open_branch.line}: `#{open_branch.word}` has no `#endif`. Write one behind what it holds."
            )
        return join(found)

    # ---- directives ----

    def _directive(self, word: str, rest: Sequence[Token], line: int) -> bool:
        """Follow one, and say whether its line stays."""
        names = [token.text for token in rest if token.kind == "name"]
        if word in ("if", "ifdef", "ifndef"):
            holds = self.live and self._holds(word, rest, names, line)
            self.branches.append(_Branch(holds, holds or not self.live, word, line))
        elif word in ("elif", "else", "endif") and not self.branches:
            raise ValueError(
                f"line {line}: `#{word}` belongs to no `#if`. Remove it, or write the `#if` before it."
            )
        elif word in ("elif", "else"):
            branch = self.branches[-1]
            branch.live = not branch.taken and (word == "else" or self._holds("if", rest, names, line))
            branch.taken |= branch.live
        elif word == "endif":
            self.branches.pop()
        elif self.live and word == "define":
            self._define(rest)
        elif self.live and word == "undef" and names:
            self.macros.pop(names[0], None)
        elif self.live and word == "error":
            raise ValueError(f"line {line}: #error {join(rest).strip()}")
        return self.live and word in _KEPT

    def _define(self, rest: Sequence[Token]) -> None:
        at = next((i for i, token in enumerate(rest) if token.kind == "name"), None)
        if at is None:
            return
        name, behind, parameters = rest[at].text, at + 1, None
        if behind < len(rest) and rest[behind].text == "(":
            close = next(i for i in range(behind, len(rest)) if rest[i].text == ")")
            listed = [token for token in rest[behind + 1 : close] if token.is_code and token.text != ","]
            named = [token.text for token in listed if token.kind == "name"]
            parameters = (*named, _VARIADIC) if any(token.text == "." for token in listed) else (*named,)
            behind = close + 1
        self.macros[name] = _Macro(parameters, _body(rest[behind:]))

    def _holds(self, word: str, rest: Sequence[Token], names: Sequence[str], line: int) -> bool:
        if word != "if":
            return bool(names) and self._is_defined(names[0]) == (word == "ifdef")
        asked = _answer_defined([token for token in answered(rest) if token.is_code], self._is_defined)
        words = [
            # A name that is no macro is 0, but for those of Metal's compiler.
            Token("number", str(int(token.text == "true")), token.line)
            if token.kind == "name" and token.text not in PREDEFINED
            else token
            for token in self._expand(asked, frozenset())
        ]
        value = evaluate(words)
        if value is None:
            raise ValueError(
                f"line {line}: expected a condition of integers, comparisons, `defined`, &&, || and ! but got "
                f"`#if {join(rest).strip()}`. Give what it asks for in `defines`, or write the condition in those."
            )
        return value

    def _is_defined(self, name: str) -> bool:
        return name in self.macros or bool(is_defined(name))

    # ---- macros ----

    def _expand(self, tokens: Sequence[Token], within: frozenset[str]) -> list[Token]:
        found: list[Token] = []
        index = 0
        while index < len(tokens):
            token = tokens[index]
            macro = self.macros.get(token.text) if token.kind == "name" and token.text not in within else None
            behind = index + 1
            arguments: list[list[Token]] = []
            if macro is not None and macro.parameters is not None:
                called = _arguments(tokens, behind)
                if called is None:
                    macro = None
                else:
                    arguments, behind = called
            if macro is None:
                found.append(token)
                index += 1
                continue
            replaced = self._replaced(macro, arguments, within, token.line)
            made = self._expand(replaced, within | {token.text})
            found += [
                t if "\n" not in t.text and t.kind != "comment" else Token("space", " ", t.line) for t in made
            ]
            breaks = sum(t.text.count("\n") for t in tokens[index:behind])
            if breaks and not within:
                found.append(Token("space", "\n" * breaks, token.line))
            index = behind
        return found

    def _replaced(
        self, macro: _Macro, arguments: list[list[Token]], within: frozenset[str], line: int
    ) -> list[Token]:
        """The macro's body with the arguments in it, before it is looked through again."""
        given = _by_name(macro.parameters or (), arguments)
        body, found = macro.body, list[Token]()
        pasting = nothing = False  # behind `##`; behind an empty argument
        for index, part in enumerate(body):
            if part.text == "##":
                while found and not found[-1].is_code:
                    found.pop()
                pasting = True
                continue
            if pasting and not part.is_code:
                continue
            before = _code(body, index, -1)
            if part.text == "#" and macro.parameters is not None and _code(body, index, 1) in given:
                continue
            if part.kind != "name" or part.text not in given:
                new = [Token(part.kind, part.text, line)]
            elif before == "#":
                new = [Token("string", _as_string(given[part.text]), line)]
            elif pasting or _code(body, index, 1) == "##":
                new = _stripped(given[part.text])
            else:
                new = self._expand(given[part.text], within)
            if pasting and not new and part.text == _VARIADIC and found and found[-1].text == ",":
                found.pop()  # `, ##__VA_ARGS__` without any
            elif pasting and new and found and not nothing and found[-1].text != ",":
                new = [*tokenize(found.pop().text + new[0].text), *new[1:]]
            found += new
            if part.is_code:
                nothing = not new and (nothing or not pasting)
                pasting = False
        return found


def _body(tokens: Sequence[Token]) -> tuple[Token, ...]:
    """A macro's body, where ``#name`` is no directive but ``#`` and a name."""
    parts: list[Token] = []
    for token in tokens:
        if token.kind == "directive":
            parts += [Token("punct", "#", token.line), Token("name", token.text.lstrip("# \t"), token.line)]
        elif token.kind == "comment" or "\n" in token.text:
            parts.append(Token("space", " ", token.line))
        else:
            parts.append(token)
    return tuple(_stripped(parts))


def _stripped(tokens: Sequence[Token]) -> list[Token]:
    code = [i for i, token in enumerate(tokens) if token.is_code]
    return list(tokens[code[0] : code[-1] + 1]) if code else []


def _code(tokens: Sequence[Token], index: int, step: int) -> str:
    """The text of the code token before (-1) or behind (1) ``index``."""
    index += step
    while 0 <= index < len(tokens) and not tokens[index].is_code:
        index += step
    return tokens[index].text if 0 <= index < len(tokens) else ""


def _as_string(tokens: Sequence[Token]) -> str:
    text = " ".join(join(tokens).split())
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _by_name(parameters: Sequence[str], arguments: list[list[Token]]) -> dict[str, list[Token]]:
    """The arguments by parameter; those that a variadic macro takes besides belong to its last one."""
    given = dict(zip(parameters, arguments, strict=False))
    if parameters and parameters[-1] == _VARIADIC:
        more: list[Token] = []
        for argument in arguments[len(parameters) - 1 :]:
            more += [*([Token("punct", ",", 0)] if more else []), *argument]
        given[_VARIADIC] = more
    return given


def _arguments(tokens: Sequence[Token], index: int) -> tuple[list[list[Token]], int] | None:
    """The arguments in the parentheses at ``index``, and the token behind them; None if there are none."""
    while index < len(tokens) and not tokens[index].is_code:
        index += 1
    if index >= len(tokens) or tokens[index].text != "(":
        return None
    found: list[list[Token]] = [[]]
    depth = 1
    for end in range(index + 1, len(tokens)):
        text = tokens[end].text
        depth += (text == "(") - (text == ")")
        if depth == 0:
            return [_stripped(argument) for argument in found], end + 1
        if text == "," and depth == 1:
            found.append([])
            continue
        found[-1].append(tokens[end])
    return None


def _answer_defined(tokens: Sequence[Token], asked: Callable[[str], bool]) -> list[Token]:
    """The code of a condition with ``defined NAME`` and ``defined(NAME)`` answered."""
    found: list[Token] = []
    index = 0
    while index < len(tokens):
        if tokens[index].text != "defined":
            found.append(tokens[index])
            index += 1
            continue
        named = index + (2 if _code(tokens, index, 1) == "(" else 1)
        name = tokens[named].text if named < len(tokens) else ""
        found.append(Token("number", str(int(asked(name))), tokens[index].line))
        index = named + (2 if named == index + 2 else 1)
    return found


def _apart(tokens: Sequence[Token]) -> list[Token]:
    """The tokens with spaces where a macro has brought two together that would be read as one: ``-`` and ``-1``."""
    found: list[Token] = []
    for token in tokens:
        last = found[-1] if found else None
        if last is not None and last.text and token.text and last.is_code and token.is_code:
            words = last.kind in ("name", "number") and token.kind in ("name", "number")
            if words or last.text[-1] + token.text[0] in _JOINED:
                found.append(Token("space", " ", token.line))
        if token.text:
            found.append(token)
    return found


def _emptied(tokens: Sequence[Token]) -> list[Token]:
    return [Token("space", "\n" * token.text.count("\n"), token.line) for token in tokens]
