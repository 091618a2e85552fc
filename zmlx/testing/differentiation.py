"""Operations as functions of some of their arguments, their gradients, and the cotangents that these are taken for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zmlx import _compat
from zmlx.testing._formats import Float64Array, round_to
from zmlx.testing.opinfo import OpInfo, SampleInput
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
    evaluated."""

    def gradients(*given: Any) -> list[Any]:
        *arguments, cotangent = given
        primals = [arguments[i] for i in positions]
        varied = of_some(call, arguments, positions)
        return list(_compat.import_mx().vjp(varied, primals, [cotangent])[1])

    return gradients


def make_cotangent(op: OpInfo, sample: SampleInput, dtype: str, shape: Sequence[int]) -> Float64Array:
    """A random cotangent that the case's name seeds, rounded to the result's dtype."""
    values = case_rng(op.name)(f"{sample.name}/cotangent").normal(tuple(shape))
    return round_to(values, op.out_dtype(dtype))


def mlx_cotangent(op: OpInfo, dtype: str, cotangent: Float64Array) -> Any:
    """The same as an MLX array of the result's dtype."""
    mx = _compat.import_mx()
    return mx.array(cotangent.astype(np.float32)).astype(getattr(mx, op.out_dtype(dtype)))
