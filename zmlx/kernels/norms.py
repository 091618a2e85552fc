"""Normalisation of rows, with weights."""

from __future__ import annotations

from typing import cast

import mlx.core as mx

from zmlx.kernels import _check
from zmlx.kernels._row_kernel import row_kernel
from zmlx.kernels._weighted_norms import layernorm_with, rmsnorm_with

__all__ = [
    "gated_rmsnorm",
    "grpo_advantage_norm",
    "layer_norm_no_weight",
    "layernorm",
    "layernorm_residual",
    "rms_norm_no_weight",
    "rmsnorm",
    "rmsnorm_residual",
]


def rmsnorm(x: mx.array, weight: mx.array, eps: float = 1e-6) -> mx.array:
    """``x / sqrt(mean(x**2) + eps) * weight``, the mean taken over the last axis.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    weight
        Shape (D,), of any of these dtypes.
    eps
        Added to the mean square; zero or more.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32.

    Raises
    ------
    TypeError
        ``x`` or ``weight`` is not an MLX array of one of these dtypes, or ``eps`` is not a number.
    ValueError
        ``x`` is 0-d, ``weight`` does not have shape (D,), or ``eps`` is negative or not finite.

    Notes
    -----
    Zhang and Sennrich, Root Mean Square Layer Normalization (arXiv:1910.07467), equation 4, with eps as in LLaMA.
    Squares overflow beyond 1.8e19, where float32 rows come out as zeros.
    """
    eps = _check.check_norm("rmsnorm", x, eps, weight=weight)
    if x.size == 0:
        return mx.zeros(x.shape, x.dtype)
    return rmsnorm_with(eps)(x, weight)


def layernorm(x: mx.array, gamma: mx.array, beta: mx.array, eps: float = 1e-5) -> mx.array:
    """``(x - mean) / sqrt(var + eps) * gamma + beta``, mean and variance taken over the last axis.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    gamma, beta
        Shape (D,), of any of these dtypes.
    eps
        Added to the variance; zero or more.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32.

    Raises
    ------
    TypeError
        ``x``, ``gamma`` or ``beta`` is not an MLX array of one of these dtypes, or ``eps`` is not a number.
    ValueError
        ``x`` is 0-d, a weight does not have shape (D,), or ``eps`` is negative or not finite.

    Notes
    -----
    Ba, Kiros and Hinton, Layer Normalization (arXiv:1607.06450), equation 4. The variance (of the population) is the
    mean square of the centred row, computed after the mean: it does not cancel for rows far from zero.
    """
    eps = _check.check_norm("layernorm", x, eps, gamma=gamma, beta=beta)
    if x.size == 0:
        return mx.zeros(x.shape, x.dtype)
    return layernorm_with(eps)(x, gamma, beta)


# Formulas of norms, which end with the row's normal values, `n`.
_RMS = "n = {x} * rsqrt(mean({x} * {x}) + eps)"
# `off` is what the rounded mean lacks, as in `_layernorm`.
_CENTRED = """c = {x} - mean({x})
              off = mean(c)
              s = rsqrt(max(mean(c * c) - off * off, 0.0) + eps)"""

_RMS_NO_WEIGHT = row_kernel(
    _RMS.format(x="x"), scalars={"eps": None}, results=("n",), name="rms_norm_no_weight"
)
_LAYER_NO_WEIGHT = row_kernel(
    f"{_CENTRED.format(x='x')}; y = c * s - off * s", scalars={"eps": None}, name="layer_norm_no_weight"
)
_RMS_RESIDUAL = row_kernel(
    f"t = x + residual; {_RMS.format(x='t')}; y = n * weight",
    inputs=("x", "residual"),
    weights=("weight",),
    scalars={"eps": None},
    results=("t", "y"),
    name="rmsnorm_residual",
)
# Written so that the gradient's sums are of one level.
_LAYER_RESIDUAL = row_kernel(
    f"t = x + residual\n{_CENTRED.format(x='t')}\ny = c * s * gamma - off * s * gamma + beta",
    inputs=("x", "residual"),
    weights=("gamma", "beta"),
    scalars={"eps": None},
    results=("t", "y"),
    name="layernorm_residual",
)
_GATED = row_kernel(
    f"{_RMS.format(x='x')}; y = n * weight * silu(gate)",
    inputs=("x", "gate"),
    weights=("weight",),
    scalars={"eps": None},
    name="gated_rmsnorm",
)
_ADVANTAGE = row_kernel(
    """c = x - mean(x)
       off = mean(c)
       std = sqrt(max(sum(c * c) - off * off * length, 0.0) / (length - ddof))
       y = (c - off) / (std + eps)""",
    scalars={"eps": None, "ddof": 0},
    differentiable=(),
    name="grpo_advantage_norm",
)


def rms_norm_no_weight(x: mx.array, eps: float = 1e-6) -> mx.array:
    """``x / sqrt(mean(x**2) + eps)``, the mean taken over the last axis.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    eps
        Added to the mean square; zero or more.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32, gradients included.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes, or ``eps`` is not a number.
    ValueError
        ``x`` is 0-d, or ``eps`` is negative or not finite.

    Notes
    -----
    As `rmsnorm` with weights of one.
    """
    eps = _check.check_norm("rms_norm_no_weight", x, eps)
    return cast("mx.array", _RMS_NO_WEIGHT(x, eps=eps))


def layer_norm_no_weight(x: mx.array, eps: float = 1e-5) -> mx.array:
    """``(x - mean) / sqrt(var + eps)``, mean and variance taken over the last axis.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    eps
        Added to the variance; zero or more.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32, gradients included.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes, or ``eps`` is not a number.
    ValueError
        ``x`` is 0-d, or ``eps`` is negative or not finite.

    Notes
    -----
    As `layernorm` with gains of one and shifts of zero.
    """
    eps = _check.check_norm("layer_norm_no_weight", x, eps)
    return cast("mx.array", _LAYER_NO_WEIGHT(x, eps=eps))


def rmsnorm_residual(
    x: mx.array, residual: mx.array, weight: mx.array, eps: float = 1e-6
) -> tuple[mx.array, mx.array]:
    """``x + residual``, and the `rmsnorm` of it, in one pass.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    residual
        Of ``x``'s shape or one that broadcasts to it, of any of these dtypes.
    weight
        Shape (D,), of any of these dtypes.
    eps
        Added to the mean square; zero or more.

    Returns
    -------
    tuple of mx.array
        The sum and its norm, of ``x``'s shape and dtype; computed in float32, the norm from the sum as it is
        before it is rounded.

    Raises
    ------
    TypeError
        An array is not an MLX array of one of these dtypes, or ``eps`` is not a number.
    ValueError
        ``x`` is 0-d, a shape does not fit, or ``eps`` is negative or not finite.

    Notes
    -----
    Zhang and Sennrich (arXiv:1910.07467), equation 4, of the sum that a transformer's next block adds to.
    """
    eps = _check.check_norm("rmsnorm_residual", x, eps)
    return cast("tuple[mx.array, mx.array]", _RMS_RESIDUAL(x, residual, weight, eps=eps))


def layernorm_residual(
    x: mx.array, residual: mx.array, gamma: mx.array, beta: mx.array, eps: float = 1e-5
) -> tuple[mx.array, mx.array]:
    """``x + residual``, and the `layernorm` of it, in one pass.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    residual
        Of ``x``'s shape or one that broadcasts to it, of any of these dtypes.
    gamma, beta
        Shape (D,), of any of these dtypes.
    eps
        Added to the variance; zero or more.

    Returns
    -------
    tuple of mx.array
        The sum and its norm, of ``x``'s shape and dtype; computed in float32, the norm from the sum as it is
        before it is rounded.

    Raises
    ------
    TypeError
        An array is not an MLX array of one of these dtypes, or ``eps`` is not a number.
    ValueError
        ``x`` is 0-d, a shape does not fit, or ``eps`` is negative or not finite.

    Notes
    -----
    Ba, Kiros and Hinton (arXiv:1607.06450), equation 4, of the sum that a transformer's next block adds to.
    """
    eps = _check.check_norm("layernorm_residual", x, eps)
    return cast("tuple[mx.array, mx.array]", _LAYER_RESIDUAL(x, residual, gamma, beta, eps=eps))


def gated_rmsnorm(x: mx.array, gate: mx.array, weight: mx.array, eps: float = 1e-6) -> mx.array:
    """``x / sqrt(mean(x**2) + eps) * weight * silu(gate)``, the mean taken over the last axis.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    gate
        Of ``x``'s shape or one that broadcasts to it, of any of these dtypes; silu(a) = a / (1 + exp(-a)).
    weight
        Shape (D,), of any of these dtypes.
    eps
        Added to the mean square; zero or more.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32, gradients included.

    Raises
    ------
    TypeError
        An array is not an MLX array of one of these dtypes, or ``eps`` is not a number.
    ValueError
        ``x`` is 0-d, a shape does not fit, or ``eps`` is negative or not finite.

    Notes
    -----
    Yang, Kautz and Hatamizadeh, Gated Delta Networks (arXiv:2412.06464), section 3.4: the norm before the gate.
    """
    eps = _check.check_norm("gated_rmsnorm", x, eps)
    return cast("mx.array", _GATED(x, gate, weight, eps=eps))


def grpo_advantage_norm(x: mx.array, eps: float = 1e-4, *, ddof: int = 0) -> mx.array:
    """``(x - mean) / (std + eps)`` over the last axis: the advantages of a group's rewards.

    Parameters
    ----------
    x
        Shape (..., G), float32, float16 or bfloat16: the rewards of G answers to one question.
    eps
        Added to the standard deviation; zero or more.
    ddof
        G minus this divides the variance: 0 for that of a population, 1 for that of a sample.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32. It is a constant to gradients, as policy gradients take it.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes, or a number is none.
    ValueError
        ``x`` is 0-d, or ``eps`` is negative or not finite.

    Notes
    -----
    Shao et al., DeepSeekMath (arXiv:2402.03300), section 4.1.2, with eps as in TRL. Equal rewards have
    advantages of zero.
    """
    eps = _check.check_norm("grpo_advantage_norm", x, eps)
    return cast("mx.array", _ADVANTAGE(x, eps=eps, ddof=ddof))
