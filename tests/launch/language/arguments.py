"""MLX's prelude, and what a launch passes to a kernel."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from language.row import Row
from language.scalars import f32
from language.simd import LANES

_prelude = partial(Row, "MLX's prelude")
_arguments = partial(Row, "Arguments", alone=True)


def _strided(name: str = "a") -> Any:
    import mlx.core as mx

    return mx.arange(120).reshape(4, 5, 6).transpose(2, 0, 1)[::2]


VIEW = np.arange(120).reshape(4, 5, 6).transpose(2, 0, 1)[::2]


def _eight() -> Any:
    import mlx.core as mx

    return mx.arange(2**8).reshape((2,) * 8).transpose(7, 5, 3, 1, 0, 2, 4, 6)


EIGHT = np.arange(2**8).reshape((2,) * 8).transpose(7, 5, 3, 1, 0, 2, 4, 6)


def _wide() -> Any:
    """A stride that no 32 bits hold, along an axis of one element, so that it needs no memory."""
    import mlx.core as mx

    return mx.as_strided(mx.arange(12), (1, 3, 4), (2**33 + 5, 4, 1))


def _backwards() -> Any:
    import mlx.core as mx

    return mx.arange(60).reshape(3, 20)[::-1, ::-2]


def _broadcast() -> Any:
    import mlx.core as mx

    return mx.broadcast_to(mx.arange(5), (12, 5))


# A shape and strides that only 64 bits hold, and where elements lie.
FAR_HEADER = """constant int lang_far_shape[3] = {2, 4, 8};
constant int64_t lang_far[3] = {int64_t(1) << 40, (int64_t(1) << 33) + 3, -7};"""
FAR = LANES // 32 * 2**40 + LANES // 8 % 4 * (2**33 + 3) - LANES % 8 * 7

FAR_ROWS = (
    _prelude(
        "`elem_to_loc` with results beyond 32 bits",
        "out[i] = elem_to_loc<int64_t>(i, lang_far_shape, lang_far, 3);",
        lambda V: FAR,
        "int64",
        header=FAR_HEADER,
    ),
    _prelude(
        "`elem_to_loc` of a position in the grid, `_3`, `_2`, `_1` beyond 32 bits",
        """
        uint3 o = uint3(i % 8, i / 8 % 4, i / 32);
        long f = elem_to_loc_2<int64_t>(o.xy, lang_far + 1) + elem_to_loc_1<int64_t>(o.z, lang_far[0]);
        long k_ = elem_to_loc<int64_t>(o, lang_far_shape, lang_far, 3);
        out[i] = k_ == f && f == elem_to_loc_3<int64_t>(o, lang_far) ? f : -1;
        """,
        lambda V: FAR,
        "int64",
        header=FAR_HEADER,
    ),
    _prelude(
        "`elem_to_loc_3_nd`, `LoopedElemToLoc` beyond 32 bits",
        """
        uint3 o = uint3(i % 8, i / 8 % 4, i / 32);
        auto f = elem_to_loc_3_nd<int64_t>(o, lang_far_shape, lang_far, lang_far, lang_far, 3);
        LoopedElemToLoc<3, int64_t> e_(3);
        e_.next(i, lang_far_shape, lang_far);
        out[i] = f.x == f.y && f.y == f.z ? e_.location() : -1;
        """,
        lambda V: FAR,
        "int64",
        header=FAR_HEADER,
    ),
)

PRELUDE = (
    *FAR_ROWS,
    _prelude(
        "`elem_to_loc` over a strided input",
        "out[i] = a[elem_to_loc(i, a_shape, a_strides, a_ndim)];",
        lambda V: VIEW.ravel(),
        inputs={"a": _strided},
        grid=(60, 1, 1),
        ensure_row_contiguous=False,
    ),
    _prelude(
        "`elem_to_loc<int64_t>`, `elem_to_loc_3`, `elem_to_loc_1`",
        (
            "out[i] = a[elem_to_loc<int64_t>(i, a_shape, a_strides, a_ndim)] + "
            "a[elem_to_loc_3<int64_t>(uint3(i % 5, i / 5 % 4, i / 20), a_strides)] + elem_to_loc_1(i, "
            "a_strides[0]) * 0;"
        ),
        lambda V: 2 * VIEW.ravel(),
        inputs={"a": _strided},
        grid=(60, 1, 1),
        ensure_row_contiguous=False,
    ),
    _prelude(
        "`elem_to_loc_2_nd`",
        (
            "uint3 o = uint3(i % 5, i / 5 % 4, i / 20); auto f = elem_to_loc_2_nd<int64_t>(o, a_shape, "
            "a_strides, a_strides, a_ndim); out[i] = a[f.x] + a[f.y];"
        ),
        lambda V: 2 * VIEW.ravel(),
        inputs={"a": _strided},
        grid=(60, 1, 1),
        ensure_row_contiguous=False,
    ),
    _prelude(
        "`ceildiv`, `Limits`, `WorkPerThread`",
        (
            "out[i] = ceildiv(i, 5u) + (Limits<float>::min == -INFINITY) * 100 + 1000 * "
            "(Limits<int>::max == INT_MAX) + 10000 * WorkPerThread<half>::n;"
        ),
        lambda V: (LANES + 4) // 5 + 100 + 1000 + 40000,
    ),
    _prelude(
        "`log1p`, `cast_to`, `ConditionalType`",
        (
            "typename ConditionalType<true, float, int>::type o = 0.5; "
            "out[i] = log1p(e[i]) + o + cast_to<bool>(e[i]);"
        ),
        lambda V: np.log1p(np.float64(V.e)) + 1.5,
        "float32",
        ulp=4,
    ),
    _prelude(
        "complex64: arithmetic",
        "out[i] = z[i] * complex64_t(1, 2) + z[i] - 1;",
        lambda V: V.z * (1 + 2j) + V.z - 1,
        "complex64",
    ),
    _prelude(
        "complex64: parts, comparison, conversion",
        (
            "complex64_t o = z[i]; o += complex64_t(p[i]); out[i] = o.real * 2 + o.imag + 100 * (z[i] == "
            "z[i]) + 1000 * (o > complex64_t(0, 0));"
        ),
        lambda V: (
            lambda o: o.real * 2 + o.imag + 100 + 1000 * ((o.real > 0) | ((o.real == 0) & (o.imag > 0)))
        )(V.z + V.p),
        "float32",
    ),
    _prelude(
        "complex64: division",
        "out[i] = z[i] / complex64_t(1, 2);",
        lambda V: V.z.astype("complex128") / (1 + 2j),
        "complex64",
        atol=1e-6,
    ),
    _prelude(
        "`float16_t`, `bfloat16_t`",
        (
            "float16_t o = h[i]; bfloat16_t f = b[i]; out[i] = float(o) + "
            "float(static_cast<bfloat16_t>(1.5f)) + float(f) * 0;"
        ),
        lambda V: f32(V.h) + np.float32(1.5) + V.b * 0,
        "float32",
    ),
)

ARGUMENTS = (
    _arguments(
        "a stride beyond 32 bits",
        "out[i] = a_strides[0] * (i % 3) + a[elem_to_loc<int64_t>(i, a_shape, a_strides, a_ndim)];",
        lambda V: (2**33 + 5) * (np.arange(12) % 3) + np.arange(12),
        "int64",
        inputs={"a": _wide},
        grid=(12, 1, 1),
        ensure_row_contiguous=False,
    ),
    _arguments(
        "negative strides",
        "out[i] = a[elem_to_loc<int64_t>(i, a_shape, a_strides, a_ndim)] + 100 * a_strides[1];",
        lambda V: np.arange(60).reshape(3, 20)[::-1, ::-2].ravel() - 200,
        inputs={"a": _backwards},
        grid=(30, 1, 1),
        ensure_row_contiguous=False,
    ),
    _arguments(
        "strides of 0",
        "out[i] = a[i / 5 * a_strides[0] + i % 5 * a_strides[1]] + 10 * a_strides[0];",
        lambda V: np.arange(60) % 5,
        inputs={"a": _broadcast},
        grid=(60, 1, 1),
        ensure_row_contiguous=False,
    ),
    _arguments(
        "indices beyond 32 bits",
        """
        ulong o = (ulong(i) << 33) + 5000000000ul;
        long f = long(n[i]) * 3000000000l / 7 - long(o % 1000003ul);
        const device float* m_ = p + (1l << 34);
        size_t k_ = (size_t(1) << 40) + i;
        out[i] = f + (m_[long(i) - (1l << 34)] == p[k_ - (1ul << 40)]) + long(&m_[i] - p);
        """,
        lambda V: _far_indices(V),
        "int64",
    ),
    _arguments(
        "`_shape`, `_strides`, `_ndim` of a view",
        (
            "uint o = i / 20, f = i / 5 % 4, k_ = i % 5; out[i] = a[o * a_strides[0] + f * a_strides[1] "
            "+ k_ * a_strides[2]] + 1000 * (a_shape[0] * 100 + a_shape[1] * 10 + a_shape[2]) * (a_ndim "
            "== 3);"
        ),
        lambda V: VIEW.ravel() + 1000 * 345,
        inputs={"a": _strided},
        grid=(60, 1, 1),
        ensure_row_contiguous=False,
    ),
    _arguments(
        "the same, made row-contiguous",
        "out[i] = a[i] + 1000 * (a_strides[0] == 20) + 10000 * (a_strides[2] == 1);",
        lambda V: VIEW.ravel() + 11000,
        inputs={"a": _strided},
        grid=(60, 1, 1),
    ),
    _arguments(
        "eight dimensions",
        "out[i] = a[elem_to_loc<int64_t>(i, a_shape, a_strides, a_ndim)] + 1000 * a_ndim;",
        lambda V: EIGHT.ravel() + 8000,
        inputs={"a": _eight},
        grid=(256, 1, 1),
        ensure_row_contiguous=False,
    ),
    _arguments(
        "Python scalars and 0-d arrays",
        "out[i] = a * i + b + (c ? 0.5 : 0);",
        lambda V: 3 * LANES + 2.5 + 0.5,
        "float32",
        inputs={"a": 3, "b": 2.5, "c": True},
    ),
    _arguments(
        "small arrays in `constant` memory",
        "out[i] = a[i % 3] + lang_first(a);",
        lambda V: np.array([7, 8, 9])[LANES % 3] + 7,
        inputs={"a": np.array([7, 8, 9], "int32")},
        header="template <typename P> int lang_first(P v) { return v[0]; }",
    ),
    _arguments(
        "template arguments: type, int, bool",
        "T o = T(p[i]) * N; out[i] = B ? o : -o;",
        lambda V: V.p * 3,
        "float32",
        template=(("T", "float32"), ("N", 3), ("B", True)),
    ),
    _arguments(
        "`init_value`",
        "if (i % 2) out[i] = 1;",
        lambda V: np.where(LANES % 2, 1, -2.5),
        "float32",
        init_value=-2.5,
    ),
    _arguments(
        "a grid of three dimensions",
        (
            "uint3 o = thread_position_in_grid, f = threads_per_grid; "
            "out[(o.z * f.y + o.y) * f.x + o.x] = o.x + 10 * o.y + 100 * o.z + 1000 * "
            "threadgroup_position_in_grid.x;"
        ),
        lambda V: np.array(
            [x + 10 * y + 100 * z + 1000 * (x // 4) for z in range(3) for y in range(5) for x in range(7)]
        ),
        grid=(7, 5, 3),
        threadgroup=(4, 2, 2),
    ),
)


def _far_indices(V: Any) -> Any:
    found = []
    for i in range(64):
        product = int(V.n[i]) * 3000000000
        quotient = abs(product) // 7 * (1 if product >= 0 else -1)
        found.append(quotient - ((i << 33) + 5000000000) % 1000003 + 1 + (1 << 34) + i)
    return np.array(found, "int64")


ROWS = (*PRELUDE, *ARGUMENTS)
