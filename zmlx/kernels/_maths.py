"""Mathematical functions of Metal for kernels: as exact as the dtype ``T`` can show.

On a GPU the exact functions take longer for 16-bit values than the memory does. The fast ones are off by 1e-5 at most
(the exponential of -87), which rounding to 16 bits hides; a quotient by more than 2**126 may be zero. Logarithms and
powers have no such form: a fast logarithm is off by as much near one, where it is nearly zero itself.
"""

from __future__ import annotations

MATHS = """
template <typename T>
METAL_FUNC float zmlx_exp(float x) {
  return sizeof(T) == 2 ? fast::exp(x) : exp(x);
}
template <typename T>
METAL_FUNC float zmlx_ratio(float x, float y) {
  return sizeof(T) == 2 ? fast::divide(x, y) : x / y;
}
"""

# The standard library of Metal has neither expm1 nor erf. Taylor's series, where they are used, are off by 2e-8 at
# most; the selections are none that a loop would have to branch for.
FUNCTIONS = """
template <typename T>
METAL_FUNC float zmlx_sigmoid(float x) {
  return zmlx_ratio<T>(1.0f, 1.0f + zmlx_exp<T>(-x));
}
template <typename T>
METAL_FUNC float zmlx_log(float x) {
  return log(x);
}
template <typename T>
METAL_FUNC float zmlx_log1p(float x) {
  const float u = 1.0f + x;
  if (sizeof(T) == 2) {
    const float small = x * fma(x, fma(x, 0.333333333f, -0.5f), 1.0f), large = fast::log(u);
    return fabs(x) < 0.03125f ? small : large;
  }
  // What 1 + x loses cancels in the quotient.
  const float y = x * zmlx_ratio<T>(log(u), u - 1.0f);
  return u == 1.0f || u == INFINITY ? x : y;
}
template <typename T>
METAL_FUNC float zmlx_expm1(float x) {
  float p = 1.98412698e-4f;
  p = fma(p, x, 1.38888889e-3f);
  p = fma(p, x, 8.33333333e-3f);
  p = fma(p, x, 4.16666667e-2f);
  p = fma(p, x, 1.66666667e-1f);
  p = fma(p, x, 0.5f);
  const float small = fma(x * x, p, x);
  const float large = zmlx_exp<T>(x) - 1.0f;
  return fabs(x) < 0.35f ? small : large;
}
template <typename T>
METAL_FUNC float zmlx_tanh(float x) {
  if (sizeof(T) != 2) return tanh(x);
  const float e = zmlx_exp<T>(-2.0f * fabs(x));
  const float large = copysign(zmlx_ratio<T>(1.0f - e, 1.0f + e), x);
  const float z = x * x;
  const float small = fma(x * z, fma(z, 0.133333333f, -0.333333333f), x);
  return fabs(x) < 0.1f ? small : large;
}
template <typename T>
METAL_FUNC float zmlx_pow(float x, float y) {
  return pow(x, y);
}
"""

# The fit is of 0.5 * erfcx(t / sqrt(2)), erfcx(z) = exp(z * z) * erfc(z), in powers of u = 1 / (1 + 0.34 t)
# on 0 <= t <= 14.5: degree 9, least squares of the relative error, reweighted until it was level (1.4e-8).
# Beyond 14.5 exp(-t * t / 2) is zero in float32.
NORMAL = """
// The normal distribution's density at a (without the 1 / sqrt(2 pi)) and its integral up to a.
struct zmlx_normal {
  float density;
  float integral;
};

template <typename T>
METAL_FUNC zmlx_normal zmlx_normal_at(float a) {
  float t = fabs(a);
  t = t > 14.5f ? 14.5f : t;
  // exp(-t * t / 2) magnifies the rounding of t * t: what it lost goes back in, where it shows.
  const float square = t * t;
  const float tail = zmlx_exp<T>(-0.5f * square);
  const float density = sizeof(T) == 2 ? tail : fma(tail, -0.5f * fma(t, t, -square), tail);
  const float u = zmlx_ratio<T>(1.0f, fma(0.34f, t, 1.0f));
  float p = -0.0283917524f;
  p = fma(p, u, 0.150689229f);
  p = fma(p, u, -0.296787381f);
  p = fma(p, u, 0.230264902f);
  p = fma(p, u, -0.0652938858f);
  p = fma(p, u, 0.124982566f);
  p = fma(p, u, 0.112330757f);
  p = fma(p, u, 0.136635959f);
  p = fma(p, u, 0.135567293f);
  p = fma(p, u, 2.29141551e-6f);
  const float above = density * p;  // the integral from t on, to full relative precision
  zmlx_normal normal;
  normal.density = density;
  normal.integral = a < 0.0f ? above : 1.0f - above;
  return normal;
}

template <typename T>
METAL_FUNC float zmlx_erf(float x) {
  const float z = x * x;
  float p = 1.20553329e-4f;
  p = fma(p, z, -8.54832702e-4f);
  p = fma(p, z, 5.22397763e-3f);
  p = fma(p, z, -2.68661706e-2f);
  p = fma(p, z, 1.12837917e-1f);
  p = fma(p, z, -3.76126389e-1f);
  p = fma(p, z, 1.12837917f);
  const float large = fma(-2.0f, zmlx_normal_at<T>(-1.41421356f * fabs(x)).integral, 1.0f);
  return fabs(x) < 0.5f ? x * p : copysign(large, x);
}
"""
