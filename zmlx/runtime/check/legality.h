// Metal's library as declarations for a compiler front end (C++ for OpenCL), which only looks at types and address
// spaces: nothing here computes. Where Metal has fewer types than a template, a static assertion says so; its text,
// "zmlx:" and a key, is looked up in zmlx/check/legality/rules.py. What is not known for certain is accepted.
#define device __global
#define constant __constant
#define thread __private
#define threadgroup __local
#define kernel
#define vertex
#define fragment
// Words of OpenCL that are ordinary names in Metal.
#define global zmlx_legal_word_global
#define local zmlx_legal_word_local
#define generic zmlx_legal_word_generic
#define pipe zmlx_legal_word_pipe
#define uniform zmlx_legal_word_uniform
#define vec_step zmlx_legal_word_vec_step
#define read_only zmlx_legal_word_read_only
#define write_only zmlx_legal_word_write_only
#define read_write zmlx_legal_word_read_write
#define event_t zmlx_legal_word_event_t
#define queue_t zmlx_legal_word_queue_t
#define addrspace_cast zmlx_legal_word_addrspace_cast
#define restrict __restrict
#define __METAL__ 1
#define __METAL_VERSION__ 320
#define __AIR64__ 1
#define __HAVE_BFLOAT__ 1
#define __HAVE_COHERENT__ 1
#define __HAVE_QUADGROUP__ 1
#define __HAVE_QUADGROUP_BALLOT__ 1
#define __HAVE_QUADGROUP_REDUCTION__ 1
#define __HAVE_SIMDGROUP__ 1
#define __HAVE_SIMDGROUP_BALLOT__ 1
#define __HAVE_SIMDGROUP_MATRIX__ 1
#define __HAVE_SIMDGROUP_REDUCTION__ 1
#define MLX_MTL_PRAGMA_UNROLL _Pragma("clang loop unroll(full)")
#define MTL_CONST constant constexpr const
#define METAL_FUNC inline __attribute__((always_inline))

#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#pragma OPENCL EXTENSION __cl_clang_function_pointers : enable
#pragma OPENCL EXTENSION __cl_clang_bitfields : enable

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long uint64_t;
typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;
typedef ulong uintptr_t;
typedef long intptr_t;
typedef half float16_t;
typedef __bf16 bfloat;
typedef bfloat bfloat16_t;

namespace metal {
template <class T, class U> struct is_same { static constexpr constant bool value = false; };
template <class T> struct is_same<T, T> { static constexpr constant bool value = true; };
template <class T, class U> constexpr constant bool is_same_v = false;
template <class T> constexpr constant bool is_same_v<T, T> = true;
template <bool B, class T = void> struct enable_if {};
template <class T> struct enable_if<true, T> { typedef T type; };
template <bool B, class T = void> using enable_if_t = typename enable_if<B, T>::type;
template <bool B, class T, class U> struct conditional { typedef T type; };
template <class T, class U> struct conditional<false, T, U> { typedef U type; };
template <bool B, class T, class U> using conditional_t = typename conditional<B, T, U>::type;
template <class T, T V> struct integral_constant {
  static constexpr constant T value = V;
  typedef T value_type;
  constexpr operator T() const { return V; }
};
template <bool B> using bool_constant = integral_constant<bool, B>;
typedef bool_constant<true> true_type;
typedef bool_constant<false> false_type;
template <class T> struct remove_const { typedef T type; };
template <class T> struct remove_const<const T> { typedef T type; };
template <class T> struct remove_volatile { typedef T type; };
template <class T> struct remove_volatile<volatile T> { typedef T type; };
template <class T> struct remove_reference { typedef T type; };
template <class T> struct remove_reference<T&> { typedef T type; };
template <class T> struct remove_reference<T&&> { typedef T type; };
// A temporary of the type: what a value of it is without reference, qualifiers and address space.
template <class T> T zmlx_legal_value(T);
template <class T> struct remove_addrspace { typedef T type; };
template <class T> struct remove_addrspace<__global T> { typedef T type; };
template <class T> struct remove_addrspace<__constant T> { typedef T type; };
template <class T> struct remove_addrspace<__local T> { typedef T type; };
template <class T> struct remove_addrspace<__private T> { typedef T type; };
template <class T> struct remove_addrspace<__generic T> { typedef T type; };
template <class T> using remove_addrspace_t = typename remove_addrspace<T>::type;
template <class T> using remove_const_t = typename remove_const<T>::type;
template <class T> using remove_volatile_t = typename remove_volatile<T>::type;
template <class T> using remove_reference_t = typename remove_reference<T>::type;
template <class T> using remove_cv_t = remove_const_t<remove_volatile_t<T>>;
template <class T> struct remove_cv { typedef remove_cv_t<T> type; };
template <class T> using remove_cvref_t = remove_cv_t<remove_addrspace_t<remove_cv_t<remove_reference_t<T>>>>;
template <class T> using decay_t = remove_cvref_t<T>;
template <class T> struct decay { typedef decay_t<T> type; };
template <class T> struct remove_pointer { typedef T type; };
template <class T> struct remove_pointer<T*> { typedef T type; };
template <class T> struct remove_pointer<T* const> { typedef T type; };
template <class T> using remove_pointer_t = typename remove_pointer<T>::type;
template <class T> T&& declval();

// ------------------------------------------------------------------------------------------ numbers' types
template <class T> constexpr constant bool zmlx_legal_is_float = false;
template <> constexpr constant bool zmlx_legal_is_float<float> = true;
template <> constexpr constant bool zmlx_legal_is_float<half> = true;
template <> constexpr constant bool zmlx_legal_is_float<bfloat> = true;
template <class T> constexpr constant bool zmlx_legal_is_int = false;
#define ZMLX_INT(t) template <> constexpr constant bool zmlx_legal_is_int<t> = true;
ZMLX_INT(bool) ZMLX_INT(char) ZMLX_INT(signed char) ZMLX_INT(uchar) ZMLX_INT(short) ZMLX_INT(ushort) ZMLX_INT(int)
ZMLX_INT(uint) ZMLX_INT(long) ZMLX_INT(ulong)
template <class T> constexpr constant bool is_floating_point_v = zmlx_legal_is_float<remove_cvref_t<T>>;
template <class T> constexpr constant bool is_integral_v = zmlx_legal_is_int<remove_cvref_t<T>>;
template <class T> constexpr constant bool is_arithmetic_v = is_floating_point_v<T> || is_integral_v<T>;
template <class T> constexpr constant bool is_scalar_v = is_arithmetic_v<T>;
template <class T> constexpr constant bool is_unsigned_v = is_integral_v<T> && !(remove_cvref_t<T>(-1) < remove_cvref_t<T>(0));
template <class T> constexpr constant bool is_signed_v = is_arithmetic_v<T> && !is_unsigned_v<T>;
template <class T> constexpr constant bool is_pointer_v = false;
template <class T> constexpr constant bool is_pointer_v<T*> = true;
template <class T> constexpr constant bool is_const_v = !is_same_v<T, remove_const_t<T>>;
template <class T> constexpr constant bool is_void_v = is_same_v<T, void>;
template <class T> constexpr constant bool is_enum_v = __is_enum(T);
template <class T, class U> constexpr constant bool is_convertible_v = __is_convertible_to(T, U);
#define ZMLX_TRAIT(name) template <class T> struct name : bool_constant<name##_v<T>> {};
ZMLX_TRAIT(is_floating_point) ZMLX_TRAIT(is_integral) ZMLX_TRAIT(is_arithmetic) ZMLX_TRAIT(is_scalar)
ZMLX_TRAIT(is_unsigned) ZMLX_TRAIT(is_signed) ZMLX_TRAIT(is_pointer) ZMLX_TRAIT(is_const) ZMLX_TRAIT(is_void)
ZMLX_TRAIT(is_enum)
template <class T, class U> struct is_convertible : bool_constant<is_convertible_v<T, U>> {};
template <class T> struct zmlx_legal_unsigned { typedef T type; };
template <class T> struct zmlx_legal_signed { typedef T type; };
#define ZMLX_SIGNS(s, u)                                  \
  template <> struct zmlx_legal_unsigned<s> { typedef u type; }; \
  template <> struct zmlx_legal_signed<u> { typedef s type; };
ZMLX_SIGNS(char, uchar) ZMLX_SIGNS(short, ushort) ZMLX_SIGNS(int, uint) ZMLX_SIGNS(long, ulong)
template <class T> using make_unsigned_t = typename zmlx_legal_unsigned<T>::type;
template <class T> using make_signed_t = typename zmlx_legal_signed<T>::type;
template <class T> struct make_unsigned : zmlx_legal_unsigned<T> {};
template <class T> struct make_signed : zmlx_legal_signed<T> {};

// ------------------------------------------------------------------------------------------ vectors
template <class T> struct zmlx_legal_lane { typedef T type; };
template <> struct zmlx_legal_lane<bool> { typedef int type; };
template <class T, int N> struct zmlx_legal_vector {
  typedef typename zmlx_legal_lane<T>::type lane;
  typedef lane type __attribute__((ext_vector_type(N)));
};
template <class T, int N> using vec = typename zmlx_legal_vector<T, N>::type;
// The same where T and N are deduced; there is none of bool, of which the front end has no vectors.
template <class T, int N> using zmlx_legal_deduced = T __attribute__((ext_vector_type(N)));
template <class T, int N> using packed_vec = typename zmlx_legal_vector<T, N>::type;
#define ZMLX_VECTORS(t)                    \
  typedef vec<t, 2> t##2;                  \
  typedef vec<t, 3> t##3;                  \
  typedef vec<t, 4> t##4;                  \
  typedef vec<t, 2> packed_##t##2;         \
  typedef vec<t, 3> packed_##t##3;         \
  typedef vec<t, 4> packed_##t##4;         \
  typedef vec<t, 2> simd_##t##2;           \
  typedef vec<t, 3> simd_##t##3;           \
  typedef vec<t, 4> simd_##t##4;
ZMLX_VECTORS(bool) ZMLX_VECTORS(char) ZMLX_VECTORS(uchar) ZMLX_VECTORS(short) ZMLX_VECTORS(ushort) ZMLX_VECTORS(int)
ZMLX_VECTORS(uint) ZMLX_VECTORS(long) ZMLX_VECTORS(ulong) ZMLX_VECTORS(half) ZMLX_VECTORS(float)
ZMLX_VECTORS(bfloat)
template <class V, class... A> constexpr V zmlx_legal_make(A...) { return V(); }
template <class T> __local T& zmlx_legal_group() { return *(__local T*)0; }
#define ZMLX_PACK(name, n)                    \
  vec<float, n> unpack_##name##_to_float(uint); \
  vec<half, n> unpack_##name##_to_half(uint);   \
  uint pack_float_to_##name(vec<float, n>);     \
  uint pack_half_to_##name(vec<half, n>);
ZMLX_PACK(unorm4x8, 4) ZMLX_PACK(snorm4x8, 4) ZMLX_PACK(unorm2x16, 2) ZMLX_PACK(snorm2x16, 2) ZMLX_PACK(unorm10a2, 4)
template <class T, int C, int R = C> struct simdgroup_matrix {
  simdgroup_matrix() = default;
  explicit simdgroup_matrix(T);
  __private vec<T, 2>& thread_elements();
  const __private vec<T, 2>& thread_elements() const;
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;
template <class T, int C, int R = C> simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(T);
template <class T, int C, int R, class P, class... A> void simdgroup_load(simdgroup_matrix<T, C, R>&, P, A...);
template <class T, int C, int R, class P, class... A> void simdgroup_store(simdgroup_matrix<T, C, R>, P, A...);
template <class D, class A, class B, int M, int K, int N>
void simdgroup_multiply(simdgroup_matrix<D, N, M>&, simdgroup_matrix<A, K, M>, simdgroup_matrix<B, N, K>);
template <class D, class A, class B, class C, int M, int K, int N>
void simdgroup_multiply_accumulate(
    simdgroup_matrix<D, N, M>&, simdgroup_matrix<A, K, M>, simdgroup_matrix<B, N, K>, simdgroup_matrix<C, N, M>);

struct zmlx_legal_any;
template <class To, class From> constexpr To as_type(From) { return To(); }
template <class T, size_t N> struct array {
  T elements[N];
  constexpr size_t size() const { return N; }
  T& operator[](size_t i) { return elements[i]; }
  const T& operator[](size_t i) const { return elements[i]; }
};

// ------------------------------------------------------------------------------------------ numbers
template <class T> struct numeric_limits {
  static constexpr T max() { return T(0); }
  static constexpr T min() { return T(0); }
  static constexpr T lowest() { return T(0); }
  static constexpr T infinity() { return T(0); }
  static constexpr T quiet_NaN() { return T(0); }
  static constexpr T signaling_NaN() { return T(0); }
  static constexpr T epsilon() { return T(0); }
  static constexpr T denorm_min() { return T(0); }
  static constexpr constant int digits = 24, digits10 = 6, max_digits10 = 9, radix = 2, max_exponent = 128, min_exponent = -125;
  static constexpr constant bool is_signed = true, is_integer = false, has_infinity = true;
};
template <class T> struct Limits { static constexpr constant T max = T(), min = T(), finite_max = T(), finite_min = T(); };

template <class T> struct complex_t {
  T real, imag;
  complex_t() = default;
  constexpr complex_t(T, T) : real(0), imag(0) {}
  template <class U> constexpr complex_t(U) : real(0), imag(0) {}
  template <class U, enable_if_t<is_arithmetic_v<U>, int> = 0> constexpr operator U() const { return U(0); }
};
typedef complex_t<float> complex64_t;
template <class T> complex_t<T> operator-(complex_t<T>);
#define ZMLX_COMPLEX(op, R)                                                                         \
  template <class T> R operator op(complex_t<T>, complex_t<T>);                                     \
  template <class T, class U, enable_if_t<is_arithmetic_v<U>, int> = 0> R operator op(complex_t<T>, U); \
  template <class T, class U, enable_if_t<is_arithmetic_v<U>, int> = 0> R operator op(U, complex_t<T>);
ZMLX_COMPLEX(+, complex_t<T>) ZMLX_COMPLEX(-, complex_t<T>) ZMLX_COMPLEX(*, complex_t<T>) ZMLX_COMPLEX(/, complex_t<T>)
ZMLX_COMPLEX(%, complex_t<T>) ZMLX_COMPLEX(==, bool) ZMLX_COMPLEX(!=, bool) ZMLX_COMPLEX(<, bool) ZMLX_COMPLEX(>, bool)
ZMLX_COMPLEX(<=, bool) ZMLX_COMPLEX(>=, bool)

// ------------------------------------------------------------------------------------------ functions
template <class T> struct zmlx_legal_element { typedef T type; };
template <class T, int N> struct zmlx_legal_element<T __attribute__((ext_vector_type(N)))> { typedef T type; };
template <class T> constexpr constant int zmlx_legal_lanes = 1;
template <class T, int N> constexpr constant int zmlx_legal_lanes<T __attribute__((ext_vector_type(N)))> = N;
template <class T> constexpr constant bool zmlx_legal_is_number = is_arithmetic_v<T> || __is_enum(T);
// The type that stands for two arguments: 0 for two numbers that become one another, else 1 or 2 for either of them.
template <class A, class B> constexpr constant int zmlx_legal_wins =
    zmlx_legal_lanes<A> > 1 ? 1 : zmlx_legal_lanes<B> > 1 ? 2 : zmlx_legal_is_number<A> && zmlx_legal_is_number<B> ? 0 : 1;
template <class A, class B, int = zmlx_legal_wins<A, B>> struct zmlx_legal_both { typedef decltype(true ? A() : B()) type; };
template <class A, class B> struct zmlx_legal_both<A, B, 1> { typedef A type; };
template <class A, class B> struct zmlx_legal_both<A, B, 2> { typedef B type; };
template <> struct zmlx_legal_both<half, bfloat, 0> { typedef float type; };
template <> struct zmlx_legal_both<bfloat, half, 0> { typedef float type; };
template <class A, class... B> struct zmlx_legal_common { typedef A type; };
template <class A, class B, class... C> struct zmlx_legal_common<A, B, C...> : zmlx_legal_common<typename zmlx_legal_both<A, B>::type, C...> {};
template <class... A> using zmlx_legal_common_t = typename zmlx_legal_common<A...>::type;
// Comparisons give signed integers here, and vectors of bool are some: in Metal both are of bool.
template <class T> constexpr constant bool zmlx_legal_is_truth =
    is_integral_v<typename zmlx_legal_element<T>::type> && is_signed_v<typename zmlx_legal_element<T>::type>;
template <class A, class B> constexpr constant bool zmlx_legal_agree =
    zmlx_legal_lanes<A> == 1 || zmlx_legal_lanes<B> == 1 || is_same_v<A, B> ||
    (zmlx_legal_lanes<A> == zmlx_legal_lanes<B> && zmlx_legal_is_truth<A> && zmlx_legal_is_truth<B>);
template <class T> constexpr constant bool zmlx_legal_floats = zmlx_legal_lanes<T> == 1 || is_floating_point_v<typename zmlx_legal_element<T>::type>;
template <class T> constexpr constant bool zmlx_legal_truths = zmlx_legal_lanes<T> == 1 || zmlx_legal_is_truth<T>;
template <class T> struct zmlx_legal_math { typedef T type; };
#define ZMLX_AS_FLOAT(t) template <> struct zmlx_legal_math<t> { typedef float type; };
ZMLX_AS_FLOAT(bool) ZMLX_AS_FLOAT(char) ZMLX_AS_FLOAT(uchar) ZMLX_AS_FLOAT(short) ZMLX_AS_FLOAT(ushort) ZMLX_AS_FLOAT(int)
ZMLX_AS_FLOAT(uint) ZMLX_AS_FLOAT(long) ZMLX_AS_FLOAT(ulong)
#define ZMLX_FLOATS                                                      \
  static_assert((zmlx_legal_agree<zmlx_legal_common_t<A...>, A> && ...), "zmlx:arguments"); \
  static_assert(!(zmlx_legal_agree<zmlx_legal_common_t<A...>, A> && ...) || (zmlx_legal_floats<A> && ...), "zmlx:float-arguments");
#define ZMLX_MATH(name) template <class... A> typename zmlx_legal_math<zmlx_legal_common_t<A...>>::type name(A...) { ZMLX_FLOATS }
#define ZMLX_MATHS                                                                                                 \
  ZMLX_MATH(exp) ZMLX_MATH(exp2) ZMLX_MATH(exp10) ZMLX_MATH(log) ZMLX_MATH(log2) ZMLX_MATH(log10) ZMLX_MATH(sqrt)  \
  ZMLX_MATH(rsqrt) ZMLX_MATH(sin) ZMLX_MATH(cos) ZMLX_MATH(tan) ZMLX_MATH(asin) ZMLX_MATH(acos) ZMLX_MATH(atan)    \
  ZMLX_MATH(atan2) ZMLX_MATH(sinh) ZMLX_MATH(cosh) ZMLX_MATH(tanh) ZMLX_MATH(asinh) ZMLX_MATH(acosh)               \
  ZMLX_MATH(atanh) ZMLX_MATH(pow) ZMLX_MATH(powr) ZMLX_MATH(fabs) ZMLX_MATH(floor) ZMLX_MATH(ceil) ZMLX_MATH(rint) \
  ZMLX_MATH(round) ZMLX_MATH(trunc) ZMLX_MATH(fract) ZMLX_MATH(fmod) ZMLX_MATH(fma) ZMLX_MATH(fmin)                \
  ZMLX_MATH(fmax) ZMLX_MATH(copysign) ZMLX_MATH(sinpi) ZMLX_MATH(cospi) ZMLX_MATH(tanpi) ZMLX_MATH(divide)         \
  ZMLX_MATH(nextafter) ZMLX_MATH(fdim) ZMLX_MATH(mix) ZMLX_MATH(saturate) ZMLX_MATH(step)         \
  ZMLX_MATH(smoothstep) ZMLX_MATH(sign) ZMLX_MATH(normalize) ZMLX_MATH(reflect) ZMLX_MATH(cross)                   \
  ZMLX_MATH(fmin3) ZMLX_MATH(fmax3) ZMLX_MATH(fmedian3) ZMLX_MATH(erf) ZMLX_MATH(erfinv) ZMLX_MATH(expm1)
ZMLX_MATHS
namespace fast { ZMLX_MATHS ZMLX_MATH(clamp) ZMLX_MATH(min) ZMLX_MATH(max) }
namespace precise { ZMLX_MATHS ZMLX_MATH(clamp) ZMLX_MATH(min) ZMLX_MATH(max) }
ZMLX_MATH(log1p) ZMLX_MATH(hypot)
template <class A, class B> typename zmlx_legal_math<A>::type ldexp(A, B) {
  static_assert(zmlx_legal_floats<A>, "zmlx:float-arguments");
  static_assert(zmlx_legal_lanes<A> == zmlx_legal_lanes<B> || zmlx_legal_lanes<A> == 1 || zmlx_legal_lanes<B> == 1, "zmlx:arguments");
}
#define ZMLX_LENGTH(name) template <class... A> typename zmlx_legal_element<zmlx_legal_common_t<A...>>::type name(A...) { ZMLX_FLOATS }
ZMLX_LENGTH(dot) ZMLX_LENGTH(length) ZMLX_LENGTH(length_squared) ZMLX_LENGTH(distance) ZMLX_LENGTH(distance_squared)
#define ZMLX_SAME(name)                                               \
  template <class A, class... B> constexpr zmlx_legal_common_t<A, B...> name(A a, B...) { \
    static_assert((zmlx_legal_agree<zmlx_legal_common_t<A, B...>, A> && ... && zmlx_legal_agree<zmlx_legal_common_t<A, B...>, B>), "zmlx:arguments"); \
    return zmlx_legal_common_t<A, B...>(a);                                 \
  }
ZMLX_SAME(abs) ZMLX_SAME(addsat) ZMLX_SAME(subsat) ZMLX_SAME(hadd) ZMLX_SAME(rhadd) ZMLX_SAME(mulhi)
ZMLX_SAME(madhi) ZMLX_SAME(madsat) ZMLX_SAME(mad24) ZMLX_SAME(mul24) ZMLX_SAME(rotate) ZMLX_SAME(popcount) ZMLX_SAME(clz)
ZMLX_SAME(ctz) ZMLX_SAME(reverse_bits) ZMLX_SAME(clamp) ZMLX_SAME(min3) ZMLX_SAME(max3) ZMLX_SAME(median3)
template <class A> constexpr A extract_bits(A a, uint, uint) { return a; }
template <class A, class B> constexpr A insert_bits(A a, B, uint, uint) {
  static_assert(zmlx_legal_agree<A, B>, "zmlx:arguments");
  return a;
}
// The packs let a function of the author's with such a name be the better one, as it is in Metal.
template <class A, class B, class C, class... Z> constexpr zmlx_legal_common_t<A, B> select(A a, B, C, Z...) {
  static_assert(zmlx_legal_agree<A, B>, "zmlx:arguments");
  static_assert(zmlx_legal_truths<C>, "zmlx:bool-arguments");
  return zmlx_legal_common_t<A, B>(a);
}
template <class T, int N> struct zmlx_legal_unsigned<T __attribute__((ext_vector_type(N)))> {
  typedef vec<typename zmlx_legal_unsigned<T>::type, N> type;
};
template <class A, class B> constexpr typename zmlx_legal_unsigned<zmlx_legal_common_t<A, B>>::type absdiff(A, B) {
  static_assert(zmlx_legal_agree<A, B>, "zmlx:arguments");
  return typename zmlx_legal_unsigned<zmlx_legal_common_t<A, B>>::type();
}
#define ZMLX_EXTREME(name, first, second)                                   \
  template <class A, class B> constexpr zmlx_legal_common_t<A, B> name(A a, B b) { \
    static_assert(zmlx_legal_agree<A, B>, "zmlx:arguments");                      \
    if constexpr (zmlx_legal_lanes<A> == 1 && zmlx_legal_lanes<B> == 1) return a < b ? first : second; \
    else return zmlx_legal_common_t<A, B>();                                      \
  }
ZMLX_EXTREME(min, a, b) ZMLX_EXTREME(max, b, a)
#define ZMLX_BOOL(name) template <class A, class... Z> bool name(A, Z...) { static_assert(zmlx_legal_truths<A>, "zmlx:bool-arguments"); }
ZMLX_BOOL(any) ZMLX_BOOL(all)
// Of numbers a bool, of vectors a vector.
template <class A> struct zmlx_legal_truth { typedef A type; };
template <class T, int N> struct zmlx_legal_truth<T __attribute__((ext_vector_type(N)))> { typedef vec<bool, N> type; };
#define ZMLX_TRUTH(t) template <> struct zmlx_legal_truth<t> { typedef bool type; };
ZMLX_TRUTH(float) ZMLX_TRUTH(half) ZMLX_TRUTH(bfloat) ZMLX_TRUTH(int) ZMLX_TRUTH(uint) ZMLX_TRUTH(bool) ZMLX_TRUTH(short)
ZMLX_TRUTH(ushort) ZMLX_TRUTH(char) ZMLX_TRUTH(uchar) ZMLX_TRUTH(long) ZMLX_TRUTH(ulong)
#define ZMLX_PREDICATE(name) template <class... A> typename zmlx_legal_truth<zmlx_legal_common_t<A...>>::type name(A...) { ZMLX_FLOATS }
ZMLX_PREDICATE(isnan) ZMLX_PREDICATE(isinf) ZMLX_PREDICATE(isfinite) ZMLX_PREDICATE(isnormal) ZMLX_PREDICATE(signbit)
ZMLX_PREDICATE(isordered) ZMLX_PREDICATE(isunordered)

// ------------------------------------------------------------------------------------------ MLX's prelude
template <class T, class U> constexpr T ceildiv(T n, U m) { return (n + m - 1) / m; }
template <class U, class T> U cast_to(T);
template <bool C, class T, class U> struct ConditionalType { typedef conditional_t<C, T, U> type; };
template <class U> struct WorkPerThread { static constexpr constant int n = 8 / sizeof(U); };
template <class I = int64_t, class E> I elem_to_loc(E, const constant int*, const constant int64_t*, int);
template <class I = int64_t> I elem_to_loc_1(uint, const constant int64_t&);
template <class I = int64_t> I elem_to_loc_2(uint2, const constant int64_t*);
template <class I = int64_t> I elem_to_loc_3(uint3, const constant int64_t*);

// ------------------------------------------------------------------------------------------ groups
enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4, mem_threadgroup_imageblock = 8, mem_object_data = 16 };
constexpr mem_flags operator|(mem_flags a, mem_flags) { return a; }
template <class... A> void threadgroup_barrier(mem_flags, A...);
template <class... A> void simdgroup_barrier(mem_flags, A...);
enum thread_scope { thread_scope_thread, thread_scope_simdgroup, thread_scope_threadgroup, thread_scope_device };

template <class T> constexpr constant bool zmlx_legal_64 = is_same_v<T, long> || is_same_v<T, ulong>;
#define ZMLX_LANES(name)                                              \
  template <class T, class... B> T name(T v, B...) {                  \
    static_assert((true && ... && (zmlx_legal_lanes<B> == 1)), "zmlx:number-argument"); \
    return v;                                                         \
  }
#define ZMLX_FILLS(name)                                              \
  template <class T, class F, class... B> T name(T v, F, B...) {      \
    static_assert(zmlx_legal_agree<T, F>, "zmlx:arguments");                \
    static_assert((true && ... && (zmlx_legal_lanes<B> == 1)), "zmlx:number-argument"); \
    return v;                                                         \
  }
#define ZMLX_REDUCES(name)                              \
  template <class T> T name(T v) {                      \
    static_assert(!zmlx_legal_64<T>, "zmlx:simd-64");         \
    return v;                                           \
  }
ZMLX_REDUCES(simd_sum) ZMLX_REDUCES(simd_product) ZMLX_REDUCES(simd_min) ZMLX_REDUCES(simd_max) ZMLX_REDUCES(simd_and)
ZMLX_REDUCES(simd_or) ZMLX_REDUCES(simd_xor) ZMLX_REDUCES(quad_sum) ZMLX_REDUCES(quad_product) ZMLX_REDUCES(quad_min)
ZMLX_REDUCES(quad_max) ZMLX_REDUCES(quad_and) ZMLX_REDUCES(quad_or) ZMLX_REDUCES(quad_xor)
ZMLX_REDUCES(simd_prefix_exclusive_sum) ZMLX_REDUCES(simd_prefix_inclusive_sum)
ZMLX_REDUCES(simd_prefix_exclusive_product) ZMLX_REDUCES(simd_prefix_inclusive_product)
#define ZMLX_MOVES(g)                                                                                         \
  ZMLX_LANES(g##_broadcast) ZMLX_LANES(g##_broadcast_first) ZMLX_LANES(g##_shuffle) ZMLX_LANES(g##_shuffle_up)  \
  ZMLX_LANES(g##_shuffle_down) ZMLX_LANES(g##_shuffle_xor) ZMLX_LANES(g##_shuffle_rotate_up)                    \
  ZMLX_LANES(g##_shuffle_rotate_down) ZMLX_FILLS(g##_shuffle_and_fill_up) ZMLX_FILLS(g##_shuffle_and_fill_down) \
  bool g##_all(bool);                                                                                           \
  bool g##_any(bool);                                                                                           \
  bool g##_is_first();                                                                                          \
  struct g##_vote {                                                                                             \
    typedef ulong vote_t;                                                                                       \
    explicit g##_vote(vote_t);                                                                                  \
    explicit operator vote_t() const;                                                                           \
    bool all() const;                                                                                           \
    bool any() const;                                                                                           \
  };                                                                                                            \
  g##_vote g##_ballot(bool);                                                                                    \
  g##_vote g##_active_threads_mask();
ZMLX_MOVES(simd) ZMLX_MOVES(quad)

// ------------------------------------------------------------------------------------------ atomics
enum memory_order { memory_order_relaxed };
enum zmlx_legal_other_order { memory_order_acquire, memory_order_release, memory_order_acq_rel, memory_order_seq_cst };
template <class O, class... A> void atomic_thread_fence(mem_flags, O, A...);

template <class T> constexpr constant bool zmlx_legal_atomic =
    is_same_v<T, int> || is_same_v<T, uint> || is_same_v<T, float> || is_same_v<T, bool> || is_same_v<T, ulong>;
template <class T> struct atomic { T zmlx_legal_value; };

// What an operation may work on; 0 for memory that is not known.
template <class P> struct zmlx_legal_place { typedef int type; static constexpr constant int space = 0; };
#define ZMLX_PLACE(words, number)                                                                                      \
  template <class T> struct zmlx_legal_place<words atomic<T>*> { typedef T type; static constexpr constant int space = number; }; \
  template <class T> struct zmlx_legal_place<volatile words atomic<T>*> { typedef T type; static constexpr constant int space = number; }; \
  template <class T> struct zmlx_legal_place<const words atomic<T>*> { typedef T type; static constexpr constant int space = number; }; \
  template <class T> struct zmlx_legal_place<const volatile words atomic<T>*> { typedef T type; static constexpr constant int space = number; };
ZMLX_PLACE(__global, 1) ZMLX_PLACE(__local, 2) ZMLX_PLACE(__constant, 3) ZMLX_PLACE(__private, 4)
#define ZMLX_ATOMIC_CHECK(P, O, words_ok)                                                                       \
  typedef typename zmlx_legal_place<P>::type T;                                                                       \
  constexpr int space = zmlx_legal_place<P>::space;                                                                   \
  static_assert(zmlx_legal_atomic<T>, "zmlx:atomic-type");                                                            \
  static_assert(is_same_v<O, memory_order> || !is_same_v<O, zmlx_legal_other_order>, "zmlx:atomic-order");                          \
  static_assert(space < 3, "zmlx:atomic-space");                                                               \
  static_assert(space != 2 || !is_same_v<T, float>, "zmlx:atomic-float-threadgroup");                          \
  static_assert(!zmlx_legal_atomic<T> || (words_ok), "zmlx:atomic-operation");
#define ZMLX_RMW(name, ok)                                                             \
  template <class P, class V, class O, class... A> typename zmlx_legal_place<P>::type name(P, V, O, A...) { \
    ZMLX_ATOMIC_CHECK(P, O, ok)                                                        \
    static_assert(zmlx_legal_lanes<V> == 1, "zmlx:number-argument");                         \
    return T();                                                                        \
  }
#define ZMLX_INTS (is_same_v<T, int> || is_same_v<T, uint>)
#define ZMLX_INTS_OR_FLOAT (ZMLX_INTS || is_same_v<T, float>)
ZMLX_RMW(atomic_fetch_add_explicit, ZMLX_INTS_OR_FLOAT)
ZMLX_RMW(atomic_fetch_sub_explicit, ZMLX_INTS_OR_FLOAT)
ZMLX_RMW(atomic_fetch_and_explicit, ZMLX_INTS) ZMLX_RMW(atomic_fetch_or_explicit, ZMLX_INTS)
ZMLX_RMW(atomic_fetch_xor_explicit, ZMLX_INTS) ZMLX_RMW(atomic_fetch_min_explicit, ZMLX_INTS)
ZMLX_RMW(atomic_fetch_max_explicit, ZMLX_INTS) ZMLX_RMW(atomic_exchange_explicit, (!is_same_v<T, ulong>))
template <class P, class V, class O, class... A> void atomic_store_explicit(P, V, O, A...) {
  ZMLX_ATOMIC_CHECK(P, O, (!is_same_v<T, ulong>))
  static_assert(zmlx_legal_lanes<V> == 1, "zmlx:number-argument");
}
template <class P, class O, class... A> typename zmlx_legal_place<P>::type atomic_load_explicit(P, O, A...) {
  ZMLX_ATOMIC_CHECK(P, O, (!is_same_v<T, ulong>))
  return T();
}
template <class P, class V, class O> void atomic_max_explicit(P, V, O) { ZMLX_ATOMIC_CHECK(P, O, (is_same_v<T, ulong> && space < 2)) }
template <class P, class V, class O> void atomic_min_explicit(P, V, O) { ZMLX_ATOMIC_CHECK(P, O, (is_same_v<T, ulong> && space < 2)) }
template <class P, class E, class V, class O, class F, class... A>
bool atomic_compare_exchange_weak_explicit(P, E, V, O, F, A...) { ZMLX_ATOMIC_CHECK(P, O, (!is_same_v<T, ulong>)) return false; }
}  // namespace metal
using namespace metal;

#define atomic_int atomic<int>
#define atomic_uint atomic<uint>
#define atomic_bool atomic<bool>
#define atomic_float atomic<float>
#define atomic_ulong atomic<ulong>
#define HALF_MAX 65504.0h
#define HALF_MIN 6.103515625e-05h
#define UCHAR_MAX 255
#define CHAR_MAX 127
#define CHAR_MIN (-128)
#define SHRT_MAX 32767
#define SHRT_MIN (-32768)
#define USHRT_MAX 65535
#define ULONG_MAX 18446744073709551615ul
#define LONG_MIN (-LONG_MAX - 1)
#define M_PI_F 3.14159265f
#define M_PI_2_F 1.57079633f
#define M_PI_4_F 0.785398163f
#define M_1_PI_F 0.318309886f
#define M_2_PI_F 0.636619772f
#define M_2_SQRTPI_F 1.12837917f
#define M_SQRT2_F 1.41421356f
#define M_SQRT1_2_F 0.707106781f
#define M_E_F 2.71828183f
#define M_LOG2E_F 1.44269504f
#define M_LOG10E_F 0.434294482f
#define M_LN2_F 0.693147181f
#define M_LN10_F 2.30258509f
#define INFINITY (__builtin_inff())
#define NAN (__builtin_nanf(""))
#define HUGE_VALF INFINITY
#define FLT_MAX 3.40282347e38f
#define FLT_MIN 1.17549435e-38f
#define FLT_EPSILON 1.19209290e-7f
#define MAXFLOAT FLT_MAX
#define INT_MAX 2147483647
#define INT_MIN (-INT_MAX - 1)
#define UINT_MAX 4294967295u
#define LONG_MAX 9223372036854775807l
// Metal's vectors are made by calls, those of the front end are not.
#define float2(...) zmlx_legal_make<float2>(__VA_ARGS__)
#define float3(...) zmlx_legal_make<float3>(__VA_ARGS__)
#define float4(...) zmlx_legal_make<float4>(__VA_ARGS__)
#define half2(...) zmlx_legal_make<half2>(__VA_ARGS__)
#define half3(...) zmlx_legal_make<half3>(__VA_ARGS__)
#define half4(...) zmlx_legal_make<half4>(__VA_ARGS__)
#define int2(...) zmlx_legal_make<int2>(__VA_ARGS__)
#define int3(...) zmlx_legal_make<int3>(__VA_ARGS__)
#define int4(...) zmlx_legal_make<int4>(__VA_ARGS__)
#define uint2(...) zmlx_legal_make<uint2>(__VA_ARGS__)
#define uint3(...) zmlx_legal_make<uint3>(__VA_ARGS__)
#define uint4(...) zmlx_legal_make<uint4>(__VA_ARGS__)
#define short2(...) zmlx_legal_make<short2>(__VA_ARGS__)
#define short3(...) zmlx_legal_make<short3>(__VA_ARGS__)
#define short4(...) zmlx_legal_make<short4>(__VA_ARGS__)
#define ushort2(...) zmlx_legal_make<ushort2>(__VA_ARGS__)
#define ushort3(...) zmlx_legal_make<ushort3>(__VA_ARGS__)
#define ushort4(...) zmlx_legal_make<ushort4>(__VA_ARGS__)
#define char2(...) zmlx_legal_make<char2>(__VA_ARGS__)
#define char3(...) zmlx_legal_make<char3>(__VA_ARGS__)
#define char4(...) zmlx_legal_make<char4>(__VA_ARGS__)
#define uchar2(...) zmlx_legal_make<uchar2>(__VA_ARGS__)
#define uchar3(...) zmlx_legal_make<uchar3>(__VA_ARGS__)
#define uchar4(...) zmlx_legal_make<uchar4>(__VA_ARGS__)
#define long2(...) zmlx_legal_make<long2>(__VA_ARGS__)
#define long3(...) zmlx_legal_make<long3>(__VA_ARGS__)
#define long4(...) zmlx_legal_make<long4>(__VA_ARGS__)
#define ulong2(...) zmlx_legal_make<ulong2>(__VA_ARGS__)
#define ulong3(...) zmlx_legal_make<ulong3>(__VA_ARGS__)
#define ulong4(...) zmlx_legal_make<ulong4>(__VA_ARGS__)
#define bool2(...) zmlx_legal_make<bool2>(__VA_ARGS__)
#define bool3(...) zmlx_legal_make<bool3>(__VA_ARGS__)
#define bool4(...) zmlx_legal_make<bool4>(__VA_ARGS__)
#define bfloat2(...) zmlx_legal_make<bfloat2>(__VA_ARGS__)
#define bfloat3(...) zmlx_legal_make<bfloat3>(__VA_ARGS__)
#define bfloat4(...) zmlx_legal_make<bfloat4>(__VA_ARGS__)
