"""GroupNorm in Metal.

x is (batch, places, channels): a group is so many neighbouring channels of all places of one entry of the batch. It
is cut into parts: runs of `run_places` places, and pieces of so many channels as threads have at one place. W threads
share a part, A of them along the channels and D = W / A along the places; chunks lie within a group's channels.

`HELD_FORWARD`, `HELD_GRADIENT`
    A group that registers hold: its results; the gradient of x, and sums for those of the weights.
`FORWARD`, `GRADIENT`
    The same of a group that is one part, and read twice.
`MOMENTS`, `NORMALISE`
    Groups of several parts: the moments of each part; then its results, by the moments of all parts of its group.
`SUMS`, `BACKWARD`
    Their gradient: all sums of each part; then the gradient of x.
`WEIGHTS`
    The gradients of the weights, from the sums of all parts.
"""

from __future__ import annotations

from zmlx.kernels._rows import GROUP_THREADS, SIMD_WIDTH

#: Places of a thread whose loads are under way together.
BATCH = 4
#: Values of a thread whose mean it subtracts from all, at least.
MIDST = 16

HEADER = """
// Runs a body for a chunk of `now` of the thread's places, from place `s` and channel `c` of the group on. It sees
// where the first is in memory, `i`, the `count` of values in each, and whether access to them is `sure`.
#define ZMLX_BATCH(...)                                            \\
  if (whole && s + (B - 1) * D < end && c + N <= most) {           \\
    constexpr bool sure = true;                                    \\
    constexpr int now = B;                                         \\
    constexpr uint count = N;                                      \\
    const size_t i = at + size_t(s) * channels + c;                \\
    __VA_ARGS__                                                    \\
  } else {                                                         \\
    constexpr bool sure = false;                                   \\
    constexpr int now = 1;                                         \\
    const uint count = min(uint(N), most - c);                     \\
    for (uint single = s; single < min(s + B * D, end); single += D) { \\
      const size_t i = at + size_t(single) * channels + c;         \\
      __VA_ARGS__                                                  \\
    }                                                              \\
  }
// The same for all chunks of the thread, in the order of the places or in the opposite one.
#define ZMLX_UPWARDS(...) ZMLX_PLACES(k, __VA_ARGS__)
#define ZMLX_DOWNWARDS(...) ZMLX_PLACES(batches - 1 - k, __VA_ARGS__)
#define ZMLX_PLACES(number, ...)                                   \\
  for (uint k = 0; k < batches; ++k) {                             \\
    const uint s = begin + d + (number) * (B * D);                 \\
    for (uint c = least; c < most; c += A * N) {                   \\
      ZMLX_BATCH(__VA_ARGS__)                                      \\
    }                                                              \\
  }
"""

# Of such a group a thread has K chunks at most, one at each of its places, and none of them ends early.
HELD_HEADER = """
// Runs a body for each place of the thread, the `k`-th; it sees where the chunk is in memory, `i`.
#define ZMLX_EACH_PLACE(...)                                       \\
  ZMLX_UNROLL for (int k = 0; k < K; ++k) {                        \\
    const uint s = begin + d + k * D;                              \\
    if (s < end && least < most) {                                 \\
      const size_t i = at + size_t(s) * channels + least;          \\
      __VA_ARGS__                                                  \\
    }                                                              \\
  }
"""

# A thread of a part that is not there has no places.
_PART = f"""
  using chunk = zmlx_chunk<T, N, PACKED>;
  constexpr int B = S == 1 ? {BATCH} : 1;
  constexpr uint D = W / A, SPAN = uint(A) * S * N;
  threadgroup float scratch[ZMLX_SCRATCH];
  zmlx_team<W> team{{scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, 0}};
  const uint places = x_shape[1], channels = x_shape[2], groups = count_groups, width = channels / groups;
  const uint pieces = (width + SPAN - 1) / SPAN, runs = (places + run_places - 1) / run_places;
  const uint parts = runs * pieces, all = x_shape[0] * groups * parts;
  const bool whole = !PACKED || (width % N == 0 && ALIGNED);
  const size_t step = size_t(D) * channels;
  const float values = float(places) * float(width);
  const uint together = threads_per_threadgroup.x / W, member = thread_index_in_threadgroup % W;
  const uint a = member % A, d = member / A;
  for (uint first = threadgroup_position_in_grid.x * together; first < all;
       first += threadgroups_per_grid.x * together) {{
    const uint mine = first + thread_index_in_threadgroup / W;
    const bool inside = mine < all;  // other threads take part in the reductions
    const uint part = inside ? NUMBER : 0;
    const uint piece = part % pieces, group = part / pieces % groups, line = part / pieces / groups;
    const uint entry = line / runs, run = line % runs;
    const size_t owner = size_t(entry) * groups + group, place_of_part = owner * parts + run * pieces + piece;
    const uint begin = run * run_places, end = inside ? min(begin + run_places, places) : begin;
    const uint batches = (end - begin + B * D - 1) / (B * D);
    const uint low = piece * SPAN, least = low + a * N, most = min(low + SPAN, width);
    const size_t at = size_t(entry) * places * channels + group * width;
BODY
  }}
"""


def _each_part(body: str, arrays: str, number: str = "mine", storage: str = "") -> str:
    """A body that works on parts; ``arrays``: their chunks' type and name, of those that move in whole chunks."""
    pairs = [array.split() for array in arrays.split(",")]
    aligned = " && ".join(f"zmlx_chunk<{dtype}, N, PACKED>::aligned({name})" for dtype, name in pairs)
    return storage + _PART.replace("ALIGNED", aligned).replace("NUMBER", number).replace("BODY", body)


# A thread sums up differences to a value in their midst, the mean of its first few values: far from zero, squares would
# leave nothing of a small variance. What the mean of its values is beyond that, `lack`, is kept by itself, because the
# sum of both would be rounded.
_SHIFT = f"""
    const uint own_places = end > begin + d ? (end - begin - d + D - 1) / D : 0;
    uint own = 0;
    for (uint c = least; c < most; c += A * N) own += min(uint(N), most - c);
    own *= own_places;
    float shift = 0.0f, part_sum[N], part_square[N];
    zmlx_fill<N>(part_sum, 0.0f);
    zmlx_fill<N>(part_square, 0.0f);
    if (own > 0) {{
      const uint count = min(uint(N), most - least);
      const uint tried = min(own_places, ({MIDST} + count - 1) / count);
      for (uint p = 0; p < tried; ++p) {{
        float v[N];
        chunk::load(v, x + at + size_t(begin + d) * channels + p * step + least, count, 0.0f);
        shift += zmlx_sum<N>(v);
      }}
      shift /= tried * count;
    }}
"""

# The moments of all threads' values: the rounded `mean`; `off`, what it lacks; and `spread`, the sum of the squared
# differences to `mean`. As of Chan, Golub and LeVeque 1983, but that no mean is rounded before its difference is taken.
_MEET = """
    const float share = float(own);
    const float lack = zmlx_sum<N>(part_sum) / max(share, 1.0f);
    const float around = zmlx_sum<N>(part_square) - share * lack * lack;
    const float held = float(end - begin) * float(most - low);
    const float mean = team.sum(share * (shift + lack)) / held;
    const float apart = shift - mean + lack;
"""

_OF_ALL = """    const float off = met[0] / held, spread = met[1];
"""

_TWO_SUMS = f"""
    float met[2] = {{share * apart, fma(share * apart, apart, around)}};
    team.template sums<2>(met);
{_OF_ALL}"""

_MOMENTS = (
    _SHIFT
    + """
    ZMLX_UPWARDS({
      float v[now][N];
      ZMLX_UNROLL for (int b = 0; b < now; ++b) chunk::load(v[b], x + i + b * step, count, shift, sure);
      ZMLX_UNROLL for (int b = 0; b < now; ++b)
        for (int j = 0; j < N; ++j) {
          const float centred = v[b][j] - shift;
          part_sum[j] += centred;
          part_square[j] = fma(centred, centred, part_square[j]);
        }
    })
"""
    + _MEET
    + _TWO_SUMS
)

MOMENTS = _each_part(
    _MOMENTS
    + """
    if (inside && member == 0) {
      moments[3 * place_of_part] = mean;
      moments[3 * place_of_part + 1] = off;
      moments[3 * place_of_part + 2] = spread;
    }
""",
    "T x",
)

# Threads of a simdgroup join what the parts of their group have, of which M numbers each are in `from`.
_JOIN = """
    constexpr uint LANES = W < 32 ? W : 32;
    zmlx_team<LANES> joint{scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, 0};
    auto from = moments + MOMENTS * owner * parts;
    float total = 0.0f;
    for (uint k = member % LANES; k < parts; k += LANES) {
      const uint r = k / pieces * run_places, l = k % pieces * SPAN;
      const float share = float(min(r + run_places, places) - r) * float(min(l + SPAN, width) - l);
      total = fma(share, from[MOMENTS * k] + from[MOMENTS * k + 1], total);
    }
    const float mean = joint.sum(total) / values;
    float met[MET];
    zmlx_fill<MET>(met, 0.0f);
    for (uint k = member % LANES; k < parts; k += LANES) {
      const uint r = k / pieces * run_places, l = k % pieces * SPAN;
      const float share = float(min(r + run_places, places) - r) * float(min(l + SPAN, width) - l);
      const float apart = from[MOMENTS * k] - mean + from[MOMENTS * k + 1];
      met[0] = fma(share, apart, met[0]);
      met[1] += fma(share * apart, apart, from[MOMENTS * k + 2]);
      MORE
    }
    joint.template sums<MET>(met);
    const float off = met[0] / values, spread = met[1];
"""

# The variance by what differs from the rounded mean is too large by the square of what that lacks. Rounding may leave
# less than zero of it, and NaN is to stay.
_SCALE = """
    const float variance = spread / values - off * off;
    const float scale = rsqrt((variance < 0.0f ? 0.0f : variance) + eps);
"""

_NORMALISE = (
    _SCALE
    + """
    ZMLX_DOWNWARDS({
      float v[now][N], w[N], h[N];
      ZMLX_UNROLL for (int b = 0; b < now; ++b) chunk::load(v[b], x + i + b * step, count, 0.0f, sure);
      zmlx_chunk<U, N, PACKED>::load(w, gamma + group * width + c, count, 0.0f, sure);
      zmlx_chunk<V, N, PACKED>::load(h, beta + group * width + c, count, 0.0f, sure);
      ZMLX_UNROLL for (int b = 0; b < now; ++b) {
        for (int j = 0; j < N; ++j) v[b][j] = fma((v[b][j] - mean - off) * scale, w[j], h[j]);
        chunk::store(y + i + b * step, v[b], count, sure);
      }
    })
"""
)

_FORWARD_ARRAYS = "T x, T y, U gamma, V beta"

FORWARD = _each_part(_MOMENTS + _NORMALISE, _FORWARD_ARRAYS)

# What the moments were taken of last comes first here, because it may be in the cache: parts, and places of a part, in
# the opposite order.
NORMALISE = _each_part(
    _JOIN.replace("MOMENTS", "3").replace("MET", "2").replace("MORE", "") + _NORMALISE,
    _FORWARD_ARRAYS,
    "all - 1 - mine",
)

_FOUR_SUMS = """
    float met[4] = {
        share * apart, fma(share * apart, apart, around), plain, fma(shift - mean, plain, weighted)};
    team.template sums<4>(met);
"""

# The sums of threads that have the same channels meet, around the shift of the first of them: of one array, then of the
# other, and each channel's are added up by one thread.
_LINES = """
    using sums = zmlx_chunk<float, N, PACKED>;
    const uint chunks = (width + N - 1) / N, slot = thread_index_in_threadgroup, sum_places = (slot - member) * N;
    auto to = partial + size_t(line) * 2 * channels + group * width;
    if (D > 1) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
      centres[slot] = shift;
      threadgroup_barrier(mem_flags::mem_threadgroup);
      const float apart = shift - centres[slot - d * A];
      for (int j = 0; j < N; ++j)
        if (d > 0) by_x[j] = fma(apart, alone[j], by_x[j]);
      for (uint m = 0; m < 2; ++m) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (int j = 0; j < N; ++j) meeting[sum_places + member * N + j] = m == 0 ? by_x[j] : alone[j];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint o = member; inside && o < min(uint(A * N), most - (c - a * N)); o += W) {
          float total = 0.0f;
          for (uint e = 0; e < D; ++e) total += meeting[sum_places + e * (A * N) + o];
          to[m * channels + (c - a * N) + o] = total;
        }
      }
    } else if (inside && here > 0) {
      sums::store(to + c, by_x, here);
      sums::store(to + channels + c, alone, here);
    }
    if (inside && d == 0 && here > 0) shifts[size_t(line) * groups * chunks + group * chunks + c / N] = shift;
"""

# With xhat = (x - mean) * scale:  dx = scale * (g * gamma - mean(g * gamma) - xhat * mean(g * gamma * xhat))
#                                  dgamma = sum over places and entries of g * xhat
#                                  dbeta = sum over places and entries of g
# The line of `partial` of a run has, for all channels, the sums of g * (x - shift), then those of g; `shifts` has what
# was taken from x. All threads come by where they meet: those of a part have as many chunks, and those of all parts in
# a threadgroup.
_SUMS = (
    _SHIFT
    + """
    float plain = 0.0f, weighted = 0.0f;
    for (uint l = low; l < most; l += A * N) {
      const uint c = l + a * N, here = c < most ? min(uint(N), most - c) : 0;
      float by_x[N], alone[N], w[N], v_sum[N], g_sum[N];
      zmlx_fill<N>(by_x, 0.0f);
      zmlx_fill<N>(alone, 0.0f);
      for (uint s = begin + d; here > 0 && s < end; s += B * D) {
        ZMLX_BATCH({
          float v[now][N], back[now][N];
          ZMLX_UNROLL for (int b = 0; b < now; ++b) {
            chunk::load(v[b], x + i + b * step, count, shift, sure);
            chunk::load(back[b], g + i + b * step, count, 0.0f, sure);
          }
          ZMLX_UNROLL for (int b = 0; b < now; ++b)
            for (int j = 0; j < N; ++j) {
              const float centred = v[b][j] - shift;
              part_sum[j] += centred;
              part_square[j] = fma(centred, centred, part_square[j]);
              by_x[j] = fma(back[b][j], centred, by_x[j]);
              alone[j] += back[b][j];
            }
        })
      }
      zmlx_chunk<U, N, PACKED>::load(w, gamma + group * width + c, here, 0.0f);
      for (int j = 0; j < N; ++j) {
        v_sum[j] = by_x[j] * w[j];
        g_sum[j] = alone[j] * w[j];
      }
      weighted += zmlx_sum<N>(v_sum);
      plain += zmlx_sum<N>(g_sum);
"""
    + _LINES
    + "    }\n"
    + _MEET
    + _FOUR_SUMS
)

_STORAGE = f"""
  constexpr uint THREADS = W == 1 ? 1 : W <= {SIMD_WIDTH} ? {GROUP_THREADS} : W;
  threadgroup float meeting[W == A ? 1 : THREADS * N], centres[W == A ? 1 : THREADS];
"""

# Of a part, `moments` has beside those of x the sums of g * gamma and of g * gamma * (x - mean).
SUMS = _each_part(
    _SUMS
    + """
    if (inside && member == 0) {
      moments[5 * place_of_part] = mean;
      moments[5 * place_of_part + 1] = met[0] / held;
      for (int m = 1; m < 4; ++m) moments[5 * place_of_part + 1 + m] = met[m];
    }
""",
    "T x, T g",
    storage=_STORAGE,
)

_STATS = (
    _SCALE
    + """
    const float level = met[2] / values;
    const float back = scale * scale * (met[3] / values - off * level);
    if (inside && member == 0 && run == 0 && piece == 0) {
      stats[3 * owner] = mean;
      stats[3 * owner + 1] = off;
      stats[3 * owner + 2] = scale;
    }
"""
)

_GRADIENT_OF_X = (
    _STATS
    + """
    ZMLX_DOWNWARDS({
      float v[now][N], h[now][N], w[N];
      ZMLX_UNROLL for (int b = 0; b < now; ++b) {
        chunk::load(v[b], x + i + b * step, count, 0.0f, sure);
        chunk::load(h[b], g + i + b * step, count, 0.0f, sure);
      }
      zmlx_chunk<U, N, PACKED>::load(w, gamma + group * width + c, count, 0.0f, sure);
      ZMLX_UNROLL for (int b = 0; b < now; ++b) {
        for (int j = 0; j < N; ++j)
          v[b][j] = scale * (fma(h[b][j], w[j], -level) - (v[b][j] - mean - off) * back);
        chunk::store(dx + i + b * step, v[b], count, sure);
      }
    })
"""
)

_GRADIENT_ARRAYS = "T x, T g, T dx, U gamma"

GRADIENT = _each_part(
    _SUMS + _OF_ALL + _GRADIENT_OF_X,
    _GRADIENT_ARRAYS,
    storage=_STORAGE,
)

BACKWARD = _each_part(
    _JOIN.replace("MOMENTS", "5")
    .replace("MET", "4")
    .replace(
        "MORE",
        """met[2] += from[5 * k + 3];
      met[3] += fma(from[5 * k] - mean, from[5 * k + 3], from[5 * k + 4]);""",
    )
    + _GRADIENT_OF_X,
    _GRADIENT_ARRAYS,
    "all - 1 - mine",
)

_HOLD = f"""
    zmlx_raw<T, N, PACKED> xs[K];
    ZMLX_EACH_PLACE({{ xs[k] = chunk::raw(x + i, N, 0.0f, whole); }})
MORE
    uint own = 0;
    float shift = 0.0f, part_sum[N], part_square[N];
    zmlx_fill<N>(part_sum, 0.0f);
    zmlx_fill<N>(part_square, 0.0f);
    constexpr int TRIED = ({MIDST} + N - 1) / N;
    ZMLX_EACH_PLACE({{
      if (k < TRIED) {{
        own += N;
        for (int j = 0; j < N; ++j) shift += xs[k].at(j);
      }}
    }})
    shift = own > 0 ? shift / own : 0.0f;
    own = least < most && end > begin + d ? (end - begin - d + D - 1) / D * N : 0;
"""

HELD_FORWARD = _each_part(
    _HOLD.replace("MORE", "")
    + """
    ZMLX_EACH_PLACE({
      for (int j = 0; j < N; ++j) {
        const float centred = xs[k].at(j) - shift;
        part_sum[j] += centred;
        part_square[j] = fma(centred, centred, part_square[j]);
      }
    })
"""
    + _MEET
    + _TWO_SUMS
    + _SCALE
    + """
    float w[N], h[N];
    const uint here = least < most ? N : 0;
    zmlx_chunk<U, N, PACKED>::load(w, gamma + group * width + least, here, 0.0f);
    zmlx_chunk<V, N, PACKED>::load(h, beta + group * width + least, here, 0.0f);
    ZMLX_EACH_PLACE({
      float v[N];
      for (int j = 0; j < N; ++j) v[j] = fma((xs[k].at(j) - mean - off) * scale, w[j], h[j]);
      chunk::store(y + i, v, N, whole);
    })
""",
    "T x, T y",
)

HELD_GRADIENT = _each_part(
    _HOLD.replace(
        "MORE",
        """    zmlx_raw<T, N, PACKED> gs[K];
    ZMLX_EACH_PLACE({ gs[k] = chunk::raw(g + i, N, 0.0f, whole); })""",
    )
    + """
    const uint c = least, here = least < most ? N : 0;
    float by_x[N], alone[N], w[N], v_sum[N], g_sum[N];
    zmlx_fill<N>(by_x, 0.0f);
    zmlx_fill<N>(alone, 0.0f);
    ZMLX_EACH_PLACE({
      for (int j = 0; j < N; ++j) {
        const float centred = xs[k].at(j) - shift, back = gs[k].at(j);
        part_sum[j] += centred;
        part_square[j] = fma(centred, centred, part_square[j]);
        by_x[j] = fma(back, centred, by_x[j]);
        alone[j] += back;
      }
    })
    zmlx_chunk<U, N, PACKED>::load(w, gamma + group * width + c, here, 0.0f);
    for (int j = 0; j < N; ++j) {
      v_sum[j] = by_x[j] * w[j];
      g_sum[j] = alone[j] * w[j];
    }
    const float weighted = zmlx_sum<N>(v_sum), plain = zmlx_sum<N>(g_sum);
"""
    + _LINES
    + _MEET
    + _FOUR_SUMS
    + _OF_ALL
    + _STATS
    + """
    ZMLX_EACH_PLACE({
      float v[N];
      for (int j = 0; j < N; ++j)
        v[j] = scale * (fma(gs[k].at(j), w[j], -level) - (xs[k].at(j) - mean - off) * back);
      chunk::store(dx + i, v, N, whole);
    })
""",
    "T x, T g, T dx",
    storage=_STORAGE,
)

# W threads share a chunk of channels: each takes every W-th line, and the first joins what they have. C threads are
# side by side.
WEIGHTS = """
  using sums = zmlx_chunk<float, N, PACKED>;
  threadgroup float shared[2 * W * C * N];
  const uint lines = partial_shape[0], channels = partial_shape[1] / 2, groups = count_groups;
  const uint width = channels / groups, chunks = (width + N - 1) / N, columns = groups * chunks;
  const uint column = thread_position_in_grid.x, group = column / chunks, c = column % chunks * N;
  const uint count = column < columns ? min(uint(N), width - c) : 0;
  const uint lines_of_entry = lines / (stats_shape[0] / groups);
  const uint part = thread_position_in_threadgroup.y;
  threadgroup float* mine = shared + (part * C + thread_position_in_threadgroup.x) * 2 * N;
  const uint channel = group * width + c;
  float by_x[N], alone[N], weighted[N], plain[N];
  zmlx_fill<N>(weighted, 0.0f);
  zmlx_fill<N>(plain, 0.0f);
  _Pragma("unroll 4") for (uint line = part; count > 0 && line < lines; line += W) {
    auto of = stats + 3 * (size_t(line / lines_of_entry) * groups + group);
    sums::load(by_x, partial + size_t(line) * 2 * channels + channel, count, 0.0f);
    sums::load(alone, partial + (size_t(line) * 2 + 1) * channels + channel, count, 0.0f);
    const float apart = shifts[size_t(line) * columns + column] - of[0] - of[1], scale = of[2];
    for (int j = 0; j < N; ++j) {
      weighted[j] = fma(fma(apart, alone[j], by_x[j]), scale, weighted[j]);
      plain[j] += alone[j];
    }
  }
  for (int j = 0; j < N; ++j) {
    mine[j] = weighted[j];
    mine[N + j] = plain[j];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (part == 0) {
    for (uint other = 1; other < W; ++other)
      for (int j = 0; j < N; ++j) {
        weighted[j] += mine[other * C * 2 * N + j];
        plain[j] += mine[other * C * 2 * N + N + j];
      }
    zmlx_chunk<U, N, PACKED>::store(dgamma + channel, weighted, count);
    zmlx_chunk<V, N, PACKED>::store(dbeta + channel, plain, count);
  }
"""
