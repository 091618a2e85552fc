"""Normalisation of groups of channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import mlx.core as mx

from zmlx.kernels import _check, _check_numbers, _groupnorm, _rows
from zmlx.kernels._autodiff import Outputs, differentiable
from zmlx.kernels._columns import column_sum
from zmlx.kernels._msl import CHUNKS, ROWS
from zmlx.launch import MetalKernel, metal_kernel

__all__ = ["groupnorm"]

_HEADER = CHUNKS + ROWS + _groupnorm.HEADER


def groupnorm(x: mx.array, gamma: mx.array, beta: mx.array, num_groups: int, eps: float = 1e-5) -> mx.array:
    """``(x - mean) / sqrt(var + eps) * gamma + beta``, mean and variance of a group of channels over all places.

    Parameters
    ----------
    x
        Shape (N, ..., C), batch first and channels last, float32, float16 or bfloat16, in any memory layout.
    gamma, beta
        Shape (C,), of any of these dtypes.
    num_groups
        Divides C; the first C / num_groups channels are the first group, as in PyTorch (and in `mlx.nn.GroupNorm` with
        ``pytorch_compatible=True``).
    eps
        Added to the variance; zero or more.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32.

    Raises
    ------
    TypeError
        An array is not an MLX array of one of these dtypes, ``num_groups`` is no integer, or ``eps`` is not a number.
    ValueError
        ``x`` has fewer than two dimensions, a weight does not have shape (C,), ``num_groups`` does not divide C, or
        ``eps`` is negative or not finite.

    Notes
    -----
    Wu and He, Group Normalization (arXiv:1803.08494), equations 1, 2, 6 and 7. The variance (of the population) is
    the mean square of the centred group, computed after the mean.
    """
    function = "groupnorm"
    _check.check_dimensions(function, x, "x", 2, "batch first and channels last")
    eps = _check.check_norm(function, x, eps, gamma=gamma, beta=beta)
    channels = x.shape[-1]
    groups = _check_numbers.check_integer(function, num_groups, "num_groups", 1, max(channels, 1))
    if channels % groups:
        raise ValueError(
            f"[{function}] Expected `num_groups` to divide the {channels} channels of `x` (shape {tuple(x.shape)}), "
            f"got {num_groups}."
        )
    if x.size == 0:
        return mx.zeros(x.shape, x.dtype)
    flat = x.reshape(x.shape[0], -1, channels)
    return _groupnorm_with(groups, eps)(flat, gamma, beta).reshape(x.shape)


def _normalised(x: mx.array, gamma: mx.array, beta: mx.array, groups: int, eps: float) -> mx.array:
    """x of shape (..., places, channels), in MLX operations."""
    grouped = x.astype(mx.float32).reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    centred = grouped - mx.mean(grouped, axis=(-3, -1), keepdims=True)
    scale = mx.rsqrt(mx.mean(mx.square(centred), axis=(-3, -1), keepdims=True) + eps)
    normal = (centred * scale).reshape(x.shape)
    return (normal * gamma.astype(mx.float32) + beta.astype(mx.float32)).astype(x.dtype)


class _Kernels(NamedTuple):
    forward: MetalKernel
    backward: MetalKernel
    weights: MetalKernel


def _kernels(groups: int, eps: float) -> _Kernels:
    """The kernels take both as numbers; their references have to know them when they are traced."""

    def forward(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        x, gamma, beta, *_ = inputs
        return [_normalised(x, gamma, beta, groups, eps)]

    def backward(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        x, g, gamma, *_ = inputs
        beta = mx.zeros(gamma.shape, mx.float32)
        dx = mx.vjp(lambda x: _normalised(x, gamma, beta, groups, eps), [x], [g])[1][0]
        grouped = x.astype(mx.float32).reshape(*x.shape[:2], groups, -1)
        mean = mx.mean(grouped, axis=(1, 3), keepdims=True)
        scale = mx.rsqrt(mx.mean(mx.square(grouped - mean), axis=(1, 3)) + eps)
        means = mean.reshape(scale.shape)
        return [dx, mx.stack([means, mx.zeros_like(means), scale], axis=-1).reshape(-1, 3)]

    def weights(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        x, g, stats, _ = inputs
        each = mx.repeat(stats.reshape(x.shape[0], 1, groups, 3), x.shape[2] // groups, axis=2)
        normal, g32 = (
            (x.astype(mx.float32) - each[..., 0] - each[..., 1]) * each[..., 2],
            g.astype(mx.float32),
        )
        total = mx.concatenate([mx.sum(g32 * normal, axis=(0, 1)), mx.sum(g32, axis=(0, 1))])[None]
        return [mx.concatenate([total, mx.zeros((_runs(x) - 1, total.shape[1]), mx.float32)])]

    return _Kernels(
        metal_kernel(
            "zmlx_groupnorm",
            ["x", "gamma", "beta", "count_groups", "eps"],
            ["y"],
            _groupnorm.FORWARD,
            _HEADER,
            reference=forward,
        ),
        metal_kernel(
            "zmlx_groupnorm_vjp",
            ["x", "g", "gamma", "count_groups", "eps"],
            ["dx", "stats"],
            _groupnorm.BACKWARD,
            _HEADER,
            reference=backward,
        ),
        metal_kernel(
            "zmlx_groupnorm_weights",
            ["x", "g", "stats", "count_groups"],
            ["partial"],
            _groupnorm.WEIGHTS,
            CHUNKS,
            reference=weights,
        ),
    )


def _runs(x: mx.array) -> int:
    """How many lines of partial sums there are."""
    return x.shape[0] * -(-x.shape[1] // _groupnorm.RUN)


def _batches(x: mx.array) -> mx.array:
    return x.reshape(-1, *x.shape[-2:])


@lru_cache(maxsize=64)
def _groupnorm_with(groups: int, eps: float) -> Callable[[mx.array, mx.array, mx.array], mx.array]:
    kernels = _kernels(groups, eps)

    def forward(x: mx.array, gamma: mx.array, beta: mx.array) -> mx.array:
        batch = _batches(x)
        launch = _rows.group_launch(batch.shape, groups, x.dtype.size)
        types = {"T": x.dtype, "U": gamma.dtype, "V": beta.dtype}
        inputs: list[mx.array | float] = [batch, gamma, beta, groups, eps]
        return launch.run(kernels.forward, inputs, [(batch.shape, x.dtype)], **types)[0].reshape(x.shape)

    def backward(cotangent: mx.array, x: mx.array, gamma: mx.array, beta: mx.array) -> Outputs:
        batch, g = _batches(x), _batches(cotangent)
        launch = _rows.group_launch(batch.shape, groups, x.dtype.size)
        stats_shape = (batch.shape[0] * groups, 3)
        dx, stats = launch.run(
            kernels.backward,
            [batch, g, gamma, groups, eps],
            [(batch.shape, x.dtype), (stats_shape, mx.float32)],
            T=x.dtype,
            U=gamma.dtype,
        )
        channels = x.shape[-1]
        launch = _rows.span_launch(_runs(batch), channels, x.dtype.size)
        outputs = [((_runs(batch), 2 * channels), mx.float32)]
        partial = launch.run(kernels.weights, [batch, g, stats, groups], outputs, T=x.dtype)[0]
        dgamma, dbeta = mx.split(column_sum(partial), 2)
        return dx.reshape(x.shape), dgamma.astype(gamma.dtype), dbeta.astype(beta.dtype)

    return differentiable(forward, backward, lambda x, a, b: _normalised(x, a, b, groups, eps))
