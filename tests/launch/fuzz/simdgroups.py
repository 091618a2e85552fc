"""Simdgroup and quadgroup operations of the grammar, over the lanes that execute them together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fuzz.expressions import SIMD, Expression, State, reduced


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
    return exact_reduction(prefix, name, reduced(a) if name == "sum" else a)


def exact_reduction(prefix: str, name: str, a: Expression) -> Expression:
    """As it stands, whether or not the result `fits`."""
    width = SIMD if prefix == "simd" else 4
    join = _REDUCTIONS[name]

    def value(s: State) -> Any:
        return _over_blocks(s, width, lambda v: np.full(len(v), join.reduce(v, dtype=v.dtype)), a.value(s))

    bound = a.bound * SIMD if name == "sum" else 2.0 ** int(min(a.bound, 2.0**40)).bit_length()
    return Expression(a.kind, f"{prefix}_{name}({a.text})", value, bound, a.bits)


def prefix_sum(inclusive: bool, a: Expression) -> Expression:
    name = "inclusive" if inclusive else "exclusive"
    a = reduced(a)

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
