// Barriers, simdgroup and quadgroup functions on CUDA, where a simdgroup is a warp.
//
// Each operation covers the lanes that execute it together, as on Metal: inactive lanes contribute nothing, and a lane
// that asks for an inactive one's value keeps its own. With all 32 lanes, reductions are butterflies (lane ^ 16, ^ 8,
// … ^ 1); with fewer, the same tree with the missing leaves left out. host/simd.h adds up in the same order, so that
// the back ends agree to the bit.
//
// Which lanes those are, the hardware says (__activemask). It reconverges the lanes of a warp after a branch or a loop
// before they reach the next operation, but does not promise to: code whose result depends on lanes of different
// branches meeting in one operation is as undefined here as it is in Metal.
#pragma once

#include "msl/sync.h"

namespace metal {

namespace zmlx_detail {

ZMLX_FN constexpr uint simd_width() { return 32; }
ZMLX_FN constexpr uint all_lanes() { return ~0u; }

ZMLX_FN uint this_lane() {
  uint lane;
  asm("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}
ZMLX_FN uint lowest(uint mask) { return static_cast<uint>(__ffs(static_cast<int>(mask))) - 1; }
ZMLX_FN uint quad_mask(uint mask) { return mask & (0xfu << (this_lane() & ~3u)); }

// --- moving values between lanes: any type of up to 32 bytes, a register at a time ---------------------------------

template <int Bytes>
struct Words {
  using word_t = conditional_t<Bytes % 4 == 0, uint, conditional_t<Bytes % 2 == 0, ushort, uchar>>;
  word_t word[Bytes / static_cast<int>(sizeof(word_t))];
};

template <class T>
ZMLX_FN Words<sizeof(T)> to_words(T value) {
  static_assert(sizeof(T) <= 32, "a simd operation exchanges values of at most 32 bytes");
  static_assert(sizeof(Words<sizeof(T)>) == sizeof(T), "words are as large as what they are made of");
  return __builtin_bit_cast(Words<sizeof(T)>, value);
}
template <class T>
ZMLX_FN T from_words(Words<sizeof(T)> words) {
  return __builtin_bit_cast(T, words);
}

template <class T>
ZMLX_FN T shuffle(uint mask, T value, uint source) {
  auto words = to_words(value);
#pragma unroll
  for (auto& word : words.word) word = __shfl_sync(mask, static_cast<uint>(word), source);
  return from_words<T>(words);
}
template <class T>
ZMLX_FN T shuffle_xor(T value, uint lanes) {
  auto words = to_words(value);
#pragma unroll
  for (auto& word : words.word) word = __shfl_xor_sync(all_lanes(), static_cast<uint>(word), lanes);
  return from_words<T>(words);
}
template <class T>
ZMLX_FN T shuffle_up(T value, uint lanes) {
  auto words = to_words(value);
#pragma unroll
  for (auto& word : words.word) word = __shfl_up_sync(all_lanes(), static_cast<uint>(word), lanes);
  return from_words<T>(words);
}

// --- reductions ----------------------------------------------------------------------------------------------------

// `join` takes the lower lane's value first. `commutes`: it need not. `warp`: one instruction for 32-bit integers, for
// any mask; ZMLX_MAX_WARP_BYTES is 0 where there is none.
#if __CUDA_ARCH__ >= 800
#define ZMLX_MAX_WARP_BYTES 4
#else
#define ZMLX_MAX_WARP_BYTES 0
#endif

#define ZMLX_OPERATION(Name, expression, commutes_, max_bytes, builtin) \
  struct Name {                                                         \
    static constexpr bool commutes() { return commutes_; }              \
    static constexpr size_t max_warp_bytes() { return max_bytes; }      \
    template <class T>                                                  \
    static ZMLX_FN T join(T a, T b) {                                   \
      return static_cast<T>(expression);                                \
    }                                                                   \
    template <class T>                                                  \
    static ZMLX_FN T warp(uint mask, T value) {                         \
      return builtin;                                                   \
    }                                                                   \
  };
#if __CUDA_ARCH__ >= 800
#define ZMLX_WARP(name, type) static_cast<T>(__reduce_##name##_sync(mask, static_cast<type>(value)))
#else
#define ZMLX_WARP(name, type) value
#endif
// Sign- or zero-extended to 32 bits, the smaller types compare and add up as they are.
template <class T>
using word_of = conditional_t<detail::has_sign<T>(), int, uint>;

ZMLX_OPERATION(Sum, a + b, true, ZMLX_MAX_WARP_BYTES, ZMLX_WARP(add, uint))
ZMLX_OPERATION(Product, a * b, true, 0, value)
ZMLX_OPERATION(Min, min(a, b), false, ZMLX_MAX_WARP_BYTES, ZMLX_WARP(min, word_of<T>))
ZMLX_OPERATION(Max, max(a, b), false, ZMLX_MAX_WARP_BYTES, ZMLX_WARP(max, word_of<T>))
ZMLX_OPERATION(And, a & b, true, ZMLX_MAX_WARP_BYTES, ZMLX_WARP(and, uint))
ZMLX_OPERATION(Or, a | b, true, ZMLX_MAX_WARP_BYTES, ZMLX_WARP(or, uint))
ZMLX_OPERATION(Xor, a ^ b, true, ZMLX_MAX_WARP_BYTES, ZMLX_WARP(xor, uint))
#undef ZMLX_OPERATION
#undef ZMLX_WARP
#undef ZMLX_MAX_WARP_BYTES

template <class Op, class T>
ZMLX_FN T join_ordered(T mine, T other, bool mine_is_lower) {
  if (Op::commutes()) return Op::join(mine, other);
  return mine_is_lower ? Op::join(mine, other) : Op::join(other, mine);
}

// The lanes whose number is that of `lane` modulo `period`.
ZMLX_FN uint lanes_like(uint lane, uint period) {
  const uint pattern = period == 32 ? 1u : period == 16 ? 0x10001u : period == 8 ? 0x1010101u
                       : period == 4 ? 0x11111111u : 0x55555555u;
  return pattern << (lane & (period - 1));
}

// After the step for `lane ^ step`, all lanes that are equal modulo `step` hold the same: any active one of them can
// stand for the partner.
template <class Op, uint Width, class T>
ZMLX_FN T reduce_some(T value, uint mask) {
  const uint lane = this_lane();
  const uint block = Width == 32 ? mask : quad_mask(mask);
#pragma unroll 1
  for (uint step = Width / 2; step; step /= 2) {
    const uint partners = block & lanes_like(lane ^ step, 2 * step);
    const T other = shuffle(mask, value, partners ? lowest(partners) : lane);
    if (partners) value = join_ordered<Op>(value, other, (lane & step) == 0);
  }
  return value;
}

template <class Op, uint Width, class T>
ZMLX_FN T reduce(T value) {
  const uint mask = __activemask();
  if constexpr (Width == 32 && detail::is_integer<T>() && !detail::same<T, bool>() &&
                sizeof(T) <= Op::max_warp_bytes()) {
    return Op::warp(mask, value);
  } else {
    if (mask != all_lanes()) return reduce_some<Op, Width>(value, mask);
#pragma unroll
    for (uint step = Width / 2; step; step /= 2)
      value = join_ordered<Op>(value, shuffle_xor(value, step), (this_lane() & step) == 0);
    return value;
  }
}

// --- prefix sums and products --------------------------------------------------------------------------------------

template <class Op, bool Inclusive, class T>
ZMLX_FN T prefix_some(T value, T identity, uint mask) {
  const uint lane = this_lane();
  T running = identity;
  bool first = true;
#pragma unroll 1
  for (uint left = mask; left; left &= left - 1) {
    const uint source = lowest(left);
    const T next = shuffle(mask, value, source);
    if (source < lane || (Inclusive && source == lane)) {
      running = first ? next : Op::join(running, next);
      first = false;
    }
  }
  return running;
}

template <class Op, bool Inclusive, class T>
ZMLX_FN T prefix(T value, int identity) {
  const uint mask = __activemask();
  const T empty = static_cast<T>(identity);
  if (mask != all_lanes()) return prefix_some<Op, Inclusive>(value, empty, mask);
  const uint lane = this_lane();
#pragma unroll
  for (uint step = 1; step < simd_width(); step *= 2) {
    const T below = shuffle_up(value, step);
    if (lane >= step) value = Op::join(below, value);
  }
  if (Inclusive) return value;
  const T before = shuffle_up(value, 1);
  return lane == 0 ? empty : before;
}

template <class Op, bool Inclusive, class T>
ZMLX_FN T prefix_quad(T value, int identity) {
  const uint mask = __activemask(), lane = this_lane();
  T running = static_cast<T>(identity);
  bool first = true;
#pragma unroll
  for (uint k = 0; k < 4; ++k) {
    const uint source = (lane & ~3u) + k;
    const T next = shuffle(mask, value, source);
    if ((mask >> source & 1u) && (source < lane || (Inclusive && source == lane))) {
      running = first ? next : Op::join(running, next);
      first = false;
    }
  }
  return running;
}

// --- reading other lanes -------------------------------------------------------------------------------------------

template <class Source, class T>
ZMLX_FN T read(T value, uint argument) {
  const uint mask = __activemask();
  const uint source = Source::lane(this_lane(), argument);
  const T found = shuffle(mask, value, source);
  return source < simd_width() && (mask >> source & 1u) ? found : value;
}

}  // namespace zmlx_detail

// --- what kernels call ---------------------------------------------------------------------------------------------

// Threads that have returned count as arrived. Both order all memory among the threads that meet, whatever the flags.
ZMLX_FN void threadgroup_barrier(mem_flags) { __syncthreads(); }
ZMLX_FN void simdgroup_barrier(mem_flags) { __syncwarp(); }

#define ZMLX_REDUCE(name, Op)                                          \
  template <class T>                                                   \
  ZMLX_FN T simd_##name(T x) {                                         \
    return zmlx_detail::reduce<zmlx_detail::Op, 32>(x);                \
  }                                                                    \
  template <class T>                                                   \
  ZMLX_FN T quad_##name(T x) {                                         \
    return zmlx_detail::reduce<zmlx_detail::Op, 4>(x);                 \
  }

#define ZMLX_PREFIX(name, Op, inclusive, identity)                            \
  template <class T>                                                          \
  ZMLX_FN T simd_prefix_##name(T x) {                                         \
    return zmlx_detail::prefix<zmlx_detail::Op, inclusive>(x, identity);      \
  }                                                                           \
  template <class T>                                                          \
  ZMLX_FN T quad_prefix_##name(T x) {                                         \
    return zmlx_detail::prefix_quad<zmlx_detail::Op, inclusive>(x, identity); \
  }

#define ZMLX_READ(name, Source)                                        \
  template <class T>                                                   \
  ZMLX_FN T name(T x, uint argument) {                                 \
    return zmlx_detail::read<zmlx_detail::Source>(x, argument);        \
  }

#define ZMLX_FILL(name, width, move, fill, condition)                  \
  template <class T>                                                   \
  ZMLX_FN T name(T data, T filling, uint delta, uint modulo = width) { \
    const uint l = zmlx_detail::this_lane() % modulo;                  \
    const T moved = move(data, delta);                                 \
    const T filled = fill(filling, modulo - delta);                    \
    return condition ? moved : filled;                                 \
  }

#include "msl/simd_table.h"

template <class T>
ZMLX_FN T simd_broadcast_first(T x) {
  const uint mask = __activemask();
  return zmlx_detail::shuffle(mask, x, zmlx_detail::lowest(mask));
}
template <class T>
ZMLX_FN T quad_broadcast_first(T x) {
  const uint mask = __activemask();
  return zmlx_detail::shuffle(mask, x, zmlx_detail::lowest(zmlx_detail::quad_mask(mask)));
}

ZMLX_FN simd_vote simd_ballot(bool expr) { return simd_vote(__ballot_sync(__activemask(), expr)); }
ZMLX_FN simd_vote simd_active_threads_mask() { return simd_vote(__activemask()); }
ZMLX_FN bool simd_all(bool expr) { return __all_sync(__activemask(), expr); }
ZMLX_FN bool simd_any(bool expr) { return __any_sync(__activemask(), expr); }
ZMLX_FN bool simd_is_first() { return zmlx_detail::lowest(__activemask()) == zmlx_detail::this_lane(); }
ZMLX_FN quad_vote quad_ballot(bool expr) {
  return quad_vote(__ballot_sync(__activemask(), expr) >> (zmlx_detail::this_lane() & ~3u) & 0xfu);
}
ZMLX_FN quad_vote quad_active_threads_mask() {
  return quad_vote(__activemask() >> (zmlx_detail::this_lane() & ~3u) & 0xfu);
}
ZMLX_FN bool quad_all(bool expr) {
  return zmlx_detail::quad_mask(__ballot_sync(__activemask(), !expr)) == 0;
}
ZMLX_FN bool quad_any(bool expr) { return zmlx_detail::quad_mask(__ballot_sync(__activemask(), expr)) != 0; }
ZMLX_FN bool quad_is_first() {
  return zmlx_detail::lowest(zmlx_detail::quad_mask(__activemask())) == zmlx_detail::this_lane();
}

}  // namespace metal
