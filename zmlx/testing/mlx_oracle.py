"""Oracles that are MLX operations: called with float32 arrays on the CPU, their results as float64 NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def values(oracle: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """What an oracle of MLX operations says.

    Parameters
    ----------
    oracle : callable
        Takes and returns MLX arrays; floats are float32.
    args, kwargs
        A sample's; float arrays become float32, integer arrays stay what they are.

    Returns
    -------
    tuple of numpy.ndarray
        float64 where the results are floats.
    """
    import mlx.core as mx

    with mx.stream(mx.cpu):
        results = oracle(*map(_to_mlx, args), **kwargs)
        made = list(results) if isinstance(results, (tuple, list)) else [results]
        mx.eval(made)
        return tuple(map(_to_numpy, made))


def gradients(
    oracle: Callable[..., Any],
    vjp: Callable[..., Any] | None,
    positions: tuple[int, ...],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    cotangent: Any,
) -> tuple[Any, ...]:
    """The gradients of the arguments at `positions`: by `vjp` if there is one, else `mx.vjp` of the oracle.

    Returns
    -------
    tuple of numpy.ndarray
        float64, one for each of `positions`.
    """
    import mlx.core as mx

    if vjp is not None:
        several = isinstance(cotangent, tuple)
        given = tuple(map(_to_mlx, cotangent)) if several else cotangent
        return values(vjp, (*args, given), kwargs)
    with mx.stream(mx.cpu):
        arguments = list(map(_to_mlx, args))

        def varied(*changed: Any) -> Any:
            by_position = dict(zip(positions, changed, strict=True))
            results = oracle(*(by_position.get(i, a) for i, a in enumerate(arguments)), **kwargs)
            several = results if isinstance(results, (tuple, list)) else [results]
            return [r for r in several if len(several) == 1 or mx.issubdtype(r.dtype, mx.inexact)]

        cotangents = cotangent if isinstance(cotangent, tuple) else (cotangent,)
        given = [_to_mlx(np.asarray(one)) for one in cotangents]
        _, made = mx.vjp(varied, [arguments[i] for i in positions], given)
        mx.eval(made)
        return tuple(map(_to_numpy, made))


def _to_mlx(value: Any) -> Any:
    import mlx.core as mx

    if not isinstance(value, np.ndarray):
        return value
    return mx.array(value.astype(np.float32) if value.dtype.kind == "f" else value)


def _to_numpy(array: Any) -> Any:
    made = np.array(array)
    return made.astype(np.float64) if made.dtype.kind == "f" else made
