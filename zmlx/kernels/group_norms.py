"""Normalisation of groups of channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import mlx.core as mx

from zmlx.kernels import _check, _check_numbers, _groupnorm
from zmlx.kernels._autodiff import Outputs, Reference, differentiable
from zmlx.kernels._groupnorm_launch import Parts, is_divided, parts_launch
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
    held_forward: MetalKernel
    held_gradient: MetalKernel
    forward: MetalKernel
    moments: MetalKernel
    normalise: MetalKernel
    gradient: MetalKernel
    sums: MetalKernel
    backward: MetalKernel
    weights: MetalKernel


def _statistics(x: mx.array, groups: int, eps: float) -> tuple[mx.array, mx.array, mx.array]:
    """Mean, sum of squared differences to it, and scale of all groups, each of shape (batch * groups, 1)."""
    grouped = x.astype(mx.float32).reshape(*x.shape[:2], groups, -1)
    mean = mx.mean(grouped, axis=(1, 3), keepdims=True)
    spread = mx.sum(mx.square(grouped - mean), axis=(1, 3))
    values = x.shape[1] * x.shape[2] // groups
    return mean.reshape(-1, 1), spread.reshape(-1, 1), mx.rsqrt(spread / values + eps).reshape(-1, 1)


def _in_front(values: mx.array, count: int) -> mx.array:
    """(rows, n) values as (rows * count, n): those of a row, then zeros."""
    rest = mx.zeros((values.shape[0], count - 1, values.shape[1]), mx.float32)
    return mx.concatenate([values[:, None], rest], axis=1).reshape(-1, values.shape[1])


def _kernels(groups: int, eps: float) -> _Kernels:
    """The kernels take both as numbers; their references have to know them when they are traced. There all of a group
    is in its first part, and all sums of an entry are in its first line."""

    def forward(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        x, gamma, beta, *_ = inputs
        return [_normalised(x, gamma, beta, groups, eps)]

    def moments(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        (x, *_) = inputs
        return [_of_parts(x, [])]

    def _of_parts(x: mx.array, sums: list[mx.array]) -> mx.array:
        parts = parts_launch(x, groups).parts
        mean, spread, _ = _statistics(x, groups, eps)
        first = _in_front(mx.concatenate([spread, *sums], axis=1), parts)
        means = mx.repeat(mean, parts, axis=0)
        return mx.concatenate([means, mx.zeros_like(means), first], axis=1)

    def sums(
        inputs: list[mx.array], template: Mapping[str, Any], plan: Parts | None = None
    ) -> list[mx.array]:
        x, g, gamma, *_ = inputs
        plan = plan or parts_launch(x, groups)
        width = x.shape[2] // groups
        mean = mx.repeat(_statistics(x, groups, eps)[0].reshape(-1, groups), width, axis=1)
        g32 = g.astype(mx.float32)
        each = [mx.sum(g32 * (x.astype(mx.float32) - mean[:, None]), axis=1), mx.sum(g32, axis=1)]
        weighted, plain = (mx.sum((s * gamma).reshape(-1, width), axis=1, keepdims=True) for s in each)
        partial = _in_front(mx.concatenate(each, axis=1), plan.lines // x.shape[0])
        shifts = mx.repeat(mean[:, ::width], plan.columns // groups, axis=1)
        shifts = mx.repeat(shifts, plan.lines // x.shape[0], axis=0)
        return [_of_parts(x, [plain, weighted]), partial, shifts]

    def backward(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        x, g, gamma, *_ = inputs
        beta = mx.zeros(gamma.shape, mx.float32)
        dx = mx.vjp(lambda x: _normalised(x, gamma, beta, groups, eps), [x], [g])[1][0]
        mean, _, scale = _statistics(x, groups, eps)
        return [dx, mx.concatenate([mean, mx.zeros_like(mean), scale], axis=1)]

    def gradient(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        plan = parts_launch(inputs[0], groups, divided=False)
        return [*backward(inputs, template), *sums(inputs, template, plan)[1:]]

    def weights(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        partial, shifts, stats, *_ = inputs
        lines, channels = partial.shape[0], partial.shape[1] // 2
        of_line = mx.repeat(stats.reshape(-1, groups, 3), lines * groups // stats.shape[0], axis=0)
        mean, off, scale = (mx.repeat(of_line[..., k], channels // groups, axis=1) for k in range(3))
        shift = mx.repeat(shifts.reshape(lines, groups, -1)[..., 0], channels // groups, axis=1)
        by_x, alone = mx.split(partial, 2, axis=1)
        dgamma = mx.sum((by_x + (shift - mean - off) * alone) * scale, axis=0)
        return [dgamma.astype(template["U"]), mx.sum(alone, axis=0).astype(template["V"])]

    def kernel(
        name: str, inputs: str, outputs: str, source: str, reference: Reference, header: str = _HEADER
    ) -> MetalKernel:
        return metal_kernel(name, inputs.split(), outputs.split(), source, header, reference=reference)

    numbers = "count_groups run_places"
    held = _HEADER + _groupnorm.HELD_HEADER
    of_all, of_sums = f"x gamma beta {numbers} eps", f"x g gamma {numbers} eps"
    gradients = "dx stats partial shifts"
    return _Kernels(
        kernel("zmlx_groupnorm", of_all, "y", _groupnorm.HELD_FORWARD, forward, held),
        kernel("zmlx_groupnorm_vjp", of_sums, gradients, _groupnorm.HELD_GRADIENT, gradient, held),
        kernel("zmlx_groupnorm", of_all, "y", _groupnorm.FORWARD, forward),
        kernel("zmlx_groupnorm_moments", f"x {numbers}", "moments", _groupnorm.MOMENTS, moments),
        kernel("zmlx_groupnorm", f"x gamma beta moments {numbers} eps", "y", _groupnorm.NORMALISE, forward),
        kernel("zmlx_groupnorm_vjp", of_sums, gradients, _groupnorm.GRADIENT, gradient),
        kernel(
            "zmlx_groupnorm_sums", f"x g gamma {numbers}", "moments partial shifts", _groupnorm.SUMS, sums
        ),
        kernel(
            "zmlx_groupnorm_vjp",
            f"x g gamma moments {numbers} eps",
            "dx stats",
            _groupnorm.BACKWARD,
            backward,
        ),
        kernel(
            "zmlx_groupnorm_weights",
            "partial shifts stats count_groups",
            "dgamma dbeta",
            _groupnorm.WEIGHTS,
            weights,
        ),
    )


def _batches(x: mx.array) -> mx.array:
    return x.reshape(-1, *x.shape[-2:])


@lru_cache(maxsize=64)
def _groupnorm_with(groups: int, eps: float) -> Callable[[mx.array, mx.array, mx.array], mx.array]:
    kernels = _kernels(groups, eps)

    def forward(x: mx.array, gamma: mx.array, beta: mx.array) -> mx.array:
        batch = _batches(x)
        divided = is_divided(batch, groups)
        plan = parts_launch(batch, groups, divided=divided)
        types = {"T": x.dtype, "U": gamma.dtype, "V": beta.dtype}
        numbers = [groups, plan.run]
        moments: list[mx.array] = []
        if divided:
            shape = (batch.shape[0] * groups * plan.parts, 3)
            moments = plan.launch.run(kernels.moments, [batch, *numbers], [(shape, mx.float32)], T=x.dtype)
        inputs: list[mx.array | float] = [batch, gamma, beta, *moments, *numbers, eps]
        whole = kernels.held_forward if plan.held else kernels.forward
        kernel = kernels.normalise if divided else whole
        return plan.launch.run(kernel, inputs, [(batch.shape, x.dtype)], **types)[0].reshape(x.shape)

    def backward(cotangent: mx.array, x: mx.array, gamma: mx.array, beta: mx.array) -> Outputs:
        batch, g = _batches(x), _batches(cotangent)
        divided = is_divided(batch, groups)
        plan = parts_launch(batch, groups, divided=divided, gradient=True)
        numbers = [groups, plan.run]
        count, channels = batch.shape[0] * groups, x.shape[-1]
        types = {"T": x.dtype, "U": gamma.dtype}
        of_x = [(batch.shape, x.dtype), ((count, 3), mx.float32)]
        of_lines = [((plan.lines, 2 * channels), mx.float32), ((plan.lines, plan.columns), mx.float32)]
        if divided:
            moments, partial, shifts = plan.launch.run(
                kernels.sums,
                [batch, g, gamma, *numbers],
                [((count * plan.parts, 5), mx.float32), *of_lines],
                **types,
            )
            dx, stats = plan.launch.run(
                kernels.backward, [batch, g, gamma, moments, *numbers, eps], of_x, **types
            )
        else:
            whole = kernels.held_gradient if plan.held else kernels.gradient
            dx, stats, partial, shifts = plan.launch.run(
                whole, [batch, g, gamma, *numbers, eps], [*of_x, *of_lines], **types
            )
        dgamma, dbeta = plan.weights_launch().run(
            kernels.weights,
            [partial, shifts, stats, groups],
            [(gamma.shape, gamma.dtype), (beta.shape, beta.dtype)],
            U=gamma.dtype,
            V=beta.dtype,
        )
        return dx.reshape(x.shape), dgamma, dbeta

    return differentiable(forward, backward, lambda x, a, b: _normalised(x, a, b, groups, eps))
