// Metal's scalar types: type traits, as_type, half, bfloat, numeric_limits and the library's constants.
//
// half and bfloat are classes over their 16 bits. Arithmetic goes through float and rounds after each
// operation, which is exact for + - * / and sqrt: float has more than twice their precision plus two bits, so
// that rounding twice equals rounding once. Conversions follow Metal: half converts to and from every
// arithmetic type implicitly, bfloat converts to float implicitly, and from float or half only by a cast.
#pragma once

#include "msl_config.h"

namespace metal {

// ---------------------------------------------------------------------------------------------- type traits
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

template <class...>
using void_t = void;

template <class T, class U>
inline constexpr bool is_same_v = false;
template <class T>
inline constexpr bool is_same_v<T, T> = true;
template <class T, class U>
struct is_same : bool_constant<is_same_v<T, U>> {};

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

// Plain numbers: comparing a scoped enumeration would look for operators of half, which ask for the kind.
inline constexpr int other = 0, integer = 1, floating = 2;

template <class T>
inline constexpr int kind_of = other;
template <class T>
inline constexpr int kind_of<const T> = kind_of<T>;
template <class T>
inline constexpr int kind_of<volatile T> = kind_of<T>;
#define ZMLX_KIND(type, kind) \
  template <>                 \
  inline constexpr int kind_of<type> = kind;
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
inline constexpr bool is_small_float = is_same_v<T, half> || is_same_v<T, bfloat>;

// Arithmetic types of the C++ compiler itself.
template <class T>
inline constexpr bool is_builtin = kind_of<T> != other && !is_small_float<T>;

template <class T>
using if_integer = enable_if_t<kind_of<T> == integer, int>;

}  // namespace detail

template <class T>
inline constexpr bool is_integral_v = detail::kind_of<T> == detail::integer;
template <class T>
inline constexpr bool is_floating_point_v = detail::kind_of<T> == detail::floating;
template <class T>
inline constexpr bool is_arithmetic_v = detail::kind_of<T> != detail::other;
template <class T>
inline constexpr bool is_pointer_v = false;
template <class T>
inline constexpr bool is_pointer_v<T*> = true;
template <class T>
inline constexpr bool is_void_v = is_same_v<remove_cv_t<T>, void>;
template <class T>
inline constexpr bool is_const_v = false;
template <class T>
inline constexpr bool is_const_v<const T> = true;
template <class T>
inline constexpr bool is_enum_v = __is_enum(T);
template <class T>
inline constexpr bool is_scalar_v = is_arithmetic_v<T> || is_pointer_v<T> || is_enum_v<T>;

namespace detail {
template <class T, bool = is_integral_v<T>>
inline constexpr bool is_signed_impl = is_floating_point_v<T>;
template <class T>
inline constexpr bool is_signed_impl<T, true> = static_cast<T>(-1) < static_cast<T>(0);

template <class T>
void accept(T);
template <class From, class To, class = void>
inline constexpr bool converts = false;
template <class From, class To>
inline constexpr bool converts<From, To, decltype(accept<To>(declval<From>()))> = true;
}  // namespace detail

template <class T>
inline constexpr bool is_signed_v = detail::is_signed_impl<T>;
template <class T>
inline constexpr bool is_unsigned_v = is_integral_v<T> && !is_signed_v<T>;
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

// ---------------------------------------------------------------------------------------------- as_type
template <class To, class From>
ZMLX_FN constexpr To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as_type: both types must have the same size");
  return __builtin_bit_cast(To, from);
}

// ---------------------------------------------------------------------------------------------- 16-bit
// conversions
namespace detail {

// Branch-free, so that loops vectorise; constexpr, so that literals are constants.
ZMLX_FN constexpr float half_to_float_portable(ushort h) {
  const uint magnitude = static_cast<uint>(h & 0x7fff) << 13;
  const uint rebias = magnitude + (112u << 23);
  const float subnormal = as_type<float>(magnitude + (113u << 23)) - as_type<float>(113u << 23);
  const uint finite = magnitude < (1u << 23) ? as_type<uint>(subnormal) : rebias;
  const uint bits = magnitude >= (31u << 23) ? rebias + (112u << 23) : finite;
  return as_type<float>(bits | static_cast<uint>(h & 0x8000) << 16);
}

ZMLX_FN constexpr ushort float_to_half_portable(float f) {
  const uint bits = as_type<uint>(f);
  const uint magnitude = bits & 0x7fffffffu;
  // Adding 0.5 leaves a subnormal half, rounded to nearest even, in the lowest bits of the sum.
  const float clamped = as_type<float>(magnitude < (113u << 23) ? magnitude : 0u);
  const uint subnormal = as_type<uint>(clamped + 0.5f) - as_type<uint>(0.5f);
  const uint normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint finite = magnitude < (113u << 23) ? subnormal : normal;
  const uint special = magnitude > (255u << 23) ? 0x7e00u : 0x7c00u;
  return static_cast<ushort>((magnitude < (143u << 23) ? finite : special) | (bits >> 16 & 0x8000u));
}

ZMLX_FN constexpr ushort float_to_bfloat_portable(float f) {
  const uint bits = as_type<uint>(f);
  const uint rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint quiet = (bits >> 16) | 0x40u;
  return static_cast<ushort>((bits & 0x7fffffffu) > (255u << 23) ? quiet : rounded);
}

#if defined(ZMLX_CUDA)
ZMLX_FN float half_to_float_native(ushort h) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
}
ZMLX_FN ushort float_to_half_native(float f) {
  ushort h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}
#elif defined(ZMLX_NATIVE_HALF)
ZMLX_FN float half_to_float_native(ushort h) {
  return static_cast<float>(__builtin_bit_cast(ZMLX_NATIVE_HALF, h));
}
ZMLX_FN ushort float_to_half_native(float f) {
  return __builtin_bit_cast(ushort, static_cast<ZMLX_NATIVE_HALF>(f));
}
#else
ZMLX_FN float half_to_float_native(ushort h) { return half_to_float_portable(h); }
ZMLX_FN ushort float_to_half_native(float f) { return float_to_half_portable(f); }
#endif

#if defined(ZMLX_CUDA) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
ZMLX_FN ushort float_to_bfloat_native(float f) {
  ushort b;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(b) : "f"(f));
  return b;
}
#else
ZMLX_FN ushort float_to_bfloat_native(float f) { return float_to_bfloat_portable(f); }
#endif

ZMLX_FN constexpr float half_to_float(ushort h) {
  return __builtin_is_constant_evaluated() ? half_to_float_portable(h) : half_to_float_native(h);
}
ZMLX_FN constexpr ushort float_to_half(float f) {
  return __builtin_is_constant_evaluated() ? float_to_half_portable(f) : float_to_half_native(f);
}
ZMLX_FN constexpr float bfloat_to_float(ushort b) { return as_type<float>(static_cast<uint>(b) << 16); }
ZMLX_FN constexpr ushort float_to_bfloat(float f) {
  return __builtin_is_constant_evaluated() ? float_to_bfloat_portable(f) : float_to_bfloat_native(f);
}

struct from_bits_t {};

}  // namespace detail

// ---------------------------------------------------------------------------------------------- half and
// bfloat What both classes share. An operator with an integer converts it to the class's type, one with a
// float yields float: C++'s usual arithmetic conversions, which the overloads spell out because a class has
// none of its own.
#define ZMLX_SMALL_FLOAT_BODY(H)                                         \
  ushort bits;                                                           \
  H() = default;                                                         \
  ZMLX_FN constexpr H(detail::from_bits_t, ushort b) : bits(b) {}        \
  template <class T, detail::if_integer<T> = 0>                          \
  ZMLX_FN constexpr H(T value) : H(static_cast<float>(value)) {}         \
  template <class T>                                                     \
  ZMLX_FN constexpr H& operator+=(T b) {                                 \
    return *this = static_cast<H>(*this + b);                            \
  }                                                                      \
  template <class T>                                                     \
  ZMLX_FN constexpr H& operator-=(T b) {                                 \
    return *this = static_cast<H>(*this - b);                            \
  }                                                                      \
  template <class T>                                                     \
  ZMLX_FN constexpr H& operator*=(T b) {                                 \
    return *this = static_cast<H>(*this * b);                            \
  }                                                                      \
  template <class T>                                                     \
  ZMLX_FN constexpr H& operator/=(T b) {                                 \
    return *this = static_cast<H>(*this / b);                            \
  }                                                                      \
  ZMLX_FN constexpr H operator+() const { return *this; }                \
  ZMLX_FN constexpr H operator-() const {                                \
    return H(detail::from_bits_t{}, static_cast<ushort>(bits ^ 0x8000)); \
  }                                                                      \
  ZMLX_FN constexpr H& operator++() { return *this += 1; }               \
  ZMLX_FN constexpr H& operator--() { return *this -= 1; }               \
  ZMLX_FN constexpr H operator++(int) {                                  \
    H old = *this;                                                       \
    *this += 1;                                                          \
    return old;                                                          \
  }                                                                      \
  ZMLX_FN constexpr H operator--(int) {                                  \
    H old = *this;                                                       \
    *this -= 1;                                                          \
    return old;                                                          \
  }

struct half {
  ZMLX_SMALL_FLOAT_BODY(half)
  ZMLX_FN constexpr half(float value) : bits(detail::float_to_half(value)) {}
  ZMLX_FN constexpr half(double value) : half(static_cast<float>(value)) {}
  ZMLX_FN explicit constexpr half(bfloat value);
  ZMLX_FN constexpr operator float() const { return detail::half_to_float(bits); }
};

struct bfloat {
  ZMLX_SMALL_FLOAT_BODY(bfloat)
  ZMLX_FN explicit constexpr bfloat(float value) : bits(detail::float_to_bfloat(value)) {}
  ZMLX_FN explicit constexpr bfloat(double value) : bfloat(static_cast<float>(value)) {}
  ZMLX_FN explicit constexpr bfloat(half value) : bfloat(static_cast<float>(value)) {}
  ZMLX_FN constexpr operator float() const { return detail::bfloat_to_float(bits); }
};

ZMLX_FN constexpr half::half(bfloat value) : half(static_cast<float>(value)) {}

#undef ZMLX_SMALL_FLOAT_BODY

#define ZMLX_MIXED(H, R, op, same)                                                     \
  ZMLX_FN constexpr same operator op(H a, H b) {                                       \
    return static_cast<same>(static_cast<float>(a) op static_cast<float>(b));          \
  }                                                                                    \
  ZMLX_FN constexpr R operator op(H a, float b) { return static_cast<float>(a) op b; } \
  ZMLX_FN constexpr R operator op(float a, H b) { return a op static_cast<float>(b); } \
  template <class T, detail::if_integer<T> = 0>                                        \
  ZMLX_FN constexpr same operator op(H a, T b) {                                       \
    return a op H(b);                                                                  \
  }                                                                                    \
  template <class T, detail::if_integer<T> = 0>                                        \
  ZMLX_FN constexpr same operator op(T a, H b) {                                       \
    return H(a) op b;                                                                  \
  }
#define ZMLX_SMALL_FLOAT_OPERATORS(H) \
  ZMLX_MIXED(H, float, +, H)          \
  ZMLX_MIXED(H, float, -, H)          \
  ZMLX_MIXED(H, float, *, H)          \
  ZMLX_MIXED(H, float, /, H)          \
  ZMLX_MIXED(H, bool, ==, bool)       \
  ZMLX_MIXED(H, bool, !=, bool)       \
  ZMLX_MIXED(H, bool, <, bool)        \
  ZMLX_MIXED(H, bool, >, bool)        \
  ZMLX_MIXED(H, bool, <=, bool)       \
  ZMLX_MIXED(H, bool, >=, bool)
ZMLX_SMALL_FLOAT_OPERATORS(half)
ZMLX_SMALL_FLOAT_OPERATORS(bfloat)
#undef ZMLX_SMALL_FLOAT_OPERATORS
#undef ZMLX_MIXED

static_assert(sizeof(half) == 2 && alignof(half) == 2 && sizeof(bfloat) == 2, "16-bit floats have two bytes");

namespace detail {

// The type of `c ? a : b`. Where a class is involved C++ finds conversions both ways and gives up; Metal,
// where half is arithmetic, does not. A translator writes (c ? static_cast<ternary_t<A, B>>(a) :
// static_cast<ternary_t<A, B>>(b)).
template <class A, class B, class = void>
struct ternary {
  using type = decltype(true ? declval<A>() : declval<B>());
};
template <class A>
struct ternary<A, A, void> {
  using type = A;
};
template <class A, class B>
struct ternary<A, B,
               enable_if_t<!is_same_v<A, B> && (is_small_float<decay_t<A>> || is_small_float<decay_t<B>>) &&
                           is_arithmetic_v<decay_t<A>> && is_arithmetic_v<decay_t<B>>>> {
  using type = conditional_t<is_same_v<decay_t<A>, decay_t<B>>, decay_t<A>,
                             decltype(declval<decay_t<A>>() + declval<decay_t<B>>())>;
};
template <class A, class B>
using ternary_t = typename ternary<A, B>::type;

}  // namespace detail

// ----------------------------------------------------------------------------------------------
// numeric_limits
namespace detail {

template <class T>
struct integer_limits {
  static constexpr bool is_specialized = true;
  static constexpr bool is_signed = is_signed_v<T>;
  static constexpr bool is_integer = true;
  static constexpr bool is_exact = true;
  static constexpr bool has_infinity = false;
  static constexpr bool has_quiet_NaN = false;
  static constexpr int radix = 2;
  static constexpr int digits = static_cast<int>(sizeof(T) * 8) - (is_signed ? 1 : 0);
  static constexpr int digits10 = digits * 1233 / 4096;
  static ZMLX_FN constexpr T max() { return static_cast<T>(~0ul >> (64 - digits)); }
  static ZMLX_FN constexpr T min() { return is_signed ? static_cast<T>(-max() - 1) : static_cast<T>(0); }
  static ZMLX_FN constexpr T lowest() { return min(); }
};

struct float_limits {
  static constexpr bool is_specialized = true;
  static constexpr bool is_signed = true;
  static constexpr bool is_integer = false;
  static constexpr bool is_exact = false;
  static constexpr bool has_infinity = true;
  static constexpr bool has_quiet_NaN = true;
  static constexpr int radix = 2;
};

}  // namespace detail

template <class T>
struct numeric_limits : detail::integer_limits<T> {
  static_assert(is_integral_v<T>, "numeric_limits: not an arithmetic type of Metal");
};
template <class T>
struct numeric_limits<const T> : numeric_limits<T> {};

template <>
struct numeric_limits<bool> : detail::integer_limits<uchar> {
  static constexpr int digits = 1;
  static constexpr int digits10 = 0;
  static ZMLX_FN constexpr bool max() { return true; }
  static ZMLX_FN constexpr bool min() { return false; }
  static ZMLX_FN constexpr bool lowest() { return false; }
};

#define ZMLX_FLOAT_LIMITS(T, make, max_, min_, inf_, nan_, eps_, denorm_, digits_, digits10_, min_e, max_e) \
  template <>                                                                                               \
  struct numeric_limits<T> : detail::float_limits {                                                         \
    static constexpr int digits = digits_;                                                                  \
    static constexpr int digits10 = digits10_;                                                              \
    static constexpr int min_exponent = min_e;                                                              \
    static constexpr int max_exponent = max_e;                                                              \
    static ZMLX_FN constexpr T max() { return make(max_); }                                                 \
    static ZMLX_FN constexpr T min() { return make(min_); }                                                 \
    static ZMLX_FN constexpr T lowest() { return -make(max_); }                                             \
    static ZMLX_FN constexpr T infinity() { return make(inf_); }                                            \
    static ZMLX_FN constexpr T quiet_NaN() { return make(nan_); }                                           \
    static ZMLX_FN constexpr T epsilon() { return make(eps_); }                                             \
    static ZMLX_FN constexpr T denorm_min() { return make(denorm_); }                                       \
    static ZMLX_FN constexpr T round_error() { return T(0.5f); }                                            \
  };
#define ZMLX_F(b) as_type<float>(b##u)
#define ZMLX_H(b) half(detail::from_bits_t{}, b)
#define ZMLX_B(b) bfloat(detail::from_bits_t{}, b)
ZMLX_FLOAT_LIMITS(float, ZMLX_F, 0x7f7fffff, 0x00800000, 0x7f800000, 0x7fc00000, 0x34000000, 1, 24, 6, -125,
                  128)
ZMLX_FLOAT_LIMITS(half, ZMLX_H, 0x7bff, 0x0400, 0x7c00, 0x7e00, 0x1400, 1, 11, 3, -13, 16)
ZMLX_FLOAT_LIMITS(bfloat, ZMLX_B, 0x7f7f, 0x0080, 0x7f80, 0x7fc0, 0x3c00, 1, 8, 2, -125, 128)
#undef ZMLX_F
#undef ZMLX_H
#undef ZMLX_B
#undef ZMLX_FLOAT_LIMITS

}  // namespace metal

#include "msl_constants.h"
