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
from hypothesis import strategies as st

SIMD = 32
DTYPES = {"int": "int32", "uint": "uint32", "float": "float32", "half": "float16", "bool": "bool_"}
NUMBERS = ("int", "uint", "float", "half")


@dataclass(frozen=True)
class State:
    """Where threads are: variables by name, which threads execute, and how threads make up simdgroups."""

    variables: dict[str, Any]
    mask: Any
    group: Any  # the threadgroup of each thread
    index: Any  # its index in the threadgroup

    def where(self, condition: Any) -> State:
        return replace(self, mask=self.mask & condition)

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
    """The same expression, small enough to go on with."""
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
    limit = {"int": 2**31, "float": 2.0 ** (24 - e.bits), "half": 30000}.get(e.kind, np.inf)
    return e.bound < limit


def fitted(make: Callable[..., Expression], *operands: Expression) -> Expression:
    """``make(*operands)``, with reduced operands if the result would not be exact."""
    e = make(*operands)
    return (
        e if fits(e) else make(*(reduced(o) if o.kind in ("int", "float", "half") else o for o in operands))
    )


def _arithmetic(op: str, a: Expression, b: Expression) -> Expression:
    function = {"+": np.add, "-": np.subtract, "*": np.multiply}[op]
    bound = a.bound * b.bound if op == "*" else a.bound + b.bound
    bits = a.bits + b.bits if op == "*" else max(a.bits, b.bits)
    return Expression(
        a.kind, f"({a.text} {op} {b.text})", lambda s: function(a.value(s), b.value(s)), bound, bits
    )


def arithmetic(op: str, a: Expression, b: Expression) -> Expression:
    return fitted(lambda x, y: _arithmetic(op, x, y), a, b)


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
    same = [_arithmetic(op, a, b) for a, b in zip(parts, others, strict=True)]
    if any(not fits(e) for e in same):
        return results[order[pick]]
    name = f"{kind}{lanes}"
    swizzle = "".join("xyzw"[k] for k in order)
    left, right = (f"{name}({', '.join(e.text for e in side)})" for side in (parts, others))
    text = f"({left} {op} {right}).{swizzle}[{pick}]"
    e = same[order[pick]]
    # All components are evaluated, in the branch that the expression stands in.
    return replace(e, text=text, value=lambda s: [x.value(s) for x in same][order[pick]])


def _over_blocks(s: State, width: int, function: Callable[[Any], Any], values: Any) -> Any:
    """``function`` on the active threads of each block."""
    out = values.copy()
    blocks = s.blocks(width)
    for block in np.unique(blocks[s.mask]):
        members = np.flatnonzero(s.mask & (blocks == block))
        out[members] = function(values[members])
    return out


_REDUCTIONS = {
    "sum": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "xor": np.bitwise_xor,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
}


def reduction(prefix: str, name: str, a: Expression) -> Expression:
    width = SIMD if prefix == "simd" else 4
    join = _REDUCTIONS[name]
    if name == "sum" and a.kind in ("int", "float"):
        a = reduced(a)

    def value(s: State) -> Any:
        return _over_blocks(s, width, lambda v: np.full(len(v), join.reduce(v, dtype=v.dtype)), a.value(s))

    bound = a.bound * SIMD if name == "sum" else 2.0 ** int(min(a.bound, 2.0**40)).bit_length()
    return Expression(a.kind, f"{prefix}_{name}({a.text})", value, bound, a.bits)


def prefix_sum(inclusive: bool, a: Expression) -> Expression:
    name = "inclusive" if inclusive else "exclusive"
    a = reduced(a) if a.kind in ("int", "float") else a

    def sums(v: Any) -> Any:
        total = np.cumsum(v, dtype=v.dtype)
        return total if inclusive else total - v

    text = f"simd_prefix_{name}_sum({a.text})"
    return Expression(a.kind, text, lambda s: _over_blocks(s, SIMD, sums, a.value(s)), a.bound * SIMD, a.bits)


def shuffled(name: str, a: Expression, by: int) -> Expression:
    """``simd_shuffle_down(a, by)`` and the like; without an active source a lane keeps its own."""
    source = {
        "down": lambda k: k + by,
        "up": lambda k: k - by,
        "xor": lambda k: k ^ by,
        "": lambda k: k * 0 + by,
    }[name]

    def value(s: State) -> Any:
        values, wanted = a.value(s), source(s.lane)
        place = {
            (int(b), int(k)): i
            for i, (b, k) in enumerate(zip(s.blocks(SIMD), s.lane, strict=True))
            if s.mask[i]
        }
        from_ = [
            place.get((int(b), int(k)), i)
            for i, (b, k) in enumerate(zip(s.blocks(SIMD), wanted, strict=True))
        ]
        return values[np.array(from_)]

    return replace(a, text=f"simd_shuffle{'_' * bool(name)}{name}({a.text}, {by})", value=value)


def votes(a: Expression) -> Expression:
    """How many active lanes say yes."""

    def value(s: State) -> Any:
        yes = a.value(s).astype("uint32")
        return _over_blocks(s, SIMD, lambda v: np.full(len(v), v.sum(dtype="uint32")), yes)

    return Expression("uint", f"popcount(uint((ulong)simd_ballot({a.text})))", value, 32)


def voted(name: str, a: Expression) -> Expression:
    function = np.all if name == "all" else np.any
    text = f"simd_{name}({a.text})"
    return Expression(
        "bool", text, lambda s: _over_blocks(s, SIMD, lambda v: np.full(len(v), function(v)), a.value(s))
    )


Leaves = dict[str, list[Expression]]


@st.composite
def expressions(draw: st.DrawFn, kind: str, leaves: Leaves, depth: int, simd: bool) -> Expression:
    """An expression of ``kind`` over ``leaves``, the variables in scope."""
    sub = lambda k: draw(expressions(k, leaves, depth - 1, simd))  # noqa: E731
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        if leaves.get(kind) and draw(st.integers(0, 3)):
            return draw(st.sampled_from(leaves[kind]))
        return literal(kind, draw(st.integers(-16, 16)) / (1 if kind in ("int", "uint") else 8))
    if kind == "bool":
        forms = ["compare", "logical", "not", *(["vote"] if simd else [])]
        form = draw(st.sampled_from(forms))
        if form == "compare":
            of = draw(st.sampled_from(NUMBERS))
            return compared(draw(st.sampled_from(["<", "<=", "==", "!=", ">"])), sub(of), sub(of))
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
    form = draw(st.sampled_from(forms))
    if form == "arithmetic":
        return arithmetic(draw(st.sampled_from("+-*")), sub(kind), sub(kind))
    if form == "unary":
        return (
            fitted(lambda a: unary(name, a), sub(kind))
            if (name := draw(st.sampled_from(UNARY_OF[kind])))
            else sub(kind)
        )
    if form == "chosen":
        return chosen(draw(st.sampled_from(["min", "max"])), sub(kind), sub(kind))
    if form == "conditional":
        return conditional(sub("bool"), sub(kind), sub(kind))
    if form == "converted":
        return converted(kind, sub(draw(st.sampled_from([k for k in (*NUMBERS, "bool") if k != kind]))))
    if form == "component":
        lanes = draw(st.integers(2, 4))
        order = draw(st.permutations(range(lanes)))
        parts, others = ([sub(kind) for _ in range(lanes)] for _ in range(2))
        return component(
            kind, parts, others, draw(st.sampled_from("+-*")), tuple(order), draw(st.integers(0, lanes - 1))
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
