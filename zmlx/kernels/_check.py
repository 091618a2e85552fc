"""Checks of arrays that the kernels have in common. Every message says what was expected, what came, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from zmlx.kernels._check_numbers import check_eps

#: What the kernels compute on; they do their arithmetic in float32.
DTYPES = frozenset((mx.float32, mx.float16, mx.bfloat16))
#: Of positions, which are signed 32-bit numbers to the kernels.
INTEGERS = (mx.int8, mx.int16, mx.int32, mx.int64, mx.uint8, mx.uint16, mx.uint32)


def check_rows(function: str, x: mx.array, name: str = "x") -> None:
    """An array of a supported dtype with at least one dimension.

    Raises
    ------
    TypeError
        Not an MLX array, or of another dtype.
    ValueError
        A 0-d array.
    """
    check_array(function, x, name)
    check_axis(function, x, name)


def check_axis(function: str, x: mx.array, name: str) -> None:
    """An array with at least one dimension.

    Raises
    ------
    ValueError
        A 0-d array.
    """
    if x.ndim == 0:
        raise ValueError(
            f"[{function}] Expected `{name}` to have at least one dimension, got a 0-d array. "
            f"For a single element pass {name}.reshape(1)."
        )


def check_halves(function: str, x: mx.array) -> None:
    """As `check_rows`, and the last dimension is even.

    Raises
    ------
    ValueError
        The last dimension has no two halves.
    """
    check_rows(function, x)
    if x.shape[-1] % 2:
        raise ValueError(
            f"[{function}] Expected the last dimension of `x` to be even, since it holds two halves of one size, "
            f"got shape {tuple(x.shape)}. Concatenate gate and value along the last axis: "
            "mx.concatenate([gate, value], axis=-1)."
        )


def check_weight(function: str, weight: mx.array, x: mx.array, name: str, of: str = "x") -> None:
    """One number for each element of a row of ``x``, which is called ``of``, in any of the supported dtypes.

    Raises
    ------
    TypeError
        Not an MLX array, or of another dtype.
    ValueError
        Of another shape than ``(x.shape[-1],)``.
    """
    check_array(function, weight, name)
    expected = (x.shape[-1],)
    if tuple(weight.shape) != expected:
        raise ValueError(
            f"[{function}] Expected `{name}` to have shape {expected}, one number for each element of a row of `{of}` "
            f"(shape {tuple(x.shape)}), got {tuple(weight.shape)}."
        )


def check_beside(function: str, array: Any, x: mx.array, name: str, of: str = "x") -> mx.array:
    """An array of a supported dtype, or of bool, that broadcasts to the shape of ``x``.

    Returns
    -------
    mx.array
        It, with as many dimensions as ``x``.

    Raises
    ------
    TypeError
        Not an MLX array, or of another dtype.
    ValueError
        Of a shape that does not broadcast.
    """
    if not (isinstance(array, mx.array) and array.dtype == mx.bool_):
        check_array(function, array, name)
    return _broadcastable(function, array, tuple(x.shape), name, f"that of `{of}`")


def check_per_row(function: str, array: mx.array, x: mx.array, name: str, of: str = "x") -> mx.array:
    """An array of real numbers whose shape broadcasts to that of ``x`` without the last axis.

    Returns
    -------
    mx.array
        It, with one dimension less than ``x``.

    Raises
    ------
    TypeError
        Not an MLX array, or complex.
    ValueError
        Of a shape that does not broadcast.
    """
    check_mlx(function, array, name)
    if array.dtype == mx.complex64:
        raise TypeError(
            f"[{function}] Expected `{name}` to be of real numbers, got complex64. Convert it first: "
            f"{name}.astype(mx.float32)."
        )
    expected = f"one value for each row of `{of}` (shape {tuple(x.shape)})"
    return _broadcastable(function, array, tuple(x.shape[:-1]), name, expected)


def _broadcastable(
    function: str, array: mx.array, shape: tuple[int, ...], name: str, meaning: str
) -> mx.array:
    own = tuple(array.shape)
    padded = (1,) * (len(shape) - len(own)) + own
    if len(padded) != len(shape) or any(a not in (1, b) for a, b in zip(padded, shape, strict=True)):
        raise ValueError(
            f"[{function}] Expected `{name}` to have shape {shape}, {meaning}, or one that broadcasts to it; "
            f"got {own}."
        )
    return array if own == padded else array.reshape(padded)


def check_bool(function: str, array: Any, name: str) -> None:
    """An array of bool.

    Raises
    ------
    TypeError
        Not an MLX array, or of another dtype.
    """
    if not (isinstance(array, mx.array) and array.dtype == mx.bool_):
        came = dtype_name(array) if isinstance(array, mx.array) else type(array).__name__
        raise TypeError(
            f"[{function}] Expected `{name}` to be an mlx.core.array of bool, true where an element counts, "
            f"got {came}. Compare first, such as {name} != 0."
        )


def check_matrix(function: str, x: mx.array, meaning: str, name: str = "x") -> None:
    """An array of two dimensions at least.

    Raises
    ------
    ValueError
        It has fewer.
    """
    if x.ndim < 2:
        raise ValueError(
            f"[{function}] Expected `{name}` to have at least two dimensions, {meaning}; got shape {tuple(x.shape)}."
        )


def check_labels(function: str, labels: Any, x: mx.array, of: str) -> None:
    """One integer for each row of ``x``, which is called ``of``.

    Raises
    ------
    TypeError
        Not an MLX array of integers.
    ValueError
        Of another shape.
    """
    if not (isinstance(labels, mx.array) and mx.issubdtype(labels.dtype, mx.integer)):
        came = dtype_name(labels) if isinstance(labels, mx.array) else type(labels).__name__
        raise TypeError(
            f"[{function}] Expected `labels` to be an mlx.core.array of integers, got {came}. "
            "Convert it first: labels.astype(mx.int32)."
        )
    if tuple(labels.shape) != tuple(x.shape[:-1]):
        raise ValueError(
            f"[{function}] Expected `labels` to have shape {tuple(x.shape[:-1])}, one class for each row of `{of}` "
            f"(shape {tuple(x.shape)}), got {tuple(labels.shape)}."
        )


def check_matrix_of(function: str, weight: mx.array, x: mx.array, name: str, of: str) -> None:
    """A matrix whose rows are as long as those of ``x``, which is called ``of``, and of its dtype.

    Raises
    ------
    TypeError
        Not an MLX array, or of another dtype.
    ValueError
        Of another shape.
    """
    check_array(function, weight, name)
    if weight.dtype != x.dtype:
        raise TypeError(
            f"[{function}] Expected `{name}` to be {dtype_name(x)} as `{of}` is, got {dtype_name(weight)}. "
            f"Convert it first: {name}.astype({of}.dtype)."
        )
    if weight.ndim != 2 or weight.shape[-1] != x.shape[-1]:
        raise ValueError(
            f"[{function}] Expected `{name}` to have shape (V, {x.shape[-1]}), a row as long as those of `{of}` for "
            f"each class, got {tuple(weight.shape)}."
        )


def check_norm(function: str, x: mx.array, eps: float, **weights: mx.array) -> float:
    """The arguments of a normalisation of rows: `check_rows`, `check_weight` of each weight by its name, `check_eps`.

    Returns
    -------
    float
        ``eps``.
    """
    check_rows(function, x)
    for name, weight in weights.items():
        check_weight(function, weight, x, name)
    return check_eps(function, eps)


def check_shape(function: str, value: mx.array, name: str, shape: tuple[int, ...], meaning: str) -> None:
    """An array of a supported dtype and of one shape, whose ``meaning`` the message adds.

    Raises
    ------
    TypeError
        Not an MLX array, or of another dtype.
    ValueError
        Of another shape.
    """
    check_array(function, value, name)
    if tuple(value.shape) != shape:
        raise ValueError(
            f"[{function}] Expected `{name}` to have shape {shape}, {meaning}, got {tuple(value.shape)}."
        )


def check_dimensions(function: str, x: mx.array, name: str, least: int, meaning: str) -> None:
    """An array of a supported dtype with so many dimensions, or more.

    Raises
    ------
    TypeError
        Not an MLX array, or of another dtype.
    ValueError
        Of fewer dimensions.
    """
    check_array(function, x, name)
    if x.ndim < least:
        raise ValueError(
            f"[{function}] Expected `{name}` to have at least {least} dimensions, {meaning}, got shape "
            f"{tuple(x.shape)}."
        )


def check_arrays(function: str, names: Sequence[str], arrays: Sequence[Any]) -> None:
    """Arrays, by their names, of one supported dtype.

    Raises
    ------
    TypeError
        One is not an MLX array, or of another dtype, or they are of several.
    """
    for name, array in zip(names, arrays, strict=True):
        check_array(function, array, name)
    first = arrays[0]
    dtype = first.dtype  # which MLX makes anew each time
    for name, array in zip(names[1:], arrays[1:], strict=True):
        if array.dtype != dtype:
            raise TypeError(
                f"[{function}] Expected `{name}` to be {dtype_name(first)} as `{names[0]}` is, "
                f"got {dtype_name(array)}. Convert one of them first: {name}.astype(mx.{dtype_name(first)})."
            )


def check_array(function: str, value: object, name: str) -> None:
    """An array of a supported dtype.

    Raises
    ------
    TypeError
        Not an MLX array, or of another dtype.
    """
    array = check_mlx(function, value, name)
    if array.dtype not in DTYPES:
        raise TypeError(
            f"[{function}] Expected `{name}` to be float32, float16 or bfloat16, got {dtype_name(array)}. "
            f"Convert it first: {name}.astype(mx.float32)."
        )


def check_integers(function: str, value: object, name: str) -> None:
    """An array of integers of up to 64 bits, of which unsigned ones have up to 32.

    Raises
    ------
    TypeError
        Not an MLX array, or of another dtype.
    """
    if not isinstance(value, mx.array):
        raise TypeError(
            f"[{function}] Expected `{name}` to be an mlx.core.array of integers, got {type(value).__name__}. "
            f"Convert it first: mx.array({name})."
        )
    if value.dtype not in INTEGERS:
        raise TypeError(
            f"[{function}] Expected `{name}` to be integers, got {dtype_name(value)}. "
            f"Convert it first: {name}.astype(mx.int32)."
        )


def check_mlx(function: str, value: object, name: str) -> mx.array:
    """An MLX array, of whatever dtype.

    Raises
    ------
    TypeError
        Anything else.
    """
    if not isinstance(value, mx.array):
        raise TypeError(
            f"[{function}] Expected `{name}` to be an mlx.core.array, got {type(value).__name__}. "
            f"Convert it first: mx.array({name})."
        )
    return value


def dtype_name(array: mx.array) -> str:
    """Such as "float32"."""
    return str(array.dtype).rpartition(".")[2]
