"""Scans of the last axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

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


def _cumsum(x: Float64Array) -> Float64Array:
    with quiet():
        return np.asarray(np.cumsum(x, axis=-1))


def _cumsum_vjp(x: Float64Array, cotangent: Float64Array) -> tuple[Float64Array]:
    with quiet():
        return (np.flip(np.cumsum(np.flip(cotangent, -1), axis=-1), -1),)


def _cumprod(x: Float64Array) -> Float64Array:
    with quiet():
        return np.asarray(np.cumprod(x, axis=-1))


def _cumprod_vjp(x: Float64Array, cotangent: Float64Array) -> tuple[Float64Array]:
    """dx[k] = (product before k) * sum over i >= k of cotangent[i] * (product from k + 1 to i), the sum from the end
    by Horner's rule: the derivative of each product of a set of factors is the product of the others."""
    gradient = np.zeros_like(x)
    before = np.ones_like(x)
    with quiet():
        before[..., 1:] = np.cumprod(x[..., :-1], axis=-1)
        later = np.zeros(x.shape[:-1])
        for k in reversed(range(x.shape[-1])):
            inner = cotangent[..., k] + later
            gradient[..., k] = before[..., k] * inner
            later = x[..., k] * inner
    return (gradient,)


def _special_terms(rng: SampleRng) -> Float64Array:
    """Rows of ordinary numbers with one special one each; both infinities; a sum past the end of float16."""
    rows = rng.normal((SPECIAL.size + 2, 6))
    rows[: SPECIAL.size, 2] = SPECIAL
    rows[-2, 1:3] = np.inf, -np.inf
    rows[-1] = 3e4
    return rows


def _special_factors(rng: SampleRng) -> Float64Array:
    """Rows with NaN, zeros of both signs and tiny numbers within, with two zeros, and with an infinity at the end."""
    within = np.array([np.nan, 0.0, -0.0, 1e-40, -1e-40, 1e-30])
    rows = rng.uniform((within.size + 3, 6), 0.5, 1.5)
    rows[: within.size, 2] = within
    rows[-3, 1] = rows[-3, 4] = 0.0
    rows[-2, -1], rows[-1, -1] = np.inf, -np.inf
    return rows


def _terms(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    yield SampleInput("small", (rng("small").normal((4, 32)),))
    yield SampleInput("single", (np.array([0.75]),))
    yield SampleInput("odd", (rng("odd").normal((3, 5, 7), scale=3.0),))
    yield SampleInput("long_rows", (rng("long_rows").normal((2, 4099)),))
    yield SampleInput("many_rows", (rng("many_rows").normal((301, 5)),))
    yield SampleInput("special", (_special_terms(rng("special")),))
    yield SampleInput("no_rows", (np.zeros((0, 8)),))
    yield SampleInput("no_columns", (np.zeros((3, 0)),))


def _factors(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    yield SampleInput("small", (rng("small").normal((4, 32), scale=0.2, loc=1.0),))
    yield SampleInput("single", (np.array([0.75]),))
    yield SampleInput("odd", (rng("odd").uniform((3, 5, 7), -1.5, 1.5),))
    yield SampleInput("long_rows", (rng("long_rows").uniform((2, 300), 0.98, 1.02),))
    # More than the threads of a GPU hold of a row, of which the gradient has a kernel of its own.
    yield SampleInput("longer_rows", (_long_factors(rng("longer_rows")),))
    yield SampleInput("many_rows", (rng("many_rows").uniform((301, 5), -1.5, 1.5),))
    yield SampleInput("special", (_special_factors(rng("special")),))
    yield SampleInput("no_rows", (np.zeros((0, 8)),))
    yield SampleInput("no_columns", (np.zeros((3, 0)),))


def _long_factors(rng: SampleRng) -> Float64Array:
    """With a zero now and then, so that no sum of a gradient has more terms than float32 can cancel."""
    factors = rng.uniform((1, 4099), 0.98, 1.02)
    factors[:, 150::150] = 0.0
    return factors


def _entry(name: str, flops: int, **fields: Any) -> OpInfo:
    operation = name.removesuffix("_lastdim")

    def call(library: Any, x: Any) -> Any:
        return getattr(library, operation)(x, -1)

    return OpInfo(
        name=f"scans.{name}",
        op=kernel("scans", name),
        kernels=(f"zmlx_{operation}",),
        gpu_shape=as_on_a_gpu,
        differentiable=(0,),
        golden_samples=("small", "single", "odd", "special"),
        error_inputs=rejected_arrays(name),
        bytes_moved=lambda sample, dtype: 2 * int(sample.args[0].size) * ITEMSIZE[dtype],
        flops=lambda sample, dtype: flops * int(sample.args[0].size),
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns),),
            formula=lambda mx, x: call(mx, x.astype(mx.float32)).astype(x.dtype),
            own_name=f"mx.{operation}",
            own=call,
            peers=(torch_compiled(call),),
        ),
        **fields,
    )


OPS = (
    _entry(
        "cumsum_lastdim",
        flops=1,
        grad_kernels=("zmlx_cumsum",),
        oracle=_cumsum,
        oracle_vjp=_cumsum_vjp,
        samples=_terms,
        source="The definition of the prefix sum; Blelloch 1990, Prefix Sums and Their Applications, section 1",
        tolerances=CANCELLING,
        grad_tolerances={
            **CANCELLING,
            "float32": replace(
                CANCELLING["float32"], atol=5e-5, reason="sums of 70001 terms of both signs cross zero"
            ),
        },
    ),
    _entry(
        "cumprod_lastdim",
        flops=1,
        grad_kernels=("zmlx_cumprod*_vjp",),
        oracle=_cumprod,
        oracle_vjp=_cumprod_vjp,
        samples=_factors,
        # Products of more factors than that, each of them anywhere from a half to two, leave float32.
        axis_extents={(0, -1): (1, 150)},
        source="The definition of the prefix product, and the product rule; Blelloch 1990, Prefix Sums and Their "
        "Applications, sections 1 and 4",
    ),
)
