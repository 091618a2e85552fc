"""Short convolutions along rows of channels in Metal: `CONV`, its weights' gradient `WEIGHTS`, and one `STEP`.

All are of arrays (batch, time, channels) and weights (taps, channels), the channels next to each other in memory. A
thread has N channels and a few steps of time; the rows that taps share are found in the cache.
"""

from __future__ import annotations

#: Steps of time that a thread has, and the most taps.
STEPS = 4
MAX_TAPS = 8
#: Steps whose products one thread adds up for the weights' gradient.
RUN = 64

SILU = """
METAL_FUNC float zmlx_silu(float a) { return a / (1.0f + exp(-a)); }
METAL_FUNC float zmlx_silu_slope(float a) {
  const float s = 1.0f / (1.0f + exp(-a));
  return fma(a, s * (1.0f - s), s);
}
"""

# y[t] = bias + sum over k of weight[taps - 1 - k] * x[t - k]; with `ahead`, which is the gradient of x, x[t + k].
# SLOPE: the result is the gradient of what the activation is taken of, g times the activation's slope there.
CONV = f"""
  constexpr int STEPS = {STEPS};
  using chunk = zmlx_chunk<T, N, PACKED>;
  using weights = zmlx_chunk<U, N, PACKED>;
  using biases = zmlx_chunk<B, N, PACKED>;
  using results = zmlx_chunk<O, N, PACKED>;
  const uint batch = x_shape[0], time = x_shape[1], channels = x_shape[2], taps = weight_shape[0];
  const uint runs = (time + STEPS - 1) / STEPS;
  for (uint run = thread_position_in_grid.y; run < batch * runs; run += threads_per_grid.y) {{
    const uint entry = run / runs, begin = run % runs * STEPS;
    const size_t at = size_t(entry) * time * channels;
    for (uint s = 0; s < S; ++s) {{
      const uint i = (thread_position_in_grid.x * S + s) * N;
      if (i >= channels) break;
      const uint count = min(uint(N), channels - i);
      float total[STEPS * N], w[N], v[N];
      biases::load(w, bias + i, count, 0.0f);
      for (int t = 0; t < STEPS; ++t)
        for (int j = 0; j < N; ++j) total[t * N + j] = w[j];
      for (uint k = 0; k < taps; ++k) {{
        weights::load(w, weight + size_t(taps - 1 - k) * channels + i, count, 0.0f);
        for (int t = 0; t < STEPS; ++t) {{
          const uint now = begin + t, then = ahead ? now + k : now - k;  // below zero: beyond all
          if (then < time) {{
            chunk::load(v, x + at + size_t(then) * channels + i, count, 0.0f);
            for (int j = 0; j < N; ++j) total[t * N + j] = fma(w[j], v[j], total[t * N + j]);
          }}
        }}
      }}
      for (int t = 0; t < STEPS; ++t)
        if (begin + t < time) {{
          const size_t here = at + size_t(begin + t) * channels + i;
          for (int j = 0; j < N; ++j) v[j] = total[t * N + j];
          FINISH
          results::store(y + here, v, count);
        }}
    }}
  }}
"""

FORWARD = CONV.replace(
    "FINISH",
    """if (activated)
            for (int j = 0; j < N; ++j) v[j] = zmlx_silu(v[j]);""",
)
SLOPE = CONV.replace(
    "FINISH",
    """float c[N];
          chunk::load(c, g + here, count, 0.0f);
          for (int j = 0; j < N; ++j) v[j] = c[j] * zmlx_silu_slope(v[j]);""",
)

# A line of `partial` has the sums of one run of time: of each tap, and of the bias.
WEIGHTS = f"""
  constexpr int MOST = {MAX_TAPS};
  constexpr uint RUN = {RUN};
  using chunk = zmlx_chunk<T, N, PACKED>;
  using cotangents = zmlx_chunk<G, N, PACKED>;
  using sums = zmlx_chunk<float, N, PACKED>;
  const uint batch = x_shape[0], time = x_shape[1], channels = x_shape[2], taps = size;
  const uint runs = (time + RUN - 1) / RUN;
  for (uint run = thread_position_in_grid.y; run < batch * runs; run += threads_per_grid.y) {{
    const uint entry = run / runs, begin = run % runs * RUN, end = min(begin + RUN, time);
    const size_t at = size_t(entry) * time * channels;
    auto line = partial + size_t(run) * (taps + 1) * channels;
    for (uint s = 0; s < S; ++s) {{
      const uint i = (thread_position_in_grid.x * S + s) * N;
      if (i >= channels) break;
      const uint count = min(uint(N), channels - i);
      float total[(MOST + 1) * N], c[N], v[N];
      for (int j = 0; j < (MOST + 1) * N; ++j) total[j] = 0.0f;
      for (uint now = begin; now < end; ++now) {{
        cotangents::load(c, g + at + size_t(now) * channels + i, count, 0.0f);
        for (int k = 0; k < MOST; ++k)
          if (uint(k) < taps && uint(k) <= now) {{
            chunk::load(v, x + at + size_t(now - k) * channels + i, count, 0.0f);
            for (int j = 0; j < N; ++j) total[k * N + j] = fma(c[j], v[j], total[k * N + j]);
          }}
        for (int j = 0; j < N; ++j) total[MOST * N + j] += c[j];
      }}
      for (int k = 0; k < MOST; ++k)
        if (uint(k) < taps) sums::store(line + size_t(taps - 1 - k) * channels + i, total + k * N, count);
      sums::store(line + size_t(taps) * channels + i, total + MOST * N, count);
    }}
  }}
"""

# One new row after the taps - 1 rows of the state, which moves on by one.
STEP = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  using states = zmlx_chunk<V, N, PACKED>;
  using weights = zmlx_chunk<U, N, PACKED>;
  using biases = zmlx_chunk<B, N, PACKED>;
  const uint batch = x_shape[0], channels = x_shape[1], taps = weight_shape[0];
  for (uint entry = thread_position_in_grid.y; entry < batch; entry += threads_per_grid.y) {
    const size_t at = size_t(entry) * channels, kept = at * (taps - 1);
    for (uint s = 0; s < S; ++s) {
      const uint i = (thread_position_in_grid.x * S + s) * N;
      if (i >= channels) break;
      const uint count = min(uint(N), channels - i);
      float total[N], w[N], v[N];
      biases::load(total, bias + i, count, 0.0f);
      for (uint k = 0; k < taps; ++k) {
        if (k + 1 < taps)
          states::load(v, state + kept + size_t(k) * channels + i, count, 0.0f);
        else
          chunk::load(v, x + at + i, count, 0.0f);
        if (k > 0) states::store(next + kept + size_t(k - 1) * channels + i, v, count);
        weights::load(w, weight + size_t(k) * channels + i, count, 0.0f);
        for (int j = 0; j < N; ++j) total[j] = fma(w[j], v[j], total[j]);
      }
      if (activated)
        for (int j = 0; j < N; ++j) total[j] = zmlx_silu(total[j]);
      chunk::store(y + at + i, total, count);
    }
  }
"""
