"""The largest values of a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx.testing.op_db._shared import (
    ITEMSIZE,
    Float64Array,
    as_on_a_gpu,
    kernel,
    ones,
    rejected_arrays,
    values,
)
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleInput, SampleRng
from zmlx.testing.rivals import Rivals


def stable_order(x: Float64Array) -> NDArray[np.intp]:
    """The places of a row's values, largest first, NaN before all; equal ones in order."""
    return np.lexsort((-np.where(np.isnan(x), 0.0, x), ~np.isnan(x)), axis=-1)


def _topk(x: Float64Array, k: int) -> tuple[Float64Array, NDArray[np.uint32]]:
    places = stable_order(x)[..., :k]
    return np.take_along_axis(x, places, axis=-1), places.astype(np.uint32)


def _topk_vjp(x: Float64Array, *rest: Any, k: int = 0) -> tuple[Float64Array]:
    *given, cotangent = rest
    (k,) = given or (k,)
    gradient = np.zeros_like(x)
    np.put_along_axis(gradient, stable_order(x)[..., :k], cotangent, axis=-1)
    return (gradient,)


def _samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    yield SampleInput("small", (rng("small").normal((4, 32)), 4))
    yield SampleInput("single", (np.array([0.75]), 1))
    yield SampleInput("odd", (rng("odd").normal((3, 5, 7), scale=3.0), 7))
    yield SampleInput("long_rows", (rng("long_rows").normal((2, 4099)), 9))
    yield SampleInput("many_picks", (rng("many_picks").normal((2, 201)), 64))
    yield SampleInput("many_rows", (rng("many_rows").normal((301, 9)), 2))
    yield SampleInput("ties", (rng("ties").integers((6, 40), -2, 2).astype(np.float64), 12))
    yield SampleInput("special", (_special(rng("special")), 6))
    yield SampleInput("no_rows", (np.zeros((0, 8)), 2))


def _special(rng: SampleRng) -> Float64Array:
    """NaN twice, infinities, zeros of both signs in both orders; rows of nothing else."""
    rows = rng.normal((5, 11))
    rows[0, 3], rows[0, 8], rows[0, 5] = np.nan, np.nan, np.inf
    rows[1, 2], rows[1, 4], rows[1, 6:9] = np.inf, -np.inf, (-0.0, 0.0, -0.0)
    rows[2], rows[3] = -np.inf, np.nan
    rows[4, :10] = (-0.0, 0.0) * 5
    return rows


def rejected_counts(
    function: str, make: Callable[..., tuple[Any, ...]], name: str = "x"
) -> tuple[ErrorInput, ...]:
    """Calls whose ``k`` makes no sense; ``make(k)`` returns the arguments, rows of 8 values."""
    wrong = (
        f"[{function}] Expected `k` to be from 1 to 8 (at most 64, and no more than the last dimension of `{name}`, "
        "which has shape (2, 8)), got {}."
    )
    return (
        ErrorInput("no_picks", lambda: make(0), ValueError, wrong.format(0)),
        ErrorInput("too_many_picks", lambda: make(9), ValueError, wrong.format(9)),
        ErrorInput(
            "picks_float",
            lambda: make(2.0),
            TypeError,
            f"[{function}] Expected `k` to be an integer, got float. Pass an int.",
        ),
    )


def with_more(errors: tuple[ErrorInput, ...], *more: Any) -> tuple[ErrorInput, ...]:
    """The same calls with more arguments."""
    return tuple(
        ErrorInput(e.name, lambda e=e: (*e.make(), *more), e.exception, e.match, e.kwargs, e.regex)  # type: ignore[misc]
        for e in errors
    )


def picked_bytes(sample: SampleInput, dtype: str) -> int:
    """Of arrays that are read, and of ``k`` values and places for each row of the first."""
    x = sample.args[0]
    k = sample.kwargs["k"] if "k" in sample.kwargs else sample.args[-1]
    rows = x.size // max(x.shape[-1], 1)
    return int(values(sample) * ITEMSIZE[dtype] + rows * k * (ITEMSIZE[dtype] + 4))


#: What the benchmark picks.
PICKS = 8


def largest(mx: Any, x: Any) -> Any:
    """The places of the largest `PICKS`, largest first and of equal ones the first, in MLX operations."""
    return mx.argsort(mx.stop_gradient(-x), axis=-1)[..., :PICKS]


def _formula(mx: Any, x: Any) -> tuple[Any, Any]:
    places = largest(mx, x)
    return mx.take_along_axis(x, places, axis=-1), places.astype(mx.uint32)


OPS = (
    OpInfo(
        name="selection.topk",
        op=kernel("selection", "topk"),
        kernels=("zmlx_topk",),
        grad_kernels=("zmlx_topk_vjp",),
        gpu_shape=as_on_a_gpu,
        oracle=_topk,
        oracle_vjp=_topk_vjp,
        differentiable=(0,),
        samples=_samples,
        source="Knuth 1998, The Art of Computer Programming, volume 3, chapter 5: a stable sort",
        out_dtype=lambda dtype: (dtype, "uint32"),
        golden_samples=("small", "single", "odd", "special"),
        error_inputs=(
            *with_more(rejected_arrays("topk"), 2),
            *rejected_counts("topk", lambda k: (ones(2, 8), k)),
        ),
        bytes_moved=picked_bytes,
        rivals=Rivals(shapes=lambda rows, columns: ((rows, columns),), formula=_formula, kwargs={"k": PICKS}),
    ),
)
