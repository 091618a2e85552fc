"""Checks of arguments that say where rows are or go. What they say cannot be looked at before it is computed."""

from __future__ import annotations

import mlx.core as mx

from zmlx.kernels import _check


def int32(indices: mx.array) -> mx.array:
    """One dtype for all kernels; what is too large for it becomes negative, which is out of range too."""
    return indices.astype(mx.int32)


def check_indices(
    function: str,
    indices: mx.array,
    shape: tuple[int, ...] | None = None,
    of: str = "",
    name: str = "indices",
) -> mx.array:
    """int32 or uint32, one for each row of ``of`` unless ``shape`` is None; returned as int32."""
    if _check.check_mlx(function, indices, name).dtype not in (mx.int32, mx.uint32):
        raise TypeError(
            f"[{function}] Expected `{name}` to be int32 or uint32, got {_check.dtype_name(indices)}. "
            f"Convert it first: {name}.astype(mx.int32)."
        )
    if shape is not None and tuple(indices.shape) != shape:
        raise ValueError(
            f"[{function}] Expected `{name}` to have shape {shape}, one for each row of `{of}`, got "
            f"{tuple(indices.shape)}."
        )
    return int32(indices)


def check_order(
    function: str, order: mx.array, positions: mx.array, tokens: tuple[int, ...], of: str
) -> mx.array:
    """What `expert_order` returns, k slots for each of ``tokens``, which ``of`` names; ``order`` as int32."""
    places = check_indices(function, order, name="order")
    check_indices(function, positions, name="positions")
    fits = order.ndim == 1 and order.size == positions.size and tuple(positions.shape[:-1]) == tokens
    if not fits or positions.ndim == 0:
        raise ValueError(
            f"[{function}] Expected `positions` to have shape {(*tokens, 'k')}, k for each of {of}, and `order` as "
            f"many values in one dimension, got shapes {tuple(positions.shape)} and {tuple(order.shape)}. Pass what "
            "expert_order returns."
        )
    return places


def check_rows_of(function: str, x: mx.array, y: mx.array, name: str, two: str) -> None:
    """``y`` has rows like ``x``; the one that is called ``two`` has two dimensions."""
    _check.check_rows(function, y, name)
    if y.dtype != x.dtype:
        raise TypeError(
            f"[{function}] Expected `{name}` to have the dtype of `x`, {_check.dtype_name(x)}, got "
            f"{_check.dtype_name(y)}. Convert it first: {name}.astype(x.dtype)."
        )
    matrix = x if two == "x" else y
    if matrix.ndim != 2 or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"[{function}] Expected `{two}` to have two dimensions, and `x` and `{name}` rows of one length, "
            f"got shapes {tuple(x.shape)} and {tuple(y.shape)}."
        )
