"""What is done to logits before a token is drawn, and the drawing, in Metal."""

from __future__ import annotations

from zmlx.kernels._row_loops import each_row

# `found`: the largest rank of which the values from there on measure up to `target`, or 0. Two bits a pass. Of values
# of 16 bits the last 13 of float32 are equal, or more, and their ranks say no more than the bits before.
THRESHOLD = """
#define ZMLX_THRESHOLD(found, target, measure)                                    \\
  for (int shift = 30; shift >= (sizeof(T) == 4 ? 0 : 12); shift -= 2) {          \\
    float one[N], two[N], three[N];                                               \\
    zmlx_fill<N>(one, 0.0f);                                                      \\
    zmlx_fill<N>(two, 0.0f);                                                      \\
    zmlx_fill<N>(three, 0.0f);                                                    \\
    ZMLX_VALUES(-INFINITY, false, {                                               \\
      const uint begin = kept ? start + k * (W * N) : i;                          \\
      for (int j = 0; j < N; ++j) {                                               \\
        const uint rank = begin + j < reach ? zmlx_rank(v[j]) : 0u;               \\
        const float share = measure;                                              \\
        one[j] += rank >= found + (1u << shift) ? share : 0.0f;                   \\
        two[j] += rank >= found + (2u << shift) ? share : 0.0f;                   \\
        three[j] += rank >= found + (3u << shift) ? share : 0.0f;                 \\
      }                                                                           \\
    })                                                                            \\
    float shares[3] = {zmlx_sum<N>(one), zmlx_sum<N>(two), zmlx_sum<N>(three)};   \\
    team.template sums<3>(shares);                                                \\
    const uint steps = shares[2] >= target ? 3 : shares[1] >= target ? 2 : shares[0] >= target ? 1 : 0; \\
    found += steps << shift;                                                      \\
  }
"""

FILTER = each_row(
    """
    ZMLX_HOLD(held, in, start, full, -INFINITY)
    float part[N];
    zmlx_fill<N>(part, -INFINITY);
    ZMLX_VALUES(-INFINITY, false, {
      for (int j = 0; j < N; ++j) part[j] = v[j] > part[j] ? v[j] : part[j];
    })
    const float top = team.largest(zmlx_largest<N>(part));

    uint least = 0;
    if (top_k > 0 && uint(top_k) < length) {
      uint found = 0;
      ZMLX_THRESHOLD(found, float(top_k), 1.0f)
      least = found;
    }
    if (top_p < 1.0f) {
      zmlx_fill<N>(part, 0.0f);
      ZMLX_VALUES(-INFINITY, false, {
        for (int j = 0; j < N; ++j) part[j] += zmlx_rank(v[j]) >= least ? exp(v[j] - top) : 0.0f;
      })
      const float target = top_p * team.sum(zmlx_sum<N>(part));
      uint found = 0;
      ZMLX_THRESHOLD(found, target, rank >= least ? exp(v[j] - top) : 0.0f)
      least = found > least ? found : least;
    }
    if (!inside) continue;
    auto out = y + size_t(row) * length;
    ZMLX_RESULTS(-INFINITY, {
      for (int j = 0; j < N; ++j) {
        const bool stays = zmlx_rank(v[j]) >= least && !(min_p > 0.0f && exp(v[j] - top) < min_p);
        v[j] = stays ? v[j] : -INFINITY;
      }
    })
""",
    aligned="chunk::aligned(x) && chunk::aligned(y)",
)

# The largest of logits / temperature + Gumbel noise. Four neighbours share a counter, which has their place and row.
DRAW = each_row(
    """
    ZMLX_HOLD(held, in, start, full, -INFINITY)
    zmlx_pick best[N];
    for (int j = 0; j < N; ++j) best[j].rank = 0u, best[j].place = 0xffffffffu;
    ZMLX_VALUES(-INFINITY, false, {
      const uint begin = kept ? start + k * (W * N) : i;
      for (int four = 0; four < N; four += 4) {
        const uint4 counter = uint4((begin + four) / 4, row, stream[2], stream[3]);
        const uint4 words = zmlx_philox(counter, uint2(stream[0], stream[1]));
        for (int j = four; j < four + 4; ++j) {
          const uint at = begin + j;
          const uint rank = zmlx_rank(v[j] / temperature - log(-log(zmlx_uniform(words[j % 4]))));
          const bool better = at < reach && rank > best[j].rank;
          best[j].rank = better ? rank : best[j].rank;
          best[j].place = better ? at : best[j].place;
        }
      }
    })
    for (int j = 1; j < N; ++j) best[0] = zmlx_better(best[0], best[j]);
    const zmlx_pick drawn = zmlx_best<W>(team, best[0]);
    if (inside && start == 0) y[row] = drawn.place;
""",
    aligned="chunk::aligned(x)",
)

_SPAN = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  const uint rows = x_shape[0], length = x_shape[1];
  const uint begin = thread_position_in_grid.x * (N * S);
  const uint end = min(begin + N * S, length);
  const bool whole = PACKED && length % N == 0 && chunk::aligned(x) && chunk::aligned(OTHER) && chunk::aligned(y);
  for (uint row = thread_position_in_grid.y; row < rows; row += threads_per_grid.y) {
    auto in = x + size_t(row) * length;
    auto out = y + size_t(row) * length;
    float v[N];
"""

# One row of words for all rows, or one for each. A chunk has a part of a word, or whole ones.
_MASKED = """
    auto words = mask + (mask_shape[0] == 1 ? 0 : size_t(row) * mask_shape[1]);
    const uint last = mask_shape[1] - 1;
    BEFORE
    ZMLX_SPAN(begin, end, whole, {
      chunk::load(v, in + i, count, 0.0f, sure);
      LOAD
      for (uint part = 0; part < N; part += 32) {
        const uint word = uint(words[min((i + part) / 32, last)]) >> (i % 32);
        for (uint bit = 0; bit < min(uint(N), 32u); ++bit) {
          const uint j = part + bit;
          const bool allowed = ((word >> bit) & 1u) != 0u;
          v[j] = KEPT;
        }
      }
      chunk::store(out + i, v, count, sure);
    })
  }
"""

_COTANGENT = """auto cotangent = g + size_t(row) * length;
    float c[N];"""
_LOAD_COTANGENT = "chunk::load(c, cotangent + i, count, 0.0f, sure);"

BITMASK = _SPAN.replace("OTHER", "x") + _MASKED.replace("BEFORE", "").replace("LOAD", "").replace(
    "KEPT", "allowed ? v[j] : -INFINITY"
)

# What was taken out has no gradient, nor what was minus infinity before.
BITMASK_BACKWARD = _SPAN.replace("OTHER", "g") + _MASKED.replace("BEFORE", _COTANGENT).replace(
    "LOAD", _LOAD_COTANGENT
).replace("KEPT", "allowed && v[j] != -INFINITY ? c[j] : 0.0f")

# The same where the result is known: x.
MASK_BACKWARD = (
    _SPAN.replace("OTHER", "g")
    + f"""
    {_COTANGENT}
    ZMLX_SPAN(begin, end, whole, {{
      chunk::load(v, in + i, count, 0.0f, sure);
      {_LOAD_COTANGENT}
      for (int j = 0; j < N; ++j) v[j] = v[j] == -INFINITY ? 0.0f : c[j];
      chunk::store(out + i, v, count, sure);
    }})
  }}
"""
)
