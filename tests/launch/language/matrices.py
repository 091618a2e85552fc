"""<metal_simdgroup_matrix>."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from language.row import Row

_matrices = partial(
    Row,
    "simdgroup_matrix",
    alone=True,
    inputs={"f": np.arange(256, dtype="float32") % 13 - 6},
    grid=(32, 1, 1),
    threadgroup=(32, 1, 1),
)

F = (np.arange(256) % 13 - 6).astype("float32")
A, B, C = F[:64].reshape(8, 8), F[64:128].reshape(8, 8), F[128:192].reshape(8, 8)


def _of(kind: str) -> Row:
    return _matrices(
        f"`simdgroup_{kind}8x8`: load, multiply, store",
        f"threadgroup {kind} s_[128]; for (uint k_ = 0; k_ < 4; "
        f"++k_) s_[i * 4 + k_] = {kind}(f[i * 4 + k_]); "
        f"threadgroup_barrier(mem_flags::mem_threadgroup);"
        f" simdgroup_{kind}8x8 a_, b_, c_; simdgroup_load(a_, s_); simdgroup_load(b_, s_ + 64, 8); "
        f"simdgroup_multiply(c_, a_, b_);"
        f" threadgroup {kind} o[64]; simdgroup_store(c_, o, 8); "
        f"threadgroup_barrier(mem_flags::mem_threadgroup); out[i * 2] = float(o[i * 2]); "
        f"out[i * 2 + 1] = float(o[i * 2 + 1]);",
        lambda V: A @ B,
        "float32",
    )


MATRICES = (
    *(_of(kind) for kind in ("float", "half", "bfloat")),
    _matrices(
        "`simdgroup_multiply_accumulate`, filled, diagonal",
        (
            "simdgroup_float8x8 a_, b_, c_ = make_filled_simdgroup_matrix<float, 8, 8>(2.0f), d_(3.0f); "
            "simdgroup_load(a_, f, 8); simdgroup_load(b_, f + 64, 8); "
            "simdgroup_multiply_accumulate(c_, a_, b_, c_); "
            "simdgroup_multiply_accumulate(c_, d_, c_, c_); simdgroup_store(c_, out, 8);"
        ),
        lambda V: 4 * (A @ B + 2),
        "float32",
    ),
    _matrices(
        "strides, origin, transposed",
        (
            "simdgroup_matrix<float, 8, 8> a_, b_; simdgroup_load(a_, f, 16, ulong2(3, 2)); "
            "simdgroup_load(b_, f, 16, ulong2(3, 2), true); "
            "simdgroup_store(a_, out, 8, ulong2(0, 0), true); "
            "simdgroup_store(b_, out + 64, 16, ulong2(8, 0));"
        ),
        lambda V: _stored(),
        "float32",
        init_value=0,
    ),
    _matrices(
        "`thread_elements`",
        (
            "simdgroup_float8x8 a_; simdgroup_load(a_, f, 8); a_.thread_elements()[0] *= 2; "
            "a_.thread_elements().y += 1; simdgroup_store(a_, out, 8);"
        ),
        lambda V: np.where(np.arange(8) % 2, A + 1, A * 2),
        "float32",
    ),
    _matrices(
        "mixed types: half times half into float",
        (
            "simdgroup_half8x8 a_, b_; simdgroup_float8x8 c_(1.0f); a_.thread_elements() = half2(i, 1); "
            "b_.thread_elements() = half2(2, i % 3); simdgroup_multiply_accumulate(c_, a_, b_, c_); "
            "simdgroup_store(c_, out, 8);"
        ),
        lambda V: _mixed_product(),
        "float32",
    ),
)


def _stored() -> Any:
    part = F.reshape(16, 16)[2:10, 3:11]
    second = np.zeros((8, 16), "float32")
    second[:, 8:] = part.T
    return np.concatenate([part.T.ravel(), second.ravel()])


def _mixed_product() -> Any:
    a, b = np.zeros((8, 8)), np.zeros((8, 8))
    for lane in range(32):
        row, column = (lane >> 2 & 4) + (lane >> 1 & 3), (lane >> 1 & 4) + (lane & 1) * 2
        a[row, column : column + 2] = lane, 1
        b[row, column : column + 2] = 2, lane % 3
    return a @ b + np.eye(8)


ROWS = MATRICES
