// <metal_relational>: predicates, all, any and select.
#pragma once

#include "msl/math.h"

namespace metal {

#define ZMLX_TRUTH_1(name)                                                      \
  template <class A, class R = typename detail::truth<detail::math_t<A>>::type> \
  ZMLX_FN R name(A x) {                                                         \
    return detail::map_truth<R, impl::name>(x);                                 \
  }
#define ZMLX_TRUTH_2(name)                                                                  \
  template <class A, class B, class R = typename detail::truth<detail::math_t<A, B>>::type> \
  ZMLX_FN R name(A x, B y) {                                                                \
    return detail::map_truth<R, impl::name>(x, y);                                          \
  }
ZMLX_TRUTH_1(isfinite)
ZMLX_TRUTH_1(isinf)
ZMLX_TRUTH_1(isnan)
ZMLX_TRUTH_1(signbit)
ZMLX_TRUTH_2(isordered)
ZMLX_TRUTH_2(isunordered)

// A half may be normal where the float of equal value is, too, but not the other way round.
template <class A, class R = typename detail::truth<detail::math_t<A>>::type>
ZMLX_FN R isnormal(A x) {
  if constexpr (detail::is_vector<A>()) {
    return detail::each<R>([](auto a) { return isnormal(a); }, x);
  } else if constexpr (detail::same<A, half>()) {
    return (x.bits & 0x7c00) != 0 && (x.bits & 0x7c00) != 0x7c00;
  } else {
    return impl::isnormal(static_cast<float>(x));
  }
}

template <int N>
ZMLX_FN bool all(vec<bool, N> x) {
  return x.x && x.y && detail::lane<(N > 2 ? 2 : 0)>(x) && detail::lane<(N > 3 ? 3 : 0)>(x);
}
template <int N>
ZMLX_FN bool any(vec<bool, N> x) {
  return x.x || x.y || detail::lane<(N > 2 ? 2 : 0)>(x) || detail::lane<(N > 3 ? 3 : 0)>(x);
}
ZMLX_FN bool all(bool x) { return x; }
ZMLX_FN bool any(bool x) { return x; }

// b where the condition holds, else a
template <class A, class B, class C, class R = detail::joined_t<A, B>>
ZMLX_FN R select(A a, B b, C condition) {
  static_assert(detail::same_overload<A, B>(), ZMLX_REFUSE);
  if constexpr (detail::is_vector<R>()) {
    using T = detail::element_t<R>;
    return detail::each<R>([](auto x, auto y, auto c) { return c ? static_cast<T>(y) : static_cast<T>(x); },
                           a, b, condition);
  } else {
    return condition ? static_cast<R>(b) : static_cast<R>(a);
  }
}

#undef ZMLX_TRUTH_1
#undef ZMLX_TRUTH_2

}  // namespace metal
