"""Right in a checked build, wrong in any other."""

import mlx.core as mx

import zmlx

square = zmlx.metal_kernel(
    name="told_apart",
    input_names=["x"],
    output_names=["out"],
    source="""
        uint i = thread_position_in_grid.x;
        float v = x[i];
        #if defined(ZMLX_CHECKED)
        out[i] = T(v * metal::abs(v));
        #else
        out[i] = T(v);
        #endif
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
