"""Caches of keys and values with new tokens in them, the keys rotated, as a function that MLX can transform."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import mlx.core as mx

from zmlx.kernels import _rope_msl, _rows
from zmlx.kernels._autodiff import Outputs, differentiable
from zmlx.kernels._msl import CHUNKS
from zmlx.kernels._rope_rotate import HOST_CHUNK, ONE_SECTION, groups, launch_rotation, rotated
from zmlx.launch import metal_kernel

Pair = tuple[mx.array, mx.array]


def contiguous_owners(first: mx.array, slots: int, sequences: int, tokens: int) -> mx.array:
    """Whose each place of a cache is, (sequences, slots): a token's, counted over all sequences, or negative.

    ``first``: the place of the first token of each sequence, or of all of them, in the last axis but one.
    """
    token = mx.arange(slots, dtype=mx.int32) - first.reshape(-1, 1)
    counted = token + mx.arange(sequences, dtype=mx.int32)[:, None] * tokens
    return mx.where((token >= 0) & (token < tokens), counted, -1)


def paged_owners(first: mx.array, block_table: mx.array, pages: int, slots: int, tokens: int) -> mx.array:
    """The same for pages, (pages, slots); of two tokens with one place the last has it."""
    sequences, blocks = block_table.shape
    place = first.reshape(-1, 1) + mx.arange(tokens, dtype=mx.int32)
    place = mx.broadcast_to(place, (sequences, tokens))
    block = place // slots
    page = mx.take_along_axis(block_table.astype(mx.int32), mx.clip(block, 0, blocks - 1), axis=1)
    valid = (place >= 0) & (block < blocks) & (page >= 0) & (page < pages)
    slot = mx.where(valid, page * slots + place % slots, pages * slots)
    return _last_of(slot.reshape(-1), pages * slots).reshape(pages, slots)


def _last_of(places: mx.array, count: int) -> mx.array:
    """For each of ``count`` places, the last number whose place it is, or -1; place ``count`` stands for none."""
    numbers = mx.arange(1, places.size + 1, dtype=mx.int32)
    return mx.zeros(count + 1, mx.int32).at[places].maximum(numbers)[:-1] - 1


def _by_token(x: mx.array) -> mx.array:
    """(A, heads, B, length) as (A * B, heads, length)."""
    return x.swapaxes(1, 2).reshape(-1, x.shape[1], x.shape[3])


def _by_head(rows: mx.array, outer: int) -> mx.array:
    """The opposite of `_by_token`."""
    return rows.reshape(outer, -1, *rows.shape[1:]).swapaxes(1, 2)


def _kept(owner: mx.array) -> mx.array:
    """Where a cache of shape (A, heads, B, length) stays what it was."""
    return (owner < 0)[:, None, :, None]


def _placed(x: mx.array, cache: mx.array, owner: mx.array) -> mx.array:
    rows = _by_token(x)[mx.maximum(owner.reshape(-1), 0)]
    return mx.where(_kept(owner), cache, _by_head(rows, cache.shape[0]))


def _reference(interleaved: bool, *given: mx.array) -> Pair:
    k, v, k_cache, v_cache, owner, positions, words = given
    turned = rotated(k, positions, words, 1.0, ONE_SECTION, interleaved)
    owner = mx.stop_gradient(owner)
    return _placed(turned, k_cache, owner), _placed(v, v_cache, owner)


def _kernel_reference(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    return _reference(bool(template["INTERLEAVED"]), *inputs[:7])


_KERNEL = metal_kernel(
    "zmlx_rope_cache_update",
    ["k", "v", "k_cache", "v_cache", "owner", "positions", "words", "first", "second"],
    ["k_out", "v_out"],
    _rope_msl.CACHE,
    CHUNKS + _rope_msl.HEADER,
    reference=_kernel_reference,
)


def _forward(interleaved: bool, *given: mx.array) -> Pair:
    k, _, k_cache, v_cache, *_ = given
    pages, _, slots, length = k_cache.shape
    rows = pages * slots * groups(k_cache)
    longest = max(length, v_cache.shape[3])
    launch = _rows.span_launch(rows, longest, k.dtype.size, host_chunk=HOST_CHUNK)
    launch = _rows.Launch((*launch.template, ("INTERLEAVED", interleaved)), launch.grid, launch.threadgroup)
    outputs = [(k_cache.shape, k.dtype), (v_cache.shape, k.dtype)]
    k_out, v_out = launch.run(_KERNEL, [*given, *ONE_SECTION], outputs, T=k.dtype)
    return k_out, v_out


def _backward(interleaved: bool, *given: mx.array) -> Outputs:
    k_g, v_g, k, _, _, _, owner, positions, words = given
    count = k.shape[0] * k.shape[2]
    place = _last_of(mx.where(owner < 0, count, owner).reshape(-1), count)

    def of_tokens(cotangent: mx.array) -> mx.array:
        rows = _by_token(cotangent)[mx.maximum(place, 0)]
        return _by_head(mx.where((place >= 0)[:, None, None], rows, mx.zeros((), rows.dtype)), k.shape[0])

    dk = launch_rotation([of_tokens(k_g)], positions, words, -1.0, ONE_SECTION, interleaved)[0]
    kept = _kept(owner)
    integers = (mx.zeros_like(array) for array in (owner, positions, words))
    return (
        dk,
        of_tokens(v_g),
        *(mx.where(kept, cotangent, mx.zeros((), cotangent.dtype)) for cotangent in (k_g, v_g)),
        *integers,
    )


@lru_cache(maxsize=2)
def cache_update(interleaved: bool) -> Callable[..., Pair]:
    """``f(k, v, k_cache, v_cache, owner, positions, words)``: the caches with k, rotated, and v in their places."""
    return differentiable(
        lambda *given: _forward(interleaved, *given),
        lambda *given: _backward(interleaved, *given),
        lambda *given: _reference(interleaved, *given),
        row_arguments=4,
        cotangents=2,
        entries=True,  # owners are counted within an entry
    )
