"""The gradients of an operation on this machine, beside the oracle's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from zmlx import _compat
from zmlx.testing._formats import round_to
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
    arguments = list(to_mx(sample, dtype))

    def call(*varied: Any) -> Any:
        changed = dict(zip(op.differentiable, varied, strict=True))
        return op.op(*(changed.get(i, value) for i, value in enumerate(arguments)), **sample.kwargs)

    shape = np.shape(op.expected(sample)[0])
    cotangent = round_to(SampleRng(f"{op.name}/{sample.name}/cotangent").normal(shape), op.out_dtype(dtype))
    given = mx.array(cotangent.astype(np.float32)).astype(getattr(mx, op.out_dtype(dtype)))
    with watch() as launches:
        _, values = mx.vjp(call, [arguments[i] for i in op.differentiable], [given])
        mx.eval(values)
    absent = not_launched(op.grad_kernels, launches, backend)
    # Over an empty array there is nothing to launch for.
    missing = tuple(absent) if all(np.size(value) for value in sample.args) else ()
    truths = op.expected_vjp(sample, cotangent)
    pairs = zip(op.differentiable, values, truths, strict=True)
    return Gradients(tuple(Gradient(*pair) for pair in pairs), missing)
