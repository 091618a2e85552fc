"""Rotary position embedding in Metal: angles of any position, pairs of both orders, and the bodies of the kernels.

An angle is position * frequency, of which only the fraction of a turn matters. Frequencies come in turns for each
position as 64-bit fixed-point numbers, so that the product is taken modulo one turn by integer arithmetic and is exact:
the angle of position 2**20 is as good as that of position 1, on all back ends to the same bit.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Heads that share the angles of a thread: ZMLX_HEADS.
HEADS = 4

# The fits are of (sin(t) / t - 1) / u and (cos(t) - 1 + u / 2) / u**2 in powers of u = t * t up to (pi / 4)**2: least
# squares, reweighted until the error was level (3.6e-9 and 9.6e-11).
ANGLES = """
#define ZMLX_HEADS 4u

struct zmlx_turn {
  float cosine;
  float sine;
};

// Of position * frequency, the frequency in turns times 2**64.
METAL_FUNC zmlx_turn zmlx_turned(long position, uint high_word, uint low_word) {
  const ulong turns = ulong(position) * (ulong(high_word) << 32 | ulong(low_word));
  const uint high = uint(turns >> 32);
  // The nearest quarter of a turn, and what is left: an eighth at most. Near a quarter the low word has its digits.
  const uint quarter = (high + 0x20000000u) >> 30;
  const float left = float(int(high - (quarter << 30)));
  const float t = fma(float(int(uint(turns) >> 8)), 5.9604645e-8f, left) * 1.4629180792671596e-9f;
  const float u = t * t;
  const float s = fma(t * u, fma(u, fma(u, -0.000195172615f, 0.00833217787f), -0.166666549f), t);
  const float c = fma(u, fma(u, fma(u, fma(u, 2.44384071e-5f, -0.00138873671f), 0.0416666469f), -0.5f), 1.0f);
  zmlx_turn turn;
  turn.cosine = quarter & 1 ? s : c;
  turn.sine = quarter & 1 ? c : s;
  if ((quarter + 1) & 2) turn.cosine = -turn.cosine;
  if (quarter & 2) turn.sine = -turn.sine;
  return turn;
}

// A token's positions: one for each section of the pairs, which end before the pairs `first` and `second`.
struct zmlx_place {
  long p[3];
  uint first;
  uint second;

  METAL_FUNC long of(uint pair) const { return pair < first ? p[0] : pair < second ? p[1] : p[2]; }
};

// `positions` has (sections, sequences, tokens), of which each may be 1: all sections are alike then, or sequences, or
// tokens follow each other from the position that is given.
template <typename P>
METAL_FUNC zmlx_place zmlx_placed(
    P positions, uint sections, uint sequences, uint spots, uint sequence, uint token, uint first, uint second) {
  const size_t at = size_t(sequence % sequences) * spots + (spots == 1 ? 0 : token);
  const size_t plane = sections == 1 ? 0 : size_t(sequences) * spots;
  const long step = spots == 1 ? long(token) : 0;
  zmlx_place place;
  for (uint section = 0; section < 3; ++section) place.p[section] = long(positions[at + section * plane]) + step;
  place.first = first;
  place.second = second;
  return place;
}

// The angles of N pairs from `i` on.
template <int N, typename P>
METAL_FUNC void zmlx_angles(
    thread float* c, thread float* s, zmlx_place place, P words, uint half_, float sign, uint i, uint count) {
  for (int j = 0; j < N; ++j) {
    const uint pair = uint(j) < count ? i + j : i;
    const zmlx_turn turn = zmlx_turned(place.of(pair), words[half_ + pair], words[pair]);
    c[j] = turn.cosine;
    s[j] = turn.sine * sign;
  }
}

// N pairs from the i-th on, their first and their second numbers apart. In memory the second ones are `half_` after the
// first ones, or next to them.
template <typename T, int N, bool PACKED, bool INTERLEAVED>
struct zmlx_pairs {
  using chunk = zmlx_chunk<T, N, PACKED>;

  template <typename P>
  static METAL_FUNC void load(thread float* a, thread float* b, P from, uint i, uint half_, uint count, bool sure) {
    if (INTERLEAVED) {
      float both[2 * N];
      chunk::load(both, from + 2 * i, before(count), 0.0f, sure);
      chunk::load(both + N, from + 2 * i + N, behind(count), 0.0f, sure);
      for (int j = 0; j < N; ++j) {
        a[j] = both[2 * j];
        b[j] = both[2 * j + 1];
      }
    } else {
      chunk::load(a, from + i, count, 0.0f, sure);
      chunk::load(b, from + half_ + i, count, 0.0f, sure);
    }
  }
  static METAL_FUNC void store(
      device T* to, const thread float* a, const thread float* b, uint i, uint half_, uint count, bool sure) {
    if (INTERLEAVED) {
      float both[2 * N];
      for (int j = 0; j < N; ++j) {
        both[2 * j] = a[j];
        both[2 * j + 1] = b[j];
      }
      chunk::store(to + 2 * i, both, before(count), sure);
      chunk::store(to + 2 * i + N, both + N, behind(count), sure);
    } else {
      chunk::store(to + i, a, count, sure);
      chunk::store(to + half_ + i, b, count, sure);
    }
  }
  static METAL_FUNC uint before(uint count) { return 2 * count < N ? 2 * count : N; }
  static METAL_FUNC uint behind(uint count) { return 2 * count < N ? 0 : 2 * count - N; }
};
"""

# Heads of a group that are held: all their loads are under way before the first value is used.
HOLD = """
// N pairs as they are in memory, from the i-th on.
template <typename T, int N, bool PACKED, bool INTERLEAVED>
struct zmlx_raw_pairs {
  zmlx_raw<T, N, PACKED> low, high;

  METAL_FUNC float either(int j) const { return j < N ? low.at(j) : high.at(j - N); }
  METAL_FUNC float a(int j) const { return either(INTERLEAVED ? 2 * j : j); }
  METAL_FUNC float b(int j) const { return either(INTERLEAVED ? 2 * j + 1 : N + j); }
};

// Those of a group of heads; of heads that are not there, those of the last, so that no load waits for a test. The step
// to the next head is a choice also where it need not be one: of multiples of a stride nvrtc makes accesses in pieces.
template <typename T, int N, bool PACKED, bool INTERLEAVED, typename P>
METAL_FUNC void zmlx_hold_heads(
    thread zmlx_raw_pairs<T, N, PACKED, INTERLEAVED>* held, P in, size_t stride, uint heads, uint i, uint half_) {
  using chunk = zmlx_chunk<T, N, PACKED>;
  in += INTERLEAVED ? 2 * i : i;
  _Pragma("unroll") for (uint h = 0; h < ZMLX_HEADS; ++h) {
    held[h].low = chunk::raw(in, N, 0.0f, true);
    held[h].high = chunk::raw(in + (INTERLEAVED ? N : half_), N, 0.0f, true);
    in += h + 1 < heads ? stride : 0;
  }
}
"""

_ROTATE = """
template <int N>
METAL_FUNC void zmlx_turn_pairs(thread float* a, thread float* b, const thread float* c, const thread float* s) {
  for (int j = 0; j < N; ++j) {
    const float first = a[j];
    a[j] = fma(first, c[j], -(b[j] * s[j]));
    b[j] = fma(b[j], c[j], first * s[j]);
  }
}

// Rotates N pairs of some heads, which are a stride apart and are held. The last one is stored again in the place of
// those that are not there: behind a test, their loads would wait for it.
template <typename T, int N, bool PACKED, bool INTERLEAVED>
METAL_FUNC void zmlx_rotate_held(
    const thread zmlx_raw_pairs<T, N, PACKED, INTERLEAVED>* held, device T* out, size_t stride, uint heads,
    const thread float* c, const thread float* s, uint i, uint half_) {
  _Pragma("unroll") for (uint h = 0; h < ZMLX_HEADS; ++h) {
    float a[N], b[N];
    for (int j = 0; j < N; ++j) {
      a[j] = held[h].a(j);
      b[j] = held[h].b(j);
    }
    zmlx_turn_pairs<N>(a, b, c, s);
    zmlx_pairs<T, N, PACKED, INTERLEAVED>::store(out, a, b, i, half_, N, true);
    out += h + 1 < heads ? stride : 0;
  }
}

// Rotates N pairs of some heads, which are a stride apart.
template <typename T, int N, bool PACKED, bool INTERLEAVED, typename P>
METAL_FUNC void zmlx_rotate(
    P in, size_t in_stride, device T* out, size_t out_stride, uint heads, const thread float* c, const thread float* s,
    uint i, uint half_, uint count, bool sure) {
  using pairs = zmlx_pairs<T, N, PACKED, INTERLEAVED>;
  _Pragma("unroll 1") for (uint h = 0; h < heads; ++h) {
    float a[N], b[N];
    pairs::load(a, b, in + h * in_stride, i, half_, count, sure);
    zmlx_turn_pairs<N>(a, b, c, s);
    pairs::store(out + h * out_stride, a, b, i, half_, count, sure);
  }
}

// Copies some heads from `begin` on, up to `end`.
template <typename T, int N, bool PACKED, typename P>
METAL_FUNC void zmlx_copy(
    P in, size_t in_stride, device T* out, size_t out_stride, uint heads, uint begin, uint end) {
  using chunk = zmlx_chunk<T, N, PACKED>;
  ZMLX_CHUNKS(begin, end, N, {
    _Pragma("unroll 1") for (uint h = 0; h < heads; ++h) {
      float v[N];
      chunk::load(v, in + h * in_stride + i, count, 0.0f);
      chunk::store(out + h * out_stride + i, v, count);
    }
  })
}
"""

HEADER = ANGLES + HOLD + _ROTATE

_ROPE = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  const uint tokens = FIRST_shape[2], length = FIRST_shape[3], half_ = words_shape[1], rest = length - 2 * half_;
  const uint groups = GROUPS, rows = uint(FIRST_shape[0]) * groups * tokens;
  const uint begin = thread_position_in_grid.x * (N * S);
  const uint end = min(begin + N * S, half_), rest_end = min(begin + N * S, rest);
  const bool whole = PACKED && half_ % N == 0 && length % N == 0 && ALIGNED;
  const size_t stride = size_t(tokens) * length;
  for (uint row = thread_position_in_grid.y; row < rows; row += threads_per_grid.y) {
    const uint token = row % tokens, group = row / tokens % groups, sequence = row / tokens / groups;
    PLACE
    ZMLX_SPAN(begin, end, whole, {
      float c[N], s[N];
      if (sure) {
        zmlx_raw_pairs<T, N, PACKED, INTERLEAVED> held[ZMLX_HEADS];
        device T* out = FIRST_out;
        uint there = 0;
        HELD
        zmlx_angles<N>(c, s, place, words, half_, sign, i, count);
        zmlx_rotate_held<T, N, PACKED, INTERLEAVED>(held, out, stride, there, c, s, i, half_);
      } else {
        zmlx_angles<N>(c, s, place, words, half_, sign, i, count);
        ROTATE
      }
    })
    COPY
  }
"""


def groups_of(arrays: Sequence[str]) -> str:
    """How many groups of heads arrays of shape (sequences, heads, tokens, length) have together."""
    return " + ".join(f"({array}_shape[1] + ZMLX_HEADS - 1) / ZMLX_HEADS" for array in arrays)


def on_heads(arrays: Sequence[str], statement: str) -> str:
    """``statement`` for the array whose heads are in ``group``: of those, it sees how many there are, ``heads``, where
    they begin, ``at``, and the array's name in place of ARRAY.

    Not a choice of pointers, which may be of two address spaces.
    """
    branches = []
    for index, array in enumerate(arrays):
        before = f" - ({groups_of(arrays[:index])})" if index else ""
        test = f"if (group < {groups_of(arrays[: index + 1])}) " if index + 1 < len(arrays) else ""
        branches.append(
            f"{test}{{\n"
            f"        const uint head = (group{before}) * ZMLX_HEADS;\n"
            f"        const uint heads = min(ZMLX_HEADS, uint({array}_shape[1]) - head);\n"
            f"        const size_t at = ((size_t(sequence) * {array}_shape[1] + head) * tokens + token) * length;\n"
            f"        {statement.replace('ARRAY', array)}\n"
            "      }"
        )
    return " else ".join(branches)


PLACE = """const zmlx_place place = zmlx_placed(
        positions, positions_shape[0], positions_shape[1], positions_shape[2], sequence, token, first, second);"""


def rope(arrays: Sequence[str]) -> str:
    """The body of a kernel that rotates all of ``arrays``; the results are called ``<array>_out``."""
    rotate = (
        "zmlx_rotate<T, N, PACKED, INTERLEAVED>("
        "ARRAY + at, stride, ARRAY_out + at, stride, heads, c, s, i, half_, count, sure);"
    )
    # Two ways to the same loads: in one, the compiler puts each off until it is used, and few are under way.
    hold = "zmlx_hold_heads(held, ARRAY + at, stride, {}, i, half_);"
    held = (
        f"if (heads == ZMLX_HEADS) {hold.format('ZMLX_HEADS')} else {hold.format('heads')} "
        "out = ARRAY_out + at; there = heads;"
    )
    copy = (
        "zmlx_copy<T, N, PACKED>("
        "ARRAY + at + 2 * half_, stride, ARRAY_out + at + 2 * half_, stride, heads, begin, rest_end);"
    )
    aligned = " && ".join(f"chunk::aligned({a}) && chunk::aligned({a}_out)" for a in arrays)
    return (
        _ROPE.replace("FIRST", arrays[0])
        .replace("PLACE", PLACE)
        .replace("GROUPS", groups_of(arrays))
        .replace("ALIGNED", aligned)
        .replace("HELD", on_heads(arrays, held))
        .replace("ROTATE", on_heads(arrays, rotate))
        .replace("COPY", on_heads(arrays, copy))
    )


# A row is a group of heads at a place of the cache. `owner` tells whose it is: that of a token, counted over all
# sequences, or (negative) still what it was.
CACHE = f"""
  using chunk = zmlx_chunk<T, N, PACKED>;
  const uint slots = k_cache_shape[2], length = k_cache_shape[3], value_length = v_cache_shape[3];
  const uint tokens = k_shape[2], half_ = words_shape[1], rest = length - 2 * half_;
  const uint all_heads = k_cache_shape[1], groups = {groups_of(("k_cache",))};
  const uint rows = uint(k_cache_shape[0]) * groups * slots;
  const uint begin = thread_position_in_grid.x * (N * S), end = begin + N * S;
  const bool whole = PACKED && half_ % N == 0 && length % N == 0 && chunk::aligned(k) && chunk::aligned(k_out);
  const size_t stride = size_t(slots) * length, value_stride = size_t(slots) * value_length;
  const size_t from_stride = size_t(tokens) * length, value_from_stride = size_t(tokens) * value_length;
  for (uint row = thread_position_in_grid.y; row < rows; row += threads_per_grid.y) {{
    const uint slot = row % slots, group = row / slots % groups, page = row / slots / groups;
    const uint head = group * ZMLX_HEADS, heads = min(ZMLX_HEADS, all_heads - head);
    const size_t at = (size_t(page) * all_heads + head) * slots + slot;
    const int own = owner[size_t(page) * slots + slot];
    if (own < 0) {{
      zmlx_copy<T, N, PACKED>(
          k_cache + at * length, stride, k_out + at * length, stride, heads, begin, min(end, length));
      zmlx_copy<T, N, PACKED>(v_cache + at * value_length, value_stride, v_out + at * value_length, value_stride, heads,
                              begin, min(end, value_length));
      continue;
    }}
    const uint token = uint(own) % tokens, sequence = uint(own) / tokens;
    const size_t from = (size_t(sequence) * all_heads + head) * tokens + token;
    {PLACE}
    ZMLX_SPAN(begin, min(end, half_), whole, {{
      float c[N], s[N];
      zmlx_angles<N>(c, s, place, words, half_, 1.0f, i, count);
      zmlx_rotate<T, N, PACKED, INTERLEAVED>(
          k + from * length, from_stride, k_out + at * length, stride, heads, c, s, i, half_, count, sure);
    }})
    zmlx_copy<T, N, PACKED>(k + from * length + 2 * half_, from_stride, k_out + at * length + 2 * half_, stride, heads,
                            begin, min(end, rest));
    zmlx_copy<T, N, PACKED>(v + from * value_length, value_from_stride, v_out + at * value_length, value_stride, heads,
                            begin, min(end, value_length));
  }}
"""

# freqs are wavelengths, a position's share of a turn over 2 pi; TURN is scale / (2 pi), in two float32 numbers.
FREQUENCIES = """
  const uint i = thread_position_in_grid.x;
  const float wavelength = freqs[i];
  // The quotient and the product in two float32 numbers each, of which the second one is what the first one lacks.
  const float q = 1.0f / wavelength;
  const float q_rest = q == 0.0f ? 0.0f : fma(-q, wavelength, 1.0f) * q;
  const float product = q * turn_high;
  const float rest = fma(q, turn_high, -product) + fma(q, turn_low, q_rest * turn_high);
  // Modulo one turn, times 2**64. The large part is converted without its sign, for it may be nearly 1.
  const float size = fabs(product);
  const ulong whole = ulong((size - floor(size)) * 18446744073709551616.0f);
  const ulong turns = (product < 0.0f ? 0 - whole : whole) + ulong(long((rest - rint(rest)) * 18446744073709551616.0f));
  words[i] = uint(turns);
  words[freqs_shape[0] + i] = uint(turns >> 32);
"""
