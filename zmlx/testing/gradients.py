"""The gradients of an operation on this machine, beside the oracle's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from zmlx import _compat
from zmlx.testing.differentiation import gradients_of, make_cotangent, mlx_cotangent
from zmlx.testing.launches import not_launched
from zmlx.testing.opinfo import Cotangent, OpInfo, SampleInput, to_mx


@dataclass(frozen=True)
class Gradient:
    """The gradient of one argument: its position, MLX's array and the oracle's."""

    position: int
    value: Any
    truth: Any


@dataclass(frozen=True)
class Gradients:
    """One gradient for each differentiable argument, and the kernels that should have been launched and were not."""

    each: tuple[Gradient, ...]
    absent: tuple[str, ...]


def gradient_call(
    op: OpInfo, sample: SampleInput, dtype: str, results: Sequence[Any], cotangent: Cotangent
) -> tuple[Callable[..., list[Any]], list[Any]]:
    """The gradients as a function of the arguments and a cotangent, not yet evaluated, and these.

    Parameters
    ----------
    op : OpInfo
        With `differentiable` arguments.
    sample : SampleInput
        Cast to `dtype`.
    dtype : str
        Of its float arrays.
    results, cotangent
        What the oracle says of the sample, and what `make_cotangent` makes for it.
    """
    call = gradients_of(partial(op.op, **sample.kwargs), op.differentiable)
    return call, [*to_mx(sample, dtype), mlx_cotangent(op, dtype, results, cotangent)]


def run_gradients(op: OpInfo, sample: SampleInput, dtype: str, backend: str) -> Gradients:
    """Run an operation's gradient for a random cotangent that the case's name seeds.

    Parameters
    ----------
    op : OpInfo
        With `differentiable` arguments.
    sample : SampleInput
        Cast to `dtype`.
    dtype : str
        Of its float arrays.
    backend : str
        Where the kernels must be launched: that of MLX's default device.
    """
    from zmlx.launch import watch

    mx = _compat.import_mx()
    results = op.expected(sample)
    cotangent = make_cotangent(op, sample, dtype, results)
    call, arguments = gradient_call(op, sample, dtype, results, cotangent)
    with watch() as launches:
        values = call(*arguments)
        mx.eval(values)
    absent = not_launched(op.grad_kernels, launches, backend)
    # Over an empty array there is nothing to launch for.
    missing = tuple(absent) if all(np.size(value) for value in sample.args) else ()
    truths = op.expected_vjp(sample, cotangent)
    pairs = zip(op.differentiable, values, truths, strict=True)
    return Gradients(tuple(Gradient(*pair) for pair in pairs), missing)
