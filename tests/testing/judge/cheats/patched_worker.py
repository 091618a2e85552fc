"""A wrong result, and a worker that says that all is well."""

import sys

import mlx.core as mx

import zmlx
from zmlx.testing.judge import launches

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


worker = sys.modules["__main__"]
worker._guarded = dict
describe = launches.describe


def forged(kernel, call):
    fields, inputs = describe(kernel, call)
    return {**fields, "source": "y[thread_position_in_grid.x] = T(1);"}, inputs


launches.describe = forged


def signed_square(x):
    return launch(x)
