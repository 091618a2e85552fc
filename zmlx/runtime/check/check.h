// What a checked launch is given and what it found, as zmlx/check/layout.py has it for ctypes.
#pragma once

#include "host/launch.h"

namespace zmlx {
namespace check {

enum Kind : uint32_t { OUT_OF_BOUNDS = 1, DATA_RACE, UNINITIALIZED, DIVERGENCE, MEMORY_ORDER, STOPPED, MISALIGNED, INACTIVE_LANE, SIMD_USE, ARITHMETIC };

// What the message of a finding depends on besides its kind.
enum Detail : uint32_t {
  PLAIN = 0,
  // OUT_OF_BOUNDS
  UNKNOWN_MEMORY = 1,  // in no array of the launch
  OTHER_THREAD = 2,    // in another thread's local variables
  LOCAL_ARRAY = 3,     // the compiler's own check of an array with known bounds: `text` is its type, `value` the index
  READ_ONLY = 4,       // a write to an input
  LOCAL_OBJECT = 5,    // beyond a local variable, through a pointer
  STACK_DAMAGED = 16,  // the same, noticed only when the thread returned
  // DATA_RACE
  SAME_SIMDGROUP = 6,  // nothing but lockstep orders the two
  AFTER_SIMD_OP = 7,   // a simd operation lies between the two
  ACROSS_GROUPS = 8,
  // UNINITIALIZED
  NEVER_WRITTEN = 9,  // elements of an output at the end of the launch: `value` of them
  // DIVERGENCE
  DIFFERENT_BARRIERS = 10,
  HAS_RETURNED = 11,
  PART_OF_SIMDGROUP = 12,
  // MEMORY_ORDER
  SIMDGROUP_BARRIER_ONLY = 13,
  // SIMD_USE: what Metal leaves undefined
  LANES_DIFFER = 17,  // simd_broadcast from lane `value`; another lane names lane `offset`
  WIDE_REDUCTION = 18,
  // ARITHMETIC
  FLOAT_TO_INTEGER = 19,
  SIGNED_OVERFLOW = 20,
  SHIFT = 21,
  NOT_A_NUMBER = 22,  // an output has `value` elements that are NaN, and no input has one or an infinity
  // STOPPED
  INTERRUPTED = 14,
  DIVISION = 15,
};

enum Access : uint32_t { READ = 0, WRITE = 1, ATOMIC = 2 };

// Places in the code are offsets of return addresses from where the library is loaded; 0 is unknown.
struct Finding {
  uint32_t kind, detail;
  uint32_t pc, other_pc, barrier_pc;
  uint32_t thread, other_thread;  // thread_index_in_threadgroup
  uint32_t slot;                  // of Check::arrays, or Check::variables after FIRST_VARIABLE
  uint32_t access, other_access;
  uint32_t size;  // bytes of the access
  uint32_t line;  // of `file`, where the compiler has told; without a file, of the kernel
  uint32_t other_line, barrier_line;
  uint64_t group, other_group;  // threadgroups, counted along x, then y, then z
  int64_t offset;               // bytes from the start of the array
  uint64_t value;
  uint64_t count;  // how often the same was found
  char text[96];
  char file[160];
};

constexpr uint32_t MAX_FINDINGS = 128;
constexpr uint32_t MAX_ARRAYS = 128;
constexpr uint32_t FIRST_VARIABLE = MAX_ARRAYS;
constexpr uint32_t MAX_VARIABLES = 64;
constexpr uint32_t MAX_WAITS = 16;
constexpr uint32_t NO_SLOT = ~0u;

// An input, an output, or the shape or strides of an input.
struct Array {
  const void* from;  // first contents; null: zeros
  void* to;          // where the contents go after the launch; null: nowhere
  uint64_t bytes;
  uint64_t start;      // bytes before the element that the kernel's pointer points to
  uint32_t itemsize;
  uint32_t parameter;  // index of Launch::buffers
  uint32_t writable;
  uint32_t defined;    // its elements have values before the launch
  uint32_t floating;   // 1: half, 2: bfloat, 4: float, 0: something else
  // Accesses are compared with each other in one of so many blocks, a power of two; 0: only with the array's bounds.
  uint32_t shadowed;
};

// A threadgroup variable, as it was met.
struct Variable {
  char name[64];
  uint32_t bytes;
  uint32_t element;
  uint32_t columns, planes;  // extents of the last axis and the one before; 0: no such axis
};

// Threads of one threadgroup that wait at the same place when a launch is stopped.
struct Waiting {
  uint32_t what;  // Wait; 4: has returned, 5: has not started or can go on
  uint32_t pc;
  uint32_t threads;
  uint32_t first;
};

struct Check {
  Launch outer;  // what host/runtime.cpp runs: one threadgroup, which stands for all
  Launch launch;
  Array* arrays;
  uint32_t array_count;
  uint32_t schedule;  // Schedule
  uint32_t arithmetic;  // look for NaN in the outputs
  uint32_t unused;
  uint64_t seed;
  // results
  Finding findings[MAX_FINDINGS];
  uint32_t finding_count;
  uint32_t variable_count;
  uint64_t dropped;  // findings beyond MAX_FINDINGS
  Variable variables[MAX_VARIABLES];
  uint64_t accesses;
  uint64_t groups_done;
  uint64_t same_value;  // unordered writes of equal values
  uint32_t same_value_pc;
  uint32_t stopped;
  uint32_t stopped_thread;
  uint32_t stopped_pc;
  uint64_t stopped_group;
  uint32_t waiting_count;
  uint32_t last_pc;
  Waiting waiting[MAX_WAITS];
};

enum Schedule : uint32_t { LOCKSTEP = 0, ONE_SIMDGROUP = 1, REVERSED = 2, RANDOM = 3 };

}  // namespace check
}  // namespace zmlx
