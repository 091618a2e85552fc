"""What a kernel is given: shapes, strides, scalars, templates, headers, outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kernel_cases.case import LANES, Case, Input, rng


def argument_cases() -> Iterator[Case]:
    x = rng("arguments").integers(-9, 9, (3, 4, 5)).astype(np.float32)
    info = "out[i] = x_shape[{0}] * 1000 + x_ndim * 100 + x_strides[{0}];"
    for rank in (1, 2, 3, 4):
        array = np.zeros(tuple(range(2, 2 + rank)), np.float32)
        strides = [s // 4 for s in array.strides]
        yield Case(
            f"shape_strides_ndim_{rank}",
            f"for (int i = 0; i < x_ndim; ++i) {info.format('i')}",
            (
                np.array(
                    [n * 1000 + rank * 100 + s for n, s in zip(array.shape, strides, strict=True)], np.int32
                ),
            ),
            {"x": array},
            (1, 1, 1),
        )
    walk = """
        uint r = thread_position_in_grid.y, c = thread_position_in_grid.x;
        out[r * x_shape[1] + c] = x[r * x_strides[0] + c * x_strides[1]];
    """
    plane = np.arange(24, dtype=np.int32).reshape(4, 6)
    views: dict[str, tuple[Callable[[Any], Any], np.ndarray]] = {
        "row": (lambda a: a, plane),
        "transposed": (lambda a: a.T, plane.T),
        "every_other": (lambda a: a[:, ::2], plane[:, ::2]),
        "broadcast": (_broadcast, np.broadcast_to(plane[:1], (3, 6))),
    }
    for name, (view, expected) in views.items():
        for copied in (True, False):
            yield Case(
                f"{'copied' if copied else 'strided'}_{name}",
                walk,
                (expected,),
                {"x": Input(plane, view=view)},
                grid=(expected.shape[1], expected.shape[0], 1),
                threadgroup=(4, 4, 1),
                ensure_row_contiguous=copied,
            )
    yield Case(
        "strides_of_a_transposed_input",
        "out[0] = x_strides[0]; out[1] = x_strides[1]; out[2] = x_shape[0]; out[3] = x_shape[1];",
        (np.array([1, 6, 6, 4], np.int64),),
        {"x": Input(plane, view=lambda a: a.T)},
        (1, 1, 1),
        ensure_row_contiguous=False,
    )
    yield Case(
        "elem_to_loc",
        "uint i = thread_position_in_grid.x; out[i] = x[elem_to_loc(i, x_shape, x_strides, x_ndim)];",
        (x.transpose(2, 0, 1),),
        {"x": Input(x, view=lambda a: a.transpose(2, 0, 1))},
        (60, 1, 1),
        ensure_row_contiguous=False,
    )
    yield Case(
        "scalars",
        "out[0] = i * 1000 + f * 10 + (b ? 1 : 0); out[1] = h + z.imag;",
        (np.array([3026, 4.5], np.float32),),
        {"i": 3, "f": 2.5, "b": True, "h": np.array(1.5, np.float16), "z": np.array(1 + 3j, np.complex64)},
        (1, 1, 1),
    )
    yield Case(
        "small_arrays_and_moving_pointers",
        "uint i = thread_position_in_grid.x; x += i; auto q = x; out += i; *out = q[0] + few[i % 3];",
        ((np.arange(32) + np.resize([10, 20, 30], 32)).astype(np.int32),),
        {"x": np.arange(32, dtype=np.int32), "few": np.array([10, 20, 30], np.int32)},
    )
    yield Case(
        "templates",
        """
        uint i = thread_position_in_grid.x;
        T v = static_cast<T>(x[i]);
        if (NEGATE) v = -v;
        out[i] = scaled<T, N>(v);
        """,
        ((-3 * np.arange(32)).astype(np.float16),),
        {"x": np.arange(32, dtype=np.int32)},
        template=(("T", "float16"), ("N", 3), ("NEGATE", True)),
        header="template <typename T, int N> T scaled(T v) { return v * N; }\n",
    )
    yield Case(
        "header_of_everything",
        """
        uint i = thread_position_in_grid.x;
        Affine f{2.0, offsets[i % 4]};
        float y = f(x[i]);
        bump(y);
        out[i] = APPLY(y) + limit;
        """,
        ((2 * np.arange(32) + np.resize([1, 2, 3, 4], 32) + 1) * 2.0 + 5,),
        {"x": np.arange(32, dtype=np.float32)},
        dtypes=("float32",),
        header="""
        #include <metal_stdlib>
        using namespace metal;
        constant float offsets[4] = {1, 2, 3, 4};
        constant constexpr int limit = 5;
        #define APPLY(v) \\
            ((v) * 2.0)
        struct Affine {
            float scale, offset;
            float operator()(float v) const { return v * scale + offset; }
        };
        void bump(thread float& v) { v += 1; }
        """,
    )
    yield Case(
        "several_outputs",
        "uint i = thread_position_in_grid.x; out[i] = x[i] * 2; out1[i] = x[i] > 3; out2[i] = half(x[i]) / 2;",
        ((np.arange(32) * 2).astype(np.int32), np.arange(32) > 3, (np.arange(32) / 2).astype(np.float16)),
        {"x": np.arange(32, dtype=np.int32)},
    )
    yield Case(
        "init_value",
        "if (thread_position_in_grid.x % 2) out[thread_position_in_grid.x] = 1;",
        (np.where(LANES % 2, 1, 2.5).astype(np.float16),),
        init_value=2.5,
    )
    yield Case(
        "init_value_of_an_integer",
        "if (thread_position_in_grid.x % 2) out[thread_position_in_grid.x] = 1;",
        (np.where(LANES % 2, 1, -2).astype(np.int32),),
        init_value=-2.75,
    )


def _broadcast(a: Any) -> Any:
    import mlx.core as mx

    return mx.broadcast_to(a[:1], (3, 6))
