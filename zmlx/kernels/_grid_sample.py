"""Bilinear sampling at given points, channels last, and its gradients.

The gradient of the image would be a scatter: points add to the four pixels around them. Here each pixel gathers. Points
are sorted by the cell, the square between four pixels, in which they lie; a pixel goes through the points of its four
cells. No atomics, so runs repeat bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import mlx.core as mx

from zmlx.kernels import _rows
from zmlx.kernels._autodiff import Outputs, differentiable
from zmlx.kernels._depthwise import images
from zmlx.kernels._msl import CHUNKS, ROWS
from zmlx.launch import metal_kernel

_HEADER = """
// Where a point lies: the pixel above and left of it, from -1 on, and how far it is from there. Not `inside`: no pixel
// is next to it, or it is NaN.
struct zmlx_point {
  int row, column;
  float down, across;
  bool inside;
};
template <typename P>
METAL_FUNC zmlx_point zmlx_locate(P at, uint height, uint width, bool corners) {
  const float h = float(height), w = float(width);
  const float x = static_cast<float>(at[0]), y = static_cast<float>(at[1]);
  const float column = fma(x, 0.5f * (corners ? w - 1.0f : w), 0.5f * (w - 1.0f));
  const float row = fma(y, 0.5f * (corners ? h - 1.0f : h), 0.5f * (h - 1.0f));
  zmlx_point point;
  point.inside = column > -1.0f && column < w && row > -1.0f && row < h;
  point.column = point.inside ? int(floor(column)) : 0;
  point.row = point.inside ? int(floor(row)) : 0;
  point.across = point.inside ? column - floor(column) : 0.0f;
  point.down = point.inside ? row - floor(row) : 0.0f;
  return point;
}

// A chunk of the pixel that is so far below and right of a point's; zeros beyond the image.
template <typename T, int N, bool PACKED, typename P>
METAL_FUNC void zmlx_pixel(
    thread float* v, P image, zmlx_point point, int below, int right, uint height, uint width, uint channels, uint i,
    uint count) {
  const int row = point.row + below, column = point.column + right;
  const bool there = point.inside && row >= 0 && row < int(height) && column >= 0 && column < int(width);
  const size_t pixel = there ? size_t(row) * width + column : 0;
  zmlx_chunk<T, N, PACKED>::load(v, image + pixel * channels + i, there ? count : 0, 0.0f);
}
"""

_POINTS = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  const uint height = x_shape[1], width = x_shape[2], channels = x_shape[3], points = grid_shape[1];
  const uint all = grid_shape[0] * points;
"""

_FORWARD = f"""{_POINTS}
  for (uint p = thread_position_in_grid.y; p < all; p += threads_per_grid.y) {{
    const zmlx_point point = zmlx_locate(grid + size_t(p) * 2, height, width, corners);
    auto image = x + size_t(p / points) * height * width * channels;
    for (uint s = 0; s < S; ++s) {{
      const uint i = (thread_position_in_grid.x * S + s) * N;
      if (i >= channels) break;
      const uint count = min(uint(N), channels - i);
      float total[N], v[N];
      for (int j = 0; j < N; ++j) total[j] = 0.0f;
      for (int near = 0; near < 4; ++near) {{
        const int below = near / 2, right = near % 2;
        const float share =
            (below ? point.down : 1.0f - point.down) * (right ? point.across : 1.0f - point.across);
        zmlx_pixel<T, N, PACKED>(v, image, point, below, right, height, width, channels, i, count);
        for (int j = 0; j < N; ++j) total[j] = fma(share, v[j], total[j]);
      }}
      chunk::store(y + size_t(p) * channels + i, total, count);
    }}
  }}
"""

# The gradient of a point: how its value changes as it moves down and across, W threads together.
_POINTS_VJP = f"""{_POINTS}
  threadgroup float scratch[ZMLX_SCRATCH];
  zmlx_team<W> team{{scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, 0}};
  const uint together = threads_per_threadgroup.x / W, start = thread_index_in_threadgroup % W * N;
  for (uint first = threadgroup_position_in_grid.x * together; first < all;
       first += threadgroups_per_grid.x * together) {{
    const uint mine = first + thread_index_in_threadgroup / W;
    const bool in_range = mine < all;  // other threads take part in the reductions, with some point
    const uint p = in_range ? mine : first;
    const zmlx_point point = zmlx_locate(grid + size_t(p) * 2, height, width, corners);
    auto image = x + size_t(p / points) * height * width * channels;
    float slopes[2] = {{0.0f, 0.0f}};
    for (uint i = start; i < channels; i += W * N) {{
      const uint count = min(uint(N), channels - i);
      float a[N], b[N], c[N], d[N], cotangent[N], across[N], down[N];
      zmlx_pixel<T, N, PACKED>(a, image, point, 0, 0, height, width, channels, i, count);
      zmlx_pixel<T, N, PACKED>(b, image, point, 0, 1, height, width, channels, i, count);
      zmlx_pixel<T, N, PACKED>(c, image, point, 1, 0, height, width, channels, i, count);
      zmlx_pixel<T, N, PACKED>(d, image, point, 1, 1, height, width, channels, i, count);
      chunk::load(cotangent, g + size_t(p) * channels + i, count, 0.0f);
      for (int j = 0; j < N; ++j) {{
        across[j] = cotangent[j] * ((b[j] - a[j]) * (1.0f - point.down) + (d[j] - c[j]) * point.down);
        down[j] = cotangent[j] * ((c[j] - a[j]) * (1.0f - point.across) + (d[j] - b[j]) * point.across);
      }}
      slopes[0] += zmlx_sum<N>(across);
      slopes[1] += zmlx_sum<N>(down);
    }}
    team.template sums<2>(slopes);
    if (in_range && start == 0) {{
      dgrid[size_t(p) * 2] = static_cast<U>(slopes[0] * 0.5f * (corners ? float(width) - 1.0f : float(width)));
      dgrid[size_t(p) * 2 + 1] = static_cast<U>(slopes[1] * 0.5f * (corners ? float(height) - 1.0f : float(height)));
    }}
  }}
"""

# Cells of an image are counted from the one above and left of its first pixel; its last number is for points outside.
_CELLS = """
  const uint p = thread_position_in_grid.x, points = grid_shape[1];
  const zmlx_point point = zmlx_locate(grid + size_t(p) * 2, height, width, corners);
  const uint cells = (height + 1) * (width + 1);
  const uint cell = point.inside ? uint(point.row + 1) * (width + 1) + uint(point.column + 1) : cells;
  y[p] = p / points * (cells + 1) + cell;
"""

# Of sorted points: where those of each cell begin. A thread fills in the cells from that of the point before it, which
# it leaves out, up to its own; the thread after the last point those that are left.
_STARTS = """
  const uint p = thread_position_in_grid.x, all = sorted_shape[0];
  const uint from = p > 0 ? sorted[p - 1] + 1 : 0;
  const uint upto = p < all ? sorted[p] + 1 : count;
  for (uint cell = from; cell < upto; ++cell) starts[cell] = p;
"""

_IMAGE_VJP = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  const uint channels = g_shape[1], cells = (height + 1) * (width + 1);
  const uint all = images * height * width;
  for (uint pixel = thread_position_in_grid.y; pixel < all; pixel += threads_per_grid.y) {
    const uint column = pixel % width, row = pixel / width % height, image = pixel / width / height;
    for (uint s = 0; s < S; ++s) {
      const uint i = (thread_position_in_grid.x * S + s) * N;
      if (i >= channels) break;
      const uint count = min(uint(N), channels - i);
      float total[N], v[N];
      for (int j = 0; j < N; ++j) total[j] = 0.0f;
      for (uint near = 0; near < 4; ++near) {
        const uint below = near / 2, right = near % 2;  // of this pixel from the points
        const uint cell = image * (cells + 1) + (row + 1 - below) * (width + 1) + (column + 1 - right);
        for (uint q = starts[cell]; q < starts[cell + 1]; ++q) {
          const uint p = order[q];
          const zmlx_point point = zmlx_locate(grid + size_t(p) * 2, height, width, corners);
          const float share =
              (below ? point.down : 1.0f - point.down) * (right ? point.across : 1.0f - point.across);
          chunk::load(v, g + size_t(p) * channels + i, count, 0.0f);
          for (int j = 0; j < N; ++j) total[j] = fma(share, v[j], total[j]);
        }
      }
      chunk::store(dx + size_t(pixel) * channels + i, total, count);
    }
  }
"""


def _place(grid: mx.array, extent: int, corners: bool) -> mx.array:
    return grid.astype(mx.float32) * ((extent - 1 if corners else extent) / 2) + (extent - 1) / 2


def _located(grid: mx.array, height: int, width: int, corners: bool) -> tuple[mx.array, ...]:
    """Row, column (from -1 on), distances down and across, and which points are inside."""
    column, row = _place(grid[..., 0], width, corners), _place(grid[..., 1], height, corners)
    inside = (column > -1) & (column < width) & (row > -1) & (row < height)
    column, row = mx.where(inside, column, 0.0), mx.where(inside, row, 0.0)
    left, top = mx.floor(mx.stop_gradient(column)), mx.floor(mx.stop_gradient(row))
    return top.astype(mx.int32), left.astype(mx.int32), row - top, column - left, inside


def sampled(x: mx.array, grid: mx.array, corners: bool) -> mx.array:
    """x (..., H, W, C) at grid (..., P, 2), in MLX operations."""
    height, width, channels = x.shape[-3:]
    top, left, down, across, inside = _located(grid, height, width, corners)
    pixels = x.astype(mx.float32).reshape(*x.shape[:-3], height * width, channels)
    total = mx.zeros((*grid.shape[:-1], channels), mx.float32)
    for below in (0, 1):
        for right in (0, 1):
            row, column = top + below, left + right
            there = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = mx.stop_gradient(mx.where(there, row * width + column, 0))[..., None]
            share = (down if below else 1 - down) * (across if right else 1 - across)
            value = mx.take_along_axis(pixels, mx.broadcast_to(index, (*index.shape[:-1], channels)), axis=-2)
            total = total + mx.where(there[..., None], share[..., None] * value, 0.0)
    return total.astype(x.dtype)


@lru_cache(maxsize=64)
def sampler(height: int, width: int, corners: bool) -> Callable[[mx.array, mx.array], mx.array]:
    """A function of x (..., height, width, C) and grid (..., P, 2)."""
    cells = (height + 1) * (width + 1)
    numbers = [height, width, int(corners)]

    def reference(x: mx.array, grid: mx.array) -> mx.array:
        return sampled(x, grid, corners)

    def reference_points(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        x, grid, g, _ = inputs
        cotangent = g.reshape(*grid.shape[:-1], x.shape[-1])
        return [mx.vjp(lambda grid: reference(x, grid), [grid], [cotangent])[1][0]]

    def reference_cells(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        grid = inputs[0]
        top, left, _, _, inside = _located(grid, height, width, corners)
        cell = mx.where(inside, (top + 1) * (width + 1) + left + 1, cells)
        return [(mx.arange(grid.shape[0])[:, None] * (cells + 1) + cell).reshape(-1).astype(mx.uint32)]

    def reference_starts(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        # The reference of the image's gradient, which alone takes them, goes another way.
        return [mx.zeros(_starts_shape(inputs[2]), mx.uint32)]

    def reference_image(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        g, grid = inputs[:2]
        batch = grid.shape[0]
        none = mx.zeros((batch, height, width, g.shape[1]), g.dtype)
        cotangent = g.reshape(batch, -1, g.shape[1])
        return [mx.vjp(lambda x: reference(x, grid), [none], [cotangent])[1][0]]

    def _starts_shape(like: mx.array) -> tuple[int]:
        return (like.shape[0] * (cells + 1) + 1,)

    header = CHUNKS + ROWS + _HEADER
    forward_kernel = metal_kernel(
        "zmlx_grid_sample",
        ["x", "grid", "corners"],
        ["y"],
        _FORWARD,
        header,
        reference=lambda inputs, template: [reference(*inputs[:2])],
    )
    points_kernel = metal_kernel(
        "zmlx_grid_sample_points_vjp",
        ["x", "grid", "g", "corners"],
        ["dgrid"],
        _POINTS_VJP,
        header,
        reference=reference_points,
    )
    cells_kernel = metal_kernel(
        "zmlx_grid_sample_cells",
        ["grid", "height", "width", "corners"],
        ["y"],
        _CELLS,
        header,
        reference=reference_cells,
    )
    starts_kernel = metal_kernel(
        "zmlx_grid_sample_starts",
        ["sorted", "count", "grid"],
        ["starts"],
        _STARTS,
        reference=reference_starts,
    )
    image_kernel = metal_kernel(
        "zmlx_grid_sample_vjp",
        ["g", "grid", "order", "starts", "images", "height", "width", "corners"],
        ["dx"],
        _IMAGE_VJP,
        header,
        reference=reference_image,
    )

    def split(x: mx.array, grid: mx.array) -> tuple[mx.array, mx.array]:
        return images(x), grid.reshape(-1, *grid.shape[-2:])

    def forward(x: mx.array, grid: mx.array) -> mx.array:
        batch, points = split(x, grid)
        shape = (*points.shape[:2], x.shape[-1])
        launch = _rows.span_launch(shape[0] * shape[1], shape[2], x.dtype.size)
        types = {"T": x.dtype, "U": grid.dtype}
        y = launch.run(forward_kernel, [batch, points, int(corners)], [(shape, x.dtype)], **types)[0]
        return y.reshape(*grid.shape[:-1], shape[2])

    def per_point(count: int) -> _rows.Launch:
        return _rows.Launch((), (count, 1, 1), (min(count, _rows.SPAN_THREADS), 1, 1))

    def backward(cotangent: mx.array, x: mx.array, grid: mx.array) -> Outputs:
        batch, points = split(x, grid)
        channels, count = x.shape[-1], points.shape[0] * points.shape[1]
        g = cotangent.reshape(count, channels)
        cell = per_point(count).run(cells_kernel, [points, *numbers], [((count,), mx.uint32)])[0]
        order = mx.argsort(cell)
        total = batch.shape[0] * (cells + 1) + 1
        starts = per_point(count + 1).run(
            starts_kernel, [cell[order], total, points], [((total,), mx.uint32)]
        )[0]
        launch = _rows.span_launch(batch.shape[0] * height * width, channels, x.dtype.size)
        inputs: list[mx.array | float] = [g, points, order, starts, batch.shape[0], *numbers]
        dx = launch.run(image_kernel, inputs, [(batch.shape, x.dtype)], T=x.dtype)[0]
        launch = _rows.simd_launch(count, channels, x.dtype.size)
        inputs = [batch, points, g, int(corners)]
        outputs = [(points.shape, grid.dtype)]
        dgrid = launch.run(points_kernel, inputs, outputs, T=x.dtype, U=grid.dtype)[0]
        return dx.reshape(x.shape), dgrid.reshape(grid.shape)

    return differentiable(forward, backward, reference, row_arguments=2)
