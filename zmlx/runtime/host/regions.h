// Threads that meet, without fibers: what threads do between two meeting points is a loop over them, which the compiler
// can vectorise. regions.py writes kernels in this form; variables that live from one loop to the next have a place
// for each thread.
#pragma once

#include "host/simd.h"

namespace zmlx {

// Which threads of a threadgroup take part: one bit a lane, a word a simdgroup.
struct Lanes {
  uint32_t words;
  uint32_t bits[MAX_GROUP_THREADS / SIMD_WIDTH];

  bool any() const {
    uint32_t found = 0;
    for (uint32_t s = 0; s < words; ++s) found |= bits[s];
    return found != 0;
  }
  void drop(uint32_t thread) { bits[thread / SIMD_WIDTH] &= ~(1u << thread % SIMD_WIDTH); }
  Lanes without(const Lanes& others) const {
    Lanes left{words, {}};
    for (uint32_t s = 0; s < words; ++s) left.bits[s] = bits[s] & ~others.bits[s];
    return left;
  }
};

// The threads [begin, end) of a threadgroup: all, or one simdgroup of a kernel whose threads meet nowhere else.
struct Region : GroupMemory {
  uint32_t begin, end;

  using GroupMemory::GroupMemory;

  uint32_t first_word() const { return begin / SIMD_WIDTH; }
  uint32_t last_word() const { return (end + SIMD_WIDTH - 1) / SIMD_WIDTH; }

  // The lanes of a simdgroup that there are: the last one may be partial.
  uint32_t all_of(uint32_t word) const {
    const uint32_t lanes = end - word * SIMD_WIDTH;
    return lanes < SIMD_WIDTH ? (1u << lanes) - 1 : ~0u;
  }
  Lanes all() const {
    Lanes lanes{last_word(), {}};
    for (uint32_t s = first_word(); s < lanes.words; ++s) lanes.bits[s] = all_of(s);
    return lanes;
  }
  bool is_all(const Lanes& lanes) const {
    uint32_t missing = 0;
    for (uint32_t s = first_word(); s < last_word(); ++s) missing |= lanes.bits[s] ^ all_of(s);
    return missing == 0;
  }

  ZMLX_FN Extent local_of(uint32_t index) const {
    return Extent{index % size.x, index / size.x % size.y, index / size.x / size.y};
  }
  Thread thread(uint32_t index) const { return Thread{*launch, position, size, local_of(index), first}; }

  // Calls f(thread, its index) for all threads, a row of the threadgroup at a time. Between two meeting points
  // threads have no order that a correct kernel could rely on.
  template <class F>
  ZMLX_FN void each(const F& f) {
    const Launch here = *launch;
    const Extent group = position, extent = size;
    const Extent origin{bounded(first.x, MAX_POSITION), first.y, first.z};
    for (uint32_t start = begin, stop = end; start < stop;) {
      Extent row = local_of(start);
      row.x = bounded(row.x, MAX_GROUP_THREADS);
      const uint32_t from = bounded(start, MAX_GROUP_THREADS);
      const uint32_t in_row = extent.x - row.x, left = stop - start;
      const uint32_t count = bounded(in_row < left ? in_row : left, MAX_GROUP_THREADS);
#pragma GCC ivdep
      for (uint32_t i = 0; i < count; ++i)
        f(Thread{here, group, extent, Extent{row.x + i, row.y, row.z}, origin}, from + i);
      start += count;
    }
  }
  // The same for the threads in `lanes`, from which f may drop the one it is called for.
  template <class F>
  ZMLX_FN void each(const Lanes& lanes, const F& f) {
    if (is_all(lanes)) return each(f);
    each_of(lanes, f);
  }
  // Those of the threads in `lanes` for which f says yes.
  template <class F>
  ZMLX_FN Lanes where(const Lanes& lanes, const F& f) {
    Lanes found{lanes.words, {}};
    each_of(lanes, [&](const Thread& t, uint32_t index) ZMLX_LAMBDA {
      found.bits[index / SIMD_WIDTH] |= (f(t, index) ? 1u : 0u) << index % SIMD_WIDTH;
    });
    return found;
  }
  // Calls f(thread, its index, mask) once for each simdgroup, for the first of its lanes in `mask`.
  template <class F>
  ZMLX_FN void each_simdgroup(const F& f) {
    for (uint32_t s = first_word(); s < last_word(); ++s) simdgroup(s, all_of(s), f);
  }
  template <class F>
  ZMLX_FN void each_simdgroup(const Lanes& lanes, const F& f) {
    for (uint32_t s = first_word(); s < last_word(); ++s)
      if (lanes.bits[s]) simdgroup(s, lanes.bits[s], f);
  }

 private:
  template <class F>
  ZMLX_FN void simdgroup(uint32_t word, uint32_t mask, const F& f) {
    const uint32_t index = word * SIMD_WIDTH + lowest(mask);
    const bool flat = size.y * size.z == 1;
    f(Thread{*launch, position, size, flat ? Extent{index, 0, 0} : local_of(index), first}, index, mask);
  }
  template <class F>
  ZMLX_FN void each_of(const Lanes& lanes, const F& f) {
    const Launch here = *launch;
    const Extent group = position, extent = size, origin = first;
    const bool flat = extent.y * extent.z == 1;
    for (uint32_t s = first_word(); s < last_word(); ++s)
      for (uint32_t left = lanes.bits[s]; left; left &= left - 1) {
        const uint32_t index = s * SIMD_WIDTH + lowest(left);
        f(Thread{here, group, extent, flat ? Extent{index, 0, 0} : local_of(index), origin}, index);
      }
  }
};

// A place for each thread's value of a variable.
template <class T>
struct Each {
  static_assert(sizeof(T) <= 512, "a variable that lives across a barrier is too large for a loop over threads");
  alignas(64) unsigned char bytes[MAX_GROUP_THREADS * sizeof(T)];

  Each() {}
  // Filled with what f returns for each thread.
  template <class F>
  ZMLX_FN Each(Region& region, const F& f) {
    region.each([&](const Thread& t, uint32_t index) ZMLX_LAMBDA { (*this)[index] = f(t, index); });
  }
  template <class F>
  ZMLX_FN Each(Region& region, const Lanes& lanes, const F& f) {
    region.each(lanes, [&](const Thread& t, uint32_t index) ZMLX_LAMBDA { (*this)[index] = f(t, index); });
  }

  ZMLX_FN T& operator[](uint32_t index) { return *reinterpret_cast<T*>(bytes + index * sizeof(T)); }
  // Copies a value there; the result is the variable from then on.
  ZMLX_FN T& put(uint32_t index, const T& value) {
    T& place = (*this)[index];
    __builtin_memcpy(&place, &value, sizeof(T));
    return place;
  }
};
template <class V>
struct Type {
  using T = V;
};
template <class F>
using Returned = decltype(metal::declval<const F&>()(metal::declval<const Thread&>(), 0u));
template <class F>
Each(Region&, const F&) -> Each<Returned<F>>;
template <class F>
Each(Region&, const Lanes&, const F&) -> Each<Returned<F>>;

// What a lane brings to a simd operation, and how it takes the result away.
struct AsItIs {
  template <class T>
  static ZMLX_FN T of(T result, uint32_t) { return result; }
};
// Data and filling of a shuffle that fills.
template <class T>
struct Filled {
  T data, filling;
};
struct ItsData {
  template <class T>
  static ZMLX_FN T of(const Filled<T>& result, uint32_t) { return result.data; }
};
template <class Op, class Answer, class T>
struct Brought {
  using Operation = Op;
  using Value = T;
  using Takes = Answer;
  T value;
  uint32_t argument;
};
template <class Op, class Answer = AsItIs, class T>
ZMLX_FN Brought<Op, Answer, T> bring(T value, uint32_t argument) { return {value, argument}; }

// One simd operation of all simdgroups: the threads bring what f returns, and [i] is what thread i gets.
template <class B>
struct Met {
  using T = typename B::Value;
  alignas(64) T in[MAX_GROUP_THREADS];
  alignas(64) T out[MAX_GROUP_THREADS];
  uint32_t argument[MAX_GROUP_THREADS];

  template <class F>
  ZMLX_FN Met(Region& region, const F& f) {
    region.each(depositing(f));
    for (uint32_t s = region.first_word(); s < region.last_word(); ++s) run(s, region.all_of(s));
  }
  template <class F>
  ZMLX_FN Met(Region& region, const Lanes& lanes, const F& f) {
    region.each(lanes, depositing(f));
    for (uint32_t s = region.first_word(); s < region.last_word(); ++s)
      if (lanes.bits[s]) run(s, lanes.bits[s]);
  }

  ZMLX_FN auto operator[](uint32_t index) const { return B::Takes::of(out[index], index % SIMD_WIDTH); }

 private:
  template <class F>
  ZMLX_FN auto depositing(const F& f) {
    return [this, &f](const Thread& t, uint32_t index) ZMLX_LAMBDA {
      const B brought = f(t, index);
      in[index] = brought.value;
      argument[index] = brought.argument;
    };
  }
  ZMLX_FN void run(uint32_t s, uint32_t mask) {
    const uint32_t at = s * SIMD_WIDTH;
    B::Operation::run(static_cast<const T*>(in + at), out + at, argument + at, mask);
  }
};
template <class F>
Met(Region&, const F&) -> Met<Returned<F>>;
template <class F>
Met(Region&, const Lanes&, const F&) -> Met<Returned<F>>;

// Runs a kernel that is written as loops over its threads. `WholeGroup`: they meet at threadgroup barriers; else only
// within simdgroups, which then run one after the other.
template <bool WholeGroup, class Body>
ZMLX_FN void run_regions(Launch* launch, Worker* worker, uint64_t begin, uint64_t end, const Body& body) {
  Region region(launch, worker);
  for (uint64_t linear = begin; linear < end; ++linear) {
    region.place(GroupPosition(*launch, linear));
    const uint32_t step = WholeGroup ? region.threads : SIMD_WIDTH;
    for (region.begin = 0; region.begin < region.threads; region.begin += step) {
      region.end = region.begin + step < region.threads ? region.begin + step : region.threads;
      body(region);
    }
  }
}

}  // namespace zmlx

// The simd functions as what a lane brings to them: `simd_sum(x)` of a kernel is zmlx_bring::simd_sum(x) in the loop
// before the threads meet, and the result in the one after.
namespace metal {
namespace zmlx_bring {

#define ZMLX_REDUCE(name, Op)                                                \
  template <class T>                                                         \
  ZMLX_FN auto simd_##name(T x) {                                            \
    return zmlx::bring<zmlx_detail::Reduce<zmlx_detail::Op, 32>>(x, 0u);     \
  }                                                                          \
  template <class T>                                                         \
  ZMLX_FN auto quad_##name(T x) {                                            \
    return zmlx::bring<zmlx_detail::Reduce<zmlx_detail::Op, 4>>(x, 0u);      \
  }
#define ZMLX_PREFIX(name, Op, inclusive, identity)                                                  \
  template <class T>                                                                                \
  ZMLX_FN auto simd_prefix_##name(T x) {                                                            \
    return zmlx::bring<zmlx_detail::Prefix<zmlx_detail::Op, inclusive, 32>>(x, identity);           \
  }                                                                                                 \
  template <class T>                                                                                \
  ZMLX_FN auto quad_prefix_##name(T x) {                                                            \
    return zmlx::bring<zmlx_detail::Prefix<zmlx_detail::Op, inclusive, 4>>(x, identity);            \
  }
#define ZMLX_READ(name, Source)                                                        \
  using name##_source = zmlx_detail::Source;                                           \
  template <class T>                                                                   \
  ZMLX_FN auto name(T x, uint32_t argument) {                                          \
    return zmlx::bring<zmlx_detail::Read<name##_source>>(x, argument);                 \
  }
// Two reads in one operation: of the data, and of what fills the gap.
#define ZMLX_FILL(name, width, move, fill, condition)                                                   \
  struct name##_operation {                                                                             \
    template <class P>                                                                                  \
    static void run(const P* in, P* out, const uint32_t* argument, uint32_t mask) {                     \
      zmlx_detail::each(mask, [&](uint32_t lane) {                                                      \
        const uint32_t delta = argument[lane] & 0xffffu, modulo = argument[lane] >> 16;                 \
        const uint32_t l = lane % modulo;                                                               \
        const uint32_t moved = zmlx_detail::active_or(move##_source::lane(lane, delta), lane, mask);    \
        const uint32_t filled =                                                                         \
            zmlx_detail::active_or(fill##_source::lane(lane, modulo - delta), lane, mask);              \
        out[lane].data = condition ? in[moved].data : in[filled].filling;                               \
      });                                                                                               \
    }                                                                                                   \
  };                                                                                                    \
  template <class T>                                                                                    \
  ZMLX_FN auto name(T data, T filling, uint32_t delta, uint32_t modulo = width) {                       \
    return zmlx::bring<name##_operation, zmlx::ItsData>(zmlx::Filled<T>{data, filling}, delta | modulo << 16); \
  }
#include "msl/simd_table.h"

template <class T>
ZMLX_FN auto simd_broadcast_first(T x) {
  return zmlx::bring<zmlx_detail::ReadFirst<32>>(x, 0u);
}
template <class T>
ZMLX_FN auto quad_broadcast_first(T x) {
  return zmlx::bring<zmlx_detail::ReadFirst<4>>(x, 0u);
}

#define ZMLX_ANSWER(name, type, answer)                                        \
  struct name##_answer {                                                       \
    static ZMLX_FN type of(uint64_t v, uint32_t l) {                           \
      const uint32_t yes = static_cast<uint32_t>(v);                           \
      const uint32_t active = static_cast<uint32_t>(v >> 32);                  \
      (void)l, (void)yes, (void)active;                                        \
      return answer;                                                           \
    }                                                                          \
  };
#define ZMLX_ASK(name, type, answer)                                                                    \
  ZMLX_ANSWER(name, type, answer)                                                                       \
  ZMLX_FN auto name(bool expr) {                                                                        \
    return zmlx::bring<zmlx_detail::Vote, name##_answer>(uint64_t(0), expr ? 1u : 0u);                  \
  }
#define ZMLX_COUNT(name, type, answer)                                                        \
  ZMLX_ANSWER(name, type, answer)                                                             \
  ZMLX_FN auto name() {                                                                       \
    return zmlx::bring<zmlx_detail::Vote, name##_answer>(uint64_t(0), 1u);                    \
  }
#include "host/vote_table.h"
#undef ZMLX_ANSWER

}  // namespace zmlx_bring
}  // namespace metal
