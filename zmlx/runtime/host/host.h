// Everything a translated kernel sees on the host, and the loops that run it. Precompiled once a machine.
#pragma once

#include "msl/msl.h"

#include "host/simd.h"

#include "host/atomic.h"

#include "msl/simdgroup_matrix.h"

#define ZMLX_KERNEL static inline __attribute__((always_inline))

namespace zmlx {

ZMLX_UNCHECKED inline metal::uint3 as_uint3(Extent e) { return metal::uint3(e.x, e.y, e.z); }

// Tells the compiler that a number is small, so that positions do not wrap around within a loop. Without that it must
// take `out[i]` of neighbouring threads for elements that may lie apart, and vectorises nothing. Said of where a loop
// begins and how long it is: within the loop, the test would stand in the way.
#if defined(ZMLX_LARGE_GRID)
constexpr uint32_t MAX_POSITION = ~0u;
#else
constexpr uint32_t MAX_POSITION = 1u << 30;  // host.py compiles kernels anew for larger grids
#endif
ZMLX_UNCHECKED inline __attribute__((always_inline)) uint32_t bounded(uint32_t value, uint32_t most) {
  if (value > most) __builtin_unreachable();
  return value;
}

// The thread attributes of Metal, computed only where a kernel asks for them: all of this inlines. `launch` is a local
// copy of a loop's own: of the one in memory the compiler must fear that the kernel's stores change it.
struct Thread {
  const Launch& launch;
  Extent group;  // threadgroup_position_in_grid
  Extent size;   // threads_per_threadgroup
  Extent local;  // thread_position_in_threadgroup
  Extent first;  // position in the grid of the threadgroup's first thread

  ZMLX_UNCHECKED metal::uint3 thread_position_in_grid() const {
    return metal::uint3(first.x + local.x, first.y + local.y, first.z + local.z);
  }
  ZMLX_UNCHECKED metal::uint3 thread_position_in_threadgroup() const { return as_uint3(local); }
  ZMLX_UNCHECKED metal::uint3 threadgroup_position_in_grid() const { return as_uint3(group); }
  ZMLX_UNCHECKED metal::uint3 threadgroups_per_grid() const { return as_uint3(launch.groups); }
  ZMLX_UNCHECKED metal::uint3 threads_per_grid() const { return as_uint3(launch.grid); }
  ZMLX_UNCHECKED metal::uint3 grid_size() const { return as_uint3(launch.grid); }
  ZMLX_UNCHECKED metal::uint3 grid_origin() const { return metal::uint3(0u, 0u, 0u); }
  ZMLX_UNCHECKED metal::uint3 threads_per_threadgroup() const { return as_uint3(size); }
  ZMLX_UNCHECKED metal::uint3 dispatch_threads_per_threadgroup() const { return as_uint3(launch.group); }
  ZMLX_UNCHECKED uint32_t thread_index_in_threadgroup() const { return (local.z * size.y + local.y) * size.x + local.x; }
  ZMLX_UNCHECKED uint32_t thread_index_in_simdgroup() const { return thread_index_in_threadgroup() % SIMD_WIDTH; }
  ZMLX_UNCHECKED uint32_t thread_index_in_quadgroup() const { return thread_index_in_threadgroup() % QUAD_WIDTH; }
  ZMLX_UNCHECKED uint32_t simdgroup_index_in_threadgroup() const { return thread_index_in_threadgroup() / SIMD_WIDTH; }
  ZMLX_UNCHECKED uint32_t quadgroup_index_in_threadgroup() const { return thread_index_in_threadgroup() / QUAD_WIDTH; }
  ZMLX_UNCHECKED uint32_t simdgroups_per_threadgroup() const { return up(size, SIMD_WIDTH); }
  ZMLX_UNCHECKED uint32_t quadgroups_per_threadgroup() const { return up(size, QUAD_WIDTH); }
  ZMLX_UNCHECKED uint32_t dispatch_simdgroups_per_threadgroup() const { return up(launch.group, SIMD_WIDTH); }
  ZMLX_UNCHECKED uint32_t dispatch_quadgroups_per_threadgroup() const { return up(launch.group, QUAD_WIDTH); }
  ZMLX_UNCHECKED uint32_t threads_per_simdgroup() const { return SIMD_WIDTH; }
  ZMLX_UNCHECKED uint32_t thread_execution_width() const { return SIMD_WIDTH; }

 private:
  ZMLX_UNCHECKED static uint32_t up(Extent e, uint32_t width) { return (e.x * e.y * e.z + width - 1) / width; }
};

}  // namespace zmlx

#include "host/regions.h"

#include "host/matrices.h"

namespace zmlx {

// Threads that never meet: a plain loop, innermost along x, which the compiler vectorises. Threads of a grid have
// no order, so the loop carries no dependence that a correct kernel could rely on.
//
// `Flat`: the kernel does not look at its threadgroup, so neighbouring groups join into one long loop along x.
template <bool Flat, class Body>
ZMLX_FN void run_loop(Launch* launch, Worker* worker, uint64_t begin, uint64_t end, const Body& body) {
  Group group(launch, worker);
  while (begin < end) {
    const GroupPosition at(*launch, begin);
    uint64_t run = 1;
    if (Flat) {
      run = launch->groups.x - at.position.x;
      if (run > end - begin) run = end - begin;
    }
    begin += run;
    uint64_t threads = run * launch->group.x;
    const uint64_t left = launch->grid.x - uint64_t(at.position.x) * launch->group.x;
    if (threads > left) threads = left;
    const uint32_t count = bounded(static_cast<uint32_t>(threads), MAX_POSITION);
    const Launch here = *launch;
    Extent first = at.first(here);
    first.x = bounded(first.x, MAX_POSITION);
    for (uint32_t z = 0; z < at.size.z; ++z)
      for (uint32_t y = 0; y < at.size.y; ++y) {
#pragma GCC ivdep
        for (uint32_t x = 0; x < count; ++x) body(group, Thread{here, at.position, at.size, Extent{x, y, z}, first});
      }
  }
}

#if defined(ZMLX_CHECKED)
// A function of its own, so that it is not instrumented where the kernel is.
ZMLX_UNCHECKED inline Thread thread_at(const Group& g, uint32_t index) {
  const Extent local{index % g.size.x, index / g.size.x % g.size.y, index / g.size.x / g.size.y};
  return Thread{*g.launch, g.position, g.size, local, g.first};
}
#endif

// Threads that meet: fibers. `WholeGroup`: at threadgroup barriers; else only within a simdgroup, and then 32 fibers
// are enough at a time.
template <bool WholeGroup, class Body>
inline void run_fibers(Launch* launch, Worker* worker, uint64_t begin, uint64_t end, const Body& body) {
  Group group(launch, worker);
  group.closure = &body;
#if defined(ZMLX_CHECKED)
  group.body = [](Group& g, uint32_t index) { (*static_cast<const Body*>(g.closure))(g, thread_at(g, index)); };
#else
  group.body = [](Group& g, uint32_t index) {
    const Extent local{index % g.size.x, index / g.size.x % g.size.y, index / g.size.x / g.size.y};
    (*static_cast<const Body*>(g.closure))(g, Thread{*g.launch, g.position, g.size, local, g.first});
  };
#endif
  for (uint64_t linear = begin; linear < end; ++linear) {
    group.place(GroupPosition(*launch, linear));
    const uint32_t simdgroups = (group.threads + SIMD_WIDTH - 1) / SIMD_WIDTH;
    if (WholeGroup)
      group.run_simdgroups(0, simdgroups);
    else
      for (uint32_t s = 0; s < simdgroups; ++s) group.run_simdgroups(s, 1);
  }
}

}  // namespace zmlx

#include "msl/predefined.h"
