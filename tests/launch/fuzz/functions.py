"""What a kernel's header declares: function templates, struct templates and macros, with their meaning.

The body of a function is one formula for all kinds. Its arguments are small numbers (`expressions.reduced`), so that
the result is exact whatever the kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fuzz.expressions import (
    CONTENTS,
    NUMBERS,
    Expression,
    State,
    chosen,
    compared,
    conditional,
    exact_arithmetic,
    fits,
    literal,
    variable,
)
from fuzz.simdgroups import exact_reduction, shuffled

#: ``("a",)`` and ``("b",)`` are arguments, ``("n",)`` the number in the template arguments, ``("const", 2)`` a number,
#: ``("+", x, y)`` an operation, ``("?", x, y, u, v)`` is ``x < y ? u : v``.
Formula = tuple[Any, ...]


class _TooLargeError(Exception):
    """A formula whose value may not be exact."""


def _text(formula: Formula, constant: Callable[[int], str]) -> str:
    name, *parts = formula
    if name in ("a", "b"):
        return str(name)
    if name == "n":
        return "T(N)"
    if name == "const":
        return constant(parts[0])
    texts = [_text(part, constant) for part in parts]
    if name == "simd_shuffle_xor":
        return f"{name}({texts[0]}, 1)"
    if name in ("min", "max", "simd_sum", "simd_max"):
        return f"{name}({', '.join(texts)})"
    if name == "?":
        return "({} < {} ? {} : {})".format(*texts)
    return f"({texts[0]} {name} {texts[1]})"


def _meaning(formula: Formula, a: Expression, b: Expression, n: int) -> Expression:
    name, *parts = formula
    if name in ("a", "b"):
        return a if name == "a" else b
    if name in ("n", "const"):
        return replace(literal(a.kind, n if name == "n" else parts[0]), bits=0)
    values = [_meaning(part, a, b, n) for part in parts]
    if name in ("min", "max"):
        e = chosen(name, *values)
    elif name == "?":
        e = conditional(compared("<", values[0], values[1]), values[2], values[3])
    elif name == "simd_shuffle_xor":
        e = shuffled("xor", values[0], 1)
    elif name.startswith("simd_"):
        e = exact_reduction("simd", name[5:], values[0])
    else:
        e = exact_arithmetic(name, *values)
    if not fits(e):
        raise _TooLargeError
    return e


@dataclass(frozen=True)
class Function:
    """A function template; a macro for values of a kind, if ``macro`` names one; or a struct that can be called.

    ``number`` says where the template argument ``N`` stands: ``"first"``, ``"last"`` or nowhere. ``early``: threads
    whose ``a`` is less than their ``b`` return ``b`` before the others meet.
    """

    name: str
    formula: Formula
    macro: str = ""
    number: str = ""
    functor: bool = False
    early: bool = False

    @property
    def meets(self) -> bool:
        """Whether it holds a simd operation."""
        return "simd_" in repr(self.formula)

    @property
    def repeats(self) -> bool:
        """Whether it writes its arguments out in both branches of a ``?:``.

        On the CPU, simd operations in such an argument are one operation in both, since the preprocessor numbers them
        before it copies them: arguments hold none.
        """
        return bool(self.macro) and "'?'" in repr(self.formula)

    @property
    def kinds(self) -> tuple[str, ...]:
        numbers = NUMBERS[:3] if self.meets else NUMBERS
        return (self.macro,) if self.macro else numbers

    @property
    def declaration(self) -> str:
        if self.macro:
            body = _text(self.formula, lambda c: literal(self.macro, c).text)
            return f"#define {self.name}(a, b) ({body})"
        parameters = {"": "typename T", "first": "int N, typename T", "last": "typename T, int N = 2"}
        body = _text(self.formula, lambda c: f"T({c})")
        early = "if (a < b) return b; " if self.early else ""
        name = "operator()" if self.functor else self.name
        text = f"template <{parameters[self.number]}> T {name}(T a, T b) {{ {early}return {body}; }}"
        return f"struct {self.name} {{ {text} }};" if self.functor else text

    def _callee(self, kind: str, explicit: bool, n: int) -> str:
        """The name with as many template arguments as the call wants."""
        if self.functor:
            return f"{self.name}{'{}' if explicit else '()'}"
        if self.number == "first":
            return f"{self.name}<{n}, {kind}>" if explicit else f"{self.name}<{n}>"
        if self.number == "last":
            return f"{self.name}<{kind}, {n}>" if explicit else self.name
        return f"{self.name}<{kind}>" if explicit else self.name

    def call(self, a: Expression, b: Expression, explicit: bool, n: int) -> Expression:
        """A call; the arguments are small and of one of the `kinds`."""
        if self.macro:
            # Arguments are evaluated where they stand in the formula, and parentheses keep their commas together.
            return replace(_meaning(self.formula, a, b, 0), text=f"{self.name}(({a.text}), ({b.text}))")
        if self.number == "last" and not explicit:
            n = 2
        parameters = [variable(a.kind, f"{self.name} {name}", *CONTENTS[a.kind]) for name in "ab"]
        body = _meaning(self.formula, *parameters, n)

        def value(s: State) -> Any:
            names = (parameter.text for parameter in parameters)
            x, y = a.value(s), b.value(s)
            inside = s.with_variables(dict(zip(names, (x, y), strict=True)))
            return np.where(x < y, y, body.value(inside.where(x >= y))) if self.early else body.value(inside)

        text = f"{self._callee(a.kind, explicit, n)}({a.text}, {b.text})"
        bound = max(body.bound, b.bound) if self.early else body.bound
        bits = max(body.bits, b.bits) if self.early else body.bits
        return replace(body, text=text, value=value, bound=bound, bits=bits)


#: A struct template: a few values and functions to get at them.
BOX = """template <typename T, int N> struct Box {
  T cells[N];
  T at(uint k) const { return cells[k % uint(N)]; }
  void put(uint k, T v) { cells[k % uint(N)] = v; }
  template <int K> T pick() const { return cells[K]; }
};
template <typename T> Box<T, 2> make_box(T a, T b) {
  Box<T, 2> box;
  box.cells[0] = a;
  box.put(1u, b);
  return box;
}"""


def boxed(style: str, parts: list[Expression], index: Expression, pick: int) -> Expression:
    """A value out of a temporary struct: ``Box<int, 2>{{a, b}}.at(k)`` and the like."""
    kind, texts = parts[0].kind, ", ".join(part.text for part in parts)
    box = (
        f"make_box({texts})"
        if style == "made" and len(parts) == 2
        else f"Box<{kind}, {len(parts)}>{{{{{texts}}}}}"
    )

    def value(s: State) -> Any:
        values = np.stack([part.value(s) for part in parts])
        where = np.full(len(s.mask), pick) if style == "picked" else index.value(s) % len(parts)
        return values[where, np.arange(len(s.mask))]

    text = f"{box}.template pick<{pick}>()" if style == "picked" else f"{box}.at({index.text})"
    bound, bits = max(part.bound for part in parts), max(part.bits for part in parts)
    return Expression(kind, text, value, bound, bits)


@st.composite
def functions(draw: st.DrawFn, name: str, functor: bool = False) -> Function:
    """A function template or a macro, or a struct that can be called."""
    macro = "" if functor else draw(st.sampled_from(["", "", *NUMBERS]))
    number = "" if macro or functor else draw(st.sampled_from(["", "first", "last"]))
    leaves: list[Formula] = [("a",), ("b",), ("const", 1), ("const", 3), *([("n",)] if number else [])]

    def formula(depth: int) -> Formula:
        if depth == 0:
            return draw(st.sampled_from(leaves))
        form = draw(st.sampled_from(["+", "-", "*", "min", "max", "?", "simd"]))
        if form == "simd" and not macro:
            return (
                draw(st.sampled_from(["simd_sum", "simd_max", "simd_shuffle_xor"])),
                draw(st.sampled_from(leaves[:2])),
            )
        if form in ("?", "simd"):
            return ("?", *(formula(depth - 1) for _ in range(4)))
        return (form, formula(depth - 1), formula(depth - 1))

    early = not macro and not functor and draw(st.booleans())
    made = Function(name, formula(2), macro, number, functor, early)
    try:
        for kind in made.kinds:
            argument = variable(kind, "", *CONTENTS[kind])
            _meaning(made.formula, argument, argument, 3)
    except _TooLargeError:
        return replace(made, formula=("max", ("a",), ("b",)))
    return made
