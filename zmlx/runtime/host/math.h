// The float functions of <metal_math> for the host: branch-free, so that a loop over any of them vectorises.
//
// Each reduces its argument, evaluates a polynomial and puts special values in by selection. The coefficients
// are minimax fits made for these intervals, rounded to float one after the other. Errors, measured over all
// exponents, are below 1 ULP for the exponentials, logarithms and pow, below 2 for sin, cos, tanh, and below
// 4 for the rest: tests/runtime/test_math.py holds each to its figure.
//
// The compiler must keep NaN, infinities and the order of operations: no -ffast-math, -ffp-contract=off. It
// needs -fno-math-errno and -fno-trapping-math to vectorise: neither changes a result.
#pragma once

#include "host/elementary.h"
#include "host/trigonometry.h"

namespace metal {
namespace impl {

// ------------------------------------------------------------ hyperbolic functions
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

// ------------------------------------------------------------ bits of a float
// Away from zero at one half. x + 0.5 would round up numbers just below one half.
ZMLX_FN float round(float x) {
  const float t = trunc(x);
  return fabs(x - t) >= 0.5f ? t + copysign(1.0f, x) : t;
}

// Of a number and NaN, the number.
ZMLX_FN float fmax(float x, float y) {
  const float larger = x > y ? x : y;
  return y != y ? x : larger;
}
ZMLX_FN float fmin(float x, float y) {
  const float smaller = x < y ? x : y;
  return y != y ? x : smaller;
}

ZMLX_FN float frexp(float x, int& exponent) {
  const float a = fabs(x);
  const bool tiny = a < 0x1p-126f;
  const uint bits = as_type<uint>(tiny ? x * 0x1p24f : x);
  const bool special = !(a < inf) || x == 0.0f;
  exponent = special ? 0 : static_cast<int>(bits >> 23 & 0xffu) - (tiny ? 126 + 24 : 126);
  return special ? x : as_type<float>((bits & 0x807fffffu) | 126u << 23);
}

// For x < 2^29 y: the products are exact in double.
ZMLX_FN float fmod_step(float x, float y) {
  const double q = __builtin_trunc(static_cast<double>(x) / static_cast<double>(y));
  const double r = static_cast<double>(x) - q * static_cast<double>(y);
  const double up = r < 0.0 ? r + static_cast<double>(y) : r;
  return static_cast<float>(up >= static_cast<double>(y) ? up - static_cast<double>(y) : up);
}

// Exact. The one function with a branch: a huge quotient, which is rare, needs a loop.
ZMLX_FN float fmod(float x, float y) {
  const float a = fabs(x);
  const float b = fabs(y);
  if (a < b * 0x1p29f && b > 0.0f && b < inf) {
    return copysign(fmod_step(a, b), x);
  }
  return __builtin_fmodf(x, y);
}

// ------------------------------------------------------------ metal::fast
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
