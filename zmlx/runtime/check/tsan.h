// The functions that the compiler's instrumentation calls: -fsanitize=thread and parts of -fsanitize=undefined.
//
// GCC and clang share most of the names; each has some that the other never calls. Their meaning is documented by
// compiler-rt's tsan_interface.h and by GCC's sanitizer.def; these are implementations of our own.
#pragma once

#include "check/shadow.h"

#define ZMLX_HERE __builtin_extract_return_addr(__builtin_return_address(0))
#define ZMLX_HOOK extern "C" __attribute__((visibility("hidden"), noinline))

#define ZMLX_ACCESS(suffix, size)                                                                      \
  ZMLX_HOOK void __tsan_read##suffix(void* a) {                                                        \
    zmlx::check::check_element<zmlx::check::READ, size>(reinterpret_cast<uintptr_t>(a), ZMLX_HERE);\
  }                                                                                                    \
  ZMLX_HOOK void __tsan_write##suffix(void* a) {                                                       \
    zmlx::check::check_element<zmlx::check::WRITE, size>(reinterpret_cast<uintptr_t>(a), ZMLX_HERE);\
  }                                                                                                    \
  ZMLX_HOOK void __tsan_read_write##suffix(void* a) {                                                  \
    zmlx::check::check_element<zmlx::check::READ, size>(reinterpret_cast<uintptr_t>(a), ZMLX_HERE);\
    zmlx::check::check_element<zmlx::check::WRITE, size>(reinterpret_cast<uintptr_t>(a), ZMLX_HERE);\
  }

ZMLX_ACCESS(1, 1)
ZMLX_ACCESS(2, 2)
ZMLX_ACCESS(4, 4)
ZMLX_ACCESS(8, 8)
ZMLX_ACCESS(16, 16)

#define ZMLX_OTHER_ACCESS(prefix, size)                                                                \
  ZMLX_HOOK void __tsan_##prefix##_read##size(void* a) {                                               \
    zmlx::check::check_element<zmlx::check::READ, size>(reinterpret_cast<uintptr_t>(a), ZMLX_HERE);\
  }                                                                                                    \
  ZMLX_HOOK void __tsan_##prefix##_write##size(void* a) {                                              \
    zmlx::check::check_element<zmlx::check::WRITE, size>(reinterpret_cast<uintptr_t>(a), ZMLX_HERE);\
  }                                                                                                    \
  ZMLX_HOOK void __tsan_##prefix##_read_write##size(void* a) {                                         \
    zmlx::check::check_element<zmlx::check::READ, size>(reinterpret_cast<uintptr_t>(a), ZMLX_HERE);\
    zmlx::check::check_element<zmlx::check::WRITE, size>(reinterpret_cast<uintptr_t>(a), ZMLX_HERE);\
  }
#define ZMLX_OTHER_ACCESSES(prefix) \
  ZMLX_OTHER_ACCESS(prefix, 1)      \
  ZMLX_OTHER_ACCESS(prefix, 2)      \
  ZMLX_OTHER_ACCESS(prefix, 4)      \
  ZMLX_OTHER_ACCESS(prefix, 8)      \
  ZMLX_OTHER_ACCESS(prefix, 16)
ZMLX_OTHER_ACCESSES(unaligned)
ZMLX_OTHER_ACCESSES(volatile)
ZMLX_OTHER_ACCESSES(unaligned_volatile)

ZMLX_HOOK void __tsan_read_range(void* a, size_t size) {
  zmlx::check::check_access<zmlx::check::READ>(reinterpret_cast<uintptr_t>(a), size, ZMLX_HERE);
}
ZMLX_HOOK void __tsan_write_range(void* a, size_t size) {
  zmlx::check::check_access<zmlx::check::WRITE>(reinterpret_cast<uintptr_t>(a), size, ZMLX_HERE);
}

// Copies and fills of larger objects are calls of memcpy, memmove and memset, which host/checked.h sends here;
// clang from 16 on calls __tsan_memcpy and so on.
namespace zmlx {
namespace check {
inline void* copy(void* to, const void* from, size_t size, const void* pc) {
  if (size == 0) return to;
  check_access<READ>(reinterpret_cast<uintptr_t>(from), size, pc);
  check_access<WRITE>(reinterpret_cast<uintptr_t>(to), size, pc);
  return __builtin_memmove(to, from, size);
}
inline void* fill(void* to, int value, size_t size, const void* pc) {
  if (size == 0) return to;
  check_access<WRITE>(reinterpret_cast<uintptr_t>(to), size, pc);
  return __builtin_memset(to, value, size);
}
}  // namespace check
}  // namespace zmlx

ZMLX_HOOK void* zmlx_checked_copy(void* to, const void* from, size_t size) {
  return zmlx::check::copy(to, from, size, ZMLX_HERE);
}
ZMLX_HOOK void* zmlx_checked_fill(void* to, int value, size_t size) {
  return zmlx::check::fill(to, value, size, ZMLX_HERE);
}

ZMLX_HOOK void* __tsan_memcpy(void* to, const void* from, size_t size) {
  return zmlx::check::copy(to, from, size, ZMLX_HERE);
}
ZMLX_HOOK void* __tsan_memmove(void* to, const void* from, size_t size) {
  return zmlx::check::copy(to, from, size, ZMLX_HERE);
}
ZMLX_HOOK void* __tsan_memset(void* to, int value, size_t size) {
  return zmlx::check::fill(to, value, size, ZMLX_HERE);
}

ZMLX_HOOK void __tsan_init() {}
ZMLX_HOOK void __tsan_func_entry(void*) {}
ZMLX_HOOK void __tsan_func_exit() {}
ZMLX_HOOK void __tsan_vptr_update(void**, void*) {}
ZMLX_HOOK void __tsan_vptr_read(void**) {}
ZMLX_HOOK void __tsan_ignore_thread_begin() {}
ZMLX_HOOK void __tsan_ignore_thread_end() {}
ZMLX_HOOK void __tsan_atomic_signal_fence(int) {}
ZMLX_HOOK void __tsan_atomic_thread_fence(int) {
  // Marks from now on carry a later time than the fence.
  zmlx::check::S.group_fences[zmlx::check::S.group_order] = zmlx::check::tick();
}

namespace zmlx {
namespace check {
void misaligned_atomic(uintptr_t address, uint32_t alignment, uint32_t access, uint32_t pc);

template <uint32_t ACCESS>
inline void check_atomic(uintptr_t address, uint32_t size, const void* return_address) {
  if (ZMLX_UNLIKELY(address % size != 0)) misaligned_atomic(address, size, ACCESS, offset_of(return_address));
  check_access<ACCESS>(address, size, return_address);
}
}  // namespace check
}  // namespace zmlx

#define ZMLX_RMW(bits, type, name, expression)                                                         \
  ZMLX_HOOK type __tsan_atomic##bits##_##name(volatile type* a, type v, int) {                         \
    using namespace zmlx::check;                                                                       \
    check_atomic<WRITE | ATOMIC>(reinterpret_cast<uintptr_t>(a), sizeof(type), ZMLX_HERE);             \
    const type before = *a;                                                                            \
    *a = static_cast<type>(expression);                                                                \
    return before;                                                                                     \
  }

// One OS thread runs the whole launch, so plain operations will do.
#define ZMLX_ATOMICS(bits, type)                                                                       \
  ZMLX_HOOK type __tsan_atomic##bits##_load(const volatile type* a, int) {                             \
    using namespace zmlx::check;                                                                       \
    check_atomic<READ | ATOMIC>(reinterpret_cast<uintptr_t>(a), sizeof(type), ZMLX_HERE);              \
    return *a;                                                                                         \
  }                                                                                                    \
  ZMLX_HOOK void __tsan_atomic##bits##_store(volatile type* a, type v, int) {                          \
    using namespace zmlx::check;                                                                       \
    check_atomic<WRITE | ATOMIC>(reinterpret_cast<uintptr_t>(a), sizeof(type), ZMLX_HERE);             \
    *a = v;                                                                                            \
  }                                                                                                    \
  ZMLX_RMW(bits, type, exchange, v)                                                                    \
  ZMLX_RMW(bits, type, fetch_add, before + v)                                                          \
  ZMLX_RMW(bits, type, fetch_sub, before - v)                                                          \
  ZMLX_RMW(bits, type, fetch_and, before & v)                                                          \
  ZMLX_RMW(bits, type, fetch_or, before | v)                                                           \
  ZMLX_RMW(bits, type, fetch_xor, before ^ v)                                                          \
  ZMLX_RMW(bits, type, fetch_nand, ~(before & v))                                                      \
  ZMLX_HOOK type __tsan_atomic##bits##_compare_exchange_val(                                           \
      volatile type* a, type expected, type v, int, int) {                                             \
    using namespace zmlx::check;                                                                       \
    check_atomic<WRITE | ATOMIC>(reinterpret_cast<uintptr_t>(a), sizeof(type), ZMLX_HERE);             \
    const type before = *a;                                                                            \
    if (before == expected) *a = v;                                                                    \
    return before;                                                                                     \
  }                                                                                                    \
  ZMLX_HOOK int __tsan_atomic##bits##_compare_exchange_strong(                                         \
      volatile type* a, type* expected, type v, int, int) {                                            \
    using namespace zmlx::check;                                                                       \
    check_atomic<WRITE | ATOMIC>(reinterpret_cast<uintptr_t>(a), sizeof(type), ZMLX_HERE);             \
    const type before = *a;                                                                            \
    if (before == *expected) {                                                                         \
      *a = v;                                                                                          \
      return 1;                                                                                        \
    }                                                                                                  \
    *expected = before;                                                                                \
    return 0;                                                                                          \
  }                                                                                                    \
  ZMLX_HOOK int __tsan_atomic##bits##_compare_exchange_weak(                                           \
      volatile type* a, type* expected, type v, int, int) {                                            \
    using namespace zmlx::check;                                                                       \
    check_atomic<WRITE | ATOMIC>(reinterpret_cast<uintptr_t>(a), sizeof(type), ZMLX_HERE);             \
    const type before = *a;                                                                            \
    if (before == *expected) {                                                                         \
      *a = v;                                                                                          \
      return 1;                                                                                        \
    }                                                                                                  \
    *expected = before;                                                                                \
    return 0;                                                                                          \
  }

ZMLX_ATOMICS(8, uint8_t)
ZMLX_ATOMICS(16, uint16_t)
ZMLX_ATOMICS(32, uint32_t)
ZMLX_ATOMICS(64, uint64_t)
#undef ZMLX_ATOMICS
#undef ZMLX_RMW
#undef ZMLX_ACCESS
#undef ZMLX_OTHER_ACCESS
#undef ZMLX_OTHER_ACCESSES

// --- -fsanitize=bounds, object-size, integer-divide-by-zero: the compiler passes its own description of the place ---

struct UbsanLocation {
  const char* file;
  uint32_t line, column;
};
struct UbsanType {
  uint16_t kind, info;
  char name[1];
};
struct UbsanBounds {
  UbsanLocation at;
  const UbsanType* array;
  const UbsanType* index;
};
struct UbsanMismatch {
  UbsanLocation at;
  const UbsanType* type;
  unsigned char log_alignment, kind;
};
struct UbsanOverflow {
  UbsanLocation at;
  const UbsanType* type;
};

namespace zmlx {
namespace check {
inline void copy_text(char* to, size_t room, const char* from) {
  size_t i = 0;
  for (; from != nullptr && from[i] && i + 1 < room; ++i) to[i] = from[i];
  to[i] = 0;
}

inline void take_place(Finding& f, const UbsanLocation& at, const UbsanType* type) {
  f.line = at.line;
  copy_text(f.file, sizeof f.file, at.file);
  copy_text(f.text, sizeof f.text, type ? type->name : nullptr);
}

// An access through a pointer to a type that needs another alignment. The compiler counts on the alignment of wide
// types, so that the thread cannot go on with those.
inline void misaligned(uintptr_t address, uint32_t alignment, uint32_t access, const UbsanLocation* at, const UbsanType* type, uint32_t pc) {
  Finding f = start_finding(MISALIGNED, PLAIN, NO_SLOT, 0, 0, access, pc);
  const uintptr_t relative = address - S.base;
  f.value = alignment;
  f.other_thread = static_cast<uint32_t>(address & (alignment - 1));
  if (at) take_place(f, *at, type);
  if (relative < S.span) {
    const Slot& slot = S.slot[relative >> S.shift];
    if (slot.data == 0) return;  // no array: the access itself is reported
    f.slot = static_cast<uint32_t>(relative >> S.shift);
    f.offset = static_cast<int64_t>(address - slot.data);
  }
  report(f);
  if (alignment > 8) stop_thread();
}

// What goes on after it is reported.
inline void note_arithmetic(Detail detail, const UbsanLocation& at, const UbsanType* type, uint64_t value, uint32_t pc) {
  Finding f = start_finding(ARITHMETIC, detail, NO_SLOT, 0, 0, READ, pc);
  f.value = value;
  take_place(f, at, type);
  report(f);
}

[[noreturn]] inline void ubsan(Kind kind, Detail detail, const UbsanLocation& at, const UbsanType* type, uint64_t value, uint32_t pc) {
  Finding f = start_finding(kind, detail, NO_SLOT, 0, 0, READ, pc);
  f.value = value;
  take_place(f, at, type);
  report(f);
  stop_thread();
}
}  // namespace check
}  // namespace zmlx

ZMLX_HOOK void __ubsan_handle_out_of_bounds(const UbsanBounds* data, uintptr_t index) {
  using namespace zmlx::check;
  // Small integers are passed by value: `info` says how wide and whether they have a sign.
  const uint32_t bits = 1u << (data->index->info >> 1);
  int64_t value = static_cast<int64_t>(index);
  if (bits < 64) value = data->index->info & 1 ? static_cast<int64_t>(index << (64 - bits)) >> (64 - bits)
                                               : static_cast<int64_t>(index & ((uint64_t(1) << bits) - 1));
  ubsan(OUT_OF_BOUNDS, LOCAL_ARRAY, data->at, data->array, static_cast<uint64_t>(value), offset_of(ZMLX_HERE));
}
ZMLX_HOOK void __ubsan_handle_type_mismatch_v1(const UbsanMismatch* data, uintptr_t address) {
  using namespace zmlx::check;
  if (address & ((uintptr_t(1) << data->log_alignment) - 1))
    return misaligned(address, uint32_t(1) << data->log_alignment, READ, &data->at, data->type, offset_of(ZMLX_HERE));
  if (address - S.stacks >= S.stacks_span) return;  // its own check follows, and knows the array
  ubsan(OUT_OF_BOUNDS, LOCAL_OBJECT, data->at, data->type, 0, offset_of(ZMLX_HERE));
}
// -fstack-protector: a thread has written beyond one of its own arrays.
ZMLX_HOOK void __stack_chk_fail() {
  using namespace zmlx::check;
  Finding f = start_finding(OUT_OF_BOUNDS, STACK_DAMAGED, NO_SLOT, 0, 0, WRITE, 0);
  report(f);
  stop_thread();
}
ZMLX_HOOK void __ubsan_handle_divrem_overflow(const UbsanOverflow* data, uintptr_t, uintptr_t divisor) {
  using namespace zmlx::check;
  if (divisor != 0) return;  // the smallest integer by -1: the division itself says so
  ubsan(STOPPED, DIVISION, data->at, data->type, 0, offset_of(ZMLX_HERE));
}

namespace zmlx {
namespace check {
inline void misaligned_atomic(uintptr_t address, uint32_t alignment, uint32_t access, uint32_t pc) {
  misaligned(address, alignment, access, nullptr, nullptr, pc);
}
}  // namespace check
}  // namespace zmlx

// --- -fsanitize=float-cast-overflow, signed-integer-overflow, shift: only where arithmetic is checked ---

struct UbsanCast {
  UbsanLocation at;
  const UbsanType* from;
  const UbsanType* to;
};
struct UbsanShift {
  UbsanLocation at;
  const UbsanType* left;
  const UbsanType* right;
};

ZMLX_HOOK void __ubsan_handle_float_cast_overflow(const UbsanCast* data, uintptr_t) {
  using namespace zmlx::check;
  note_arithmetic(FLOAT_TO_INTEGER, data->at, data->to, 0, offset_of(ZMLX_HERE));
}
#define ZMLX_OVERFLOWS(name)                                                                               \
  ZMLX_HOOK void __ubsan_handle_##name##_overflow(const UbsanOverflow* data, uintptr_t, uintptr_t) {       \
    using namespace zmlx::check;                                                                           \
    note_arithmetic(SIGNED_OVERFLOW, data->at, data->type, 0, offset_of(ZMLX_HERE));                       \
  }
ZMLX_OVERFLOWS(add)
ZMLX_OVERFLOWS(sub)
ZMLX_OVERFLOWS(mul)
#undef ZMLX_OVERFLOWS
ZMLX_HOOK void __ubsan_handle_negate_overflow(const UbsanOverflow* data, uintptr_t) {
  using namespace zmlx::check;
  note_arithmetic(SIGNED_OVERFLOW, data->at, data->type, 0, offset_of(ZMLX_HERE));
}
ZMLX_HOOK void __ubsan_handle_shift_out_of_bounds(const UbsanShift* data, uintptr_t, uintptr_t by) {
  using namespace zmlx::check;
  note_arithmetic(SHIFT, data->at, data->left, by, offset_of(ZMLX_HERE));
}

// A shift whose amount is taken modulo the width: msl/syntax.h.
ZMLX_HOOK void zmlx_check_shift(int64_t amount) {
  using namespace zmlx::check;
  Finding f = start_finding(ARITHMETIC, SHIFT, NO_SLOT, 0, 0, READ, offset_of(ZMLX_HERE));
  f.value = static_cast<uint64_t>(amount);
  report(f);
}
