// Guard bands: memory around the outputs that no kernel may write, filled before a launch and looked at after it. On a
// Mac small overruns pass unseen, since buffers end on pages; on the host they would damage the heap.
//
// Large outputs lie in a room of their own, an array that is larger by a band on each side (memory.py). Small ones are
// written in the arena, which has no mapped memory behind it, and copied to their arrays.
#pragma once

#include "host/python.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <vector>

namespace zmlx {

constexpr size_t BAND = 4096;  // memory.py has it too
constexpr unsigned char BAND_BYTE = 0xb5;

class Arena {
 public:
  // `bytes` bytes that end where mapped memory ends; null if there is no memory for them.
  char* take(size_t bytes) {
    if (bytes > size_) {
      if (at_) munmap(at_, size_ + GAP);
      size_ = (bytes + UNIT - 1) / UNIT * UNIT;
      void* found = mmap(nullptr, size_ + GAP, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      at_ = found == MAP_FAILED ? nullptr : static_cast<char*>(found);
      if (!at_ || mprotect(at_, size_, PROT_READ | PROT_WRITE)) {
        size_ = 0;
        return nullptr;
      }
    }
    return at_ + size_ - bytes;
  }

 private:
  static constexpr size_t UNIT = 1 << 20;
  static constexpr size_t GAP = 16 << 20;
  char* at_ = nullptr;
  size_t size_ = 0;
};

class Bands {
 public:
  Bands(const Plan& plan, const Arrays& arrays, Arguments& arguments)
      : plan_(plan), arrays_(arrays), arguments_(arguments), outputs_(plan.outputs) {}

  // Puts the bands in place; false if there is no memory for them. One launch at a time has the arena.
  bool open(Arena& arena) {
    size_t need = 0;
    for (uint32_t i = 0; i < plan_.outputs; ++i) {
      const Buffer& buffer = arrays_.output(i);
      Output& output = outputs_[i];
      const Buffer* room = arrays_.room(i);
      output.data = static_cast<char*>(buffer.buf);
      output.bytes = static_cast<size_t>(buffer.len);
      output.in_arena = !room || !holds(*room, output);
      if (output.in_arena) need += 2 * BAND + padded(output.bytes);
    }
    char* at = need ? arena.take(need) : nullptr;
    if (need && !at) return false;
    for (Output& output : outputs_) {
      if (output.in_arena) {
        output.array = output.data;
        output.data = at + BAND;
        if (output.bytes) memcpy(output.data, output.array, output.bytes);
        at += 2 * BAND + padded(output.bytes);
        // What fills the last cache line belongs to the band behind.
        memset(output.data + output.bytes, BAND_BYTE, padded(output.bytes) - output.bytes);
      }
      memset(output.data - BAND, BAND_BYTE, BAND);
      memset(output.data + output.bytes, BAND_BYTE, BAND);
    }
    for (uint32_t i = 0; i < plan_.parameter_count; ++i)
      if (plan_.parameters[i].role == OUTPUT) arguments_.set(i, outputs_[plan_.parameters[i].array].data);
    return true;
  }

  // Copies what the kernel wrote to the arrays. Returns 0, or what is damaged: the distance of the outermost byte from
  // the output, 1 << 16 if that lies in front of it, and the output's number above that.
  uint32_t close() {
    uint32_t damage = 0;
    for (uint32_t i = 0; i < plan_.outputs; ++i) {
      const Output& output = outputs_[i];
      if (output.in_arena && output.bytes) memcpy(output.array, output.data, output.bytes);
      if (damage) continue;
      if (const uint32_t past = last_damaged(output.data + output.bytes))
        damage = i << 17 | past;
      else if (const uint32_t before = first_damaged(output.data - BAND))
        damage = i << 17 | 1u << 16 | before;
    }
    return damage;
  }

 private:
  struct Output {
    char* data;
    char* array;
    size_t bytes;
    bool in_arena;
  };

  static size_t padded(size_t bytes) { return (bytes + 63) & ~size_t(63); }

  static bool holds(const Buffer& room, const Output& output) {
    const char* begin = static_cast<const char*>(room.buf);
    return output.data >= begin + BAND && output.data + output.bytes + BAND <= begin + room.len;
  }

  static bool whole(const char* band) {
    // All bytes are alike if the first is right and each equals the next.
    return static_cast<unsigned char>(band[0]) == BAND_BYTE && memcmp(band, band + 1, BAND - 1) == 0;
  }

  static uint32_t last_damaged(const char* band) {
    if (whole(band)) return 0;
    size_t end = BAND;
    while (static_cast<unsigned char>(band[end - 1]) == BAND_BYTE) --end;
    return static_cast<uint32_t>(end);
  }

  static uint32_t first_damaged(const char* band) {
    if (whole(band)) return 0;
    size_t begin = 0;
    while (static_cast<unsigned char>(band[begin]) == BAND_BYTE) ++begin;
    return static_cast<uint32_t>(BAND - begin);
  }

  const Plan& plan_;
  const Arrays& arrays_;
  Arguments& arguments_;
  std::vector<Output> outputs_;
};

}  // namespace zmlx
