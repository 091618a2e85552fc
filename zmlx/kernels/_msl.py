"""Metal functions that several kernels of the catalogue share; each kernel's ``header`` begins with `CHUNKS`.

A kernel takes from them the two things that make one source fit three back ends:

`CHUNKS`
    A thread reads and writes N neighbouring values at a time, as float32. With ``PACKED`` they move in one access of
    up to 16 bytes where the address allows it; without, the compiler is left to merge or vectorise the accesses.
`ROWS`
    W threads share a row. Their partial results are joined by shuffles, simd reductions and threadgroup memory; with
    W = 1, which is how the CPU runs it, all of that falls away.
`each_row`
    A kernel's body from what it does with one row: the loop in which a team of W threads goes through the rows.
"""

CHUNKS = """
// Up to 16 bytes that move in one access.
template <typename T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) zmlx_pack {
  T values[N];
};

// Moves the first `count` of N neighbouring values of type T, which are float in between. Past them it reads
// `filling` and writes nothing.
template <typename T, int N, bool PACKED>
struct zmlx_chunk {
  template <typename P>
  static METAL_FUNC void load(thread float* to, P from, uint count, float filling) {
    if (count >= N)
      for (int j = 0; j < N; ++j) to[j] = static_cast<float>(from[j]);
    else
      for (int j = 0; j < N; ++j) to[j] = uint(j) < count ? static_cast<float>(from[j]) : filling;
  }
  static METAL_FUNC void store(device T* to, const thread float* from, uint count) {
    if (count >= N)
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

  template <typename P>
  static METAL_FUNC bool whole(P at, uint count) {
    return count >= N && reinterpret_cast<size_t>(at) % alignof(pack) == 0;
  }
  template <typename P>
  static METAL_FUNC void load(thread float* to, P from, uint count, float filling) {
    if (whole(from, count)) {
      const pack moved = *reinterpret_cast<const device pack*>(from);
      for (int j = 0; j < N; ++j) to[j] = static_cast<float>(moved.values[j]);
    } else {
      zmlx_chunk<T, N, false>::load(to, from, count, filling);
    }
  }
  static METAL_FUNC void store(device T* to, const thread float* from, uint count) {
    if (whole(to, count)) {
      pack moved;
      for (int j = 0; j < N; ++j) moved.values[j] = static_cast<T>(from[j]);
      *reinterpret_cast<device pack*>(to) = moved;
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
"""

ROWS = """
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

// The W threads of a row. Up to 32 of them lie within one simdgroup, which may hold several rows; of wider
// rows there is one a threadgroup. Each thread brings a value and gets the result; all threads of the
// threadgroup must take part.
template <int W>
struct zmlx_team {
  threadgroup float* scratch;  // 32 values
  uint lane;
  uint simdgroup;

  METAL_FUNC float sum(float value) const {
    if (W == 1) return value;
    if (W < 32) {
      for (ushort apart = W / 2; apart > 0; apart /= 2) value += simd_shuffle_xor(value, apart);
      return value;
    }
    value = simd_sum(value);
    return W == 32 ? value : simd_sum(exchanged(value, 0.0f));
  }
  METAL_FUNC float largest(float value) const {
    if (W == 1) return value;
    if (W < 32) {
      for (ushort apart = W / 2; apart > 0; apart /= 2) value = max(value, simd_shuffle_xor(value, apart));
      return value;
    }
    value = simd_max(value);
    return W == 32 ? value : simd_max(exchanged(value, -INFINITY));
  }

  // The values of the row's simdgroups, one a lane.
  METAL_FUNC float exchanged(float value, float filling) const {
    threadgroup_barrier(mem_flags::mem_threadgroup);  // all have read what was exchanged before
    if (lane == 0) scratch[simdgroup] = value;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return lane < W / 32 ? scratch[lane] : filling;
  }
};
"""

_EACH_ROW = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  threadgroup float scratch[32];
  const zmlx_team<W> team{scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup};
  const uint rows = x_shape[0], length = x_shape[1];
  const uint together = threads_per_threadgroup.x / W;
  const uint start = thread_index_in_threadgroup % W * N;
  for (uint first = threadgroup_position_in_grid.x * together; first < rows;
       first += threadgroups_per_grid.x * together) {
    const uint row = first + thread_index_in_threadgroup / W;
    const bool inside = row < rows;  // other threads take part in the reductions, with some row
    auto in = x + size_t(inside ? row : first) * length;
"""


def each_row(source: str) -> str:
    """A body that runs ``source`` for every row of ``x``. It sees the row as ``in``, its number as ``row``, its
    ``length``, where the thread's first chunk begins as ``start`` (the next is ``W * N`` on), and its ``team``."""
    return f"{_EACH_ROW}{source}  }}\n"
