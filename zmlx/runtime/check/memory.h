// Where the arrays of a checked launch lie, and the memory for their shadows. Part of check/check.cpp.
#pragma once

#include "check/shadow.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__APPLE__)
#include <mach-o/loader.h>
#else
#include <link.h>
#endif

namespace zmlx {
namespace check {
namespace {

constexpr uint32_t SLOTS = MAX_ARRAYS + MAX_VARIABLES;
// Address space for each slot, the largest that the system grants.
constexpr uint32_t SHIFTS[] = {36, 34, 32, 30};

void* reserve(size_t bytes, int protection) {
  void* at = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? nullptr : at;
}

uintptr_t page_up(uintptr_t bytes) {
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) & ~(page - 1);
}

uint64_t next_random() {
  S.random += 0x9e3779b97f4a7c15u;
  uint64_t z = S.random;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Has the system provide memory that is about to be written, rather than page by page as it is touched. Large arrays may
// be used in part only. Older systems refuse, and then do it page by page.
void populate(void* at, size_t bytes) {
#if defined(MADV_POPULATE_WRITE)
  if (bytes <= (size_t(64) << 20)) madvise(at, bytes, MADV_POPULATE_WRITE);
#elif defined(__linux__)
  if (bytes <= (size_t(64) << 20)) madvise(at, bytes, 23);  // newer than the C library's headers
#else
  (void)at;
  (void)bytes;
#endif
}

size_t cell_bytes(uint64_t bytes) { return page_up((bytes + 1) * sizeof(Cell)); }

// Elements that share the fate of having a shadow or not, in bytes.
constexpr uint64_t BLOCK = 4096;

// Two shadow cells a byte, of address space: one a granule becomes memory, the second only where threads share.
// ``shadowed`` is 0 for an array without, else a power of two: of so many blocks one has a shadow.
bool open_slot(uint32_t number, uint64_t bytes, uint32_t itemsize, Memory memory, uint32_t shadowed) {
  Slot& slot = S.slot[number];
  const uintptr_t start = S.base + (uintptr_t(number) << S.shift);
  slot.data = start + ((uintptr_t(1) << S.shift) >> 2);
  slot.bytes = bytes;
  slot.memory = memory;
  slot.shift = itemsize >= 4 ? 2 : itemsize == 2 ? 1 : 0;
  slot.cells = slot.others = nullptr;
  slot.skip = 0;
  if (bytes == 0) return true;
  if (bytes > (uintptr_t(1) << S.shift) >> 1) return false;
  if (mprotect(reinterpret_cast<void*>(slot.data), page_up(bytes), PROT_READ | PROT_WRITE) != 0) return false;
  populate(reinterpret_cast<void*>(slot.data), page_up(bytes));
  if (shadowed) {
    slot.skip = (shadowed - 1) * BLOCK;
    slot.cells = static_cast<Cell*>(reserve(cell_bytes(bytes), PROT_READ | PROT_WRITE));
    slot.others = static_cast<Cell*>(reserve(cell_bytes(bytes), PROT_READ | PROT_WRITE));
    if (!slot.cells || !slot.others) return false;
    if (shadowed == 1) populate(slot.cells, page_up((bytes >> slot.shift) * sizeof(Cell)));
  }
  return true;
}

// The library's own constants may be read: tables that the kernel declares.
void find_image() {
  Dl_info info{};
  dladdr(reinterpret_cast<void*>(&S), &info);
  S.text = S.image = reinterpret_cast<uintptr_t>(info.dli_fbase);
  S.image_span = 0;
#if defined(__APPLE__)
  const auto* header = static_cast<const mach_header_64*>(info.dli_fbase);
  const auto* command = reinterpret_cast<const load_command*>(header + 1);
  uintptr_t first = 0;
  for (uint32_t i = 0; i < header->ncmds; ++i) {
    if (command->cmd == LC_SEGMENT_64) {
      const auto* segment = reinterpret_cast<const segment_command_64*>(command);
      if (S.image_span == 0) first = segment->vmaddr;
      const uintptr_t end = segment->vmaddr + segment->vmsize - first;
      if (end > S.image_span) S.image_span = end;
    }
    command = reinterpret_cast<const load_command*>(reinterpret_cast<const char*>(command) + command->cmdsize);
  }
#else
  dl_iterate_phdr(
      [](dl_phdr_info* object, size_t, void*) {
        if (object->dlpi_addr != S.image) return 0;
        for (int i = 0; i < object->dlpi_phnum; ++i) {
          const auto& segment = object->dlpi_phdr[i];
          if (segment.p_type == PT_LOAD && segment.p_vaddr + segment.p_memsz > S.image_span)
            S.image_span = segment.p_vaddr + segment.p_memsz;
        }
        return 1;
      },
      nullptr);
#endif
}

}  // namespace
}  // namespace check
}  // namespace zmlx
