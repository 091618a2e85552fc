"""RMSNorm in Metal: `FORWARD`; `HELD_BACKWARD` for rows that registers hold, `BACKWARD` for rows of any length."""

from __future__ import annotations

from zmlx.kernels._row_loops import each_row, run_of_rows

FORWARD = each_row(
    """
    using weights = zmlx_chunk<U, N, PACKED>;
    const float added = eps;  // read here: behind the meeting it would be waited for
    ZMLX_HOLD(held, in, start, full, 0.0f)

    float part[N];
    zmlx_fill<N>(part, 0.0f);
    ZMLX_VALUES(0.0f, false, {
      for (int j = 0; j < N; ++j) part[j] = fma(v[j], v[j], part[j]);
    })
    const float scale = rsqrt(team.sum(zmlx_sum<N>(part)) / length + added);

    if (!inside) continue;
    auto out = y + size_t(row) * length;
    ZMLX_RESULTS(0.0f, {
      float w[N];
      weights::load(w, weight + i, count, 0.0f, sure);
      for (int j = 0; j < N; ++j) v[j] = v[j] * scale * w[j];
    })
""",
    aligned="chunk::aligned(x) && chunk::aligned(y) && zmlx_chunk<U, N, PACKED>::aligned(weight)",
)

# The gradient's kernel also adds up over rows. No atomics, so the order of the additions is fixed.
#
# With xhat = x * scale:  dx      = scale * (g * weight - xhat * mean(g * weight * xhat))
#                         dweight = sum over rows of g * xhat
HELD_BACKWARD = run_of_rows(
    """
    float part[N], weighted[N];
    zmlx_fill<N>(part, 0.0f);
    zmlx_fill<N>(weighted, 0.0f);
    ZMLX_UNROLL for (int k = 0; k < K; ++k)
      for (int j = 0; j < N; ++j) {
        const float v = held[k].at(j);
        part[j] = fma(v, v, part[j]);
        weighted[j] = fma(cotangent[k].at(j) * w[k].at(j), v, weighted[j]);
      }
    float met[2] = {zmlx_sum<N>(part), zmlx_sum<N>(weighted)};
    team.template sums<2>(met);
    const float scale = rsqrt(met[0] / length + eps);
    const float back = scale * scale * (met[1] / length);
    ZMLX_UNROLL for (int k = 0; k < K; ++k) {
      const uint i = start + k * (W * N);
      float d[N];
      for (int j = 0; j < N; ++j) {
        const float v = held[k].at(j), c = cotangent[k].at(j);
        total[k * N + j] = fma(c, v * scale, total[k * N + j]);
        d[j] = scale * (c * w[k].at(j) - v * back);
      }
      if (WHOLE || i < length) chunk::store(out + i, d, WHOLE ? N : length - i, full);
    }
""",
    totals=("total",),
    weight="weight",
)

# Of rows that are too long for registers, and where one thread has a row to itself, a threadgroup goes through its run
# in blocks: the gradients of x first, row by row; then it reads the block once more, by columns and from the cache, and
# adds its share of the weights' gradients to its line of `partial`.
BACKWARD = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  using weights = zmlx_chunk<U, N, PACKED>;
  using sums = zmlx_chunk<float, N, PACKED>;
  threadgroup float scratch[ZMLX_SCRATCH];
  threadgroup float scales[BLOCK];
  zmlx_team<W> team{scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, 0};
  const uint rows = x_shape[0], length = x_shape[1];
  const uint start = thread_index_in_threadgroup * N;
  const uint run = (rows + threadgroups_per_grid.x - 1) / threadgroups_per_grid.x;
  const uint begin = threadgroup_position_in_grid.x * run, end = min(begin + run, rows);
  for (uint block = begin; block < end; block += BLOCK) {
    const uint count_rows = min(uint(BLOCK), end - block);
    float v[N], c[N], w[N], part[N], weighted[N];
    for (uint k = 0; k < count_rows; ++k) {
      auto in = x + size_t(block + k) * length;
      auto cotangent = g + size_t(block + k) * length;
      auto out = dx + size_t(block + k) * length;

      zmlx_fill<N>(part, 0.0f);
      zmlx_fill<N>(weighted, 0.0f);
      ZMLX_CHUNKS(start, length, W * N, {
        chunk::load(v, in + i, count, 0.0f);
        chunk::load(c, cotangent + i, count, 0.0f);
        weights::load(w, weight + i, count, 0.0f);
        for (int j = 0; j < N; ++j) {
          part[j] = fma(v[j], v[j], part[j]);
          weighted[j] = fma(c[j] * w[j], v[j], weighted[j]);
        }
      })
      const float scale = rsqrt(team.sum(zmlx_sum<N>(part)) / length + eps);
      const float back = scale * scale * (team.sum(zmlx_sum<N>(weighted)) / length);
      if (start == 0) scales[k] = scale;

      ZMLX_CHUNKS(start, length, W * N, {
        chunk::load(v, in + i, count, 0.0f);
        chunk::load(c, cotangent + i, count, 0.0f);
        weights::load(w, weight + i, count, 0.0f);
        for (int j = 0; j < N; ++j) v[j] = scale * (c[j] * w[j] - v[j] * back);
        chunk::store(out + i, v, count);
      })
    }

    threadgroup_barrier(mem_flags::mem_threadgroup);  // all of the block's `scales` are there
    auto line = partial + size_t(threadgroup_position_in_grid.x) * length;
    ZMLX_CHUNKS(start, length, W * N, {
      zmlx_fill<N>(part, 0.0f);
      if (block > begin) sums::load(part, line + i, count, 0.0f);
      for (uint k = 0; k < count_rows; ++k) {
        chunk::load(v, x + size_t(block + k) * length + i, count, 0.0f);
        chunk::load(c, g + size_t(block + k) * length + i, count, 0.0f);
        for (int j = 0; j < N; ++j) part[j] = fma(c[j], v[j] * scales[k], part[j]);
      }
      sums::store(line + i, part, count);
    })
    threadgroup_barrier(mem_flags::mem_threadgroup);  // all have read them
  }
"""
