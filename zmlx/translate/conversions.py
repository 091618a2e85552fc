"""Conversions of floats to integers, which C++ leaves undefined where the integer does not hold the float.

======================================  ===============================================================
Metal                                   portable C++
======================================  ===============================================================
``int(e)``, ``(int)e``                  ``zmlx_cast<int>(e)``; likewise ``static_cast`` and aliases
``int n = e;``, ``int n(e);``           ``int n = zmlx_init<int>(e);``
``return e;`` of a function to int      ``return zmlx_init<int>(e);``
``f(e)`` for ``f(int n)``               ``f(zmlx_init<int>(e))``; functions and methods, by all of that name
``a[i] = e``, ``n += e``                ``a[i] ->* zmlx_into = e``
======================================  ===============================================================

What is a float, tokens do not tell: the functions' overloads in runtime/msl/syntax.h do, and leave all else as it is.
What they make of a float, runtime/msl/convert.h says. CUDA converts like that by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from zmlx.metal.declarations import declarations
from zmlx.metal.structure import Fragment, Program
from zmlx.translate.assignments import COMPOUND, assigned
from zmlx.translate.integers import (
    BEFORE_EXPRESSION,
    FLOAT,
    PARTS,
    QUALIFIERS,
    SIMPLE,
    Looks,
    Names,
    type_ending,
)
from zmlx.translate.overloads import overloaded_functions

_BEHIND_PARAMETERS = frozenset({"{", "const", "volatile", "device", "constant", "thread", "threadgroup"})
#: Methods of the library's own types.
_METHODS = frozenset({"all", "any", "size", "thread_elements", "max", "min"})
_BINARY_OR_UNARY = frozenset({"-", "+", "*", "&"})


def rewrite_conversions(program: Program, known: Mapping[str, bool]) -> None:
    """Name the conversions of a program. ``known`` names types and outputs of the body: whether each is of integers."""
    names = Names.of(program, known)
    functions = _integer_parameters(program)
    skipped = program.condition_names
    for fragment in program.fragments:
        if fragment.macro is None or fragment.macro.name not in skipped:
            inside = known if fragment.source is program.body else {}
            _Rewriter(fragment, Looks(fragment, names, inside), functions).rewrite()


def _integer_parameters(program: Program) -> dict[str, dict[int, str]]:
    """Functions and methods of the header, and lambdas: which parameters are integers in all that have the name."""
    header = program.header.main
    found = [d for d in declarations(header) if d.first not in header.erased]
    # A constructor's name is that of copies, too; and those of the library are not seen.
    skipped = {d.name for d in found if d.kind == "class"}
    skipped |= {name.rpartition("::")[2] for name in overloaded_functions(header)}
    types: defaultdict[str, list[dict[int, str]]] = defaultdict(list)
    for declared in found:
        if declared.kind == "function":
            types[declared.name].append(_integer_pieces(header, *declared.parameters))
        else:
            types[declared.name].append({})
    for fragment in program.fragments:
        for i in range(2, len(fragment)):
            if fragment.text(i) == "[" and fragment.text(i - 1) == "=" and fragment.is_name(i - 2):
                opened = fragment.partner(i) + 1
                pieces = _integer_pieces(fragment, opened, fragment.partner(opened))
                types[fragment.text(i - 2)].append(pieces if fragment.text(opened) == "(" else {})
    return {
        name: {i: kind for i, kind in kinds[0].items() if all(other.get(i) == kind for other in kinds)}
        for name, kinds in types.items()
        if name not in skipped
    }


def _integer_pieces(fragment: Fragment, opened: int, close: int) -> dict[int, str]:
    types = {}
    for index, (first, last) in enumerate(fragment.pieces(opened + 1, close - 1)):
        end = next((i - 1 for i in range(first, last + 1) if fragment.text(i) == "="), last)
        kind = type_ending(fragment, end) or type_ending(fragment, end - 1)
        if kind and kind[0] == first:
            types[index] = kind[1]
    return types


class _Rewriter:
    """The conversions of one fragment."""

    def __init__(self, fragment: Fragment, looks: Looks, functions: Mapping[str, dict[int, str]]) -> None:
        self.fragment = fragment
        self.looks = looks
        self.functions = functions
        self.declared: set[int] = set()  # the `=` of declarations

    def rewrite(self) -> None:
        fragment = self.fragment
        results = self._results()
        for i in range(len(fragment)):
            if i in fragment.erased:
                continue
            text = fragment.text(i)
            if text == "static_cast":
                self._static_cast(i)
            elif text == "decltype":
                close = fragment.partner(i + 1)
                kind = " ".join(fragment.text(j) for j in range(i, close + 1))
                if fragment.text(i + 1) == "(" and fragment.is_name(close + 1):
                    self._declarators(close + 1, kind)
            elif text == "(":
                self._c_cast(i) or self._call(i)
            elif fragment.is_name(i) and (text in PARTS or text in SIMPLE or text in self.looks.aliases):
                self._type(i)
            elif text == ":" and fragment.text(i - 1) == ")":
                self._initialisers(i + 1)
            elif text == "return":
                kind = self._result(i, results)
                if kind:
                    self._wrap(i + 1, f"zmlx_init<{kind}>")
        for i in range(len(fragment)):
            if i in fragment.erased or i in self.declared:
                continue
            if fragment.text(i) == "=" or fragment.text(i) in COMPOUND:
                self._assignment(i)

    # ------------------------------------------------------------------ casts

    def _static_cast(self, i: int) -> None:
        fragment = self.fragment
        end = fragment.angles.get(i + 1, -1)
        kind = type_ending(fragment, end - 1, self.looks.aliases | self.looks.parameters) if end > 0 else None
        if kind and kind[0] == i + 2 and fragment.text(end + 1) == "(":
            fragment.code[i].text = "zmlx_cast"

    def _c_cast(self, opened: int) -> bool:
        """``(int)e``"""
        fragment = self.fragment
        close = fragment.partner(opened)
        kind = type_ending(fragment, close - 1, self.looks.aliases) if close > opened + 1 else None
        if not kind or kind[0] != opened + 1 or opened in fragment.erased or self.looks.is_hidden(close - 1):
            return False
        before = fragment.text(opened - 1)
        if before in ("sizeof", "alignof", "decltype", "operator", ">") or (
            fragment.is_name(opened - 1) and before not in BEFORE_EXPRESSION
        ):
            return False
        symbol = fragment.partner(opened - 1) if before in (")", "]") else opened - 1
        if fragment.text(symbol - 1) == "operator":
            return False  # the parameters of an operator
        operand = close + 1
        plain = fragment.text(close - 1) in PARTS or fragment.text(close - 1) in SIMPLE
        if fragment.text(operand) in _BINARY_OR_UNARY and not plain:
            return False
        last = self._operand_end(operand)
        if last < operand:
            return False
        if not self.looks.is_integer(operand, last):
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
            inner = type_ending(fragment, fragment.partner(i) - 1, self.looks.aliases)
            is_float = FLOAT.fullmatch(fragment.text(i + 1)) and fragment.partner(i) == i + 2
            hidden = self.looks.is_hidden(fragment.partner(i) - 1)
            if not is_float and (hidden or not (inner and inner[0] == i + 1)):
                break
            i = fragment.partner(i) + 1  # a further cast
            while fragment.text(i) in ("-", "+", "!", "~"):
                i += 1
        if fragment.text(i) == "(":
            i = fragment.partner(i) + 1
        elif fragment.text(i) == "::" or fragment.is_name(i) or fragment.code[i : i + 1]:
            if not (fragment.is_name(i) or fragment.text(i) == "::" or self.looks.is_number(i)):
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

    # ------------------------------------------------------------------ types

    def _type(self, last: int) -> None:
        """What follows a type: ``int(e)``, ``int n = e``, ``int n(e)``."""
        fragment = self.fragment
        if fragment.text(last + 1) in PARTS or fragment.text(last + 1) in QUALIFIERS:
            return  # it goes on
        kind = type_ending(fragment, last, self.looks.aliases)
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
            close <= opened + 1
            or before in ("operator", ";", "}", "::", "~", ".", "->", "new")
            or (before == "{" and fragment.text(close + 1) in (";", "="))
        ):
            return
        if (fragment.is_name(first - 1) and before not in BEFORE_EXPRESSION) or self._declares(opened):
            return
        if len(list(fragment.pieces(opened + 1, close - 1))) != 1 or self.looks.is_integer(
            opened + 1, close - 1
        ):
            return
        if (
            fragment.text(last) in self.looks.aliases
            and fragment.code[opened + 1].kind == "number"
            and close == opened + 2
        ):
            return  # T(1.0f)
        for token in fragment.code[first:last]:  # metal::
            token.text = ""
        fragment.code[last].text = f"zmlx_cast<{kind}>"

    def _declares(self, opened: int) -> bool:
        """Whether parentheses hold parameters, or the declarator of a pointer to a function."""
        fragment, i = self.fragment, opened + 1
        text = fragment.text(i)
        if text in ("*", "&", "") or text in QUALIFIERS or text == "...":
            return text != "*" or fragment.text(fragment.partner(opened) + 1) == "("
        if text in PARTS or text in SIMPLE or FLOAT.fullmatch(text) or text in self.looks.aliases:
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
                kind = type_ending(fragment, declared.parameters[0] - 2, self.looks.aliases)
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
                kind = type_ending(fragment, brace - 1, self.looks.aliases)
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
        at = opened - 1
        if fragment.text(at) == ">" and fragment.angles.get(at, -1) > 0:
            at = fragment.angles[at] - 1
        name, before = fragment.text(at), fragment.text(at - 1)
        types = self.functions.get(name)
        close = fragment.partner(opened)
        typed = fragment.is_name(at - 1) and before not in BEFORE_EXPRESSION and before != "template"
        declares = typed or fragment.text(close + 1) in _BEHIND_PARAMETERS
        declares = declares or (before in (".", "->") and name in _METHODS)
        if types is None or declares or close < 0:
            return False
        for index, (first, last) in enumerate(fragment.pieces(opened + 1, close - 1)):
            if index in types:
                self._surround(first, last, f"zmlx_init<{types[index]}>")
        return True

    def _initialisers(self, name: int) -> None:
        """``n(e), m(e)`` behind a constructor's colon, of members that are integers."""
        fragment, found = self.fragment, []
        while fragment.is_name(name) and fragment.text(name + 1) in ("(", "{"):
            found.append(name)
            name = fragment.skip_group(name + 1)
            name += fragment.text(name) == ","
        if fragment.text(name) != "{":
            return  # `c ? f(x) : g(x)`
        header = fragment.source.program.header.main
        classes = {declaration.name for declaration in declarations(header) if declaration.kind == "class"}
        for i in found:
            member, closed = fragment.text(i), fragment.partner(i + 1)
            values = list(fragment.pieces(i + 2, closed - 1))
            # To a member of yet another type it does nothing; a base class has no decltype.
            other = member in classes | self.looks.aliases or self.looks.is_declared_float(member)
            if fragment.text(i + 1) == "(" and len(values) == 1 and not other:
                self._surround(i + 2, closed - 1, f"zmlx_init<decltype({member})>")

    # ------------------------------------------------------------------ assignments

    def _assignment(self, i: int) -> None:
        fragment, looks = self.fragment, self.looks
        if fragment.text(i + 1) == "{" or looks.is_integer(i + 1, looks.expression_end(i + 1)):
            return
        start = assigned(fragment, i)
        if start < 0:
            return
        root, alone = fragment.text(start), start == i - 1
        handed = start == 0 and alone and root in looks.parameters  # `int n`, perhaps
        if looks.is_declared_float(root) or handed:
            return
        in_header = fragment.source is fragment.source.program.header
        if fragment.text(i - 1) in looks.names.bits and (not alone or in_header):
            return
        fragment.code[i].before = f"->* zmlx_into {fragment.code[i].before}"

    # ------------------------------------------------------------------ expressions

    def _wrap(self, first: int, function: str) -> int:
        """Hand the expression that begins here to a function; returns its last token."""
        last = self.looks.expression_end(first)
        self._surround(first, last, function)
        return last

    def _surround(self, first: int, last: int, function: str) -> None:
        fragment = self.fragment
        if self.looks.is_integer(first, last) or fragment.text(first) == "{" or last < first:
            return
        dots = [fragment.text(i) == "." and fragment.text(i + 1) == "." for i in range(first, last + 1)]
        if any(dots):
            return  # a pack of arguments
        fragment.code[first].before = f"{function}({fragment.code[first].before}"
        fragment.code[last].after += ")"
