"""Operations as functions of some of their arguments, their gradients, and the cotangents that these are taken for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zmlx import _compat
from zmlx.testing._formats import round_to
from zmlx.testing.opinfo import Cotangent, OpInfo, SampleInput, as_tuple
from zmlx.testing.sample_rng import case_rng


def of_some(
    call: Callable[..., Any], arguments: Sequence[Any], positions: Sequence[int]
) -> Callable[..., Any]:
    """``call`` as a function of its arguments at ``positions``; the others are those of ``arguments``."""

    def varied(*values: Any) -> Any:
        changed = dict(zip(positions, values, strict=True))
        return call(*(changed.get(i, argument) for i, argument in enumerate(arguments)))

    return varied


def gradients_of(call: Callable[..., Any], positions: Sequence[int]) -> Callable[..., list[Any]]:
    """``f(*arguments, cotangent)``: the gradients of ``call`` by `mx.vjp`, one for each of ``positions``, not yet
    evaluated. With several results of floats the cotangent is a tuple of one for each; integers have none."""

    def gradients(*given: Any) -> list[Any]:
        *arguments, cotangent = given
        primals = [arguments[i] for i in positions]
        varied = of_some(lambda *values: with_cotangents(call(*values)), arguments, positions)
        return list(_compat.import_mx().vjp(varied, primals, list(as_tuple(cotangent)))[1])

    return gradients


def with_cotangents(results: Any) -> list[Any]:
    """Those of several results that are no integers; a single one is what it is."""
    mx, several = _compat.import_mx(), as_tuple(results)
    return [r for r in several if len(several) == 1 or mx.issubdtype(r.dtype, mx.inexact)]


def float_results(results: Sequence[Any]) -> tuple[int, ...]:
    """The places of an oracle's results that are floats: those that have a cotangent. A single one is taken for it."""
    return tuple(i for i, r in enumerate(results) if len(results) == 1 or np.asarray(r).dtype.kind in "fc")


def make_cotangent(op: OpInfo, sample: SampleInput, dtype: str, results: Sequence[Any]) -> Cotangent:
    """A random cotangent that the case's name seeds, rounded to the result's dtype.

    Parameters
    ----------
    op, sample, dtype
        The case.
    results : sequence of numpy.ndarray
        What the oracle says of it (`OpInfo.expected`).

    Returns
    -------
    numpy.ndarray, or tuple of numpy.ndarray
        One, or for several results of floats a tuple of as many.
    """
    rng, names = case_rng(op.name), op.out_dtypes(dtype, len(results))
    made = tuple(
        round_to(
            rng(f"{sample.name}/cotangent{f'/{place}' if place else ''}").normal(np.shape(results[place])),
            names[place],
        )
        for place in float_results(results)
    )
    return made[0] if len(made) == 1 else made


def mlx_cotangent(op: OpInfo, dtype: str, results: Sequence[Any], cotangent: Cotangent) -> Any:
    """The same as an MLX array of the result's dtype, or a tuple of them; `results` as `make_cotangent` has them."""
    mx, names = _compat.import_mx(), op.out_dtypes(dtype, len(results))
    made = tuple(
        mx.array(values.astype(np.float32)).astype(getattr(mx, names[place]))
        for place, values in zip(float_results(results), as_tuple(cotangent), strict=True)
    )
    return made[0] if len(made) == 1 else made
