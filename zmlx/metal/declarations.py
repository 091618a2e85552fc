"""What a kernel's header declares: functions and classes, found without understanding them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from zmlx.metal.pastes import pasted_names
from zmlx.metal.structure import Fragment, Program

_CLASS_KEYS = frozenset({"struct", "class", "union", "enum"})
_ACCESS = frozenset({"public", "private", "protected"})

#: What stands in front of parentheses that hold no parameters.
_NOT_A_NAME = frozenset({"__attribute__", "alignas", "decltype", "noexcept", "static_assert", "__declspec"})


@dataclass(frozen=True)
class Declaration:
    """A function or class with a body, or a macro that stands where a declaration could.

    All numbers are token indices: ``first`` and ``last`` of the whole, the parentheses of ``parameters`` and the
    braces of ``body``. ``scope`` is the class around it.
    """

    kind: Literal["function", "class", "macro"]
    name: str
    scope: str
    first: int
    last: int
    parameters: tuple[int, int] = (-1, -1)
    body: tuple[int, int] = (-1, -1)


def declarations(fragment: Fragment) -> Iterator[Declaration]:
    """The declarations of a fragment, those in namespaces and classes included."""
    return _in_range(fragment, 0, len(fragment) - 1, "")


def used_names(program: Program) -> frozenset[str]:
    """All names in the kernel but those in functions and macros that it does not reach."""
    header = program.header.main
    bodies: dict[str, set[str]] = {}
    inside: set[int] = set()
    for declaration in declarations(header):
        if declaration.kind == "function" and not declaration.name.startswith("operator"):
            span = range(declaration.body[0], declaration.body[1] + 1)
            bodies.setdefault(declaration.name, set()).update(
                header.text(i) for i in span if header.is_name(i)
            )
            inside.update(span)
    # The header names its functions where it declares them: what counts is who else does.
    used = {
        header.text(i) for i in range(len(header)) if header.is_name(i) and i not in inside
    } - bodies.keys()
    for source in program.sources:
        for macro in source.macros:  # also one that is defined again: which of them holds is not known here
            bodies.setdefault(macro.name, set()).update(_names(macro.body))
    for (owner, _), names in pasted_names(program).items():
        bodies.setdefault(owner, set()).update(names)
    used |= _names(program.body.main)
    reached = used & bodies.keys()
    while reached:
        used.update(*(bodies[name] for name in reached))
        for name in reached:
            del bodies[name]
        reached = used & bodies.keys()
    return frozenset(used)


def _names(fragment: Fragment) -> set[str]:
    return {fragment.text(i) for i in range(len(fragment)) if fragment.is_name(i)}


def _in_range(fragment: Fragment, first: int, last: int, scope: str) -> Iterator[Declaration]:
    index = first
    while index <= last:
        text = fragment.text(index)
        if text == ";" or (text in _ACCESS and fragment.text(index + 1) == ":"):
            index += 1 if text == ";" else 2
        elif text in ("namespace", "extern") and _block(fragment, index) > 0:
            opened = _block(fragment, index)
            yield from _in_range(fragment, opened + 1, fragment.partner(opened) - 1, scope)
            index = fragment.partner(opened) + 1
        elif _is_macro_call(fragment, index):
            end = fragment.partner(index + 1)
            end += fragment.text(end + 1) == ";"
            yield Declaration("macro", text, scope, index, end)
            index = end + 1
        else:
            parser = _Parser(fragment, index, last, scope)
            yield from parser.found
            index = parser.end + 1


def _block(fragment: Fragment, index: int) -> int:
    """The brace of ``namespace a::b {`` or ``extern "C" {``; -1 if it is something else."""
    i = index + 1
    while fragment.is_name(i) or fragment.text(i) == "::" or fragment.text(i).startswith('"'):
        i += 1
    return i if fragment.text(i) == "{" and fragment.partner(i) > 0 else -1


def _is_macro_call(fragment: Fragment, index: int) -> bool:
    macro = fragment.source.program.macros.get(fragment.text(index))
    called = fragment.text(index + 1) == "(" and fragment.partner(index + 1) > 0
    return macro is not None and macro.parameters is not None and called


class _Parser:
    """One declaration, from ``first`` on. ``end`` is its last token, ``found`` what it declares with a body."""

    def __init__(self, fragment: Fragment, first: int, last: int, scope: str) -> None:
        self.fragment = fragment
        self.first = first
        self.last = last
        self.scope = scope
        self.name = ""
        self.class_name = ""
        self.parameters = (-1, -1)
        self.found: list[Declaration] = []
        self.end = self._parse()

    def _parse(self) -> int:
        fragment, i = self.fragment, self.first
        while i <= self.last:
            text = fragment.text(i)
            if text == ";":
                return i
            if text == "operator":
                i = self._operator(i)
            elif text == "=" and self.parameters[0] < 0:
                return self._skip_to_semicolon(i)
            elif text == "(":
                i = self._parentheses(i)
            elif text == "{":
                done, i = self._braces(i)
                if done:
                    return i
            elif text == ":" and self.parameters[0] >= 0:
                i = self._initialisers(i + 1)
            else:
                if fragment.is_name(i) and self.parameters[0] < 0:
                    self.name = text
                if fragment.text(i - 1) in _CLASS_KEYS and text not in _CLASS_KEYS:
                    self.class_name = text
                i = fragment.skip_group(i)
        return self.last

    def _skip_to_semicolon(self, i: int) -> int:
        while i <= self.last and self.fragment.text(i) != ";":
            i = self.fragment.skip_group(i)
        return min(i, self.last)

    def _operator(self, i: int) -> int:
        """``operator()``, ``operator+=`` or ``operator T``: the index of the parameters' parenthesis."""
        end = i + 1
        if self.fragment.text(end) == "(" and self.fragment.text(end + 1) == ")":
            end += 2
        while end <= self.last and self.fragment.text(end) not in ("(", ";"):
            end += 1
        self.name = "".join(self.fragment.text(k) for k in range(i, end))
        return end

    def _parentheses(self, i: int) -> int:
        close = self.fragment.partner(i)
        if close < 0:
            return i + 1
        if self.parameters[0] < 0 and self.name and self.fragment.text(i - 1) not in _NOT_A_NAME:
            self.parameters = (i, close)
        return close + 1

    def _initialisers(self, i: int) -> int:
        """``a(1), b{2}`` of a constructor: the index behind the last of them."""
        while i <= self.last:
            while i <= self.last and self.fragment.text(i) not in ("(", "{", ";"):
                i = self.fragment.skip_group(i)
            i = self.fragment.skip_group(i)
            if self.fragment.text(i) != ",":
                return i
            i += 1
        return i

    def _braces(self, i: int) -> tuple[bool, int]:
        """Whether the declaration ends with these braces, and where it does or goes on."""
        close = self.fragment.partner(i)
        if close < 0:
            return True, self.last
        if self.parameters[0] >= 0:
            self._add("function", (i, close))
            return True, close
        if self.class_name:
            self.name = self.class_name
            self._add("class", (i, close))
            if "enum" not in (self.fragment.text(k) for k in range(self.first, i)):
                self.found += _in_range(self.fragment, i + 1, close - 1, f"{self.scope}{self.name}::")
            return True, self._skip_to_semicolon(close + 1)
        return False, close + 1

    def _add(self, kind: Literal["function", "class"], body: tuple[int, int]) -> None:
        self.found.append(
            Declaration(kind, self.name, self.scope, self.first, body[1], self.parameters, body)
        )
