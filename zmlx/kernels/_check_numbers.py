"""Checks of Python numbers that the kernels take. Every message says what was expected, what came, what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence


def check_real(function: str, value: object, name: str) -> float:
    """A Python number, which may be infinite or NaN, as a float.

    Raises
    ------
    TypeError
        Not a Python number.
    ValueError
        An integer beyond float's range.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            f"[{function}] Expected `{name}` to be a number, got {type(value).__name__}. Pass a float."
        )
    try:
        return float(value)
    except OverflowError:
        raise ValueError(
            f"[{function}] Expected `{name}` to be in the range of float, got an integer of "
            f"{int(value).bit_length()} bits."
        ) from None


def check_finite(function: str, value: object, name: str) -> float:
    """A Python number that is neither infinite nor NaN, as a float.

    Raises
    ------
    TypeError
        Not a Python number.
    ValueError
        Not finite.
    """
    number = check_real(function, value, name)
    if not math.isfinite(number):
        raise ValueError(f"[{function}] Expected `{name}` to be finite, got {value!r}.")
    return number


def check_number(function: str, value: object, name: str, low: float, below: float = math.inf) -> float:
    """A Python number, ``low <= value < below``, as a float.

    Raises
    ------
    TypeError
        Not a Python number.
    ValueError
        Beyond the bounds, or not finite.
    """
    number = check_real(function, value, name)
    if not low <= number < below:
        bounds = f"at least {low:g}" if below == math.inf else f"at least {low:g} and less than {below:g}"
        raise ValueError(f"[{function}] Expected `{name}` to be {bounds}, got {value!r}.")
    return number


def check_positive(function: str, value: float, name: str) -> float:
    """A finite number, zero or more, as a float.

    Raises
    ------
    TypeError
        Not a Python number.
    ValueError
        Negative or not finite.
    """
    number = check_real(function, value, name)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"[{function}] Expected `{name}` to be finite and not negative, got {value!r}.")
    return number


def check_eps(function: str, eps: float) -> float:
    """A finite number, zero or more, as a float.

    Raises
    ------
    TypeError
        Not a Python number.
    ValueError
        Negative or not finite.
    """
    return check_positive(function, eps, "eps")


def check_share(function: str, value: float, name: str) -> float:
    """A number from 0 to 1.

    Raises
    ------
    TypeError
        Not a Python number.
    ValueError
        Out of that range.
    """
    number = check_positive(function, value, name)
    if number > 1:
        raise ValueError(f"[{function}] Expected `{name}` to be from 0 to 1, got {value!r}.")
    return number


def check_probability(function: str, value: float, name: str) -> float:
    """A number from 0 to less than 1.

    Raises
    ------
    TypeError
        Not a Python number.
    ValueError
        Out of that range.
    """
    number = check_positive(function, value, name)
    if number >= 1:
        raise ValueError(f"[{function}] Expected `{name}` to be from 0 to less than 1, got {value!r}.")
    return number


def check_integer(
    function: str, value: object, name: str, low: float = -math.inf, high: float = math.inf
) -> int:
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


def check_count(function: str, value: int, name: str) -> int:
    """A positive whole number.

    Raises
    ------
    TypeError
        Not a Python int.
    ValueError
        Zero or less.
    """
    check_integer(function, value, name)
    if value < 1:
        raise ValueError(f"[{function}] Expected `{name}` to be one or more, got {value!r}.")
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
