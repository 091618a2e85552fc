// Metal's scalar types: half, bfloat, numeric_limits and the library's constants; and metal::array.
//
// half and bfloat are classes over their 16 bits. Arithmetic goes through float and rounds after each
// operation, which is exact for + - * / and sqrt: float has more than twice their precision plus two bits, so
// that rounding twice equals rounding once. Conversions follow Metal: half converts to and from every
// arithmetic type implicitly, bfloat converts to float implicitly, and from float or half only by a cast.
#pragma once

#include "msl/convert.h"

namespace metal {

// ------------------------------------------------------------ 16-bit conversions
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

// ------------------------------------------------------------ half and bfloat
// What both classes share. An operator with an integer converts it to the class's type, one with a float yields
// float: C++'s usual arithmetic conversions, spelt out because a class has none of its own.
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
  template <class T, enable_if_t<detail::is_integer<T>(), int> = 0>                    \
  ZMLX_FN constexpr same operator op(H a, T b) {                                       \
    return a op H(b);                                                                  \
  }                                                                                    \
  template <class T, enable_if_t<detail::is_integer<T>(), int> = 0>                    \
  ZMLX_FN constexpr same operator op(T a, H b) {                                       \
    return H(a) op b;                                                                  \
  }                                                                                    \
  template <class A, class E, detail::if_enum_beside<A, H, E> = 0>                     \
  ZMLX_FN constexpr same operator op(A a, E b) {                                       \
    return a op H(b);                                                                  \
  }                                                                                    \
  template <class E, class A, detail::if_enum_beside<A, H, E> = 0>                     \
  ZMLX_FN constexpr same operator op(E a, A b) {                                       \
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

// `n += h` for an integer n computes as half, as `n = n + h` does.
#define ZMLX_INTEGER_COMPOUND(H, op)                           \
  template <class T, detail::if_integer<T> = 0>                \
  ZMLX_FN constexpr T& operator op##=(T& a, H b) {             \
    return a = detail::convert<T>(static_cast<float>(a op b)); \
  }
#define ZMLX_INTEGER_COMPOUNDS(H) \
  ZMLX_INTEGER_COMPOUND(H, +)     \
  ZMLX_INTEGER_COMPOUND(H, -)     \
  ZMLX_INTEGER_COMPOUND(H, *)     \
  ZMLX_INTEGER_COMPOUND(H, /)
ZMLX_INTEGER_COMPOUNDS(half)
ZMLX_INTEGER_COMPOUNDS(bfloat)
#undef ZMLX_INTEGER_COMPOUNDS
#undef ZMLX_INTEGER_COMPOUND
#undef ZMLX_MIXED

static_assert(sizeof(half) == 2 && alignof(half) == 2 && sizeof(bfloat) == 2, "16-bit floats have two bytes");

namespace detail {

// The type that two types have together in arithmetic and in `c ? a : b`.
template <class A, class B, class = void>
struct ternary {
  using type = decltype(true ? declval<A>() : declval<B>());
};
template <class A>
struct ternary<A, A, void> {
  using type = A;
};
template <class A, class B>
constexpr bool meet_as_small_float() {
  return !same<A, B>() && (is_small_float<A>() || is_small_float<B>()) && is_number<A>() && is_number<B>();
}
template <class A, class B>
struct ternary<A, B, enable_if_t<meet_as_small_float<A, B>()>> {
  using type = decltype(declval<A>() + declval<B>());
};

// What to cast the operand of type A to in `c ? a : b`, where b has type B (both as decltype((operand))). For a half
// and a float C++ finds conversions both ways and gives up, because half is a class; on Metal it is arithmetic. So a
// translator writes
//     c ? static_cast<arm_t<decltype((a)), decltype((b))>>(a) : static_cast<arm_t<decltype((b)), decltype((a))>>(b)
// The cast does nothing where no small float meets another type.
template <class A, class B, bool = meet_as_small_float<decay_t<A>, decay_t<B>>()>
struct arm {
  using type = A;
};
template <class A, class B>
struct arm<A, B, true> : ternary<decay_t<A>, decay_t<B>> {};
template <class T>
struct arm<int, T*, false> {
  using type = T*;
};
template <class T>
struct arm<int, T*&, false> {
  using type = T*;
};
template <class A, class B>
using arm_t = typename arm<A, B>::type;

}  // namespace detail

// ------------------------------------------------------------ numeric_limits
namespace detail {

template <class T>
struct integer_limits {
  static constexpr bool is_specialized = true;
  static constexpr bool is_signed = has_sign<T>();
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

template <class T>
struct float_limits {
  static constexpr bool is_specialized = true;
  static constexpr bool is_signed = true;
  static constexpr bool is_integer = false;
  static constexpr bool is_exact = false;
  static constexpr bool has_infinity = true;
  static constexpr bool has_quiet_NaN = true;
  static constexpr int radix = 2;
};

// Those of numeric_limits. The types that have limits of their own are partial specialisations, with a parameter that
// says nothing: a whole one would be in every program, asked for or not.
template <class T, class Same = T>
struct limits_of : integer_limits<T> {
  static_assert(is_integer<T>(), "numeric_limits: not an arithmetic type of Metal");
};

}  // namespace detail

template <class T>
struct numeric_limits : detail::limits_of<T> {};
template <class T>
struct numeric_limits<const T> : numeric_limits<T> {};

namespace detail {

template <class T>
struct limits_of<bool, T> : integer_limits<T> {
  static constexpr int digits = 1;
  static constexpr int digits10 = 0;
  static ZMLX_FN constexpr bool max() { return true; }
  static ZMLX_FN constexpr bool min() { return false; }
  static ZMLX_FN constexpr bool lowest() { return false; }
};

#define ZMLX_FLOAT_LIMITS(T, make, max_, min_, inf_, nan_, eps_, denorm_, digits_, digits10_, min_e, max_e) \
  template <class Same>                                                                                     \
  struct limits_of<T, Same> : float_limits<Same> {                                                          \
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
#define ZMLX_H(b) half(from_bits_t{}, b)
#define ZMLX_B(b) bfloat(from_bits_t{}, b)
ZMLX_FLOAT_LIMITS(float, ZMLX_F, 0x7f7fffff, 0x00800000, 0x7f800000, 0x7fc00000, 0x34000000, 1, 24, 6, -125,
                  128)
ZMLX_FLOAT_LIMITS(half, ZMLX_H, 0x7bff, 0x0400, 0x7c00, 0x7e00, 0x1400, 1, 11, 3, -13, 16)
ZMLX_FLOAT_LIMITS(bfloat, ZMLX_B, 0x7f7f, 0x0080, 0x7f80, 0x7fc0, 0x3c00, 1, 8, 2, -125, 128)
#undef ZMLX_F
#undef ZMLX_H
#undef ZMLX_B
#undef ZMLX_FLOAT_LIMITS

}  // namespace detail

// ------------------------------------------------------------ array
template <class T, size_t N>
struct array {
  T elements[N];

  ZMLX_FN constexpr T& operator[](size_t i) { return elements[i]; }
  ZMLX_FN constexpr const T& operator[](size_t i) const { return elements[i]; }
  ZMLX_FN constexpr T* data() { return elements; }
  ZMLX_FN constexpr const T* data() const { return elements; }
  ZMLX_FN constexpr T* begin() { return elements; }
  ZMLX_FN constexpr const T* begin() const { return elements; }
  ZMLX_FN constexpr T* end() { return elements + N; }
  ZMLX_FN constexpr const T* end() const { return elements + N; }
  ZMLX_FN static constexpr size_t size() { return N; }
  ZMLX_FN static constexpr bool empty() { return N == 0; }
};

}  // namespace metal

#include "msl/constants.h"
