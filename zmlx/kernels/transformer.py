"""Gated linear units: one half of each row, through an activation, times the other half."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import mlx.core as mx

from zmlx.kernels import _check, _rows
from zmlx.kernels._autodiff import differentiable, gradient_reference, value_reference
from zmlx.kernels._maths import NORMAL
from zmlx.kernels._msl import CHUNKS, MATHS
from zmlx.launch import metal_kernel

__all__ = ["geglu", "swiglu"]

_FORWARD = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  const uint rows = x_shape[0], length = x_shape[1] / 2;
  const uint begin = thread_position_in_grid.x * (N * S);
  const uint end = min(begin + N * S, length);
  const bool whole = PACKED && length % N == 0 && chunk::aligned(x) && chunk::aligned(y);
  for (uint row = thread_position_in_grid.y; row < rows; row += threads_per_grid.y) {
    auto gate = x + size_t(row) * 2 * length;
    auto value = gate + length;
    auto out = y + size_t(row) * length;
    float a[N], b[N];
    ZMLX_SPAN(begin, end, whole, {
      chunk::load(a, gate + i, count, 0.0f, sure);
      chunk::load(b, value + i, count, 0.0f, sure);
      for (int j = 0; j < N; ++j) a[j] = zmlx_activation<T>(a[j]) * b[j];
      chunk::store(out + i, a, count, sure);
    })
  }
"""

_BACKWARD = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  const uint rows = x_shape[0], length = x_shape[1] / 2;
  const uint begin = thread_position_in_grid.x * (N * S);
  const uint end = min(begin + N * S, length);
  const bool whole = PACKED && length % N == 0 && chunk::aligned(x) && chunk::aligned(g) && chunk::aligned(dx);
  for (uint row = thread_position_in_grid.y; row < rows; row += threads_per_grid.y) {
    auto gate = x + size_t(row) * 2 * length;
    auto value = gate + length;
    auto cotangent = g + size_t(row) * length;
    auto d_gate = dx + size_t(row) * 2 * length;
    auto d_value = d_gate + length;
    float a[N], b[N], c[N];
    ZMLX_SPAN(begin, end, whole, {
      chunk::load(a, gate + i, count, 0.0f, sure);
      chunk::load(b, value + i, count, 0.0f, sure);
      chunk::load(c, cotangent + i, count, 0.0f, sure);
      for (int j = 0; j < N; ++j) {
        b[j] = c[j] * b[j] * zmlx_derivative<T>(a[j]);
        c[j] = c[j] * zmlx_activation<T>(a[j]);
      }
      chunk::store(d_gate + i, b, count, sure);
      chunk::store(d_value + i, c, count, sure);
    })
  }
"""

_SILU = """
// a * sigmoid(a). exp(-a) overflows to infinity for a < -88, where the result is below the smallest float.
template <typename T>
METAL_FUNC float zmlx_activation(float a) {
  return zmlx_ratio<T>(a, 1.0f + zmlx_exp<T>(-a));
}

template <typename T>
METAL_FUNC float zmlx_derivative(float a) {
  const float s = zmlx_ratio<T>(1.0f, 1.0f + zmlx_exp<T>(-a));
  return fma(a, s * (1.0f - s), s);
}
"""

_GELU = (
    NORMAL
    + """
template <typename T>
METAL_FUNC float zmlx_activation(float a) {
  return a * zmlx_normal_at<T>(a).integral;
}

template <typename T>
METAL_FUNC float zmlx_derivative(float a) {
  const zmlx_normal normal = zmlx_normal_at<T>(a);
  return fma(a * 0.398942280f, normal.density, normal.integral);
}
"""
)

_GELU_TANH = """
// 0.5 * (1 + tanh(z)) is sigmoid(2 z), which does not cancel for negative z. Past +-12 the sigmoid is 0 or 1
// to the last bit, while the cube would go on to overflow.
METAL_FUNC float zmlx_clamped(float a) { return a < -12.0f ? -12.0f : a > 12.0f ? 12.0f : a; }

template <typename T>
METAL_FUNC float zmlx_gate_exp(float a) {
  const float c = zmlx_clamped(a);
  return zmlx_exp<T>(-1.59576912f * c * fma(0.044715f, c * c, 1.0f));
}

template <typename T>
METAL_FUNC float zmlx_activation(float a) {
  return zmlx_ratio<T>(a, 1.0f + zmlx_gate_exp<T>(a));
}

template <typename T>
METAL_FUNC float zmlx_derivative(float a) {
  const float s = zmlx_ratio<T>(1.0f, 1.0f + zmlx_gate_exp<T>(a));
  const float c = zmlx_clamped(a);
  return fma(a, s * (1.0f - s) * (1.59576912f * fma(0.134145f, c * c, 1.0f)), s);
}
"""


@dataclass(frozen=True)
class _Gate:
    """A gated linear unit: its activation and derivative in Metal, and the activation in MLX operations."""

    name: str
    header: str
    activation: Callable[[mx.array], mx.array]


def _silu(a: mx.array) -> mx.array:
    return a * mx.sigmoid(a)


def _gelu(a: mx.array) -> mx.array:
    return 0.5 * a * (1 + mx.erf(a * math.sqrt(0.5)))


def _gelu_tanh(a: mx.array) -> mx.array:
    return 0.5 * a * (1 + mx.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))


_SWIGLU = _Gate("swiglu", _SILU, _silu)
_GEGLU = {
    "none": _Gate("geglu", _GELU, _gelu),
    "tanh": _Gate("geglu_tanh", _GELU_TANH, _gelu_tanh),
}


def swiglu(x: mx.array) -> mx.array:
    """SwiGLU without its projections: ``silu(x[..., :D]) * x[..., D:]`` with ``silu(a) = a / (1 + exp(-a))``.

    Parameters
    ----------
    x
        Shape (..., 2 * D), float32, float16 or bfloat16, in any memory layout.

    Returns
    -------
    mx.array
        Shape (..., D), of ``x``'s dtype; computed in float32.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes.
    ValueError
        ``x`` is 0-d, or its last dimension is odd.

    Notes
    -----
    Shazeer, GLU Variants Improve Transformer (arXiv:2002.05202), equation 6. A gate of minus infinity gives NaN, as
    the formula does.
    """
    return _glu("swiglu", x, _SWIGLU)


def geglu(x: mx.array, approximate: Literal["none", "tanh"] = "none") -> mx.array:
    """GEGLU without its projections: ``gelu(x[..., :D]) * x[..., D:]``.

    Parameters
    ----------
    x
        Shape (..., 2 * D), float32, float16 or bfloat16, in any memory layout.
    approximate
        ``"none"``: ``gelu(a) = a * Phi(a)``, Phi the normal distribution's integral, to the last bits also where
        ``1 + erf`` would cancel. ``"tanh"``: ``0.5 a (1 + tanh(sqrt(2 / pi) (a + 0.044715 a**3)))``.

    Returns
    -------
    mx.array
        Shape (..., D), of ``x``'s dtype; computed in float32.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes.
    ValueError
        ``x`` is 0-d, its last dimension is odd, or ``approximate`` is unknown.

    Notes
    -----
    Shazeer, GLU Variants Improve Transformer (arXiv:2002.05202), equation 6; Hendrycks and Gimpel, Gaussian Error
    Linear Units (arXiv:1606.08415), for both forms of GELU. A gate of minus infinity gives NaN, as the formula does.
    """
    if approximate not in _GEGLU:
        raise ValueError(
            f"[geglu] Expected `approximate` to be {' or '.join(map(repr, _GEGLU))}, got {approximate!r}."
        )
    return _glu("geglu", x, _GEGLU[approximate])


def _glu(function: str, x: mx.array, gate: _Gate) -> mx.array:
    _check.check_halves(function, x)
    if x.size == 0:
        return mx.zeros((*x.shape[:-1], x.shape[-1] // 2), x.dtype)
    return _differentiable(gate)(x)


@cache
def _differentiable(gate: _Gate) -> Callable[[mx.array], mx.array]:
    def reference(x: mx.array) -> mx.array:
        a, b = mx.split(x.astype(mx.float32), 2, axis=-1)
        return (gate.activation(a) * b).astype(x.dtype)

    header = CHUNKS + MATHS + gate.header
    forward_kernel = metal_kernel(
        f"zmlx_{gate.name}", ["x"], ["y"], _FORWARD, header, reference=value_reference(reference)
    )
    backward_kernel = metal_kernel(
        f"zmlx_{gate.name}_vjp",
        ["x", "g"],
        ["dx"],
        _BACKWARD,
        header,
        reference=gradient_reference(reference),
    )

    def forward(x: mx.array) -> mx.array:
        rows = _rows.as_rows(x)
        shape = (rows.shape[0], rows.shape[1] // 2)
        launch = _rows.span_launch(shape[0], shape[1], x.dtype.size)
        y = launch.run(forward_kernel, [rows], [(shape, x.dtype)], T=x.dtype)[0]
        return y.reshape(*x.shape[:-1], shape[1])

    def backward(cotangent: mx.array, x: mx.array) -> tuple[mx.array]:
        rows = _rows.as_rows(x)
        shape = (rows.shape[0], rows.shape[1] // 2)
        launch = _rows.span_launch(shape[0], shape[1], x.dtype.size)
        inputs = [rows, cotangent.reshape(shape)]
        dx = launch.run(backward_kernel, inputs, [(rows.shape, x.dtype)], T=x.dtype)[0]
        return (dx.reshape(x.shape),)

    return differentiable(forward, backward, reference)
