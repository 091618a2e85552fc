// complex64_t and complex32_t of MLX's prelude: a real and an imaginary part with MLX's operators.
//
// Ordering compares the real parts first; division scales by the larger part of the divisor; % takes the sign
// of the divisor in each part.
#pragma once

#include "msl/relational.h"

namespace metal {

template <class T>
struct complex_t;

template <class T>
inline constexpr bool is_complex_v = false;
template <class T>
inline constexpr bool is_complex_v<complex_t<T>> = true;

namespace detail {
template <class U>
using if_real = enable_if_t<is_lane<U>(), bool>;
}

template <class T>
struct complex_t {
  using value_type = T;

  T real;
  T imag;

  ZMLX_FN constexpr complex_t() : real(0), imag(0) {}
  ZMLX_FN constexpr complex_t(T re, T im) : real(re), imag(im) {}
  template <class U, detail::if_real<U> = true>
  ZMLX_FN constexpr complex_t(U x) : real(static_cast<T>(x)), imag(static_cast<T>(0)) {}
  template <class U, enable_if_t<!detail::same<U, T>(), bool> = true>
  ZMLX_FN constexpr complex_t(complex_t<U> x) : real(static_cast<T>(x.real)), imag(static_cast<T>(x.imag)) {}
  ZMLX_FN constexpr complex_t(vec<T, 2> v) : real(v.x), imag(v.y) {}

  ZMLX_FN constexpr operator vec<T, 2>() const { return vec<T, 2>(real, imag); }
  template <class U, detail::if_real<U> = true>
  ZMLX_FN constexpr operator U() const {
    return static_cast<U>(real);
  }
};

using complex32_t = complex_t<half>;
using complex64_t = complex_t<float>;
static_assert(sizeof(complex32_t) == 4 && sizeof(complex64_t) == 8, "a complex number is two numbers");

template <class T>
ZMLX_FN constexpr complex_t<T> operator-(complex_t<T> x) {
  return {-x.real, -x.imag};
}
template <class T>
ZMLX_FN constexpr complex_t<T> operator+(complex_t<T> a, complex_t<T> b) {
  return {a.real + b.real, a.imag + b.imag};
}
template <class T>
ZMLX_FN constexpr complex_t<T> operator-(complex_t<T> a, complex_t<T> b) {
  return {a.real - b.real, a.imag - b.imag};
}
template <class T>
ZMLX_FN constexpr complex_t<T> operator*(complex_t<T> a, complex_t<T> b) {
  return {a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real};
}
template <class T>
ZMLX_FN constexpr complex_t<T> operator/(complex_t<T> a, complex_t<T> b) {
  const float ar = a.real, ai = a.imag, br = b.real, bi = b.imag;
  const bool real_larger = (br < 0 ? -br : br) >= (bi < 0 ? -bi : bi);
  const float ratio = real_larger ? bi / br : br / bi;
  const float scale = real_larger ? br + bi * ratio : bi + br * ratio;
  const float real = real_larger ? ar + ai * ratio : ar * ratio + ai;
  const float imag = real_larger ? ai - ar * ratio : ai * ratio - ar;
  return {static_cast<T>(real / scale), static_cast<T>(imag / scale)};
}

namespace detail {
template <class T>
ZMLX_FN constexpr T floored_remainder(T a, T b) {
  const T r = static_cast<T>(a - b * static_cast<T>(convert<int64_t>(a / b)));
  return r != 0 && (r < 0) != (b < 0) ? static_cast<T>(r + b) : r;
}
}  // namespace detail
template <class T>
ZMLX_FN constexpr complex_t<T> operator%(complex_t<T> a, complex_t<T> b) {
  return {detail::floored_remainder(a.real, b.real), detail::floored_remainder(a.imag, b.imag)};
}

#define ZMLX_COMPLEX_MIXED(op)                                              \
  template <class T, class U, detail::if_real<U> = true>                    \
  ZMLX_FN constexpr complex_t<T> operator op(complex_t<T> a, U b) {         \
    return a op complex_t<T>(static_cast<T>(b));                            \
  }                                                                         \
  template <class T, class U, detail::if_real<U> = true>                    \
  ZMLX_FN constexpr complex_t<T> operator op(U a, complex_t<T> b) {         \
    return complex_t<T>(static_cast<T>(a)) op b;                            \
  }                                                                         \
  template <class T, class U>                                               \
  ZMLX_FN constexpr complex_t<T>& operator op## = (complex_t<T> & a, U b) { \
    return a = a op b;                                                      \
  }
ZMLX_COMPLEX_MIXED(+)
ZMLX_COMPLEX_MIXED(-)
ZMLX_COMPLEX_MIXED(*)
ZMLX_COMPLEX_MIXED(/)
#undef ZMLX_COMPLEX_MIXED

template <class T>
ZMLX_FN constexpr bool operator==(complex_t<T> a, complex_t<T> b) {
  return a.real == b.real && a.imag == b.imag;
}
template <class T>
ZMLX_FN constexpr bool operator!=(complex_t<T> a, complex_t<T> b) {
  return !(a == b);
}
template <class T>
ZMLX_FN constexpr bool operator>(complex_t<T> a, complex_t<T> b) {
  return a.real > b.real || (a.real == b.real && a.imag > b.imag);
}
template <class T>
ZMLX_FN constexpr bool operator>=(complex_t<T> a, complex_t<T> b) {
  return a.real > b.real || (a.real == b.real && a.imag >= b.imag);
}
template <class T>
ZMLX_FN constexpr bool operator<(complex_t<T> a, complex_t<T> b) {
  return b > a;
}
template <class T>
ZMLX_FN constexpr bool operator<=(complex_t<T> a, complex_t<T> b) {
  return b >= a;
}

}  // namespace metal
