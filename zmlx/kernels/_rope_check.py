"""Checks of what is rotated: arrays of tokens, of heads, of caches. Every message says what was expected, and came."""

from __future__ import annotations

import mlx.core as mx

from zmlx.kernels import _check


def check_tokens(function: str, x: mx.array, name: str) -> None:
    """Rows of tokens, (B, ..., T, D) or (T, D)."""
    _check.check_rows(function, x, name)
    if x.ndim < 2:
        raise ValueError(
            f"[{function}] Expected `{name}` to have shape (B, ..., T, D) or (T, D), got {tuple(x.shape)}. "
            f"For a single token pass {name}[None]."
        )


def check_heads(function: str, x: mx.array, name: str) -> None:
    """Heads of tokens, (B, H, T, D)."""
    _check.check_rows(function, x, name)
    if x.ndim != 4:
        raise ValueError(
            f"[{function}] Expected `{name}` to have shape (B, H, T, D), got {tuple(x.shape)}. "
            "Reshape it: sequences, heads, tokens, elements of a head."
        )


def check_beside(function: str, first: mx.array, x: mx.array, first_name: str, name: str) -> None:
    """``x`` has heads as ``first`` has, but for their number."""
    check_heads(function, x, name)
    check_dtype(function, first, x, first_name, name)
    expected = (first.shape[0], x.shape[1], *first.shape[2:])
    check_shape(function, x, name, expected, first_name, first)


def check_head_weight(function: str, weight: mx.array, name: str, length: int) -> None:
    """One number for each element of a head."""
    _check.check_shape(function, weight, name, (length,), "one number for each element of a head")


def check_cache(
    function: str,
    new: tuple[mx.array, mx.array],
    caches: tuple[mx.array, mx.array],
    names: tuple[str, str],
    sequences: int | None = None,
) -> None:
    """Keys and values of new tokens, and the caches that they go to; ``sequences``: of which a cache has as many."""
    k, v = new
    check_heads(function, k, "k")
    for name, x in (("v", v), (names[0], caches[0]), (names[1], caches[1])):
        check_heads(function, x, name)
        check_dtype(function, k, x, "k", name)
    check_shape(function, v, "v", (*k.shape[:3], v.shape[3]), "k", k)
    outer = caches[0].shape[0] if sequences is None else sequences
    slots = caches[0].shape[2]
    for name, cache, beside_name, beside in zip(names, caches, "kv", new, strict=True):
        expected = (outer, beside.shape[1], slots, beside.shape[3])
        check_shape(function, cache, name, expected, beside_name, beside)


def check_block_table(function: str, block_table: mx.array, sequences: int) -> None:
    """Integers, a row for each sequence."""
    _check.check_integers(function, block_table, "block_table")
    if block_table.ndim != 2 or block_table.shape[0] != sequences:
        raise ValueError(
            f"[{function}] Expected `block_table` to have shape ({sequences}, M), the pages of each sequence in order, "
            f"got {tuple(block_table.shape)}."
        )


def check_dtype(function: str, first: mx.array, x: mx.array, first_name: str, name: str) -> None:
    """``x`` is of the dtype of ``first``."""
    if x.dtype != first.dtype:
        raise TypeError(
            f"[{function}] Expected `{name}` to be of `{first_name}`'s dtype, {_check.dtype_name(first)}, "
            f"got {_check.dtype_name(x)}. Convert it first: {name}.astype({first_name}.dtype)."
        )


def check_shape(
    function: str, x: mx.array, name: str, expected: tuple[int, ...], beside_name: str, beside: mx.array
) -> None:
    """``x`` has the shape that goes with that of ``beside``."""
    if tuple(x.shape) != expected:
        raise ValueError(
            f"[{function}] Expected `{name}` to have shape {expected} beside `{beside_name}` of shape "
            f"{tuple(beside.shape)}, got {tuple(x.shape)}."
        )


def sequences_and_tokens(x: mx.array) -> tuple[int, int]:
    """How many sequences, and of how many tokens."""
    return (x.shape[0] if x.ndim > 2 else 1), x.shape[-2]
