"""Rotary position embedding: rotations of pairs of numbers by angles that grow with a token's position.

All take positions as one of

``offset``
    The position of the first token, an integer or an array of one for each sequence; tokens follow each other.
``positions``
    One for each token, shared by all sequences or not.

The angle of pair i is ``position * scale * base ** (-2 * i / dims)``. Its fraction of a turn is computed by 64-bit
integers, exactly up to the rounding of the frequency to 2**-64 of a turn: the angle of any position of 32 bits is as
exact as float32 can hold it, on all back ends alike. (A float32 product is off by 0.06 at position 2**20.)
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from zmlx.kernels import _check_numbers
from zmlx.kernels import _rope_angles as _angles
from zmlx.kernels import _rope_check as _tokens
from zmlx.kernels._rope_angles import Places
from zmlx.kernels._rope_cache import cache_update, contiguous_owners, paged_owners
from zmlx.kernels._rope_norm import norm_rotation
from zmlx.kernels._rope_rotate import ONE_SECTION, rotation

__all__ = ["mrope", "qk_norm_rope", "rope", "rope_cache_update", "rope_paged_cache_update", "rope_qk"]


def rope(
    x: mx.array,
    positions: mx.array | None = None,
    freqs: mx.array | None = None,
    *,
    offset: int | mx.array = 0,
    dims: int | None = None,
    interleaved: bool = False,
    base: float | None = None,
    scale: float = 1.0,
) -> mx.array:
    """Rotate pairs ``(a, b)`` of each row to ``(a cos - b sin, b cos + a sin)`` of ``position * frequency``.

    Parameters
    ----------
    x
        Shape (B, ..., T, D) or (T, D), float32, float16 or bfloat16, in any memory layout; B sequences of T tokens.
    positions
        Integers of shape (T,) or (B, T), instead of ``offset``.
    freqs
        Shape (dims / 2,), instead of ``base``: the frequency of pair i is ``1 / freqs[i]``, as `mx.fast.rope` has it;
        infinity leaves a pair as it is. Zero and NaN have no meaning here. No gradient.
    offset
        The position of the first token: an integer, or integers of shape () or (B,).
    dims
        How many leading elements of a row are rotated, an even number; the others are left as they are. D by default.
    interleaved
        False: a pair is elements i and i + dims / 2 (NeoX, Llama). True: elements 2 i and 2 i + 1 (GPT-J; MLX calls it
        ``traditional``).
    base
        The frequency of pair i is ``base ** (-2 * i / dims)``; 10000 by default.
    scale
        Positions are multiplied by it.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32.

    Raises
    ------
    TypeError
        ``x`` or ``freqs`` is not an MLX array of one of these dtypes, positions are not integers, or ``base`` or
        ``scale`` is not a number.
    ValueError
        ``x`` has less than two dimensions, shapes do not fit, ``dims`` is odd or too large, ``base`` is not positive,
        or two arguments are given of which one replaces the other.

    Notes
    -----
    Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding (arXiv:2104.09864), equation 34. The
    gradient is the rotation by the opposite angle. Results are those of `mx.fast.rope`, but for its angles at large
    positions.
    """
    function = "rope"
    _tokens.check_tokens(function, x, "x")
    dims = _angles.check_dims(function, x, dims)
    words = _angles.frequencies(function, dims, base, scale, freqs)
    where = _angles.placed(function, Places(offset, positions), *_tokens.sequences_and_tokens(x))
    if x.size == 0:
        return mx.zeros(x.shape, x.dtype)
    return _one(x, where, words, ONE_SECTION, interleaved)


def mrope(
    x: mx.array,
    positions: mx.array,
    sections: Sequence[int] = (16, 24, 24),
    *,
    dims: int | None = None,
    interleaved: bool = False,
    base: float | None = None,
    scale: float = 1.0,
    freqs: mx.array | None = None,
) -> mx.array:
    """`rope` with three positions for each token: in time, by height and by width (M-RoPE).

    Parameters
    ----------
    x
        Shape (B, ..., T, D) or (T, D), float32, float16 or bfloat16, in any memory layout.
    positions
        Integers of shape (3, T) or (3, B, T).
    sections
        Three numbers of pairs, ``dims / 2`` together: so many pairs, in order, take the temporal position, that of the
        height, and that of the width. By default those of Qwen2-VL.
    dims, interleaved, base, scale, freqs
        As for `rope`.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32.

    Raises
    ------
    TypeError
        As for `rope`.
    ValueError
        As for `rope`, or ``sections`` are not three or have another sum.

    Notes
    -----
    Wang et al., Qwen2-VL (arXiv:2409.12191), section 2.1. Where the three positions are the same it is `rope`.
    """
    function = "mrope"
    _tokens.check_tokens(function, x, "x")
    dims = _angles.check_dims(function, x, dims)
    bounds = _angles.check_sections(function, sections, dims // 2)
    words = _angles.frequencies(function, dims, base, scale, freqs)
    where = _angles.section_positions(function, positions, *_tokens.sequences_and_tokens(x))
    if x.size == 0:
        return mx.zeros(x.shape, x.dtype)
    return _one(x, where, words, bounds, interleaved)


def rope_qk(
    q: mx.array,
    k: mx.array,
    positions: mx.array | None = None,
    *,
    offset: int | mx.array = 0,
    dims: int | None = None,
    interleaved: bool = False,
    base: float | None = None,
    scale: float = 1.0,
    freqs: mx.array | None = None,
) -> tuple[mx.array, mx.array]:
    """`rope` of queries and keys in one launch; there may be fewer heads of keys (grouped queries).

    Parameters
    ----------
    q, k
        Shape (B, H, T, D) and (B, K, T, D), of one dtype: float32, float16 or bfloat16, in any memory layout.
    positions, offset, dims, interleaved, base, scale, freqs
        As for `rope`.

    Returns
    -------
    tuple of mx.array
        ``q`` and ``k`` rotated, of their shapes and dtype.

    Raises
    ------
    TypeError
        As for `rope`, or the dtypes of ``q`` and ``k`` differ.
    ValueError
        As for `rope`, or ``q`` and ``k`` differ in more than their heads.

    Notes
    -----
    Su et al., RoFormer (arXiv:2104.09864), equation 34; Ainslie et al., GQA (arXiv:2305.13245).
    """
    function = "rope_qk"
    _tokens.check_heads(function, q, "q")
    _tokens.check_beside(function, q, k, "q", "k")
    dims = _angles.check_dims(function, q, dims, "q")
    words = _angles.frequencies(function, dims, base, scale, freqs)
    where = _angles.placed(function, Places(offset, positions), q.shape[0], q.shape[2])
    if q.size == 0 or k.size == 0:
        alone = [
            _one(x, where, words, ONE_SECTION, interleaved) if x.size else mx.zeros(x.shape, x.dtype)
            for x in (q, k)
        ]
        return alone[0], alone[1]
    both: tuple[mx.array, mx.array] = rotation(2, ONE_SECTION, bool(interleaved))(q, k, where, words)
    return both


def qk_norm_rope(
    q: mx.array,
    k: mx.array,
    q_weight: mx.array,
    k_weight: mx.array,
    positions: mx.array | None = None,
    *,
    eps: float = 1e-6,
    offset: int | mx.array = 0,
    dims: int | None = None,
    interleaved: bool = False,
    base: float | None = None,
    scale: float = 1.0,
    freqs: mx.array | None = None,
) -> tuple[mx.array, mx.array]:
    """RMS norm of each head of queries and keys, then `rope`, in one pass (QK-norm, as in Qwen3 and Gemma 3).

    Parameters
    ----------
    q, k
        Shape (B, H, T, D) and (B, K, T, D), of one dtype: float32, float16 or bfloat16, in any memory layout.
    q_weight, k_weight
        Shape (D,), of any of these dtypes.
    eps
        Added to the mean squares; zero or more.
    positions, offset, dims, interleaved, base, scale, freqs
        As for `rope`. What is not rotated is normalised all the same.

    Returns
    -------
    tuple of mx.array
        ``rope(x / sqrt(mean(x**2) + eps) * weight)`` of ``q`` and of ``k``, of their shapes and dtype; computed in
        float32, and rounded once.

    Raises
    ------
    TypeError
        As for `rope`, the dtypes of ``q`` and ``k`` differ, or ``eps`` is not a number.
    ValueError
        As for `rope`, ``q`` and ``k`` differ in more than their heads, a weight does not have shape (D,), or ``eps`` is
        negative or not finite.

    Notes
    -----
    Henry et al., Query-Key Normalization for Transformers (arXiv:2010.04245), with the RMS norm of Zhang and Sennrich
    (arXiv:1910.07467), equation 4; Su et al., RoFormer (arXiv:2104.09864), equation 34. Squares overflow beyond 1.8e19.
    """
    function = "qk_norm_rope"
    _tokens.check_heads(function, q, "q")
    _tokens.check_beside(function, q, k, "q", "k")
    for name, weight in (("q_weight", q_weight), ("k_weight", k_weight)):
        _tokens.check_head_weight(function, weight, name, q.shape[-1])
    eps = _check_numbers.check_eps(function, eps)
    dims = _angles.check_dims(function, q, dims, "q")
    words = _angles.frequencies(function, dims, base, scale, freqs)
    where = _angles.placed(function, Places(offset, positions), q.shape[0], q.shape[2])
    turn = norm_rotation(eps, bool(interleaved))
    if q.size and k.size:
        return turn(q, k, q_weight, k_weight, where, words)
    # Where one of them has no heads, the other is the whole work.
    alone = [
        turn(x, x[:, :1], weight, weight, where, words)[0] if x.size else mx.zeros(x.shape, x.dtype)
        for x, weight in ((q, q_weight), (k, k_weight))
    ]
    return alone[0], alone[1]


def rope_cache_update(
    k: mx.array,
    v: mx.array,
    k_cache: mx.array,
    v_cache: mx.array,
    *,
    offset: int | mx.array = 0,
    dims: int | None = None,
    interleaved: bool = False,
    base: float | None = None,
    scale: float = 1.0,
    freqs: mx.array | None = None,
) -> tuple[mx.array, mx.array]:
    """Caches with new tokens from ``offset`` on: keys after `rope` at these positions, and values, in one launch.

    Parameters
    ----------
    k, v
        Shape (B, H, T, D) and (B, H, T, E), of one dtype: float32, float16 or bfloat16, in any memory layout.
    k_cache, v_cache
        Shape (B, H, S, D) and (B, H, S, E), of the same dtype.
    offset
        The position of the first token, and its place in the cache: an integer from 0 to S - T, or integers of shape ()
        or (B,). Of an array the values are not looked at; tokens that fall outside of the cache are left out.
    dims, interleaved, base, scale, freqs
        As for `rope`.

    Returns
    -------
    tuple of mx.array
        New arrays: copies of ``k_cache`` and ``v_cache`` in which the tokens have their places. MLX arrays do not
        change, so the whole cache is read and written.

    Raises
    ------
    TypeError
        As for `rope`, or dtypes differ.
    ValueError
        As for `rope`, shapes do not fit together, or an integer ``offset`` leaves the cache.

    Notes
    -----
    Su et al., RoFormer (arXiv:2104.09864), equation 34. Gradients reach new tokens and what is left of the caches.
    """
    function = "rope_cache_update"
    _tokens.check_cache(function, (k, v), (k_cache, v_cache), ("k_cache", "v_cache"), sequences=k.shape[0])
    dims = _angles.check_dims(function, k, dims, "k")
    words = _angles.frequencies(function, dims, base, scale, freqs)
    sequences, _, tokens, _ = k.shape
    where = _angles.placed(function, Places(offset), sequences, tokens)
    slots = k_cache.shape[2]
    if not isinstance(offset, mx.array) and not 0 <= offset <= slots - tokens:
        raise ValueError(
            f"[{function}] Expected `offset` to be from 0 to {slots - tokens}, so that {tokens} tokens fit into a "
            f"cache of {slots}, got {offset}."
        )
    if k.size == 0 and v.size == 0:
        return k_cache, v_cache
    owner = contiguous_owners(where, slots, sequences, tokens)
    return cache_update(bool(interleaved))(k, v, k_cache, v_cache, owner, where, words)


def rope_paged_cache_update(
    k: mx.array,
    v: mx.array,
    k_pages: mx.array,
    v_pages: mx.array,
    block_table: mx.array,
    *,
    offset: int | mx.array = 0,
    dims: int | None = None,
    interleaved: bool = False,
    base: float | None = None,
    scale: float = 1.0,
    freqs: mx.array | None = None,
) -> tuple[mx.array, mx.array]:
    """`rope_cache_update` for a cache in pages, which sequences have by a block table.

    Parameters
    ----------
    k, v
        Shape (B, H, T, D) and (B, H, T, E), of one dtype: float32, float16 or bfloat16, in any memory layout.
    k_pages, v_pages
        Shape (P, H, S, D) and (P, H, S, E), of the same dtype: P pages of S tokens.
    block_table
        Integers of shape (B, M): the token at position p of sequence b is in page ``block_table[b, p // S]``, at place
        ``p % S``. The values are not looked at: tokens beyond the table, or of pages that are not there (such as -1),
        are left out; of two with one place the later has it.
    offset
        The position of the first token: an integer, or integers of shape () or (B,).
    dims, interleaved, base, scale, freqs
        As for `rope`.

    Returns
    -------
    tuple of mx.array
        New arrays, as `rope_cache_update` has them.

    Raises
    ------
    TypeError
        As for `rope_cache_update`, or ``block_table`` is not an array of integers.
    ValueError
        As for `rope_cache_update`, or ``block_table`` does not have B rows.

    Notes
    -----
    Kwon et al., PagedAttention (arXiv:2309.06180), section 4.2, for the block table; Su et al., RoFormer
    (arXiv:2104.09864), equation 34.
    """
    function = "rope_paged_cache_update"
    _tokens.check_cache(function, (k, v), (k_pages, v_pages), ("k_pages", "v_pages"))
    _tokens.check_block_table(function, block_table, k.shape[0])
    dims = _angles.check_dims(function, k, dims, "k")
    words = _angles.frequencies(function, dims, base, scale, freqs)
    where = _angles.placed(function, Places(offset), k.shape[0], k.shape[2])
    pages, _, slots, _ = k_pages.shape
    if (k.size == 0 and v.size == 0) or 0 in (pages, slots, block_table.size):
        return k_pages, v_pages
    owner = paged_owners(where, block_table, pages, slots, k.shape[2])
    return cache_update(bool(interleaved))(k, v, k_pages, v_pages, owner, where, words)


def _one(
    x: mx.array, where: mx.array, words: mx.array, bounds: tuple[int, int], interleaved: bool
) -> mx.array:
    sequences, tokens = _tokens.sequences_and_tokens(x)
    shaped = x.reshape(sequences, -1, tokens, x.shape[-1])
    result: mx.array = rotation(1, bounds, bool(interleaved))(shaped, where, words)
    return result.reshape(x.shape)
