"""Conversions of floats to integers, which C++ leaves undefined where the integer does not hold the float.

======================================  ===============================================================
Metal                                   portable C++
======================================  ===============================================================
``int(e)``, ``(int)e``                  ``zmlx_cast<int>(e)``; likewise ``static_cast`` and aliases
``int n = e;``, ``int n(e);``           ``int n = zmlx_init<int>(e);``
``return e;`` of a function to int      ``return zmlx_init<int>(e);``
``f(e)`` for ``f(int n)``               ``f(zmlx_init<int>(e))``; functions of the header with one declaration
``a[i] = e``, ``n += e``                ``a[i] ->* zmlx_into = e``
======================================  ===============================================================

What is a float, tokens do not tell: the functions' overloads in runtime/msl/syntax.h do, and leave all else as it is.
What they make of a float, runtime/msl/convert.h says. CUDA converts like that by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from zmlx.metal.declarations import declarations
from zmlx.metal.signature import ATTRIBUTES
from zmlx.metal.structure import Fragment, Program
from zmlx.translate.overloads import overloaded_functions

_NAMES = """
uchar ushort uint ulong int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t size_t ptrdiff_t intptr_t
uintptr_t
"""
_SIMPLE = frozenset(_NAMES.split())
_PARTS = frozenset({"char", "short", "int", "long", "signed", "unsigned"})
_QUALIFIERS = frozenset({"const", "volatile", "constexpr"})
_FLOAT = re.compile(
    r"(?:packed_)?(?:float|half|bfloat)[234]?|float16_t|bfloat16_t|complex64_t|bool[234]?|float\dx\d"
)
#: Words in front of what is an expression all the same.
_BEFORE_EXPRESSION = frozenset({"else", "do", "return", "case"})
_COMPOUND = frozenset({"+=", "-=", "*=", "/="})
_OPENS_EXPRESSION = frozenset({"", ";", "{", "}", "(", ")", "=", "?", ":", ","})
_BINARY_OR_UNARY = frozenset({"-", "+", "*", "&"})
_INTEGER = re.compile(r"(?:0[xX][0-9a-fA-F']+|[0-9']+)[uUlL]*")
_SPACES_AND_QUALIFIERS = frozenset({"*", "&", "const", "device", "constant", "thread", "threadgroup"})
_BEHIND_DECLARATOR = frozenset({"=", ",", ";", "["})
_ENDS = frozenset({",", ";", ")", "]", "}"})


def rewrite_conversions(program: Program, known: Mapping[str, bool]) -> None:
    """Name the conversions of a program. ``known`` names types and outputs of the body: whether each is of integers."""
    aliases = frozenset(_aliases(program.fragments))
    functions = dict(_integer_parameters(program.header.main))
    skipped = program.condition_names
    for fragment in program.fragments:
        if fragment.macro is None or fragment.macro.name not in skipped:
            inside = known if fragment.source is program.body else {}
            _Rewriter(fragment, aliases, inside, functions).rewrite()


def _aliases(fragments: list[Fragment]) -> Iterator[str]:
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


def _integer_parameters(header: Fragment) -> Iterator[tuple[str, dict[int, str]]]:
    """Functions with one declaration, and which of their parameters are integers."""
    found = [d for d in declarations(header) if d.kind != "class" and d.first not in header.erased]
    names = [d.name for d in found]
    library = {name.rpartition("::")[2] for name in overloaded_functions(header)}
    for declared in found:
        if (
            declared.kind == "macro"
            or declared.scope
            or names.count(declared.name) > 1
            or declared.name in library
        ):
            continue
        types = {}
        for index, (first, last) in enumerate(
            header.pieces(declared.parameters[0] + 1, declared.parameters[1] - 1)
        ):
            end = next((i - 1 for i in range(first, last + 1) if header.text(i) == "="), last)
            kind = _type_ending(header, end) or _type_ending(header, end - 1)
            if kind and kind[0] == first:
                types[index] = kind[1]
        if types:
            yield declared.name, types


def _type_ending(
    fragment: Fragment, last: int, aliases: frozenset[str] = frozenset()
) -> tuple[int, str] | None:
    """An integer type, or an alias, whose last token this is: its first token and its text."""
    first, words = last, []
    while first >= 0 and (fragment.text(first) in _PARTS or fragment.text(first) in _QUALIFIERS):
        words.append(fragment.text(first))
        first -= 1
    words = [word for word in reversed(words) if word not in _QUALIFIERS]
    if not words and (fragment.text(first) in _SIMPLE or fragment.text(first) in aliases):
        words, first = [fragment.text(first)], first - 1
        while fragment.text(first) in _QUALIFIERS:
            first -= 1
    return (first + 1, " ".join(words)) if words else None


class _Rewriter:
    """The conversions of one fragment."""

    def __init__(
        self,
        fragment: Fragment,
        aliases: frozenset[str],
        known: Mapping[str, bool],
        functions: Mapping[str, dict[int, str]],
    ) -> None:
        self.fragment = fragment
        self.known = known
        self.functions = functions
        parameters = frozenset(fragment.macro.parameters or ()) if fragment.macro else frozenset()
        self.parameters = parameters
        self.in_header = fragment.source is fragment.source.program.header
        self.aliases = (aliases | {name for name, integer in known.items() if integer}) - parameters
        self.aliases -= {name for name, integer in known.items() if not integer}
        self.declared: set[int] = set()  # the `=` of declarations
        self.floats, self.integers = self._declared_kinds()
        self.bits = self._bit_fields()

    def rewrite(self) -> None:
        fragment = self.fragment
        results = self._results()
        for i in range(len(fragment)):
            if i in fragment.erased:
                continue
            text = fragment.text(i)
            if text == "static_cast":
                self._static_cast(i)
            elif text == "(":
                self._c_cast(i) or self._call(i)
            elif fragment.is_name(i) and (text in _PARTS or text in _SIMPLE or text in self.aliases):
                self._type(i)
            elif text == "return":
                kind = self._result(i, results)
                if kind:
                    self._wrap(i + 1, f"zmlx_init<{kind}>")
        for i in range(len(fragment)):
            if i in fragment.erased or i in self.declared:
                continue
            if fragment.text(i) == "=" or fragment.text(i) in _COMPOUND:
                self._assignment(i)

    # ------------------------------------------------------------------ casts

    def _static_cast(self, i: int) -> None:
        fragment = self.fragment
        end = fragment.angles.get(i + 1, -1)
        kind = _type_ending(fragment, end - 1, self.aliases | self.parameters) if end > 0 else None
        if kind and kind[0] == i + 2 and fragment.text(end + 1) == "(":
            fragment.code[i].text = "zmlx_cast"

    def _c_cast(self, opened: int) -> bool:
        """``(int)e``"""
        fragment = self.fragment
        close = fragment.partner(opened)
        kind = _type_ending(fragment, close - 1, self.aliases) if close > opened + 1 else None
        if not kind or kind[0] != opened + 1 or opened in fragment.erased:
            return False
        before = fragment.text(opened - 1)
        if before in ("sizeof", "alignof", "decltype", "operator", ">") or (
            fragment.is_name(opened - 1) and before not in _BEFORE_EXPRESSION
        ):
            return False
        operand = close + 1
        plain = fragment.text(close - 1) in _PARTS or fragment.text(close - 1) in _SIMPLE
        if fragment.text(operand) in _BINARY_OR_UNARY and not plain:
            return False
        last = self._operand_end(operand)
        if last < operand:
            return False
        if not self._is_integer(operand, last):
            # Token by token: what stands in front of the first, and behind the last, stays.
            fragment.code[opened].text = f"zmlx_cast<{kind[1]}>("
            for token in fragment.code[opened + 1 : close + 1]:
                token.text = ""
            fragment.erased.update(range(opened, close + 1))
            fragment.code[last].after += ")"
        return True

    def _operand_end(self, i: int) -> int:
        """The last token of the operand of a cast; -1 if it is no operand."""
        fragment = self.fragment
        while fragment.text(i) in ("-", "+", "!", "~", "*", "&", "++", "--"):
            i += 1
        while fragment.text(i) == "(" and fragment.partner(i) > 0:
            inner = _type_ending(fragment, fragment.partner(i) - 1, self.aliases)
            is_float = _FLOAT.fullmatch(fragment.text(i + 1)) and fragment.partner(i) == i + 2
            if not is_float and not (inner and inner[0] == i + 1):
                break
            i = fragment.partner(i) + 1  # a further cast
            while fragment.text(i) in ("-", "+", "!", "~"):
                i += 1
        if fragment.text(i) == "(":
            i = fragment.partner(i) + 1
        elif fragment.text(i) == "::" or fragment.is_name(i) or fragment.code[i : i + 1]:
            if not (fragment.is_name(i) or fragment.text(i) == "::" or self._is_number(i)):
                return -1
            i += 1
        else:
            return -1
        while True:
            text = fragment.text(i)
            if text in (".", "->", "::") or (
                text == "template" and fragment.text(i - 1) in (".", "->", "::")
            ):
                i += 2
            elif text in ("(", "[") and fragment.partner(i) > 0:
                i = fragment.partner(i) + 1
            elif text == "<" and fragment.angles.get(i, -1) > i:
                i = fragment.angles[i] + 1
            elif text in ("++", "--") or (fragment.is_name(i) and fragment.text(i - 1) == "::"):
                i += 1
            else:
                return i - 1

    def _is_number(self, i: int) -> bool:
        return 0 <= i < len(self.fragment) and self.fragment.code[i].kind == "number"

    def _is_integer(self, first: int, last: int) -> bool:
        """Whether an expression is an integer by its looks, or nothing at all: then there is nothing to do."""
        return all(self._stays_integer(i) for i in range(first, last + 1))

    def _stays_integer(self, i: int) -> bool:
        fragment = self.fragment
        text = fragment.text(i)
        if self._is_number(i):
            return bool(_INTEGER.fullmatch(text))
        if not fragment.is_name(i):
            # A parenthesis behind a name is a call, which may give anything.
            return not (text == "(" and fragment.is_name(i - 1)) and text not in ("{", "::", "->")
        if fragment.text(i - 1) == ".":
            return fragment.text(i - 2) in ATTRIBUTES
        return text in self.integers or text in ("true", "false")

    # ------------------------------------------------------------------ types

    def _type(self, last: int) -> None:
        """What follows a type: ``int(e)``, ``int n = e``, ``int n(e)``."""
        fragment = self.fragment
        if fragment.text(last + 1) in _PARTS or fragment.text(last + 1) in _QUALIFIERS:
            return  # it goes on
        kind = _type_ending(fragment, last, self.aliases)
        if kind is None:
            return
        first, text = kind
        if fragment.text(last + 1) == "(":
            self._functional(first, last, text)
        elif fragment.is_name(last + 1):
            self._declarators(last + 1, text)

    def _functional(self, first: int, last: int, kind: str) -> None:
        fragment = self.fragment
        opened, close = last + 1, fragment.partner(last + 1)
        before = fragment.text(first - 1)
        if (
            first != last
            or close <= opened + 1
            or before in ("operator", ";", "{", "}", "::", "~", ".", "->", "new")
        ):
            return
        if (fragment.is_name(first - 1) and before not in _BEFORE_EXPRESSION) or self._declares(opened):
            return
        if len(list(fragment.pieces(opened + 1, close - 1))) != 1 or self._is_integer(opened + 1, close - 1):
            return
        if (
            fragment.text(last) in self.aliases
            and fragment.code[opened + 1].kind == "number"
            and close == opened + 2
        ):
            return  # T(1.0f)
        fragment.code[last].text = f"zmlx_cast<{kind}>"

    def _declares(self, opened: int) -> bool:
        """Whether parentheses hold parameters, or the declarator of a pointer to a function."""
        fragment, i = self.fragment, opened + 1
        text = fragment.text(i)
        if text in ("*", "&", "") or text in _QUALIFIERS or text == "...":
            return text != "*" or fragment.text(fragment.partner(opened) + 1) == "("
        if text in _PARTS or text in _SIMPLE or _FLOAT.fullmatch(text) or text in self.aliases:
            return fragment.text(i + 1) != "("
        return fragment.is_name(i) and (fragment.is_name(i + 1) or text == "void")

    def _declarators(self, name: int, kind: str) -> None:
        """``n = e, m = e``"""
        fragment = self.fragment
        while fragment.is_name(name):
            i = name + 1
            if fragment.text(i) == "(" and name not in fragment.erased:
                close = fragment.partner(i)
                if self._declares(i) or fragment.text(close + 1) not in (";", ",") or close <= i + 1:
                    return
                self._wrap(i + 1, f"zmlx_init<{kind}>")
                i = close + 1
            while fragment.text(i) == "[":
                i = fragment.skip_group(i)
            if fragment.text(i) == "=":
                self.declared.add(i)
                i = self._wrap(i + 1, f"zmlx_init<{kind}>") + 1
            following = fragment.text(i + 2)
            if (
                fragment.text(i) != ","
                or not fragment.is_name(i + 1)
                or following not in ("=", ",", ";", "(", "[")
            ):
                return
            name = i + 1

    # ------------------------------------------------------------------ results and arguments

    def _results(self) -> dict[int, str]:
        """The braces of functions that return an integer, and its type."""
        fragment = self.fragment
        found: dict[int, str] = {}
        if fragment is not self.fragment.source.main:
            return found
        for declared in declarations(fragment):
            if declared.kind == "function":
                kind = _type_ending(fragment, declared.parameters[0] - 2, self.aliases)
                found[declared.body[0]] = kind[1] if kind else ""
        return found

    def _result(self, i: int, results: dict[int, str]) -> str:
        """The integer type that a ``return`` converts to, of the function or the lambda around it."""
        fragment = self.fragment
        brace = fragment.parent(i)
        while brace >= 0:
            if brace in results:
                return results[brace]
            if fragment.text(brace) == "{":
                kind = _type_ending(fragment, brace - 1, self.aliases)
                if kind and fragment.text(kind[0] - 1) == "->":
                    return kind[1]
                close = fragment.text(brace - 1)
                head = fragment.partner(brace - 1) if close == ")" else brace
                if fragment.text(head - 1) == "]" and (close == ")" or close == "]"):
                    return ""  # a lambda whose type is that of its results
            brace = fragment.parent(brace)
        return ""

    def _call(self, opened: int) -> bool:
        fragment = self.fragment
        name = fragment.text(opened - 1)
        before = fragment.text(opened - 2)
        if fragment.text(opened - 1) == ">" and fragment.angles.get(opened - 1, -1) > 0:
            name = fragment.text(fragment.angles[opened - 1] - 1)
            before = fragment.text(fragment.angles[opened - 1] - 2)
        types = self.functions.get(name)
        close = fragment.partner(opened)
        declares = fragment.text(close + 1) == "{" or before in (".", "->")
        if types is None or declares or close < 0:
            return False
        for index, (first, last) in enumerate(fragment.pieces(opened + 1, close - 1)):
            if index in types:
                self._surround(first, last, f"zmlx_init<{types[index]}>")
        return True

    # ------------------------------------------------------------------ assignments

    def _assignment(self, i: int) -> None:
        fragment = self.fragment
        last = self._expression_end(i + 1)
        if fragment.text(i + 1) == "{" or self._is_integer(i + 1, last):
            return
        if not (fragment.is_name(i - 1) or fragment.text(i - 1) in (")", "]")):
            return
        parent = fragment.parent(i)
        if fragment.text(parent) == "[" or fragment.text(i - 1) == "operator" or self._is_enumeration(parent):
            return
        start = self._place_start(i - 1)
        if start < 0 or (fragment.text(i) == "=" and not self._is_expression(start)):
            return
        root, alone = fragment.text(start), start == i - 1
        if (root in self.floats and fragment.is_name(start)) or (
            fragment.text(i - 1) in self.bits and (not alone or self.in_header)
        ):
            return
        if self.known.get(root) is False or (alone and root in self.parameters):
            return
        fragment.code[i].before = f" ->* zmlx_into {fragment.code[i].before}"

    def _place_start(self, i: int) -> int:
        """The first token of the postfix expression that ends here; -1 if it is none."""
        fragment = self.fragment
        while i >= 0:
            if fragment.text(i) in (")", "]"):
                i = fragment.partner(i)
                if i < 0:
                    return -1
                if fragment.text(i) == "(" and not (
                    fragment.is_name(i - 1)
                    and fragment.text(i - 1) not in ("if", "while", "for", "switch", "return")
                ):
                    return i
                if fragment.text(i - 1) not in (")", "]") and not fragment.is_name(i - 1):
                    return -1
                i -= 1
            elif fragment.is_name(i):
                if fragment.text(i - 1) not in (".", "->", "::"):
                    return i
                i -= 2
            else:
                return -1
        return -1

    def _is_expression(self, start: int) -> bool:
        """Whether what begins here is assigned to, and not declared."""
        fragment, i = self.fragment, start - 1
        while fragment.text(i) in ("*", "const") or (fragment.text(i) in ("++", "--")):
            i -= 1
        text = fragment.text(i)
        if text in _BEFORE_EXPRESSION:
            return True
        if text not in _OPENS_EXPRESSION or (text == "(" and self._is_head_of_template(i)):
            return False
        if text == ",":
            return not self._in_declaration(i)
        return True

    def _is_head_of_template(self, i: int) -> bool:
        return self.fragment.text(i - 1) == "template"

    def _in_declaration(self, comma: int) -> bool:
        """Whether the statement around a comma is a declaration, as far as its beginning tells."""
        fragment, parent = self.fragment, self.fragment.parent(comma)
        start = comma
        while start > 0 and fragment.text(start - 1) not in (";", "{", "}") and start - 1 != parent:
            closed = fragment.text(start - 1) in (")", "]") and fragment.partner(start - 1) > 0
            start = fragment.partner(start - 1) if closed else start - 1
        while fragment.text(start) in _QUALIFIERS or fragment.text(start) == "static":
            start += 1
        if not fragment.is_name(start) or fragment.text(start) in _BEFORE_EXPRESSION:
            return False
        i = start + 1
        while fragment.text(i) == "::" or (fragment.is_name(i) and fragment.text(i - 1) == "::"):
            i += 1
        i = fragment.skip_group(i) if fragment.text(i) == "<" and fragment.angles.get(i, -1) > i else i
        while fragment.text(i) in ("*", "&", "const"):
            i += 1
        return fragment.is_name(i) and i > start

    def _is_enumeration(self, parent: int) -> bool:
        fragment, i = self.fragment, parent - 1
        if fragment.text(parent) != "{":
            return False
        while i >= 0 and (fragment.is_name(i) or fragment.text(i) in (":", "::")):
            if fragment.text(i) == "enum":
                return True
            i -= 1
        return False

    def _declared_kinds(self) -> tuple[frozenset[str], frozenset[str]]:
        """Names that the source declares as floats and as nothing else; and as integers, and as nothing else.

        This saves work and keeps texts short. What cannot be told is in neither, and left to C++.
        """
        floats: set[str] = set()
        integers: set[str] = set()
        others: set[str] = set(self.parameters | self.fragment.source.program.macros.keys())
        for fragment in self.fragment.source.fragments:
            for i in range(len(fragment)):
                if not fragment.is_name(i):
                    continue
                text, before = fragment.text(i), i - 1
                while fragment.text(before) in _SPACES_AND_QUALIFIERS:
                    before -= 1
                word = fragment.text(before)
                if word == "," and before == i - 1 and fragment.text(i + 1) in _BEHIND_DECLARATOR:
                    others.add(text)  # perhaps a further declarator, of whatever type
                if not fragment.is_name(before) or word in _BEFORE_EXPRESSION:
                    continue
                if _FLOAT.fullmatch(word) or self.known.get(word) is False:
                    floats.add(text)
                elif word in _PARTS or word in _SIMPLE:
                    integers.add(text)
                else:
                    others.add(text)
        integers |= ATTRIBUTES.keys()
        return frozenset(floats - integers - others), frozenset(integers - floats - others)

    def _bit_fields(self) -> frozenset[str]:
        return frozenset(
            fragment.text(i)
            for fragment in self.fragment.source.program.fragments
            for i in range(1, len(fragment) - 2)
            if fragment.is_name(i)
            and (fragment.is_name(i - 1) or fragment.text(i - 1) == ",")
            and fragment.text(i + 1) == ":"
            and _INTEGER.fullmatch(fragment.text(i + 2))
        )

    # ------------------------------------------------------------------ expressions

    def _expression_end(self, first: int) -> int:
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

    def _wrap(self, first: int, function: str) -> int:
        """Hand the expression that begins here to a function; returns its last token."""
        last = self._expression_end(first)
        self._surround(first, last, function)
        return last

    def _surround(self, first: int, last: int, function: str) -> None:
        fragment = self.fragment
        if self._is_integer(first, last) or fragment.text(first) == "{" or last < first:
            return
        if any(fragment.text(i) == "..." for i in range(first, last + 1)):
            return
        fragment.code[first].before = f"{function}({fragment.code[first].before}"
        fragment.code[last].after += ")"
