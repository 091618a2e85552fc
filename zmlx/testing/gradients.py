"""The gradients of an operation on this machine, beside the oracle's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zmlx import _compat
from zmlx.testing._formats import Float64Array, round_to
from zmlx.testing.launches import not_launched
from zmlx.testing.opinfo import OpInfo, SampleInput, SampleRng, to_mx


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
    op: OpInfo, sample: SampleInput, dtype: str, shape: Sequence[int]
) -> tuple[Callable[..., list[Any]], list[Any]]:
    """The gradients as a function of the arguments and a cotangent, not yet evaluated, and these: arguments of `sample`
    and a random cotangent of a result of `shape` that the case's name seeds.

    Parameters
    ----------
    op : OpInfo
        With `differentiable` arguments.
    sample : SampleInput
        Cast to `dtype`.
    dtype : str
        Of its float arrays.
    shape : sequence of int
        Of the result.
    """
    mx = _compat.import_mx()
    arguments = list(to_mx(sample, dtype))

    def call(*given: Any) -> list[Any]:
        *values, cotangent = given

        def varied(*primals: Any) -> Any:
            changed = dict(zip(op.differentiable, primals, strict=True))
            return op.op(*(changed.get(i, value) for i, value in enumerate(values)), **sample.kwargs)

        return list(mx.vjp(varied, [values[i] for i in op.differentiable], [cotangent])[1])

    cotangent = make_cotangent(op, sample, dtype, shape)
    given = mx.array(cotangent.astype(np.float32)).astype(getattr(mx, op.out_dtype(dtype)))
    return call, [*arguments, given]


def make_cotangent(op: OpInfo, sample: SampleInput, dtype: str, shape: Sequence[int]) -> Float64Array:
    """A random cotangent that the case's name seeds, rounded to the result's dtype."""
    values = SampleRng(f"{op.name}/{sample.name}/cotangent").normal(tuple(shape))
    return round_to(values, op.out_dtype(dtype))


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
    shape = np.shape(op.expected(sample)[0])
    call, arguments = gradient_call(op, sample, dtype, shape)
    with watch() as launches:
        values = call(*arguments)
        mx.eval(values)
    absent = not_launched(op.grad_kernels, launches, backend)
    # Over an empty array there is nothing to launch for.
    missing = tuple(absent) if all(np.size(value) for value in sample.args) else ()
    truths = op.expected_vjp(sample, make_cotangent(op, sample, dtype, shape))
    pairs = zip(op.differentiable, values, truths, strict=True)
    return Gradients(tuple(Gradient(*pair) for pair in pairs), missing)
