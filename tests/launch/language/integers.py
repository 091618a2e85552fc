"""<metal_integer>."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from language.row import Row
from language.values import Values

_row = partial(Row, "Integer functions")


def exact(values: Any) -> Any:
    """As Python's integers, which have no width."""
    return np.array(values, dtype=object)


def wrapped(values: Any, dtype: str) -> Any:
    """Modulo the width of ``dtype``."""
    info = np.iinfo(dtype)
    span = int(info.max) - int(info.min) + 1
    return np.array([(int(v) - int(info.min)) % span + int(info.min) for v in np.ravel(exact(values))], dtype)


def saturated(values: Any, dtype: str) -> Any:
    info = np.iinfo(dtype)
    return np.array([min(max(int(v), int(info.min)), int(info.max)) for v in np.ravel(exact(values))], dtype)


#: Metal type -> first operand, second operand, dtype.
KINDS = {
    "int": ("n", "m", "int32"),
    "uint": ("u", "w", "uint32"),
    "char": ("c", "a", "int8"),
    "ushort": ("r", "s", "uint16"),
    "long": ("l", "q", "int64"),
    "ulong": ("q", "l", "uint64"),
}


def bits(dtype: str) -> int:
    return np.iinfo(dtype).bits


def unsigned(value: int, dtype: str) -> int:
    return int(value) % 2 ** bits(dtype)


def each(function: Callable[[int], int]) -> Callable[[Any, Any, str], Any]:
    return lambda a, b, dtype: wrapped([function(unsigned(x, dtype)) for x in a], dtype)


def _rotate(a: Any, b: Any, dtype: str) -> Any:
    n = bits(dtype)
    return wrapped(
        [
            unsigned(x, dtype) << (y % n) | unsigned(x, dtype) >> (-y % n)
            for x, y in zip(a, map(int, b), strict=True)
        ],
        dtype,
    )


def _reverse(a: Any, b: Any, dtype: str) -> Any:
    return wrapped([int(f"{unsigned(x, dtype):0{bits(dtype)}b}"[::-1], 2) for x in a], dtype)


def _leading_zeros(a: Any, b: Any, dtype: str) -> Any:
    return wrapped([bits(dtype) - unsigned(x, dtype).bit_length() for x in a], dtype)


def _trailing_zeros(a: Any, b: Any, dtype: str) -> Any:
    low = [unsigned(x, dtype) for x in a]
    return wrapped([(x & -x).bit_length() - 1 if x else bits(dtype) for x in low], dtype)


#: Name -> call with arguments X and Y of one type, and what it computes.
FUNCTIONS: dict[str, tuple[str, Callable[[Any, Any, str], Any]]] = {
    "abs": ("abs(X)", lambda a, b, d: wrapped(np.abs(exact(a)), d)),
    "absdiff": ("T(absdiff(X, Y))", lambda a, b, d: wrapped(np.abs(exact(a) - exact(b)), d)),
    "addsat": ("addsat(X, Y)", lambda a, b, d: saturated(exact(a) + exact(b), d)),
    "subsat": ("subsat(X, Y)", lambda a, b, d: saturated(exact(a) - exact(b), d)),
    "clamp": (
        "clamp(X, min(X, Y), max(Y, T(9)))",
        lambda a, b, d: np.minimum(np.maximum(a, np.minimum(a, b)), np.maximum(b, a.dtype.type(9))),
    ),
    "clz": ("clz(X)", _leading_zeros),
    "ctz": ("ctz(X)", _trailing_zeros),
    "popcount": ("popcount(X)", lambda a, b, d: wrapped([unsigned(x, d).bit_count() for x in a], d)),
    "hadd": ("hadd(X, Y)", lambda a, b, d: wrapped((exact(a) + exact(b)) // 2, d)),
    "rhadd": ("rhadd(X, Y)", lambda a, b, d: wrapped((exact(a) + exact(b) + 1) // 2, d)),
    "madhi": ("madhi(X, Y, X)", lambda a, b, d: wrapped((exact(a) * exact(b) >> bits(d)) + exact(a), d)),
    "madsat": ("madsat(X, Y, Y)", lambda a, b, d: saturated(exact(a) * exact(b) + exact(b), d)),
    "max": ("max(X, Y)", lambda a, b, d: np.maximum(a, b)),
    "max3": ("max3(X, Y, T(5))", lambda a, b, d: np.maximum(np.maximum(a, b), a.dtype.type(5))),
    "median3": (
        "median3(X, Y, T(5))",
        lambda a, b, d: np.sort(np.stack([a, b, a * 0 + a.dtype.type(5)]), 0)[1],
    ),
    "min": ("min(X, Y)", lambda a, b, d: np.minimum(a, b)),
    "min3": ("min3(X, Y, T(5))", lambda a, b, d: np.minimum(np.minimum(a, b), a.dtype.type(5))),
    "mulhi": ("mulhi(X, Y)", lambda a, b, d: wrapped(exact(a) * exact(b) >> bits(d), d)),
    "reverse_bits": ("reverse_bits(X)", _reverse),
    "rotate": ("rotate(X, Y)", _rotate),
}


def _function_rows(name: str) -> Row:
    """One function over all kinds: the results are mixed into one number, so that a kernel holds many functions."""
    call, meaning = FUNCTIONS[name]
    code = ["long o = 0;"]
    for kind, (first, second, _) in KINDS.items():
        text = (
            call.replace("X", f"{kind}({first}[i])")
            .replace("Y", f"{kind}({second}[i])")
            .replace("T(", f"{kind}(")
        )
        code.append(f"o = o * 31 + {kind}({text});")
    code.append("out[i] = o;")

    def expected(V: Values) -> Any:
        total = [0] * 64
        for first, second, dtype in KINDS.values():
            a, b = V[first], wrapped(exact(V[second]), dtype)
            part = wrapped(meaning(a, b, dtype), dtype)
            total = [t * 31 + int(x) for t, x in zip(total, part, strict=True)]
        return wrapped(total, "int64")

    return _row(f"`{name}` on int, uint, char, ushort, long, ulong", " ".join(code), expected, "int64")


def _extracted(V: Values, dtype: str, value: Any, offset: Any, count: Any) -> Any:
    n = bits(dtype)
    found = []
    for x, o, k in zip(value, offset, count, strict=True):
        field = unsigned(x, dtype) >> int(o) & (2 ** int(k) - 1)
        negative = np.iinfo(dtype).min < 0 and k and field >> (int(k) - 1) & 1
        found.append(field - 2 ** int(k) if negative else field)
    return wrapped(found, dtype) if n else None


def _inserted(base: Any, insert: Any, offset: Any, count: Any, dtype: str) -> Any:
    found = []
    for x, y, o, k in zip(base, insert, offset, count, strict=True):
        mask = (2 ** int(k) - 1) << int(o)
        found.append(unsigned(x, dtype) & ~mask | unsigned(y, dtype) << int(o) & mask)
    return wrapped(found, dtype)


ROWS = (
    *(_function_rows(name) for name in FUNCTIONS),
    _row(
        "`mul24`, `mad24`",
        (
            "out[i] = mul24(n[i] % 1000000, j[i]) + mad24(n[i] % 1000, j[i], 7) + int(mul24(u[i] & "
            "0xfffu, w[i] & 0xfffu));"
        ),
        lambda V: (
            np.fmod(V.n, 1000000).astype("int64") * V.j
            + np.fmod(V.n, 1000) * V.j
            + 7
            + (V.u & 0xFFF) * (V.w & 0xFFF)
        ),
    ),
    _row(
        "`extract_bits`",
        (
            "uint f = v[i] % 20, k_ = w[i] % 12; out[i] = extract_bits(u[i], f, k_) + 3 * "
            "uint(extract_bits(n[i], f, k_));"
        ),
        lambda V: (
            _extracted(V, "uint32", V.u, V.v % 20, V.w % 12)
            + np.uint32(3) * _extracted(V, "int32", V.n, V.v % 20, V.w % 12).astype("uint32")
        ),
        "uint32",
    ),
    _row(
        "`insert_bits`",
        "uint f = v[i] % 20, k_ = w[i] % 12; out[i] = insert_bits(u[i], w[i], f, k_);",
        lambda V: _inserted(V.u, V.w, V.v % 20, V.w % 12, "uint32"),
        "uint32",
    ),
    _row(
        "of vectors",
        (
            "uint4 o = popcount(uint4(u[i], w[i], v[i], 0)) + clz(uint4(u[i], w[i], v[i], 0)) + "
            "rotate(uint4(u[i]), uint4(1, 2, 3, 4)); out[i] = (o.x ^ o.y) + (o.z ^ o.w);"
        ),
        lambda V: _of_vectors(V),
        "uint32",
    ),
    _row(
        "`max`, `min`, `clamp`, `abs` of vectors and of char",
        (
            "int4 o = clamp(abs(int4(n[i], m[i], j[i], -5)), int4(3), max(int4(j[i]), int4(6))); "
            "char f = max(char(c[i]), char(3)); out[i] = o.x + o.y + o.z + o.w + min(f, char(9));"
        ),
        lambda V: (
            sum(
                np.minimum(np.maximum(np.abs(x), 3), np.maximum(V.j, 6))
                for x in (V.n, V.m, V.j, np.full(64, -5))
            )
            + np.clip(V.c, 3, 9)
        ),
    ),
)


def _of_vectors(V: Values) -> Any:
    parts = []
    for k, x in enumerate((V.u, V.w, V.v, np.zeros(64, "uint32"))):
        counts = [int(y).bit_count() + 32 - int(y).bit_length() for y in x]
        parts.append(wrapped(counts, "uint32") + _rotate(V.u, np.full(64, k + 1), "uint32"))
    return (parts[0] ^ parts[1]) + (parts[2] ^ parts[3])
