"""No kernel at all."""

import mlx.core as mx


def signed_square(x):
    wide = x.astype(mx.float32)
    return (wide * mx.abs(wide)).astype(x.dtype)
