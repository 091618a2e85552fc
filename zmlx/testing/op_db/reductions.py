"""Reductions over the last axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from zmlx.testing.op_db._peers import torch_compiled
from zmlx.testing.op_db._shared import (
    CANCELLING,
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


def _sum(x: Float64Array) -> Float64Array:
    with quiet():
        return np.asarray(np.sum(x, axis=-1))


def _sum_vjp(x: Float64Array, cotangent: Float64Array) -> tuple[Float64Array]:
    return (np.broadcast_to(np.asarray(cotangent)[..., None], x.shape),)


def _special(rng: SampleRng) -> Float64Array:
    """Rows of ordinary numbers with one special one each; both infinities; a sum past the end of float16."""
    rows = rng.normal((SPECIAL.size + 2, 6))
    rows[: SPECIAL.size, 2] = SPECIAL
    rows[-2, 1:3] = np.inf, -np.inf
    rows[-1] = 6e4
    return rows


def _samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    yield SampleInput("small", (rng("small").normal((4, 32)),))
    yield SampleInput("single", (np.array([0.75]),))
    yield SampleInput("odd", (rng("odd").normal((3, 5, 7), scale=3.0),))
    yield SampleInput("long_rows", (rng("long_rows").normal((2, 4099)),))
    yield SampleInput("longest_row", (rng("longest_row").normal(100_003, loc=0.25),))
    yield SampleInput("many_rows", (rng("many_rows").normal((301, 5)),))
    yield SampleInput("special", (_special(rng("special")),))
    yield SampleInput("no_rows", (np.zeros((0, 8)),))
    yield SampleInput("no_columns", (np.zeros((3, 0)),))


def _bytes_moved(sample: SampleInput, dtype: str) -> int:
    """x is read, a number a row is written."""
    (x,) = sample.args
    return (int(x.size) + int(np.prod(x.shape[:-1]))) * ITEMSIZE[dtype]


OPS = (
    OpInfo(
        name="reductions.sum_lastdim",
        op=kernel("reductions", "sum_lastdim"),
        kernels=("zmlx_sum",),
        gpu_shape=as_on_a_gpu,
        oracle=_sum,
        oracle_vjp=_sum_vjp,
        differentiable=(0,),
        samples=_samples,
        source="The definition of the sum; mlx.core.sum with axis=-1",
        tolerances=CANCELLING,
        golden_samples=("small", "single", "odd", "special"),
        error_inputs=rejected_arrays("sum_lastdim"),
        bytes_moved=_bytes_moved,
        flops=lambda sample, dtype: int(sample.args[0].size),
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns),),
            formula=lambda mx, x: mx.sum(x, axis=-1),
            own_name="mx.sum",
            own=lambda mx, x: mx.sum(x, axis=-1),
            peers=(torch_compiled(lambda torch, x: torch.sum(x, -1)),),
        ),
    ),
)
