// Metal's atomics on CUDA: the hardware's own where it has them, compare-and-swap loops otherwise. Device and
// threadgroup memory alike.
#pragma once

#include "msl/sync.h"

namespace metal {

namespace zmlx_detail {

template <size_t Bytes>
struct atomic_types;
template <>
struct atomic_types<1> {
  using bits = uchar;
};
template <>
struct atomic_types<2> {
  using bits = ushort;
};
template <>
struct atomic_types<4> {
  using bits = uint;
  using number = int;
};
template <>
struct atomic_types<8> {
  using bits = unsigned long long;
  using number = long long;
};

// T as the unsigned integer of its size, which CUDA's atomics take.
template <class T>
using bits_of = typename atomic_types<sizeof(T)>::bits;

template <class T>
ZMLX_FN bits_of<T>* bits_at(volatile atomic<T>* object) {
  return reinterpret_cast<bits_of<T>*>(const_cast<T*>(&object->value));
}
template <class T>
ZMLX_FN bits_of<T> to_bits(T value) {
  return __builtin_bit_cast(bits_of<T>, value);
}
template <class T>
ZMLX_FN T from_bits(bits_of<T> bits) {
  return __builtin_bit_cast(T, bits);
}

template <class B>
ZMLX_FN B compare_and_swap(B* at, B expected, B desired) {
  return atomicCAS(at, expected, desired);
}
// There is no compare-and-swap of a byte: swap the word around it for as long as the other three change.
ZMLX_FN uchar compare_and_swap(uchar* at, uchar expected, uchar desired) {
  const ulong address = reinterpret_cast<ulong>(at);
  uint* word = reinterpret_cast<uint*>(address & ~3ul);
  const uint shift = static_cast<uint>(address & 3ul) * 8u;
  uint before = *static_cast<volatile uint*>(word);
  for (;;) {
    const uchar found = static_cast<uchar>(before >> shift);
    if (found != expected) return found;
    const uint after = (before & ~(0xffu << shift)) | static_cast<uint>(desired) << shift;
    const uint seen = atomicCAS(word, before, after);
    if (seen == before) return expected;
    before = seen;
  }
}

// Numbers that CUDA adds, compares and combines by itself.
template <class T>
constexpr bool is_atomic_integer() {
  return detail::is_integer<T>() && sizeof(T) >= 4;
}

template <class T>
struct number_of {
  using type = bits_of<T>;
};
template <>
struct number_of<int> {
  using type = int;
};
template <>
struct number_of<long> {
  using type = long long;
};

}  // namespace zmlx_detail

template <class T>
ZMLX_FN T atomic_load_explicit(const volatile atomic<T>* object, memory_order) {
  using bits = zmlx_detail::bits_of<T>;
  return zmlx_detail::from_bits<T>(*reinterpret_cast<const volatile bits*>(&object->value));
}
template <class T, class U>
ZMLX_FN void atomic_store_explicit(volatile atomic<T>* object, U desired, memory_order) {
  using bits = zmlx_detail::bits_of<T>;
  *reinterpret_cast<volatile bits*>(&object->value) = zmlx_detail::to_bits(static_cast<T>(desired));
}
template <class T, class U>
ZMLX_FN bool atomic_compare_exchange_weak_explicit(
    volatile atomic<T>* object, T* expected, U desired, memory_order, memory_order) {
  const auto wanted = zmlx_detail::to_bits(*expected);
  const auto found = zmlx_detail::compare_and_swap(
      zmlx_detail::bits_at(object), wanted, zmlx_detail::to_bits(static_cast<T>(desired)));
  if (found == wanted) return true;
  *expected = zmlx_detail::from_bits<T>(found);
  return false;
}

namespace zmlx_detail {
template <class T, class F>
ZMLX_FN T update(volatile atomic<T>* object, F next) {
  T before = atomic_load_explicit(object, memory_order_relaxed);
  while (!atomic_compare_exchange_weak_explicit(
      object, &before, next(before), memory_order_relaxed, memory_order_relaxed)) {
  }
  return before;
}
}  // namespace zmlx_detail

template <class T, class U>
ZMLX_FN T atomic_exchange_explicit(volatile atomic<T>* object, U desired, memory_order) {
  const T value = static_cast<T>(desired);
  if constexpr (sizeof(T) >= 4)
    return zmlx_detail::from_bits<T>(atomicExch(zmlx_detail::bits_at(object), zmlx_detail::to_bits(value)));
  else
    return zmlx_detail::update(object, [value](T) { return value; });
}

template <class T, class U>
ZMLX_FN T atomic_fetch_add_explicit(volatile atomic<T>* object, U operand, memory_order) {
  const T b = static_cast<T>(operand);
  if constexpr (detail::same<T, float>())
    return atomicAdd(const_cast<float*>(&object->value), b);
  else if constexpr (zmlx_detail::is_atomic_integer<T>())
    return static_cast<T>(atomicAdd(zmlx_detail::bits_at(object), zmlx_detail::to_bits(b)));
  else
    return zmlx_detail::update(object, [b](T a) { return static_cast<T>(a + b); });
}
template <class T, class U>
ZMLX_FN T atomic_fetch_sub_explicit(volatile atomic<T>* object, U operand, memory_order order) {
  const T b = static_cast<T>(operand);
  if constexpr (detail::same<T, float>())
    return atomicAdd(const_cast<float*>(&object->value), -b);
  else if constexpr (zmlx_detail::is_atomic_integer<T>())
    return static_cast<T>(atomicAdd(zmlx_detail::bits_at(object), 0 - zmlx_detail::to_bits(b)));
  else
    return zmlx_detail::update(object, [b](T a) { return static_cast<T>(a - b); });
}

#define ZMLX_FETCH(name, builtin, type, expression)                                                                    \
  template <class T, class U>                                                                                          \
  ZMLX_FN T atomic_fetch_##name##_explicit(volatile atomic<T>* object, U operand, memory_order) {                      \
    const T b = static_cast<T>(operand);                                                                               \
    if constexpr (zmlx_detail::is_atomic_integer<T>()) {                                                               \
      using number = type;                                                                                             \
      return static_cast<T>(builtin(reinterpret_cast<number*>(zmlx_detail::bits_at(object)), static_cast<number>(b))); \
    } else {                                                                                                           \
      return zmlx_detail::update(object, [b](T a) { return static_cast<T>(expression); });                             \
    }                                                                                                                  \
  }
ZMLX_FETCH(min, atomicMin, typename zmlx_detail::number_of<T>::type, a < b ? a : b)
ZMLX_FETCH(max, atomicMax, typename zmlx_detail::number_of<T>::type, a > b ? a : b)
ZMLX_FETCH(and, atomicAnd, zmlx_detail::bits_of<T>, a & b)
ZMLX_FETCH(or, atomicOr, zmlx_detail::bits_of<T>, a | b)
ZMLX_FETCH(xor, atomicXor, zmlx_detail::bits_of<T>, a ^ b)
#undef ZMLX_FETCH

// The two 64-bit operations of Metal, which return nothing.
ZMLX_FN void atomic_max_explicit(volatile atomic<ulong>* object, ulong operand, memory_order order) {
  atomic_fetch_max_explicit(object, operand, order);
}
ZMLX_FN void atomic_min_explicit(volatile atomic<ulong>* object, ulong operand, memory_order order) {
  atomic_fetch_min_explicit(object, operand, order);
}

ZMLX_FN void atomic_thread_fence(mem_flags, memory_order, thread_scope scope = thread_scope_device) {
  if (scope == thread_scope_device)
    __threadfence();
  else
    __threadfence_block();
}

}  // namespace metal
