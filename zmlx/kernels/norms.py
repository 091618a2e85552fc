"""Normalisation of rows, with weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import mlx.core as mx

from zmlx.kernels import _check, _layernorm, _rmsnorm, _rows
from zmlx.kernels._autodiff import Outputs, Reference, differentiable, value_reference
from zmlx.kernels._columns import column_sum
from zmlx.kernels._msl import CHUNKS, ROWS
from zmlx.kernels._row_kernel import row_kernel
from zmlx.launch import MetalKernel, metal_kernel

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

_HEADER = CHUNKS + ROWS


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
    return _rmsnorm_with(eps)(x, weight)


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
    return _layernorm_with(eps)(x, gamma, beta)


def _rmsnorm_reference(x: mx.array, weight: mx.array, eps: mx.array | float) -> mx.array:
    x32 = x.astype(mx.float32)
    scale = mx.rsqrt(mx.mean(mx.square(x32), axis=-1, keepdims=True) + eps)
    return (x32 * scale * weight.astype(mx.float32)).astype(x.dtype)


def _layernorm_reference(x: mx.array, gamma: mx.array, beta: mx.array, eps: mx.array | float) -> mx.array:
    x32 = x.astype(mx.float32)
    centred = x32 - mx.mean(x32, axis=-1, keepdims=True)
    scale = mx.rsqrt(mx.mean(mx.square(centred), axis=-1, keepdims=True) + eps)
    return (centred * scale * gamma.astype(mx.float32) + beta.astype(mx.float32)).astype(x.dtype)


def _reference_rmsnorm_vjp(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    x, g, weight, eps = inputs
    dx, dweight = mx.vjp(lambda x, w: _rmsnorm_reference(x, w, eps), [x, weight.astype(mx.float32)], [g])[1]
    return [dx, _one_partial(dweight, x)]


def _reference_layernorm_vjp(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    x, g, gamma, eps = inputs
    weights = [gamma.astype(mx.float32), mx.zeros(gamma.shape, mx.float32)]
    dx, dgamma, dbeta = mx.vjp(lambda x, a, b: _layernorm_reference(x, a, b, eps), [x, *weights], [g])[1]
    return [dx, _one_partial(mx.concatenate([dgamma, dbeta]), x)]


def _one_partial(total: mx.array, x: mx.array) -> mx.array:
    """A whole sum in the shape of the kernels' partial ones for rows ``x``: all of it in the first line."""
    rows, length = x.shape
    # MLX 0.30 has no vmap for mx.pad.
    rest = mx.zeros((_rows.partials(rows, length, x.dtype.size) - 1, *total.shape), total.dtype)
    return mx.concatenate([total[None], rest])


def _vjp_kernels(
    name: str, weight: str, held: str, blocks: str, reference: Reference
) -> tuple[MetalKernel, MetalKernel]:
    """The gradient's kernel that holds rows, and the one for rows that are not held."""

    def make(source: str) -> MetalKernel:
        inputs = ["x", "g", weight, "eps"]
        return metal_kernel(name, inputs, ["dx", "partial"], source, _HEADER, reference=reference)

    return make(held), make(blocks)


_RMSNORM_KERNEL = metal_kernel(
    "zmlx_rmsnorm",
    ["x", "weight", "eps"],
    ["y"],
    _rmsnorm.FORWARD,
    _HEADER,
    reference=value_reference(_rmsnorm_reference),
)
_RMSNORM_VJP_KERNELS = _vjp_kernels(
    "zmlx_rmsnorm_vjp", "weight", _rmsnorm.HELD_BACKWARD, _rmsnorm.BACKWARD, _reference_rmsnorm_vjp
)
_LAYERNORM_KERNEL = metal_kernel(
    "zmlx_layernorm",
    ["x", "gamma", "beta", "eps"],
    ["y"],
    _layernorm.FORWARD,
    _HEADER,
    reference=value_reference(_layernorm_reference),
)
_LAYERNORM_VJP_KERNELS = _vjp_kernels(
    "zmlx_layernorm_vjp", "gamma", _layernorm.HELD_BACKWARD, _layernorm.BACKWARD, _reference_layernorm_vjp
)


@lru_cache(maxsize=64)
def _rmsnorm_with(eps: float) -> Callable[[mx.array, mx.array], mx.array]:
    def forward(x: mx.array, weight: mx.array) -> mx.array:
        return _rows.run_rows(_RMSNORM_KERNEL, [x], weight, eps, U=weight.dtype)

    def backward(cotangent: mx.array, x: mx.array, weight: mx.array) -> Outputs:
        dx, partial = _row_and_weight_gradients(_RMSNORM_VJP_KERNELS, cotangent, x, weight, eps, 1)
        return dx, column_sum(partial).astype(weight.dtype)

    return differentiable(forward, backward, lambda x, weight: _rmsnorm_reference(x, weight, eps))


@lru_cache(maxsize=64)
def _layernorm_with(eps: float) -> Callable[[mx.array, mx.array, mx.array], mx.array]:
    def forward(x: mx.array, gamma: mx.array, beta: mx.array) -> mx.array:
        return _rows.run_rows(_LAYERNORM_KERNEL, [x], gamma, beta, eps, U=gamma.dtype, V=beta.dtype)

    def backward(cotangent: mx.array, x: mx.array, gamma: mx.array, beta: mx.array) -> Outputs:
        dx, partial = _row_and_weight_gradients(_LAYERNORM_VJP_KERNELS, cotangent, x, gamma, eps, 2)
        dgamma, dbeta = mx.split(column_sum(partial), 2)
        return dx, dgamma.astype(gamma.dtype), dbeta.astype(beta.dtype)

    return differentiable(forward, backward, lambda x, gamma, beta: _layernorm_reference(x, gamma, beta, eps))


def _row_and_weight_gradients(
    kernels: tuple[MetalKernel, MetalKernel],
    cotangent: mx.array,
    x: mx.array,
    weight: mx.array,
    eps: float,
    sums: int,
) -> tuple[mx.array, mx.array]:
    """The gradient of ``x``, and partial sums of the weights' gradients: (partials, ``sums`` * D) in float32.

    ``kernels``: the one that holds rows, and the one for rows that are not held.
    """
    rows = _rows.as_rows(x)
    sizes = (*rows.shape, x.dtype.size)
    held, blocks = kernels
    launch = _rows.run_launch(*sizes)
    dx, partial = (launch or _rows.block_launch(*sizes)).run(
        held if launch else blocks,
        [rows, cotangent.reshape(rows.shape), weight, eps],
        [(rows.shape, x.dtype), ((_rows.partials(*sizes), sums * rows.shape[1]), mx.float32)],
        T=x.dtype,
        U=weight.dtype,
    )
    return dx.reshape(x.shape), partial


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
