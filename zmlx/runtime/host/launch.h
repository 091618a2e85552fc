// What a launch is, as host.py fills it in (ctypes, same layout), and where each thread stands in it.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace zmlx {

constexpr uint32_t SIMD_WIDTH = 32;
constexpr uint32_t QUAD_WIDTH = 4;
constexpr uint32_t MAX_GROUP_THREADS = 1024;
constexpr uint32_t MAX_GROUP_MEMORY = 32 * 1024;

struct Extent {
  uint32_t x, y, z;
};

// Why a launch stopped; host.py has a message for each.
enum Error : uint32_t { OK = 0, GROUP_MEMORY = 1, ARITHMETIC = 2, ACCESS = 3, STACK = 4, TRAP = 5, INTERRUPTED = 6, TOO_LONG = 7 };

struct Launch {
  void* const* buffers;  // one pointer a buffer parameter, in the signature's order
  Extent grid;           // threads
  Extent group;          // threads of a whole threadgroup
  Extent groups;         // threadgroups, the partial ones at the edge included
  uint32_t error;         // Error, set by any worker
  uint32_t group_memory;  // bytes of threadgroup memory that the kernel asked for
};

// What one worker thread lends to the kernels that it runs.
struct Worker {
  char* memory;  // threadgroup memory
  char* stacks;  // MAX_GROUP_THREADS stacks of STACK_SIZE bytes, aligned to it
};

// Runs threadgroups [begin, end), counted along x, then y, then z.
using Entry = void (*)(Launch*, Worker*, uint64_t begin, uint64_t end);

// The position of one threadgroup and its true size: groups at the edge of the grid are smaller.
struct GroupPosition {
  Extent position;
  Extent size;

  GroupPosition(const Launch& launch, uint64_t linear) {
    position.x = static_cast<uint32_t>(linear % launch.groups.x);
    position.y = static_cast<uint32_t>(linear / launch.groups.x % launch.groups.y);
    position.z = static_cast<uint32_t>(linear / launch.groups.x / launch.groups.y);
    size.x = edge(launch.grid.x, launch.group.x, position.x);
    size.y = edge(launch.grid.y, launch.group.y, position.y);
    size.z = edge(launch.grid.z, launch.group.z, position.z);
  }

  uint32_t threads() const { return size.x * size.y * size.z; }
  // The position in the grid of the threadgroup's first thread.
  Extent first(const Launch& launch) const {
    return {position.x * launch.group.x, position.y * launch.group.y, position.z * launch.group.z};
  }

 private:
  static uint32_t edge(uint32_t grid, uint32_t group, uint32_t position) {
    uint32_t left = grid - position * group;
    return left < group ? left : group;
  }
};

}  // namespace zmlx
