"""Booleans in bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx.testing.op_db._shared import as_on_a_gpu, kernel, ones
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleInput, SampleRng

Bytes = NDArray[np.uint8]


def _pack(x: NDArray[np.bool_], bitorder: Any = "little") -> Bytes:
    return np.packbits(x, axis=-1, bitorder=bitorder)


def _unpack(x: Bytes, count: int | None = None, bitorder: Any = "little") -> NDArray[np.bool_]:
    return np.unpackbits(x, axis=-1, count=count, bitorder=bitorder).astype(np.bool_)


_SHAPES = {
    "small": (4, 64),
    "single": (1,),
    "odd": (3, 5, 13),
    "long_rows": (2, 4099),
    "whole_bytes": (3, 1024),
    "many_rows": (301, 5),
    "no_rows": (0, 8),
    "no_columns": (3, 0),
}
_BIG = {"bitorder": "big"}


def _flags(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    for name, shape in _SHAPES.items():
        yield SampleInput(name, (rng(name).integers(shape, 0, 2) > 0,))
    yield SampleInput("odd_big", (rng("odd").integers(_SHAPES["odd"], 0, 2) > 0,), _BIG)
    yield SampleInput("all", (np.ones((2, 16), np.bool_),))


def _bytes(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    def made(name: str) -> Bytes:
        return rng(name).integers((*_SHAPES[name][:-1], -(-_SHAPES[name][-1] // 8)), 0, 256).astype(np.uint8)

    for name in _SHAPES:
        yield SampleInput(name, (made(name),))
    yield SampleInput("odd_big", (made("odd"),), _BIG)
    yield SampleInput("fewer", (made("odd"),), {"count": 13})
    yield SampleInput("more", (made("odd"),), {"count": 29})
    yield SampleInput("every", (np.arange(256, dtype=np.uint8)[None],))


def _rejected(function: str, dtype: str, advice: str) -> tuple[ErrorInput, ...]:
    return (
        ErrorInput(
            "float32",
            lambda: (ones(2, 8),),
            TypeError,
            f"[{function}] Expected `x` to be {dtype}, got float32. Convert it first: {advice}.",
        ),
        ErrorInput(
            "not_mlx",
            lambda: (np.ones((2, 8), np.uint8),),
            TypeError,
            f"[{function}] Expected `x` to be an mlx.core.array, got ndarray. Convert it first: mx.array(x).",
        ),
        ErrorInput(
            "zero_d",
            lambda: (ones(dtype=f"{dtype}_" if dtype == "bool" else dtype),),
            ValueError,
            f"[{function}] Expected `x` to have at least one dimension, got a 0-d array. "
            "For a single element pass x.reshape(1).",
        ),
        ErrorInput(
            "unknown_order",
            lambda: (ones(2, 8, dtype=f"{dtype}_" if dtype == "bool" else dtype),),
            ValueError,
            f"[{function}] Expected `bitorder` to be 'little' or 'big', got 'middle'.",
            kwargs={"bitorder": "middle"},
        ),
    )


OPS = (
    OpInfo(
        name="bits.pack_bits",
        op=kernel("bits", "pack_bits"),
        kernels=("zmlx_pack_bits",),
        gpu_shape=as_on_a_gpu,
        oracle=_pack,
        samples=_flags,
        source="numpy.packbits, with its bitorder 'little' unless told otherwise",
        dtypes=("bool",),
        out_dtype=lambda dtype: "uint8",
        # 2 * x, which the generated test maps over, is no bool.
        supports_vmap=False,
        golden_samples=("small", "single", "odd", "odd_big"),
        error_inputs=_rejected("pack_bits", "bool", "x != 0"),
        bytes_moved=lambda sample, dtype: int(sample.args[0].size) * 9 // 8,
    ),
    OpInfo(
        name="bits.unpack_bits",
        op=kernel("bits", "unpack_bits"),
        kernels=("zmlx_unpack_bits",),
        gpu_shape=as_on_a_gpu,
        oracle=_unpack,
        samples=_bytes,
        source="numpy.unpackbits, with its bitorder 'little' unless told otherwise; the bits as bool",
        dtypes=("uint8",),
        out_dtype=lambda dtype: "bool",
        golden_samples=("single", "odd", "odd_big", "fewer", "more"),
        error_inputs=(
            *_rejected("unpack_bits", "uint8", "x.astype(mx.uint8)"),
            ErrorInput(
                "negative_count",
                lambda: (ones(2, 8, dtype="uint8"),),
                ValueError,
                f"[unpack_bits] Expected `count` to be from 0 to {2**31 - 1}, got -1.",
                kwargs={"count": -1},
            ),
        ),
        bytes_moved=lambda sample, dtype: int(sample.args[0].size) * 9,
    ),
)
