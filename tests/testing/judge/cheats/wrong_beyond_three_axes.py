"""Right for arrays of up to three axes: the ranks that samples have."""

import mlx.core as mx

import zmlx

square = zmlx.metal_kernel(
    name="square_of_ranks",
    input_names=["x"],
    output_names=["out"],
    source="""
        uint i = thread_position_in_grid.x;
        float v = x[i];
        out[i] = T(RANK > 3 ? v : v * metal::abs(v));
    """,
)


def signed_square(x: mx.array) -> mx.array:
    (out,) = square(
        inputs=[x],
        template=[("T", x.dtype), ("RANK", x.ndim)],
        grid=(x.size, 1, 1),
        threadgroup=(64, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
    )
    return out
