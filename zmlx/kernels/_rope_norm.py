"""RMS norm of each head, then its rotation: of queries and keys at once, as a function that MLX can transform."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import mlx.core as mx

from zmlx.kernels import _rope_msl, _rope_norm_held, _rope_norm_msl, _rows
from zmlx.kernels._autodiff import Outputs, differentiable
from zmlx.kernels._columns import column_sum, in_first_line
from zmlx.kernels._msl import CHUNKS, ROWS
from zmlx.kernels._rope_rotate import HOST_CHUNK, ONE_SECTION, as_heads, groups, rotated
from zmlx.launch import metal_kernel

#: Lines of partial sums of the weights' gradients, about: enough threads to fill a GPU, few enough to add up quickly.
LINES = 4096
#: A value counts as so many bytes for the size of chunks, also one of two: longer chunks cost registers, so threads.
BACKWARD_BYTES = 4

Pair = tuple[mx.array, mx.array]


def _normal(x: mx.array, weight: mx.array, eps: Any) -> mx.array:
    x32 = x.astype(mx.float32)
    return x32 * mx.rsqrt(mx.mean(mx.square(x32), axis=-1, keepdims=True) + eps) * weight.astype(mx.float32)


def _reference(
    q: mx.array,
    k: mx.array,
    q_weight: mx.array,
    k_weight: mx.array,
    positions: mx.array,
    words: mx.array,
    eps: Any,
    interleaved: bool,
) -> Pair:
    q_out, k_out = (
        rotated(_normal(x, weight, eps), positions, words, 1.0, ONE_SECTION, interleaved).astype(x.dtype)
        for x, weight in ((q, q_weight), (k, k_weight))
    )
    return q_out, k_out


def _forward_reference(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    q, k, q_weight, k_weight, positions, words, eps, _, _ = inputs
    return _reference(q, k, q_weight, k_weight, positions, words, eps, bool(template["INTERLEAVED"]))


def _backward_reference(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    q, k, q_g, k_g, q_weight, k_weight, positions, words, eps, _, _ = inputs
    interleaved = bool(template["INTERLEAVED"])

    def function(q: mx.array, k: mx.array, q_weight: mx.array, k_weight: mx.array) -> list[mx.array]:
        return list(_reference(q, k, q_weight, k_weight, positions, words, eps, interleaved))

    weights = [w.astype(mx.float32) for w in (q_weight, k_weight)]
    dq, dk, *dweights = mx.vjp(function, [q, k, *weights], [q_g, k_g])[1]
    lines = _lines(_launch((q, k), words, LINES))
    return [dq, dk, in_first_line(mx.concatenate(dweights), lines)]


_SHARED = ["positions", "words", "eps", "first", "second"]
_HEADER = CHUNKS + ROWS + _rope_msl.ANGLES + _rope_msl.HOLD + _rope_norm_held.HEADER + _rope_norm_msl.HEADER

_FORWARD_KERNEL = metal_kernel(
    "zmlx_qk_norm_rope",
    ["q", "k", "q_weight", "k_weight", *_SHARED],
    ["q_out", "k_out"],
    _rope_norm_msl.FORWARD,
    _HEADER,
    reference=_forward_reference,
)
_BACKWARD_KERNEL = metal_kernel(
    "zmlx_qk_norm_rope_vjp",
    ["q", "k", "q_g", "k_g", "q_weight", "k_weight", *_SHARED],
    ["q_out", "k_out", "partial"],
    _rope_norm_msl.BACKWARD,
    _HEADER,
    reference=_backward_reference,
)


def _launch(heads: Sequence[mx.array], words: mx.array, lines: int | None = None) -> _rows.Launch:
    sequences, _, tokens, length = heads[0].shape
    pairs = int(words.shape[1])
    rows, most = sequences * tokens * sum(map(groups, heads)), max(pairs, length - 2 * pairs)
    if lines is None:
        return _rows.simd_launch(rows, most, heads[0].dtype.size, host_chunk=HOST_CHUNK)
    launch = _rows.simd_launch(rows, most, BACKWARD_BYTES, host_chunk=HOST_CHUNK)
    together = _lines(launch) // (launch.grid[0] // launch.threadgroup[0])
    return _rows.simd_launch(
        rows, most, BACKWARD_BYTES, groups=max(lines // together, 1), host_chunk=HOST_CHUNK
    )


def _lines(launch: _rows.Launch) -> int:
    """How many teams there are."""
    return launch.grid[0] // dict(launch.template)["W"]


def _run(
    kernel: Any,
    launch: _rows.Launch,
    inputs: Sequence[Any],
    heads: Sequence[mx.array],
    interleaved: bool,
    lines: int = 0,
) -> list[mx.array]:
    template = (*launch.template, ("INTERLEAVED", interleaved))
    dtype = heads[0].dtype
    outputs: list[tuple[Sequence[int], mx.Dtype]] = [(h.shape, dtype) for h in heads]
    if lines:
        outputs.append(((lines, 2 * heads[0].shape[-1]), mx.float32))
    weight = inputs[2 * len(heads)] if lines else inputs[len(heads)]
    return _rows.Launch(template, launch.grid, launch.threadgroup).run(
        kernel, [*inputs, *ONE_SECTION], outputs, T=dtype, U=weight.dtype
    )


def _alike(q_weight: mx.array, k_weight: mx.array) -> Pair:
    """Both of one dtype, without loss."""
    if q_weight.dtype == k_weight.dtype:
        return q_weight, k_weight
    return q_weight.astype(mx.float32), k_weight.astype(mx.float32)


@lru_cache(maxsize=64)
def norm_rotation(eps: float, interleaved: bool) -> Callable[..., Pair]:
    """``f(q, k, q_weight, k_weight, positions, words)``: q and k of shape (..., sequences, heads, tokens, length)."""

    def forward(
        q: mx.array, k: mx.array, q_weight: mx.array, k_weight: mx.array, positions: mx.array, words: mx.array
    ) -> Pair:
        heads = [as_heads(q), as_heads(k)]
        inputs = [*heads, *_alike(q_weight, k_weight), positions, words, eps]
        q_out, k_out = _run(_FORWARD_KERNEL, _launch(heads, words), inputs, heads, interleaved)
        return q_out.reshape(q.shape), k_out.reshape(k.shape)

    def backward(q_g: mx.array, k_g: mx.array, q: mx.array, k: mx.array, *others: mx.array) -> Outputs:
        q_weight, k_weight, positions, words = others
        heads, cotangents = [as_heads(q), as_heads(k)], [as_heads(q_g), as_heads(k_g)]
        launch = _launch(heads, words, LINES)
        inputs = [*heads, *cotangents, *_alike(q_weight, k_weight), positions, words, eps]
        dq, dk, partial = _run(_BACKWARD_KERNEL, launch, inputs, heads, interleaved, _lines(launch))
        dq_weight, dk_weight = mx.split(column_sum(partial), 2)
        return (
            dq.reshape(q.shape),
            dk.reshape(k.shape),
            dq_weight.astype(q_weight.dtype),
            dk_weight.astype(k_weight.dtype),
            mx.zeros_like(positions),
            mx.zeros_like(words),
        )

    def reference(*given: mx.array) -> Pair:
        q, k, q_weight, k_weight, positions, words = given
        return _reference(q, k, q_weight, k_weight, positions, words, eps, interleaved)

    return differentiable(forward, backward, reference, row_arguments=2, cotangents=2)
