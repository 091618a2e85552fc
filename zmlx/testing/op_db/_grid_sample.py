"""The entry of grid_sample, which `vision` lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx.testing.op_db._shared import (
    CANCELLING,
    ITEMSIZE,
    SPECIAL,
    Float64Array,
    as_on_a_gpu,
    kernel,
    ones,
    quiet,
    values,
)
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleInput, SampleRng

_Corner = tuple[tuple[NDArray[Any], ...], Float64Array, Float64Array, Float64Array]


def _corners(x: Float64Array, grid: Float64Array, align: bool) -> Iterator[_Corner]:
    """For each of the four pixels around a point: where it is in x, its share of the point, and how that share changes
    as the point moves to the right and down, in units of the grid. Zero beyond the image."""
    height, width = x.shape[-3:-1]
    with quiet():
        if align:
            column, row = (grid[..., 0] + 1) * (width - 1) / 2, (grid[..., 1] + 1) * (height - 1) / 2
            unit = (width - 1) / 2, (height - 1) / 2
        else:
            column, row = ((grid[..., 0] + 1) * width - 1) / 2, ((grid[..., 1] + 1) * height - 1) / 2
            unit = width / 2, height / 2
        near = (column > -1) & (column < width) & (row > -1) & (row < height)
    column, row = np.where(near, column, 0.0), np.where(near, row, 0.0)
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    leading = np.indices(grid.shape[:-1])[: x.ndim - 3]
    for i in (0, 1):
        for j in (0, 1):
            r, c = top + i, left + j
            there = near & (r >= 0) & (r < height) & (c >= 0) & (c < width)
            # Tent functions: 1 - distance.
            down, across = 1 - np.abs(row - r), 1 - np.abs(column - c)
            where = (*leading, np.where(there, r, 0), np.where(there, c, 0))
            moved_right, moved_down = (2 * j - 1) * unit[0] * down, (2 * i - 1) * unit[1] * across
            share = np.where(there, down * across, 0.0)
            yield where, share, np.where(there, moved_right, 0.0), np.where(there, moved_down, 0.0)


def _sampled(x: Float64Array, grid: Float64Array, align_corners: bool = False) -> Float64Array:
    y = np.zeros((*grid.shape[:-1], x.shape[-1]))
    if x.size:
        for where, share, _, _ in _corners(x, grid, align_corners):
            y += share[..., None] * x[where]
    return y


def _sampled_vjp(
    x: Float64Array, grid: Float64Array, cotangent: Float64Array, align_corners: bool = False
) -> tuple[Float64Array, Float64Array]:
    dx, dgrid = np.zeros_like(x), np.zeros_like(grid)
    if x.size:
        for where, share, right, down in _corners(x, grid, align_corners):
            np.add.at(dx, where, share[..., None] * cotangent)
            along = np.sum(cotangent * x[where], axis=-1)
            dgrid[..., 0] += right * along
            dgrid[..., 1] += down * along
    return dx, dgrid


_ALIGNED = {"align_corners": True}


def _samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    def sample(name: str, image: tuple[int, ...], points: tuple[int, ...], **kwargs: bool) -> SampleInput:
        numbers = rng(name)
        grid = numbers.uniform((*image[:-3], *points, 2), -1.2, 1.2)  # some of them beyond the image
        return SampleInput(name, (numbers.normal(image), grid), kwargs)

    yield sample("small", (3, 4, 5, 6), (7, 1))
    yield sample("small_aligned", (3, 4, 5, 6), (7, 1), **_ALIGNED)
    yield sample("single", (1, 1, 1), (1, 1))
    yield sample("one_pixel_aligned", (1, 1, 3), (4, 5), **_ALIGNED)
    yield sample("odd", (3, 1, 7, 5, 9), (4, 11))
    yield sample("crowded", (3, 4, 1), (10, 31))
    yield sample("many_channels", (4, 3, 130), (5, 3), **_ALIGNED)
    special = sample("special", (4, 5, 3), (10, 3))
    special.args[1][:, 0, 0] = SPECIAL
    special.args[1][:, 1, 1] = SPECIAL
    special.args[1][:4, 2] = (-1, -1), (-1, 1), (1, -1), (1, 1)
    yield special
    yield sample("no_images", (0, 4, 5, 3), (6, 7))
    yield sample("no_points", (4, 5, 3), (0, 7))
    yield sample("no_channels", (4, 5, 0), (6, 7))


def _call(x: tuple[int, ...], grid: tuple[int, ...], dtype: str = "float32") -> Callable[[], tuple[Any, ...]]:
    return lambda: (ones(*x, dtype=dtype), ones(*grid))


_SHAPE = (
    "[grid_sample] Expected `grid` to have shape (2, H', W', 2), a point for each pixel of the result, for `x` of "
    "shape (2, 4, 5, 8), got {}."
)


def _moved(sample: SampleInput, dtype: str) -> int:
    """Image and points are read, a pixel for each point is written."""
    x, grid = sample.args
    return (values(sample) + int(grid.size) // 2 * int(x.shape[-1])) * ITEMSIZE[dtype]


GRID_SAMPLE = OpInfo(
    name="vision.grid_sample",
    op=kernel("vision", "grid_sample"),
    kernels=("zmlx_grid_sample",),
    grad_kernels=(
        "zmlx_grid_sample_vjp",
        "zmlx_grid_sample_points_vjp",
        "zmlx_grid_sample_cells",
        "zmlx_grid_sample_starts",
    ),
    gpu_shape=as_on_a_gpu,
    oracle=_sampled,
    oracle_vjp=_sampled_vjp,
    differentiable=(0, 1),
    samples=_samples,
    extents=(1, 60),
    axis_extents={(1, -1): (2, 2)},
    source="torch.nn.functional.grid_sample with mode='bilinear' and padding_mode='zeros', channels last; Jaderberg et "
    "al. 2015, Spatial Transformer Networks (arXiv:1506.02025), equations 5 to 7",
    tolerances=CANCELLING,
    grad_tolerances=CANCELLING,
    golden_samples=("small", "small_aligned", "single", "special"),
    error_inputs=(
        ErrorInput(
            "integer",
            _call((4, 5, 8), (3, 3, 2), dtype="int32"),
            TypeError,
            "[grid_sample] Expected `x` to be float32, float16 or bfloat16, got int32. "
            "Convert it first: x.astype(mx.float32).",
        ),
        ErrorInput(
            "flat_image",
            _call((5, 8), (3, 3, 2)),
            ValueError,
            "[grid_sample] Expected `x` to have at least 3 dimensions, height, width and channels at the end, got "
            "shape (5, 8).",
        ),
        ErrorInput(
            "flat_grid",
            _call((4, 5, 8), (3, 2)),
            ValueError,
            "[grid_sample] Expected `grid` to have at least 3 dimensions, height, width and two coordinates at the "
            "end, got shape (3, 2).",
        ),
        ErrorInput(
            "three_coordinates",
            _call((2, 4, 5, 8), (2, 3, 3, 3)),
            ValueError,
            _SHAPE.format("(2, 3, 3, 3)"),
        ),
        ErrorInput(
            "other_batch", _call((2, 4, 5, 8), (3, 3, 3, 2)), ValueError, _SHAPE.format("(3, 3, 3, 2)")
        ),
    ),
    bytes_moved=_moved,
    flops=lambda sample, dtype: 8 * int(sample.args[1].size) // 2 * int(sample.args[0].shape[-1]),
)
