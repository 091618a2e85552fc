"""The kernels of `rmsnorm` and `layernorm`, which have their own source, and the functions that MLX transforms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import mlx.core as mx

from zmlx.kernels import _layernorm, _rmsnorm, _rows
from zmlx.kernels._autodiff import Outputs, Reference, differentiable, value_reference
from zmlx.kernels._columns import column_sum, in_first_line
from zmlx.kernels._msl import CHUNKS, ROWS
from zmlx.launch import MetalKernel, metal_kernel

_HEADER = CHUNKS + ROWS


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
    return in_first_line(total, _rows.partials(rows, length, x.dtype.size))


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
def rmsnorm_with(eps: float) -> Callable[[mx.array, mx.array], mx.array]:
    """`norms.rmsnorm` of x and weight."""

    def forward(x: mx.array, weight: mx.array) -> mx.array:
        return _rows.run_rows(_RMSNORM_KERNEL, [x], weight, eps, U=weight.dtype)

    def backward(cotangent: mx.array, x: mx.array, weight: mx.array) -> Outputs:
        dx, partial = _row_and_weight_gradients(_RMSNORM_VJP_KERNELS, cotangent, x, weight, eps, 1)
        return dx, column_sum(partial).astype(weight.dtype)

    return differentiable(forward, backward, lambda x, weight: _rmsnorm_reference(x, weight, eps))


@lru_cache(maxsize=64)
def layernorm_with(eps: float) -> Callable[[mx.array, mx.array, mx.array], mx.array]:
    """`norms.layernorm` of x, gamma and beta."""

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
