"""A depthwise convolution of 3 x 3 taps, channels last, and its gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx

from zmlx.kernels import _rows
from zmlx.kernels._autodiff import Outputs, differentiable
from zmlx.kernels._columns import column_sum, in_first_line
from zmlx.kernels._conv import HELD
from zmlx.kernels._msl import CHUNKS
from zmlx.launch import metal_kernel

TAPS = 9
Piece = tuple[int, int, int]
#: Rows of a piece, pixels of each, and rows that are under way before they are needed, by the bytes of a value, forward
#: and backward: as many as registers have room for. On a GPU a thread has VALUES of a row: of more pixels it has fewer
#: channels. Each piece leaves a line of sums for the weights' gradient.
PIECES = {4: (16, 4, 0), 2: (16, 4, 1)}
VJP_PIECES = {4: (32, 4, 0), 2: (32, 4, 1)}
VALUES = 16

# A thread has N channels of the pixels of a piece, row by row, and reads a pixel more on either side. Rows and columns
# below zero are beyond all, being unsigned; `inside`: none but the first and the last column may be.
_PIECES = """
  constexpr int WIDE = PIXELS + 2;
  constexpr int EARLY = S == 1 ? AHEAD : 0;  // a CPU, where a thread has several chunks, reads ahead by itself
  using chunk = zmlx_chunk<T, N, PACKED>;
  using raw = zmlx_raw<T, N, PACKED>;
  using weights = zmlx_chunk<U, N, PACKED>;
  const uint height = x_shape[1], width = x_shape[2], channels = x_shape[3];
  const uint strips = (width + PIXELS - 1) / PIXELS, runs = (height + ROWS - 1) / ROWS;
  for (uint piece = thread_position_in_grid.y; piece < x_shape[0] * runs * strips; piece += threads_per_grid.y) {
    const uint left = piece % strips * PIXELS, run = piece / strips;
    const uint top = run % runs * ROWS, bottom = min(top + ROWS, height);
    const size_t line = size_t(run / runs) * height, pitch = size_t(width) * channels;
    for (uint s = 0; s < S; ++s) {
      const uint i = (thread_position_in_grid.x * S + s) * N;
      if (i >= channels) break;
      const uint count = min(uint(N), channels - i);
      const size_t at = line * pitch + i;
      float w[9 * N], c[N];
"""
_WHOLE = "count == N && (!PACKED || (channels % N == 0 && weights::aligned(weight) && chunk::aligned(x)"
_WEIGHTS = """
        for (int tap = 0; tap < 9; ++tap)
          weights::load(w + tap * N, weight + tap * size_t(channels) + i, count, 0.0f, sure);
"""


def _take(to: str, row: str) -> str:
    """Reads a row with a pixel more on either side; of rows beyond the image, which nobody uses, another one."""
    return f"""
          zmlx_take<T, N, WIDE, sure, PACKED>(
              {to}, from + ({row} < height ? {row} : 0) * pitch, left - 1, width, channels, count);
"""


# A row is read once: it gives to three rows of results, which wait in `v` until the last has given.
_CONV = f"""{_PIECES}
      float v[3 * PIXELS * N];
      auto from = x + at;
      auto to = y + at;
      const bool whole = {_WHOLE} && chunk::aligned(y)));
      ZMLX_EITHER(sure, whole, {{{_WEIGHTS}
        raw held[(1 + EARLY) * WIDE];
        for (int row = 0; row < EARLY; ++row) {{{_take("held + row * WIDE", "(top + row - 1)")}        }}
        for (int j = 0; j < 3 * PIXELS * N; ++j) v[j] = 0.0f;
        ZMLX_EITHER(inside, sure && left + PIXELS <= width, {{
          for (uint below = top; below < bottom + 2; ++below) {{
            const uint row = below - 1, next = row + EARLY;{_take("held + EARLY * WIDE", "next")}
            if (row < height) {{
              _Pragma("unroll") for (int column = 0; column < WIDE; ++column)
                if ((inside && 0 < column && column < WIDE - 1) || left + column - 1 < width) {{
                  for (int j = 0; j < N; ++j) c[j] = held[column].at(j);
                  _Pragma("unroll") for (int down = 0; down < 3; ++down)
                    _Pragma("unroll") for (int p = max(column - 2, 0); p <= min(column, PIXELS - 1); ++p)
                      for (int j = 0; j < N; ++j) {{
                        const int pixel = ((2 - down) * PIXELS + p) * N + j;
                        v[pixel] = fma(w[(down * 3 + column - p) * N + j], c[j], v[pixel]);
                      }}
                }}
            }}
            _Pragma("unroll") for (int p = 0; p < PIXELS; ++p)
              if (below >= top + 2 && (inside || left + p < width))
                chunk::store(to + (row - 1) * pitch + size_t(left + p) * channels, v + p * N, count, sure);
            _Pragma("unroll") for (int j = 0; j < 2 * PIXELS * N; ++j) v[j] = v[PIXELS * N + j];
            for (int j = 0; j < PIXELS * N; ++j) v[2 * PIXELS * N + j] = 0.0f;
            _Pragma("unroll") for (int k = 0; k < EARLY * WIDE; ++k) held[k] = held[WIDE + k];
          }}
        }})
      }})
    }}
  }}
"""

# What a pixel gave to its neighbours comes back from them, so that taps are the other way round; and the gradients of
# the weights are sums over the same pairs of pixels, so that x is read once. `held` are three rows of g.
_VJP = f"""
  using sums = zmlx_chunk<float, N, PACKED>;
{_PIECES}
      float total[9 * N], v[PIXELS * N];
      for (int j = 0; j < 9 * N; ++j) total[j] = 0.0f;
      auto from = g + at;
      auto own = x + at;
      auto to = dx + at;
      const bool whole = {_WHOLE} && chunk::aligned(g) && chunk::aligned(dx) && sums::aligned(partial)));
      ZMLX_EITHER(sure, whole, {{{_WEIGHTS}
        raw held[(3 + EARLY) * WIDE], near[(1 + EARLY) * PIXELS];
        for (int row = 0; row < 2 + EARLY; ++row) {{{_take("held + row * WIDE", "(top + row - 1)")}        }}
        for (int row = 0; row < EARLY; ++row)
          zmlx_take<T, N, PIXELS, sure, PACKED>(
              near + row * PIXELS, own + min(top + row, height - 1) * pitch, left, width, channels, count);
        ZMLX_EITHER(inside, sure && left + PIXELS <= width, {{
          _Pragma("unroll 2") for (uint row = top; row < bottom; ++row) {{
            const uint next = row + 1 + EARLY;{_take("held + (2 + EARLY) * WIDE", "next")}
            zmlx_take<T, N, PIXELS, sure, PACKED>(
                near + EARLY * PIXELS, own + min(row + EARLY, height - 1) * pitch, left, width, channels, count);
            for (int j = 0; j < PIXELS * N; ++j) v[j] = 0.0f;
            _Pragma("unroll") for (int down = 0; down < 3; ++down)
              if (row + down - 1 < height)
                _Pragma("unroll") for (int column = 0; column < WIDE; ++column)
                  if ((inside && 0 < column && column < WIDE - 1) || left + column - 1 < width) {{
                    for (int j = 0; j < N; ++j) c[j] = held[down * WIDE + column].at(j);
                    _Pragma("unroll") for (int p = max(column - 2, 0); p <= min(column, PIXELS - 1); ++p)
                      if (inside || p < column || left + p < width)
                        for (int j = 0; j < N; ++j) {{
                          const int tap = (8 - (down * 3 + column - p)) * N + j;
                          v[p * N + j] = fma(w[tap], c[j], v[p * N + j]);
                          total[tap] = fma(near[p].at(j), c[j], total[tap]);
                        }}
                  }}
            _Pragma("unroll") for (int p = 0; p < PIXELS; ++p)
              if (inside || left + p < width)
                chunk::store(to + row * pitch + size_t(left + p) * channels, v + p * N, count, sure);
            _Pragma("unroll") for (int k = 0; k < (2 + EARLY) * WIDE; ++k) held[k] = held[WIDE + k];
            _Pragma("unroll") for (int k = 0; k < EARLY * PIXELS; ++k) near[k] = near[PIXELS + k];
          }}
        }})
        for (int tap = 0; tap < 9; ++tap)
          sums::store(partial + (size_t(piece) * 9 + tap) * channels + i, total + tap * N, count, sure);
      }})
    }}
  }}
"""

_HEADER = CHUNKS + HELD


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


def _reference_forward(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    x, weight = inputs
    return [_reference(x, _as_filters(weight))]


def _reference_vjp(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    x, weight, g = (array.astype(mx.float32) for array in inputs)
    dx, total = mx.vjp(convolved, [x, _as_filters(weight)], [g])[1]
    lines = _pieces(x, VJP_PIECES[inputs[0].dtype.size])
    return [dx.astype(inputs[0].dtype), in_first_line(total.reshape(-1, TAPS).T.reshape(-1), lines)]


_KERNEL = metal_kernel(
    "zmlx_depthwise_conv_3x3", ["x", "weight"], ["y"], _CONV, _HEADER, reference=_reference_forward
)
_VJP_KERNEL = metal_kernel(
    "zmlx_depthwise_conv_3x3_vjp",
    ["x", "weight", "g"],
    ["dx", "partial"],
    _VJP,
    _HEADER,
    reference=_reference_vjp,
)


def _pieces(x: mx.array, piece: Piece) -> int:
    """Into how many pieces of so many rows and pixels the images are cut."""
    rows, pixels, _ = piece
    return x.shape[0] * -(-x.shape[1] // rows) * -(-x.shape[2] // pixels)


def images(x: mx.array) -> mx.array:
    """Leading axes as one: (batch, H, W, C)."""
    return x.reshape(-1, *x.shape[-3:])


def _filters(weight: mx.array) -> mx.array:
    """(9, C) of (C, 3, 3)."""
    return weight.reshape(-1, TAPS).T


def _launch(x: mx.array, weight: mx.array, piece: Piece) -> tuple[_rows.Launch, dict[str, Any]]:
    rows, pixels, ahead = piece
    launch = _rows.span_launch(_pieces(x, piece), x.shape[-1], _rows.PACK_BYTES * pixels // VALUES)
    return launch, {"T": x.dtype, "U": weight.dtype, "ROWS": rows, "PIXELS": pixels, "AHEAD": ahead}


def _forward(x: mx.array, weight: mx.array) -> mx.array:
    batch = images(x)
    launch, template = _launch(batch, weight, PIECES[x.dtype.size])
    (y,) = launch.run(_KERNEL, [batch, _filters(weight)], [(batch.shape, x.dtype)], **template)
    return y.reshape(x.shape)


def _backward(cotangent: mx.array, x: mx.array, weight: mx.array) -> Outputs:
    batch, channels, piece = images(x), x.shape[-1], VJP_PIECES[x.dtype.size]
    launch, template = _launch(batch, weight, piece)
    outputs = [(batch.shape, x.dtype), ((_pieces(batch, piece), TAPS * channels), mx.float32)]
    dx, partial = launch.run(_VJP_KERNEL, [batch, _filters(weight), images(cotangent)], outputs, **template)
    dweight = column_sum(partial).reshape(TAPS, channels).T.reshape(weight.shape)
    return dx.reshape(x.shape), dweight.astype(weight.dtype)


depthwise_conv: Callable[..., mx.array] = differentiable(_forward, _backward, _reference)
