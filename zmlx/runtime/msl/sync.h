// What barriers, simdgroup functions and atomics declare on every target: flags, votes, memory orders, the atomic types,
// and which lane a lane reads from. host_*.h and cuda_*.h add what depends on how threads are run.
#pragma once

namespace metal {

enum class mem_flags : uint {
  mem_none = 0,
  mem_device = 1,
  mem_threadgroup = 2,
  mem_texture = 4,
  mem_threadgroup_imageblock = 8,
  mem_object_data = 16,
};
ZMLX_FN constexpr mem_flags operator|(mem_flags a, mem_flags b) {
  return static_cast<mem_flags>(static_cast<uint>(a) | static_cast<uint>(b));
}

enum memory_order {
  memory_order_relaxed,
  memory_order_acquire,
  memory_order_release,
  memory_order_acq_rel,
  memory_order_seq_cst,
};
enum thread_scope { thread_scope_thread, thread_scope_simdgroup, thread_scope_threadgroup, thread_scope_device };

template <class T>
struct atomic {
  static_assert(sizeof(T) <= 8, "an atomic holds at most 64 bits");
  T value;
};
using atomic_int = atomic<int>;
using atomic_uint = atomic<uint>;
using atomic_bool = atomic<bool>;
using atomic_float = atomic<float>;
using atomic_ulong = atomic<ulong>;

namespace zmlx_detail {

// What the lanes of a simdgroup or quadgroup answered: one bit a lane.
template <class Bits, Bits All>
class vote_of {
 public:
  using vote_t = Bits;
  vote_of() = default;
  ZMLX_FN explicit constexpr vote_of(vote_t bits) : bits_(bits) {}
  ZMLX_FN explicit constexpr operator vote_t() const { return bits_; }
  ZMLX_FN constexpr bool all() const { return (bits_ & All) == All; }
  ZMLX_FN constexpr bool any() const { return bits_ != 0; }

 private:
  vote_t bits_;
};

// The lane that lane `l` reads from, given the argument of the function; 32 or more where there is none.
struct FromLane { static ZMLX_FN uint lane(uint, uint a) { return a; } };
// The same lane for all.
struct FromOneLane : FromLane {};
struct FromUp { static ZMLX_FN uint lane(uint l, uint a) { return l - a; } };
struct FromDown { static ZMLX_FN uint lane(uint l, uint a) { return l + a; } };
struct FromXor { static ZMLX_FN uint lane(uint l, uint a) { return l ^ a; } };
struct FromRotateUp { static ZMLX_FN uint lane(uint l, uint a) { return (l - a) & 31u; } };
struct FromRotateDown { static ZMLX_FN uint lane(uint l, uint a) { return (l + a) & 31u; } };
template <class Source>
struct InQuad {
  static ZMLX_FN uint lane(uint l, uint a) {
    const uint in_quad = Source::lane(l & 3u, a);
    return in_quad < 4u ? (l & ~3u) + in_quad : 32u;
  }
};
struct QuadRotateUp { static ZMLX_FN uint lane(uint l, uint a) { return (l & ~3u) + ((l - a) & 3u); } };
struct QuadRotateDown { static ZMLX_FN uint lane(uint l, uint a) { return (l & ~3u) + ((l + a) & 3u); } };

}  // namespace zmlx_detail

using simd_vote = zmlx_detail::vote_of<ulong, 0xffffffffu>;
using quad_vote = zmlx_detail::vote_of<uint, 0xfu>;

}  // namespace metal
