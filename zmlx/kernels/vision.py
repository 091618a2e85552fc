"""Images, channels last: resizing, sampling, and depthwise convolution."""

from __future__ import annotations

import mlx.core as mx

from zmlx.kernels import _check, _check_numbers
from zmlx.kernels._depthwise import depthwise_conv
from zmlx.kernels._grid_sample import sampler
from zmlx.kernels._resize import MAX_EXTENT, resizer

__all__ = ["depthwise_conv_3x3", "grid_sample", "resize_bilinear"]

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


def grid_sample(x: mx.array, grid: mx.array, align_corners: bool = False) -> mx.array:
    """An image at given points, each interpolated between the four pixels around it; zero beyond the image.

    The point (u, v), both from -1 to 1 over the image, lies at column ``((u + 1) * W - 1) / 2`` and row
    ``((v + 1) * H - 1) / 2``, or with ``align_corners`` at ``(u + 1) * (W - 1) / 2`` and ``(v + 1) * (H - 1) / 2``.

    Parameters
    ----------
    x
        Shape (..., H, W, C), float32, float16 or bfloat16, in any memory layout; H and W up to 32768.
    grid
        Shape (..., H', W', 2), of any of these dtypes, with the leading axes of ``x``: u, then v.
    align_corners
        Whether -1 and 1 are the centres of the corner pixels, instead of the image's edges.

    Returns
    -------
    mx.array
        Shape (..., H', W', C), of ``x``'s dtype; computed in float32. Both gradients are kernels. That of ``x``
        gathers, from points that are sorted by where they lie: no atomics, so that runs repeat bit for bit.

    Raises
    ------
    TypeError
        An array is not an MLX array of one of these dtypes.
    ValueError
        ``x`` or ``grid`` has fewer than three dimensions, ``grid`` another shape, or an extent is beyond its bounds.

    Notes
    -----
    torch.nn.functional.grid_sample with ``mode="bilinear"`` and ``padding_mode="zeros"``, channels last; Jaderberg et
    al., Spatial Transformer Networks (arXiv:1506.02025), equations 5 to 7. A point that is NaN lies nowhere: it is
    zero. In float16 and bfloat16 a grid has few points: take a float32 one for large images.
    """
    function = "grid_sample"
    _check.check_dimensions(function, x, "x", 3, _IMAGE)
    _check.check_dimensions(function, grid, "grid", 3, "height, width and two coordinates at the end")
    leading = tuple(x.shape[:-3])
    if tuple(grid.shape[:-3]) != leading or grid.shape[-1] != 2:
        wanted = ", ".join(map(str, (*leading, "H'", "W'", 2)))
        raise ValueError(
            f"[{function}] Expected `grid` to have shape ({wanted}), a point for each pixel of the result, for `x` of "
            f"shape {tuple(x.shape)}, got {tuple(grid.shape)}."
        )
    shape = (*grid.shape[:-1], x.shape[-1])
    if x.size == 0 or grid.size == 0:
        return mx.zeros(shape, x.dtype)
    height, width = (
        _check_numbers.check_integer(function, x.shape[axis], f"x.shape[{axis}]", 1, MAX_EXTENT)
        for axis in (-3, -2)
    )
    points = grid.reshape(*leading, -1, 2)
    return sampler(height, width, bool(align_corners))(x, points).reshape(shape)


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
    rows, columns = _check_size(function, size)
    height, width = (
        _check_numbers.check_integer(function, n, f"x.shape[{axis}]", 0, MAX_EXTENT)
        for axis, n in ((-3, x.shape[-3]), (-2, x.shape[-2]))
    )
    if 0 in (height, width) and x.ndim and 0 not in x.shape[:-3] and x.shape[-1]:
        raise ValueError(f"[{function}] Expected `x` to have pixels, got shape {tuple(x.shape)}.")
    if x.size == 0:
        return mx.zeros((*x.shape[:-3], rows, columns, x.shape[-1]), x.dtype)
    return resizer(height, width, rows, columns, bool(align_corners))(x)


def _check_size(function: str, size: object) -> tuple[int, int]:
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"[{function}] Expected `size` to be (height, width), got {size!r}.")
    rows, columns = (_check_numbers.check_integer(function, n, "size", 1, MAX_EXTENT) for n in size)
    return rows, columns
