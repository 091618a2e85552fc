// Which types a library function takes and returns, and how it is applied to all components of vectors.
//
// Metal declares its functions for each type by itself; here they are templates over the types that they are
// called with. They accept what overload resolution accepts on Metal, and refuse what it finds ambiguous there.
#pragma once

#include "msl/vector.h"

namespace metal {
namespace detail {

// The type of two arguments together: a vector if one is, else as in arithmetic.
template <class A, class B, bool = is_lane<A>() && is_lane<B>()>
struct joined : meeting<A, B> {};
template <class A>
struct joined<A, A, true> {
  using type = A;
};
template <class A, class B>
struct joined<A, B, true> : ternary<A, B> {};

template <class... A>
struct joined_all {};
template <class A>
struct joined_all<A> : conditional_t<is_vector<A>(), vector_of<A>, enable_if<is_lane<A>(), A>> {};
template <class A, class B>
struct joined_all<A, B> : joined<A, B> {};
template <class J, class C, class = void>
struct joined_next {};
template <class J, class C>
struct joined_next<J, C, detail::void_t<typename J::type>> : joined<typename J::type, C> {};
template <class A, class B, class C>
struct joined_all<A, B, C> : joined_next<joined<A, B>, C> {};
template <class... A>
using joined_t = typename joined_all<A...>::type;

// The same for functions that exist for floating-point types only.
template <class J, class V = vector_of_t<J>>
struct to_floating : enable_if<is_floating<element_t<V>>(), V> {};
template <class J>
struct to_floating<J, void> {
  using type = conditional_t<is_floating<J>(), J, float>;
};
template <class... A>
using math_t = typename to_floating<joined_t<A...>>::type;

// The functions of fast:: and precise:: exist for float, to which half converts.
template <class M>
using single = conditional_t<same<M, half>(), float, M>;
template <class... A>
using single_t = single<math_t<A...>>;

template <class J, class V = vector_of_t<J>>
struct truth {
  using type = bool_vector<V>;
};
template <class J>
struct truth<J, void> {
  using type = bool;
};

// Overloads for half and for float are equally far from an integer, and from a half with a float.
template <class... A>
constexpr bool picks_float_type() {
  return (!is_integer<A>() || ...) && !((same<A, half>() || ...) && (same<A, float>() || ...));
}

template <class A>
using overload = conditional_t<same<A, signed char>(), char, A>;
template <class A, class B>
constexpr bool same_overload() {
  return is_vector<A>() || is_vector<B>() || same<overload<A>, overload<B>>() || same<A, bool>() ||
         same<B, bool>() || __is_enum(A) || __is_enum(B) || same<A, bfloat>() || same<B, bfloat>();
}

#define ZMLX_REFUSE \
  "this call is ambiguous on Metal: cast the arguments to one type, as in max(x, T(0)) or sqrt(float(n))"

// F on the floats of all components, rounded to R's type.
template <class R, auto F, class... A>
ZMLX_FN R map_float(A... a) {
  static_assert(is_vector<R>() || picks_float_type<A...>(), ZMLX_REFUSE);
  if constexpr (is_vector<R>()) {
    using T = element_t<R>;
    return each<R>([](auto... x) ZMLX_LAMBDA { return F(static_cast<float>(static_cast<T>(x))...); }, a...);
  } else {
    return static_cast<R>(F(static_cast<float>(static_cast<R>(a))...));
  }
}

// F::call on all components as R's type, which may be an integer.
template <class R, class F, class A, class... B>
ZMLX_FN R map_exact(A a, B... b) {
  static_assert((same_overload<A, B>() && ...), ZMLX_REFUSE);
  if constexpr (is_vector<R>()) {
    using T = element_t<R>;
    return each<R>([](auto... x) ZMLX_LAMBDA { return F::call(convert<T>(x)...); }, a, b...);
  } else {
    return F::call(static_cast<R>(a), static_cast<R>(b)...);
  }
}

// F on the floats of all components, for predicates.
template <class R, auto F, class... A>
ZMLX_FN R map_truth(A... a) {
  static_assert(is_vector<R>() || picks_float_type<A...>(), ZMLX_REFUSE);
  if constexpr (is_vector<R>()) {
    return each<R>([](auto... x) ZMLX_LAMBDA { return F(static_cast<float>(x)...); }, a...);
  } else {
    return F(static_cast<float>(a)...);
  }
}

}  // namespace detail

}  // namespace metal
