// Exponentials, logarithms and powers for the host, as in host/math.h, and what its functions are built of.
#pragma once

#include "msl/types.h"

namespace metal {
namespace impl {

// ------------------------------------------------------------ building blocks
ZMLX_FN float sqrt(float x) { return __builtin_sqrtf(x); }
ZMLX_FN float floor(float x) { return __builtin_floorf(x); }
ZMLX_FN float ceil(float x) { return __builtin_ceilf(x); }
ZMLX_FN float trunc(float x) { return __builtin_truncf(x); }
ZMLX_FN float rint(float x) { return __builtin_rintf(x); }
ZMLX_FN float fabs(float x) { return __builtin_fabsf(x); }
ZMLX_FN float copysign(float x, float y) { return __builtin_copysignf(x, y); }

// Metal's fma is fused by definition: in software where the processor has no such instruction.
ZMLX_FN float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

// Fused where that is one instruction. Callers are accurate either way.
ZMLX_FN float mad(float a, float b, float c) {
#if ZMLX_HAS_FMA
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
ZMLX_FN double mad(double a, double b, double c) {
#if ZMLX_HAS_FMA
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

template <class F>
ZMLX_FN F horner(F, F c0) {
  return c0;
}
template <class F, class... Rest>
ZMLX_FN F horner(F x, F c0, Rest... rest) {
  return mad(horner(x, rest...), x, c0);
}

// Adding it to a float (double) below 2^22 (2^51) leaves the nearest integer in the lowest bits of the sum.
constexpr float round_shift = 0x1.8p23f;
constexpr double round_shift_d = 0x1.8p52;
constexpr float inf = __builtin_inff();
constexpr float nan = __builtin_nanf("");

ZMLX_FN float power_of_two(int n) { return as_type<float>((n + 127) << 23); }
ZMLX_FN double power_of_two_d(long n) { return as_type<double>((n + 1023) << 52); }

// x * 2^n for |n| <= 250 in two exact steps and a rounded one, so that subnormal results round once.
ZMLX_FN float scale(float x, int n) {
  const int half_n = n >> 1;
  return x * power_of_two(half_n) * power_of_two(n - half_n);
}

// NaN stays: comparisons with it are false.
ZMLX_FN float limit(float x, float low, float high) {
  const float y = x < low ? low : x;
  return y > high ? high : y;
}

// ------------------------------------------------------------ exponentials
// Below `least` results are zero, and computed as if for 0: a product that is too small even for a subnormal number
// takes the processor a hundred cycles and more, and a mask of minus infinities has nothing else.
ZMLX_FN float vanishing(float x, float least) { return x < least ? 0.0f : x; }

// e^x * 2^k for k <= 0
ZMLX_FN float exp_scaled(float x, int k) {
  const float least = -104.0f;
  const float c = limit(vanishing(x, least), least, 90.0f);
  const float t = mad(c, 0x1.715476p+0f, round_shift);
  const float n = t - round_shift;
  const float r = mad(n, -0x1.7f7d1cp-20f, mad(n, -0x1.62e4p-1f, c));
  const float q = horner(r, 0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558b4p-5f, 0x1.12399cp-7f, 0x1.6a4902p-10f);
  const float y = scale(mad(r * r, q, r) + 1.0f, as_type<int>(t) - as_type<int>(round_shift) + k);
  return x < least ? 0.0f : y;
}

ZMLX_FN float exp(float x) { return exp_scaled(x, 0); }

ZMLX_FN float exp2(float x) {
  const float least = -150.0f;
  const float c = limit(vanishing(x, least), least, 129.0f);
  const float t = c + round_shift;
  const float r = c - (t - round_shift);
  const float q = horner(r, 0x1.62e43p-1f, 0x1.ebfbdcp-3f, 0x1.c6af7cp-5f, 0x1.3b2dep-7f, 0x1.5f0838p-10f,
                         0x1.416b8p-13f);
  const float y = scale(mad(r, q, 1.0f), as_type<int>(t) - as_type<int>(round_shift));
  return x < least ? 0.0f : y;
}

ZMLX_FN float exp10(float x) {
  const float least = -45.2f;
  const float c = limit(vanishing(x, least), least, 39.0f);
  const float t = mad(c, 0x1.a934fp+1f, round_shift);
  const float n = t - round_shift;
  const float r = mad(n, -0x1.3509f8p-18f, mad(n, -0x1.344p-2f, c));
  const float q = horner(r, 0x1.26bb1cp+1f, 0x1.53524ap+1f, 0x1.046f9cp+1f, 0x1.2bda02p+0f, 0x1.156a68p-1f,
                         0x1.a638ap-3f);
  const float y = scale(mad(r, q, 1.0f), as_type<int>(t) - as_type<int>(round_shift));
  return x < least ? 0.0f : y;
}

// ------------------------------------------------------------ logarithms
// x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)); log(1 + f) = f + rest
struct log_parts {
  float e, f, rest;
};

struct mantissa_exponent {
  float m;
  int e;
};

ZMLX_FN mantissa_exponent split_mantissa(float x) {
  const bool tiny = x < 0x1p-126f;
  const float y = tiny ? x * 0x1p23f : x;
  const int bits = as_type<int>(y) - 0x3f3504f3;
  return {as_type<float>((bits & 0x7fffff) + 0x3f3504f3), (bits >> 23) - (tiny ? 23 : 0)};
}

ZMLX_FN log_parts split_log(float x) {
  const mantissa_exponent parts = split_mantissa(x);
  const float f = parts.m - 1.0f;
  const float q = horner(f, 0x1.555548p-2f, -0x1.000006p-2f, 0x1.99a478p-3f, -0x1.555c48p-3f, 0x1.233b62p-3f,
                         -0x1.fc278ap-4f, 0x1.e6c372p-4f, -0x1.de0d26p-4f, 0x1.147962p-4f);
  const float square = f * f;
  return {static_cast<float>(parts.e), f, mad(f * square, q, -0.5f * square)};
}

// What the logarithms have in common: log(inf) = inf, log(0) = -inf, log of a negative number or NaN is NaN.
ZMLX_FN float log_special(float x, float y) {
  const float finite = x < inf ? y : x;
  const float nonzero = x == 0.0f ? -inf : finite;
  return x < 0.0f ? nan : nonzero;
}

ZMLX_FN float log(float x) {
  const log_parts p = split_log(x);
  const float low = mad(p.e, 0x1.7f7d1cp-20f, p.rest);
  return log_special(x, mad(p.e, 0x1.62e4p-1f, p.f + low));
}

ZMLX_FN float log2(float x) {
  const log_parts p = split_log(x);
  const float low = mad(p.f, 0x1.4ae0cp-26f, p.rest * 0x1.715476p+0f);
  return log_special(x, p.e + mad(p.f, 0x1.715476p+0f, low));
}

ZMLX_FN float log10(float x) {
  const log_parts p = split_log(x);
  const float low = mad(p.f, -0x1.5b235ep-27f, mad(p.rest, 0x1.bcb7b2p-2f, p.e * 0x1.3509f8p-18f));
  return log_special(x, mad(p.e, 0x1.344p-2f, mad(p.f, 0x1.bcb7b2p-2f, low)));
}

// log(1 + x), accurate near 0
ZMLX_FN float log1p(float x) {
  const float u = 1.0f + x;
  const float lost = (x - (u - 1.0f)) / u;
  return log(u) + (u < inf && u > 0.0f ? lost : 0.0f);
}

// ------------------------------------------------------------ powers
ZMLX_FN float rsqrt(float x) { return 1.0f / sqrt(x); }

// 2^(y log2 |x|) in double, rounded once. |x| may be 0 or infinite, y too.
ZMLX_FN float power(float x, float y) {
  const mantissa_exponent parts = split_mantissa(x);
  const double f = parts.m - 1.0f;
  const double s = f / (f + 2.0);
  const double s2 = s * s;
  const double q = horner(s2, 0x1.71547652bedf3p+1, 0x1.ec709d12c2864p-1, 0x1.27777ff30dfdbp-1,
                          0x1.a58d837e3a4d1p-2, 0x1.5ce8bd7aba756p-2);
  const double finite = static_cast<double>(parts.e) + s * q;
  const double nonzero = x == 0.0f ? static_cast<double>(-inf) : finite;
  const double logarithm = x < inf ? nonzero : static_cast<double>(x);
  const double product = logarithm == 0.0 ? 0.0 : static_cast<double>(y) * logarithm;
  const bool vanishes = product < -150.0;
  const double low = vanishes ? 0.0 : product;
  const double t = low > 160.0 ? 160.0 : low;
  const double shifted = t + round_shift_d;
  const double r = t - (shifted - round_shift_d);
  const double p =
      horner(r, 0x1.000000026248bp+0, 0x1.62e430c82ad44p-1, 0x1.ebfbdadb1fcabp-3, 0x1.c6aed45fc2e24p-5,
             0x1.3b2dbc5f31593p-7, 0x1.5f4597e90d646p-10, 0x1.41d313934e13cp-13);
  const long n = as_type<long>(shifted) - as_type<long>(round_shift_d);
  const float power = static_cast<float>(p * power_of_two_d(n));
  return vanishes ? 0.0f : power;
}

ZMLX_FN float pow(float x, float y) {
  const float magnitude = power(fabs(x), y);
  const bool integer = rint(y) == y;
  const bool odd = integer && rint(0.5f * y) != 0.5f * y;
  const float signed_ =
      as_type<float>(as_type<uint>(magnitude) | (odd ? as_type<uint>(x) & 0x80000000u : 0u));
  const bool domain = x >= 0.0f || integer || x == -inf;
  const float valid = domain ? signed_ : nan;
  const float ordinary = x != x || y != y ? x + y : valid;
  return x == 1.0f || y == 0.0f ? 1.0f : ordinary;
}

// As pow for x > 0; NaN for x < 0, and where 0 and infinity leave x^y without a value.
ZMLX_FN float powr(float x, float y) {
  const float magnitude = power(fabs(x), y);
  const bool undefined = x < 0.0f || (y == 0.0f && (x == 0.0f || x == inf)) || (x == 1.0f && fabs(y) == inf);
  const float valid = undefined ? nan : magnitude;
  return x != x || y != y ? x + y : valid;
}

// x 2^n, rounded once: double holds every intermediate value.
ZMLX_FN float ldexp(float x, int n) {
  const int low = n < -400 ? -400 : n;
  return static_cast<float>(static_cast<double>(x) * power_of_two_d(low > 400 ? 400 : low));
}

}  // namespace impl
}  // namespace metal
