"""A function of the header as statements that can stand in front of its call: for `inlining`.

=============================================  ======================================================================
in the function                                in front of the call
=============================================  ======================================================================
a parameter by value                           a variable that is made of the argument
a parameter by reference                       the argument's own text
a pointer that the function does not move      the same, if the argument is a name
template parameters                            names and constants, as the compiler deduces them from the call
names that the function declares               with a number, so that none of the kernel's is meant
``return e;`` at the end                       the variable that stands in the place of the call
``if (c) return e; …``                         ``if (c) result = e; else { … }``
=============================================  ======================================================================

What does not follow these forms raises `Unclear`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zmlx.metal.declarations import Declaration
from zmlx.metal.expansion import expand
from zmlx.metal.statements import Range, Statement, Unclear, exits, parse
from zmlx.metal.structure import Fragment, Program, Source
from zmlx.metal.tokens import Token, line_end, one_line
from zmlx.translate.variables import use_of

#: Words in front of a function's return type that say nothing of its value.
_SPECIFIERS = frozenset({"inline", "static", "constexpr", "const", "METAL_FUNC", "extern"})
_SPACES = frozenset({"thread", "threadgroup", "device", "constant"})
_NOT_MOVED = frozenset({"__LINE__", "__COUNTER__", "goto", "static", "asm", "sizeof"})


@dataclass(frozen=True)
class TemplateParameter:
    """``typename T`` or ``int N``; `kind` is the text in front of the name."""

    kind: str
    name: str

    @property
    def is_type(self) -> bool:
        return self.kind in ("typename", "class")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function: its name, and the text around the name; ``default`` may be empty."""

    name: str
    before: str
    behind: str
    default: str
    reference: bool
    pointer: bool
    constant: bool


@dataclass
class Callee:
    """A function that is put in the place of its calls."""

    program: Program
    declaration: Declaration
    template: tuple[TemplateParameter, ...] = field(init=False)
    parameters: tuple[Parameter, ...] = field(init=False)
    #: The type of what it returns: empty for void.
    result: str = field(init=False)

    def __post_init__(self) -> None:
        header = self.program.header.main
        first = self.declaration.first
        self.template = ()
        if header.text(first) == "template":
            self.template = tuple(self._template(first + 2, header.angles.get(first + 1, -1) - 1))
            first = header.skip_group(first + 1)
        opened, closed = self.declaration.parameters
        words = [header.text(i) for i in range(first, opened - 1)]
        dropped = _SPECIFIERS - ({"const"} if "*" in words else set())  # of a value, `const` says nothing
        ahead = [w for w in words if w not in dropped and not self._says_nothing(w)]
        if "&" in ahead or "operator" in ahead or "[" in ahead or "__attribute__" in ahead:
            raise Unclear(f"threads meet in `{self.name}`, which returns a reference or has attributes")
        if closed + 1 != self.declaration.body[0]:
            raise Unclear(f"threads meet in `{self.name}`, whose result stands behind its parameters")
        self.result = "" if ahead == ["void"] else " ".join(ahead)
        parts = list(header.pieces(opened + 1, closed - 1))
        if [header.text(i) for i in range(opened + 1, closed)] == ["void"]:
            parts = []
        self.parameters = tuple(self._parameter(*part) for part in parts)

    @property
    def name(self) -> str:
        return self.declaration.name

    def _says_nothing(self, word: str) -> bool:
        """Whether a word is a macro for ``inline`` and the like."""
        macro = self.program.macros.get(word)
        if macro is None:
            return False
        words = {macro.body.text(i) for i in range(len(macro.body))}
        return words <= _SPECIFIERS | {"__attribute__", "(", ")", "always_inline", "__always_inline__"}

    def _template(self, first: int, last: int) -> list[TemplateParameter]:
        header, found = self.program.header.main, []
        for start, end in _pieces_of_template(header, first, last):
            words = [header.text(i) for i in range(start, end + 1)]
            words = words[: words.index("=")] if "=" in words else words
            if "." in words or "template" in words or len(words) < 2 or not words[-1].isidentifier():
                raise Unclear(f"threads meet in `{self.name}`, a template of an unknown form")
            found.append(TemplateParameter(" ".join(words[:-1]), words[-1]))
        return found

    def _parameter(self, first: int, last: int) -> Parameter:
        header = self.program.header.main
        default = ""
        end = next((i for i in range(first, last + 1) if header.text(i) == "="), last + 1)
        if end <= last:
            default = header.render(end + 1, last)
            last = end - 1
        words = [header.text(i) for i in range(first, last + 1)]
        if "[" in words and header.text(first + words.index("[") + 1) == "[":
            raise Unclear(f"threads meet in `{self.name}`, whose parameters have attributes")
        at = last
        while at > first and (header.text(at) == "]" or header.text(at) == ")"):
            at = header.partner(at) - 1 if header.text(at) == "]" else at - 1
        if not header.is_name(at) or at == first or header.text(at) in _SPACES or "." in words:
            raise Unclear(f"threads meet in `{self.name}`, which has a parameter of an unknown form")
        array = header.text(at + 1) == "["
        pointer = array or "*" in words
        reference = "&" in words or "&&" in words
        if (pointer and not array and reference) or "&&" in words or words.count("(") > 1:
            raise Unclear(f"threads meet in `{self.name}`, which has a parameter of an unknown form")
        return Parameter(
            header.text(at),
            header.render(first, at - 1),
            header.render(at + 1, last),
            default,
            reference,
            pointer and not reference,
            "const" in words or "constant" in words,
        )

    def deduction(self) -> str:
        """Declarations that let the compiler tell the template arguments of a call."""
        header = self.program.header.main
        first, (opened, closed) = self.declaration.first, self.declaration.parameters
        template = header.render(first, header.skip_group(first + 1) - 1)
        held = "".join(
            f" using {p.name}_ = {p.name};" if p.is_type else f" static constexpr auto {p.name}_ = {p.name};"
            for p in self.template
        )
        plain = " ".join(template.split())
        names = ", ".join(p.name for p in self.template)
        return (
            f" {plain} struct zmlx_arguments_of_{self.name} {{{held} }};"
            f" {plain} zmlx_arguments_of_{self.name}<{names}> zmlx_deduce_{self.name}{header.render(opened, closed)};"
        )

    def body(self, macros: frozenset[str]) -> Fragment:
        """The statements of a copy of the body, in which these macros are written out."""
        header = self.program.header.main
        opened, closed = self.declaration.body
        tokens = header.tokens(opened, closed)[1:-1]
        kept: list[Token] = []
        index = 0
        while index < len(tokens):
            token = tokens[index]
            if token.kind == "directive":
                end = line_end(tokens, index)
                if token.text.lstrip("# \t") != "pragma":
                    raise Unclear(f"threads meet in `{self.name}`, which has a `{token.text}`")
                index = end
                continue
            if token.text in _NOT_MOVED:
                raise Unclear(f"threads meet in `{self.name}`, which has a `{token.text}`")
            kept.append(token)
            index += 1
        text = one_line(kept)
        return Source(self.program, "header", expand(self.program, text, macros) if macros else text).main


def _pieces_of_template(header: Fragment, first: int, last: int) -> list[Range]:
    if last < first:
        raise Unclear("a template of an unknown form")
    return list(header.pieces(first, last))


def declared_names(fragment: Fragment, statements: Sequence[Statement], function: str) -> set[str]:
    """The names that statements declare, at any depth."""
    found: set[str] = set()
    for outer in statements:
        for statement in outer.walk():
            if statement.kind == "declaration":
                words = {fragment.text(i) for i in range(statement.type[0], statement.type[1] + 1)}
                if "threadgroup" in words and any(
                    not d.pointer and not d.reference for d in statement.declarators
                ):
                    raise Unclear(f"threads meet in `{function}`, which has threadgroup memory of its own")
                found.update(fragment.text(d.name) for d in statement.declarators)
            elif statement.kind == "definition":
                if fragment.text(statement.first) != "using" or fragment.text(statement.first + 2) != "=":
                    raise Unclear(f"threads meet in `{function}`, which defines types")
                found.add(fragment.text(statement.first + 1))
    return found


def parsed(fragment: Fragment) -> list[Statement]:
    """The statements of a function's body."""
    return parse(fragment, 0, len(fragment) - 1)


def is_moved(fragment: Fragment, name: str, pointer: bool) -> bool:
    """Whether a body changes one of its parameters, or hands out its address."""
    return any(
        use_of(fragment, i, pointer) != "read"
        for i in range(len(fragment))
        if fragment.text(i) == name and fragment.text(i - 1) not in (".", "->", "::")
    )


class Returns:
    """Puts what a function returns, of the type ``result``, into a variable, and what is behind an early ``return``
    into its ``else``."""

    def __init__(self, callee: Callee, result: str, fragment: Fragment, variable: str) -> None:
        self.callee = callee
        self.result = result
        self.fragment = fragment
        self.variable = variable

    def rewrite(self, statements: list[Statement]) -> str:
        """Rewrite; returns the declaration of the variable, where it must stand in front."""
        result = self.result
        returns = [
            s for outer in statements for s in outer.walk() if s.kind == "exit" and s.keyword == "return"
        ]
        if len(returns) == 1 and statements[-1] is returns[0]:
            self._assign(returns[0], f"{result} {self.variable}" if result else "")
            return ""
        if returns:
            if "auto" in result.split():
                raise Unclear(f"threads meet in `{self.callee.name}`, which returns `auto` in several places")
            self._rewrite_list(statements)
        return f"{result} {self.variable}; " if result else ""

    def _assign(self, leaving: Statement, target: str) -> None:
        if leaving.first + 1 < leaving.last and not target:
            raise Unclear(f"threads meet in `{self.callee.name}`, which returns what another does")
        self.fragment.code[leaving.first].text = f"{target} =" if target else ""

    def _rewrite_list(self, statements: list[Statement]) -> None:
        for number, statement in enumerate(statements):
            if not any(e.keyword == "return" for e in exits(statement)):
                continue
            rest = statements[number + 1 :]
            if statement.kind == "exit":
                self._assign(statement, self.variable if self.result else "")
            elif statement.kind == "block" and not rest:
                self._rewrite_list(statement.children)
            elif statement.kind == "if" and (not rest or statement.otherwise is None):
                if rest:
                    if not _always_returns(statement.children):
                        raise self._unclear("out of the middle of a branch")
                    self.fragment.code[statement.last].after += " else {"
                    self.fragment.code[rest[-1].last].after += " }"
                self._rewrite_list(statement.children)
                self._rewrite_list(statement.otherwise or [])
            else:
                raise self._unclear("out of a loop" if statement.kind == "loop" else "in a place of its own")
            if rest and statement.kind != "exit":
                self._rewrite_list(rest)
            elif rest:
                raise self._unclear("in front of other statements")
            return

    def _unclear(self, where: str) -> Unclear:
        return Unclear(f"threads meet in `{self.callee.name}`, which has a `return` {where}")


def _always_returns(statements: list[Statement]) -> bool:
    if not statements:
        return False
    last = statements[-1]
    if last.kind == "if" and last.otherwise is not None:
        return _always_returns(last.children) and _always_returns(last.otherwise)
    return (last.kind == "exit" and last.keyword == "return") or (
        last.kind == "block" and _always_returns(last.children)
    )
