"""Checks of arguments that the kernels have in common. Every message says what was expected, what came, what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import mlx.core as mx

#: What the kernels compute on; they do their arithmetic in float32.
DTYPES = (mx.float32, mx.float16, mx.bfloat16)


def check_rows(function: str, x: mx.array, name: str = "x") -> None:
    """An array of a supported dtype with at least one dimension.

    Raises
    ------
    TypeError
        Not an MLX array, or of another dtype.
    ValueError
        A 0-d array.
    """
    _check_array(function, x, name)
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


def check_weight(function: str, weight: mx.array, x: mx.array, name: str) -> None:
    """One number for each element of a row of ``x``, in any of the supported dtypes.

    Raises
    ------
    TypeError
        Not an MLX array, or of another dtype.
    ValueError
        Of another shape than ``(x.shape[-1],)``.
    """
    _check_array(function, weight, name)
    expected = (x.shape[-1],)
    if tuple(weight.shape) != expected:
        raise ValueError(
            f"[{function}] Expected `{name}` to have shape {expected}, one number for each element of a row of `x` "
            f"(shape {tuple(x.shape)}), got {tuple(weight.shape)}."
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


def check_eps(function: str, eps: float) -> float:
    """A finite number, zero or more, as a float.

    Raises
    ------
    TypeError
        Not a Python number.
    ValueError
        Negative or not finite.
    """
    if isinstance(eps, bool) or not isinstance(eps, (int, float)):
        raise TypeError(
            f"[{function}] Expected `eps` to be a number, got {type(eps).__name__}. Pass a float."
        )
    if not (math.isfinite(eps) and eps >= 0):
        raise ValueError(f"[{function}] Expected `eps` to be finite and not negative, got {eps!r}.")
    return float(eps)


def check_shape(function: str, value: mx.array, name: str, shape: tuple[int, ...], meaning: str) -> None:
    """An array of a supported dtype and of one shape, whose ``meaning`` the message adds.

    Raises
    ------
    TypeError
        Not an MLX array, or of another dtype.
    ValueError
        Of another shape.
    """
    _check_array(function, value, name)
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
    _check_array(function, x, name)
    if x.ndim < least:
        raise ValueError(
            f"[{function}] Expected `{name}` to have at least {least} dimensions, {meaning}, got shape "
            f"{tuple(x.shape)}."
        )


def check_number(function: str, value: object, name: str, low: float, below: float = math.inf) -> float:
    """A Python number, ``low <= value < below``, as a float.

    Raises
    ------
    TypeError
        Not a Python number.
    ValueError
        Beyond the bounds, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            f"[{function}] Expected `{name}` to be a number, got {type(value).__name__}. Pass a float."
        )
    if not low <= value < below:
        bounds = f"at least {low:g}" if below == math.inf else f"at least {low:g} and less than {below:g}"
        raise ValueError(f"[{function}] Expected `{name}` to be {bounds}, got {value!r}.")
    return float(value)


def check_integer(function: str, value: object, name: str, low: int, high: int) -> int:
    """A Python integer, ``low <= value <= high``.

    Raises
    ------
    TypeError
        Not a Python integer.
    ValueError
        Beyond the bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"[{function}] Expected `{name}` to be an integer, got {type(value).__name__}. Pass an int."
        )
    if not low <= value <= high:
        raise ValueError(f"[{function}] Expected `{name}` to be from {low} to {high}, got {value}.")
    return value


def check_choice(function: str, value: object, name: str, choices: Sequence[object]) -> None:
    """One of some values.

    Raises
    ------
    ValueError
        Another one.
    """
    if value not in choices:
        raise ValueError(
            f"[{function}] Expected `{name}` to be {' or '.join(map(repr, choices))}, got {value!r}."
        )


def _check_array(function: str, value: object, name: str) -> None:
    if not isinstance(value, mx.array):
        raise TypeError(
            f"[{function}] Expected `{name}` to be an mlx.core.array, got {type(value).__name__}. "
            f"Convert it first: mx.array({name})."
        )
    if value.dtype not in DTYPES:
        raise TypeError(
            f"[{function}] Expected `{name}` to be float32, float16 or bfloat16, got {_name(value.dtype)}. "
            f"Convert it first: {name}.astype(mx.float32)."
        )


def _name(dtype: mx.Dtype) -> str:
    return str(dtype).rpartition(".")[2]
