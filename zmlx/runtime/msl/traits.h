// <metal_type_traits>, and as_type.
//
// Written out because the host's standard headers would take longer to read than all of this runtime, and NVRTC
// has none.
#pragma once

#include "msl/config.h"

namespace metal {

template <class T, T V>
struct integral_constant {
  static constexpr T value = V;
  using value_type = T;
  constexpr operator T() const { return V; }
};
template <bool B>
using bool_constant = integral_constant<bool, B>;
using true_type = bool_constant<true>;
using false_type = bool_constant<false>;

template <bool B, class T = void>
struct enable_if {};
template <class T>
struct enable_if<true, T> {
  using type = T;
};
template <bool B, class T = void>
using enable_if_t = typename enable_if<B, T>::type;

template <bool B, class T, class F>
struct conditional {
  using type = T;
};
template <class T, class F>
struct conditional<false, T, F> {
  using type = F;
};
template <bool B, class T, class F>
using conditional_t = typename conditional<B, T, F>::type;

namespace detail {

// Metal has none, and headers bring their own.
template <class...>
using void_t = void;

// What the runtime itself asks of types, it asks functions, here and in the other headers: NVRTC keeps each constant
// that it comes upon in the program, with its name, needed or not, and MLX hashes all of a program's bytes at each
// launch.
template <class T, class U>
struct pair_of {
  static constexpr bool equal() { return false; }
};
template <class T>
struct pair_of<T, T> {
  static constexpr bool equal() { return true; }
};
template <class T, class U>
constexpr bool same() {
  return pair_of<T, U>::equal();
}

}  // namespace detail

template <class T, class U>
inline constexpr bool is_same_v = detail::same<T, U>();
template <class T, class U>
struct is_same : bool_constant<detail::same<T, U>()> {};

template <class T>
struct remove_reference {
  using type = T;
};
template <class T>
struct remove_reference<T&> {
  using type = T;
};
template <class T>
struct remove_reference<T&&> {
  using type = T;
};
template <class T>
using remove_reference_t = typename remove_reference<T>::type;

template <class T>
struct remove_cv {
  using type = T;
};
template <class T>
struct remove_cv<const T> {
  using type = T;
};
template <class T>
struct remove_cv<volatile T> {
  using type = T;
};
template <class T>
struct remove_cv<const volatile T> {
  using type = T;
};
template <class T>
using remove_cv_t = typename remove_cv<T>::type;

template <class T>
struct remove_const {
  using type = T;
};
template <class T>
struct remove_const<const T> {
  using type = T;
};
template <class T>
using remove_const_t = typename remove_const<T>::type;

template <class T>
struct remove_pointer {
  using type = T;
};
template <class T>
struct remove_pointer<T*> {
  using type = T;
};
template <class T>
using remove_pointer_t = typename remove_pointer<T>::type;

template <class T>
struct decay {
  using type = remove_cv_t<remove_reference_t<T>>;
};
template <class T>
using decay_t = typename decay<T>::type;

template <class T>
T&& declval() noexcept;

struct half;
struct bfloat;
using float16_t = half;
using bfloat16_t = bfloat;

namespace detail {

// Two answers and no enumeration: comparing one would look for operators of half, which ask for the kind.
template <bool Integer, bool Floating>
struct kind {
  static constexpr bool integer() { return Integer; }
  static constexpr bool floating() { return Floating; }
};
using integer = kind<true, false>;
using floating = kind<false, true>;

template <class T>
struct kind_of : kind<false, false> {};
template <class T>
struct kind_of<const T> : kind_of<T> {};
template <class T>
struct kind_of<volatile T> : kind_of<T> {};
#define ZMLX_KIND(type, kind) \
  template <>                 \
  struct kind_of<type> : kind {};
ZMLX_KIND(bool, integer)
ZMLX_KIND(char, integer)
ZMLX_KIND(signed char, integer)
ZMLX_KIND(uchar, integer)
ZMLX_KIND(short, integer)
ZMLX_KIND(ushort, integer)
ZMLX_KIND(int, integer)
ZMLX_KIND(uint, integer)
ZMLX_KIND(long, integer)
ZMLX_KIND(ulong, integer)
ZMLX_KIND(long long, integer)
ZMLX_KIND(unsigned long long, integer)
ZMLX_KIND(half, floating)
ZMLX_KIND(bfloat, floating)
ZMLX_KIND(float, floating)
ZMLX_KIND(double, floating)
#undef ZMLX_KIND

template <class T>
constexpr bool is_integer() {
  return kind_of<T>::integer();
}
template <class T>
constexpr bool is_floating() {
  return kind_of<T>::floating();
}
template <class T>
constexpr bool is_number() {
  return is_integer<T>() || is_floating<T>();
}
template <class T>
constexpr bool is_small_float() {
  return same<T, half>() || same<T, bfloat>();
}

// Arithmetic types of the C++ compiler itself.
template <class T>
constexpr bool is_builtin() {
  return is_number<T>() && !is_small_float<T>();
}

template <class T>
constexpr bool has_sign() {
  if constexpr (is_integer<T>()) {
    return static_cast<T>(-1) < static_cast<T>(0);
  } else {
    return is_floating<T>();
  }
}

template <class T>
using if_integer = enable_if_t<is_integer<T>() || __is_enum(T), int>;
// Of an enum beside H itself, and not beside what could be converted to H: of `i < Q`, an integer and an enum, such
// operators would be as good as the compiler's own.
template <class A, class H, class E>
using if_enum_beside = enable_if_t<__is_enum(E) && same<A, H>(), int>;

}  // namespace detail

template <class T>
inline constexpr bool is_integral_v = detail::is_integer<T>();
template <class T>
inline constexpr bool is_floating_point_v = detail::is_floating<T>();
template <class T>
inline constexpr bool is_arithmetic_v = detail::is_number<T>();
template <class T>
inline constexpr bool is_pointer_v = false;
template <class T>
inline constexpr bool is_pointer_v<T*> = true;
template <class T>
inline constexpr bool is_void_v = detail::same<remove_cv_t<T>, void>();
template <class T>
inline constexpr bool is_const_v = false;
template <class T>
inline constexpr bool is_const_v<const T> = true;
template <class T>
inline constexpr bool is_enum_v = __is_enum(T);
template <class T>
inline constexpr bool is_scalar_v = detail::is_number<T>() || is_pointer_v<T> || __is_enum(T);

namespace detail {
template <class T>
void accept(T);
template <class From, class To, class = void>
inline constexpr bool converts = false;
template <class From, class To>
inline constexpr bool converts<From, To, decltype(accept<To>(declval<From>()))> = true;
}  // namespace detail

template <class T>
inline constexpr bool is_signed_v = detail::has_sign<T>();
template <class T>
inline constexpr bool is_unsigned_v = detail::is_integer<T>() && !detail::has_sign<T>();
template <class From, class To>
inline constexpr bool is_convertible_v = detail::converts<From, To>;

#define ZMLX_TRAIT(name) \
  template <class T>     \
  struct name : bool_constant<name##_v<T>> {};
ZMLX_TRAIT(is_integral)
ZMLX_TRAIT(is_floating_point)
ZMLX_TRAIT(is_arithmetic)
ZMLX_TRAIT(is_pointer)
ZMLX_TRAIT(is_void)
ZMLX_TRAIT(is_const)
ZMLX_TRAIT(is_enum)
ZMLX_TRAIT(is_scalar)
ZMLX_TRAIT(is_signed)
ZMLX_TRAIT(is_unsigned)
#undef ZMLX_TRAIT
template <class From, class To>
struct is_convertible : bool_constant<is_convertible_v<From, To>> {};

namespace detail {
template <size_t Size, bool Signed>
struct integer_of_size;
#define ZMLX_INTEGER(size, s, u)        \
  template <>                           \
  struct integer_of_size<size, true> {  \
    using type = s;                     \
  };                                    \
  template <>                           \
  struct integer_of_size<size, false> { \
    using type = u;                     \
  };
ZMLX_INTEGER(1, signed char, uchar)
ZMLX_INTEGER(2, short, ushort)
ZMLX_INTEGER(4, int, uint)
ZMLX_INTEGER(8, long, ulong)
#undef ZMLX_INTEGER
}  // namespace detail

template <class T>
using make_unsigned_t = typename detail::integer_of_size<sizeof(T), false>::type;
template <class T>
using make_signed_t = typename detail::integer_of_size<sizeof(T), true>::type;
template <class T>
struct make_unsigned {
  using type = make_unsigned_t<T>;
};
template <class T>
struct make_signed {
  using type = make_signed_t<T>;
};

// The value with the same bits.
template <class To, class From>
ZMLX_FN constexpr To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as_type: both types must have the same size");
  return __builtin_bit_cast(To, from);
}

}  // namespace metal
