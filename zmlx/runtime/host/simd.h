// Barriers, simdgroup and quadgroup functions on the host.
//
// Reductions add up in the order of a butterfly (lane ^ 16, ^ 8, … ^ 1), the order that shuffles take on a GPU, so
// that the back ends agree to the bit where the hardware does the same. Inactive lanes contribute nothing.
//
// With ZMLX_SINGLE_THREAD every threadgroup has one thread: barriers do nothing, reductions return their argument,
// and the compiler sees a plain loop.
#pragma once

#include "host/group.h"
#include "msl/sync.h"

namespace metal {

namespace zmlx_detail {

#if defined(ZMLX_SINGLE_THREAD)
template <class Op, class T>
inline __attribute__((always_inline)) T meet(T value, uint32_t argument, zmlx::Site) {
  T result;
  Op::run(&value, &result, &argument, 1u);
  return result;
}
inline __attribute__((always_inline)) void meet_group() {}
#else
template <class Op, class T>
ZMLX_INLINE T meet(T value, uint32_t argument, zmlx::Site site) {
  return zmlx::collective<Op>(value, argument, site);
}
inline void meet_group() { zmlx::barrier(); }
#endif

template <class F>
inline __attribute__((always_inline)) void each(uint32_t mask, F f) {
#if defined(ZMLX_SINGLE_THREAD)
  (void)mask;
  f(0u);
#else
  for (; mask; mask &= mask - 1) f(zmlx::lowest(mask));
#endif
}

constexpr uint32_t quad_mask(uint32_t lane, uint32_t mask) { return mask & (0xfu << (lane & ~3u)); }

#if defined(ZMLX_CHECKED)
// Which lanes a source may name: any that takes part, or one behind the end too; and whether a block of `Together`
// lanes must name the same.
template <class Source>
struct LaneRule {
  static constexpr bool edge = false;
  static constexpr uint32_t together = 1;
};
template <>
struct LaneRule<FromUp> {
  static constexpr bool edge = true;
  static constexpr uint32_t together = 1;
};
template <>
struct LaneRule<FromDown> : LaneRule<FromUp> {};
template <>
struct LaneRule<InQuad<FromUp>> : LaneRule<FromUp> {};
template <>
struct LaneRule<InQuad<FromDown>> : LaneRule<FromUp> {};
template <>
struct LaneRule<FromOneLane> {
  static constexpr bool edge = false;
  static constexpr uint32_t together = 32;
};
template <>
struct LaneRule<InQuad<FromOneLane>> {
  static constexpr bool edge = false;
  static constexpr uint32_t together = 4;
};
template <class Source>
ZMLX_UNCHECKED void check_read(const uint32_t* argument, uint32_t mask) {
  using Rule = LaneRule<Source>;
  each(mask, [&](uint32_t lane) ZMLX_UNCHECKED {
    zmlx::check::reads_lane(lane, Source::lane(lane, argument[lane]), mask, Rule::edge);
    const uint32_t block = Rule::together == 32 ? mask : mask & (0xfu << (lane & ~3u));
    const uint32_t first = zmlx::lowest(block);
    if (Rule::together > 1 && argument[lane] != argument[first])
      zmlx::check::lanes_differ(lane, argument[lane], argument[first]);
  });
}
template <class T>
ZMLX_UNCHECKED void check_reduction(uint32_t mask) {
  if constexpr (detail::is_integer<T>() && sizeof(T) == 8) zmlx::check::reduces_wide(zmlx::lowest(mask));
}
#endif

// --- what the lanes of one operation compute together -----------------------------------------------------------

struct Sum { template <class T> static T join(T a, T b) { return static_cast<T>(a + b); } };
struct Product { template <class T> static T join(T a, T b) { return static_cast<T>(a * b); } };
struct Min { template <class T> static T join(T a, T b) { return min(a, b); } };
struct Max { template <class T> static T join(T a, T b) { return max(a, b); } };
struct And { template <class T> static T join(T a, T b) { return static_cast<T>(a & b); } };
struct Or { template <class T> static T join(T a, T b) { return static_cast<T>(a | b); } };
struct Xor { template <class T> static T join(T a, T b) { return static_cast<T>(a ^ b); } };

// A butterfly over `Width` lanes. `holder` of a subtree is its lowest active lane.
template <class Op, uint32_t Width>
struct Reduce {
  template <class T>
  static void run(const T* in, T* out, const uint32_t*, uint32_t mask) {
    ZMLX_ON_CHECK(check_reduction<T>(mask);)
#if defined(ZMLX_SINGLE_THREAD)
    (void)mask;
    out[0] = in[0];
#else
    for (uint32_t base = 0; base < zmlx::SIMD_WIDTH; base += Width) {
      T value[Width];
      uint32_t alive = mask >> base;
      if (Width < 32) alive &= (1u << (Width & 31)) - 1;
      if (!alive) continue;
      if (mask == ~0u) {  // the usual case, without a question for each lane
        for (uint32_t i = 0; i < Width; ++i) value[i] = in[base + i];
        for (uint32_t step = Width / 2; step; step /= 2)
          for (uint32_t i = 0; i < step; ++i) value[i] = Op::join(value[i], value[i + step]);
      } else {
        join_alive(in + base, value, alive);
      }
      const T result = value[0];
      for (uint32_t i = 0; i < Width; ++i) out[base + i] = result;
    }
#endif
  }

  template <class T>
  static void join_alive(const T* in, T* value, uint32_t alive) {
    for (uint32_t i = 0; i < Width; ++i)
      if (alive >> i & 1) value[i] = in[i];
    for (uint32_t step = Width / 2; step; step /= 2) {
      for (uint32_t i = 0; i < step; ++i) {
        const bool low = alive >> i & 1, high = alive >> (i + step) & 1;
        if (low && high)
          value[i] = Op::join(value[i], value[i + step]);
        else if (high)
          value[i] = value[i + step];
        if (high) alive |= 1u << i;
      }
    }
  }
};

template <class Op, bool Inclusive, uint32_t Width>
struct Prefix {
  template <class T>
  static void run(const T* in, T* out, const uint32_t* identity, uint32_t mask) {
    ZMLX_ON_CHECK(check_reduction<T>(mask);)
    const T empty = static_cast<T>(static_cast<int>(identity[zmlx::lowest(mask)]));
    T running = empty;
    uint32_t block = 0;
    bool first = true;
    each(mask, [&](uint32_t lane) {
      if (lane / Width != block) {
        block = lane / Width;
        running = empty;
        first = true;
      }
      T next = first ? in[lane] : Op::join(running, in[lane]);
      out[lane] = Inclusive ? next : running;
      running = next;
      first = false;
    });
  }
};

// The lane to read from, or `lane` itself where that one is not active.
inline uint32_t active_or(uint32_t from, uint32_t lane, uint32_t mask) {
  return from < zmlx::SIMD_WIDTH && (mask >> from & 1) ? from : lane;
}

// Reads the value of lane `source(lane, argument)`; a lane without an active source keeps its own.
template <class Source>
struct Read {
  template <class T>
  static void run(const T* in, T* out, const uint32_t* argument, uint32_t mask) {
    ZMLX_ON_CHECK(check_read<Source>(argument, mask);)
    each(mask, [&](uint32_t lane) { out[lane] = in[active_or(Source::lane(lane, argument[lane]), lane, mask)]; });
  }
};

template <uint32_t Width>
struct ReadFirst {
  template <class T>
  static void run(const T* in, T* out, const uint32_t*, uint32_t mask) {
    each(mask, [&](uint32_t lane) {
      out[lane] = in[zmlx::lowest(Width == 4 ? quad_mask(lane, mask) : mask)];
    });
  }
};

// Every lane gets the mask of active lanes whose argument is not zero (upper half: all active lanes).
struct Vote {
  static void run(const uint64_t*, uint64_t* out, const uint32_t* argument, uint32_t mask) {
    uint32_t yes = 0;
    each(mask, [&](uint32_t lane) { yes |= argument[lane] ? 1u << lane : 0u; });
    each(mask, [&](uint32_t lane) { out[lane] = static_cast<uint64_t>(mask) << 32 | yes; });
  }
};

ZMLX_INLINE uint64_t vote(bool yes, zmlx::Site site) { return meet<Vote>(uint64_t(0), yes ? 1u : 0u, site); }

struct Fence {
  static constexpr bool is_fence = true;
  static void run(const uint32_t*, uint32_t*, const uint32_t*, uint32_t) {}
};

inline uint32_t this_lane() {
#if defined(ZMLX_SINGLE_THREAD)
  return 0;
#else
  return zmlx::self()->lane;
#endif
}

}  // namespace zmlx_detail

// The translator numbers the calls that it sees. Others are told apart by their line, and come last.
#define ZMLX_SITE zmlx::Site site = zmlx::Site(zmlx::UNNUMBERED + __builtin_LINE(), __builtin_LINE())

#if defined(ZMLX_CHECKED)
ZMLX_INLINE void threadgroup_barrier(mem_flags flags, uint32_t line = __builtin_LINE()) {
  zmlx::checked_barrier(static_cast<uint32_t>(flags), line);
}
ZMLX_INLINE void simdgroup_barrier(mem_flags flags, ZMLX_SITE) {
  zmlx_detail::meet<zmlx_detail::Fence>(0u, static_cast<uint32_t>(flags), site);
}
#else
ZMLX_INLINE void threadgroup_barrier(mem_flags) { zmlx_detail::meet_group(); }
ZMLX_INLINE void simdgroup_barrier(mem_flags, ZMLX_SITE) { zmlx_detail::meet<zmlx_detail::Fence>(0u, 0u, site); }
#endif

#define ZMLX_REDUCE(name, Op)                                                            \
  template <class T>                                                                     \
  ZMLX_INLINE T simd_##name(T x, ZMLX_SITE) {                                                 \
    return zmlx_detail::meet<zmlx_detail::Reduce<zmlx_detail::Op, 32>>(x, 0u, site);     \
  }                                                                                      \
  template <class T>                                                                     \
  ZMLX_INLINE T quad_##name(T x, ZMLX_SITE) {                                                 \
    return zmlx_detail::meet<zmlx_detail::Reduce<zmlx_detail::Op, 4>>(x, 0u, site);      \
  }

#define ZMLX_PREFIX(name, Op, inclusive, identity)                                                    \
  template <class T>                                                                                  \
  ZMLX_INLINE T simd_prefix_##name(T x, ZMLX_SITE) {                                                  \
    return zmlx_detail::meet<zmlx_detail::Prefix<zmlx_detail::Op, inclusive, 32>>(x, identity, site); \
  }                                                                                                   \
  template <class T>                                                                                  \
  ZMLX_INLINE T quad_prefix_##name(T x, ZMLX_SITE) {                                                  \
    return zmlx_detail::meet<zmlx_detail::Prefix<zmlx_detail::Op, inclusive, 4>>(x, identity, site);  \
  }

#define ZMLX_READ(name, Source)                                                                       \
  template <class T>                                                                                  \
  ZMLX_INLINE T name(T x, uint32_t argument, ZMLX_SITE) {                                                  \
    return zmlx_detail::meet<zmlx_detail::Read<zmlx_detail::Source>>(x, argument, site);              \
  }

#define ZMLX_FILL(name, width, move, fill, condition)                                                 \
  template <class T>                                                                                  \
  ZMLX_INLINE T name(T data, T filling, uint32_t delta, uint32_t modulo, ZMLX_SITE) {                 \
    const uint32_t l = zmlx_detail::this_lane() % modulo;                                             \
    T moved = move(data, delta, site);                                                                \
    T filled = fill(filling, modulo - delta, site);                                                   \
    return condition ? moved : filled;                                                                \
  }                                                                                                   \
  template <class T>                                                                                  \
  ZMLX_INLINE T name(T data, T filling, uint32_t delta, ZMLX_SITE) {                                  \
    return name(data, filling, delta, width, site);                                                   \
  }

#include "msl/simd_table.h"

template <class T>
ZMLX_INLINE T simd_broadcast_first(T x, ZMLX_SITE) {
  return zmlx_detail::meet<zmlx_detail::ReadFirst<32>>(x, 0u, site);
}
template <class T>
ZMLX_INLINE T quad_broadcast_first(T x, ZMLX_SITE) {
  return zmlx_detail::meet<zmlx_detail::ReadFirst<4>>(x, 0u, site);
}

#define ZMLX_ANSWER(expr, answer)                                              \
  const uint64_t v = zmlx_detail::vote(expr, site);                                  \
  const uint32_t l = zmlx_detail::this_lane(), yes = static_cast<uint32_t>(v);       \
  const uint32_t active = static_cast<uint32_t>(v >> 32);                            \
  (void)l, (void)yes, (void)active;                                                  \
  return answer;
#define ZMLX_ASK(name, type, answer) \
  ZMLX_INLINE type name(bool expr, ZMLX_SITE) { ZMLX_ANSWER(expr, answer) }
#define ZMLX_COUNT(name, type, answer) \
  ZMLX_INLINE type name(ZMLX_SITE) { ZMLX_ANSWER(true, answer) }
#include "host/vote_table.h"
#undef ZMLX_ANSWER

#undef ZMLX_SITE

}  // namespace metal
