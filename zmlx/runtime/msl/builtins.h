// Functions of Metal's compiler (a clang) that g++ or NVRTC does not have. Those of g++ stay g++'s.
#pragma once

#include "msl/integer.h"

#if !defined(__clang__) && !defined(ZMLX_CUDA)
#define __builtin_assume(condition) ((condition) ? static_cast<void>(0) : __builtin_unreachable())
#endif

#if !defined(__clang__)
namespace zmlx_builtin {
template <class T>
ZMLX_FN T reversed(T x) {
  T found = 0;
  for (unsigned i = 0; i < 8 * sizeof(T); ++i) found = static_cast<T>(found | (((x >> i) & 1u) ? T(1) << (8 * sizeof(T) - 1 - i) : T(0)));
  return found;
}
template <class T>
ZMLX_FN T rotated(T x, T left) {
  const unsigned bits = 8 * sizeof(T), by = static_cast<unsigned>(left) & (bits - 1);
  return by == 0 ? x : static_cast<T>((x << by) | (x >> (bits - by)));
}
template <class T>
ZMLX_FN T larger(T a, T b) { return a < b ? b : a; }
template <class T>
ZMLX_FN T smaller(T a, T b) { return b < a ? b : a; }
template <class T>
ZMLX_FN T absolute(T a) { return a < 0 ? -a : a; }
template <class T>
ZMLX_FN T loaded(const T* from) { return *from; }
template <class U, class T>
ZMLX_FN void stored(U value, T* to) { *to = value; }
}  // namespace zmlx_builtin
#define __builtin_bitreverse8(x) ::zmlx_builtin::reversed<unsigned char>(x)
#define __builtin_bitreverse16(x) ::zmlx_builtin::reversed<unsigned short>(x)
#define __builtin_bitreverse32(x) ::zmlx_builtin::reversed<unsigned int>(x)
#define __builtin_bitreverse64(x) ::zmlx_builtin::reversed<unsigned long>(x)
#define __builtin_rotateleft8(x, n) ::zmlx_builtin::rotated<unsigned char>(x, n)
#define __builtin_rotateleft16(x, n) ::zmlx_builtin::rotated<unsigned short>(x, n)
#define __builtin_rotateleft32(x, n) ::zmlx_builtin::rotated<unsigned int>(x, n)
#define __builtin_rotateleft64(x, n) ::zmlx_builtin::rotated<unsigned long>(x, n)
#define __builtin_rotateright8(x, n) ::zmlx_builtin::rotated<unsigned char>(x, -(n))
#define __builtin_rotateright16(x, n) ::zmlx_builtin::rotated<unsigned short>(x, -(n))
#define __builtin_rotateright32(x, n) ::zmlx_builtin::rotated<unsigned int>(x, -(n))
#define __builtin_rotateright64(x, n) ::zmlx_builtin::rotated<unsigned long>(x, -(n))
#define __builtin_elementwise_max(a, b) ::zmlx_builtin::larger<decltype((a) + 0)>(a, b)
#define __builtin_elementwise_min(a, b) ::zmlx_builtin::smaller<decltype((a) + 0)>(a, b)
#define __builtin_elementwise_abs(a) ::zmlx_builtin::absolute(a)
#define __builtin_nontemporal_load(from) ::zmlx_builtin::loaded(from)
#define __builtin_nontemporal_store(value, to) ::zmlx_builtin::stored(value, to)
#endif

#if defined(ZMLX_CUDA)
namespace zmlx_builtin {
ZMLX_FN int popcount(unsigned int x) { return __popc(x); }
ZMLX_FN int popcountl(unsigned long x) { return __popcll(x); }
ZMLX_FN int clz(unsigned int x) { return __clz(static_cast<int>(x)); }
ZMLX_FN int clzs(unsigned short x) { return __clz(static_cast<int>(x)) - 16; }
ZMLX_FN int clzl(unsigned long x) { return __clzll(static_cast<long>(x)); }
ZMLX_FN int ctz(unsigned int x) { return __ffs(static_cast<int>(x)) - 1; }
ZMLX_FN int ctzl(unsigned long x) { return __ffsll(static_cast<long>(x)) - 1; }
ZMLX_FN int ffs(int x) { return __ffs(x); }
ZMLX_FN int ffsl(long x) { return __ffsll(x); }
ZMLX_FN int parity(unsigned int x) { return __popc(x) & 1; }
ZMLX_FN int parityl(unsigned long x) { return __popcll(x) & 1; }
ZMLX_FN int clrsb(int x) { return __clz(x < 0 ? ~x : x) - 1; }
ZMLX_FN int clrsbl(long x) { return __clzll(x < 0 ? ~x : x) - 1; }
ZMLX_FN unsigned int bswap32(unsigned int x) { return __byte_perm(x, 0, 0x0123); }
ZMLX_FN unsigned short bswap16(unsigned short x) { return static_cast<unsigned short>(x << 8 | x >> 8); }
ZMLX_FN unsigned long bswap64(unsigned long x) {
  return static_cast<unsigned long>(bswap32(static_cast<unsigned int>(x))) << 32 | bswap32(static_cast<unsigned int>(x >> 32));
}
// Whole numbers as sign and 128 bits: what the operation is without bounds, and whether the result's type holds it.
struct Whole {
  bool negative;
  unsigned long low, high;
  template <class T>
  ZMLX_FN explicit Whole(T x) : negative(x < T(0)), low(negative ? 0ul - static_cast<unsigned long>(x) : static_cast<unsigned long>(x)), high(0) {}
  template <class R>
  ZMLX_FN bool leave(R* result) const {
    const R smallest = R(-1) < R(0) ? R(1ul << (8 * sizeof(R) - 1)) : R(0);
    const unsigned long largest = static_cast<unsigned long>(static_cast<R>(~smallest));
    *result = static_cast<R>(negative ? 0ul - low : low);
    return high != 0 || low > largest + (negative && smallest != R(0)) || (negative && smallest == R(0) && low != 0);
  }
};
ZMLX_FN Whole sum(Whole a, Whole b) {
  if (a.negative == b.negative) {
    a.low += b.low;
    a.high = a.low < b.low;
  } else if (a.low >= b.low) {
    a.low -= b.low;
  } else {
    a.low = b.low - a.low;
    a.negative = b.negative;
  }
  return a;
}
template <class A, class B, class R>
ZMLX_FN bool add_overflow(A a, B b, R* result) { return sum(Whole(a), Whole(b)).leave(result); }
template <class A, class B, class R>
ZMLX_FN bool sub_overflow(A a, B b, R* result) {
  Whole minus(b);
  minus.negative = !minus.negative;
  return sum(Whole(a), minus).leave(result);
}
template <class A, class B, class R>
ZMLX_FN bool mul_overflow(A a, B b, R* result) {
  Whole x(a), y(b);
  x.negative = x.negative != y.negative;
  x.high = __umul64hi(x.low, y.low);
  x.low *= y.low;
  return x.leave(result);
}
}  // namespace zmlx_builtin
// NVRTC 13.0 has none of these, 13.5 has.
#define __builtin_add_overflow(a, b, result) ::zmlx_builtin::add_overflow(a, b, result)
#define __builtin_sub_overflow(a, b, result) ::zmlx_builtin::sub_overflow(a, b, result)
#define __builtin_mul_overflow(a, b, result) ::zmlx_builtin::mul_overflow(a, b, result)
#define __builtin_popcount(x) ::zmlx_builtin::popcount(x)
#define __builtin_popcountl(x) ::zmlx_builtin::popcountl(x)
#define __builtin_popcountll(x) ::zmlx_builtin::popcountl(x)
#define __builtin_clz(x) ::zmlx_builtin::clz(x)
#define __builtin_clzs(x) ::zmlx_builtin::clzs(x)
#define __builtin_clzl(x) ::zmlx_builtin::clzl(x)
#define __builtin_clzll(x) ::zmlx_builtin::clzl(x)
#define __builtin_ctz(x) ::zmlx_builtin::ctz(x)
#define __builtin_ctzs(x) ::zmlx_builtin::ctz(x)
#define __builtin_ctzl(x) ::zmlx_builtin::ctzl(x)
#define __builtin_ctzll(x) ::zmlx_builtin::ctzl(x)
#define __builtin_ffs(x) ::zmlx_builtin::ffs(x)
#define __builtin_ffsl(x) ::zmlx_builtin::ffsl(x)
#define __builtin_ffsll(x) ::zmlx_builtin::ffsl(x)
#define __builtin_parity(x) ::zmlx_builtin::parity(x)
#define __builtin_parityl(x) ::zmlx_builtin::parityl(x)
#define __builtin_parityll(x) ::zmlx_builtin::parityl(x)
#define __builtin_clrsb(x) ::zmlx_builtin::clrsb(x)
#define __builtin_clrsbl(x) ::zmlx_builtin::clrsbl(x)
#define __builtin_clrsbll(x) ::zmlx_builtin::clrsbl(x)
#define __builtin_bswap16(x) ::zmlx_builtin::bswap16(x)
#define __builtin_bswap32(x) ::zmlx_builtin::bswap32(x)
#define __builtin_bswap64(x) ::zmlx_builtin::bswap64(x)
#define __builtin_abs(x) ::zmlx_builtin::absolute<int>(x)
#define __builtin_labs(x) ::zmlx_builtin::absolute<long>(x)
#define __builtin_llabs(x) ::zmlx_builtin::absolute<long>(x)
#define __builtin_fabsf(x) ::fabsf(x)
#define __builtin_fmaf(x, y, z) ::fmaf(x, y, z)
#define __builtin_fmaxf(x, y) ::fmaxf(x, y)
#define __builtin_fminf(x, y) ::fminf(x, y)
#define __builtin_sqrtf(x) ::sqrtf(x)
#define __builtin_floorf(x) ::floorf(x)
#define __builtin_ceilf(x) ::ceilf(x)
#define __builtin_truncf(x) ::truncf(x)
#define __builtin_roundf(x) ::roundf(x)
#define __builtin_rintf(x) ::rintf(x)
#define __builtin_nearbyintf(x) ::nearbyintf(x)
#define __builtin_signbit(x) (__float_as_int(x) < 0)
#define __builtin_inff() __int_as_float(0x7f800000)
#define __builtin_huge_valf() __int_as_float(0x7f800000)
#define __builtin_nanf(tag) __int_as_float(0x7fc00000)
#define __builtin_memcpy(to, from, bytes) ::memcpy(to, from, bytes)
#define __builtin_memset(to, value, bytes) ::memset(to, value, bytes)
#endif

#if defined(ZMLX_CUDA) || !defined(__clang__) || __clang_major__ < 19
namespace zmlx_builtin {
template <class T>
ZMLX_FN int zeros_in_front(T x) {
  return sizeof(T) == 8 ? __builtin_clzl(x) : __builtin_clz(x) - static_cast<int>(32 - 8 * sizeof(T));
}
}  // namespace zmlx_builtin
#define __builtin_popcountg(x) __builtin_popcountl(static_cast<unsigned long>(x))
#define __builtin_clzg(x) ::zmlx_builtin::zeros_in_front(x)
#define __builtin_ctzg(x) __builtin_ctzl(static_cast<unsigned long>(x))
#endif
