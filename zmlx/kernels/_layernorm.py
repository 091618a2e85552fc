"""LayerNorm in Metal: `FORWARD`; `HELD_BACKWARD` for rows that registers hold, `BACKWARD` for rows of any length."""

from __future__ import annotations

from zmlx.kernels._row_loops import each_row, run_of_rows

# The rounded mean of a row far from zero is off by more than the row's small differences can bear. The mean
# of what is left after subtracting it, `off`, is what it lacks (Chan, Golub and LeVeque 1983, corrected
# two-pass algorithm).
FORWARD = each_row(
    """
    using gammas = zmlx_chunk<U, N, PACKED>;
    using betas = zmlx_chunk<V, N, PACKED>;
    const float added = eps;
    ZMLX_HOLD(held, in, start, full, 0.0f)

    float part[N], rest[N];
    zmlx_fill<N>(part, 0.0f);
    ZMLX_VALUES(0.0f, false, {
      for (int j = 0; j < N; ++j) part[j] += v[j];
    })
    const float mean = team.sum(zmlx_sum<N>(part)) / length;

    zmlx_fill<N>(part, 0.0f);
    zmlx_fill<N>(rest, 0.0f);
    ZMLX_VALUES(mean, !full, {
      for (int j = 0; j < N; ++j) {
        const float centred = v[j] - mean;
        part[j] = fma(centred, centred, part[j]);
        rest[j] += centred;
      }
    })
    float moments[2] = {zmlx_sum<N>(rest), zmlx_sum<N>(part)};
    team.template sums<2>(moments);
    const float off = moments[0] / length;
    const float scale = rsqrt(max(moments[1] / length - off * off, 0.0f) + added);

    if (!inside) continue;
    auto out = y + size_t(row) * length;
    ZMLX_RESULTS(mean, {
      float w[N], b[N];
      gammas::load(w, gamma + i, count, 0.0f, sure);
      betas::load(b, beta + i, count, 0.0f, sure);
      for (int j = 0; j < N; ++j) v[j] = fma((v[j] - mean - off) * scale, w[j], b[j]);
    })
""",
    aligned="chunk::aligned(x) && chunk::aligned(y) && zmlx_chunk<U, N, PACKED>::aligned(gamma) && "
    "zmlx_chunk<V, N, PACKED>::aligned(beta)",
)

# The gradient's kernel also adds up over rows. No atomics, so the order of the additions is fixed.
#
# With xhat = (x - mean) * scale:  dx     = scale * (g * gamma - mean(g * gamma) - xhat * mean(g * gamma * xhat))
#                                  dgamma = sum over rows of g * xhat
#                                  dbeta  = sum over rows of g
HELD_BACKWARD = run_of_rows(
    """
    float part[N];
    zmlx_fill<N>(part, 0.0f);
    ZMLX_UNROLL for (int k = 0; k < K; ++k)
      for (int j = 0; j < N; ++j) part[j] += held[k].at(j);
    const float mean = team.sum(zmlx_sum<N>(part)) / length;

    float rest[N], weighted[N], plain[N];
    zmlx_fill<N>(part, 0.0f);
    zmlx_fill<N>(rest, 0.0f);
    zmlx_fill<N>(weighted, 0.0f);
    zmlx_fill<N>(plain, 0.0f);
    ZMLX_UNROLL for (int k = 0; k < K; ++k)
      for (int j = 0; j < N; ++j) {
        const bool there = WHOLE || start + k * (W * N) + j < length;
        const float centred = there ? held[k].at(j) - mean : 0.0f;
        const float back = cotangent[k].at(j) * w[k].at(j);
        part[j] = fma(centred, centred, part[j]);
        rest[j] += centred;
        plain[j] += back;
        weighted[j] = fma(back, centred, weighted[j]);
      }
    float met[4] = {zmlx_sum<N>(part), zmlx_sum<N>(rest), zmlx_sum<N>(plain), zmlx_sum<N>(weighted)};
    team.template sums<4>(met);
    const float off = met[1] / length;
    const float scale = rsqrt(max(met[0] / length - off * off, 0.0f) + eps);
    const float shift = met[2] / length;
    const float back = scale * scale * (met[3] / length - off * shift);
    ZMLX_UNROLL for (int k = 0; k < K; ++k) {
      const uint i = start + k * (W * N);
      float d[N];
      for (int j = 0; j < N; ++j) {
        const float centred = held[k].at(j) - mean - off, c = cotangent[k].at(j);
        dgamma[k * N + j] = fma(c, centred * scale, dgamma[k * N + j]);
        dbeta[k * N + j] += c;
        d[j] = scale * (c * w[k].at(j) - shift - centred * back);
      }
      if (WHOLE || i < length) chunk::store(out + i, d, WHOLE ? N : length - i, full);
    }
""",
    totals=("dgamma", "dbeta"),
    weight="gamma",
)

# Of rows that are too long for registers, and where one thread has a row to itself, a threadgroup goes through its run
# in blocks: the gradients of x first, row by row; then it reads the block once more, by columns and from the cache, and
# adds its share of the weights' gradients to its line of `partial`.
BACKWARD = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  using weights = zmlx_chunk<U, N, PACKED>;
  using sums = zmlx_chunk<float, N, PACKED>;
  threadgroup float scratch[ZMLX_SCRATCH];
  threadgroup float means[BLOCK], offs[BLOCK], scales[BLOCK];
  zmlx_team<W> team{scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, 0};
  const uint rows = x_shape[0], length = x_shape[1];
  const uint start = thread_index_in_threadgroup * N;
  const uint run = (rows + threadgroups_per_grid.x - 1) / threadgroups_per_grid.x;
  const uint begin = threadgroup_position_in_grid.x * run, end = min(begin + run, rows);
  for (uint block = begin; block < end; block += BLOCK) {
    const uint count_rows = min(uint(BLOCK), end - block);
    float v[N], c[N], w[N], part[N], rest[N], weighted[N], plain[N];
    for (uint k = 0; k < count_rows; ++k) {
      auto in = x + size_t(block + k) * length;
      auto cotangent = g + size_t(block + k) * length;
      auto out = dx + size_t(block + k) * length;

      zmlx_fill<N>(part, 0.0f);
      ZMLX_CHUNKS(start, length, W * N, {
        chunk::load(v, in + i, count, 0.0f);
        for (int j = 0; j < N; ++j) part[j] += v[j];
      })
      const float mean = team.sum(zmlx_sum<N>(part)) / length;

      zmlx_fill<N>(part, 0.0f);
      zmlx_fill<N>(rest, 0.0f);
      zmlx_fill<N>(weighted, 0.0f);
      zmlx_fill<N>(plain, 0.0f);
      ZMLX_CHUNKS(start, length, W * N, {
        chunk::load(v, in + i, count, mean);
        chunk::load(c, cotangent + i, count, 0.0f);
        weights::load(w, gamma + i, count, 0.0f);
        for (int j = 0; j < N; ++j) {
          const float centred = v[j] - mean;
          part[j] = fma(centred, centred, part[j]);
          rest[j] += centred;
          plain[j] = fma(c[j], w[j], plain[j]);
          weighted[j] = fma(c[j] * w[j], centred, weighted[j]);
        }
      })
      const float off = team.sum(zmlx_sum<N>(rest)) / length;
      const float scale = rsqrt(max(team.sum(zmlx_sum<N>(part)) / length - off * off, 0.0f) + eps);
      const float shift = team.sum(zmlx_sum<N>(plain)) / length;
      const float back = scale * scale * (team.sum(zmlx_sum<N>(weighted)) / length - off * shift);
      if (start == 0) {
        means[k] = mean;
        offs[k] = off;
        scales[k] = scale;
      }

      ZMLX_CHUNKS(start, length, W * N, {
        chunk::load(v, in + i, count, mean);
        chunk::load(c, cotangent + i, count, 0.0f);
        weights::load(w, gamma + i, count, 0.0f);
        for (int j = 0; j < N; ++j) v[j] = scale * (c[j] * w[j] - shift - (v[j] - mean - off) * back);
        chunk::store(out + i, v, count);
      })
    }

    threadgroup_barrier(mem_flags::mem_threadgroup);  // what the block's rows left here is complete
    auto line = partial + size_t(threadgroup_position_in_grid.x) * 2 * length;
    ZMLX_CHUNKS(start, length, W * N, {
      zmlx_fill<N>(weighted, 0.0f);
      zmlx_fill<N>(plain, 0.0f);
      if (block > begin) {
        sums::load(weighted, line + i, count, 0.0f);
        sums::load(plain, line + length + i, count, 0.0f);
      }
      for (uint k = 0; k < count_rows; ++k) {
        chunk::load(v, x + size_t(block + k) * length + i, count, 0.0f);
        chunk::load(c, g + size_t(block + k) * length + i, count, 0.0f);
        for (int j = 0; j < N; ++j) {
          weighted[j] = fma(c[j], (v[j] - means[k] - offs[k]) * scales[k], weighted[j]);
          plain[j] += c[j];
        }
      }
      sums::store(line + i, weighted, count);
      sums::store(line + length + i, plain, count);
    })
    threadgroup_barrier(mem_flags::mem_threadgroup);  // all have read them
  }
"""
