"""What a header adds to namespace metal is found there."""

from __future__ import annotations

import mlx.core as mx
import pytest

import zmlx

pytestmark = pytest.mark.cpu

HEADER = """
struct pair { float a, b; };
namespace metal {
template <typename T> struct is_small { static constexpr constant bool value = sizeof(T) < 4; };
METAL_FUNC float cube(float x) { return x * x * x; }
}  // namespace metal
METAL_FUNC float abs(pair p) { return metal::abs(p.a) + metal::abs(p.b); }
"""


def test_additions_are_found_qualified_and_not() -> None:
    kernel = zmlx.metal_kernel(
        "additions",
        ["x"],
        ["out"],
        "uint i = thread_position_in_grid.x;"
        "out[i] = metal::cube(x[i]) + cube(2.0f) + is_small<half>::value + abs(pair{-1, 2});",
        HEADER,
    )
    (out,) = kernel(
        inputs=[mx.array([1.0, -2.0])],
        output_shapes=[(2,)],
        output_dtypes=[mx.float32],
        grid=(2, 1, 1),
        threadgroup=(2, 1, 1),
        stream=mx.cpu,
    )
    assert out.tolist() == [13.0, 4.0]
