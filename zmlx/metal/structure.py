"""Brackets, template argument lists, statements and macros of a tokenized source.

What `translate` rewrites needs a little more than tokens and far less than a C++ parser: where a bracket closes,
whether a ``<`` opens template arguments, where a statement ends. A source is taken apart into *fragments* that
brackets do not leave: the text without its preprocessor lines, and the body of each macro.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from zmlx.metal.tokens import Token, join, line_end, one_line, tokenize

_OPENERS = {"(": ")", "[": "]", "{": "}"}
_CLOSERS = {closer: opener for opener, closer in _OPENERS.items()}

#: Templates of the library and of C++ that kernels name with arguments. Names like ``is_same_v`` and
#: ``conditional_t`` are known by their ending, the kernel's own by their declaration.
_TEMPLATES = """
static_cast reinterpret_cast const_cast template as_type vec packed_vec atomic array numeric_limits
integral_constant bool_constant enable_if conditional is_same is_convertible remove_reference remove_cv
remove_const remove_pointer decay make_unsigned make_signed is_integral is_floating_point is_arithmetic
is_pointer is_void is_const is_enum is_scalar is_signed is_unsigned declval complex_t Limits WorkPerThread
ConditionalType LoopedElemToLoc elem_to_loc elem_to_loc_1 elem_to_loc_2 elem_to_loc_3 elem_to_loc_2_nd
elem_to_loc_3_nd ceildiv cast_to simdgroup_matrix make_filled_simdgroup_matrix matrix remove_addrspace
remove_volatile remove_extent add_const add_volatile add_cv add_lvalue_reference add_rvalue_reference add_pointer
underlying_type conjunction disjunction negation is_base_of is_constructible is_vector is_empty is_class is_union
is_final is_trivially_copyable is_standard_layout is_lvalue_reference is_rvalue_reference is_reference is_volatile
is_array is_fundamental is_compound remove_all_extents rank extent alignment_of is_function is_object
is_null_pointer is_trivial is_pod is_abstract is_polymorphic is_default_constructible is_copy_constructible
is_move_constructible is_assignable is_copy_assignable is_move_assignable common_type
"""
_LIBRARY_TEMPLATES = frozenset(_TEMPLATES.split())
_TEMPLATE_LIKE = re.compile(r"\w+_[tv]")
_NO_TYPE = frozenset({"&&", "||", "=", "==", "!=", "<=", ">=", "?", ";", "+", "-", "/", "%", "{", "}"})


@dataclass(eq=False)
class Fragment:
    """Code tokens that belong together. All indices are into ``code``.

    ``positions`` are the tokens' indices in the whole source, ``macro`` the macro whose body this is, ``erased``
    what a translation has removed, ``texts`` what the tokens were before it.
    """

    source: Source
    code: list[Token]
    positions: list[int]
    macro: Macro | None = None
    erased: set[int] = field(default_factory=set)
    texts: list[str] = field(init=False, repr=False)
    _count: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.texts = [token.text for token in self.code]
        self._count = len(self.texts)

    def __len__(self) -> int:
        return self._count

    def text(self, index: int) -> str:
        """The token's original text; empty outside of the fragment."""
        return self.texts[index] if 0 <= index < self._count else ""

    def places(self, *texts: str) -> list[int]:
        """Where tokens have one of these original texts."""
        return [index for index, text in enumerate(self.texts) if text in texts]

    def left(self) -> list[int]:
        """The indices of all tokens but those that a translation has removed: other texts stand in their place."""
        return [index for index in range(self._count) if index not in self.erased]

    def is_name(self, index: int) -> bool:
        return 0 <= index < self._count and self.code[index].kind == "name"

    @cached_property
    def _brackets(self) -> tuple[dict[int, int], list[int]]:
        partner: dict[int, int] = {}
        parent = []
        opened: list[int] = []
        for index, text in enumerate(self.texts):
            if text in _CLOSERS and opened and self.texts[opened[-1]] == _CLOSERS[text]:
                partner[opened[-1]] = index
                partner[index] = opened.pop()
            parent.append(opened[-1] if opened else -1)
            if text in _OPENERS:
                opened.append(index)
        return partner, parent

    def partner(self, index: int) -> int:
        """Index of the bracket that belongs to the one at ``index``; -1 if it has none."""
        return self._brackets[0].get(index, -1)

    def parent(self, index: int) -> int:
        """Index of the innermost bracket that is open at ``index``; -1 if there is none."""
        return self._brackets[1][index]

    @cached_property
    def angles(self) -> dict[int, int]:
        """Template argument lists: the index of each ``<`` that opens one to that of its ``>``, and back."""
        found: dict[int, int] = {}
        for index, text in enumerate(self.texts):
            if text == "<" and index not in found:
                self._match_angle(index, found)
        return found

    def _match_angle(self, index: int, found: dict[int, int]) -> int:
        """Enters the list that opens at ``index``, if one does, and those within it. Returns its end or -1."""
        name = self.text(index - 1)
        certain = self.is_name(index - 1) and self.source.program.is_template(name)
        if not certain and not self.is_name(index - 1):
            return -1
        inner: dict[int, int] = {}
        i = index + 1
        while i < len(self.code):
            text = self.texts[i]
            if text in _OPENERS:
                i = self.partner(i)
                if i < 0:
                    return -1
            elif text == "<":
                end = self._match_angle(i, inner)
                i = end if end >= 0 else i
            elif text == ">":
                if not certain and self.text(i + 1) not in ("(", "::"):
                    return -1
                found.update(inner)
                found[index], found[i] = i, index
                return i
            elif text in ";{})]" or (not certain and text in _NO_TYPE):
                return -1
            i += 1
        return -1

    def skip_group(self, index: int) -> int:
        """The index behind what begins at ``index``: a bracketed group, template arguments, or one token."""
        if self.text(index) in _OPENERS and self.partner(index) >= 0:
            return self.partner(index) + 1
        if self.text(index) == "<" and self.angles.get(index, -1) > index:
            return self.angles[index] + 1
        return index + 1

    def statement_end(self, index: int) -> int:
        """Index of the last token of the statement that begins at ``index``."""
        text = self.text(index)
        if text == "{":
            return max(self.partner(index), index)
        if text in ("if", "for", "while", "switch"):
            head = index + 2 if self.text(index + 1) == "constexpr" else index + 1
            end = self.statement_end(max(self.partner(head), head) + 1)
            return self.statement_end(end + 2) if text == "if" and self.text(end + 1) == "else" else end
        if text == "do":
            head = self.statement_end(index + 1) + 2
            return max(self.partner(head), head) + 1
        i = index
        while i < len(self.code) and self.text(i) != ";" and self.text(i) not in _CLOSERS:
            i = self.partner(i) + 1 if self.text(i) in _OPENERS and self.partner(i) > i else i + 1
        return min(i, len(self.code) - 1)

    def pieces(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The ranges between the commas from ``first`` to ``last`` that stand in no bracket."""
        start = i = first
        while i <= last:
            if self.text(i) == ",":
                yield start, i - 1
                start = i + 1
            i = self.skip_group(i)
        if start <= last:
            yield start, last

    def tokens(self, first: int, last: int) -> list[Token]:
        """All tokens, spaces and comments included, from code token ``first`` to ``last``."""
        return self.source.tokens[self.positions[first] : self.positions[last] + 1]

    def render(self, first: int, last: int) -> str:
        """The code from ``first`` to ``last`` as translated so far, on one line."""
        return one_line(self.tokens(first, last)) if first <= last else ""

    def replace(self, first: int, last: int, text: str) -> None:
        """Put ``text`` in the place of the code from ``first`` to ``last``."""
        self.erase(first, last)
        self.code[first].text = text

    def erase(self, first: int, last: int) -> None:
        """Remove the code from ``first`` to ``last``, but not its line breaks."""
        self.erased.update(range(first, last + 1))
        for token in self.tokens(first, last):
            token.before = token.after = ""
            token.text = "\n" * token.text.count("\n")


def unbalanced(text: str) -> str:
    """The first bracket of a text that closes nothing, or is not closed, with its line; empty if there is none."""
    opened: list[Token] = []
    for token in tokenize(text):
        if token.text in _OPENERS:
            opened.append(token)
        elif token.text in _CLOSERS:
            if not opened:
                wanted = _CLOSERS[token.text]
                return (
                    f"line {token.line}: `{token.text}` closes nothing. Remove it, or write its `{wanted}`."
                )
            last = opened.pop()
            if last.text != _CLOSERS[token.text]:
                return (
                    f"line {token.line}: expected `{_OPENERS[last.text]}` for the `{last.text}` of line {last.line} "
                    f"but got `{token.text}`. Close each bracket by its own kind."
                )
    if opened:
        last = opened[-1]
        return f"line {last.line}: `{last.text}` is not closed. Write `{_OPENERS[last.text]}` behind what it holds."
    return ""


@dataclass(frozen=True, eq=False)
class Macro:
    """A ``#define``. ``parameters`` is None for a macro without a parameter list."""

    name: str
    parameters: tuple[str, ...] | None
    body: Fragment


@dataclass(frozen=True)
class Directive:
    """Any other preprocessor line: its word, and the tokens behind it."""

    word: str
    token: Token
    rest: list[Token]


class Source:
    """One of a kernel's two texts, ``"header"`` or ``"source"``, taken apart."""

    def __init__(self, program: Program, part: str, text: str) -> None:
        self.program = program
        self.part = part
        self.tokens = tokenize(text)
        self.macros: list[Macro] = []
        self.directives: list[Directive] = []
        outside: list[int] = []
        index = 0
        while index < len(self.tokens):
            if self.tokens[index].kind == "directive":
                end = line_end(self.tokens, index)
                self._take_directive(index, end)
                index = end
            else:
                outside.append(index)
                index += 1
        self.main = self._fragment(outside)

    @property
    def fragments(self) -> list[Fragment]:
        return [*(macro.body for macro in self.macros), self.main]

    def render(self) -> str:
        return join(self.tokens)

    def _take_directive(self, index: int, end: int) -> None:
        token = self.tokens[index]
        word = token.text.lstrip("# \t")
        code = [i for i in range(index + 1, end) if self.tokens[i].is_code]
        if word != "define" or not code:
            self.directives.append(Directive(word, token, self.tokens[index + 1 : end]))
            return
        name, body = code[0], code[1:]
        parameters = None
        if body and body[0] == name + 1 and self.tokens[body[0]].text == "(":
            close = next((k for k, i in enumerate(body) if self.tokens[i].text == ")"), len(body) - 1)
            parameters = tuple(self.tokens[i].text for i in body[1:close] if self.tokens[i].kind == "name")
            body = body[close + 1 :]
        macro = Macro(self.tokens[name].text, parameters, self._fragment(body))
        macro.body.macro = macro
        self.macros.append(macro)

    def _fragment(self, positions: list[int]) -> Fragment:
        code = [i for i in positions if self.tokens[i].is_code]
        return Fragment(self, [self.tokens[i] for i in code], code)


class Program:
    """A kernel's header and body together: what is declared in one is used in the other."""

    def __init__(self, header: str, body: str) -> None:
        self.header = Source(self, "header", header)
        self.body = Source(self, "source", body)

    @property
    def sources(self) -> tuple[Source, Source]:
        return self.header, self.body

    @property
    def fragments(self) -> list[Fragment]:
        return [*self.header.fragments, *self.body.fragments]

    @cached_property
    def macros(self) -> dict[str, Macro]:
        return {macro.name: macro for source in self.sources for macro in source.macros}

    @cached_property
    def condition_names(self) -> frozenset[str]:
        """Names in ``#if`` and ``#elif`` lines: macros among them must stay what the preprocessor understands."""
        return frozenset(
            token.text
            for source in self.sources
            for directive in source.directives
            if directive.word in ("if", "elif")
            for token in directive.rest
            if token.kind == "name"
        )

    def is_template(self, name: str) -> bool:
        """Whether a ``<`` behind this name opens template arguments."""
        return name in _LIBRARY_TEMPLATES or name in self._templates or bool(_TEMPLATE_LIKE.fullmatch(name))

    @cached_property
    def _templates(self) -> frozenset[str]:
        return frozenset(name for fragment in self.fragments for name in _declared_templates(fragment))


def _declared_templates(fragment: Fragment) -> Iterator[str]:
    """Names that the fragment declares as templates: what follows the parameters of each ``template <…>``."""
    for index in range(len(fragment)):
        if fragment.text(index) != "template" or fragment.text(index + 1) != "<":
            continue
        depth, i = 0, index + 1
        while i < len(fragment):
            text = fragment.text(i)
            depth += (text == "<") - (text == ">")
            if text == "class" and fragment.text(i - 1) == ">" and fragment.is_name(i + 1):
                yield fragment.text(i + 1)  # a template template parameter
            i += 1
            if depth == 0:
                break
        # The declared name stands in front of its parameters, base, body or initialiser.
        while i < len(fragment) and fragment.text(i) not in ("(", "{", ";", "=", ":"):
            if fragment.is_name(i) and fragment.text(i + 1) in ("(", "{", ";", "=", ":", "<"):
                yield fragment.text(i)
            # Attributes in front of the name, as of kernels, are no parameters.
            i = max(fragment.partner(i), i) + 1 if fragment.text(i) == "[" else i + 1
