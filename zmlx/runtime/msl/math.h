// <metal_math> and <metal_common>: for float, and through float for half and bfloat, for scalars and vectors;
// plain, fast:: and precise::.
#pragma once

#include "msl/overload.h"
#if defined(ZMLX_CUDA)
#include "cuda/math.h"
#else
#include "host/math.h"
#endif

namespace metal {

// ------------------------------------------------------------ float
namespace impl {

ZMLX_FN bool isnan(float x) { return x != x; }
ZMLX_FN bool isinf(float x) { return (as_type<uint>(x) & 0x7fffffffu) == 0x7f800000u; }
ZMLX_FN bool isfinite(float x) { return (as_type<uint>(x) & 0x7f800000u) != 0x7f800000u; }
ZMLX_FN bool isnormal(float x) {
  const uint exponent = as_type<uint>(x) & 0x7f800000u;
  return exponent != 0u && exponent != 0x7f800000u;
}
ZMLX_FN bool signbit(float x) { return as_type<int>(x) < 0; }
ZMLX_FN bool isordered(float x, float y) { return x == x && y == y; }
ZMLX_FN bool isunordered(float x, float y) { return x != x || y != y; }

ZMLX_FN float fmax3(float x, float y, float z) { return fmax(x, fmax(y, z)); }
ZMLX_FN float fmin3(float x, float y, float z) { return fmin(x, fmin(y, z)); }
ZMLX_FN float fmedian3(float x, float y, float z) { return fmax(fmin(x, y), fmin(fmax(x, y), z)); }

ZMLX_FN float divide(float x, float y) { return x / y; }
ZMLX_FN float fdim(float x, float y) {
  const float difference = x > y ? x - y : 0.0f;
  return x != x || y != y ? x + y : difference;
}
// In [0, 1): a tiny negative x leaves the largest float below 1.
ZMLX_FN float fract(float x) {
  const float y = x - floor(x);
  return y > 0x1.fffffep-1f ? 0x1.fffffep-1f : y;
}
ZMLX_FN float fraction(float x) { return isinf(x) ? 0.0f : x - trunc(x); }
ZMLX_FN float saturate(float x) { return fmin(fmax(x, 0.0f), 1.0f); }
ZMLX_FN float mix(float x, float y, float a) { return x + (y - x) * a; }
ZMLX_FN float sign(float x) {
  const float direction = x < 0.0f ? -1.0f : x;
  const float unit = x > 0.0f ? 1.0f : direction;
  return x != x ? 0.0f : unit;
}
ZMLX_FN float step(float edge, float x) { return x < edge ? 0.0f : 1.0f; }
ZMLX_FN float smoothstep(float edge0, float edge1, float x) {
  const float t = saturate((x - edge0) / (edge1 - edge0));
  return t * t * (3.0f - 2.0f * t);
}

ZMLX_FN float nextafter(float x, float y) {
  const int bits = as_type<int>(x);
  const bool away = (x < y) == (bits >= 0);
  const float neighbour = as_type<float>(away ? bits + 1 : bits - 1);
  const float least = as_type<float>(1 | (as_type<int>(y) & static_cast<int>(0x80000000u)));
  const float moved = x == 0.0f ? least : neighbour;
  const float ordinary = x == y ? y : moved;
  return x != x || y != y ? x + y : ordinary;
}

ZMLX_FN int ilogb(float x) {
  const float a = fabs(x);
  const int bits = as_type<int>(a < 0x1p-126f ? a * 0x1p24f : a);
  const int exponent = (bits >> 23) - (a < 0x1p-126f ? 127 + 24 : 127);
  const int finite = a == 0.0f ? FP_ILOGB0 : exponent;
  const int infinite = a == a ? 2147483647 : FP_ILOGBNAN;
  return isfinite(x) ? finite : infinite;
}

}  // namespace impl

namespace detail {

struct max_op {
  template <class T>
  static ZMLX_FN T call(T x, T y) {
    if constexpr (is_floating<T>()) {
      return static_cast<T>(impl::fmax(static_cast<float>(x), static_cast<float>(y)));
    } else {
      return x < y ? y : x;
    }
  }
};
struct min_op {
  template <class T>
  static ZMLX_FN T call(T x, T y) {
    if constexpr (is_floating<T>()) {
      return static_cast<T>(impl::fmin(static_cast<float>(x), static_cast<float>(y)));
    } else {
      return y < x ? y : x;
    }
  }
};
struct max3_op {
  template <class T>
  static ZMLX_FN T call(T x, T y, T z) {
    return max_op::call(x, max_op::call(y, z));
  }
};
struct min3_op {
  template <class T>
  static ZMLX_FN T call(T x, T y, T z) {
    return min_op::call(x, min_op::call(y, z));
  }
};
struct median3_op {
  template <class T>
  static ZMLX_FN T call(T x, T y, T z) {
    return max_op::call(min_op::call(x, y), min_op::call(max_op::call(x, y), z));
  }
};
struct clamp_op {
  template <class T>
  static ZMLX_FN T call(T x, T low, T high) {
    return min_op::call(max_op::call(x, low), high);
  }
};
struct abs_op {
  template <class T>
  static ZMLX_FN T call(T x) {
    if constexpr (is_floating<T>()) {
      return static_cast<T>(impl::fabs(static_cast<float>(x)));
    } else {
      return static_cast<T>(x < T(0) ? T(0) - x : x);
    }
  }
};

}  // namespace detail

// ------------------------------------------------------------ the functions
// `from` is impl or impl::fast, `result` the type that a call has.
#define ZMLX_MATH_1(from, name, result)           \
  template <class A, class R = detail::result<A>> \
  ZMLX_FN R name(A x) {                           \
    return detail::map_float<R, from::name>(x);   \
  }
#define ZMLX_MATH_2(from, name, result)                       \
  template <class A, class B, class R = detail::result<A, B>> \
  ZMLX_FN R name(A x, B y) {                                  \
    return detail::map_float<R, from::name>(x, y);            \
  }
#define ZMLX_MATH_3(from, name, result)                                   \
  template <class A, class B, class C, class R = detail::result<A, B, C>> \
  ZMLX_FN R name(A x, B y, C z) {                                         \
    return detail::map_float<R, from::name>(x, y, z);                     \
  }
#define ZMLX_SINCOS(from, result)                 \
  template <class A, class R = detail::result<A>> \
  ZMLX_FN R sincos(A x, R& cosine) {              \
    cosine = detail::map_float<R, from::cos>(x);  \
    return detail::map_float<R, from::sin>(x);    \
  }

// What has an accurate and a fast form.
#define ZMLX_ALL_MATH(X1, X2, from, result)                                                     \
  X1(from, acos, result) X1(from, acosh, result) X1(from, asin, result) X1(from, asinh, result) \
  X1(from, atan, result) X1(from, atanh, result) X1(from, cos, result) X1(from, cosh, result)   \
  X1(from, cospi, result) X1(from, exp, result) X1(from, exp10, result) X1(from, exp2, result)  \
  X1(from, log, result) X1(from, log10, result) X1(from, log2, result) X1(from, rsqrt, result)  \
  X1(from, sin, result) X1(from, sinh, result) X1(from, sinpi, result) X1(from, sqrt, result)   \
  X1(from, tan, result) X1(from, tanh, result) X1(from, tanpi, result)                          \
  X2(from, atan2, result) X2(from, divide, result) X2(from, fmod, result) X2(from, pow, result) \
  X2(from, powr, result)

#if defined(ZMLX_FAST_MATH)
ZMLX_ALL_MATH(ZMLX_MATH_1, ZMLX_MATH_2, impl::fast, math_t)
ZMLX_SINCOS(impl::fast, math_t)
#else
ZMLX_ALL_MATH(ZMLX_MATH_1, ZMLX_MATH_2, impl, math_t)
ZMLX_SINCOS(impl, math_t)
#endif

ZMLX_MATH_1(impl, ceil, math_t)
ZMLX_MATH_1(impl, fabs, math_t)
ZMLX_MATH_1(impl, floor, math_t)
ZMLX_MATH_1(impl, fract, math_t)
ZMLX_MATH_1(impl, rint, math_t)
ZMLX_MATH_1(impl, round, math_t)
ZMLX_MATH_1(impl, saturate, math_t)
ZMLX_MATH_1(impl, sign, math_t)
ZMLX_MATH_1(impl, trunc, math_t)
ZMLX_MATH_2(impl, copysign, math_t)
ZMLX_MATH_2(impl, fdim, math_t)
ZMLX_MATH_2(impl, fmax, math_t)
ZMLX_MATH_2(impl, fmin, math_t)
ZMLX_MATH_2(impl, step, math_t)
ZMLX_MATH_3(impl, fma, math_t)
ZMLX_MATH_3(impl, fmax3, math_t)
ZMLX_MATH_3(impl, fmedian3, math_t)
ZMLX_MATH_3(impl, fmin3, math_t)
ZMLX_MATH_3(impl, mix, math_t)
ZMLX_MATH_3(impl, smoothstep, math_t)

#define ZMLX_EXACT_2(name)                                      \
  template <class A, class B, class R = detail::joined_t<A, B>> \
  ZMLX_FN R name(A x, B y) {                                    \
    return detail::map_exact<R, detail::name##_op>(x, y);       \
  }
#define ZMLX_EXACT_3(name)                                                  \
  template <class A, class B, class C, class R = detail::joined_t<A, B, C>> \
  ZMLX_FN R name(A x, B y, C z) {                                           \
    return detail::map_exact<R, detail::name##_op>(x, y, z);                \
  }
ZMLX_EXACT_2(max)
ZMLX_EXACT_2(min)
ZMLX_EXACT_3(max3)
ZMLX_EXACT_3(min3)
ZMLX_EXACT_3(median3)
ZMLX_EXACT_3(clamp)

template <class A, class R = detail::joined_t<A>>
ZMLX_FN R abs(A x) {
  return detail::map_exact<R, detail::abs_op>(x);
}

// The neighbour of a half is a half's step away, not a float's.
template <class A, class B, class R = detail::math_t<A, B>, enable_if_t<!detail::is_vector<R>(), int> = 0>
ZMLX_FN R nextafter(A x, B y) {
  static_assert(detail::picks_float_type<A, B>(), ZMLX_REFUSE);
  if constexpr (detail::same<R, float>()) {
    return impl::nextafter(static_cast<float>(x), static_cast<float>(y));
  } else {
    const R from = static_cast<R>(x), to = static_cast<R>(y);
    const short bits = static_cast<short>(from.bits);
    const ushort next = static_cast<ushort>((from < to) == (bits >= 0) ? bits + 1 : bits - 1);
    const ushort least = static_cast<ushort>(1 | (to.bits & 0x8000));
    const R moved = from == 0.0f ? as_type<R>(least) : as_type<R>(next);
    const R ordinary = from == to ? to : moved;
    return from != from || to != to ? from + to : ordinary;
  }
}
template <class A, class B, class R = detail::math_t<A, B>, detail::if_vector<R> = 0>
ZMLX_FN R nextafter(A x, B y) {
  using T = detail::element_t<R>;
  return detail::each<R>([](auto a, auto b) { return nextafter(static_cast<T>(a), static_cast<T>(b)); }, x,
                         y);
}

// ------------------------------------------------------------ with integers
template <class A, class R = detail::math_t<A>, class K>
ZMLX_FN R ldexp(A x, K k) {
  if constexpr (detail::is_vector<R>()) {
    using T = detail::element_t<R>;
    return detail::each<R>(
        [](auto a, auto n) {
          return static_cast<T>(impl::ldexp(static_cast<float>(a), static_cast<int>(n)));
        },
        x, k);
  } else {
    return static_cast<R>(impl::ldexp(static_cast<float>(x), static_cast<int>(k)));
  }
}

template <class A, class R = detail::math_t<A>, enable_if_t<!detail::is_vector<R>(), int> = 0>
ZMLX_FN R frexp(A x, int& exponent) {
  return static_cast<R>(impl::frexp(static_cast<float>(x), exponent));
}
template <class A, class R = detail::math_t<A>, detail::if_vector<R> = 0>
ZMLX_FN R frexp(A x, vec<int, R::zmlx_lanes()>& exponent) {
  R y = x;
  for (int i = 0; i < R::zmlx_lanes(); ++i) {
    y.zmlx_data[i] = frexp(y.zmlx_data[i], exponent.zmlx_data[i]);
  }
  return y;
}

template <class A, class R = detail::math_t<A>>
ZMLX_FN auto ilogb(A x) {
  if constexpr (detail::is_vector<R>()) {
    return detail::each<vec<int, R::zmlx_lanes()>>([](auto a) { return impl::ilogb(static_cast<float>(a)); },
                                                 x);
  } else {
    return impl::ilogb(static_cast<float>(x));
  }
}

// The fraction, with the whole part stored; both have the sign of x.
template <class A, class R = detail::math_t<A>>
ZMLX_FN R modf(A x, R& whole) {
  whole = detail::map_float<R, impl::trunc>(x);
  const R fraction = detail::map_float<R, impl::fraction>(x);
  return detail::map_float<R, impl::copysign>(fraction, static_cast<R>(x));
}

// ------------------------------------------------------------ fast and precise
#define ZMLX_USE(from, name) using from::name;
#define ZMLX_SHARED_MATH(X)                                                                                 \
  X(metal, abs) X(metal, ceil) X(metal, clamp) X(metal, copysign) X(metal, fabs) X(metal, fdim)             \
  X(metal, floor) X(metal, fma) X(metal, fmax) X(metal, fmax3) X(metal, fmedian3) X(metal, fmin)            \
  X(metal, fmin3) X(metal, fract) X(metal, frexp) X(metal, ilogb) X(metal, ldexp) X(metal, max)             \
  X(metal, max3) X(metal, median3) X(metal, min) X(metal, min3) X(metal, mix) X(metal, modf)                \
  X(metal, nextafter) X(metal, rint) X(metal, round) X(metal, saturate) X(metal, sign) X(metal, smoothstep) \
  X(metal, step) X(metal, trunc)

namespace precise {
ZMLX_SHARED_MATH(ZMLX_USE)
ZMLX_ALL_MATH(ZMLX_MATH_1, ZMLX_MATH_2, impl, single_t)
ZMLX_SINCOS(impl, single_t)
}  // namespace precise

namespace fast {
ZMLX_SHARED_MATH(ZMLX_USE)
ZMLX_ALL_MATH(ZMLX_MATH_1, ZMLX_MATH_2, impl::fast, single_t)
ZMLX_SINCOS(impl::fast, single_t)
}  // namespace fast

#undef ZMLX_MATH_1
#undef ZMLX_MATH_2
#undef ZMLX_MATH_3
#undef ZMLX_EXACT_2
#undef ZMLX_EXACT_3
#undef ZMLX_SINCOS
#undef ZMLX_ALL_MATH
#undef ZMLX_SHARED_MATH
#undef ZMLX_USE

}  // namespace metal
