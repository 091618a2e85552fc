"""Short convolutions along rows of channels in Metal: `FORWARD`, its gradients `VJP`, and one `STEP`.

All are of arrays (batch, time, channels) and weights (TAPS, channels), the channels next to each other in memory. A
thread has N channels of a run of time. It reads STEPS rows at once, all under way before the first is used, and keeps
the TAPS - 1 rows that the next steps share in registers.
"""

from __future__ import annotations

from zmlx.kernels._msl import CHUNKS, MATHS

#: The most taps.
MAX_TAPS = 8
#: Steps of time that a thread reads at once and has in all, a multiple of the former.
STEPS = 8
RUN = 32
#: The same of gradients. Each run leaves a line of sums for the weights' gradient.
VJP_STEPS = 4
VJP_RUN = 128
#: Entries of a batch, at most, to which a thread of a single step applies the weights that it has read.
ENTRIES = 4

HELD = """
// Runs a body in which the constant `name` says what the condition is.
#define ZMLX_EITHER(name, condition, ...) \\
  if (condition) {                        \\
    constexpr bool name = true;           \\
    __VA_ARGS__                           \\
  } else {                                \\
    constexpr bool name = false;          \\
    __VA_ARGS__                           \\
  }
// Reads the chunks of M rows, from row `first` on, `pitch` values apart. In the place of rows beyond `rows` (those
// below zero are, being unsigned) it reads row 0, which whoever asks must not use: infinity times zero is not nothing.
template <typename T, int N, int M, bool SURE, bool PACKED, typename P>
METAL_FUNC void zmlx_take(
    thread zmlx_raw<T, N, PACKED>* held, P from, uint first, uint rows, uint pitch, uint count) {
  _Pragma("unroll") for (int m = 0; m < M; ++m) {
    const uint row = first + m;
    held[m] = zmlx_chunk<T, N, PACKED>::raw(from + size_t(row < rows ? row : 0) * pitch, count, 0.0f, SURE);
  }
}
"""

SILU = """
template <typename T>
METAL_FUNC float zmlx_silu(float a) { return zmlx_ratio<T>(a, 1.0f + zmlx_exp<T>(-a)); }
template <typename T>
METAL_FUNC float zmlx_silu_slope(float a) {
  const float s = zmlx_ratio<T>(1.0f, 1.0f + zmlx_exp<T>(-a));
  return fma(a, s * (1.0f - s), s);
}
"""

FILTER = """
// What the filter gives at time `now`: near[0 ... TAPS - 1] are the rows of x up to there. Before the first there are
// none; INSIDE: there are enough since.
template <int TAPS, int N, bool INSIDE, typename R>
METAL_FUNC void zmlx_filter(
    thread float* y, const thread R* near, const thread float* w, const thread float* b, uint now) {
  for (int j = 0; j < N; ++j) y[j] = b[j];
  _Pragma("unroll") for (int k = 0; k < TAPS; ++k)
    if (INSIDE || uint(k) <= now)
      for (int j = 0; j < N; ++j) y[j] = fma(w[(TAPS - 1 - k) * N + j], near[TAPS - 1 - k].at(j), y[j]);
}
// The gradients of what the filter gives, from time `first` on, M of them; near[m ...] as for the filter at first + m.
template <typename T, int M, int TAPS, int N, bool ACTIVATED, bool INSIDE, typename R>
METAL_FUNC void zmlx_slopes(
    thread float* slopes,
    const thread R* near,
    const thread R* given,
    const thread float* w,
    const thread float* b,
    uint first) {
  _Pragma("unroll") for (int m = 0; m < M; ++m) {
    for (int j = 0; j < N; ++j) slopes[m * N + j] = given[m].at(j);
    if (ACTIVATED) {
      float y[N];
      zmlx_filter<TAPS, N, INSIDE>(y, near + m, w, b, first + m);
      for (int j = 0; j < N; ++j) slopes[m * N + j] *= zmlx_silu_slope<T>(y[j]);
    }
  }
}
"""

HEADER = CHUNKS + MATHS + HELD + SILU + FILTER

_TYPES = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  using weights = zmlx_chunk<U, N, PACKED>;
  using biases = zmlx_chunk<B, N, PACKED>;
"""

# The channels of a thread, and their weights.
_CHANNELS = """
      const uint i = (thread_position_in_grid.x * S + s) * N;
      if (i >= channels) break;
      const uint count = min(uint(N), channels - i);
      float w[TAPS * N], b[N];
"""
_WEIGHTS = """
        biases::load(b, bias + i, count, 0.0f, sure);
        _Pragma("unroll") for (int k = 0; k < TAPS; ++k)
          weights::load(w + k * N, weight + size_t(k) * channels + i, count, 0.0f, sure);
"""
_WHOLE = """count == N && (!PACKED || (channels % N == 0 && weights::aligned(weight) && biases::aligned(bias) &&
          chunk::aligned(x)"""

_RUNS = """
  const uint batch = x_shape[0], time = x_shape[1], channels = x_shape[2];
  const uint runs = (time + RUN - 1) / RUN;
  for (uint run = thread_position_in_grid.y; run < batch * runs; run += threads_per_grid.y) {
    const uint entry = run / runs, begin = run % runs * RUN, end = min(begin + RUN, time);
    const size_t at = size_t(entry) * time * channels;
    for (uint s = 0; s < S; ++s) {"""

# y[t] = bias + sum over k of weight[TAPS - 1 - k] * x[t - k].
FORWARD = f"""{_TYPES}
  constexpr int STEPS = {STEPS}, RUN = {RUN};
{_RUNS}{_CHANNELS}
      auto from = x + at + i;
      auto to = y + at + i;
      const bool whole = {_WHOLE} && chunk::aligned(y)));
      ZMLX_EITHER(sure, whole, {{{_WEIGHTS}
        zmlx_raw<T, N, PACKED> held[TAPS - 1 + STEPS];
        float v[N];
        zmlx_take<T, N, TAPS - 1, sure, PACKED>(held, from, begin - (TAPS - 1), time, channels, count);
        for (uint first = begin; first < end; first += STEPS) {{
          zmlx_take<T, N, STEPS, sure, PACKED>(held + TAPS - 1, from, first, time, channels, count);
          ZMLX_EITHER(inside, sure && first + 1 >= TAPS && first + STEPS <= time, {{
            _Pragma("unroll") for (int t = 0; t < STEPS; ++t) {{
              zmlx_filter<TAPS, N, inside>(v, held + t, w, b, first + t);
              if (ACTIVATED)
                for (int j = 0; j < N; ++j) v[j] = zmlx_silu<T>(v[j]);
              if (inside || first + t < time) chunk::store(to + size_t(first + t) * channels, v, count, sure);
            }}
          }})
          _Pragma("unroll") for (int k = 0; k < TAPS - 1; ++k) held[k] = held[STEPS + k];
        }}
      }})
    }}
  }}
"""

# dx[t] = sum over k of weight[TAPS - 1 - k] * slope[t + k], and the weight's gradient is the sum over t of
# x[t] * slope[t + k]: both of the same rows, so that x is read once, and all is in one pass. A line of `partial` has
# the sums of one run of time: of each tap, and of the bias. With an activation rows of x are LEAD steps ahead.
VJP = f"""{_TYPES}
  constexpr int STEPS = {VJP_STEPS} * (ACTIVATED ? 1 : 4 / sizeof(T)), RUN = {VJP_RUN}, LEAD = ACTIVATED ? TAPS - 1 : 0;
  using sums = zmlx_chunk<float, N, PACKED>;
  using raw = zmlx_raw<T, N, PACKED>;
{_RUNS}{_CHANNELS}
      float total[(TAPS + 1) * N];
      for (int j = 0; j < (TAPS + 1) * N; ++j) total[j] = 0.0f;
      auto from = x + at + i;
      auto above = g + at + i;
      auto to = dx + at + i;
      const bool whole = {_WHOLE} && chunk::aligned(g) && chunk::aligned(dx) && sums::aligned(partial)));
      ZMLX_EITHER(sure, whole, {{{_WEIGHTS}
        raw near[LEAD + STEPS + TAPS], given[STEPS + TAPS];
        float slopes[(TAPS - 1 + STEPS) * N], v[N];
        zmlx_take<T, N, 2 * LEAD, sure, PACKED>(near, from, begin - LEAD, time, channels, count);
        zmlx_take<T, N, TAPS - 1, sure, PACKED>(given, above, begin, time, channels, count);
        zmlx_slopes<T, TAPS - 1, TAPS, N, ACTIVATED, false>(slopes, near, given, w, b, begin);
        for (int k = 0; k < LEAD; ++k) near[k] = near[LEAD + k];
        for (uint first = begin; first < end; first += STEPS) {{
          zmlx_take<T, N, STEPS, sure, PACKED>(near + LEAD, from, first + LEAD, time, channels, count);
          zmlx_take<T, N, STEPS, sure, PACKED>(given, above, first + (TAPS - 1), time, channels, count);
          ZMLX_EITHER(inside, sure && first + (STEPS + TAPS - 1) <= time, {{
            zmlx_slopes<T, STEPS, TAPS, N, ACTIVATED, inside>(
                slopes + (TAPS - 1) * N, near, given, w, b, first + (TAPS - 1));
            _Pragma("unroll") for (int t = 0; t < STEPS; ++t) {{
              for (int j = 0; j < N; ++j) v[j] = 0.0f;
              _Pragma("unroll") for (int k = 0; k < TAPS; ++k)
                if (inside || first + t + k < time)
                  for (int j = 0; j < N; ++j) {{
                    const int tap = (TAPS - 1 - k) * N + j;
                    const float slope = slopes[(t + k) * N + j];
                    v[j] = fma(w[tap], slope, v[j]);
                    total[tap] = fma(near[t].at(j), slope, total[tap]);
                  }}
              if (inside || first + t < time) {{
                for (int j = 0; j < N; ++j) total[TAPS * N + j] += slopes[t * N + j];
                chunk::store(to + size_t(first + t) * channels, v, count, sure);
              }}
            }}
          }})
          _Pragma("unroll") for (int k = 0; k < LEAD; ++k) near[k] = near[STEPS + k];
          _Pragma("unroll") for (int j = 0; j < (TAPS - 1) * N; ++j) slopes[j] = slopes[STEPS * N + j];
        }}
        auto line = partial + size_t(run) * (TAPS + 1) * channels + i;
        for (int k = 0; k <= TAPS; ++k) sums::store(line + size_t(k) * channels, total + k * N, count, sure);
      }})
    }}
  }}
"""

# One new row after the TAPS - 1 rows of the state, which moves on by one.
STEP = f"""{_TYPES}
  using states = zmlx_chunk<V, N, PACKED>;
  const uint batch = x_shape[0], channels = x_shape[1];
  for (uint s = 0; s < S; ++s) {{{_CHANNELS}
      const bool whole = {_WHOLE} && chunk::aligned(y) && states::aligned(state) && states::aligned(next)));
      ZMLX_EITHER(sure, whole, {{{_WEIGHTS}
        for (uint entry = thread_position_in_grid.y; entry < batch; entry += threads_per_grid.y) {{
          const size_t at = size_t(entry) * channels + i, kept = at + size_t(entry) * channels * (TAPS - 2);
          zmlx_raw<V, N, PACKED> held[TAPS - 1];
          float v[N], total[N];
          zmlx_take<V, N, TAPS - 1, sure, PACKED>(held, state + kept, 0, TAPS - 1, channels, count);
          const zmlx_raw<T, N, PACKED> newest = chunk::raw(x + at, count, 0.0f, sure);
          for (int j = 0; j < N; ++j) total[j] = b[j];
          _Pragma("unroll") for (int k = 0; k < TAPS; ++k) {{
            for (int j = 0; j < N; ++j) v[j] = k < TAPS - 1 ? held[k].at(j) : newest.at(j);
            for (int j = 0; j < N; ++j) total[j] = fma(w[k * N + j], v[j], total[j]);
            if (k > 0) states::store(next + kept + size_t(k - 1) * channels, v, count, sure);
          }}
          if (ACTIVATED)
            for (int j = 0; j < N; ++j) total[j] = zmlx_silu<T>(total[j]);
          chunk::store(y + at, total, count, sure);
        }}
      }})
  }}
"""
