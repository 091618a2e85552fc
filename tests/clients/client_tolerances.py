"""Tolerances that the tests of several packages share, and the values that operations are given."""

from __future__ import annotations

DTYPES = ["float32", "float16", "bfloat16"]
HALVES = DTYPES[1:]

#: Float32 arithmetic, in another order and with other exponentials than the operations'.
FLOAT32 = {"rtol": 2e-5, "atol": 2e-5}
#: Kernels that compute in float32 and round once.
ROUNDED = {
    "float32": FLOAT32,
    "float16": {"rtol": 1e-3, "atol": 1e-3},
    "bfloat16": {"rtol": 8e-3, "atol": 8e-3},
}
#: Kernels that round twice on the way.
TWICE = {
    "float32": FLOAT32,
    "float16": {"rtol": 2e-3, "atol": 2e-3},
    "bfloat16": {"rtol": 1.6e-2, "atol": 1.6e-2},
}


def float32(*arrays):
    """The same values in float32, None being left as it is."""
    import mlx.core as mx

    return [None if a is None else a.astype(mx.float32) for a in arrays]
