"""The strategy for expressions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from fuzz.expressions import (
    NUMBERS,
    UNARY_OF,
    Expression,
    arithmetic,
    bitwise,
    chosen,
    compared,
    component,
    conditional,
    converted,
    divided,
    fitted,
    literal,
    logical,
    negated,
    reduced,
    shift,
    unary,
)
from fuzz.functions import Function, boxed
from fuzz.memory import Array, element
from fuzz.simdgroups import prefix_sum, reduction, shuffled, voted, votes

Leaves = dict[str, list[Expression]]


@dataclass(frozen=True)
class Scope:
    """What an expression may use: variables by kind, arrays that may be read anywhere, functions, simd operations."""

    variables: Leaves
    arrays: list[Array] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)
    simd: bool = True


@st.composite
def expressions(draw: st.DrawFn, kind: str, scope: Scope, depth: int) -> Expression:
    """An expression of ``kind`` over what is in scope."""
    simd = scope.simd

    def sub(of: str) -> Expression:
        return draw(expressions(of, scope, depth - 1))

    def some(of: str, count: int) -> list[Expression]:
        """Arguments of a call. Compilers evaluate them in different orders, so that one holds simd operations."""
        which = draw(st.integers(0, count - 1))
        quiet = replace(scope, simd=False)
        return [draw(expressions(of, scope if k == which else quiet, depth - 1)) for k in range(count)]

    def operands(of: str) -> list[Expression]:
        """Of an operator, which is a function where half is a class."""
        return some(of, 2) if of == "half" else [sub(of), sub(of)]

    if depth == 0 or draw(st.integers(0, 5)) == 0:
        if scope.variables.get(kind) and draw(st.integers(0, 3)):
            return draw(st.sampled_from(scope.variables[kind]))
        return literal(kind, draw(st.integers(-16, 16)) / (1 if kind in ("int", "uint") else 8))
    if kind == "bool":
        forms = ["compare", "logical", "not", *(["vote"] if simd else [])]
        form = draw(st.sampled_from(forms))
        if form == "compare":
            of = draw(st.sampled_from(NUMBERS))
            return compared(draw(st.sampled_from(["<", "<=", "==", "!=", ">"])), *operands(of))
        if form == "logical":
            return logical(draw(st.sampled_from(["&&", "||"])), sub("bool"), sub("bool"))
        return (
            negated(sub("bool"))
            if form == "not"
            else voted(draw(st.sampled_from(["all", "any"])), sub("bool"))
        )
    forms = ["arithmetic"] * 3 + ["unary", "chosen", "conditional", "converted", "component"]
    forms += ["bitwise", "shift", "divided"] if kind == "uint" else ["divided"] if kind == "int" else []
    forms += (
        ["reduction", "prefix", "shuffle", *(["votes"] if kind == "uint" else [])]
        if simd and kind != "half"
        else []
    )
    arrays = [array for array in scope.arrays if array.kind == kind]
    functions = [f for f in scope.functions if kind in f.kinds and (simd or not f.meets)]
    forms += ["element"] * 2 * bool(arrays) + ["call"] * 2 * bool(functions) + ["box"]
    form = draw(st.sampled_from(forms))
    if form == "element":
        return element(draw(st.sampled_from(arrays)), draw(expressions("uint", scope, 1)))
    if form == "call":
        function = draw(st.sampled_from(functions))
        quiet = expressions(kind, replace(scope, simd=False), depth - 1)
        a, b = [draw(quiet), draw(quiet)] if function.repeats else some(kind, 2)
        return function.call(reduced(a), reduced(b), draw(st.booleans()), draw(st.integers(1, 3)))
    if form == "box":
        parts = some(kind, draw(st.integers(2, 3)))
        style = draw(st.sampled_from(["made", "picked", ""]))
        return boxed(style, parts, draw(expressions("uint", scope, 1)), draw(st.integers(0, 1)))
    if form == "arithmetic":
        return arithmetic(draw(st.sampled_from("+-*")), *operands(kind))
    if form == "unary":
        return (
            fitted(lambda a: unary(name, a), sub(kind))
            if (name := draw(st.sampled_from(UNARY_OF[kind])))
            else sub(kind)
        )
    if form == "chosen":
        return chosen(draw(st.sampled_from(["min", "max"])), *some(kind, 2))
    if form == "conditional":
        return conditional(sub("bool"), sub(kind), sub(kind))
    if form == "converted":
        return converted(kind, sub(draw(st.sampled_from([k for k in (*NUMBERS, "bool") if k != kind]))))
    if form == "component":
        lanes = draw(st.integers(2, 4))
        order = draw(st.permutations(range(lanes)))
        parts = some(kind, 2 * lanes)
        return component(
            kind,
            parts[:lanes],
            parts[lanes:],
            draw(st.sampled_from("+-*")),
            tuple(order),
            draw(st.integers(0, lanes - 1)),
        )
    if form == "bitwise":
        return bitwise(draw(st.sampled_from("&|^")), sub(kind), sub(kind))
    if form == "shift":
        return shift(draw(st.sampled_from(["<<", ">>"])), sub("uint"), sub("uint"))
    if form == "divided":
        return divided(draw(st.sampled_from("/%")), sub(kind), draw(st.integers(1, 9)))
    if form == "reduction":
        names = ["sum", "min", "max", *(["xor", "and", "or"] if kind == "uint" else [])]
        return reduction(draw(st.sampled_from(["simd", "quad"])), draw(st.sampled_from(names)), sub(kind))
    if form == "prefix":
        return prefix_sum(draw(st.booleans()), sub(kind))
    if form == "shuffle":
        return shuffled(draw(st.sampled_from(["down", "up", "xor", ""])), sub(kind), draw(st.integers(0, 31)))
    return votes(sub("bool"))
