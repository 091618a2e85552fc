// The float functions of <metal_math> on CUDA: the device library's own, under the names that host/math.h
// uses.
#pragma once

#include "msl/types.h"

namespace metal {
namespace impl {

ZMLX_FN float sqrt(float x) { return ::sqrtf(x); }
ZMLX_FN float rsqrt(float x) { return ::rsqrtf(x); }
ZMLX_FN float floor(float x) { return ::floorf(x); }
ZMLX_FN float ceil(float x) { return ::ceilf(x); }
ZMLX_FN float trunc(float x) { return ::truncf(x); }
ZMLX_FN float rint(float x) { return ::rintf(x); }
ZMLX_FN float round(float x) { return ::roundf(x); }
ZMLX_FN float fabs(float x) { return ::fabsf(x); }
ZMLX_FN float copysign(float x, float y) { return ::copysignf(x, y); }
ZMLX_FN float fmax(float x, float y) { return ::fmaxf(x, y); }
ZMLX_FN float fmin(float x, float y) { return ::fminf(x, y); }
ZMLX_FN float fma(float a, float b, float c) { return ::fmaf(a, b, c); }

ZMLX_FN float exp(float x) { return ::expf(x); }
ZMLX_FN float exp2(float x) { return ::exp2f(x); }
ZMLX_FN float exp10(float x) { return ::exp10f(x); }
ZMLX_FN float log(float x) { return ::logf(x); }
ZMLX_FN float log2(float x) { return ::log2f(x); }
ZMLX_FN float log10(float x) { return ::log10f(x); }
ZMLX_FN float pow(float x, float y) { return ::powf(x, y); }

// As pow for x > 0; NaN for x < 0, and where 0 and infinity leave x^y without a value.
ZMLX_FN float powr(float x, float y) {
  const float inf = INFINITY;
  const bool undefined =
      x < 0.0f || (y == 0.0f && (x == 0.0f || x == inf)) || (x == 1.0f && ::fabsf(y) == inf);
  const float valid = undefined ? NAN : ::powf(::fabsf(x), y);
  return x != x || y != y ? x + y : valid;
}

ZMLX_FN float sin(float x) { return ::sinf(x); }
ZMLX_FN float cos(float x) { return ::cosf(x); }
ZMLX_FN float tan(float x) { return ::tanf(x); }
ZMLX_FN float sincos(float x, float& cosine) {
  float sine;
  ::sincosf(x, &sine, &cosine);
  return sine;
}
ZMLX_FN float sinpi(float x) { return ::sinpif(x); }
ZMLX_FN float cospi(float x) { return ::cospif(x); }
ZMLX_FN float tanpi(float x) { return ::sinpif(x) / ::cospif(x); }
ZMLX_FN float asin(float x) { return ::asinf(x); }
ZMLX_FN float acos(float x) { return ::acosf(x); }
ZMLX_FN float atan(float x) { return ::atanf(x); }
ZMLX_FN float atan2(float y, float x) { return ::atan2f(y, x); }
ZMLX_FN float sinh(float x) { return ::sinhf(x); }
ZMLX_FN float cosh(float x) { return ::coshf(x); }
ZMLX_FN float tanh(float x) { return ::tanhf(x); }
ZMLX_FN float asinh(float x) { return ::asinhf(x); }
ZMLX_FN float acosh(float x) { return ::acoshf(x); }
ZMLX_FN float atanh(float x) { return ::atanhf(x); }

ZMLX_FN float ldexp(float x, int n) { return ::ldexpf(x, n); }
ZMLX_FN float frexp(float x, int& exponent) {
  // The device library leaves the exponent of NaN and infinity open.
  const float m = ::frexpf(x, &exponent);
  exponent = ::fabsf(x) < INFINITY ? exponent : 0;
  return m;
}
ZMLX_FN float fmod(float x, float y) { return ::fmodf(x, y); }

// metal::fast: the special function units where they are about as accurate as Metal's fast functions. Exponentials and
// quotients flush subnormals, as Metal does, and take two instructions then: the scaling of subnormals takes more.
namespace fast {
ZMLX_FN float exp(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.44269504f));
  return y;
}
ZMLX_FN float exp10(float x) { return ::__exp10f(x); }
ZMLX_FN float log(float x) { return ::__logf(x); }
ZMLX_FN float log2(float x) { return ::__log2f(x); }
ZMLX_FN float log10(float x) { return ::__log10f(x); }
ZMLX_FN float sin(float x) { return ::__sinf(x); }
ZMLX_FN float cos(float x) { return ::__cosf(x); }
// __tanf loses everything beside a pole (5661 ULP at -214.98436 on an H200).
ZMLX_FN float tan(float x) { return ::tanf(x); }
ZMLX_FN float powr(float x, float y) { return ::__powf(x, y); }
ZMLX_FN float divide(float x, float y) {
  float z;
  asm("div.approx.ftz.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
  return z;
}
ZMLX_FN float sincos(float x, float& cosine) {
  cosine = ::__cosf(x);
  return ::__sinf(x);
}
ZMLX_FN float sqrt(float x) {
  float y;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
using impl::acos;
using impl::acosh;
using impl::asin;
using impl::asinh;
using impl::atan;
using impl::atan2;
using impl::atanh;
using impl::cosh;
using impl::cospi;
using impl::exp2;
using impl::fmod;
using impl::pow;
using impl::rsqrt;
using impl::sinh;
using impl::sinpi;
using impl::tanh;
using impl::tanpi;
}  // namespace fast

}  // namespace impl
}  // namespace metal
