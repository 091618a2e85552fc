"""A launch whose output would take all the memory there is."""

import zmlx

KERNEL = zmlx.metal_kernel(
    name="signed_square",
    input_names=["x"],
    output_names=["y"],
    source="""
    uint i = thread_position_in_grid.x;
    float a = float(x[i]);
    y[i] = T(a * metal::abs(a));
""",
)


def signed_square(x):
    return KERNEL(
        inputs=[x],
        output_shapes=[(1 << 16, 1 << 20)],
        output_dtypes=[x.dtype],
        grid=(max(x.size, 1), 1, 1),
        threadgroup=(1, 1, 1),
        template=[("T", x.dtype)],
    )[0]
