"""Softmax."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from zmlx.testing.op_db._peers import liger, torch_compiled
from zmlx.testing.op_db._shared import (
    ITEMSIZE,
    SPECIAL,
    Float64Array,
    as_on_a_gpu,
    kernel,
    quiet,
    rejected_arrays,
)
from zmlx.testing.opinfo import OpInfo, SampleInput, SampleRng
from zmlx.testing.rivals import Rivals


def softmax(x: Float64Array) -> Float64Array:
    """exp(x - max(x)) / sum(exp(x - max(x))) over the last axis."""
    with quiet():
        e = np.exp(x - np.max(x, axis=-1, keepdims=True, initial=-np.inf))
        return np.asarray(e / np.sum(e, axis=-1, keepdims=True))


def _softmax_vjp(x: Float64Array, cotangent: Float64Array) -> tuple[Float64Array]:
    y = softmax(x)
    with quiet():
        return (y * (cotangent - np.sum(cotangent * y, axis=-1, keepdims=True)),)


def _special(rng: SampleRng) -> Float64Array:
    """Rows of ordinary numbers with one special one each; two minus infinities; nothing but minus infinities."""
    rows = rng.normal((SPECIAL.size + 2, 6))
    rows[: SPECIAL.size, 2] = SPECIAL
    rows[-2, 1:3] = -np.inf
    rows[-1] = -np.inf
    return rows


def _samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    yield SampleInput("small", (rng("small").normal((4, 32)),))
    yield SampleInput("single", (np.array([0.75]),))
    yield SampleInput("odd", (rng("odd").normal((3, 5, 7), scale=3.0),))
    yield SampleInput("long_rows", (rng("long_rows").normal((2, 4099), scale=3.0),))
    yield SampleInput("many_rows", (rng("many_rows").normal((301, 5)),))
    yield SampleInput("steep", (rng("steep").normal((3, 40), scale=2000.0),))
    yield SampleInput("level", (np.full((2, 33), -7.5),))
    yield SampleInput("special", (_special(rng("special")),))
    yield SampleInput("no_rows", (np.zeros((0, 8)),))
    yield SampleInput("no_columns", (np.zeros((3, 0)),))


def _formula(mx: Any, x: Any) -> Any:
    e = mx.exp(x - mx.max(x, axis=-1, keepdims=True))
    return e / mx.sum(e, axis=-1, keepdims=True)


OPS = (
    OpInfo(
        name="softmax.softmax_lastdim",
        op=kernel("softmax", "softmax_lastdim"),
        kernels=("zmlx_softmax",),
        gpu_shape=as_on_a_gpu,
        grad_kernels=("zmlx_softmax_vjp",),
        oracle=softmax,
        oracle_vjp=_softmax_vjp,
        differentiable=(0,),
        samples=_samples,
        source="Goodfellow, Bengio and Courville 2016, Deep Learning, equations 4.1 and 6.33",
        golden_samples=("small", "single", "odd", "special"),
        error_inputs=rejected_arrays("softmax_lastdim"),
        bytes_moved=lambda sample, dtype: 2 * int(sample.args[0].size) * ITEMSIZE[dtype],
        flops=lambda sample, dtype: 5 * int(sample.args[0].size),
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns),),
            formula=_formula,
            own_name="mx.softmax",
            own=lambda mx, x: mx.softmax(x, axis=-1, precise=True),
            peers=(
                torch_compiled(lambda torch, x: torch.softmax(x, -1)),
                liger("softmax", "LigerSoftmaxFunction"),
            ),
        ),
    ),
)
