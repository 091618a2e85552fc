"""Right below 65536 elements: an index of 16 bits."""

import mlx.core as mx

import zmlx

square = zmlx.metal_kernel(
    name="square16",
    input_names=["x"],
    output_names=["out"],
    source="ushort i = thread_position_in_grid.x; float v = x[i]; out[i] = T(v * metal::abs(v));",
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
