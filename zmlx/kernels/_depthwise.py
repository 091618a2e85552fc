"""A depthwise convolution of 3 x 3 taps, channels last, and its gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import mlx.core as mx

from zmlx.kernels import _rows
from zmlx.kernels._autodiff import Outputs, differentiable
from zmlx.kernels._columns import column_sum
from zmlx.kernels._msl import CHUNKS
from zmlx.launch import MetalKernel, metal_kernel

TAPS = 9
#: Pixels of a row that a thread has; rows whose products one thread adds up for the weights' gradient.
PIXELS = 4
ROWS = 8

# Rows and columns below zero are beyond all, being unsigned. `flipped`: the gradient of x.
_CONV = f"""
  constexpr int PIXELS = {PIXELS};
  using chunk = zmlx_chunk<T, N, PACKED>;
  using weights = zmlx_chunk<U, N, PACKED>;
  const uint height = x_shape[1], width = x_shape[2], channels = x_shape[3];
  const uint strips = (width + PIXELS - 1) / PIXELS, all = x_shape[0] * height * strips;
  for (uint run = thread_position_in_grid.y; run < all; run += threads_per_grid.y) {{
    const uint line = run / strips, begin = run % strips * PIXELS, row = line % height;
    for (uint s = 0; s < S; ++s) {{
      const uint i = (thread_position_in_grid.x * S + s) * N;
      if (i >= channels) break;
      const uint count = min(uint(N), channels - i);
      float total[PIXELS * N], w[N], v[N];
      for (int j = 0; j < PIXELS * N; ++j) total[j] = 0.0f;
      for (uint tap = 0; tap < 9; ++tap) {{
        const uint down = tap / 3, across = tap % 3;
        if (row + down - 1 >= height) continue;
        auto from = x + size_t(line + down - 1) * width * channels + i;
        weights::load(w, weight + (flipped ? 8 - tap : tap) * size_t(channels) + i, count, 0.0f);
        for (int p = 0; p < PIXELS; ++p) {{
          const uint column = begin + p + across - 1;
          if (column < width) {{
            chunk::load(v, from + size_t(column) * channels, count, 0.0f);
            for (int j = 0; j < N; ++j) total[p * N + j] = fma(w[j], v[j], total[p * N + j]);
          }}
        }}
      }}
      for (int p = 0; p < PIXELS; ++p)
        if (begin + p < width)
          chunk::store(y + (size_t(line) * width + begin + p) * channels + i, total + p * N, count);
    }}
  }}
"""

_WEIGHTS = f"""
  constexpr uint ROWS = {ROWS};
  using chunk = zmlx_chunk<T, N, PACKED>;
  using sums = zmlx_chunk<float, N, PACKED>;
  const uint height = x_shape[1], width = x_shape[2], channels = x_shape[3];
  const uint runs = (height + ROWS - 1) / ROWS, all = x_shape[0] * runs;
  for (uint run = thread_position_in_grid.y; run < all; run += threads_per_grid.y) {{
    const uint entry = run / runs, begin = run % runs * ROWS, end = min(begin + ROWS, height);
    for (uint s = 0; s < S; ++s) {{
      const uint i = (thread_position_in_grid.x * S + s) * N;
      if (i >= channels) break;
      const uint count = min(uint(N), channels - i);
      float total[9 * N], d[N], v[N];
      for (int j = 0; j < 9 * N; ++j) total[j] = 0.0f;
      for (uint row = begin; row < end; ++row)
        for (uint column = 0; column < width; ++column) {{
          const size_t line = size_t(entry) * height + row;
          chunk::load(d, g + (line * width + column) * channels + i, count, 0.0f);
          for (int tap = 0; tap < 9; ++tap) {{
            const uint down = row + tap / 3 - 1, across = column + tap % 3 - 1;
            if (down < height && across < width) {{
              const size_t there = size_t(entry) * height + down;
              chunk::load(v, x + (there * width + across) * channels + i, count, 0.0f);
              for (int j = 0; j < N; ++j) total[tap * N + j] = fma(d[j], v[j], total[tap * N + j]);
            }}
          }}
        }}
      for (int tap = 0; tap < 9; ++tap)
        sums::store(partial + (size_t(run) * 9 + tap) * channels + i, total + tap * N, count);
    }}
  }}
"""


def convolved(x: mx.array, weight: mx.array) -> mx.array:
    """The convolution of (..., H, W, C) with weights (C, 3, 3) in float32 MLX operations."""
    padded = _padded(x.astype(mx.float32))
    w = weight.astype(mx.float32)
    height, width = x.shape[-3:-1]
    total = mx.zeros(x.shape, mx.float32)
    for tap in range(TAPS):
        down, across = divmod(tap, 3)
        total = total + w[:, down, across] * padded[..., down : down + height, across : across + width, :]
    return total


def _padded(x: mx.array) -> mx.array:
    """With a border of zeros. MLX 0.30 has no vmap for mx.pad."""
    row = mx.zeros((*x.shape[:-3], 1, *x.shape[-2:]), x.dtype)
    tall = mx.concatenate([row, x, row], axis=-3)
    column = mx.zeros((*tall.shape[:-2], 1, x.shape[-1]), x.dtype)
    return mx.concatenate([column, tall, column], axis=-2)


def _reference(x: mx.array, weight: mx.array) -> mx.array:
    return convolved(x, weight).astype(x.dtype)


def _as_filters(weight: mx.array) -> mx.array:
    """(9, C), as the kernel has them, in the shape (C, 3, 3)."""
    return weight.T.reshape(-1, 3, 3)


# The kernel takes this choice as a number; its reference has to know it when it is traced.
@cache
def _kernel(flipped: bool) -> MetalKernel:
    def reference(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        x, weight, _ = inputs
        return [_reference(x, _as_filters(weight[::-1] if flipped else weight))]

    return metal_kernel(
        "zmlx_depthwise_conv_3x3", ["x", "weight", "flipped"], ["y"], _CONV, CHUNKS, reference=reference
    )


def _reference_weights(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    x, g = inputs
    none = mx.zeros((x.shape[-1], 3, 3), mx.float32)
    total = mx.vjp(lambda w: convolved(x, w), [none], [g.astype(mx.float32)])[1][0]
    first = total.reshape(-1, TAPS).T.reshape(1, -1)
    return [mx.concatenate([first, mx.zeros((_runs(x) - 1, first.shape[1]), mx.float32)])]


_WEIGHTS_KERNEL = metal_kernel(
    "zmlx_depthwise_conv_3x3_weights", ["x", "g"], ["partial"], _WEIGHTS, CHUNKS, reference=_reference_weights
)


def _runs(x: mx.array) -> int:
    """How many lines of partial sums there are."""
    return x.shape[0] * -(-x.shape[1] // ROWS)


def images(x: mx.array) -> mx.array:
    """Leading axes as one: (batch, H, W, C)."""
    return x.reshape(-1, *x.shape[-3:])


def _convolve(x: mx.array, weight: mx.array, flipped: bool) -> mx.array:
    batch, height, width, channels = x.shape
    launch = _rows.span_launch(batch * height * -(-width // PIXELS), channels, x.dtype.size)
    inputs: list[mx.array | float] = [x, weight.reshape(channels, TAPS).T, int(flipped)]
    return launch.run(_kernel(flipped), inputs, [(x.shape, x.dtype)], T=x.dtype, U=weight.dtype)[0]


def _forward(x: mx.array, weight: mx.array) -> mx.array:
    return _convolve(images(x), weight, False).reshape(x.shape)


def _backward(cotangent: mx.array, x: mx.array, weight: mx.array) -> Outputs:
    batch, g = images(x), images(cotangent)
    channels = x.shape[-1]
    launch = _rows.span_launch(_runs(batch), channels, x.dtype.size)
    outputs = [((_runs(batch), TAPS * channels), mx.float32)]
    partial = launch.run(_WEIGHTS_KERNEL, [batch, g], outputs, T=x.dtype)[0]
    dweight = column_sum(partial).reshape(TAPS, channels).T.reshape(weight.shape)
    return _convolve(g, weight, True).reshape(x.shape), dweight.astype(weight.dtype)


depthwise_conv: Callable[..., mx.array] = differentiable(_forward, _backward, _reference)
