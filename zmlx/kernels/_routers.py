"""Routers as functions that MLX can transform: their kernels, and the same in MLX operations."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import mlx.core as mx

from zmlx.kernels import _check, _check_numbers, _router, _rows
from zmlx.kernels._choice import Chosen, choosing
from zmlx.kernels._msl import CHUNKS, ROWS
from zmlx.kernels._ranking import RANKING, ranked_places
from zmlx.launch import MetalKernel, metal_kernel

#: A bit of a word for each group.
MOST_GROUPS = 32

_HEADER = CHUNKS + ROWS + RANKING
_SCORES = f"#define ZMLX_MOST_GROUPS {MOST_GROUPS}\n" + _router.SCORES


def _run(
    kernel: MetalKernel, x: mx.array, others: list[mx.array | float], k: int, **dtypes: mx.Dtype
) -> Chosen:
    rows = _rows.as_rows(x)
    shape, result = (rows.shape[0], k), (*x.shape[:-1], k)
    launch = _rows.row_launch(rows.shape[0], rows.shape[1], x.dtype.size)
    outputs = [(shape, x.dtype), (shape, mx.uint32)]
    weights, places = launch.run(kernel, [rows, *others], outputs, T=x.dtype, **dtypes)
    return weights.reshape(result), places.reshape(result)


@lru_cache(maxsize=64)
def softmax_router(k: int, renormalize: bool) -> Callable[[mx.array], Chosen]:
    """The function of the logits that `router_topk` is."""

    def at(x: mx.array, places: mx.array) -> mx.array:
        x32 = x.astype(mx.float32)
        if renormalize:
            chosen = mx.softmax(mx.take_along_axis(x32, places, axis=-1), axis=-1)
        else:
            chosen = mx.take_along_axis(mx.softmax(x32, axis=-1), places, axis=-1)
        return chosen.astype(x.dtype)

    def reference(x: mx.array) -> list[mx.array]:
        places = ranked_places(x, k)
        return [at(x, places), places]

    def reference_gradient(x: mx.array, g: mx.array, places: mx.array) -> list[mx.array]:
        return mx.vjp(lambda x: at(x, places), [x], [g])[1]

    forward_kernel = metal_kernel(
        "zmlx_router_topk",
        ["x", "k_picks", "renormalize"],
        ["y", "places"],
        _router.SOFTMAX_FORWARD,
        _HEADER,
        reference=lambda inputs, template: reference(inputs[0]),
    )
    backward_kernel = metal_kernel(
        "zmlx_router_topk_vjp",
        ["x", "g", "places", "renormalize"],
        ["dx"],
        _router.SOFTMAX_BACKWARD,
        _HEADER,
        reference=lambda inputs, template: reference_gradient(*inputs[:3]),
    )

    def forward(x: mx.array) -> Chosen:
        return _run(forward_kernel, x, [k, int(renormalize)], k)

    def backward(cotangent: mx.array, x: mx.array, places: mx.array) -> mx.array:
        rows = _rows.as_rows(x)
        launch = _rows.row_launch(rows.shape[0], rows.shape[1], x.dtype.size)
        shape = (rows.shape[0], k)
        inputs: list[mx.array | float] = [
            rows,
            cotangent.reshape(shape),
            places.reshape(shape),
            int(renormalize),
        ]
        return launch.run(backward_kernel, inputs, [(rows.shape, x.dtype)], T=x.dtype)[0].reshape(x.shape)

    return choosing(forward, backward, at)


@lru_cache(maxsize=64)
def sigmoid_router(
    k: int, groups: int, best_groups: int, renormalize: bool, scaling: float
) -> Callable[[mx.array, mx.array], Chosen]:
    """The function of the logits and the bias that `sigmoid_router` is."""

    def at(x: mx.array, places: mx.array) -> mx.array:
        scores = mx.sigmoid(mx.take_along_axis(x.astype(mx.float32), places, axis=-1))
        if renormalize:
            scores = scores / (mx.sum(scores, axis=-1, keepdims=True) + 1e-20)
        return (scores * scaling).astype(x.dtype)

    def reference(x: mx.array, bias: mx.array) -> list[mx.array]:
        preference = mx.sigmoid(x.astype(mx.float32)) + bias.astype(mx.float32)
        if best_groups < groups:
            grouped = preference.reshape(x.shape[0], groups, -1)
            best = mx.sum(mx.take_along_axis(grouped, ranked_places(grouped, 2), axis=-1), axis=-1)
            chosen = ranked_places(best, best_groups)
            is_open = mx.any(chosen[..., None] == mx.arange(groups, dtype=mx.uint32), axis=-2)
            preference = mx.where(is_open[..., None], grouped, -mx.inf).reshape(x.shape)
        places = ranked_places(preference, k)
        return [at(x, places), places]

    def reference_gradient(x: mx.array, g: mx.array, places: mx.array) -> list[mx.array]:
        return mx.vjp(lambda x: at(x, places), [x], [g])[1]

    forward_kernel = metal_kernel(
        "zmlx_sigmoid_router",
        ["x", "bias", "k_picks", "groups", "best_groups", "renormalize", "scaling"],
        ["y", "places"],
        _router.SIGMOID_FORWARD,
        _HEADER + _SCORES,
        reference=lambda inputs, template: reference(*inputs[:2]),
    )
    backward_kernel = metal_kernel(
        "zmlx_sigmoid_router_vjp",
        ["x", "g", "places", "renormalize", "scaling"],
        ["dx"],
        _router.SIGMOID_BACKWARD,
        CHUNKS + _SCORES,
        reference=lambda inputs, template: reference_gradient(*inputs[:3]),
    )

    def forward(x: mx.array, bias: mx.array) -> Chosen:
        others: list[mx.array | float] = [bias, k, groups, best_groups, int(renormalize), scaling]
        return _run(forward_kernel, x, others, k)

    def backward(cotangent: mx.array, x: mx.array, places: mx.array) -> mx.array:
        rows = _rows.as_rows(x)
        launch = _rows.span_launch(rows.shape[0], rows.shape[1], x.dtype.size)
        shape = (rows.shape[0], k)
        inputs: list[mx.array | float] = [
            rows,
            cotangent.reshape(shape),
            places.reshape(shape),
            int(renormalize),
            scaling,
        ]
        return launch.run(backward_kernel, inputs, [(rows.shape, x.dtype)], T=x.dtype)[0].reshape(x.shape)

    return choosing(forward, backward, at)


def check_bias(logits: mx.array, bias: mx.array) -> None:
    """One number for each expert, in any of the supported dtypes."""
    _check.check_rows("sigmoid_router", bias, "bias")
    expected = (logits.shape[-1],)
    if tuple(bias.shape) != expected:
        raise ValueError(
            f"[sigmoid_router] Expected `bias` to have shape {expected}, one number for each expert of `logits` "
            f"(shape {tuple(logits.shape)}), got {tuple(bias.shape)}."
        )


def check_groups(experts: int, k: int, groups: int, best_groups: int) -> None:
    """Groups of equal size, and as many experts in the best of them as a token has."""
    _check_numbers.check_integer("sigmoid_router", groups, "groups")
    _check_numbers.check_integer("sigmoid_router", best_groups, "best_groups")
    if not 1 <= groups <= MOST_GROUPS or experts % groups:
        raise ValueError(
            f"[sigmoid_router] Expected `groups` to be from 1 to {MOST_GROUPS}, and {experts} experts to be a "
            f"multiple of it, got {groups}."
        )
    if not 1 <= best_groups <= groups:
        raise ValueError(
            f"[sigmoid_router] Expected `best_groups` to be from 1 to {groups}, which is `groups`, got {best_groups}."
        )
    size = experts // groups
    if best_groups < groups and size < 2:
        raise ValueError(
            f"[sigmoid_router] Expected groups of two experts at least, whose two best preferences are added up, got "
            f"{groups} groups of {size}. Choose from all: best_groups={groups}."
        )
    if k > best_groups * size:
        raise ValueError(
            f"[sigmoid_router] Expected `k` to be at most {best_groups * size}, the experts of {best_groups} groups, "
            f"got {k}."
        )
