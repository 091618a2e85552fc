// Metal's vector types: vec<T, N> and packed_vec<T, N> for N = 2, 3, 4, their operators and swizzles; wide_vector.h has
// those of 8 and 16.
//
// Layout is Metal's: a vector of three is as large as one of four, a packed vector has no padding. Vectors of
// different element types do not mix; a scalar operand is converted to the element type and used for every
// component.
#pragma once

#include "msl/types.h"

namespace metal {

template <class T, int N>
struct vec;
template <class T, int N>
struct packed_vec;

// The components that a swizzle names: v.zyx is v.swizzle(swz<2, 1, 0>()). It is const, so that what Metal's
// v.xy.x = 1 or ++v.xy would change does not go lost in a copy without a word.
template <int... I>
struct swz {};

namespace detail {

template <class V, int... I>
struct swizzle_proxy;

// The vec that a vector-like type is a form of; void for everything else.
template <class A>
struct vector_of {
  using type = void;
};
template <class T, int N>
struct vector_of<vec<T, N>> {
  using type = conditional_t<(N <= 4), vec<T, N>, void>;  // wider ones have arithmetic of their own
};
template <class T, int N>
struct vector_of<packed_vec<T, N>> {
  using type = vec<T, N>;
};
template <class V, int... I>
struct vector_of<swizzle_proxy<V, I...>> {
  using type = vec<typename V::zmlx_element, sizeof...(I)>;
};
template <class A>
using vector_of_t = typename vector_of<A>::type;

template <class A>
constexpr bool is_vector() {
  return !same<vector_of_t<A>, void>();
}
template <class A>
constexpr bool is_lane() {
  return is_number<A>() || __is_enum(A);
}

// Components of a vector; 1 for a scalar and 0 for anything else.
template <class A>
constexpr int width() {
  if constexpr (is_vector<A>()) {
    return vector_of_t<A>::zmlx_lanes();
  } else {
    return is_lane<A>() ? 1 : 0;
  }
}

template <class V>
using element_t = typename vector_of_t<V>::zmlx_element;

template <class A>
using if_vector = enable_if_t<is_vector<A>(), int>;
template <class A>
using if_lane = enable_if_t<is_lane<A>(), int>;

// Component I of a vector; a scalar has the same value in all.
template <int I, class A>
ZMLX_FN constexpr auto lane(A a) {
  if constexpr (!is_vector<A>()) {
    return a;
  } else if constexpr (I == 0) {
    return a.x;
  } else if constexpr (I == 1) {
    return a.y;
  } else if constexpr (I == 2) {
    return a.z;
  } else {
    return a.w;
  }
}
template <int I, class V, int... J>
ZMLX_FN constexpr auto lane(swizzle_proxy<V, J...> a) {
  constexpr int of[] = {J...};
  return lane<of[I]>(a.vector);
}

// Component I of several vectors and scalars laid end to end.
template <int I, class A, class... Rest>
ZMLX_FN constexpr auto joined_lane(A a, Rest... rest) {
  if constexpr (I < width<A>()) {
    return lane<I>(a);
  } else {
    return joined_lane<I - width<A>()>(rest...);
  }
}

// The vec with elements f(component of a, component of b, ...); scalars count for every component.
template <class R, class F, class... A>
ZMLX_FN constexpr R each(F f, A... a) {
  using T = typename R::zmlx_element;
  if constexpr (R::zmlx_lanes() == 2) {
    return R(convert<T>(f(lane<0>(a)...)), convert<T>(f(lane<1>(a)...)));
  } else if constexpr (R::zmlx_lanes() == 3) {
    return R(convert<T>(f(lane<0>(a)...)), convert<T>(f(lane<1>(a)...)),
             convert<T>(f(lane<2>(a)...)));
  } else {
    return R(convert<T>(f(lane<0>(a)...)), convert<T>(f(lane<1>(a)...)),
             convert<T>(f(lane<2>(a)...)), convert<T>(f(lane<3>(a)...)));
  }
}

// MLX's CPU arrays begin 8 bytes past a multiple of 16, so the host must not let the compiler count on more than that.
// The checker places arrays itself, and reports accesses that Metal's alignment forbids.
constexpr size_t alignment(size_t metal) {
#if defined(ZMLX_HOST) && !defined(ZMLX_CHECKED)
  return metal < 8 ? metal : 8;
#else
  return metal;
#endif
}

}  // namespace detail

#define ZMLX_COMPONENTS_2 T x, y;
#define ZMLX_COMPONENTS_3 T x, y, z;
#define ZMLX_COMPONENTS_4 T x, y, z, w;
#define ZMLX_COLOURS_2 T r, g;
#define ZMLX_COLOURS_3 T r, g, b;
#define ZMLX_COLOURS_4 T r, g, b, a;
#define ZMLX_INITIALISE_2(value) x(value(0)), y(value(1))
#define ZMLX_INITIALISE_3(value) ZMLX_INITIALISE_2(value), z(value(2))
#define ZMLX_INITIALISE_4(value) ZMLX_INITIALISE_3(value), w(value(3))
#define ZMLX_SPLAT(i) detail::convert<T>(value)
#define ZMLX_CONVERT(i) detail::convert<T>(detail::lane<i>(other))
#define ZMLX_JOIN(i) detail::convert<T>(detail::joined_lane<i>(first, second, rest...))

#define ZMLX_COMPOUND(op, self)                       \
  template <class B>                                  \
  ZMLX_FN constexpr self& operator op## = (B other) { \
    return *this = self(*this op other);              \
  }
#define ZMLX_EACH_COMPOUND(what, self)                                                              \
  what(+, self) what(-, self) what(*, self) what(/, self) what(%, self) what(&, self) what(|, self) \
      what(^, self) what(<<, self) what(>>, self)

#define ZMLX_VECTOR(self, other_form, N, room, metal_alignment)                                             \
  template <class T>                                                                                        \
  struct alignas(metal_alignment) self<T, N> {                                                              \
    union {                                                                                                 \
      struct {                                                                                              \
        ZMLX_COMPONENTS_##N                                                                                 \
      };                                                                                                    \
      struct {                                                                                              \
        ZMLX_COLOURS_##N                                                                                    \
      };                                                                                                    \
      T zmlx_data[room];                                                                                    \
    };                                                                                                      \
    using zmlx_element = T;                                                                                 \
    static constexpr int zmlx_lanes() { return N; }                                                         \
    self() = default;                                                                                       \
    template <class S, detail::if_lane<S> = 0>                                                              \
    ZMLX_FN constexpr self(S value) : ZMLX_INITIALISE_##N(ZMLX_SPLAT) {}                                    \
    template <class A, class B, class... Rest,                                                              \
              enable_if_t<detail::width<A>() * detail::width<B>() != 0 &&                                   \
                              detail::width<A>() + (detail::width<B>() + ... + detail::width<Rest>()) == N, \
                          int> = 0>                                                                         \
    ZMLX_FN constexpr self(A first, B second, Rest... rest) : ZMLX_INITIALISE_##N(ZMLX_JOIN) {}             \
    ZMLX_FN constexpr self(other_form<T, N> other) : ZMLX_INITIALISE_##N(ZMLX_CONVERT) {}                   \
    template <class U, enable_if_t<!detail::same<T, U>(), int> = 0>                                         \
    ZMLX_FN explicit constexpr self(vec<U, N> other) : ZMLX_INITIALISE_##N(ZMLX_CONVERT) {}                 \
    template <class U, enable_if_t<!detail::same<T, U>(), int> = 0>                                         \
    ZMLX_FN explicit constexpr self(packed_vec<U, N> other) : ZMLX_INITIALISE_##N(ZMLX_CONVERT) {}          \
    ZMLX_FN constexpr T& operator[](size_t i) { return zmlx_data[i]; }                                      \
    ZMLX_FN constexpr const T& operator[](size_t i) const { return zmlx_data[i]; }                          \
    template <int... I>                                                                                     \
    ZMLX_FN constexpr const vec<T, sizeof...(I)> swizzle(swz<I...>) const {                                 \
      static_assert(((I < N) && ...), "the vector has no component of that name");                          \
      return vec<T, sizeof...(I)>(detail::lane<I>(*this)...);                                               \
    }                                                                                                       \
    template <int... I>                                                                                     \
    ZMLX_FN constexpr detail::swizzle_proxy<self, I...> swizzle_ref(swz<I...>) {                            \
      static_assert(((I < N) && ...), "the vector has no component of that name");                          \
      return {*this};                                                                                       \
    }                                                                                                       \
    ZMLX_EACH_COMPOUND(ZMLX_COMPOUND, self)                                                                 \
    ZMLX_FN constexpr self& operator++() { return *this += 1; }                                             \
    ZMLX_FN constexpr self& operator--() { return *this -= 1; }                                             \
    ZMLX_FN constexpr self operator++(int) {                                                                \
      const self old = *this;                                                                               \
      *this += 1;                                                                                           \
      return old;                                                                                           \
    }                                                                                                       \
    ZMLX_FN constexpr self operator--(int) {                                                                \
      const self old = *this;                                                                               \
      *this -= 1;                                                                                           \
      return old;                                                                                           \
    }                                                                                                       \
  };

ZMLX_VECTOR(vec, packed_vec, 2, 2, detail::alignment(2 * sizeof(T)))
ZMLX_VECTOR(vec, packed_vec, 3, 4, detail::alignment(4 * sizeof(T)))
ZMLX_VECTOR(vec, packed_vec, 4, 4, detail::alignment(4 * sizeof(T)))
ZMLX_VECTOR(packed_vec, vec, 2, 2, alignof(T))
ZMLX_VECTOR(packed_vec, vec, 3, 3, alignof(T))
ZMLX_VECTOR(packed_vec, vec, 4, 4, alignof(T))

namespace detail {

#define ZMLX_COMPOUND_PROXY(op, self)                             \
  template <class B>                                              \
  ZMLX_FN constexpr const self& operator op## = (B other) const { \
    return *this = static_cast<value>(*this) op other;            \
  }

// Components of a vector that are assigned to. The right-hand side is evaluated before any component changes.
template <class V, int... I>
struct swizzle_proxy {
  using value = vec<typename V::zmlx_element, sizeof...(I)>;
  V& vector;

  ZMLX_FN constexpr operator value() const { return vector.swizzle(swz<I...>()); }
  ZMLX_FN constexpr const swizzle_proxy& operator=(value v) const {
    assign<0, I...>(v);
    return *this;
  }
  ZMLX_FN constexpr const swizzle_proxy& operator=(const swizzle_proxy& other) const {
    return *this = static_cast<value>(other);
  }
  ZMLX_EACH_COMPOUND(ZMLX_COMPOUND_PROXY, swizzle_proxy)

 private:
  template <int From, int To, int... Rest>
  ZMLX_FN constexpr void assign(value v) const {
    if constexpr (To == 0) {
      vector.x = lane<From>(v);
    } else if constexpr (To == 1) {
      vector.y = lane<From>(v);
    } else if constexpr (To == 2) {
      vector.z = lane<From>(v);
    } else {
      vector.w = lane<From>(v);
    }
    if constexpr (sizeof...(Rest) != 0) {
      assign<From + 1, Rest...>(v);
    }
  }
};

// The vec in which two operands meet: both have it as their vector type, or one is a scalar.
template <class A, class B, class VA = vector_of_t<A>, class VB = vector_of_t<B>>
struct meeting {};
template <class A, class B, class V>
struct meeting<A, B, V, V> {
  using type = V;
};
template <class A, class B>
struct meeting<A, B, void, void> {};
template <class A, class B, class V>
struct meeting<A, B, V, void> : enable_if<is_lane<B>(), V> {};
template <class A, class B, class V>
struct meeting<A, B, void, V> : enable_if<is_lane<A>(), V> {};
template <class A, class B>
using meeting_t = typename meeting<A, B>::type;

template <class V>
using bool_vector = vec<bool, V::zmlx_lanes()>;

// A shift by the width of the type or more counts modulo the width, as in Metal.
template <class T>
constexpr int shift_mask() {
  return static_cast<int>(sizeof(T) * 8) - 1;
}

}  // namespace detail

#define ZMLX_BINARY(op, result)                                                                                   \
  template <class A, class B, class V = detail::meeting_t<A, B>>                                                  \
  ZMLX_FN constexpr result operator op(A a, B b) {                                                                \
    using T = typename V::zmlx_element;                                                                           \
    return detail::each<result>([](auto x, auto y) { return detail::convert<T>(x) op detail::convert<T>(y); }, a, \
                                b);                                                                               \
  }
ZMLX_BINARY(+, V)
ZMLX_BINARY(-, V)
ZMLX_BINARY(*, V)
ZMLX_BINARY(/, V)
ZMLX_BINARY(%, V)
ZMLX_BINARY(&, V)
ZMLX_BINARY(|, V)
ZMLX_BINARY(^, V)
ZMLX_BINARY(==, detail::bool_vector<V>)
ZMLX_BINARY(!=, detail::bool_vector<V>)
ZMLX_BINARY(<, detail::bool_vector<V>)
ZMLX_BINARY(>, detail::bool_vector<V>)
ZMLX_BINARY(<=, detail::bool_vector<V>)
ZMLX_BINARY(>=, detail::bool_vector<V>)
ZMLX_BINARY(&&, detail::bool_vector<V>)
ZMLX_BINARY(||, detail::bool_vector<V>)
#undef ZMLX_BINARY

#define ZMLX_SHIFT(op)                                                                                         \
  template <class A, class B, class V = detail::meeting_t<A, B>>                                               \
  ZMLX_FN constexpr V operator op(A a, B b) {                                                                  \
    using T = typename V::zmlx_element;                                                                        \
    return detail::each<V>(                                                                                    \
        [](auto x, auto y) { return static_cast<T>(x) op(static_cast<int>(y) & detail::shift_mask<T>()); }, a, \
        b);                                                                                                    \
  }
ZMLX_SHIFT(<<)
ZMLX_SHIFT(>>)
#undef ZMLX_SHIFT

#define ZMLX_UNARY(op, result)                                   \
  template <class A, detail::if_vector<A> = 0>                   \
  ZMLX_FN constexpr auto operator op(A a) {                      \
    using V = detail::vector_of_t<A>;                            \
    return detail::each<result>([](auto x) { return op x; }, a); \
  }
ZMLX_UNARY(+, V)
ZMLX_UNARY(-, V)
ZMLX_UNARY(~, V)
ZMLX_UNARY(!, detail::bool_vector<V>)
#undef ZMLX_UNARY

#define ZMLX_NAMES(T)                     \
  using T##2 = vec<T, 2>;                 \
  using T##3 = vec<T, 3>;                 \
  using T##4 = vec<T, 4>;                 \
  using packed_##T##2 = packed_vec<T, 2>; \
  using packed_##T##3 = packed_vec<T, 3>; \
  using packed_##T##4 = packed_vec<T, 4>;
ZMLX_NAMES(bool)
ZMLX_NAMES(char)
ZMLX_NAMES(uchar)
ZMLX_NAMES(short)
ZMLX_NAMES(ushort)
ZMLX_NAMES(int)
ZMLX_NAMES(uint)
ZMLX_NAMES(long)
ZMLX_NAMES(ulong)
ZMLX_NAMES(half)
ZMLX_NAMES(bfloat)
ZMLX_NAMES(float)
#undef ZMLX_NAMES

#undef ZMLX_VECTOR
#undef ZMLX_COMPOUND
#undef ZMLX_COMPOUND_PROXY
#undef ZMLX_EACH_COMPOUND
#undef ZMLX_SPLAT
#undef ZMLX_CONVERT
#undef ZMLX_JOIN

}  // namespace metal
