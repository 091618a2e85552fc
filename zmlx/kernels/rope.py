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
from typing import Any

import mlx.core as mx

from zmlx.kernels import _check
from zmlx.kernels import _rope_angles as _angles
from zmlx.kernels._rope_angles import Places
from zmlx.kernels._rope_norm import norm_rotation
from zmlx.kernels._rope_rotate import ONE_SECTION, rotation

__all__ = ["mrope", "qk_norm_rope", "rope", "rope_qk"]


def rope(
    x: mx.array,
    positions: mx.array | None = None,
    *,
    offset: int | mx.array = 0,
    dims: int | None = None,
    interleaved: bool = False,
    base: float | None = None,
    scale: float = 1.0,
    freqs: mx.array | None = None,
) -> mx.array:
    """Rotate pairs ``(a, b)`` of each row to ``(a cos - b sin, b cos + a sin)`` of ``position * frequency``.

    Parameters
    ----------
    x
        Shape (B, ..., T, D) or (T, D), float32, float16 or bfloat16, in any memory layout; B sequences of T tokens.
    positions
        Integers of shape (T,) or (B, T), instead of ``offset``.
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
    freqs
        Shape (dims / 2,), instead of ``base``: the frequency of pair i is ``1 / freqs[i]``, as `mx.fast.rope` has it;
        infinity leaves a pair as it is. Zero and NaN have no meaning here. No gradient.

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
    _check_tokens(function, x, "x")
    dims = _angles.check_dims(function, x, dims)
    words = _angles.frequencies(function, dims, base, scale, freqs)
    where = _angles.placed(function, Places(offset, positions), *_sequences(x))
    if x.size == 0:
        return mx.zeros(x.shape, x.dtype)
    return _one(x, where, words, ONE_SECTION, interleaved)


def mrope(
    x: mx.array,
    positions: mx.array,
    *,
    sections: Sequence[int] = (16, 24, 24),
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
    _check_tokens(function, x, "x")
    dims = _angles.check_dims(function, x, dims)
    bounds = _angles.check_sections(function, sections, dims // 2)
    words = _angles.frequencies(function, dims, base, scale, freqs)
    where = _angles.section_positions(function, positions, *_sequences(x))
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
    _check_heads(function, q, "q")
    _check_beside(function, q, k, "q", "k")
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
    _check_heads(function, q, "q")
    _check_beside(function, q, k, "q", "k")
    for name, weight in (("q_weight", q_weight), ("k_weight", k_weight)):
        _check_head_weight(function, weight, name, q.shape[-1])
    eps = _check.check_eps(function, eps)
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


def _one(
    x: mx.array, where: mx.array, words: mx.array, bounds: tuple[int, int], interleaved: bool
) -> mx.array:
    sequences, tokens = _sequences(x)
    shaped = x.reshape(sequences, -1, tokens, x.shape[-1])
    result: mx.array = rotation(1, bounds, bool(interleaved))(shaped, where, words)
    return result.reshape(x.shape)


def _sequences(x: mx.array) -> tuple[int, int]:
    """How many sequences, and of how many tokens."""
    return (x.shape[0] if x.ndim > 2 else 1), x.shape[-2]


def _check_tokens(function: str, x: mx.array, name: str) -> None:
    _check.check_rows(function, x, name)
    if x.ndim < 2:
        raise ValueError(
            f"[{function}] Expected `{name}` to have shape (B, ..., T, D) or (T, D), got {tuple(x.shape)}. "
            f"For a single token pass {name}[None]."
        )


def _check_heads(function: str, x: mx.array, name: str) -> None:
    _check.check_rows(function, x, name)
    if x.ndim != 4:
        raise ValueError(
            f"[{function}] Expected `{name}` to have shape (B, H, T, D), got {tuple(x.shape)}. "
            "Reshape it: sequences, heads, tokens, elements of a head."
        )


def _check_beside(function: str, first: mx.array, x: mx.array, first_name: str, name: str) -> None:
    """``x`` has heads as ``first`` has, but for their number."""
    _check_heads(function, x, name)
    if x.dtype != first.dtype:
        raise TypeError(
            f"[{function}] Expected `{name}` to be of `{first_name}`'s dtype, {_dtype(first)}, got {_dtype(x)}. "
            f"Convert it first: {name}.astype({first_name}.dtype)."
        )
    expected = (first.shape[0], x.shape[1], *first.shape[2:])
    if tuple(x.shape) != expected:
        raise ValueError(
            f"[{function}] Expected `{name}` to have shape {expected} beside `{first_name}` of shape "
            f"{tuple(first.shape)}, got {tuple(x.shape)}. Only the number of heads may differ."
        )


def _check_head_weight(function: str, weight: mx.array, name: str, length: int) -> None:
    _check.check_rows(function, weight, name)
    if tuple(weight.shape) != (length,):
        raise ValueError(
            f"[{function}] Expected `{name}` to have shape ({length},), one number for each element of a head, "
            f"got {tuple(weight.shape)}."
        )


def _dtype(array: Any) -> str:
    return str(array.dtype).rpartition(".")[2]
