"""Small operations that candidates of these tests are judged against; their own functions are MLX operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import numpy as np

from zmlx.testing import OpInfo, SampleInput


def in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` computed in float32 and rounded once."""

    def op(*arrays: mx.array) -> mx.array:
        return function(*(a.astype(mx.float32) for a in arrays)).astype(arrays[0].dtype)

    return op


def one_array(rng: Any) -> Iterator[SampleInput]:
    yield SampleInput("small", (rng("small").normal((4, 16)),))
    yield SampleInput("rows", (rng("rows").normal((3, 5, 7)),))
    yield SampleInput("empty", (rng("empty").normal((0, 8)),))


SIGNED_SQUARE = OpInfo(
    name="small.signed_square",
    op=in_float32(lambda x: x * mx.abs(x)),
    oracle=lambda x: x * np.abs(x),
    samples=one_array,
    source="x |x|",
)

ROW_MAX = OpInfo(
    name="small.row_max",
    op=lambda x: mx.max(x, axis=-1),
    oracle=lambda x: np.max(x, axis=-1),
    samples=lambda rng: [
        SampleInput("small", (rng("small").normal((4, 16)),)),
        SampleInput("rows", (rng("rows").normal((3, 5, 7)),)),
    ],
    source="the largest element of each row",
)

OPS = (SIGNED_SQUARE, ROW_MAX)
