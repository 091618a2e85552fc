// A threadgroup on the host: its shared memory, and its threads as fibers that meet at barriers and simd operations.
//
// Order is fixed: within a simdgroup lanes run in turn from one meeting point to the next, and simdgroups run in
// turn from one barrier to the next. Threads that have returned no longer take part, as on the GPU.
#pragma once

#include "host_fiber.h"
#include "host_launch.h"

namespace zmlx {

struct Group;
struct Simdgroup;

constexpr size_t MAX_LANE_BYTES = 32;  // the largest value a simd operation exchanges: a vec<long, 4>

// Runs one simd operation for the lanes in `mask`, from Simdgroup::deposit to Simdgroup::result.
using Collective = void (*)(Simdgroup&, uint32_t mask);

// The record at the top of every fiber's stack.
struct alignas(64) Fiber {
  Group* group;
  Simdgroup* simdgroup;
  uint32_t index;  // thread_index_in_threadgroup
  uint32_t lane;
};

struct Simdgroup {
  uint32_t live;        // lanes that have not returned
  uint32_t at_simd;     // lanes that wait in a simd operation
  uint32_t at_barrier;  // lanes that wait at a threadgroup barrier
  uint32_t first;       // thread index of lane 0
  uint32_t site[SIMD_WIDTH];  // where a waiting lane waits: the operation's source line
  Collective collective[SIMD_WIDTH];
  uint32_t argument[SIMD_WIDTH];
  alignas(64) unsigned char deposit[SIMD_WIDTH * MAX_LANE_BYTES];
  alignas(64) unsigned char result[SIMD_WIDTH * MAX_LANE_BYTES];

  uint32_t runnable() const { return live & ~at_simd & ~at_barrier; }
};

inline uint32_t lowest(uint32_t mask) { return static_cast<uint32_t>(__builtin_ctz(mask)); }

struct Group {
  Launch* launch;
  Worker* worker;
  Extent position;
  Extent size;
  uint32_t threads;
  uint32_t live;        // threads that have not returned
  uint32_t at_barrier;  // threads that wait at a threadgroup barrier
  uint32_t simdgroups;
  uint32_t first_simdgroup;  // with simd operations only, simdgroups run one at a time
  uint32_t memory_used;
  uint32_t slot_offset[256];  // offset + 1 of each threadgroup variable; 0: not yet placed
  void (*body)(Group&, uint32_t thread);
  const void* closure;
  Context scheduler;
  Context context[MAX_GROUP_THREADS];  // of each fiber; together, since a switch to a cold line costs more than the rest
  Simdgroup simdgroup[MAX_GROUP_THREADS / SIMD_WIDTH];

  Group(Launch* l, Worker* w) : launch(l), worker(w), memory_used(0), slot_offset{} {}

  // Storage of the threadgroup variable that the translator numbered `id`. Contents are what was there before, as
  // on the GPU.
  template <class T>
  T& slot(int id) {
    static_assert(sizeof(T) <= MAX_GROUP_MEMORY, "a threadgroup variable is larger than the 32768 bytes Metal has");
    uint32_t& offset = slot_offset[id & 255];
    if (offset == 0) {
      memory_used = (memory_used + 15u) & ~15u;
      offset = memory_used + 1;
      memory_used += static_cast<uint32_t>(sizeof(T));
      if (memory_used > MAX_GROUP_MEMORY) {
        __atomic_store_n(&launch->group_memory, memory_used, __ATOMIC_RELAXED);
        __atomic_store_n(&launch->error, GROUP_MEMORY, __ATOMIC_RELAXED);
        offset = 1;  // the launch has failed: what it computes from here on is thrown away
        memory_used = static_cast<uint32_t>(sizeof(T));
      }
    }
    return *reinterpret_cast<T*>(worker->memory + (offset - 1));
  }

  // With one simdgroup alive at a time, all of them share the first 32 stacks.
  uint32_t stack_of(uint32_t thread) const { return thread - first_simdgroup * SIMD_WIDTH; }

  void place(const GroupPosition& at) {
    position = at.position;
    size = at.size;
    threads = at.threads();
  }

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

inline void fiber_main() {
  Fiber* me = self();
  me->group->body(*me->group, me->index);
  me->group->finish(me);
}

inline void Group::start(uint32_t index, uint32_t simd_index) {
  const uint32_t stack = stack_of(index);
  char* base = worker->stacks + stack * STACK_SIZE;
  Fiber* f = reinterpret_cast<Fiber*>(stack_top(reinterpret_cast<uintptr_t>(base)) - sizeof(Fiber));
  f->group = this;
  f->simdgroup = &simdgroup[simd_index];
  f->index = index;
  f->lane = index % SIMD_WIDTH;
  context[stack] = make_context(reinterpret_cast<char*>(f), fiber_main);
}

// Runs `count` simdgroups from `first` on until all their threads have returned.
inline void Group::run_simdgroups(uint32_t first, uint32_t count) {
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
  switch_context(scheduler, context[0]);
}

inline __attribute__((always_inline)) void Group::go(Fiber* from, Simdgroup& to, uint32_t lane) {
  const uint32_t here = stack_of(from->index), there = stack_of(to.first + lane);
  // Fibers mostly run in turn: fetch the stack of the one after the next.
  if (there + 1 < MAX_GROUP_THREADS) __builtin_prefetch(context[there + 1]);
  if (there != here) switch_context(context[here], context[there]);
}

// Finds a simdgroup that can go on, releasing what can be released; null when every thread has returned.
inline Simdgroup* Group::settle(uint32_t preferred) {
  for (;;) {
    for (uint32_t k = 0, s = preferred; k < simdgroups - first_simdgroup; ++k) {
      Simdgroup& simd = simdgroup[s];
      if (simd.runnable()) return &simd;
      if (simd.at_simd) {
        // No lane can reach a further operation before one of these is done. Diverged lanes wait at several: the
        // one that comes first in the source goes first, so that lanes meet again after the branch.
        uint32_t chosen = lowest(simd.at_simd);
        for (uint32_t left = simd.at_simd; left; left &= left - 1)
          if (simd.site[lowest(left)] < simd.site[chosen]) chosen = lowest(left);
        uint32_t mask = 0;
        for (uint32_t left = simd.at_simd; left; left &= left - 1) {
          uint32_t lane = lowest(left);
          if (simd.site[lane] == simd.site[chosen] && simd.collective[lane] == simd.collective[chosen])
            mask |= 1u << lane;
        }
        simd.collective[chosen](simd, mask);
        simd.at_simd &= ~mask;
        return &simd;
      }
      if (++s == simdgroups) s = first_simdgroup;
    }
    if (live == 0) return nullptr;
    for (uint32_t s = first_simdgroup; s < simdgroups; ++s) simdgroup[s].at_barrier = 0;
    at_barrier = 0;
    preferred = first_simdgroup;
  }
}

// The calling fiber waits: another one runs until this one's operation is done.
inline __attribute__((noinline)) void Group::leave(Fiber* from) {
  Simdgroup* simd = from->simdgroup;
  uint32_t runnable = simd->runnable();
  if (!runnable) {
    simd = settle(static_cast<uint32_t>(simd - simdgroup));
    runnable = simd->runnable();
  }
  uint32_t above = simd == from->simdgroup ? runnable & ~((2u << from->lane) - 1) : 0;
  go(from, *simd, lowest(above ? above : runnable));
}

inline __attribute__((noinline)) void Group::finish(Fiber* from) {
  from->simdgroup->live &= ~(1u << from->lane);
  --live;
  Simdgroup* simd = settle(static_cast<uint32_t>(from->simdgroup - simdgroup));
  if (simd == nullptr)
    switch_context(context[stack_of(from->index)], scheduler);
  else
    go(from, *simd, lowest(simd->runnable()));
  __builtin_unreachable();
}

inline void barrier() {
  Fiber* me = self();
  Group& group = *me->group;
  me->simdgroup->at_barrier |= 1u << me->lane;
  if (++group.at_barrier == group.live) {
    for (uint32_t s = group.first_simdgroup; s < group.simdgroups; ++s) group.simdgroup[s].at_barrier = 0;
    group.at_barrier = 0;
    return;
  }
  group.leave(me);
}

// One simd operation: every lane brings a value and an argument, and takes Op's result for it away. `Op::run(in,
// out, argument, mask)` sees the lanes that execute this operation together.
template <class Op, class T>
void run_collective(Simdgroup& simd, uint32_t mask) {
  Op::run(reinterpret_cast<const T*>(simd.deposit), reinterpret_cast<T*>(simd.result), simd.argument, mask);
}

template <class Op, class T>
inline T collective(T value, uint32_t argument, uint32_t site) {
  static_assert(sizeof(T) <= MAX_LANE_BYTES, "a simd operation exchanges values of at most 32 bytes");
  Fiber* me = self();
  Simdgroup& simd = *me->simdgroup;
  const uint32_t lane = me->lane;
  reinterpret_cast<T*>(simd.deposit)[lane] = value;
  simd.argument[lane] = argument;
  simd.site[lane] = site;
  simd.collective[lane] = run_collective<Op, T>;
  simd.at_simd |= 1u << lane;
  me->group->leave(me);
  return reinterpret_cast<const T*>(simd.result)[lane];
}

}  // namespace zmlx
