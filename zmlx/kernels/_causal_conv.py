"""The launches of a short causal convolution, its gradients and its single step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import mlx.core as mx

from zmlx.kernels import _conv, _rows
from zmlx.kernels._autodiff import Outputs, by_reference, differentiable
from zmlx.kernels._columns import column_sum, in_first_line
from zmlx.launch import metal_kernel


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


def _activated(x: mx.array, weight: mx.array, bias: mx.array, activated: bool) -> mx.array:
    y = convolved(x, weight, bias)
    return silu(y) if activated else y


def _reference(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    x, weight, bias = inputs
    return [_activated(x, weight.T, bias, template["ACTIVATED"]).astype(x.dtype)]


def _reference_vjp(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    x, weight, bias, g = (array.astype(mx.float32) for array in inputs)
    activated = template["ACTIVATED"]
    dx, dweight, dbias = mx.vjp(lambda x, w, b: _activated(x, w.T, b, activated), [x, weight, bias], [g])[1]
    total = mx.concatenate([dweight.reshape(-1), dbias])
    return [dx.astype(inputs[0].dtype), in_first_line(total, _runs(x, _conv.VJP_RUN))]


def _reference_step(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    x, state, weight, bias = inputs
    return stepped(x, state, weight.T, bias, template["ACTIVATED"])


_KERNEL = metal_kernel(
    "zmlx_causal_conv1d", ["x", "weight", "bias"], ["y"], _conv.FORWARD, _conv.HEADER, reference=_reference
)
_VJP_KERNEL = metal_kernel(
    "zmlx_causal_conv1d_vjp",
    ["x", "weight", "bias", "g"],
    ["dx", "partial"],
    _conv.VJP,
    _conv.HEADER,
    reference=_reference_vjp,
)
_STEP_KERNEL = metal_kernel(
    "zmlx_causal_conv1d_step",
    ["x", "state", "weight", "bias"],
    ["y", "next"],
    _conv.STEP,
    _conv.HEADER,
    reference=_reference_step,
)


def _runs(x: mx.array, run: int) -> int:
    """How many runs of time there are."""
    return x.shape[0] * -(-x.shape[1] // run)


def _rows_of(x: mx.array) -> mx.array:
    return x.reshape(-1, *x.shape[-2:])


def _template(x: mx.array, weight: mx.array, bias: mx.array, activated: bool) -> dict[str, Any]:
    return {
        "T": x.dtype,
        "U": weight.dtype,
        "B": bias.dtype,
        "TAPS": weight.shape[1],
        "ACTIVATED": activated,
    }


@cache
def causal_conv(activated: bool) -> Callable[[mx.array, mx.array, mx.array], mx.array]:
    """The convolution of (..., time, channels) with weights (channels, taps) and a bias."""

    def forward(x: mx.array, weight: mx.array, bias: mx.array) -> mx.array:
        rows = _rows_of(x)
        launch = _rows.span_launch(_runs(rows, _conv.RUN), x.shape[-1], 4)
        outputs = [(rows.shape, x.dtype)]
        template = _template(x, weight, bias, activated)
        return launch.run(_KERNEL, [rows, weight.T, bias], outputs, **template)[0].reshape(x.shape)

    def backward(cotangent: mx.array, x: mx.array, weight: mx.array, bias: mx.array) -> Outputs:
        rows = _rows_of(x)
        taps, channels = weight.shape[1], x.shape[-1]
        runs = _runs(rows, _conv.VJP_RUN)
        launch = _rows.span_launch(runs, channels, 4)
        outputs = [(rows.shape, x.dtype), ((runs, (taps + 1) * channels), mx.float32)]
        template = _template(x, weight, bias, activated)
        inputs = [rows, weight.T, bias, _rows_of(cotangent)]
        dx, partial = launch.run(_VJP_KERNEL, inputs, outputs, **template)
        sums = column_sum(partial).reshape(taps + 1, channels)
        return dx.reshape(x.shape), sums[:taps].T.astype(weight.dtype), sums[taps].astype(bias.dtype)

    def reference(x: mx.array, weight: mx.array, bias: mx.array) -> mx.array:
        return _activated(x, weight, bias, activated).astype(x.dtype)

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
        launch = _rows.span_launch(-(-batch // _conv.ENTRIES), channels, x.dtype.size)
        y, after = launch.run(
            _STEP_KERNEL,
            [rows, held, weight.T, bias],
            [(rows.shape, x.dtype), (held.shape, state.dtype)],
            V=state.dtype,
            **_template(x, weight, bias, activated),
        )
        return y.reshape(x.shape), after.reshape(state.shape)

    def reference(x: mx.array, state: mx.array, weight: mx.array, bias: mx.array) -> Outputs:
        return stepped(x, state, weight, bias, activated)

    return by_reference(forward, reference, row_arguments=2)
