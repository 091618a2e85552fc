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

PRELUDE = (
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

ROWS = (*PRELUDE, *ARGUMENTS)
