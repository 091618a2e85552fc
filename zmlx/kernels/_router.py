"""The routers of mixtures of experts in Metal."""

from __future__ import annotations

from zmlx.kernels._row_loops import each_row

# The largest logits have the largest probabilities. Whoever writes a pick reads it again for its weight.
SOFTMAX_FORWARD = each_row(
    """
    ZMLX_HOLD(held, in, start, full, -INFINITY)
    const uint picks = k_picks, mine = start / N;
    auto weights = y + size_t(inside ? row : first) * picks;
    auto chosen = places + size_t(inside ? row : first) * picks;
    ZMLX_FIRST(last, own, v[j], true)
    float top = 0.0f, total = 0.0f;
    for (uint r = 0; r < picks; ++r) {
      ZMLX_NEXT(last, own, v[j], true)
      const float picked = static_cast<float>(in[inside ? last.place : 0u]);
      top = r == 0 ? picked : top;
      total += exp(picked - top);
      if (inside && mine == r % W) chosen[r] = last.place;
    }
    if (renormalize == 0) {
      float part[N];
      zmlx_fill<N>(part, 0.0f);
      ZMLX_VALUES(-INFINITY, false, {
        for (int j = 0; j < N; ++j) part[j] += exp(v[j] - top);
      })
      total = team.sum(zmlx_sum<N>(part));
    }
    if (!inside) continue;
    for (uint r = mine; r < picks; r += W)
      weights[r] = static_cast<T>(exp(static_cast<float>(in[chosen[r]]) - top) / total);
""",
    aligned="chunk::aligned(x)",
)

# With p = exp(x - top) / total, and m the sum of g * p over what was picked:
#   picked: dx = p * (g - m)      others: dx = -p * m, or 0 where `total` is that of the picked ones
SOFTMAX_BACKWARD = each_row(
    """
    ZMLX_HOLD(held, in, start, full, -INFINITY)
    const uint picks = places_shape[1];
    auto chosen = places + size_t(inside ? row : first) * picks;
    auto cotangent = g + size_t(inside ? row : first) * picks;
    const float top = static_cast<float>(in[chosen[0]]);
    float total = 0.0f, weighted = 0.0f;
    for (uint r = 0; r < picks; ++r) {
      const float e = exp(static_cast<float>(in[chosen[r]]) - top);
      total += e;
      weighted = fma(e, static_cast<float>(cotangent[r]), weighted);
    }
    if (renormalize == 0) {
      float part[N];
      zmlx_fill<N>(part, 0.0f);
      ZMLX_VALUES(-INFINITY, false, {
        for (int j = 0; j < N; ++j) part[j] += exp(v[j] - top);
      })
      total = team.sum(zmlx_sum<N>(part));
    }
    const float mean = weighted / total;
    if (!inside) continue;
    auto out = dx + size_t(row) * length;
    ZMLX_RESULTS(-INFINITY, {
      float p[N];
      const uint begin = kept ? start + k * (W * N) : i;
      for (int j = 0; j < N; ++j) {
        p[j] = exp(v[j] - top) / total;
        v[j] = renormalize == 0 ? -p[j] * mean : 0.0f;
      }
      for (uint r = 0; r < picks; ++r) {
        const uint place = chosen[r] - begin;
        if (place < N)
          for (int j = 0; j < N; ++j)
            v[j] = uint(j) == place ? p[j] * (static_cast<float>(cotangent[r]) - mean) : v[j];
      }
    })
""",
    aligned="chunk::aligned(x) && chunk::aligned(dx)",
)

SCORES = """
METAL_FUNC float zmlx_score(float x) { return 1.0f / (1.0f + exp(-x)); }

// By what an expert is chosen: its score and its bias.
template <typename P, typename B>
METAL_FUNC float zmlx_preference(P in, B bias, uint place) {
  return zmlx_score(static_cast<float>(in[place])) + static_cast<float>(bias[place]);
}
// The same of a value that is there already.
#define ZMLX_PREFERENCE (at < length ? zmlx_score(v[j]) + static_cast<float>(bias[at]) : 0.0f)
"""

# A group's number is its two best preferences added up. `open` has a bit for each group that may be chosen from.
SIGMOID_FORWARD = each_row(
    """
    ZMLX_HOLD(held, in, start, full, 0.0f)
    const uint picks = k_picks, mine = start / N, all = groups, size = length / all;
    auto weights = y + size_t(inside ? row : first) * picks;
    auto chosen = places + size_t(inside ? row : first) * picks;
    uint open = 0xffffffffu;
    if (uint(best_groups) < all) {
      uint ranks[ZMLX_MOST_GROUPS];
      for (uint group = 0; group < all; ++group) {
        const uint low = group * size, high = low + size;
        ZMLX_FIRST(last, own, ZMLX_PREFERENCE, at >= low && at < high)
        float sum = 0.0f;
        for (int r = 0; r < 2; ++r) {
          ZMLX_NEXT(last, own, ZMLX_PREFERENCE, at >= low && at < high)
          sum += zmlx_preference(in, bias, inside ? last.place : 0u);
        }
        ranks[group] = zmlx_rank(sum);
      }
      open = 0;
      for (int n = 0; n < best_groups; ++n) {
        zmlx_pick best = {0u, 0u};
        for (uint group = 0; group < all; ++group)
          if (((open >> group) & 1u) == 0u && ranks[group] > best.rank) {
            best.rank = ranks[group];
            best.place = group;
          }
        open |= 1u << best.place;
      }
    }
    ZMLX_FIRST(last, own, ZMLX_PREFERENCE, ((open >> (at / size)) & 1u) != 0u)
    float total = 0.0f;
    for (uint r = 0; r < picks; ++r) {
      ZMLX_NEXT(last, own, ZMLX_PREFERENCE, ((open >> (at / size)) & 1u) != 0u)
      total += zmlx_score(static_cast<float>(in[inside ? last.place : 0u]));
      if (inside && mine == r % W) chosen[r] = last.place;
    }
    if (!inside) continue;
    const float scale = renormalize == 0 ? scaling : scaling / (total + 1e-20f);
    for (uint r = mine; r < picks; r += W)
      weights[r] = static_cast<T>(zmlx_score(static_cast<float>(in[chosen[r]])) * scale);
""",
    aligned="chunk::aligned(x)",
)

# With s the scores of what was picked, t their sum and c = scaling / t, or scaling:
#   ds = c * (g - sum(g * s) / t), or c * g      dx = ds * s * (1 - s), and 0 for the others
SIGMOID_BACKWARD = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  const uint rows = x_shape[0], length = x_shape[1], picks = places_shape[1];
  const uint begin = thread_position_in_grid.x * (N * S);
  const uint end = min(begin + N * S, length);
  const bool whole = PACKED && length % N == 0 && chunk::aligned(dx);
  for (uint row = thread_position_in_grid.y; row < rows; row += threads_per_grid.y) {
    auto in = x + size_t(row) * length;
    auto cotangent = g + size_t(row) * picks;
    auto chosen = places + size_t(row) * picks;
    auto out = dx + size_t(row) * length;
    float total = 1e-20f, weighted = 0.0f;
    for (uint r = 0; r < picks; ++r) {
      const float s = zmlx_score(static_cast<float>(in[chosen[r]]));
      total += s;
      weighted = fma(s, static_cast<float>(cotangent[r]), weighted);
    }
    const float scale = renormalize == 0 ? scaling : scaling / total;
    const float mean = renormalize == 0 ? 0.0f : weighted / total;
    float v[N];
    ZMLX_SPAN(begin, end, whole, {
      for (int j = 0; j < N; ++j) v[j] = 0.0f;
      for (uint r = 0; r < picks; ++r) {
        const uint place = chosen[r] - i;
        if (place < count) {
          const float s = zmlx_score(static_cast<float>(in[chosen[r]]));
          const float d = scale * (static_cast<float>(cotangent[r]) - mean) * s * (1.0f - s);
          for (int j = 0; j < N; ++j) v[j] = uint(j) == place ? d : v[j];
        }
      }
      chunk::store(out + i, v, count, sure);
    })
  }
"""
