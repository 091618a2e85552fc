// Metal's atomics on the host: relaxed operations of the compiler, and compare-exchange loops where it has none.
#pragma once

#include "msl/sync.h"

namespace metal {

template <class T>
ZMLX_INLINE T atomic_load_explicit(const volatile atomic<T>* object, memory_order) {
  T value;
  __atomic_load(const_cast<T*>(&object->value), &value, __ATOMIC_RELAXED);
  return value;
}
template <class T, class U>
ZMLX_INLINE void atomic_store_explicit(volatile atomic<T>* object, U desired, memory_order) {
  T value = detail::convert<T>(desired);
  __atomic_store(const_cast<T*>(&object->value), &value, __ATOMIC_RELAXED);
}
template <class T, class U>
ZMLX_INLINE T atomic_exchange_explicit(volatile atomic<T>* object, U desired, memory_order) {
  T value = detail::convert<T>(desired), before;
  __atomic_exchange(const_cast<T*>(&object->value), &value, &before, __ATOMIC_RELAXED);
  return before;
}
template <class T, class U>
ZMLX_INLINE bool atomic_compare_exchange_weak_explicit(
    volatile atomic<T>* object, T* expected, U desired, memory_order, memory_order) {
  T value = detail::convert<T>(desired);
  return __atomic_compare_exchange(
      const_cast<T*>(&object->value), expected, &value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

namespace zmlx_detail {
template <class T, class F>
ZMLX_INLINE T update(volatile atomic<T>* object, F next) {
  T before = atomic_load_explicit(object, memory_order_relaxed);
  while (!atomic_compare_exchange_weak_explicit(
      object, &before, next(before), memory_order_relaxed, memory_order_relaxed)) {
  }
  return before;
}
}  // namespace zmlx_detail

#define ZMLX_FETCH(name, expression)                                                      \
  template <class T, class U>                                                             \
  ZMLX_INLINE T atomic_fetch_##name##_explicit(volatile atomic<T>* object, U operand, memory_order) { \
    const T b = detail::convert<T>(operand);                                                  \
    return zmlx_detail::update(object, [b](T a) { return static_cast<T>(expression); });  \
  }
ZMLX_FETCH(add, a + b)
ZMLX_FETCH(sub, a - b)
ZMLX_FETCH(min, a < b ? a : b)
ZMLX_FETCH(max, a > b ? a : b)
ZMLX_FETCH(and, a & b)
ZMLX_FETCH(or, a | b)
ZMLX_FETCH(xor, a ^ b)
#undef ZMLX_FETCH

ZMLX_INLINE void atomic_thread_fence(mem_flags, memory_order, thread_scope = thread_scope_device) {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

// The two 64-bit operations of Metal, which return nothing.
ZMLX_INLINE void atomic_max_explicit(volatile atomic<uint64_t>* object, uint64_t operand, memory_order order) {
  atomic_fetch_max_explicit(object, operand, order);
}
ZMLX_INLINE void atomic_min_explicit(volatile atomic<uint64_t>* object, uint64_t operand, memory_order order) {
  atomic_fetch_min_explicit(object, operand, order);
}

}  // namespace metal
