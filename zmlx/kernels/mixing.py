"""Small mixtures: of neighbours in time, and of the parallel streams of hyper-connections."""

from __future__ import annotations

from typing import Literal

import mlx.core as mx

from zmlx.kernels import _check
from zmlx.kernels._causal_conv import causal_conv, causal_conv_step
from zmlx.kernels._conv import MAX_TAPS

__all__ = ["causal_conv1d", "causal_conv1d_step"]

Activation = Literal["silu"]
_ACTIVATIONS = (None, "silu")


def causal_conv1d(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None = None,
    activation: Activation | None = None,
) -> mx.array:
    """``y[t, d] = bias[d] + sum over k < W of weight[d, k] * x[t - (W - 1) + k, d]``, each channel by itself.

    Parameters
    ----------
    x
        Shape (..., T, D), time and channels, float32, float16 or bfloat16, in any memory layout; zero before its
        beginning.
    weight
        Shape (D, W), W up to 8, of any of these dtypes.
    bias
        Shape (D,), of any of these dtypes; none unless given.
    activation
        ``"silu"``: the result is ``y * sigmoid(y)``.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32. Gradients of ``x``, ``weight`` and ``bias`` are kernels.

    Raises
    ------
    TypeError
        An array is not an MLX array of one of these dtypes.
    ValueError
        ``x`` has fewer than two dimensions, ``weight`` or ``bias`` another shape, or ``activation`` is unknown.

    Notes
    -----
    The short filter of Gu and Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces
    (arXiv:2312.00752), section 3.4 and figure 3, as causal_conv1d has it.
    """
    function = "causal_conv1d"
    _check.check_dimensions(function, x, "x", 2, "time and channels at the end")
    bias = _check_filter(function, x.shape[-1], weight, bias, activation)
    if x.size == 0:
        return mx.zeros(x.shape, x.dtype)
    return causal_conv(activation is not None)(x, weight, bias)


def causal_conv1d_step(
    x: mx.array,
    state: mx.array,
    weight: mx.array,
    bias: mx.array | None = None,
    activation: Activation | None = None,
) -> tuple[mx.array, mx.array]:
    """One step of `causal_conv1d`: what it gives for ``x`` after the rows of ``state``, and the rows for the next step.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    state
        Shape (..., W - 1, D), the rows before, the last one last, of any of these dtypes; zeros at the beginning.
    weight
        Shape (D, W), W up to 8, of any of these dtypes.
    bias
        Shape (D,), of any of these dtypes; none unless given.
    activation
        ``"silu"``: the result is ``y * sigmoid(y)``.

    Returns
    -------
    tuple of mx.array
        ``y`` of ``x``'s shape and dtype, computed in float32; and the new state, of ``state``'s, a copy.

    Raises
    ------
    TypeError
        An array is not an MLX array of one of these dtypes.
    ValueError
        ``x`` is 0-d, ``state``, ``weight`` or ``bias`` has another shape, or ``activation`` is unknown.

    Notes
    -----
    As causal_conv1d_update of causal_conv1d, whose state is changed in place and has channels first. Its gradient is
    computed by MLX operations: a step is taken where a model generates.
    """
    function = "causal_conv1d_step"
    _check.check_rows(function, x)
    bias = _check_filter(function, x.shape[-1], weight, bias, activation)
    before = (*x.shape[:-1], weight.shape[1] - 1, x.shape[-1])
    _check.check_shape(function, state, "state", before, "the rows before that of `x`")
    if x.size == 0:
        return mx.zeros(x.shape, x.dtype), mx.zeros(state.shape, state.dtype)
    if weight.shape[1] == 1:  # no row is kept, and an empty array is nothing to launch for
        return causal_conv1d(x[..., None, :], weight, bias, activation).reshape(x.shape), state
    return causal_conv_step(activation is not None)(x, state, weight, bias)


def _check_filter(
    function: str, channels: int, weight: mx.array, bias: mx.array | None, activation: object
) -> mx.array:
    """Check what a filter is made of; the bias, or zeros."""
    _check.check_dimensions(function, weight, "weight", 2, "channels and taps")
    if weight.ndim != 2 or weight.shape[0] != channels or not 1 <= weight.shape[1] <= MAX_TAPS:
        raise ValueError(
            f"[{function}] Expected `weight` to have shape ({channels}, W), channels and taps, with W from 1 to "
            f"{MAX_TAPS}, got {tuple(weight.shape)}."
        )
    _check.check_choice(function, activation, "activation", _ACTIVATIONS)
    if bias is None:
        return mx.zeros((channels,), weight.dtype)
    _check.check_shape(function, bias, "bias", (channels,), "one number for each channel")
    return bias
