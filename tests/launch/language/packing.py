"""Pack and unpack functions."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from language.row import Row

_packing = partial(Row, "Packing")

#: What is packed: numbers in and out of range, halves between two results, infinities and NaN.
GIVEN = np.array(
    [0.0, -0.0, 1, 2, -1, -3, np.nan, 0.5, 0.25, 1 / 3, -0.7, 1e9, -np.inf, np.inf, 0.999, -0.999] * 4,
    "float32",
)


def _bits(width: int, component: int) -> int:
    return 2 if (width, component) == (10, 3) else width


def _packed(given: Any, width: int, count: int, signed: bool) -> Any:
    word = np.zeros(64, "int64")
    for k in range(count):
        bits = _bits(width, k)
        value = np.roll(given, -k)
        number = np.clip(np.where(np.isnan(value), 0, value), -1.0 if signed else 0.0, 1.0).astype("float32")
        whole = np.rint(number * np.float32(2 ** (bits - signed) - 1)).astype("int64")
        word |= (whole & (2**bits - 1)) << (k * width)
    return word.astype("uint32")


def _unpacked(words: Any, width: int, count: int, signed: bool) -> Any:
    total = np.zeros(64)
    for k in range(count):
        bits = _bits(width, k)
        whole = words.astype("int64") >> (k * width) & (2**bits - 1)
        if signed:
            whole = np.where(whole >> (bits - 1), whole - 2**bits, whole)
        total += (k + 1) * np.maximum(whole / (2 ** (bits - signed) - 1), -1)
    return total


def _rows(name: str, width: int, count: int, signed: bool) -> tuple[Row, ...]:
    values = ", ".join(f"f[(i + {k}) % 64]" for k in range(count))
    parts = " + ".join(f"{k + 1} * float(o[{k}])" for k in range(count))
    return (
        _packing(
            f"`pack_float_to_{name}`, `pack_half_to_{name}`",
            f"out[i] = i % 2 ? pack_half_to_{name}(half{count}(float{count}({values}))) : "
            f"pack_float_to_{name}(float{count}({values}));",
            lambda V: np.where(
                np.arange(64) % 2,
                _packed(GIVEN.astype("float16").astype("float32"), width, count, signed),
                _packed(GIVEN, width, count, signed),
            ),
            "uint32",
            inputs={"f": GIVEN},
        ),
        _packing(
            f"`unpack_{name}_to_float`",
            f"float{count} o = unpack_{name}_to_float(u[i]); out[i] = {parts};",
            lambda V: _unpacked(V.u, width, count, signed),
            "float32",
            ulp=8,
            atol=1e-6,
        ),
        _packing(
            f"`unpack_{name}_to_half`",
            f"half{count} o = unpack_{name}_to_half(u[i]); out[i] = {parts};",
            lambda V: _unpacked(V.u, width, count, signed),
            "float32",
            atol=1e-2,
        ),
    )


FORMATS = (
    ("unorm4x8", 8, 4, False),
    ("snorm4x8", 8, 4, True),
    ("unorm2x16", 16, 2, False),
    ("snorm2x16", 16, 2, True),
    ("unorm10a2", 10, 4, False),
)
ROWS = tuple(row for made in FORMATS for row in _rows(*made))
