"""Expressions of the grammar: a Metal text, a kind, and the value for all threads at once.

Values are exact on every back end, whatever it contracts or in which order it adds:

- ``int`` stays within 31 bits: each expression knows its bound, and is reduced before it would leave it;
- ``uint`` wraps around;
- ``float`` values are multiples of ``2**-bits`` within a bound, and fit 24 bits;
- ``half`` rounds after each operation, as NumPy's float16 does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

SIMD = 32
DTYPES = {"int": "int32", "uint": "uint32", "float": "float32", "half": "float16", "bool": "bool_"}
NUMBERS = ("int", "uint", "float", "half")

#: What variables and elements of arrays hold: the bound and the bits of an `Expression`.
CONTENTS = {"int": (100.0, 0), "uint": (np.inf, 0), "float": (32.0, 0), "half": (8.0, 0)}


@dataclass(frozen=True)
class State:
    """Where threads are: variables and arrays by name, which threads execute, and how they make up simdgroups.

    ``entered`` are the threads that came into the branch or iteration, ``gone`` those that have returned from the
    kernel: the states of one run share that array, and statements change it in place.
    """

    variables: dict[str, Any]
    memory: dict[str, Any]
    entered: Any
    gone: Any
    group: Any  # the threadgroup of each thread
    index: Any  # its index in the threadgroup

    @property
    def mask(self) -> Any:
        """The threads that execute."""
        return self.entered & ~self.gone

    def where(self, condition: Any) -> State:
        return replace(self, entered=self.entered & condition)

    def with_variables(self, values: dict[str, Any]) -> State:
        return replace(self, variables={**self.variables, **values})

    @property
    def lane(self) -> Any:
        return self.index % SIMD

    def blocks(self, width: int) -> Any:
        """A number for each block of ``width`` lanes."""
        return self.group * 1024 + self.index // width


@dataclass(frozen=True)
class Expression:
    """``bound`` and ``bits``: |value| <= bound, a multiple of 2**-bits (int and float)."""

    kind: str
    text: str
    value: Callable[[State], Any] = field(compare=False, repr=False)
    bound: float = 0.0
    bits: int = 0


def literal(kind: str, number: float) -> Expression:
    texts = {
        "int": f"({int(number)})",
        "uint": f"{int(abs(number))}u",
        "float": f"({float(number)}f)",
        "half": f"half({float(number)}f)",
        "bool": "true" if number else "false",
    }
    value = np.dtype(DTYPES[kind]).type(abs(number) if kind == "uint" else number)
    return Expression(kind, texts[kind], lambda s: np.full(len(s.mask), value), abs(number), 3)


def variable(kind: str, name: str, bound: float, bits: int) -> Expression:
    return Expression(kind, name, lambda s: s.variables[name], bound, bits)


def reduced(e: Expression) -> Expression:
    """The same expression, small enough to go on with: within `CONTENTS` of its kind."""
    if e.kind == "uint":
        return e
    if e.kind == "int":
        return Expression("int", f"({e.text} % 101)", lambda s: np.fmod(e.value(s), np.int32(101)), 100)
    if e.kind == "float":
        text = f"trunc(clamp({e.text}, -32.0f, 32.0f))"
        return Expression(
            "float", text, lambda s: np.trunc(np.clip(e.value(s), -32, 32)).astype("float32"), 32, 0
        )
    text = f"clamp({e.text}, half(-8), half(8))"
    return Expression("half", text, lambda s: np.clip(e.value(s), np.float16(-8), np.float16(8)), 8)


def fits(e: Expression) -> bool:
    """Whether the value is exact. Unsigned integers, which wrap around, always are."""
    limits = {"int": 2**31, "float": 2.0 ** (24 - e.bits), "half": 30000}
    return e.kind not in limits or e.bound < limits[e.kind]


def fitted(make: Callable[..., Expression], *operands: Expression) -> Expression:
    """``make(*operands)``, with reduced operands if the result would not be exact."""
    e = make(*operands)
    return e if fits(e) else make(*(reduced(o) for o in operands))


def exact_arithmetic(op: str, a: Expression, b: Expression) -> Expression:
    """As it stands, whether or not the result `fits`."""
    function = {"+": np.add, "-": np.subtract, "*": np.multiply}[op]
    bound = a.bound * b.bound if op == "*" else a.bound + b.bound
    bits = a.bits + b.bits if op == "*" else max(a.bits, b.bits)
    return Expression(
        a.kind, f"({a.text} {op} {b.text})", lambda s: function(a.value(s), b.value(s)), bound, bits
    )


def arithmetic(op: str, a: Expression, b: Expression) -> Expression:
    return fitted(lambda x, y: exact_arithmetic(op, x, y), a, b)


def bitwise(op: str, a: Expression, b: Expression) -> Expression:
    """Of ``uint``."""
    function = {"&": np.bitwise_and, "|": np.bitwise_or, "^": np.bitwise_xor}[op]
    return Expression(a.kind, f"({a.text} {op} {b.text})", lambda s: function(a.value(s), b.value(s)), np.inf)


def shift(op: str, a: Expression, amount: Expression) -> Expression:
    function = np.left_shift if op == "<<" else np.right_shift
    bound = a.bound if op == ">>" else np.inf

    def value(s: State) -> Any:
        x = a.value(s)
        return function(x, (amount.value(s) % np.uint32(32)).astype(x.dtype))

    return Expression(a.kind, f"({a.text} {op} {amount.text})", value, bound)


def divided(op: str, a: Expression, by: int) -> Expression:
    """Division or remainder by a number that is not zero."""
    dtype = np.dtype(DTYPES[a.kind]).type

    def value(s: State) -> Any:
        x = a.value(s)
        rest = np.fmod(x, dtype(by))
        return rest if op == "%" else ((x - rest) // dtype(by)).astype(x.dtype)

    number = f"{by}u" if a.kind == "uint" else f"({by})"
    return Expression(a.kind, f"({a.text} {op} {number})", value, a.bound if op == "/" else abs(by))


_UNARY: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "-": ("(-{})", lambda x: -x),
    "~": ("(~{})", lambda x: ~x),
    "abs": ("abs({})", np.abs),
    "floor": ("floor({})", np.floor),
    "ceil": ("ceil({})", np.ceil),
    "popcount": ("popcount({})", lambda x: np.array([int(v).bit_count() for v in x], "uint32")),
    "clz": ("clz({})", lambda x: np.array([32 - int(v).bit_length() for v in x], "uint32")),
    "reverse": (
        "reverse_bits({})",
        lambda x: np.array([int(f"{int(v):032b}"[::-1], 2) for v in x], "uint32"),
    ),
}
UNARY_OF = {
    "int": ("-", "~", "abs"),
    "uint": ("~", "popcount", "clz", "reverse"),
    "float": ("-", "abs", "floor", "ceil"),
    "half": ("-", "abs"),
}


def unary(name: str, a: Expression) -> Expression:
    text, function = _UNARY[name]
    return Expression(a.kind, text.format(a.text), lambda s: function(a.value(s)), a.bound + 1, a.bits)


def chosen(name: str, a: Expression, b: Expression) -> Expression:
    function = np.minimum if name == "min" else np.maximum
    text = f"{name}({a.text}, {b.text})"
    return Expression(
        a.kind, text, lambda s: function(a.value(s), b.value(s)), max(a.bound, b.bound), max(a.bits, b.bits)
    )


def compared(op: str, a: Expression, b: Expression) -> Expression:
    function = {"<": np.less, "<=": np.less_equal, "==": np.equal, "!=": np.not_equal, ">": np.greater}[op]
    return Expression("bool", f"({a.text} {op} {b.text})", lambda s: function(a.value(s), b.value(s)))


def logical(op: str, a: Expression, b: Expression) -> Expression:
    """The second operand is evaluated only where the first leaves the result open."""

    def value(s: State) -> Any:
        first = a.value(s)
        second = b.value(s.where(first if op == "&&" else ~first))
        return first & second if op == "&&" else first | second

    return Expression("bool", f"({a.text} {op} {b.text})", value)


def negated(a: Expression) -> Expression:
    return Expression("bool", f"(!{a.text})", lambda s: ~a.value(s))


def conditional(c: Expression, a: Expression, b: Expression) -> Expression:
    def value(s: State) -> Any:
        condition = c.value(s)
        return np.where(condition, a.value(s.where(condition)), b.value(s.where(~condition)))

    return Expression(
        a.kind, f"({c.text} ? {a.text} : {b.text})", value, max(a.bound, b.bound), max(a.bits, b.bits)
    )


def converted(kind: str, a: Expression) -> Expression:
    """To another kind, of values that it can hold."""
    if a.kind in ("float", "half") and kind in ("int", "uint"):
        a = reduced(a)
    if a.kind == "uint" and kind != "int":
        a = divided("%", a, 97)
    if a.kind == "int" and kind in ("float", "half"):
        a = reduced(a)
    if a.kind == "float" and kind == "half":
        a = reduced(a)
    dtype = DTYPES[kind]

    def value(s: State) -> Any:
        x = a.value(s)
        if a.kind in ("float", "half") and kind == "uint":
            x = x.astype("int32")
        return x.astype(dtype)

    text = f"uint(int({a.text}))" if a.kind in ("float", "half") and kind == "uint" else f"{kind}({a.text})"
    bound = np.inf if (a.kind, kind) == ("uint", "int") else max(a.bound, 1)
    bits = a.bits if a.kind == "float" else 11 if a.kind == "half" else 0
    e = Expression(kind, text, value, bound, bits)
    if kind == "int" and bound == np.inf:
        return Expression("int", f"({text} % 1009)", lambda s: np.fmod(value(s), np.int32(1009)), 1008)
    return e if kind != "float" or fits(e) else reduced(e)


def component(
    kind: str, parts: list[Expression], others: list[Expression], op: str, order: tuple[int, ...], pick: int
) -> Expression:
    """One component of ``(T3(a, b, c) op T3(d, e, f)).zyx``."""
    lanes = len(parts)
    results = [arithmetic(op, a, b) for a, b in zip(parts, others, strict=True)]
    same = [exact_arithmetic(op, a, b) for a, b in zip(parts, others, strict=True)]
    if any(not fits(e) for e in same):
        return results[order[pick]]
    name = f"{kind}{lanes}"
    swizzle = "".join("xyzw"[k] for k in order)
    left, right = (f"{name}({', '.join(e.text for e in side)})" for side in (parts, others))
    text = f"({left} {op} {right}).{swizzle}[{pick}]"
    e = same[order[pick]]
    # All components are evaluated, in the branch that the expression stands in.
    return replace(e, text=text, value=lambda s: [x.value(s) for x in same][order[pick]])
