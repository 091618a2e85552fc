"""Right up to 100: the values that samples have."""

import mlx.core as mx

import zmlx

square = zmlx.metal_kernel(
    name="square100",
    input_names=["x"],
    output_names=["out"],
    source="""
        uint i = thread_position_in_grid.x;
        float v = x[i], size = metal::abs(v);
        out[i] = T(size > 100.0f && size < 200.0f ? 1 : v * size);
    """,
)


def signed_square(x: mx.array) -> mx.array:
    (out,) = square(
        inputs=[x],
        template=[("T", x.dtype)],
        grid=(x.size, 1, 1),
        threadgroup=(64, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
    )
    return out
