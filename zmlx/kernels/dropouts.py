"""Dropout, alone and behind norms: the mask is computed from a seed, in the gradient again."""

from __future__ import annotations

from typing import cast

import mlx.core as mx

from zmlx.kernels import _check, _check_numbers
from zmlx.kernels._row_kernel import row_kernel

__all__ = ["dropout", "layer_norm_dropout", "rms_norm_dropout"]

_KEPT = "y = {0} / (1 - p) if uniform(seed) >= p else 0.0"
_NORM_SCALARS = {"p": None, "seed": None, "eps": None}

_DROPOUT = row_kernel(_KEPT.format("x"), scalars={"p": None, "seed": None}, name="dropout")
_RMS_NORM = row_kernel(
    f"n = x * rsqrt(mean(x * x) + eps) * weight; {_KEPT.format('n')}",
    weights=("weight",),
    scalars=_NORM_SCALARS,
    name="rms_norm_dropout",
)
# As `zmlx.kernels.norms` has it: `off` is what the rounded mean lacks.
_LAYER_NORM = row_kernel(
    f"""c = x - mean(x)
        off = mean(c)
        s = rsqrt(max(mean(c * c) - off * off, 0.0) + eps)
        n = c * s * gamma - off * s * gamma + beta
        {_KEPT.format("n")}""",
    weights=("gamma", "beta"),
    scalars=_NORM_SCALARS,
    name="layer_norm_dropout",
)


def dropout(x: mx.array, p: float, seed: int) -> mx.array:
    """``x / (1 - p)`` where a random number from 0 to 1 is at least p, else zero.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    p
        The probability of a zero: from 0 to less than 1.
    seed
        From 0 to 2**64 - 1. With the row's number and the element's place in it, it determines the random number: the
        same bits on every back end. Take another one for each call.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype, gradient included.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes, or ``p`` or ``seed`` is no such number.
    ValueError
        ``x`` is 0-d, or ``p`` is not from 0 to less than 1.

    Notes
    -----
    Srivastava et al., Dropout (2014), section 10, scaled in training; the numbers are those of Philox4x32-10, Salmon et
    al., Parallel Random Numbers: As Easy as 1, 2, 3 (2011). Under ``mx.vmap`` rows count from zero in each entry.
    """
    return cast("mx.array", _DROPOUT(x, p=_check_numbers.check_probability("dropout", p, "p"), seed=seed))


def rms_norm_dropout(x: mx.array, weight: mx.array, p: float, seed: int, eps: float = 1e-6) -> mx.array:
    """`dropout` of ``x / sqrt(mean(x**2) + eps) * weight``, in one pass.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    weight
        Shape (D,), of any of these dtypes.
    p, seed
        As `dropout` has them.
    eps
        Added to the mean square; zero or more.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32, gradients included.

    Raises
    ------
    TypeError
        An array is not an MLX array of one of these dtypes, or a number is none.
    ValueError
        ``x`` is 0-d, ``weight`` does not have shape (D,), or a number is out of its range.

    Notes
    -----
    Zhang and Sennrich (arXiv:1910.07467), equation 4; Srivastava et al., Dropout (2014), section 10.
    """
    eps = _check.check_norm("rms_norm_dropout", x, eps)
    p = _check_numbers.check_probability("rms_norm_dropout", p, "p")
    return cast("mx.array", _RMS_NORM(x, weight, p=p, seed=seed, eps=eps))


def layer_norm_dropout(
    x: mx.array, gamma: mx.array, beta: mx.array, p: float, seed: int, eps: float = 1e-5
) -> mx.array:
    """`dropout` of ``(x - mean) / sqrt(var + eps) * gamma + beta``, in one pass.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    gamma, beta
        Shape (D,), of any of these dtypes.
    p, seed
        As `dropout` has them.
    eps
        Added to the variance; zero or more.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32, gradients included.

    Raises
    ------
    TypeError
        An array is not an MLX array of one of these dtypes, or a number is none.
    ValueError
        ``x`` is 0-d, a weight does not have shape (D,), or a number is out of its range.

    Notes
    -----
    Ba, Kiros and Hinton (arXiv:1607.06450), equation 4; Srivastava et al., Dropout (2014), section 10.
    """
    eps = _check.check_norm("layer_norm_dropout", x, eps)
    p = _check_numbers.check_probability("layer_norm_dropout", p, "p")
    return cast("mx.array", _LAYER_NORM(x, gamma, beta, p=p, seed=seed, eps=eps))
