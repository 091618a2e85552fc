// Shadow memory: who last wrote and read each element, and whether two accesses are ordered.
//
// A launch's threadgroups run one after the other on one OS thread, each thread of a group as a fiber, so nothing
// here is atomic. Time is a counter that every barrier, simd operation and threadgroup moves on; an access carries
// the time at which it happened. Whether it is ordered before "now" is then a comparison with the time of the last
// barrier that covers its memory: no history is searched.
#pragma once

#include "check/check.h"
#include "host/group.h"

namespace zmlx {
namespace check {

#define ZMLX_LIKELY(x) __builtin_expect(!!(x), 1)
#define ZMLX_UNLIKELY(x) __builtin_expect(!!(x), 0)

// One access: time, thread, atomic or not, "another one is kept in Slot::others", place in the code.
using Mark = uint64_t;
constexpr uint32_t PC_BITS = 21;
constexpr Mark PC = (Mark(1) << PC_BITS) - 1;
constexpr Mark MORE = Mark(1) << PC_BITS;
constexpr Mark IS_ATOMIC = Mark(1) << (PC_BITS + 1);
constexpr uint32_t THREAD_SHIFT = PC_BITS + 2;
constexpr Mark THREAD = Mark(MAX_GROUP_THREADS - 1) << THREAD_SHIFT;
constexpr uint32_t TIME_SHIFT = THREAD_SHIFT + 10;
constexpr uint32_t MAX_TIME = 0x7fffffff;

inline uint32_t time_of(Mark m) { return static_cast<uint32_t>(m >> TIME_SHIFT); }
inline uint32_t thread_of(Mark m) { return static_cast<uint32_t>(m >> THREAD_SHIFT) & (MAX_GROUP_THREADS - 1); }
inline uint32_t pc_of(Mark m) { return static_cast<uint32_t>(m & PC); }
inline Mark at_time(uint32_t time) { return Mark(time) << TIME_SHIFT; }

// The last writer and reader of one granule. A second of each, by another thread, is kept in Slot::others.
struct Cell {
  Mark writer, reader;
};

enum Memory : uint32_t { GROUP_MEMORY_SPACE = 0, DEVICE_SPACE = 1 };

struct Slot {
  uintptr_t data;
  uint64_t bytes;
  Cell* cells;  // null: only bounds are checked
  Cell* others;
  uint64_t skip;   // of these bits of an offset one is set: no shadow; 0: all have one
  uint32_t shift;  // log2 of the bytes of a granule
  Memory memory;
  bool writable;
  bool defined;
};

// A write that no barrier orders after another one: a race, unless it wrote the value that was there.
struct Pending {
  uint32_t size;
  uintptr_t address;
  Finding finding;
  unsigned char before[64];
};

struct State {
  // where arrays and threadgroup variables lie: slot i at base + (i << shift)
  uintptr_t base, span;
  uint32_t shift;
  bool pending;
  Mark me;      // time and thread of the running fiber
  Mark oldest;  // marks before this one are of earlier threadgroups
  Mark fenced[2];                               // marks before these are ordered, by memory
  Mark simd_fenced[2][MAX_GROUP_THREADS / SIMD_WIDTH];  // likewise within a simdgroup
  uint32_t time;
  uintptr_t text;  // where the library is loaded
  uint64_t accesses;
  uint32_t last_pc;
  // rarely needed
  uint32_t executed;       // time and place of the last threadgroup barrier
  uint32_t executed_pc, executed_line;
  uint32_t simd_executed[MAX_GROUP_THREADS / SIMD_WIDTH];  // of the last simdgroup barrier
  uint32_t simd_executed_pc[MAX_GROUP_THREADS / SIMD_WIDTH];
  uint32_t simd_executed_line[MAX_GROUP_THREADS / SIMD_WIDTH];
  uint32_t simd_operated[MAX_GROUP_THREADS / SIMD_WIDTH];  // of the last simd operation
  uintptr_t stacks, stacks_span, image, image_span, frame;
  Check* check;
  Group* group;
  uint64_t group_number, group_order;
  uint32_t* group_times;   // when each threadgroup began, in the order of their execution
  uint32_t* group_fences;  // when each last executed an atomic_thread_fence; 0: never
  uint32_t arrived_pc, arrived_line, arrived_flags, arrived_thread;  // first at the barrier that is being awaited
  struct {
    uint32_t what, pc, line, unused;
  } wait[MAX_GROUP_THREADS];  // where each thread waits, or did so last
  uint32_t finished, stopped_threads, returned_thread;
  uint32_t simd_first, simd_lanes;  // of the simdgroup whose operation is being carried out
  uint32_t opened;  // pages that were made readable outside of arrays
  uint64_t all_stopped;  // in all threadgroups
  uint64_t random;
  Slot slot[MAX_ARRAYS + MAX_VARIABLES];
  int32_t variable_of[256];
  Pending pended;
};

extern State S;

void report(Finding& finding);
uint64_t group_in_order(uint64_t order);
uint32_t tick();  // moves time on
[[noreturn]] void stop_thread();

inline uint32_t offset_of(const void* pc) {
  const uintptr_t offset = reinterpret_cast<uintptr_t>(pc) - S.text;
  return offset <= PC ? static_cast<uint32_t>(offset) : 0;
}

inline uint32_t simd_of(Mark m) { return thread_of(m) / SIMD_WIDTH; }
inline bool same_thread(Mark a) { return a >= S.oldest && ((a ^ S.me) & THREAD) == 0; }

// The threadgroup of a mark, as its number in the order of execution.
inline uint64_t order_of(Mark m) {
  uint64_t low = 0, high = S.group_order;
  while (low < high) {
    const uint64_t middle = (low + high + 1) / 2;
    if (S.group_times[middle] <= time_of(m))
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

// Whether nothing orders the access `m` before the running thread's.
inline bool unordered(const Slot& slot, Mark m) {
  if (m == 0) return false;
  if (m < S.oldest) {
    if (slot.memory == GROUP_MEMORY_SPACE) return false;
    // Both threadgroups executed fences around an atomic hand-over, presumably; without fences nothing orders them.
    return !(S.group_fences[order_of(m)] > time_of(m) && S.group_fences[S.group_order] != 0);
  }
  if (((m ^ S.me) & THREAD) == 0 || m < S.fenced[slot.memory]) return false;
  const uint32_t simd = simd_of(S.me);
  return simd_of(m) != simd || m >= S.simd_fenced[slot.memory][simd];
}

inline Finding start_finding(Kind kind, Detail detail, uint32_t slot, int64_t offset, size_t size, uint32_t access, uint32_t pc) {
  Finding f{};
  f.kind = kind;
  f.detail = detail;
  f.slot = slot;
  f.offset = offset;
  f.size = static_cast<uint32_t>(size);
  f.access = access;
  f.pc = pc;
  f.thread = thread_of(S.me);
  f.group = S.group_number;
  return f;
}

// Describes the conflict of the running thread's access with the mark `m`.
inline Finding conflict(const Slot& slot, Mark m, uint32_t other_access, uint32_t access, uint64_t offset, size_t size, uint32_t pc) {
  const uint32_t number = static_cast<uint32_t>(&slot - S.slot);
  Finding f = start_finding(DATA_RACE, PLAIN, number, static_cast<int64_t>(offset), size, access, pc);
  f.other_pc = pc_of(m);
  f.other_thread = thread_of(m);
  f.other_access = other_access | (m & IS_ATOMIC ? ATOMIC : 0u);
  f.other_group = S.group_number;
  const uint32_t time = time_of(m), simd = simd_of(S.me);
  if (m < S.oldest) {
    f.detail = ACROSS_GROUPS;
    f.other_group = group_in_order(order_of(m));
  } else if (time < S.executed) {
    f.kind = MEMORY_ORDER;
    f.barrier_pc = S.executed_pc;
    f.barrier_line = S.executed_line;
  } else if (simd_of(m) == simd) {
    if (time < S.simd_executed[simd]) {
      f.kind = MEMORY_ORDER;
      f.barrier_pc = S.simd_executed_pc[simd];
      f.barrier_line = S.simd_executed_line[simd];
      f.detail = SIMDGROUP_BARRIER_ONLY;
    } else {
      f.detail = time < S.simd_operated[simd] ? AFTER_SIMD_OP : SAME_SIMDGROUP;
    }
  }
  return f;
}

inline void settle_pending() {
  S.pending = false;
  if (__builtin_memcmp(reinterpret_cast<const void*>(S.pended.address), S.pended.before, S.pended.size) != 0) {
    report(S.pended.finding);
  } else {
    ++S.check->same_value;
    if (S.check->same_value_pc == 0) S.check->same_value_pc = S.pended.finding.pc;
  }
}

inline void expect_write(const Finding& finding, uintptr_t address, uint32_t size) {
  Pending& p = S.pended;
  // A wide access meets one granule after the other.
  const bool extends = S.pending && address == p.address + p.size && p.size + size <= sizeof(p.before);
  if (S.pending && !extends) return;
  if (!extends) {
    p.finding = finding;
    p.address = address;
    p.size = 0;
  }
  __builtin_memcpy(p.before + p.size, reinterpret_cast<const void*>(address), size);
  p.size += size;
  S.pending = true;
}

// How far another mark is from the running thread: the farthest is worth keeping.
inline uint32_t distance(Mark m) {
  if (m == 0) return 0;
  if (m < S.oldest) return 3;
  if (((m ^ S.me) & THREAD) == 0) return 0;
  return simd_of(m) != simd_of(S.me) ? 2 : 1;
}

// Puts the running thread's mark in `first`, and keeps in `second` the farthest of those that were there.
inline void keep_two(const Slot& slot, Mark& first, Mark& second, Mark mine) {
  Mark other = first & MORE ? second : 0;
  if (!unordered(slot, other)) other = 0;
  if (unordered(slot, first) && distance(first) > distance(other)) other = first & ~MORE;
  second = other;
  first = other ? mine | MORE : mine;
}

// The general case: compares one granule's marks with an access and updates them.
__attribute__((noinline)) inline void examine(Slot& slot, uint64_t cell, uint32_t access, size_t size, uint32_t pc) {
  Cell& at = slot.cells[cell];
  Cell& other = slot.others[cell];
  const uint64_t offset = cell << slot.shift;
  const bool atomic = access & ATOMIC;
  const Mark mine = S.me | (atomic ? IS_ATOMIC : 0) | pc;
  const Mark writers[2] = {at.writer, at.writer & MORE ? other.writer : 0};
  const Mark readers[2] = {at.reader, at.reader & MORE ? other.reader : 0};
  bool found = false;
  for (Mark m : writers) {
    if (found || (atomic && (m & IS_ATOMIC)) || !unordered(slot, m)) continue;
    found = true;
    Finding f = conflict(slot, m, WRITE, access, offset, size, pc);
    if (access == WRITE && !(m & IS_ATOMIC)) {
      // Only after the write can one see whether it changed anything.
      expect_write(f, slot.data + offset, 1u << slot.shift);
    } else {
      report(f);
    }
  }
  if (access & WRITE) {
    for (Mark m : readers) {
      if (found || (atomic && (m & IS_ATOMIC)) || !unordered(slot, m)) continue;
      found = true;
      Finding f = conflict(slot, m, READ, access, offset, size, pc);
      report(f);
    }
    if (atomic && (at.writer & IS_ATOMIC)) {
      keep_two(slot, at.writer, other.writer, mine);
    } else {
      at.writer = mine;
      if (!atomic) at.reader = 0;
    }
  } else {
    const bool missing = slot.memory == DEVICE_SPACE ? at.writer == 0 : at.writer < S.oldest;
    // A vector of three is read as one of four; its last component need not have been written.
    const bool padding = size == 16 && offset % 16 == 12;
    if (missing && !slot.defined && !padding) {
      Finding f = start_finding(UNINITIALIZED, PLAIN, static_cast<uint32_t>(&slot - S.slot), static_cast<int64_t>(offset), size, access, pc);
      report(f);
    }
    keep_two(slot, at.reader, other.reader, mine);
  }
}

// An access to part of a granule: from here on the array has smaller ones.
__attribute__((noinline)) inline void refine(Slot& slot, uint32_t shift) {
  const uint64_t old_count = ((slot.bytes - 1) >> slot.shift) + 1, factor = uint64_t(1) << (slot.shift - shift);
  const uint64_t count = ((slot.bytes - 1) >> shift) + 1;
  for (uint64_t i = old_count; i-- > 0;) {
    if ((i << slot.shift) & slot.skip) continue;
    const Cell cell = slot.cells[i], other = slot.others[i];
    for (uint64_t k = factor; k-- > 0;) {
      if (i * factor + k >= count) continue;
      slot.cells[i * factor + k] = cell;
      slot.others[i * factor + k] = other;
    }
  }
  slot.shift = shift;
}

// An address that is in no array, or beyond the end of one.
void outside(uintptr_t address, size_t size, uint32_t access, uint32_t pc);

// Whether a cell needs no closer look: nobody else has used it since the last barrier that covers it.
template <uint32_t ACCESS>
inline __attribute__((always_inline)) bool is_quiet(const Slot& slot, const Cell& at) {
  if ((at.writer | at.reader) & MORE) return false;
  const bool read_before = slot.memory == GROUP_MEMORY_SPACE && at.reader < S.fenced[GROUP_MEMORY_SPACE];
  if (at.reader != 0 && !read_before && !same_thread(at.reader)) return false;
  if (same_thread(at.writer)) return true;
  if (ACCESS == READ) return at.writer >= S.oldest && at.writer < S.fenced[slot.memory];
  return slot.memory == GROUP_MEMORY_SPACE ? at.writer < S.fenced[GROUP_MEMORY_SPACE] : at.writer == 0;
}

// Any access: through casts, of any size and alignment.
template <uint32_t ACCESS>
__attribute__((noinline)) void check_access(uintptr_t address, size_t size, const void* return_address) {
  const uint32_t pc = offset_of(return_address);
  const uintptr_t relative = address - S.base;
  if (S.pending) settle_pending();
  if (relative >= S.span) return outside(address, size, ACCESS, pc);
  Slot& slot = S.slot[relative >> S.shift];
  const uint64_t offset = address - slot.data;
  ++S.accesses;
  S.last_pc = pc;
  if (offset >= slot.bytes || slot.bytes - offset < size || ((ACCESS & WRITE) && !slot.writable))
    return outside(address, size, ACCESS, pc);
  if (slot.cells == nullptr || size == 0) return;
  if (((offset | size) & ((uint64_t(1) << slot.shift) - 1)) != 0)
    refine(slot, static_cast<uint32_t>(__builtin_ctzll(offset | size)));
  const uint64_t first = offset >> slot.shift, end = first + (size >> slot.shift);
  for (uint64_t cell = first; cell < end; ++cell)
    if (((cell << slot.shift) & slot.skip) == 0) examine(slot, cell, ACCESS, size, pc);
}

// The common access: one granule that needs no closer look.
template <uint32_t ACCESS, uint32_t SIZE>
inline __attribute__((always_inline)) void check_element(uintptr_t address, const void* return_address) {
  const uintptr_t relative = address - S.base;
  if (ZMLX_LIKELY(relative < S.span && !S.pending)) {
    Slot& slot = S.slot[relative >> S.shift];
    const uint64_t offset = address - slot.data;
    if (ZMLX_LIKELY(offset < slot.bytes && slot.bytes - offset >= SIZE)) {
      const uint32_t pc = offset_of(return_address);
      if (ACCESS == READ && slot.cells == nullptr) {
        ++S.accesses;
        S.last_pc = pc;
        return;
      }
      if (ZMLX_LIKELY((1u << slot.shift) == SIZE && offset % SIZE == 0 && slot.cells && slot.writable && (offset & slot.skip) == 0)) {
        Cell& at = slot.cells[offset >> slot.shift];
        if (ZMLX_LIKELY(is_quiet<ACCESS>(slot, at))) {
          ++S.accesses;
          S.last_pc = pc;
          if (ACCESS == READ) {
            at.reader = S.me | pc;
          } else {
            at.writer = S.me | pc;
            at.reader = 0;
          }
          return;
        }
      }
    }
  }
  check_access<ACCESS>(address, SIZE, return_address);
}

}  // namespace check
}  // namespace zmlx
