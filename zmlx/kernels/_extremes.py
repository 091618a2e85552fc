"""Where the greatest element of a row is, or the least: a function that MLX can transform, and its kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx

from zmlx.kernels import _rows
from zmlx.kernels._autodiff import differentiable, value_reference
from zmlx.kernels._msl import CHUNKS, ROWS
from zmlx.kernels._ranking import RANKING
from zmlx.kernels._row_loops import each_row
from zmlx.launch import metal_kernel

_HEADER = """
// Keeps the best values. NaN is among them where a thread is alone, as vectors can keep it. Threads of a team keep in
// mind that there was one: a single comparison tells of two values.
template <int N, int W, bool LEAST>
METAL_FUNC void zmlx_keep_best(thread float* best, thread bool& strange, const thread float* v) {
  for (int j = 0; j < N; ++j) {
    const float value = LEAST ? -v[j] : v[j];
    best[j] = value > best[j] || (W == 1 && value != value) ? value : best[j];
  }
  if (W > 1)
    for (int j = 0; j < N / 2; ++j) strange |= isunordered(v[j], v[j + N / 2]);
}

// The least of what the threads of a team bring.
template <int W>
METAL_FUNC uint zmlx_least(thread zmlx_team<W>& team, uint value) {
  if (W == 1) return value;
  if (W < 32)
    for (ushort apart = W / 2; apart > 0; apart /= 2) value = min(value, simd_shuffle_xor(value, apart));
  else
    value = simd_min(value);
  if (W <= 32) return value;
  const float bits = as_type<float>(value);
  threadgroup const float* met = team.template exchanged<1>(&bits);
  for (int s = 0; s < W / 32; ++s) value = min(value, as_type<uint>(met[s]));
  return value;
}
"""

# Only threads that have seen the best value look for its place.
_BODY = each_row(
    """
    constexpr uint RUN = K > 0 ? K : 16;
    constexpr float WORST = LEAST ? INFINITY : -INFINITY;
    float best[N], v[N];
    bool strange = false;
    zmlx_fill<N>(best, -INFINITY);
    for (uint run = start; run < length; run += RUN * W * N) {
      if (K > 0) {
        ZMLX_HOLD(held, in, run, full && run - start + K * W * N <= length, WORST)
        ZMLX_UNROLL for (int k = 0; k < K; ++k) {
          for (int j = 0; j < N; ++j) v[j] = held[k].at(j);
          zmlx_keep_best<N, W, LEAST>(best, strange, v);
        }
      } else {
        const uint end = min(run + RUN * W * N, length);
        ZMLX_CHUNKS(run, end, W * N, {
          chunk::load(v, in + i, count, WORST);
          zmlx_keep_best<N, W, LEAST>(best, strange, v);
        })
      }
    }
    const float mine = strange ? NAN : zmlx_greatest<N>(best);
    const uint rank = ~zmlx_rank(mine);
    uint place = 0xffffffffu;
    if (zmlx_least<W>(team, rank) == rank) {
      const float wanted = LEAST ? -mine : mine;
      uint places[N];
      for (int j = 0; j < N; ++j) places[j] = 0xffffffffu;
      ZMLX_CHUNKS(start, length, W * N, {
        chunk::load(v, in + i, count, WORST);
        for (int j = 0; j < N; ++j) {
          const bool hit = v[j] == wanted || v[j] != v[j];
          places[j] = hit && i + j < places[j] ? i + j : places[j];
        }
      })
      for (int j = 0; j < N; ++j) place = min(place, places[j]);
    }
    place = zmlx_least<W>(team, place);
    if (inside && start == 0) y[row] = place;
""",
    aligned="chunk::aligned(x)",
)


def place_of(name: str, extreme: Callable[..., mx.array]) -> Callable[[mx.array], mx.array]:
    """``f(x)``, the place in the last axis of what ``extreme``, `mx.max` or `mx.min`, finds there, as uint32.

    The first of those that are equal; NaN counts as the greatest, and as the least.
    """

    def reference(x: mx.array) -> mx.array:
        x32 = x.astype(mx.float32)
        hit = (x32 == extreme(x32, axis=-1, keepdims=True)) | mx.isnan(x32)
        places = mx.arange(x.shape[-1], dtype=mx.uint32)
        return mx.min(mx.where(hit, places, mx.array(0xFFFFFFFF, mx.uint32)), axis=-1)

    kernel = metal_kernel(
        f"zmlx_{name}",
        ["x"],
        ["y"],
        _BODY,
        CHUNKS + ROWS + RANKING + _HEADER,
        reference=value_reference(reference),
    )

    def forward(x: mx.array) -> mx.array:
        rows = _rows.as_rows(x)
        count, length = rows.shape
        launch = _rows.row_launch(count, length, x.dtype.size)
        outputs: Sequence[tuple[Sequence[int], mx.Dtype]] = [((count,), mx.uint32)]
        places = launch.run(kernel, [rows], outputs, T=x.dtype, LEAST=extreme is mx.min)[0]
        return places.reshape(x.shape[:-1])

    def backward(cotangent: mx.array, x: mx.array) -> tuple[mx.array]:
        return (mx.zeros_like(x),)

    return differentiable(forward, backward, reference)
