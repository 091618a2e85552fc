// <metal_geometric>: functions of vectors of floats. Products are summed in float, from the first component
// on.
#pragma once

#include "msl/math.h"

namespace metal {
namespace detail {

template <class A, class B = A, class V = joined_t<A, B>>
using if_float_vector = enable_if_t<is_vector<V>() && is_floating<element_t<V>>(), V>;

template <class V>
ZMLX_FN float dot_float(V x, V y) {
  float sum =
      static_cast<float>(x.x) * static_cast<float>(y.x) + static_cast<float>(x.y) * static_cast<float>(y.y);
  if constexpr (V::zmlx_lanes() > 2) {
    sum += static_cast<float>(x.z) * static_cast<float>(y.z);
  }
  if constexpr (V::zmlx_lanes() > 3) {
    sum += static_cast<float>(x.w) * static_cast<float>(y.w);
  }
  return sum;
}

}  // namespace detail

template <class A, class B, class V = detail::if_float_vector<A, B>>
ZMLX_FN auto dot(A x, B y) {
  return static_cast<detail::element_t<V>>(detail::dot_float<V>(x, y));
}
template <class A, class V = detail::if_float_vector<A>>
ZMLX_FN auto length_squared(A x) {
  return static_cast<detail::element_t<V>>(detail::dot_float<V>(x, x));
}
template <class A, class V = detail::if_float_vector<A>>
ZMLX_FN auto length(A x) {
  return static_cast<detail::element_t<V>>(impl::sqrt(detail::dot_float<V>(x, x)));
}
template <class A, class B, class V = detail::if_float_vector<A, B>>
ZMLX_FN auto distance_squared(A x, B y) {
  return length_squared(static_cast<V>(x) - static_cast<V>(y));
}
template <class A, class B, class V = detail::if_float_vector<A, B>>
ZMLX_FN auto distance(A x, B y) {
  return length(static_cast<V>(x) - static_cast<V>(y));
}
template <class A, class V = detail::if_float_vector<A>>
ZMLX_FN V normalize(A x) {
  using T = detail::element_t<V>;
  const float scale = 1.0f / impl::sqrt(detail::dot_float<V>(x, x));
  return detail::each<V>([=](auto a) ZMLX_LAMBDA { return static_cast<T>(static_cast<float>(a) * scale); },
                         x);
}

template <class A, class B, class V = detail::if_float_vector<A, B>>
ZMLX_FN V cross(A first, B second) {
  static_assert(V::zmlx_lanes() == 3, "cross: both vectors must have three components");
  const V x = first, y = second;
  return V(x.y * y.z - x.z * y.y, x.z * y.x - x.x * y.z, x.x * y.y - x.y * y.x);
}

// normal, turned against the incident vector as reference is
template <class A, class B, class C, class V = detail::if_float_vector<A, B>>
ZMLX_FN V faceforward(A normal, B incident, C reference) {
  const V n = normal;
  return detail::dot_float<V>(incident, reference) < 0.0f ? n : -n;
}
template <class A, class B, class V = detail::if_float_vector<A, B>>
ZMLX_FN V reflect(A incident, B normal) {
  const V i = incident, n = normal;
  return i - n * static_cast<detail::element_t<V>>(2.0f * detail::dot_float<V>(n, i));
}
// Zero where all light is reflected.
template <class A, class B, class E, class V = detail::if_float_vector<A, B>>
ZMLX_FN V refract(A incident, B normal, E eta) {
  using T = detail::element_t<V>;
  const V i = incident, n = normal;
  const float ratio = static_cast<float>(eta);
  const float cosine = detail::dot_float<V>(n, i);
  const float k = 1.0f - ratio * ratio * (1.0f - cosine * cosine);
  const float along = ratio * cosine + impl::sqrt(k < 0.0f ? 0.0f : k);
  return k < 0.0f ? V(T(0)) : V(i * static_cast<T>(ratio) - n * static_cast<T>(along));
}

namespace fast {
using metal::distance;
using metal::length;
using metal::normalize;
}  // namespace fast
namespace precise {
using metal::distance;
using metal::length;
using metal::normalize;
}  // namespace precise

}  // namespace metal
