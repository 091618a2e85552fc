"""Rotary position embeddings in float64: what the kernels are held against, with gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx.testing.op_db._shared import Float64Array, quiet

Integers = NDArray[np.int32]


def _angles(
    positions: Any, dims: int, base: float, scale: float, freqs: Float64Array | None = None
) -> Float64Array:
    """Positions of any shape times the frequencies, which are a further axis."""
    frequencies = base ** (-2 * np.arange(dims // 2) / dims) if freqs is None else 1 / freqs
    return np.asarray(np.asarray(positions, np.float64)[..., None] * scale * frequencies)


def _turned(x: Float64Array, angles: Float64Array, interleaved: bool) -> Float64Array:
    """Equation 34: pairs of the leading elements of rows, rotated; angles have as many axes as x, or fewer."""
    pairs = angles.shape[-1]
    first, second = (
        (slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2))
        if interleaved
        else (slice(0, pairs), slice(pairs, 2 * pairs))
    )
    a, b = x[..., first], x[..., second]
    y = np.array(x, dtype=np.float64)
    with quiet():
        y[..., first] = a * np.cos(angles) - b * np.sin(angles)
        y[..., second] = b * np.cos(angles) + a * np.sin(angles)
    return y


def _of_tokens(x: Float64Array, positions: Integers | None, offset: int) -> Integers:
    """The position of every token, in as many axes as x has but for the last."""
    if positions is None:
        return np.asarray(offset + np.arange(x.shape[-2], dtype=np.int64))
    if positions.ndim < 2:
        return positions
    return positions.reshape(positions.shape[0], *(1,) * (x.ndim - 3), positions.shape[1])


def rope(
    x: Float64Array,
    positions: Integers | None = None,
    freqs: Float64Array | None = None,
    *,
    offset: int = 0,
    dims: int | None = None,
    interleaved: bool = False,
    base: float = 10000.0,
    scale: float = 1.0,
    sign: int = 1,
) -> Float64Array:
    places = _of_tokens(x, positions, offset)
    angles = sign * _angles(places, x.shape[-1] if dims is None else dims, base, scale, freqs)
    return _turned(x, angles, interleaved)


def rope_vjp(x: Float64Array, *positions_and_cotangent: Any, **kwargs: Any) -> tuple[Float64Array]:
    """A rotation's transpose is the rotation by the opposite angle."""
    *positions, cotangent = positions_and_cotangent
    return (rope(cotangent, *positions, sign=-1, **kwargs),)


def rope_qk(q: Float64Array, k: Float64Array, *positions: Any, **kwargs: Any) -> tuple[Float64Array, ...]:
    return rope(q, *positions, **kwargs), rope(k, *positions, **kwargs)


def rope_qk_vjp(
    q: Float64Array, k: Float64Array, *positions_and_cotangents: Any, **kwargs: Any
) -> tuple[Any, ...]:
    *positions, (dq, dk) = positions_and_cotangents
    return rope_qk(dq, dk, *positions, sign=-1, **kwargs)


def mrope(
    x: Float64Array,
    positions: Integers,
    *,
    sections: tuple[int, int, int],
    dims: int | None = None,
    interleaved: bool = False,
    base: float = 10000.0,
    scale: float = 1.0,
    sign: int = 1,
) -> Float64Array:
    dims = x.shape[-1] if dims is None else dims
    tables = [sign * _angles(_of_tokens(x, axis, 0), dims, base, scale) for axis in positions]
    which = np.repeat(np.arange(3), sections)
    angles = np.stack([tables[axis][..., pair] for pair, axis in enumerate(which)], axis=-1)
    return _turned(x, angles, interleaved)


def mrope_vjp(
    x: Float64Array, positions: Integers, cotangent: Float64Array, **kwargs: Any
) -> tuple[Float64Array]:
    return (mrope(cotangent, positions, sign=-1, **kwargs),)


def _head_scale(x: Float64Array, eps: float) -> Float64Array:
    return np.asarray(1 / np.sqrt(np.sum(x * x, axis=-1, keepdims=True) / x.shape[-1] + eps))


def qk_norm_rope(*arrays: Any, eps: float = 1e-6, **kwargs: Any) -> tuple[Float64Array, ...]:
    q, k, q_weight, k_weight, *positions = arrays
    with quiet():
        normal = [x * _head_scale(x, eps) * weight for x, weight in ((q, q_weight), (k, k_weight))]
    return tuple(rope(x, *positions, **kwargs) for x in normal)


def qk_norm_rope_vjp(*arrays: Any, eps: float = 1e-6, **kwargs: Any) -> tuple[Float64Array, ...]:
    q, k, q_weight, k_weight, *positions, cotangents = arrays
    gradients = []
    with quiet():
        for x, weight, cotangent in zip((q, k), (q_weight, k_weight), cotangents, strict=True):
            back = rope(cotangent, *positions, sign=-1, **kwargs)
            scale = _head_scale(x, eps)
            normal = x * scale
            mean = np.sum(back * weight * normal, axis=-1, keepdims=True) / x.shape[-1]
            gradients += [scale * (back * weight - normal * mean), np.sum(back * normal, axis=(0, 1, 2))]
    dq, dq_weight, dk, dk_weight = gradients
    return dq, dk, dq_weight, dk_weight


def _owners(
    k: Float64Array, cache: Float64Array, offset: int, block_table: Integers | None
) -> dict[tuple[int, int], tuple[int, int]]:
    """(sequence, token) by (page, place): who has a place of the cache, the last that asks for it."""
    pages, _, slots, _ = cache.shape
    owners = {}
    for sequence in range(k.shape[0]):
        for token in range(k.shape[2]):
            page, place = sequence, offset + token
            if block_table is not None:
                block, place = divmod(place, slots)
                page = int(block_table[sequence, block]) if block < block_table.shape[1] else -1
            if 0 <= page < pages and 0 <= place < slots:
                owners[page, place] = (sequence, token)
            elif block_table is None:
                raise ValueError(f"{k.shape[2]} tokens from {offset} on do not fit into a cache of {slots}.")
    return owners


def paged_update(*arrays: Any, offset: int = 0, **kwargs: Any) -> tuple[Float64Array, ...]:
    """Keys, rotated, and values in the places that the block table gives them."""
    k, v, k_cache, v_cache, *tables = arrays
    owners = _owners(k, k_cache, offset, tables[0] if tables else None)
    turned = rope(k, offset=offset, **kwargs)
    new = tuple(np.array(cache, dtype=np.float64) for cache in (k_cache, v_cache))
    for (page, place), (sequence, token) in owners.items():
        for cache, x in zip(new, (turned, v), strict=True):
            cache[page, :, place] = x[sequence, :, token]
    return new


def paged_update_vjp(*arrays: Any, offset: int = 0, **kwargs: Any) -> tuple[Float64Array, ...]:
    """A cotangent goes to who has the place."""
    k, v, k_cache, _, *tables, cotangents = arrays
    owners = _owners(k, k_cache, offset, tables[0] if tables else None)
    caches = [np.array(cotangent, dtype=np.float64) for cotangent in cotangents]
    tokens = [np.zeros(np.shape(x)) for x in (k, v)]
    for (page, place), (sequence, token) in owners.items():
        for cache, x in zip(caches, tokens, strict=True):
            x[sequence, :, token] = cache[page, :, place]
            cache[page, :, place] = 0
    return rope(tokens[0], offset=offset, sign=-1, **kwargs), tokens[1], *caches


#: Without a table a sequence has the page of its number.
cache_update, cache_update_vjp = paged_update, paged_update_vjp
