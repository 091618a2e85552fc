// What a threadgroup tells the checker: threads that begin, wait, go on and return, and what they exchange. Part of
// check/check.cpp.
#pragma once

#include "check/memory.h"

namespace zmlx {
namespace check {

void resumes(Fiber* me) { S.me = at_time(S.time) | Mark(me->index) << THREAD_SHIFT; }

void begins(Fiber* me) {
  S.group = me->group;
  resumes(me);
}

void waits(Fiber* me, Wait what, uint32_t flags, uint32_t line, const void* return_address) {
  if (S.pending) settle_pending();
  const uint32_t pc = offset_of(return_address);
  S.wait[me->index] = {what, pc, line, 0};
  if (what == SIMD_BARRIER) {
    S.simd_executed_pc[me->index / SIMD_WIDTH] = pc;
    S.simd_executed_line[me->index / SIMD_WIDTH] = line;
  }
  if (what != BARRIER) return;
  if (S.arrived_pc == 0) {
    S.arrived_pc = pc;
    S.arrived_line = line;
    S.arrived_flags = flags;
    S.arrived_thread = me->index;
  } else if ((pc != S.arrived_pc || line != S.arrived_line) && S.stopped_threads == 0) {
    divergence(DIFFERENT_BARRIERS, me->index, S.arrived_thread, true, 0);
  }
}

void returns(Fiber* me) {
  if (S.pending) settle_pending();
  S.returned_thread = me->index;
  ++S.finished;
}

// All threads that are left wait at a threadgroup barrier: it opens.
void releases(Group& group) {
  if (S.finished != 0 && S.stopped_threads == 0 && S.arrived_pc != 0)
    divergence(HAS_RETURNED, S.arrived_thread, S.returned_thread, false, S.finished);
  const uint32_t now = tick();
  S.executed = now;
  S.executed_pc = S.arrived_pc;
  S.executed_line = S.arrived_line;
  // Flags are those of metal::mem_flags.
  if (S.arrived_flags & 2u) S.fenced[GROUP_MEMORY_SPACE] = at_time(now);
  if (S.arrived_flags & 1u) S.fenced[DEVICE_SPACE] = at_time(now);
  S.arrived_pc = 0;
  (void)group;
}

// A simd operation is carried out for the lanes in `mask`.
void collects(Group& group, Simdgroup& simd, uint32_t mask, uint32_t chosen) {
  const uint32_t number = simd.first / SIMD_WIDTH, now = tick();
  S.simd_operated[number] = now;
  S.simd_first = simd.first;
  S.simd_lanes = group.threads - simd.first < SIMD_WIDTH ? group.threads - simd.first : SIMD_WIDTH;
  if (S.wait[simd.first + chosen].what != SIMD_BARRIER) return;
  const uint32_t flags = simd.argument[chosen];
  S.simd_executed[number] = now;
  if (flags & 2u) S.simd_fenced[GROUP_MEMORY_SPACE][number] = at_time(now);
  if (flags & 1u) S.simd_fenced[DEVICE_SPACE][number] = at_time(now);
  const uint32_t lanes = group.threads - simd.first < SIMD_WIDTH ? group.threads - simd.first : SIMD_WIDTH;
  const uint32_t all = lanes == SIMD_WIDTH ? ~0u : (1u << lanes) - 1;
  if (mask == all || S.stopped_threads != 0) return;
  const uint32_t absent = lowest(all & ~mask), other = simd.first + absent;
  const bool waits_too = (simd.at_simd | simd.at_barrier) >> absent & 1;
  divergence(PART_OF_SIMDGROUP, simd.first + chosen, other, waits_too,
             static_cast<uint64_t>(__builtin_popcount(mask)));
}

static void simd_finding(Kind kind, Detail detail, uint32_t lane, uint32_t value, int64_t other) {
  if (S.stopped_threads != 0) return;  // their lanes are missing because of another finding
  const uint32_t thread = S.simd_first + lane;
  Finding f = start_finding(kind, detail, NO_SLOT, other, 0, READ, S.wait[thread].pc);
  f.line = S.wait[thread].line;
  f.thread = thread;
  f.value = value;
  report(f);
}

void reads_lane(uint32_t lane, uint32_t from, uint32_t mask, bool edge) {
  if (from < SIMD_WIDTH && (mask >> from & 1)) return;
  if (edge && from >= S.simd_lanes) return;
  simd_finding(INACTIVE_LANE, PLAIN, lane, from, S.simd_lanes);
}

void lanes_differ(uint32_t lane, uint32_t from, uint32_t other_from) {
  simd_finding(SIMD_USE, LANES_DIFFER, lane, from, other_from);
}

void reduces_wide(uint32_t lane) { simd_finding(SIMD_USE, WIDE_REDUCTION, lane, 0, 0); }

uint32_t first_thread(uint32_t count) {
  if (schedule == REVERSED) return count - 1;
  return schedule == RANDOM ? static_cast<uint32_t>(next_random() % count) : 0;
}

uint32_t next_lane(uint32_t runnable) {
  if (schedule == REVERSED) return 31u - static_cast<uint32_t>(__builtin_clz(runnable));
  if (schedule != RANDOM) return lowest(runnable);
  uint32_t skip = static_cast<uint32_t>(next_random() % static_cast<uint64_t>(__builtin_popcount(runnable)));
  while (skip--) runnable &= runnable - 1;
  return lowest(runnable);
}

uint32_t next_simdgroup(Group& group, uint32_t current, uint32_t proposed) {
  const uint32_t count = group.simdgroups - group.first_simdgroup;
  switch (schedule) {
    case ONE_SIMDGROUP:
      return current;
    case REVERSED:
      return current == group.first_simdgroup ? group.simdgroups - 1 : current - 1;
    case RANDOM:
      return group.first_simdgroup + static_cast<uint32_t>(next_random() % count);
    default:
      return proposed;
  }
}

char* place(int id, const char* name, size_t bytes, size_t element, size_t columns, size_t planes) {
  Check& check = *S.check;
  int32_t& number = S.variable_of[id];
  if (number == 0) {
    if (check.variable_count == MAX_VARIABLES) {
      check.stopped = 3;
      running = 0;
      siglongjmp(back, 1);
    }
    Variable& variable = check.variables[check.variable_count];
    size_t length = 0;
    for (; name[length] && length + 1 < sizeof(variable.name); ++length) variable.name[length] = name[length];
    variable.name[length] = 0;
    variable.bytes = static_cast<uint32_t>(bytes);
    variable.element = static_cast<uint32_t>(element);
    variable.columns = static_cast<uint32_t>(columns);
    variable.planes = static_cast<uint32_t>(planes);
    number = static_cast<int32_t>(FIRST_VARIABLE + check.variable_count++);
    const uint32_t item = element % 4 == 0 ? 4 : element % 2 == 0 ? 2 : 1;
    Slot& slot = S.slot[number];
    slot.writable = true;
    slot.defined = false;
    if (!open_slot(static_cast<uint32_t>(number), bytes, item, GROUP_MEMORY_SPACE, 1)) {
      check.stopped = 4;
      running = 0;
      siglongjmp(back, 1);
    }
  }
  return reinterpret_cast<char*>(S.slot[number].data);
}

}  // namespace check
}  // namespace zmlx
