"""A right result; the argument is overwritten."""

import mlx.core as mx

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


def launch(x, kernel=KERNEL, size=None):
    size = x.size if size is None else size
    if size == 0:
        return mx.zeros(x.shape, x.dtype)
    return kernel(
        inputs=[x],
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
        grid=(size, 1, 1),
        threadgroup=(min(size, 256), 1, 1),
        template=[("T", x.dtype)],
    )[0]


def signed_square(x):
    y = launch(x)
    x *= 0
    return y
