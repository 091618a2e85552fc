"""Bilinear resizing, channels last, and its gradient, which gathers.

Where an output lies among the inputs is a ratio of integers, ``(a * output + b) / den`` but not below zero: its whole
part and its fraction are exact, however large the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import mlx.core as mx

from zmlx.kernels import _rows
from zmlx.kernels._autodiff import differentiable
from zmlx.kernels._depthwise import images
from zmlx.kernels._msl import CHUNKS
from zmlx.launch import metal_kernel

#: Products of two extents, and twice of them, stay within an int.
MAX_EXTENT = 2**15

HEADER = """
// Along one axis: the input before the output's place, the one after it, and the share of that.
struct zmlx_between {
  uint before, after;
  float share;
};
template <typename P>
METAL_FUNC zmlx_between zmlx_along(P plan, uint output, uint inputs) {
  const int ratio = max(plan[0] * int(output) + plan[1], 0), whole = ratio / plan[2];
  zmlx_between place;
  place.before = min(uint(whole), inputs - 1);
  place.after = min(place.before + 1, inputs - 1);
  place.share = float(ratio - whole * plan[2]) / float(plan[2]);
  return place;
}
// Of an input at `index`: the share that the output at this place has of it.
METAL_FUNC float zmlx_share(zmlx_between place, uint index) {
  return (place.before == index ? 1.0f - place.share : 0.0f) + (place.after == index ? place.share : 0.0f);
}
// The first output, and the one after the last, that may have a share of an input.
template <typename P>
METAL_FUNC uint zmlx_first(P plan, uint index) {
  if (index == 0 || plan[0] == 0) return 0;
  return uint(max((int(index) - 1) * plan[2] - plan[1], 0) / plan[0]);
}
template <typename P>
METAL_FUNC uint zmlx_last(P plan, uint index, uint inputs, uint outputs) {
  if (index + 1 >= inputs || plan[0] == 0) return outputs;
  return min(outputs, uint(max((int(index) + 1) * plan[2] - plan[1], 0) / plan[0]) + 1);
}
"""

_FORWARD = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  const uint height = x_shape[1], width = x_shape[2], channels = x_shape[3];
  const uint tall = plan[6], wide = plan[7], all = x_shape[0] * tall * wide;
  for (uint pixel = thread_position_in_grid.y; pixel < all; pixel += threads_per_grid.y) {
    const zmlx_between down = zmlx_along(plan, pixel / wide % tall, height);
    const zmlx_between across = zmlx_along(plan + 3, pixel % wide, width);
    auto image = x + size_t(pixel / wide / tall) * height * width * channels;
    auto above = image + size_t(down.before) * width * channels, below = image + size_t(down.after) * width * channels;
    const size_t left = size_t(across.before) * channels, right = size_t(across.after) * channels;
    for (uint s = 0; s < S; ++s) {
      const uint i = (thread_position_in_grid.x * S + s) * N;
      if (i >= channels) break;
      const uint count = min(uint(N), channels - i);
      float a[N], b[N], c[N], d[N];
      chunk::load(a, above + left + i, count, 0.0f);
      chunk::load(b, above + right + i, count, 0.0f);
      chunk::load(c, below + left + i, count, 0.0f);
      chunk::load(d, below + right + i, count, 0.0f);
      for (int j = 0; j < N; ++j) {
        const float top = a[j] * (1.0f - across.share) + b[j] * across.share;
        const float bottom = c[j] * (1.0f - across.share) + d[j] * across.share;
        a[j] = top * (1.0f - down.share) + bottom * down.share;
      }
      chunk::store(y + size_t(pixel) * channels + i, a, count);
    }
  }
"""

_BACKWARD = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  const uint tall = g_shape[1], wide = g_shape[2], channels = g_shape[3];
  const uint height = plan[6], width = plan[7], all = g_shape[0] * height * width;
  for (uint pixel = thread_position_in_grid.y; pixel < all; pixel += threads_per_grid.y) {
    const uint row = pixel / width % height, column = pixel % width;
    const uint first = zmlx_first(plan + 3, column), last = zmlx_last(plan + 3, column, width, wide);
    const uint top = zmlx_first(plan, row), bottom = zmlx_last(plan, row, height, tall);
    auto image = g + size_t(pixel / width / height) * tall * wide * channels;
    for (uint s = 0; s < S; ++s) {
      const uint i = (thread_position_in_grid.x * S + s) * N;
      if (i >= channels) break;
      const uint count = min(uint(N), channels - i);
      float total[N], v[N];
      for (int j = 0; j < N; ++j) total[j] = 0.0f;
      for (uint r = top; r < bottom; ++r) {
        const float down = zmlx_share(zmlx_along(plan, r, height), row);
        for (uint c = first; c < last; ++c) {
          const float share = down * zmlx_share(zmlx_along(plan + 3, c, width), column);
          if (share == 0.0f) continue;
          chunk::load(v, image + (size_t(r) * wide + c) * channels + i, count, 0.0f);
          for (int j = 0; j < N; ++j) total[j] = fma(share, v[j], total[j]);
        }
      }
      chunk::store(dx + size_t(pixel) * channels + i, total, count);
    }
  }
"""


def _plan(inputs: int, outputs: int, align_corners: bool) -> tuple[int, int, int]:
    """(a, b, den) of an axis."""
    if align_corners:
        return (inputs - 1, 0, outputs - 1) if outputs > 1 else (0, 0, 1)
    return 2 * inputs, inputs - outputs, 2 * outputs


def _weighted(x: mx.array, axis: int, plan: tuple[int, int, int], outputs: int) -> mx.array:
    """One axis resized in MLX operations."""
    a, b, den = plan
    ratios = [max(a * o + b, 0) for o in range(outputs)]
    before = [min(ratio // den, x.shape[axis] - 1) for ratio in ratios]
    after = [min(index + 1, x.shape[axis] - 1) for index in before]
    share = mx.array([ratio % den / den for ratio in ratios], mx.float32)
    share = share.reshape(-1, *[1] * (-axis - 1))
    first = mx.take(x, mx.array(before), axis=axis)
    return first * (1 - share) + mx.take(x, mx.array(after), axis=axis) * share


@lru_cache(maxsize=64)
def resizer(
    height: int, width: int, rows: int, columns: int, align_corners: bool
) -> Callable[[mx.array], mx.array]:
    """From (..., height, width, C) to (..., rows, columns, C)."""
    down, across = _plan(height, rows, align_corners), _plan(width, columns, align_corners)

    def reference(x: mx.array) -> mx.array:
        tall = _weighted(x.astype(mx.float32), -3, down, rows)
        return _weighted(tall, -2, across, columns).astype(x.dtype)

    def reference_vjp(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        g = inputs[0]
        none = mx.zeros((g.shape[0], height, width, g.shape[3]), g.dtype)
        return mx.vjp(reference, [none], [g])[1]

    forward_kernel = metal_kernel(
        "zmlx_resize_bilinear",
        ["x", "plan"],
        ["y"],
        _FORWARD,
        CHUNKS + HEADER,
        reference=lambda inputs, template: [reference(inputs[0])],
    )
    backward_kernel = metal_kernel(
        "zmlx_resize_bilinear_vjp", ["g", "plan"], ["dx"], _BACKWARD, CHUNKS + HEADER, reference=reference_vjp
    )

    def run(kernel: Any, x: mx.array, extents: tuple[int, int]) -> mx.array:
        batch = images(x)
        shape = (batch.shape[0], *extents, x.shape[-1])
        launch = _rows.span_launch(shape[0] * shape[1] * shape[2], shape[3], x.dtype.size)
        plan = mx.array([*down, *across, *extents], mx.int32)
        y = launch.run(kernel, [batch, plan], [(shape, x.dtype)], T=x.dtype)[0]
        return y.reshape(*x.shape[:-3], *shape[1:])

    def forward(x: mx.array) -> mx.array:
        return run(forward_kernel, x, (rows, columns))

    def backward(cotangent: mx.array, x: mx.array) -> tuple[mx.array]:
        return (run(backward_kernel, cotangent, (height, width)),)

    return differentiable(forward, backward, reference)
