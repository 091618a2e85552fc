"""Images, channels last: resizing, sampling, and depthwise convolution."""

from __future__ import annotations

import mlx.core as mx

from zmlx.kernels import _check
from zmlx.kernels._depthwise import depthwise_conv
from zmlx.kernels._resize import MAX_EXTENT, resizer

__all__ = ["depthwise_conv_3x3", "resize_bilinear"]

_IMAGE = "height, width and channels at the end"


def depthwise_conv_3x3(x: mx.array, weight: mx.array) -> mx.array:
    """``y[h, w, c] = sum over i, j < 3 of weight[c, i, j] * x[h + i - 1, w + j - 1, c]``, zero beyond the image.

    Parameters
    ----------
    x
        Shape (..., H, W, C), float32, float16 or bfloat16, in any memory layout.
    weight
        Shape (C, 3, 3), of any of these dtypes: that of `mlx.core.conv2d` with ``groups=C``, without its last axis.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32. Both gradients are kernels.

    Raises
    ------
    TypeError
        An array is not an MLX array of one of these dtypes.
    ValueError
        ``x`` has fewer than three dimensions, or ``weight`` another shape.

    Notes
    -----
    Chollet, Xception: Deep Learning with Depthwise Separable Convolutions (arXiv:1610.02357); a cross-correlation, as
    convolutions of networks are.
    """
    function = "depthwise_conv_3x3"
    _check.check_dimensions(function, x, "x", 3, _IMAGE)
    _check.check_shape(function, weight, "weight", (x.shape[-1], 3, 3), "nine taps for each channel of `x`")
    if x.size == 0:
        return mx.zeros(x.shape, x.dtype)
    return depthwise_conv(x, weight)


def resize_bilinear(x: mx.array, size: tuple[int, int], align_corners: bool = False) -> mx.array:
    """An image of another size, each pixel interpolated between the four around its place.

    Output ``o`` of an axis lies at input ``max((o + 0.5) * inputs / outputs - 0.5, 0)``, or with ``align_corners`` at
    ``o * (inputs - 1) / (outputs - 1)``.

    Parameters
    ----------
    x
        Shape (..., H, W, C), float32, float16 or bfloat16, in any memory layout.
    size
        The new height and width, from 1 to 32768, as those of ``x`` are.
    align_corners
        Whether the centres of the corner pixels stay where they are, instead of the image's edges.

    Returns
    -------
    mx.array
        Shape (..., *size, C), of ``x``'s dtype; computed in float32 from places that are exact. The gradient gathers,
        without atomics, so that runs repeat bit for bit.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes, or ``size`` is not made of integers.
    ValueError
        ``x`` has fewer than three dimensions, or an extent is beyond its bounds.

    Notes
    -----
    torch.nn.functional.interpolate with ``mode="bilinear"``: without antialiasing, also where the image shrinks.
    """
    function = "resize_bilinear"
    _check.check_dimensions(function, x, "x", 3, _IMAGE)
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"[{function}] Expected `size` to be (height, width), got {size!r}.")
    rows, columns = (_check.check_integer(function, n, "size", 1, MAX_EXTENT) for n in size)
    height, width = (
        _check.check_integer(function, n, f"x.shape[{axis}]", 0, MAX_EXTENT)
        for axis, n in ((-3, x.shape[-3]), (-2, x.shape[-2]))
    )
    if 0 in (height, width) and x.ndim and 0 not in x.shape[:-3] and x.shape[-1]:
        raise ValueError(f"[{function}] Expected `x` to have pixels, got shape {tuple(x.shape)}.")
    if x.size == 0:
        return mx.zeros((*x.shape[:-3], rows, columns, x.shape[-1]), x.dtype)
    return resizer(height, width, rows, columns, bool(align_corners))(x)
