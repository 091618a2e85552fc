"""Rotations as functions that MLX can transform: kernel, gradient and reference of one array, or of several at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import mlx.core as mx

from zmlx.kernels import _rope_msl, _rows
from zmlx.kernels._autodiff import Outputs, differentiable
from zmlx.kernels._msl import CHUNKS
from zmlx.launch import MetalKernel, metal_kernel

#: The first pairs of the second and the third section; beyond all pairs where there is one section.
Bounds = tuple[int, int]
#: Pairs that a thread of the CPU has at a time: half a head, mostly. One number, for fewer variants to compile.
HOST_CHUNK = 32
ONE_SECTION: Bounds = (2**31 - 1, 2**31 - 1)


def cosines_and_sines(
    positions: mx.array, words: mx.array, tokens: int, bounds: Sequence[Any]
) -> tuple[mx.array, mx.array]:
    """Of every sequence, token and pair, in MLX operations: (sequences, 1, tokens, pairs) in float32."""
    place, words = mx.stop_gradient(positions), mx.stop_gradient(words)
    if place.shape[-1] == 1:
        place = place + mx.arange(tokens, dtype=mx.int32)
    pair = mx.arange(words.shape[1])
    sections = [place[min(section, place.shape[0] - 1)][..., None] for section in range(3)]
    chosen = mx.where(pair < bounds[0], sections[0], mx.where(pair < bounds[1], sections[1], sections[2]))
    frequency = words[0].astype(mx.uint64) + words[1].astype(mx.uint64) * mx.array(2**32, mx.uint64)
    turns = (chosen.astype(mx.uint64) * frequency).astype(mx.int64)  # modulo 2**64, which is one turn
    angle = (turns.astype(mx.float32) * (2.0**-64 * 6.283185307179586))[:, None]
    return mx.cos(angle), mx.sin(angle)


def split_pairs(x: mx.array, dims: int, interleaved: bool) -> tuple[mx.array, mx.array]:
    """The first and the second numbers of the pairs."""
    if interleaved:
        return x[..., 0:dims:2], x[..., 1:dims:2]
    return x[..., : dims // 2], x[..., dims // 2 : dims]


def join_pairs(a: mx.array, b: mx.array, rest: mx.array, interleaved: bool) -> mx.array:
    """The opposite of `split_pairs`, with what is not rotated behind."""
    pairs = (
        mx.stack([a, b], axis=-1).reshape(*a.shape[:-1], -1)
        if interleaved
        else mx.concatenate([a, b], axis=-1)
    )
    return mx.concatenate([pairs, rest], axis=-1)


def rotated(
    x: mx.array, positions: mx.array, words: mx.array, sign: Any, bounds: Sequence[Any], interleaved: bool
) -> mx.array:
    """The rotation in MLX operations, of x of shape (..., sequences, heads, tokens, length)."""
    dims = 2 * words.shape[1]
    cosines, sines = cosines_and_sines(positions, words, x.shape[-2], bounds)
    # Sequences whose positions differ repeat with leading axes.
    rows = x.astype(mx.float32).reshape(-1, positions.shape[1], *x.shape[-3:])
    a, b = split_pairs(rows, dims, interleaved)
    s = sines * sign
    turned = join_pairs(a * cosines - b * s, b * cosines + a * s, rows[..., dims:], interleaved)
    return turned.reshape(x.shape).astype(x.dtype)


@cache
def _kernel(name: str, arrays: tuple[str, ...]) -> MetalKernel:
    def reference(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        count = len(arrays)
        positions, words, sign, *bounds = inputs[count:]
        interleaved = bool(template["INTERLEAVED"])
        return [rotated(x, positions, words, sign, bounds, interleaved) for x in inputs[:count]]

    return metal_kernel(
        name,
        [*arrays, "positions", "words", "sign", "first", "second"],
        [f"{array}_out" for array in arrays],
        _rope_msl.rope(arrays),
        CHUNKS + _rope_msl.HEADER,
        reference=reference,
    )


def as_heads(x: mx.array) -> mx.array:
    """x of shape (..., sequences, heads, tokens, length) with one axis of sequences."""
    return x.reshape(-1, *x.shape[-3:])


def groups(x: mx.array) -> int:
    """Of the heads of which a thread has the angles once."""
    return -(-int(x.shape[1]) // _rope_msl.HEADS)


def launch_rotation(
    xs: Sequence[mx.array],
    positions: mx.array,
    words: mx.array,
    sign: float,
    bounds: Bounds,
    interleaved: bool,
) -> list[mx.array]:
    """One launch for all of ``xs``, of shape (..., sequences, heads, tokens, length), of one dtype."""
    kernel = _kernel("zmlx_rope", ("x",)) if len(xs) == 1 else _kernel("zmlx_rope_qk", ("q", "k"))
    heads = [as_heads(x) for x in xs]
    sequences, _, tokens, length = heads[0].shape
    pairs = int(words.shape[1])
    rows = sequences * tokens * sum(map(groups, heads))
    launch = _rows.span_launch(
        rows, max(pairs, length - 2 * pairs), heads[0].dtype.size, host_chunk=HOST_CHUNK
    )
    dtype = heads[0].dtype
    template = (*launch.template, ("INTERLEAVED", interleaved))
    outputs = _rows.Launch(template, launch.grid, launch.threadgroup).run(
        kernel, [*heads, positions, words, sign, *bounds], [(h.shape, dtype) for h in heads], T=dtype
    )
    return [y.reshape(x.shape) for y, x in zip(outputs, xs, strict=True)]


@lru_cache(maxsize=64)
def rotation(arrays: int, bounds: Bounds, interleaved: bool) -> Callable[..., Any]:
    """``f(*xs, positions, words)`` of so many arrays, of shape (..., sequences, heads, tokens, length).

    Its gradient is the rotation by the opposite angles.
    """

    def one_or_all(results: Sequence[mx.array]) -> Any:
        return tuple(results) if arrays > 1 else results[0]

    def forward(*given: mx.array) -> Any:
        xs, (positions, words) = given[:arrays], given[arrays:]
        return one_or_all(launch_rotation(xs, positions, words, 1.0, bounds, interleaved))

    def backward(*given: mx.array) -> Outputs:
        cotangents, (positions, words) = given[:arrays], given[2 * arrays :]
        gradients = launch_rotation(cotangents, positions, words, -1.0, bounds, interleaved)
        return (*gradients, mx.zeros_like(positions), mx.zeros_like(words))

    def reference(*given: mx.array) -> Any:
        xs, (positions, words) = given[:arrays], given[arrays:]
        return one_or_all([rotated(x, positions, words, 1.0, bounds, interleaved) for x in xs])

    return differentiable(forward, backward, reference, row_arguments=arrays, cotangents=arrays)
