// A threadgroup's place in the grid and its shared memory, however its threads run.
#pragma once

#include "host/checked.h"
#include "host/launch.h"

namespace zmlx {

struct GroupMemory {
  Launch* launch;
  Worker* worker;
  Extent position;
  Extent size;
  Extent first;  // position in the grid of the first thread
  uint32_t threads;
  uint32_t memory_used;
  static constexpr uint32_t MAX_SLOTS = 256;
  uint32_t slot_id[MAX_SLOTS];  // id + 1 of each threadgroup variable; 0: none
  uint32_t slot_offset[MAX_SLOTS];

  GroupMemory(Launch* l, Worker* w) : launch(l), worker(w), memory_used(0), slot_id{} {}

  void place(const GroupPosition& at) {
    position = at.position;
    size = at.size;
    first = at.first(*launch);
    threads = at.threads();
  }

  // Storage of the threadgroup variable that the translator numbered `id`. Contents are what was there before, as
  // on the GPU.
  template <class T>
  ZMLX_UNCHECKED T& slot(uint32_t id, const char* name) {
    const uint32_t entry = slot_entry(id);
#if defined(ZMLX_CHECKED)
    using Shape = check::Shape<T>;
    constexpr size_t element = sizeof(typename Shape::Element);
    slot_id[entry] = id + 1;
    return *reinterpret_cast<T*>(check::place(entry, name, sizeof(T), element, Shape::columns, Shape::planes));
#else
    static_assert(sizeof(T) <= MAX_GROUP_MEMORY, "a threadgroup variable is larger than the 32768 bytes Metal has");
    if (slot_id[entry] != id + 1) place_slot(entry, id, sizeof(T));
    return *reinterpret_cast<T*>(worker->memory + slot_offset[entry]);
#endif
  }

  // Where a variable stands in the table, or is to stand.
  ZMLX_UNCHECKED uint32_t slot_entry(uint32_t id) const {
    uint32_t entry = id % MAX_SLOTS;
    for (uint32_t tries = 0; tries < MAX_SLOTS && slot_id[entry] != 0 && slot_id[entry] != id + 1; ++tries)
      entry = (entry + 1) % MAX_SLOTS;
    return entry;
  }

  ZMLX_UNCHECKED void place_slot(uint32_t entry, uint32_t id, size_t bytes) {
    memory_used = (memory_used + 15u) & ~15u;
    slot_id[entry] = id + 1;
    slot_offset[entry] = memory_used;
    memory_used += static_cast<uint32_t>(bytes);
    if (memory_used > MAX_GROUP_MEMORY) {
      __atomic_store_n(&launch->group_memory, memory_used, __ATOMIC_RELAXED);
      __atomic_store_n(&launch->error, GROUP_MEMORY, __ATOMIC_RELAXED);
      slot_offset[entry] = 0;  // the launch has failed: what it computes from here on is thrown away
    }
  }
};

}  // namespace zmlx
