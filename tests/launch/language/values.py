"""The input arrays that rows read, 64 elements each, named by single letters.

=====  ==========  ==================================================================
name   dtype       values
=====  ==========  ==================================================================
x y    float32     anything: zeros of both signs, infinities, NaN, large and small
p g    float32     multiples of 1/8 within ±8: sums and products are exact
e      float32     positive, of no special form
h k    float16     multiples of 1/8 within ±64, some of them large
b d    bfloat16    multiples of 1/8 within ±4, some of them large
n m    int32       anything but the least int
j      int32       small, not zero
u w    uint32      anything
v      uint32      0 to 79: shift amounts
c      int8        anything
a      uint8       anything
s      int16       anything
r      uint16      anything
l      int64       anything but the least
q      uint64      anything
t      bool        anything
z      complex64   parts are multiples of 1/8
=====  ==========  ==================================================================
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from zmlx.testing.tolerance import round_to

COUNT = 64
NAMES = [
    "x",
    "y",
    "p",
    "g",
    "e",
    "h",
    "k",
    "b",
    "d",
    "n",
    "m",
    "j",
    "u",
    "w",
    "v",
    "c",
    "a",
    "s",
    "r",
    "l",
    "q",
    "t",
    "z",
]
BFLOATS = frozenset({"b", "d"})


class Values(dict[str, Any]):
    """The arrays by name, as attributes too. bfloat16 arrays hold their values as float32."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def _filled(edges: list[float], rest: Any, dtype: str) -> Any:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.concatenate([np.array(edges, dtype), rest[: COUNT - len(edges)].astype(dtype)])


@lru_cache
def values() -> Values:
    rng = np.random.default_rng(2024)
    inf, nan = np.inf, np.nan
    wild = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        inf,
        -inf,
        nan,
        65504.0,
        65519.0,
        65520.0,
        -1e5,
        1e-8,
        3e-5,
        3.4e38,
        -1e30,
        2.5,
    ]
    eighths = lambda limit: rng.integers(-8 * limit, 8 * limit + 1, COUNT) / 8  # noqa: E731
    integers = lambda dtype: rng.integers(  # noqa: E731
        np.iinfo(dtype).min, np.iinfo(dtype).max, COUNT, dtype=dtype, endpoint=True
    )
    small = np.where(rng.random(COUNT) < 0.5, -1, 1) * rng.integers(1, 10, COUNT)
    bfloats = round_to(np.concatenate([[0.0, -0.0, 1e38, 256.0], eighths(4)[4:]]), "bfloat16")
    found = Values(
        x=_filled(wild, rng.standard_normal(COUNT) * 10, "float32"),
        y=_filled(wild[::-1], rng.standard_normal(COUNT) * 10, "float32")[rng.permutation(COUNT)],
        p=eighths(8).astype("float32"),
        g=eighths(8).astype("float32"),
        e=rng.uniform(0.05, 20, COUNT).astype("float32"),
        h=_filled([0.0, -0.0, 60000.0, -60000.0, 2048.0], eighths(64), "float16"),
        k=_filled([1.0, 2.0, 60000.0, 0.125, 1.0], eighths(64), "float16"),
        b=bfloats.astype("float32"),
        d=bfloats[rng.permutation(COUNT)].astype("float32"),
        n=_filled([0, -1, 1, 2**31 - 1, -(2**31) + 1, 255, 65536], integers("int32"), "int32"),
        m=_filled([3, 2**31 - 1, -(2**31) + 1, 0, -1], integers("int32"), "int32"),
        j=small.astype("int32"),
        u=_filled([0, 1, 2**32 - 1, 2**31, 12345], integers("uint32"), "uint32"),
        w=_filled([2**32 - 1, 0, 2, 2**31, 2**16], integers("uint32"), "uint32"),
        v=rng.integers(0, 80, COUNT).astype("uint32"),
        c=_filled([0, -1, 127, -128], integers("int8"), "int8"),
        a=_filled([0, 1, 255, 128], integers("uint8"), "uint8"),
        s=_filled([0, -1, 32767, -32768], integers("int16"), "int16"),
        r=_filled([0, 1, 65535, 32768], integers("uint16"), "uint16"),
        l=np.concatenate([np.array([0, -1, 2**63 - 1, -(2**63) + 1], "int64"), integers("int64")[4:]]),
        q=np.concatenate([np.array([0, 1, 2**64 - 1, 2**63], "uint64"), integers("uint64")[4:]]),
        t=rng.random(COUNT) < 0.5,
        z=(eighths(4) + 1j * eighths(4)).astype("complex64"),
    )
    assert list(found) == NAMES
    assert all(array.shape == (COUNT,) for array in found.values())
    return found
