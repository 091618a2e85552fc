// Everything a translated kernel sees on CUDA: Metal's library and where each thread stands in its launch.
#pragma once

#include "msl/msl.h"

#include "cuda/simd.h"

#include "cuda/atomic.h"

#include "msl/simdgroup_matrix.h"

#define ZMLX_KERNEL static __device__ __forceinline__

namespace zmlx {

using metal::uint;
using metal::uint3;

using metal::zmlx_detail::simd_width;
ZMLX_FN constexpr uint quad_width() { return 4; }

struct Extent {
  uint x, y, z;
};

ZMLX_FN uint threads(Extent e) { return e.x * e.y * e.z; }
ZMLX_FN uint3 as_uint3(Extent e) { return uint3(e.x, e.y, e.z); }

// How a launch lays the grid of Metal threads out in CUDA blocks. A block is one threadgroup in all three, and the
// blocks at the edge hold more threads than the grid has left: those return at once.
//
//   FLAT    threadgroups along x only: a thread's place in its block is its place in its threadgroup
//   BLOCK   threadgroups of any form
//   LINEAR  what CUDA has no such launch for (more than 65535 groups along y or z, more than 64 threads along z):
//           blocks and their threads are counted along one line
//
// Metal numbers the threads of a partial threadgroup within its true size, and takes its simdgroups from those
// numbers; a warp follows the numbers within the whole block. The first threads of a block therefore become the
// threads of a partial group, in order: then lanes and thread indices are the same thing in both languages.
enum Layout { FLAT, BLOCK, LINEAR };

// Where the thread stands. Attributes are computed only if a kernel asks for them: all of this inlines.
template <Layout L>
struct Thread {
  Extent grid;      // threads_per_grid
  Extent whole;     // size of a threadgroup that is not at the edge
  Extent groups;    // threadgroups_per_grid
  Extent position;  // threadgroup_position_in_grid
  Extent size;      // threads_per_threadgroup
  Extent local;     // thread_position_in_threadgroup
  uint index;       // thread_index_in_threadgroup
  bool inside;      // whether the grid has this thread

  ZMLX_FN Thread(Extent grid_, Extent whole_) : grid(grid_), whole(whole_), inside(true) {
    place_group();
    size = Extent{edge(grid.x, whole.x, position.x), L == FLAT ? 1u : edge(grid.y, whole.y, position.y),
                  L == FLAT ? 1u : edge(grid.z, whole.z, position.z)};
    place_thread();
    inside = inside && index < threads(size);
  }

  ZMLX_FN uint3 thread_position_in_grid() const {
    return uint3(position.x * whole.x + local.x, position.y * whole.y + local.y, position.z * whole.z + local.z);
  }
  ZMLX_FN uint3 thread_position_in_threadgroup() const { return as_uint3(local); }
  ZMLX_FN uint3 threadgroup_position_in_grid() const { return as_uint3(position); }
  ZMLX_FN uint3 threadgroups_per_grid() const { return as_uint3(groups); }
  ZMLX_FN uint3 threads_per_grid() const { return as_uint3(grid); }
  ZMLX_FN uint3 grid_size() const { return as_uint3(grid); }
  ZMLX_FN uint3 grid_origin() const { return uint3(0u, 0u, 0u); }
  ZMLX_FN uint3 threads_per_threadgroup() const { return as_uint3(size); }
  ZMLX_FN uint3 dispatch_threads_per_threadgroup() const { return as_uint3(whole); }
  ZMLX_FN uint thread_index_in_threadgroup() const { return index; }
  ZMLX_FN uint thread_index_in_simdgroup() const { return index % simd_width(); }
  ZMLX_FN uint thread_index_in_quadgroup() const { return index % quad_width(); }
  ZMLX_FN uint simdgroup_index_in_threadgroup() const { return index / simd_width(); }
  ZMLX_FN uint quadgroup_index_in_threadgroup() const { return index / quad_width(); }
  ZMLX_FN uint simdgroups_per_threadgroup() const { return up(threads(size), simd_width()); }
  ZMLX_FN uint quadgroups_per_threadgroup() const { return up(threads(size), quad_width()); }
  ZMLX_FN uint dispatch_simdgroups_per_threadgroup() const { return up(threads(whole), simd_width()); }
  ZMLX_FN uint dispatch_quadgroups_per_threadgroup() const { return up(threads(whole), quad_width()); }
  ZMLX_FN uint threads_per_simdgroup() const { return simd_width(); }
  ZMLX_FN uint thread_execution_width() const { return simd_width(); }

 private:
  static ZMLX_FN uint up(uint count, uint width) { return (count + width - 1) / width; }
  static ZMLX_FN uint edge(uint grid, uint whole, uint position) {
    const uint left = grid - position * whole;
    return left < whole ? left : whole;
  }

  ZMLX_FN void place_group() {
    if (L != LINEAR) {
      groups = Extent{gridDim.x, gridDim.y, gridDim.z};
      position = Extent{blockIdx.x, blockIdx.y, blockIdx.z};
      return;
    }
    groups = Extent{(grid.x - 1) / whole.x + 1, (grid.y - 1) / whole.y + 1, (grid.z - 1) / whole.z + 1};
    const unsigned long block = static_cast<unsigned long>(blockIdx.y) * gridDim.x + blockIdx.x;
    const unsigned long row = block / groups.x, plane = row / groups.y;
    position = Extent{static_cast<uint>(block % groups.x), static_cast<uint>(row % groups.y), static_cast<uint>(plane)};
    inside = plane < groups.z;
  }

  ZMLX_FN void place_thread() {
    if (L == FLAT) {
      index = threadIdx.x;
      local = Extent{index, 0u, 0u};
      return;
    }
    index = L == LINEAR ? threadIdx.x : (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    if (L == BLOCK && size.x == whole.x && size.y == whole.y && size.z == whole.z)
      local = Extent{threadIdx.x, threadIdx.y, threadIdx.z};
    else
      local = Extent{index % size.x, index / size.x % size.y, index / size.x / size.y};
  }
};

// A stride, which MLX hands over as two 32-bit kernel arguments.
ZMLX_FN long join_words(int low, int high) {
  return static_cast<long>(static_cast<unsigned long>(static_cast<uint>(high)) << 32 | static_cast<uint>(low));
}

}  // namespace zmlx

#include "msl/predefined.h"
