// The float functions of <metal_math> for the host: branch-free, so that a loop over any of them vectorises.
//
// Each reduces its argument, evaluates a polynomial and puts special values in by selection. The coefficients
// are minimax fits made for these intervals, rounded to float one after the other. Errors, measured over all
// exponents, are below 1 ULP for the exponentials, logarithms and pow, below 2 for sin, cos, tanh, and below
// 4 for the rest: tests/launch/test_runtime_math.py holds each to its figure.
//
// The compiler must keep NaN, infinities and the order of operations: no -ffast-math, -ffp-contract=off. It
// needs -fno-math-errno and -fno-trapping-math to vectorise: neither changes a result.
#pragma once

#include "msl_types.h"

namespace metal {
namespace impl {

// ---------------------------------------------------------------------------------------------- building
// blocks
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

// ---------------------------------------------------------------------------------------------- exponentials
// e^x * 2^k
ZMLX_FN float exp_scaled(float x, int k) {
  const float c = limit(x, -105.0f, 90.0f);
  const float t = mad(c, 0x1.715476p+0f, round_shift);
  const float n = t - round_shift;
  const float r = mad(n, -0x1.7f7d1cp-20f, mad(n, -0x1.62e4p-1f, c));
  const float q = horner(r, 0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558b4p-5f, 0x1.12399cp-7f, 0x1.6a4902p-10f);
  return scale(mad(r * r, q, r) + 1.0f, as_type<int>(t) - as_type<int>(round_shift) + k);
}

ZMLX_FN float exp(float x) { return exp_scaled(x, 0); }

ZMLX_FN float exp2(float x) {
  const float c = limit(x, -151.0f, 129.0f);
  const float t = c + round_shift;
  const float r = c - (t - round_shift);
  const float q = horner(r, 0x1.62e43p-1f, 0x1.ebfbdcp-3f, 0x1.c6af7cp-5f, 0x1.3b2dep-7f, 0x1.5f0838p-10f,
                         0x1.416b8p-13f);
  return scale(mad(r, q, 1.0f), as_type<int>(t) - as_type<int>(round_shift));
}

ZMLX_FN float exp10(float x) {
  const float c = limit(x, -46.0f, 39.0f);
  const float t = mad(c, 0x1.a934fp+1f, round_shift);
  const float n = t - round_shift;
  const float r = mad(n, -0x1.3509f8p-18f, mad(n, -0x1.344p-2f, c));
  const float q = horner(r, 0x1.26bb1cp+1f, 0x1.53524ap+1f, 0x1.046f9cp+1f, 0x1.2bda02p+0f, 0x1.156a68p-1f,
                         0x1.a638ap-3f);
  return scale(mad(r, q, 1.0f), as_type<int>(t) - as_type<int>(round_shift));
}

// ---------------------------------------------------------------------------------------------- logarithms
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

// ---------------------------------------------------------------------------------------------- powers
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
  const double low = product < -160.0 ? -160.0 : product;
  const double t = low > 160.0 ? 160.0 : low;
  const double shifted = t + round_shift_d;
  const double r = t - (shifted - round_shift_d);
  const double p =
      horner(r, 0x1.000000026248bp+0, 0x1.62e430c82ad44p-1, 0x1.ebfbdadb1fcabp-3, 0x1.c6aed45fc2e24p-5,
             0x1.3b2dbc5f31593p-7, 0x1.5f4597e90d646p-10, 0x1.41d313934e13cp-13);
  const long n = as_type<long>(shifted) - as_type<long>(round_shift_d);
  return static_cast<float>(p * power_of_two_d(n));
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

// ---------------------------------------------------------------------------------------------- trigonometry
// x = (quarter + t) pi/2 with t pi/2 = angle in [-pi/4, pi/4]. The lowest two bits of quarter count.
struct reduced_angle {
  float angle;
  int quarter;
};

// The fraction of x c, near zero, given integer n close to x c: exact but for one rounding. c = high + low,
// where high has 29 bits and low 24, so that products with x are exact in double without a fused instruction,
// too.
ZMLX_FN double turn_fraction(double x, double high, double low, double n) {
#if ZMLX_HAS_FMA
  return __builtin_fma(x, high + low, -n);
#else
  return (x * high - n) + x * low;
#endif
}
ZMLX_FN double nearest(double x) { return __builtin_rint(x); }

// Multiplies with 1/(2 pi) to 210 bits, one constant of 53 bits after the other, and keeps the fractions of
// the products: whole turns do not matter. Right for every finite float.
ZMLX_FN reduced_angle reduce_angle(float x) {
  const double d = x;
  const double a1 = 0x1.45f306dp-3, b1 = 0x1.939104p-32;
  const double a2 = 0x1.4a7f09dp-56, b2 = 0x1.7d1f5p-86;
  const double a3 = 0x1.a6ee06dp-109, b3 = 0x1.629598p-138;
  const double a4 = 0x1.3c439041fe516p-162;
  const double f1 = turn_fraction(d, a1, b1, nearest(d * (a1 + b1)));
  const double f2 = turn_fraction(d, a2, b2, nearest(d * (a2 + b2)));
  const double f3 = turn_fraction(d, a3, b3, nearest(d * (a3 + b3)));
  const double turns = ((f1 - nearest(f1)) + (f2 - nearest(f2))) + mad(d, a4, f3);
  const double shifted = 4.0 * turns + round_shift_d;
  const double t = turns - 0.25 * (shifted - round_shift_d);
  return {static_cast<float>(t * 0x1.921fb54442d18p+2), static_cast<int>(as_type<long>(shifted))};
}

ZMLX_FN float sin_kernel(float t) {
  const float z = t * t;
  return mad(t * z, horner(z, -0x1.555556p-3f, 0x1.111174p-7f, -0x1.a05956p-13f, 0x1.7c2d8ep-19f), t);
}
ZMLX_FN float cos_kernel(float t) {
  const float z = t * t;
  return mad(z * z, horner(z, 0x1.55554ap-5f, -0x1.6c0c28p-10f, 0x1.99e80cp-16f), mad(z, -0.5f, 1.0f));
}

ZMLX_FN float flip_sign(float x, int bit) {
  return as_type<float>(as_type<uint>(x) ^ static_cast<uint>(bit) << 31);
}

ZMLX_FN float sin_quarter(float t, int quarter) {
  return flip_sign(quarter & 1 ? cos_kernel(t) : sin_kernel(t), quarter >> 1 & 1);
}
ZMLX_FN float cos_quarter(float t, int quarter) { return sin_quarter(t, quarter + 1); }
ZMLX_FN float tan_quarter(float t, int quarter) {
  const float s = sin_kernel(t);
  const float c = cos_kernel(t);
  return flip_sign((quarter & 1 ? c : s) / (quarter & 1 ? s : c), quarter & 1);
}

ZMLX_FN float sin(float x) {
  const reduced_angle r = reduce_angle(x);
  return x == 0.0f ? x : sin_quarter(r.angle, r.quarter);
}
ZMLX_FN float cos(float x) {
  const reduced_angle r = reduce_angle(x);
  return cos_quarter(r.angle, r.quarter);
}
ZMLX_FN float tan(float x) {
  const reduced_angle r = reduce_angle(x);
  return x == 0.0f ? x : tan_quarter(r.angle, r.quarter);
}
ZMLX_FN float sincos(float x, float& cosine) {
  const reduced_angle r = reduce_angle(x);
  cosine = cos_quarter(r.angle, r.quarter);
  return x == 0.0f ? x : sin_quarter(r.angle, r.quarter);
}

// The same for angles in half turns, where the reduction is exact. Floats from 2^24 on are even integers.
ZMLX_FN reduced_angle reduce_half_turns(float x) {
  const float y = x - 2.0f * rint(0.5f * x);
  const float shifted = 2.0f * y + round_shift;
  const double t = static_cast<double>(y - 0.5f * (shifted - round_shift));
  return {static_cast<float>(t * 0x1.921fb54442d18p+1), as_type<int>(shifted)};
}
ZMLX_FN float sinpi(float x) {
  const reduced_angle r = reduce_half_turns(x);
  const float y = sin_quarter(r.angle, r.quarter);
  return y == 0.0f ? copysign(y, x) : y;
}
ZMLX_FN float cospi(float x) {
  const reduced_angle r = reduce_half_turns(x);
  return cos_quarter(r.angle, r.quarter) + 0.0f;
}
ZMLX_FN float tanpi(float x) {
  const reduced_angle r = reduce_half_turns(x);
  return x == 0.0f ? x : tan_quarter(r.angle, r.quarter);
}

// ---------------------------------------------------------------------------------------------- inverse
// trigonometry asin(sqrt(z)) / sqrt(z) - 1, divided by z, for z in [0, 1/4]
ZMLX_FN float asin_kernel(float z) {
  return horner(z, 0x1.5555c8p-3f, 0x1.3301fcp-4f, 0x1.747d04p-5f, 0x1.8c2dacp-6f, 0x1.596d3p-5f);
}

constexpr float pi_2_high = 0x1.921fb6p+0f, pi_2_low = -0x1.777a5cp-25f;
constexpr float pi_4_high = 0x1.921fb6p-1f, pi_4_low = -0x1.777a5cp-26f;

ZMLX_FN float asin(float x) {
  const float a = fabs(x);
  const bool large = a > 0.5f;
  const float z = large ? mad(-0.5f, a, 0.5f) : a * a;
  const float root = large ? sqrt(z) : a;
  const float y = mad(root * z, asin_kernel(z), root);
  return copysign(large ? pi_2_high - (2.0f * y - pi_2_low) : y, x);
}

ZMLX_FN float acos(float x) {
  const float a = fabs(x);
  const bool large = a > 0.5f;
  const float z = large ? mad(-0.5f, a, 0.5f) : a * a;
  const float root = large ? sqrt(z) : x;
  const float rest = root * z * asin_kernel(z);
  const float y = 2.0f * (root + rest);
  const float near_one = x < 0.0f ? 2.0f * pi_2_high - (y - 2.0f * pi_2_low) : y;
  return large ? near_one : pi_2_high - (root + (rest - pi_2_low));
}

// atan(numerator / denominator), both not negative, numerator <= denominator unless `wide`
ZMLX_FN float atan_ratio(float numerator, float denominator) {
  const bool middle = numerator > 0x1.a8279ap-2f * denominator;
  const float t =
      (middle ? numerator - denominator : numerator) / (middle ? numerator + denominator : denominator);
  const float z = t * t;
  const float q =
      horner(z, -0x1.55554ap-2f, 0x1.9991e2p-3f, -0x1.23b9a2p-3f, 0x1.b22450p-4f, -0x1.f2e556p-5f);
  const float rest = mad(t * z, q, middle ? pi_4_low : 0.0f);
  return (middle ? pi_4_high : 0.0f) + (t + rest);
}

ZMLX_FN float atan(float x) {
  const float a = fabs(x);
  const bool steep = a > 1.0f;
  const float y = atan_ratio(steep ? 1.0f : a, steep ? a : 1.0f);
  return copysign(steep ? pi_2_high - (y - pi_2_low) : y, x);
}

ZMLX_FN float atan2(float y, float x) {
  const float ax = fabs(x);
  const float ay = fabs(y);
  const bool steep = ay > ax;
  const float small = steep ? ax : ay;
  const float large = steep ? ay : ax;
  // The ratio of two infinities is taken as 1, that of two zeros as 0; halves of huge numbers have a finite
  // sum.
  const float shrink = large > 0x1p126f ? 0.25f : 1.0f;
  const float numerator = small == inf ? 1.0f : small * shrink;
  const float denominator = small == inf || large == 0.0f ? 1.0f : large * shrink;
  const float first = atan_ratio(numerator, denominator);
  const float quadrant = steep ? pi_2_high - (first - pi_2_low) : first;
  const bool left = as_type<int>(x) < 0;
  const float half_plane = left ? 2.0f * pi_2_high - (quadrant - 2.0f * pi_2_low) : quadrant;
  return x != x || y != y ? x + y : copysign(half_plane, y);
}

// ---------------------------------------------------------------------------------------------- hyperbolic
// functions
ZMLX_FN float sinh(float x) {
  const float a = fabs(x);
  const float z = a * a;
  const float small =
      mad(a * z, horner(z, 0x1.555556p-3f, 0x1.1110ep-7f, 0x1.a022bp-13f, 0x1.756fd4p-19f), a);
  const float e = exp_scaled(a, -1);
  return copysign(a < 1.0f ? small : e - 0.25f / e, x);
}
ZMLX_FN float cosh(float x) {
  const float e = exp_scaled(fabs(x), -1);
  return e + 0.25f / e;
}
ZMLX_FN float tanh(float x) {
  const float a = fabs(x);
  const float z = x * x;
  const float q =
      horner(z, -0x1.555548p-2f, 0x1.110c5ep-3f, -0x1.b905c4p-5f, 0x1.5811f6p-6f, -0x1.9454f4p-8f);
  const float large = 1.0f - 2.0f / (exp_scaled(a > 10.0f ? 20.0f : 2.0f * a, 0) + 1.0f);
  return copysign(a < 0.55f ? mad(a * z, q, a) : large, x);
}
ZMLX_FN float asinh(float x) {
  const float a = fabs(x);
  const bool large = a > 0x1p13f;
  const float z = large ? 0.0f : a * a;
  const float u = large ? a - 1.0f : a + z / (1.0f + sqrt(1.0f + z));
  return copysign(log1p(u) + (large ? 0x1.62e43p-1f : 0.0f), x);
}
ZMLX_FN float acosh(float x) {
  const bool large = x > 0x1p13f;
  const float t = x - 1.0f;
  const float u = large ? t : t + sqrt(t * (t + 2.0f));
  return x < 1.0f ? nan : log1p(u) + (large ? 0x1.62e43p-1f : 0.0f);
}
ZMLX_FN float atanh(float x) {
  const float a = fabs(x);
  return copysign(0.5f * log1p(2.0f * a / (1.0f - a)), x);
}

// ---------------------------------------------------------------------------------------------- bits of a
// float Away from zero at one half. x + 0.5 would round up numbers just below one half.
ZMLX_FN float round(float x) {
  const float t = trunc(x);
  return fabs(x - t) >= 0.5f ? t + copysign(1.0f, x) : t;
}

ZMLX_FN float frexp(float x, int& exponent) {
  const float a = fabs(x);
  const bool tiny = a < 0x1p-126f;
  const uint bits = as_type<uint>(tiny ? x * 0x1p24f : x);
  const bool special = !(a < inf) || x == 0.0f;
  exponent = special ? 0 : static_cast<int>(bits >> 23 & 0xffu) - (tiny ? 126 + 24 : 126);
  return special ? x : as_type<float>((bits & 0x807fffffu) | 126u << 23);
}

ZMLX_FN float fmod_step(float x, float y) {
  const double q = static_cast<double>(x) / static_cast<double>(y);
  const double r = __builtin_fma(-__builtin_trunc(q), static_cast<double>(y), static_cast<double>(x));
  const double up = r < 0.0 ? r + static_cast<double>(y) : r;
  return static_cast<float>(up >= static_cast<double>(y) ? up - static_cast<double>(y) : up);
}

// Exact. A quotient below 2^53, that is almost always, takes one step.
ZMLX_FN float fmod(float x, float y) {
  const float a = fabs(x);
  const float b = fabs(y);
  if (a < b * 0x1p24f && b > 0.0f && b < inf) {
    return copysign(fmod_step(a, b), x);
  }
  return __builtin_fmodf(x, y);
}

// ---------------------------------------------------------------------------------------------- metal::fast
// The host has nothing to gain from less accurate functions.
namespace fast {
using impl::acos;
using impl::acosh;
using impl::asin;
using impl::asinh;
using impl::atan;
using impl::atan2;
using impl::atanh;
using impl::cos;
using impl::cosh;
using impl::cospi;
using impl::exp;
using impl::exp10;
using impl::exp2;
using impl::fmod;
using impl::log;
using impl::log10;
using impl::log2;
using impl::pow;
using impl::powr;
using impl::rsqrt;
using impl::sin;
using impl::sincos;
using impl::sinh;
using impl::sinpi;
using impl::sqrt;
using impl::tan;
using impl::tanh;
using impl::tanpi;
ZMLX_FN float divide(float x, float y) { return x / y; }
}  // namespace fast

}  // namespace impl
}  // namespace metal
