// Sines, tangents and their inverses for the host, as in host/math.h.
#pragma once

#include "host/elementary.h"

namespace metal {
namespace impl {

// ------------------------------------------------------------ trigonometry
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
ZMLX_FN float tanpi(float x) { return sinpi(x) / cospi(x); }

// ------------------------------------------------------------ inverse trigonometry
// asin(sqrt(z)) / sqrt(z) - 1, divided by z, for z in [0, 1/4]
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

}  // namespace impl
}  // namespace metal
