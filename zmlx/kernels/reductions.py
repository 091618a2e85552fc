"""Reductions over the last axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import mlx.core as mx

from zmlx.kernels import _check, _rows
from zmlx.kernels._autodiff import differentiable, value_reference
from zmlx.kernels._extremes import place_of
from zmlx.kernels._msl import CHUNKS, ROWS
from zmlx.kernels._row_kernel import row_kernel
from zmlx.kernels._row_loops import each_row
from zmlx.launch import metal_kernel

__all__ = [
    "argmax_lastdim",
    "argmin_lastdim",
    "max_lastdim",
    "mean_lastdim",
    "min_lastdim",
    "std_lastdim",
    "sum_lastdim",
    "var_lastdim",
]

# Sums of 16 chunks, or of the K that are read at once, are added to the total at a time: so many times fewer
# roundings of the size of the total, and what is rounded more often is smaller.
_FORWARD = each_row(
    """
    constexpr uint RUN = K > 0 ? K : 16;
    float part[N], total[N];
    zmlx_fill<N>(total, 0.0f);
    for (uint run = start; run < length; run += RUN * W * N) {
      zmlx_fill<N>(part, 0.0f);
      if (K > 0) {
        ZMLX_HOLD(held, in, run, full && run - start + K * W * N <= length, 0.0f)
        ZMLX_UNROLL for (int k = 0; k < K; ++k)
          for (int j = 0; j < N; ++j) part[j] += held[k].at(j);
      } else {
        float v[N];
        const uint end = min(run + RUN * W * N, length);
        ZMLX_CHUNKS(run, end, W * N, {
          chunk::load(v, in + i, count, 0.0f);
          for (int j = 0; j < N; ++j) part[j] += v[j];
        })
      }
      for (int j = 0; j < N; ++j) total[j] += part[j];
    }
    const float sum = team.sum(zmlx_sum<N>(total));
    if (inside && start == 0) y[row] = static_cast<T>(sum);
""",
    aligned="chunk::aligned(x)",
)


def sum_lastdim(x: mx.array) -> mx.array:
    """The sum over the last axis.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.

    Returns
    -------
    mx.array
        Shape (...), of ``x``'s dtype; added up in float32. Zeros where D is 0.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes.
    ValueError
        ``x`` is 0-d.

    Notes
    -----
    The gradient is the cotangent, repeated along the row, and needs no kernel. The order of the additions depends on
    the row's length and the back end alone, so runs repeat bit for bit.
    """
    _check.check_rows("sum_lastdim", x)
    if x.size == 0:
        return mx.zeros(x.shape[:-1], x.dtype)
    return cast("mx.array", _sum(x))


def _reference(x: mx.array) -> mx.array:
    return mx.sum(x.astype(mx.float32), axis=-1).astype(x.dtype)


_FORWARD_KERNEL = metal_kernel(
    "zmlx_sum", ["x"], ["y"], _FORWARD, CHUNKS + ROWS, reference=value_reference(_reference)
)


def _forward(x: mx.array) -> mx.array:
    return _rows.run_rows(_FORWARD_KERNEL, [x], reduces=True)


def _backward(cotangent: mx.array, x: mx.array) -> tuple[mx.array]:
    return (mx.broadcast_to(cotangent[..., None], x.shape),)


_sum = differentiable(_forward, _backward, _reference)

_MEAN = row_kernel("y = mean(x)", name="mean_lastdim", differentiable=())


def _mean_forward(x: mx.array) -> mx.array:
    return _MEAN.launched(x)[0]


def _mean_backward(cotangent: mx.array, x: mx.array) -> tuple[mx.array]:
    share = (cotangent.astype(mx.float32) / x.shape[-1]).astype(x.dtype)
    return (mx.broadcast_to(share[..., None], x.shape),)


def _mean_reference(x: mx.array) -> mx.array:
    return mx.mean(x.astype(mx.float32), axis=-1).astype(x.dtype)


_mean = differentiable(_mean_forward, _mean_backward, _mean_reference)


def mean_lastdim(x: mx.array) -> mx.array:
    """The mean over the last axis.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.

    Returns
    -------
    mx.array
        Shape (...), of ``x``'s dtype; added up in float32. NaN where D is 0.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes.
    ValueError
        ``x`` is 0-d.

    Notes
    -----
    The gradient is the cotangent divided by D, repeated along the row, and needs no kernel.
    """
    _check.check_rows("mean_lastdim", x)
    return cast("mx.array", _mean(x))


_MAX = row_kernel("y = max(x)", name="max_lastdim")
_MIN = row_kernel("y = min(x)", name="min_lastdim")


def max_lastdim(x: mx.array) -> mx.array:
    """The greatest element of the last axis; NaN if one is.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.

    Returns
    -------
    mx.array
        Shape (...), of ``x``'s dtype. Minus infinity where D is 0.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes.
    ValueError
        ``x`` is 0-d.

    Notes
    -----
    The gradient is divided among the elements that are equal to the greatest, as `mx.max` has it.
    """
    return cast("mx.array", _MAX(x))


def min_lastdim(x: mx.array) -> mx.array:
    """The least element of the last axis; NaN if one is.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.

    Returns
    -------
    mx.array
        Shape (...), of ``x``'s dtype. Infinity where D is 0.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes.
    ValueError
        ``x`` is 0-d.

    Notes
    -----
    The gradient is divided among the elements that are equal to the least, as `mx.min` has it.
    """
    return cast("mx.array", _MIN(x))


# The rounded mean of a row far from zero is off; the mean of what is left after subtracting it is what it lacks (Chan,
# Golub and LeVeque 1983, corrected two-pass algorithm).
_DEVIATIONS = """c = x - mean(x)
                 off = mean(c)
                 v = max(sum(c * c) - off * off * length, 0.0) / (length - ddof)"""
_VAR = row_kernel(
    f"{_DEVIATIONS}; y = v * 1.0",
    scalars={"ddof": 0},
    grad="d_x = 2.0 * g / (length - ddof) * (c - off if abs(off) < inf else c)",
    name="var_lastdim",
)
_STD = row_kernel(
    f"{_DEVIATIONS}; y = sqrt(v)",
    scalars={"ddof": 0},
    grad="d_x = g / ((length - ddof) * y) * (c - off)",
    name="std_lastdim",
)


def var_lastdim(x: mx.array, ddof: int = 0) -> mx.array:
    """``sum((x - mean(x))**2) / (D - ddof)`` over the last axis.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    ddof
        The number of elements minus this is the divisor: 0 for the variance of a population, 1 for that of a sample.

    Returns
    -------
    mx.array
        Shape (...), of ``x``'s dtype; computed in float32. NaN where D is 0.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes, or ``ddof`` is not a number.
    ValueError
        ``x`` is 0-d.

    Notes
    -----
    The definition of the variance, computed after the mean: it does not cancel for rows far from zero. Squares overflow
    beyond 1.8e19.
    """
    return cast("mx.array", _VAR(x, ddof=ddof))


def std_lastdim(x: mx.array, ddof: int = 0) -> mx.array:
    """``sqrt(sum((x - mean(x))**2) / (D - ddof))`` over the last axis.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    ddof
        The number of elements minus this is the divisor: 0 for the variance of a population, 1 for that of a sample.

    Returns
    -------
    mx.array
        Shape (...), of ``x``'s dtype; computed in float32. NaN where D is 0.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes, or ``ddof`` is not a number.
    ValueError
        ``x`` is 0-d.

    Notes
    -----
    The square root of `var_lastdim`. Of equal elements it is zero, and the gradient NaN: there is none.
    """
    return cast("mx.array", _STD(x, ddof=ddof))


_ARGMAX = place_of("argmax_lastdim", mx.max)
_ARGMIN = place_of("argmin_lastdim", mx.min)


def argmax_lastdim(x: mx.array) -> mx.array:
    """Where in the last axis the greatest element is: the first of equal ones.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.

    Returns
    -------
    mx.array
        Shape (...), of uint32.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes.
    ValueError
        ``x`` is 0-d, or D is 0.

    Notes
    -----
    As `numpy.argmax`: the first NaN, if there is one. There is no gradient.
    """
    return _place("argmax_lastdim", x, _ARGMAX)


def argmin_lastdim(x: mx.array) -> mx.array:
    """Where in the last axis the least element is: the first of equal ones.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.

    Returns
    -------
    mx.array
        Shape (...), of uint32.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes.
    ValueError
        ``x`` is 0-d, or D is 0.

    Notes
    -----
    As `numpy.argmin`: the first NaN, if there is one. There is no gradient.
    """
    return _place("argmin_lastdim", x, _ARGMIN)


def _place(function: str, x: mx.array, place: Callable[[mx.array], mx.array]) -> mx.array:
    _check.check_rows(function, x)
    if x.shape[-1] == 0:
        raise ValueError(
            f"[{function}] Expected rows of one element at least, in which there is a place to name; got shape "
            f"{tuple(x.shape)}."
        )
    if x.size == 0:
        return mx.zeros(x.shape[:-1], mx.uint32)
    return place(x)
