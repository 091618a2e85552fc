"""GroupNorm in Metal: `FORWARD`, the gradient of x `BACKWARD`, and those of the weights `WEIGHTS`.

x is (batch, places, channels): a group is so many neighbouring channels of all places of one entry of the batch, and
W threads share it. Chunks lie within the run of a group's channels at one place; `q` counts them.
"""

from __future__ import annotations

#: Places whose products one thread adds up for the weights' gradients.
RUN = 64

# The mean is corrected as in LayerNorm: what is left after subtracting it tells what it lacks.
_GROUP = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  using gammas = zmlx_chunk<U, N, PACKED>;
  threadgroup float scratch[ZMLX_SCRATCH];
  zmlx_team<W> team{scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, 0};
  const uint places = x_shape[1], channels = x_shape[2], groups = count_groups;
  const uint run = channels / groups, chunks = (run + N - 1) / N, all = x_shape[0] * groups;
  const uint together = threads_per_threadgroup.x / W, place = thread_index_in_threadgroup % W;
  const float values = float(places) * float(run);
  for (uint first = threadgroup_position_in_grid.x * together; first < all;
       first += threadgroups_per_grid.x * together) {
    const uint mine = first + thread_index_in_threadgroup / W;
    const bool inside = mine < all;  // other threads take part in the reductions, with some group
    const uint group = inside ? mine : first;
    const uint channel = group % groups * run;
    const size_t at = size_t(group / groups) * places * channels + channel;
    float v[N], part[N], rest[N];
    zmlx_fill<N>(part, 0.0f);
    ZMLX_GROUP(x, 0.0f, { for (int j = 0; j < N; ++j) part[j] += v[j]; })
    const float mean = team.sum(zmlx_sum<N>(part)) / values;
BODY
  }
"""

HEADER = """
// Runs a body for the thread's chunks of a group: each has its first channel of the group, `c`, its `count` of values,
// where it is in memory, `i`, and its values, `v`, with a filling for those that are none.
#define ZMLX_GROUP(from, filling, ...)                                   \\
  {                                                                      \\
    uint s = place / chunks, c = place % chunks * N;                     \\
    const uint further = W / chunks, over = W % chunks * N;              \\
    while (s < places) {                                                 \\
      const size_t i = at + size_t(s) * channels + c;                    \\
      const uint count = min(uint(N), run - c);                          \\
      chunk::load(v, from + i, count, filling);                          \\
      __VA_ARGS__                                                        \\
      s += further;                                                      \\
      c += over;                                                         \\
      if (c >= chunks * N) {                                             \\
        c -= chunks * N;                                                 \\
        s += 1;                                                          \\
      }                                                                  \\
    }                                                                    \\
  }
"""

FORWARD = _GROUP.replace(
    "BODY",
    """
    using betas = zmlx_chunk<V, N, PACKED>;
    zmlx_fill<N>(part, 0.0f);
    zmlx_fill<N>(rest, 0.0f);
    ZMLX_GROUP(x, mean, {
      for (int j = 0; j < N; ++j) {
        const float centred = v[j] - mean;
        part[j] = fma(centred, centred, part[j]);
        rest[j] += centred;
      }
    })
    float moments[2] = {zmlx_sum<N>(rest), zmlx_sum<N>(part)};
    team.template sums<2>(moments);
    const float off = moments[0] / values;
    const float scale = rsqrt(max(moments[1] / values - off * off, 0.0f) + eps);
    if (!inside) continue;
    ZMLX_GROUP(x, mean, {
      float w[N], b[N];
      gammas::load(w, gamma + channel + c, count, 0.0f);
      betas::load(b, beta + channel + c, count, 0.0f);
      for (int j = 0; j < N; ++j) v[j] = fma((v[j] - mean - off) * scale, w[j], b[j]);
      chunk::store(y + i, v, count);
    })
""",
)

# With xhat = (x - mean) * scale:  dx = scale * (g * gamma - mean(g * gamma) - xhat * mean(g * gamma * xhat)).
# `stats` keeps the mean, what it lacks, and the scale of each group for the weights' gradients.
BACKWARD = _GROUP.replace(
    "BODY",
    """
    float d[N], w[N], weighted[N], plain[N];
    zmlx_fill<N>(part, 0.0f);
    zmlx_fill<N>(rest, 0.0f);
    zmlx_fill<N>(weighted, 0.0f);
    zmlx_fill<N>(plain, 0.0f);
    ZMLX_GROUP(x, mean, {
      chunk::load(d, g + i, count, 0.0f);
      gammas::load(w, gamma + channel + c, count, 0.0f);
      for (int j = 0; j < N; ++j) {
        const float centred = v[j] - mean, back = d[j] * w[j];
        part[j] = fma(centred, centred, part[j]);
        rest[j] += centred;
        plain[j] += back;
        weighted[j] = fma(back, centred, weighted[j]);
      }
    })
    float met[4] = {zmlx_sum<N>(part), zmlx_sum<N>(rest), zmlx_sum<N>(plain), zmlx_sum<N>(weighted)};
    team.template sums<4>(met);
    const float off = met[1] / values;
    const float scale = rsqrt(max(met[0] / values - off * off, 0.0f) + eps);
    const float shift = met[2] / values;
    const float back = scale * scale * (met[3] / values - off * shift);
    if (!inside) continue;
    if (place == 0) {
      stats[3 * size_t(group)] = mean;
      stats[3 * size_t(group) + 1] = off;
      stats[3 * size_t(group) + 2] = scale;
    }
    ZMLX_GROUP(x, mean, {
      chunk::load(d, g + i, count, 0.0f);
      gammas::load(w, gamma + channel + c, count, 0.0f);
      for (int j = 0; j < N; ++j) v[j] = scale * (d[j] * w[j] - shift - (v[j] - mean - off) * back);
      chunk::store(dx + i, v, count);
    })
""",
)

# A line of `partial` has the sums over one run of places: those of g * xhat, then those of g. A chunk may lie in
# several groups.
WEIGHTS = f"""
  constexpr uint RUN = {RUN};
  using chunk = zmlx_chunk<T, N, PACKED>;
  using sums = zmlx_chunk<float, N, PACKED>;
  const uint places = x_shape[1], channels = x_shape[2], groups = count_groups, width = channels / groups;
  const uint runs = (places + RUN - 1) / RUN, all = x_shape[0] * runs;
  for (uint run = thread_position_in_grid.y; run < all; run += threads_per_grid.y) {{
    const uint entry = run / runs, begin = run % runs * RUN, end = min(begin + RUN, places);
    auto line = partial + size_t(run) * 2 * channels;
    for (uint s = 0; s < S; ++s) {{
      const uint i = (thread_position_in_grid.x * S + s) * N;
      if (i >= channels) break;
      const uint count = min(uint(N), channels - i);
      float mean[N], off[N], scale[N], dgamma[N], dbeta[N], v[N], d[N];
      for (int j = 0; j < N; ++j) {{
        const size_t group = size_t(entry) * groups + min(i + j, channels - 1) / width;
        mean[j] = stats[3 * group];
        off[j] = stats[3 * group + 1];
        scale[j] = stats[3 * group + 2];
        dgamma[j] = 0.0f;
        dbeta[j] = 0.0f;
      }}
      for (uint place = begin; place < end; ++place) {{
        const size_t at = (size_t(entry) * places + place) * channels + i;
        chunk::load(v, x + at, count, 0.0f);
        chunk::load(d, g + at, count, 0.0f);
        for (int j = 0; j < N; ++j) {{
          dgamma[j] = fma(d[j], (v[j] - mean[j] - off[j]) * scale[j], dgamma[j]);
          dbeta[j] += d[j];
        }}
      }}
      sums::store(line + i, dgamma, count);
      sums::store(line + channels + i, dbeta, count);
    }}
  }}
"""
