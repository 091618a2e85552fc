"""Elementwise launches over arrays of one shape, whatever it is."""

from __future__ import annotations

import mlx.core as mx

#: What an int32, in which kernels get shapes, can count.
MAX_FLAT = 2**31 - 1


def flat_shape(x: mx.array) -> tuple[int, int]:
    """(rows, length) as which the elements of ``x`` are worked on: one row, unless there are too many for that."""
    if x.size <= MAX_FLAT:
        return 1, x.size
    return x.size // x.shape[-1], x.shape[-1]


def numbers(*values: float | mx.array) -> mx.array:
    """Numbers for a kernel in one float32 array; those that are arrays of no dimension keep their place in MLX's
    graph."""
    if not any(isinstance(value, mx.array) for value in values):
        return mx.array(values, mx.float32)
    return mx.stack([mx.array(value).astype(mx.float32).reshape(()) for value in values])
