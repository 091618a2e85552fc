"""The gradient of the products of all elements up to each: a scan from the other end.

Where the threads of a row hold all of it, one kernel reads it once. Longer rows take the products from a scan before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx

from zmlx.kernels import _rows
from zmlx.kernels._msl import CHUNKS, ROWS
from zmlx.kernels._row_loops import each_row
from zmlx.kernels._scan import RECURRENCE, SCAN, TURN, scan_of_rows
from zmlx.launch import metal_kernel

# y[i] is the product of x[0] to x[i]. Without a division, which a zero would forbid:
#   dx[k] = before[k] * s[k],  s[k] = g[k] + u[k + 1],  u[k] = x[k] * s[k]
# with the products `before` k. u is a linear recurrence, and scanned from the end.
_TILES = each_row(
    """
    constexpr bool REVERSE = true;
    using products = zmlx_chunk<float, N, PACKED>;
    auto cotangent = g + size_t(inside ? row : first) * length;
    auto ahead = before + size_t(inside ? row : first) * length;
"""
    + scan_of_rows(
        "float carry = 0.0f;",
        """
      zmlx_raw<T, N, PACKED> held[HELD], cotangents[HELD];
      zmlx_hold<T, N, HELD, W, PACKED>(held, in, begin, reach, sure, 1.0f);
      zmlx_hold<T, N, HELD, W, PACKED>(cotangents, cotangent, begin, reach, sure, 0.0f);
      zmlx_step v[HELD * N], upto[HELD];
      ZMLX_UNROLL for (int k = 0; k < HELD; ++k) {
        for (int j = 0; j < N; ++j) {
          const float c = cotangents[k].at(j), factor = held[k].at(j);
          v[k * N + j] = zmlx_step{factor, begin + k * (W * N) + j < length ? c * factor : 0.0f};
        }
        zmlx_scan_chunk<zmlx_step, N, REVERSE>(v + k * N);
        upto[ZMLX_TURN(k)] = v[k * N];
      }
      const zmlx_step tile = zmlx_scan_tile<zmlx_step, HELD, W>(upto, team);
      ZMLX_UNROLL for (int k = 0; k < HELD; ++k) {
        const uint i = begin + k * (W * N);
        if (inside && i < length) {
          const float beyond = zmlx_step::of(upto[ZMLX_TURN(k)], carry);
          float out[N];
          products::load(out, ahead + i, length - i, 0.0f, sure);
          for (int j = 0; j < N; ++j)
            out[j] *= cotangents[k].at(j) + (j + 1 < N ? zmlx_step::of(v[k * N + j + 1], beyond) : beyond);
          chunk::store(dx + size_t(row) * length + i, out, length - i, sure);
        }
      }
      carry = zmlx_step::of(tile, carry);
""",
    ),
    aligned="chunk::aligned(x) && chunk::aligned(g) && chunk::aligned(dx) && "
    "zmlx_chunk<float, N, PACKED>::aligned(before)",
)

# The first thread has the last chunk, so what is before a thread's is what threads behind it have.
_PRODUCTS = """
// Each of W threads brings what its K chunks are multiplied to, and gets the product of what is before each of them.
template <int K, int W, int GROUPS = (W > 32 ? W / 32 : 1)>
METAL_FUNC void zmlx_products_before(thread float* chunks, thread zmlx_team<W>& team) {
  constexpr ushort TOGETHER = W < 32 ? W : 32;
  const uint place = team.lane % TOGETHER;
  float whole[K];
  for (int k = 0; k < K; ++k) {
    float upto = chunks[k];
    for (ushort apart = 1; apart < TOGETHER; apart *= 2) {
      const float other = simd_shuffle_down(upto, apart);
      if (place + apart < TOGETHER) upto *= other;
    }
    const float other = simd_shuffle_down(upto, 1);
    chunks[k] = place + 1 < TOGETHER ? other : 1.0f;
    whole[k] = simd_shuffle(upto, team.lane - place);
  }
  if (W > 32) {
    threadgroup const float* met = team.template exchanged<K>(whole);
    for (int k = 0; k < K; ++k) {
      float upto = team.lane < GROUPS ? met[k * GROUPS + team.lane] : 1.0f;
      for (ushort apart = 1; apart < GROUPS; apart *= 2) {
        const float other = simd_shuffle_down(upto, apart);
        if (team.lane + apart < GROUPS) upto *= other;
      }
      const float before = simd_shuffle(upto, min(team.simdgroup + 1, uint(GROUPS - 1)));
      if (team.simdgroup + 1 < GROUPS) chunks[k] *= before;
      whole[k] = simd_shuffle(upto, 0);
    }
  }
  float run = 1.0f;
  for (int k = 0; k < K; ++k) {
    chunks[k] *= run;
    run *= whole[k];
  }
}
"""

_HELD = each_row(
    """
    constexpr bool REVERSE = true;
    constexpr int HELD = K > 0 ? K : 1;
    const uint begin = (W - 1) * N - start;
    zmlx_raw<T, N, PACKED> held[HELD], cotangents[HELD];
    zmlx_hold<T, N, HELD, W, PACKED>(held, in, begin, reach, full, 1.0f);
    zmlx_hold<T, N, HELD, W, PACKED>(cotangents, g + size_t(inside ? row : first) * length, begin, reach, full, 0.0f);
    zmlx_step v[HELD * N], upto[HELD];
    float before[HELD];
    ZMLX_UNROLL for (int k = 0; k < HELD; ++k) {
      before[k] = 1.0f;
      for (int j = 0; j < N; ++j) {
        const float c = cotangents[k].at(j), factor = held[k].at(j);
        v[k * N + j] = zmlx_step{factor, begin + k * (W * N) + j < length ? c * factor : 0.0f};
        before[k] *= factor;
      }
      zmlx_scan_chunk<zmlx_step, N, REVERSE>(v + k * N);
      upto[ZMLX_TURN(k)] = v[k * N];
    }
    zmlx_products_before<HELD, W>(before, team);
    zmlx_scan_tile<zmlx_step, HELD, W>(upto, team);
    ZMLX_UNROLL for (int k = 0; k < HELD; ++k) {
      const uint i = begin + k * (W * N);
      const float beyond = upto[ZMLX_TURN(k)].shift;
      float out[N];
      for (int j = 0; j < N; ++j) {
        out[j] = before[k] * (cotangents[k].at(j) + (j + 1 < N ? zmlx_step::of(v[k * N + j + 1], beyond) : beyond));
        before[k] *= held[k].at(j);
      }
      if (inside && i < length) chunk::store(dx + size_t(row) * length + i, out, length - i, full);
    }
""",
    aligned="chunk::aligned(x) && chunk::aligned(g) && chunk::aligned(dx)",
)


def product_reference(x: mx.array) -> mx.array:
    """Hillis and Steele's steps: mx.cumprod has no gradient."""
    y, apart = x.astype(mx.float32), 1
    while apart < x.shape[-1]:
        y = mx.concatenate([y[..., :apart], y[..., apart:] * y[..., :-apart]], axis=-1)
        apart *= 2
    return y.astype(x.dtype)


def _reference(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    x, g = inputs[:2]
    return mx.vjp(product_reference, [x], [g])[1]


_HEADER = CHUNKS + ROWS + SCAN + TURN + RECURRENCE
_TILES_KERNEL = metal_kernel(
    "zmlx_cumprod_vjp", ["x", "g", "before"], ["dx"], _TILES, _HEADER, reference=_reference
)
_HELD_KERNEL = metal_kernel(
    "zmlx_cumprod_held_vjp", ["x", "g"], ["dx"], _HELD, _HEADER + _PRODUCTS, reference=_reference
)


def product_gradient(x: mx.array, cotangent: mx.array, products_before: Callable[[], mx.array]) -> mx.array:
    """The gradient of x, of shape (..., length).

    ``products_before``: gives the product of what is before each element, in float32, where it is needed.
    """
    rows, cotangents = _rows.as_rows(x), _rows.as_rows(cotangent)
    count, length = rows.shape
    launch = _rows.row_launch(count, length, x.dtype.size, arrays=4)
    held = dict(launch.template)
    if held["W"] == 1 or held["K"] * held["W"] * held["N"] < length:
        return _rows.run_rows(_TILES_KERNEL, [x, cotangent, products_before()])
    dx = launch.run(_HELD_KERNEL, [rows, cotangents], [(rows.shape, x.dtype)], T=x.dtype)[0]
    return dx.reshape(x.shape)
