"""The launches of a short causal convolution, its gradients and its single step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import mlx.core as mx

from zmlx.kernels import _conv, _rows
from zmlx.kernels._autodiff import Outputs, by_reference, differentiable
from zmlx.kernels._columns import column_sum
from zmlx.kernels._msl import CHUNKS
from zmlx.launch import MetalKernel, metal_kernel

_HEADER = CHUNKS + _conv.SILU


def silu(y: mx.array) -> mx.array:
    """``y * sigmoid(y)``."""
    return y * mx.sigmoid(y)


def convolved(x: mx.array, weight: mx.array, bias: mx.array) -> mx.array:
    """The convolution of (..., time, channels) with weights (channels, taps) in float32 MLX operations."""
    taps, time = weight.shape[1], x.shape[-2]
    before = mx.zeros((*x.shape[:-2], taps - 1, x.shape[-1]), mx.float32)
    padded = mx.concatenate([before, x.astype(mx.float32)], axis=-2)
    w = weight.astype(mx.float32)
    total = bias.astype(mx.float32)
    for k in range(taps):
        total = total + w[:, k] * padded[..., k : k + time, :]
    return total


# The kernels take these choices as numbers; their references have to know them when they are traced.
@cache
def _conv_kernel(activated: bool, ahead: bool) -> MetalKernel:
    def reference(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        x, weight, bias, *_ = inputs
        y = convolved(x[:, ::-1], weight.T, bias)[:, ::-1] if ahead else convolved(x, weight.T, bias)
        return [(silu(y) if activated else y).astype(template["O"])]

    inputs = ["x", "weight", "bias", "activated", "ahead"]
    return metal_kernel("zmlx_causal_conv1d", inputs, ["y"], _conv.FORWARD, _HEADER, reference=reference)


def _reference_slope(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    x, weight, bias, g, _ = inputs
    return mx.vjp(silu, [convolved(x, weight.T, bias)], [g.astype(mx.float32)])[1]


_SLOPE_KERNEL = metal_kernel(
    "zmlx_causal_conv1d_slope",
    ["x", "weight", "bias", "g", "ahead"],
    ["y"],
    _conv.SLOPE,
    _HEADER,
    reference=_reference_slope,
)


@cache
def _weights_kernel(taps: int) -> MetalKernel:
    def reference(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        x, g = (array.astype(mx.float32) for array in inputs[:2])
        time = x.shape[1]
        sums = [mx.sum(x[:, : max(time - k, 0)] * g[:, k:], axis=(0, 1)) for k in reversed(range(taps))]
        total = mx.stack([*sums, mx.sum(g, axis=(0, 1))]).reshape(1, -1)
        # MLX 0.30 has no vmap for mx.pad.
        return [mx.concatenate([total, mx.zeros((_runs(x) - 1, total.shape[1]), mx.float32)])]

    return metal_kernel(
        "zmlx_causal_conv1d_weights",
        ["x", "g", "size"],
        ["partial"],
        _conv.WEIGHTS,
        CHUNKS,
        reference=reference,
    )


@cache
def _step_kernel(activated: bool) -> MetalKernel:
    def reference(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        x, state, weight, bias, _ = inputs
        return stepped(x, state, weight.T, bias, activated)

    inputs = ["x", "state", "weight", "bias", "activated"]
    return metal_kernel(
        "zmlx_causal_conv1d_step", inputs, ["y", "next"], _conv.STEP, _HEADER, reference=reference
    )


def _runs(x: mx.array) -> int:
    """How many lines of partial sums there are."""
    return x.shape[0] * -(-x.shape[1] // _conv.RUN)


def _rows_of(x: mx.array) -> mx.array:
    return x.reshape(-1, *x.shape[-2:])


def _convolve(
    kernel: MetalKernel, x: mx.array, weight: mx.array, bias: mx.array, dtype: mx.Dtype, *rest: Any
) -> mx.array:
    """One launch over x of shape (batch, time, channels)."""
    batch, time, channels = x.shape
    launch = _rows.span_launch(batch * -(-time // _conv.STEPS), channels, x.dtype.size)
    inputs = [x, weight.T, bias, *rest]
    types = {"T": x.dtype, "U": weight.dtype, "B": bias.dtype, "O": dtype}
    return launch.run(kernel, inputs, [(x.shape, dtype)], **types)[0]


@cache
def causal_conv(activated: bool) -> Callable[[mx.array, mx.array, mx.array], mx.array]:
    """The convolution of (..., time, channels) with weights (channels, taps) and a bias."""

    def forward(x: mx.array, weight: mx.array, bias: mx.array) -> mx.array:
        kernel = _conv_kernel(activated, False)
        return _convolve(kernel, _rows_of(x), weight, bias, x.dtype, int(activated), 0).reshape(x.shape)

    def backward(cotangent: mx.array, x: mx.array, weight: mx.array, bias: mx.array) -> Outputs:
        rows, g = _rows_of(x), _rows_of(cotangent)
        if activated:
            g = _convolve(_SLOPE_KERNEL, rows, weight, bias, mx.float32, g, 0)
        none = mx.zeros(bias.shape, bias.dtype)
        dx = _convolve(_conv_kernel(False, True), g, weight, none, x.dtype, 0, 1)
        taps, channels = weight.shape[1], x.shape[-1]
        launch = _rows.span_launch(_runs(rows), channels, x.dtype.size)
        shape = (_runs(rows), (taps + 1) * channels)
        inputs: list[mx.array | float] = [rows, g, taps]
        outputs = [(shape, mx.float32)]
        partial = launch.run(_weights_kernel(taps), inputs, outputs, T=x.dtype, G=g.dtype)[0]
        sums = column_sum(partial).reshape(taps + 1, channels)
        return dx.reshape(x.shape), sums[:taps].T.astype(weight.dtype), sums[taps].astype(bias.dtype)

    def reference(x: mx.array, weight: mx.array, bias: mx.array) -> mx.array:
        y = convolved(x, weight, bias)
        return (silu(y) if activated else y).astype(x.dtype)

    return differentiable(forward, backward, reference)


def stepped(
    x: mx.array, state: mx.array, weight: mx.array, bias: mx.array, activated: bool
) -> tuple[mx.array, mx.array]:
    """One step in MLX operations."""
    rows = mx.concatenate([state.astype(mx.float32), x.astype(mx.float32)[..., None, :]], axis=-2)
    y = mx.sum(rows * weight.T.astype(mx.float32), axis=-2) + bias.astype(mx.float32)
    return (silu(y) if activated else y).astype(x.dtype), rows[..., 1:, :].astype(state.dtype)


@cache
def causal_conv_step(activated: bool) -> Callable[..., tuple[mx.array, mx.array]]:
    """One step: x (..., channels) and a state (..., taps - 1, channels) give y and the state after it."""

    def forward(x: mx.array, state: mx.array, weight: mx.array, bias: mx.array) -> Outputs:
        rows, held = _rows.as_rows(x), _rows_of(state)
        batch, channels = rows.shape
        launch = _rows.span_launch(batch, channels, x.dtype.size)
        y, after = launch.run(
            _step_kernel(activated),
            [rows, held, weight.T, bias, int(activated)],
            [(rows.shape, x.dtype), (held.shape, state.dtype)],
            T=x.dtype,
            V=state.dtype,
            U=weight.dtype,
            B=bias.dtype,
        )
        return y.reshape(x.shape), after.reshape(state.shape)

    def reference(x: mx.array, state: mx.array, weight: mx.array, bias: mx.array) -> Outputs:
        return stepped(x, state, weight, bias, activated)

    return by_reference(forward, reference, row_arguments=2)
