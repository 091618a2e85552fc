"""Metal functions that several kernels of the catalogue share; each kernel's ``header`` begins with `CHUNKS`.

A kernel takes from them the two things that make one source fit three back ends:

`CHUNKS`
    A thread reads and writes N neighbouring values at a time, as float32. With ``PACKED`` they move in one access of
    up to 16 bytes where the address allows it; without, the compiler is left to merge or vectorise the accesses.
`ROWS`
    W threads share a row. Their partial results are joined by shuffles, simd reductions and threadgroup memory; with
    W = 1, which is how the CPU runs it, all of that falls away.
`MATHS`
    Functions that are as exact as the dtype can show.
"""

from __future__ import annotations

from zmlx.kernels._maths import MATHS as MATHS

CHUNKS = """
// Up to 16 bytes that move in one access.
template <typename T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) zmlx_pack {
  T values[N];
};

// N values as they are in memory, until a pass wants them as float: half the registers where T has 16 bits.
template <typename T, int N, bool PACKED>
struct zmlx_raw {
  T values[N];

  METAL_FUNC float at(int j) const { return static_cast<float>(values[j]); }
};

// In words, which are registers of CUDA: of values of 16 bits each would get a register to itself.
template <typename T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) zmlx_raw<T, N, true> {
  uint words[N * sizeof(T) / sizeof(uint)];

  METAL_FUNC float at(int j) const {
    if (sizeof(T) == sizeof(uint)) return as_type<float>(words[j]);
    if (sizeof(T) == 1) return float(words[j / 4] >> (j % 4 * 8) & 0xffu);  // a bool
    const uint word = words[j / 2];
    if (is_same_v<T, bfloat16_t>) return as_type<float>(j % 2 ? word & 0xffff0000u : word << 16);
    return static_cast<float>(as_type<half2>(word)[j % 2]);
  }
};

// Moves the first `count` of N neighbouring values of type T, which are float in between. Past them it reads
// `filling` and writes nothing. `sure`: the chunk is known to be whole, and its address to be `aligned`.
template <typename T, int N, bool PACKED>
struct zmlx_chunk {
  template <typename P>
  static METAL_FUNC bool aligned(P) {
    return true;
  }
  template <typename P>
  static METAL_FUNC void load(thread float* to, P from, uint count, float filling, bool sure = false) {
    if (sure || count >= N)
      for (int j = 0; j < N; ++j) to[j] = static_cast<float>(from[j]);
    else
      for (int j = 0; j < N; ++j) to[j] = uint(j) < count ? static_cast<float>(from[j]) : filling;
  }
  template <typename P>
  static METAL_FUNC zmlx_raw<T, N, false> raw(P from, uint count, float filling, bool sure = false) {
    zmlx_raw<T, N, false> read;
    for (int j = 0; j < N; ++j) read.values[j] = sure || uint(j) < count ? from[j] : static_cast<T>(filling);
    return read;
  }
  template <typename P>
  static METAL_FUNC zmlx_raw<T, N, false> one_by_one(P from) {
    return raw(from, N, 0.0f, true);
  }
  static METAL_FUNC void store(device T* to, const thread float* from, uint count, bool sure = false) {
    if (sure || count >= N)
      for (int j = 0; j < N; ++j) to[j] = static_cast<T>(from[j]);
    else
      for (int j = 0; j < N; ++j)
        if (uint(j) < count) to[j] = static_cast<T>(from[j]);
  }
};

// For CUDA. A view can begin anywhere, so every access looks at its address. Not for Metal, whose pointers have address
// spaces, nor for g++, which (as of 12) joins the two ways' equal loads before the test and takes them for aligned.
template <typename T, int N>
struct zmlx_chunk<T, N, true> {
  using pack = zmlx_pack<T, N>;
  using words = zmlx_raw<T, N, true>;

  template <typename P>
  static METAL_FUNC bool aligned(P at) {
    return reinterpret_cast<size_t>(at) % alignof(pack) == 0;
  }
  template <typename P>
  static METAL_FUNC void load(thread float* to, P from, uint count, float filling, bool sure = false) {
    if (sure || (count >= N && aligned(from))) {
      const words moved = *reinterpret_cast<const device words*>(from);
      for (int j = 0; j < N; ++j) to[j] = moved.at(j);
    } else {
      zmlx_chunk<T, N, false>::load(to, from, count, filling);
    }
  }
  template <typename P>
  static METAL_FUNC words raw(P from, uint count, float filling, bool sure = false) {
    if (sure || (count >= N && aligned(from))) return *reinterpret_cast<const device words*>(from);
    return as_type<words>(zmlx_chunk<T, N, false>::raw(from, count, filling));
  }
  // A whole chunk where it is seldom unaligned: slowly, because all values at once would take registers that those who
  // never come here lack.
  template <typename P>
  static METAL_FUNC words one_by_one(P from) {
    constexpr int M = N * sizeof(T) / sizeof(uint), BITS = 8 * sizeof(T);
    words read = {};
    _Pragma("unroll 1") for (int j = 0; j < N; ++j) {
      const zmlx_pack<T, sizeof(uint) / sizeof(T)> next = {from[j]};
      for (int m = 0; m < M; ++m) {
        const uint above = m + 1 < M ? read.words[m + 1] : as_type<uint>(next);
        read.words[m] = BITS == 32 ? above : read.words[m] >> BITS % 32 | above << (32 - BITS) % 32;
      }
    }
    return read;
  }
  static METAL_FUNC void store(device T* to, const thread float* from, uint count, bool sure = false) {
    if (sure || (count >= N && aligned(to))) {
      pack moved;
      for (int j = 0; j < N; ++j) moved.values[j] = static_cast<T>(from[j]);
      *reinterpret_cast<device words*>(to) = as_type<words>(moved);
    } else {
      zmlx_chunk<T, N, false>::store(to, from, count);
    }
  }
};

// Runs a body for the chunks of N that begin at `start` and are `stride` apart, up to `length`. The body sees
// where its chunk begins, `i`, and how many values it has, `count`: N, but for the last. The body is there
// twice because compilers vectorise it only where `count` is a constant.
#define ZMLX_CHUNKS(start, length, stride, ...) \\
  {                                             \\
    uint i = start;                             \\
    for (; i + N <= length; i += stride) {      \\
      constexpr uint count = N;                 \\
      __VA_ARGS__                               \\
    }                                           \\
    if (i < length) {                           \\
      const uint count = length - i;            \\
      __VA_ARGS__                               \\
    }                                           \\
  }

// The same for chunks that are next to each other, in an elementwise kernel. The body also sees whether access to the
// chunk is `sure`, which it is of all where `whole`: then the loads of one chunk do not wait for each other.
#define ZMLX_SPAN(begin, end, whole, ...)         \\
  if (whole) {                                    \\
    constexpr bool sure = true;                   \\
    constexpr uint count = N;                     \\
    for (uint i = begin; i < end; i += N) {       \\
      __VA_ARGS__                                 \\
    }                                             \\
  } else {                                        \\
    constexpr bool sure = false;                  \\
    ZMLX_CHUNKS(begin, end, N, __VA_ARGS__)       \\
  }
"""

ROWS = """
#define ZMLX_UNROLL _Pragma("unroll")
#define ZMLX_SCRATCH 256

// A thread keeps N partial results, independent chains that fill a vector register on the CPU, and joins them
// in pairs.
template <int N>
METAL_FUNC void zmlx_fill(thread float* parts, float value) {
  for (int j = 0; j < N; ++j) parts[j] = value;
}
template <int N>
METAL_FUNC float zmlx_sum(thread float* parts) {
  for (int pairs = N / 2; pairs > 0; pairs /= 2)
    for (int j = 0; j < pairs; ++j) parts[j] += parts[j + pairs];
  return parts[0];
}
template <int N>
METAL_FUNC float zmlx_largest(thread float* parts) {
  for (int pairs = N / 2; pairs > 0; pairs /= 2)
    for (int j = 0; j < pairs; ++j) parts[j] = parts[j] < parts[j + pairs] ? parts[j + pairs] : parts[j];
  return parts[0];
}

// The same, but NaN where there is one.
template <int N>
METAL_FUNC float zmlx_greatest(thread float* parts) {
  for (int pairs = N / 2; pairs > 0; pairs /= 2)
    for (int j = 0; j < pairs; ++j)
      parts[j] = parts[j + pairs] > parts[j] || parts[j + pairs] != parts[j + pairs] ? parts[j + pairs] : parts[j];
  return parts[0];
}

// The W threads of a row. Up to 32 of them lie within one simdgroup, which may hold several rows; of wider
// rows there is one a threadgroup. Each thread brings values and gets the results; all threads of the
// threadgroup must take part.
template <int W, int GROUPS = (W > 32 ? W / 32 : 1)>
struct zmlx_team {
  threadgroup float* scratch;  // ZMLX_SCRATCH values
  uint lane;
  uint simdgroup;
  uint turn;  // where in `scratch` the next values meet

  METAL_FUNC float sum(float value) {
    sums<1>(&value);
    return value;
  }
  // M sums at the price of one meeting.
  template <int M>
  METAL_FUNC void sums(thread float* values) {
    if (W == 1) return;
    for (int m = 0; m < M; ++m) {
      if (W < 32)
        for (ushort apart = W / 2; apart > 0; apart /= 2) values[m] += simd_shuffle_xor(values[m], apart);
      else
        values[m] = simd_sum(values[m]);
    }
    if (W <= 32) return;
    threadgroup const float* met = exchanged<M>(values);
    for (int m = 0; m < M; ++m) {
      float parts[GROUPS];
      for (int s = 0; s < GROUPS; ++s) parts[s] = met[m * GROUPS + s];
      values[m] = zmlx_sum<GROUPS>(parts);
    }
  }
  METAL_FUNC float largest(float value) {
    if (W == 1) return value;
    if (W < 32)
      for (ushort apart = W / 2; apart > 0; apart /= 2) value = max(value, simd_shuffle_xor(value, apart));
    else
      value = simd_max(value);
    if (W <= 32) return value;
    threadgroup const float* met = exchanged<1>(&value);
    float parts[GROUPS];
    for (int s = 0; s < GROUPS; ++s) parts[s] = met[s];
    return zmlx_largest<GROUPS>(parts);
  }

  // As `largest`, but NaN where there is one.
  METAL_FUNC float greatest(float value) {
    if (W == 1) return value;
    for (ushort apart = (W < 32 ? W : 32) / 2; apart > 0; apart /= 2) {
      const float other = simd_shuffle_xor(value, apart);
      value = other > value || other != other ? other : value;
    }
    if (W <= 32) return value;
    threadgroup const float* met = exchanged<1>(&value);
    float parts[GROUPS];
    for (int s = 0; s < GROUPS; ++s) parts[s] = met[s];
    return zmlx_greatest<GROUPS>(parts);
  }

  // The M values of each of the row's simdgroups. They meet in two places in turn: whoever writes to one of them
  // has passed the barrier of the other, and before that barrier all have read what was here.
  template <int M>
  METAL_FUNC threadgroup const float* exchanged(const thread float* values) {
    threadgroup float* place = scratch + turn;
    turn ^= ZMLX_SCRATCH / 2;
    if (lane == 0)
      for (int m = 0; m < M; ++m) place[m * GROUPS + simdgroup] = values[m];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return place;
  }
};

// A pass over the thread's chunks of a row: they begin at `start` and are W * N apart. The first K of them are
// in registers, in `held`, from ZMLX_HOLD on; those of longer rows, and with K = 0 all, are read again in each
// pass. The body sees a chunk's values in `v` and, where they are `kept`, the chunk's number `k`. The place of values
// beyond the row has `filling`; `refill`: it is not the filling with which they were read.
#define ZMLX_VALUES(filling, refill, ...)                 \\
  {                                                       \\
    ZMLX_UNROLL for (int k = 0; k < K; ++k) {             \\
      constexpr bool kept = true;                         \\
      constexpr uint i = 0, count = N;                    \\
      float v[N];                                         \\
      for (int j = 0; j < N; ++j) v[j] = held[k].at(j);   \\
      if (refill) zmlx_refill<N>(v, start + k * (W * N), reach, filling); \\
      __VA_ARGS__                                         \\
    }                                                     \\
    constexpr bool kept = false;                          \\
    constexpr int k = 0;                                  \\
    float v[N];                                           \\
    ZMLX_CHUNKS(start + K * W * N, length, W * N, {       \\
      chunk::load(v, in + i, count, filling);             \\
      __VA_ARGS__                                         \\
    })                                                    \\
  }

// The last pass: what the body leaves in `v` is stored to `out`. It also sees where the chunk begins, `i`, how many
// values it has, `count`, and whether access to it is `sure`.
#define ZMLX_RESULTS(filling, ...)                        \\
  {                                                       \\
    if (full) {                                           \\
      ZMLX_STORE_HELD(true, N, __VA_ARGS__)               \\
    } else {                                              \\
      ZMLX_STORE_HELD(false, length - i, __VA_ARGS__)     \\
    }                                                     \\
    constexpr bool kept = false, sure = false;            \\
    constexpr int k = 0;                                  \\
    float v[N];                                           \\
    ZMLX_CHUNKS(start + K * W * N, length, W * N, {       \\
      chunk::load(v, in + i, count, filling);             \\
      __VA_ARGS__                                         \\
      chunk::store(out + i, v, count);                    \\
    })                                                    \\
  }
#define ZMLX_STORE_HELD(sure_, count_, ...)               \\
  ZMLX_UNROLL for (int k = 0; k < K; ++k) {               \\
    constexpr bool kept = true, sure = sure_;             \\
    const uint i = start + k * (W * N);                   \\
    if (sure || i < length) {                             \\
      const uint count = count_;                          \\
      float v[N];                                         \\
      for (int j = 0; j < N; ++j) v[j] = held[k].at(j);   \\
      __VA_ARGS__                                         \\
      chunk::store(out + i, v, count, sure);              \\
    }                                                     \\
  }

// Reads the K chunks that begin at `start` and are W * N apart; `full`: all of them are whole and aligned. Then all
// loads are under way before the first value is used: that, and not the number of threads, fills the memory's pipes.
// `WHOLE`: they are whole at least.
template <typename T, int N, int K, int W, bool PACKED, bool WHOLE = false, typename P>
METAL_FUNC void zmlx_hold(
    thread zmlx_raw<T, N, PACKED>* held, P in, uint start, uint length, bool full, float filling) {
  using chunk = zmlx_chunk<T, N, PACKED>;
  if (full) {
    ZMLX_UNROLL for (int k = 0; k < K; ++k) held[k] = chunk::raw(in + start + k * (W * N), N, filling, true);
  } else {
    ZMLX_UNROLL for (int k = 0; k < K; ++k) {
      const uint i = start + k * (W * N);
      if (WHOLE)
        held[k] = chunk::one_by_one(in + i);
      else
        held[k] = chunk::raw(in + i, i < length ? length - i : 0, filling);
    }
  }
}
#define ZMLX_HOLD(held, in, start, full, filling) \\
  zmlx_raw<T, N, PACKED> held[K > 0 ? K : 1];     \\
  zmlx_hold<T, N, K, W, PACKED>(held, in, start, reach, full, filling);

// In the body of a pass: the same chunk of another array, of which ZMLX_HOLD holds as much.
#define ZMLX_BESIDE(c, held, in, filling)                      \\
  float c[N];                                                  \\
  if (kept)                                                    \\
    for (int j = 0; j < N; ++j) c[j] = held[k].at(j);          \\
  else                                                         \\
    chunk::load(c, in + i, count, filling);

// Gives the values beyond the row another filling.
template <int N>
METAL_FUNC void zmlx_refill(thread float* v, uint begin, uint length, float filling) {
  for (int j = 0; j < N; ++j) v[j] = begin + j < length ? v[j] : filling;
}
"""
