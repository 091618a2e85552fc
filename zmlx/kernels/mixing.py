"""Small mixtures: of neighbours in time, and of the parallel streams of hyper-connections."""

from __future__ import annotations

from typing import Literal

import mlx.core as mx

from zmlx.kernels import _check, _check_numbers
from zmlx.kernels._causal_conv import causal_conv, causal_conv_step
from zmlx.kernels._conv import MAX_TAPS
from zmlx.kernels._hyper import MAX_STREAMS, mix, sinkhorn_with

__all__ = ["causal_conv1d", "causal_conv1d_step", "hyper_connection_mix", "sinkhorn"]

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


def sinkhorn(logits: mx.array, iterations: int = 20) -> mx.array:
    """Nearly doubly stochastic matrices: ``exp(logits)``, its columns, then its rows divided by their sums, repeatedly.

    Parameters
    ----------
    logits
        Shape (..., n, n), n up to 8, float32, float16 or bfloat16, in any memory layout.
    iterations
        From 1 to 1000.

    Returns
    -------
    mx.array
        Of ``logits``' shape and dtype; computed in float32. Rows sum to 1, columns the more nearly the more iterations
        there are. The gradient goes through all of them.

    Raises
    ------
    TypeError
        ``logits`` is not an MLX array of one of these dtypes, or ``iterations`` is no integer.
    ValueError
        ``logits`` are not square matrices of up to 8 rows, or ``iterations`` is beyond its bounds.

    Notes
    -----
    Sinkhorn and Knopp, Concerning nonnegative matrices and doubly stochastic matrices (1967); Xie et al., mHC:
    Manifold-Constrained Hyper-Connections (arXiv:2512.24880), whose ``T_r(T_c(M))`` is one iteration. A
    row whose logits are all more than 87 below their columns' largest is NaN.
    """
    function = "sinkhorn"
    _check.check_dimensions(function, logits, "logits", 2, "square matrices")
    rows, columns = logits.shape[-2:]
    if rows != columns or not 1 <= rows <= MAX_STREAMS:
        raise ValueError(
            f"[{function}] Expected `logits` to have shape (..., n, n) with n from 1 to {MAX_STREAMS}, got "
            f"{tuple(logits.shape)}."
        )
    iterations = _check_numbers.check_integer(function, iterations, "iterations", 1, 1000)
    if logits.size == 0:
        return mx.zeros(logits.shape, logits.dtype)
    return sinkhorn_with(iterations)(logits)


def hyper_connection_mix(streams: mx.array, weights: mx.array) -> mx.array:
    """``y[i] = sum over j of weights[i, j] * streams[j]``: parallel residual streams, mixed at each position.

    Parameters
    ----------
    streams
        Shape (..., n, D), n up to 8, float32, float16 or bfloat16, in any memory layout.
    weights
        Shape (..., m, n), m up to 8, of any of these dtypes: with m = n a mixing such as `sinkhorn` gives, with m = 1
        the input of a layer.

    Returns
    -------
    mx.array
        Shape (..., m, D), of ``streams``' dtype; computed in float32. Both gradients are kernels.

    Raises
    ------
    TypeError
        An array is not an MLX array of one of these dtypes.
    ValueError
        ``streams`` has fewer than two dimensions or more than 8 streams, or ``weights`` has another shape.

    Notes
    -----
    Zhu et al., Hyper-Connections (arXiv:2409.19606); Xie et al., mHC (arXiv:2512.24880).
    """
    function = "hyper_connection_mix"
    _check.check_dimensions(function, streams, "streams", 2, "streams and their elements at the end")
    _check.check_dimensions(function, weights, "weights", 2, "a matrix for each position")
    leading, count = tuple(streams.shape[:-2]), streams.shape[-2]
    if not 1 <= count <= MAX_STREAMS:
        raise ValueError(
            f"[{function}] Expected `streams` to have shape (..., n, D) with n from 1 to {MAX_STREAMS}, got "
            f"{tuple(streams.shape)}."
        )
    shape = tuple(weights.shape)
    if (shape[:-2], shape[-1]) != (leading, count) or not 1 <= shape[-2] <= MAX_STREAMS:
        wanted = ", ".join(map(str, (*leading, "m", count)))
        raise ValueError(
            f"[{function}] Expected `weights` to have shape ({wanted}) with m from 1 to {MAX_STREAMS}, for `streams` "
            f"of shape {tuple(streams.shape)}, got {shape}. Repeat one matrix with mx.broadcast_to."
        )
    if streams.size == 0:
        return mx.zeros((*leading, shape[-2], streams.shape[-1]), streams.dtype)
    mixed: mx.array = mix(streams, weights)
    return mixed


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
    _check_numbers.check_choice(function, activation, "activation", _ACTIVATIONS)
    if bias is None:
        return mx.zeros((channels,), weight.dtype)
    _check.check_shape(function, bias, "bias", (channels,), "one number for each channel")
    return bias
