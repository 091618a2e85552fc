// A threadgroup on the host: its shared memory, and its threads as fibers that meet at barriers and simd operations.
//
// Order is fixed: within a simdgroup lanes run in turn from one meeting point to the next, and simdgroups
// take turns at every meeting point. A GPU's simdgroups advance side by side too, so that a kernel that lacks
// a barrier, and mostly gets away with it there (mlx-lm#1700), does so here; finding it is the checker's job.
// Threads that have returned no longer take part, as on the GPU.
#pragma once

#include "host/checked.h"
#include "host/fiber.h"
#include "host/memory.h"

namespace zmlx {

struct Group;
struct Simdgroup;

constexpr size_t MAX_LANE_BYTES = 32;  // the largest value a simd operation exchanges: a vec<long, 4>

// Runs one simd operation for the lanes in `mask`, from Simdgroup::deposit to Simdgroup::result.
using Collective = void (*)(Simdgroup&, uint32_t mask);

// A place in the source: `id` grows along it, `line` is the author's.
struct Site {
  uint32_t id, line;
  explicit constexpr Site(uint32_t id_, uint32_t line_ = __builtin_LINE()) : id(id_), line(line_) {}
};
// A lane of a simdgroup, where it cannot be told from the stack.
struct Lane {
  uint32_t index;
};
// Ids from here on are lines: those of calls that the translator did not number.
constexpr uint32_t UNNUMBERED = 1u << 24;

// The loops and calls around the place where a thread is: for a loop its id and its iteration, for a call its id.
// A simd operation gathers the lanes whose paths are equal; of several paths the least comes first in the program.
struct Path {
  static constexpr uint32_t MAX_DEPTH = 24;
  uint32_t depth;
  uint32_t step[MAX_DEPTH];

  ZMLX_UNCHECKED uint32_t stored() const { return depth < MAX_DEPTH ? depth : MAX_DEPTH; }
  ZMLX_UNCHECKED void push(uint32_t value) {
    if (depth < MAX_DEPTH) step[depth] = value;
    ++depth;
  }
};

// The record at the top of every fiber's stack.
struct alignas(64) Fiber {
  Group* group;
  Simdgroup* simdgroup;
  uint32_t index;  // thread_index_in_threadgroup
  uint32_t lane;
  Path path;
};

struct Simdgroup {
  uint32_t live;        // lanes that have not returned
  uint32_t at_simd;     // lanes that wait in a simd operation
  uint32_t at_barrier;  // lanes that wait at a threadgroup barrier
  uint32_t first;       // thread index of lane 0
  uint32_t site[SIMD_WIDTH];  // where a waiting lane waits: the operation's id, and the path to it
  const Path* path[SIMD_WIDTH];
  Collective collective[SIMD_WIDTH];
  uint32_t argument[SIMD_WIDTH];
  alignas(64) unsigned char deposit[SIMD_WIDTH * (2 * MAX_LANE_BYTES - 1)];
  alignas(64) unsigned char result[SIMD_WIDTH * MAX_LANE_BYTES];

  ZMLX_UNCHECKED uint32_t runnable() const { return live & ~at_simd & ~at_barrier; }
  ZMLX_UNCHECKED int compare(uint32_t lane, uint32_t other) const;

  // What the lanes bring, an array for each size of value: diverged lanes may wait with values of different types.
  template <class T>
  ZMLX_UNCHECKED T* deposits() {
    static_assert(sizeof(T) <= MAX_LANE_BYTES, "a simd operation exchanges values of at most 32 bytes");
    static_assert((sizeof(T) & (sizeof(T) - 1)) == 0, "a simd operation exchanges no packed vectors of three");
    return reinterpret_cast<T*>(deposit + SIMD_WIDTH * (sizeof(T) - 1));
  }
};

// Whether a lane waits before (-1), in (0) or behind (1) the operation that another lane waits in.
ZMLX_UNCHECKED inline int Simdgroup::compare(uint32_t lane, uint32_t other) const {
  const Path &a = *path[lane], &b = *path[other];
  const uint32_t depth_a = a.stored(), depth_b = b.stored();
  uint32_t i = 0;
  while (i < depth_a && i < depth_b && a.step[i] == b.step[i]) ++i;
  const uint32_t step_a = i < depth_a ? a.step[i] : site[lane];
  const uint32_t step_b = i < depth_b ? b.step[i] : site[other];
  return step_a == step_b ? 0 : step_a < step_b ? -1 : 1;
}

ZMLX_UNCHECKED inline uint32_t lowest(uint32_t mask) { return static_cast<uint32_t>(__builtin_ctz(mask)); }

// Who goes on next. Checked runs try other orders too.
#if defined(ZMLX_CHECKED)
#define ZMLX_CHOOSE(runnable, above) \
  (check::schedule == 0 ? lowest((above) ? (above) : (runnable)) : check::next_lane(runnable))
#define ZMLX_PREFER(from, proposed) \
  check::next_simdgroup(*this, static_cast<uint32_t>((from)->simdgroup - simdgroup), proposed)
#define ZMLX_FIRST(live) check::first_thread(live)
#else
#define ZMLX_FIRST(live) 0
#define ZMLX_CHOOSE(runnable, above) lowest((above) ? (above) : (runnable))
#define ZMLX_PREFER(from, proposed) (proposed)
#endif

struct Group : GroupMemory {
  uint32_t live;        // threads that have not returned
  uint32_t at_barrier;  // threads that wait at a threadgroup barrier
  uint32_t simdgroups;
  uint32_t first_simdgroup;  // with simd operations only, simdgroups run one at a time
  void (*body)(Group&, uint32_t thread);
  const void* closure;
  Context scheduler;
  Context context[MAX_GROUP_THREADS];  // of each fiber; together, since a switch to a cold line costs more than the rest
  Simdgroup simdgroup[MAX_GROUP_THREADS / SIMD_WIDTH];

  using GroupMemory::GroupMemory;

  // With one simdgroup alive at a time, all of them share the first 32 stacks.
  ZMLX_UNCHECKED uint32_t stack_of(uint32_t thread) const { return thread - first_simdgroup * SIMD_WIDTH; }

  void run_simdgroups(uint32_t first, uint32_t count);
  void leave(Fiber* from);
  void finish(Fiber* from);

 private:
  void start(uint32_t index, uint32_t simd_index);
  Simdgroup* settle(uint32_t preferred);
  void go(Fiber* from, Simdgroup& to, uint32_t lane);
};

// The fiber that runs this code, from its stack pointer.
inline __attribute__((always_inline)) Fiber* self() {
  uintptr_t here;
#if defined(__x86_64__)
  asm("movq %%rsp, %0" : "=r"(here));
#elif defined(__aarch64__)
  asm("mov %0, sp" : "=r"(here));
#else
  here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
#endif
  return reinterpret_cast<Fiber*>(stack_top(here) - sizeof(Fiber));
}

ZMLX_UNCHECKED inline void fiber_main() {
  Fiber* me = self();
  ZMLX_ON_CHECK(check::begins(me);)
  me->group->body(*me->group, me->index);
  me->group->finish(me);
}

ZMLX_UNCHECKED inline void Group::start(uint32_t index, uint32_t simd_index) {
  const uint32_t stack = stack_of(index);
  char* base = worker->stacks + stack * STACK_SIZE;
  Fiber* f = reinterpret_cast<Fiber*>(stack_top(reinterpret_cast<uintptr_t>(base)) - sizeof(Fiber));
  f->group = this;
  f->simdgroup = &simdgroup[simd_index];
  f->index = index;
  f->lane = index % SIMD_WIDTH;
  f->path.depth = 0;
  context[stack] = make_context(reinterpret_cast<char*>(f), fiber_main);
}

// Runs `count` simdgroups from `first` on until all their threads have returned.
ZMLX_UNCHECKED inline void Group::run_simdgroups(uint32_t first, uint32_t count) {
  first_simdgroup = first;
  simdgroups = first + count;
  live = 0;
  at_barrier = 0;
  for (uint32_t s = first; s < simdgroups; ++s) {
    uint32_t begin = s * SIMD_WIDTH;
    uint32_t lanes = threads - begin < SIMD_WIDTH ? threads - begin : SIMD_WIDTH;
    Simdgroup& simd = simdgroup[s];
    simd.live = lanes == SIMD_WIDTH ? ~0u : (1u << lanes) - 1;
    simd.at_simd = simd.at_barrier = 0;
    simd.first = begin;
    for (uint32_t lane = 0; lane < lanes; ++lane) start(begin + lane, s);
    live += lanes;
  }
  MainContext main;
  scheduler = main.context();
  switch_context(scheduler, context[ZMLX_FIRST(live)]);
}

inline __attribute__((always_inline)) void Group::go(Fiber* from, Simdgroup& to, uint32_t lane) {
  const uint32_t here = stack_of(from->index), there = stack_of(to.first + lane);
  // Fibers mostly run in turn: fetch the stack of the one after the next.
  if (there + 1 < MAX_GROUP_THREADS) __builtin_prefetch(context[there + 1]);
  if (there != here) switch_context(context[here], context[there]);
}

// Finds a simdgroup that can go on, releasing what can be released; null when every thread has returned.
ZMLX_UNCHECKED inline Simdgroup* Group::settle(uint32_t preferred) {
  for (;;) {
    for (uint32_t k = 0, s = preferred; k < simdgroups - first_simdgroup; ++k) {
      Simdgroup& simd = simdgroup[s];
      if (simd.runnable()) return &simd;
      if (simd.at_simd) {
        // No lane can reach a further operation before one of these is done. Diverged lanes wait at several: the
        // one that comes first in the program goes first, so that lanes meet again behind the branch.
        uint32_t chosen = lowest(simd.at_simd), mask = 1u << chosen;
        for (uint32_t left = simd.at_simd & (simd.at_simd - 1); left; left &= left - 1) {
          const uint32_t lane = lowest(left);
          const int order = simd.compare(lane, chosen);
          if (order < 0) {
            chosen = lane;
            mask = 1u << lane;
          } else if (order == 0 && simd.collective[lane] == simd.collective[chosen]) {
            mask |= 1u << lane;
          }
        }
        ZMLX_ON_CHECK(check::collects(*this, simd, mask, chosen);)
        simd.collective[chosen](simd, mask);
        simd.at_simd &= ~mask;
        return &simd;
      }
      if (++s == simdgroups) s = first_simdgroup;
    }
    if (live == 0) return nullptr;
    ZMLX_ON_CHECK(check::releases(*this);)
    for (uint32_t s = first_simdgroup; s < simdgroups; ++s) simdgroup[s].at_barrier = 0;
    at_barrier = 0;
    preferred = first_simdgroup;
  }
}

// The calling fiber waits: another one runs until this one's operation is done.
ZMLX_UNCHECKED inline __attribute__((noinline)) void Group::leave(Fiber* from) {
  Simdgroup* simd = from->simdgroup;
  uint32_t runnable = simd->runnable();
  if (!runnable) {
    const uint32_t next = static_cast<uint32_t>(simd - simdgroup) + 1;
    simd = settle(ZMLX_PREFER(from, next == simdgroups ? first_simdgroup : next));
    runnable = simd->runnable();
  }
  uint32_t above = simd == from->simdgroup ? runnable & ~((2u << from->lane) - 1) : 0;
  go(from, *simd, ZMLX_CHOOSE(runnable, above));
}

ZMLX_UNCHECKED inline __attribute__((noinline)) void Group::finish(Fiber* from) {
  from->simdgroup->live &= ~(1u << from->lane);
  --live;
  ZMLX_ON_CHECK(check::returns(from);)
  const uint32_t current = static_cast<uint32_t>(from->simdgroup - simdgroup);
  Simdgroup* simd = settle(ZMLX_PREFER(from, current));
  if (simd == nullptr)
    switch_context(context[stack_of(from->index)], scheduler);
  else
    go(from, *simd, ZMLX_CHOOSE(simd->runnable(), 0));
  __builtin_unreachable();
}

ZMLX_UNCHECKED inline void barrier() {
  Fiber* me = self();
  Group& group = *me->group;
  me->simdgroup->at_barrier |= 1u << me->lane;
  if (++group.at_barrier == group.live) {
    ZMLX_ON_CHECK(check::releases(group);)
    for (uint32_t s = group.first_simdgroup; s < group.simdgroups; ++s) group.simdgroup[s].at_barrier = 0;
    group.at_barrier = 0;
    return;
  }
  group.leave(me);
}

#if defined(ZMLX_CHECKED)
ZMLX_NOINLINE_IF_CHECKED inline void checked_barrier(uint32_t flags, uint32_t line) {
  Fiber* me = self();
  check::waits(me, check::BARRIER, flags, line, __builtin_return_address(0));
  barrier();
  check::resumes(me);
}
#endif

// One simd operation: every lane brings a value and an argument, and takes Op's result for it away. `Op::run(in,
// out, argument, mask)` sees the lanes that execute this operation together.
template <class Op, class T>
ZMLX_UNCHECKED void run_collective(Simdgroup& simd, uint32_t mask) {
  Op::run(static_cast<const T*>(simd.deposits<T>()), reinterpret_cast<T*>(simd.result), simd.argument, mask);
}

template <class Op, class T>
ZMLX_NOINLINE_IF_CHECKED inline T collective(T value, uint32_t argument, Site site) {
  Fiber* me = self();
  Simdgroup& simd = *me->simdgroup;
  const uint32_t lane = me->lane;
  simd.deposits<T>()[lane] = value;
  simd.argument[lane] = argument;
  simd.site[lane] = site.id;
  simd.path[lane] = &me->path;
  simd.collective[lane] = run_collective<Op, T>;
  simd.at_simd |= 1u << lane;
  ZMLX_ON_CHECK(check::waits(me, check::IsFence<Op>::wait, argument, site.line, __builtin_return_address(0));)
  me->group->leave(me);
  ZMLX_ON_CHECK(check::resumes(me);)
  return reinterpret_cast<const T*>(simd.result)[lane];
}

// What the translator puts around a loop and a call in which lanes meet: see convergence.py. Without fibers they
// are nothing.
#if defined(ZMLX_SINGLE_THREAD)
class Loop {
 public:
  explicit Loop(uint32_t) {}
  bool once() { return again_ && !(again_ = false); }
  bool next() { return true; }

 private:
  bool again_ = true;
};
template <class F>
inline __attribute__((always_inline)) decltype(auto) call(uint32_t, F f) {
  return f();
}
#else
class Loop {
 public:
  ZMLX_UNCHECKED explicit Loop(uint32_t id) : path_(self()->path), iteration_(path_.depth + 1) {
    path_.push(id);
    path_.push(0);
  }
  ZMLX_UNCHECKED ~Loop() { path_.depth -= 2; }
  bool once() { return again_ && !(again_ = false); }
  ZMLX_UNCHECKED bool next() {
    if (iteration_ < Path::MAX_DEPTH) ++path_.step[iteration_];
    return true;
  }

 private:
  Path& path_;
  const uint32_t iteration_;
  bool again_ = true;
};

class Call {
 public:
  ZMLX_UNCHECKED explicit Call(uint32_t id) : path_(self()->path) { path_.push(id); }
  ZMLX_UNCHECKED ~Call() { --path_.depth; }

 private:
  Path& path_;
};
template <class F>
inline decltype(auto) call(uint32_t id, F f) {
  const Call here(id);
  return f();
}
#endif

}  // namespace zmlx
