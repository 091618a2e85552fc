// vec<T, N> of 8 to 64 elements: they have no names and no swizzles, only elements and arithmetic.
#pragma once

#include "msl/vector.h"

namespace metal {
namespace detail {

// What these vectors are.
template <class T, int N>
struct alignas(alignment(N * sizeof(T))) wide {
  T zmlx_data[N];

  wide() = default;
  template <class S, if_lane<S> = 0>
  ZMLX_FN constexpr wide(S value) : zmlx_data{} {
    for (int i = 0; i < N; ++i) zmlx_data[i] = static_cast<T>(value);
  }
  template <class... A, enable_if_t<sizeof...(A) == N && (is_lane<A>() && ...), int> = 0>
  ZMLX_FN constexpr wide(A... values) : zmlx_data{static_cast<T>(values)...} {}
  template <class U, enable_if_t<!same<T, U>(), int> = 0>
  ZMLX_FN explicit constexpr wide(wide<U, N> other) : zmlx_data{} {
    for (int i = 0; i < N; ++i) zmlx_data[i] = static_cast<T>(other.zmlx_data[i]);
  }
  ZMLX_FN constexpr T& operator[](size_t i) { return zmlx_data[i]; }
  ZMLX_FN constexpr const T& operator[](size_t i) const { return zmlx_data[i]; }
};

}  // namespace detail

#define ZMLX_WIDE(N)                                                       \
  template <class T>                                                       \
  struct vec<T, N> : detail::wide<T, N> {                                  \
    using detail::wide<T, N>::wide;                                        \
    vec() = default;                                                       \
    ZMLX_FN constexpr vec(detail::wide<T, N> v) : detail::wide<T, N>(v) {} \
  };
ZMLX_WIDE(8)
ZMLX_WIDE(16)
ZMLX_WIDE(32)
ZMLX_WIDE(64)
#undef ZMLX_WIDE

#define ZMLX_BINARY(op, R)                                                                  \
  template <class T, int N, enable_if_t<(N > 4), int> = 0>                                  \
  ZMLX_FN constexpr vec<R, N> operator op(vec<T, N> a, vec<T, N> b) {                       \
    vec<R, N> c(static_cast<R>(0));                                                         \
    for (int i = 0; i < N; ++i) c[i] = static_cast<R>(a[i] op b[i]);                        \
    return c;                                                                               \
  }                                                                                         \
  template <class T, int N, class S, enable_if_t<(N > 4) && detail::is_lane<S>(), int> = 0> \
  ZMLX_FN constexpr vec<R, N> operator op(vec<T, N> a, S b) {                               \
    return a op vec<T, N>(b);                                                               \
  }                                                                                         \
  template <class T, int N, class S, enable_if_t<(N > 4) && detail::is_lane<S>(), int> = 0> \
  ZMLX_FN constexpr vec<R, N> operator op(S a, vec<T, N> b) {                               \
    return vec<T, N>(a) op b;                                                               \
  }
#define ZMLX_ARITHMETIC(op)                                             \
  ZMLX_BINARY(op, T)                                                    \
  template <class T, int N, class B, enable_if_t<(N > 4), int> = 0>     \
  ZMLX_FN constexpr vec<T, N>& operator op##=(vec<T, N>& a, B b) {      \
    return a = a op b;                                                  \
  }
ZMLX_ARITHMETIC(+)
ZMLX_ARITHMETIC(-)
ZMLX_ARITHMETIC(*)
ZMLX_ARITHMETIC(/)
ZMLX_ARITHMETIC(%)
ZMLX_ARITHMETIC(&)
ZMLX_ARITHMETIC(|)
ZMLX_ARITHMETIC(^)
ZMLX_ARITHMETIC(<<)
ZMLX_ARITHMETIC(>>)
ZMLX_BINARY(==, bool)
ZMLX_BINARY(!=, bool)
ZMLX_BINARY(<, bool)
ZMLX_BINARY(>, bool)
ZMLX_BINARY(<=, bool)
ZMLX_BINARY(>=, bool)
#undef ZMLX_ARITHMETIC
#undef ZMLX_BINARY

#define ZMLX_UNARY(op)                                                     \
  template <class T, int N, enable_if_t<(N > 4), int> = 0>                 \
  ZMLX_FN constexpr vec<T, N> operator op(vec<T, N> a) {                   \
    for (int i = 0; i < N; ++i) a[i] = static_cast<T>(op a[i]);            \
    return a;                                                              \
  }
ZMLX_UNARY(+)
ZMLX_UNARY(-)
ZMLX_UNARY(~)
#undef ZMLX_UNARY

}  // namespace metal
