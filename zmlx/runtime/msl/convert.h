// Numbers to integers: what a float is as an integer that does not hold it.
//
// C++ leaves that undefined, and a vectorised loop, its remainder and a constant then differ from each other. Here it
// is what CUDA's `cvt.rzi` gives:
//
//     to int, uint             the nearest number of the type; NaN is 0
//     to long, ulong           the nearest number of the type; NaN has the highest bit alone
//     to char, short           as int, of which the lowest bits stay
//     to uchar, ushort         as uint, of which the lowest bits stay
//
// On CUDA the compiler's own conversion is that instruction. On the host it is written out, without branches, so that
// loops vectorise.
#pragma once

#include "msl/traits.h"

namespace metal {
namespace detail {

template <class T, class S>
constexpr bool truncates() {
  return is_integer<T>() && !same<remove_cv_t<T>, bool>() && is_floating<S>();
}

#if defined(ZMLX_CUDA) || defined(ZMLX_CHECK_ARITHMETIC)
// Where arithmetic is checked, the conversion itself is what the compiler watches.
template <class T>
ZMLX_FN constexpr T truncated(float x) {
  return static_cast<T>(x);
}
#else
template <class T>
ZMLX_FN constexpr T truncated(float x) {
  if constexpr (sizeof(T) < 4) {
    return static_cast<T>(truncated<conditional_t<has_sign<T>(), int, uint>>(x));
  } else if constexpr (has_sign<T>()) {
    constexpr float least = sizeof(T) == 4 ? -0x1p31f : -0x1p63f;
    constexpr T greatest = static_cast<T>(~0ul >> (65 - sizeof(T) * 8));
    const float number = sizeof(T) == 4 ? (x == x ? x : 0.0f) : x;
    const float above = number > least ? number : least;
    const bool over = above >= -least;
    const T inside = static_cast<T>(over ? 0.0f : above);
    return over ? greatest : inside;
  } else {
    constexpr float beyond = sizeof(T) == 4 ? 0x1p32f : 0x1p64f;
    const float above = x > 0.0f ? x : 0.0f;
    const bool over = above >= beyond;
    const T inside = static_cast<T>(over ? 0.0f : above);
    const T number = over ? static_cast<T>(~0ul) : inside;
    return sizeof(T) == 4 || x == x ? number : static_cast<T>(1ul << 63);
  }
}
#endif

// `static_cast<T>`, with a value for every float.
template <class T, class S>
ZMLX_FN constexpr T convert(S value) {
  if constexpr (truncates<T, S>()) {
    return truncated<remove_cv_t<T>>(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}

}  // namespace detail
}  // namespace metal
