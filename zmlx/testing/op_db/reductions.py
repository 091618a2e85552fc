"""Reductions over the last axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from zmlx.testing.op_db._peers import torch_compiled
from zmlx.testing.op_db._row_ops import Samples, mean, row_samples, special_rows
from zmlx.testing.op_db._shared import (
    CANCELLING,
    ITEMSIZE,
    SPECIAL,
    Float64Array,
    as_on_a_gpu,
    kernel,
    ones,
    quiet,
    rejected_arrays,
)
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleInput, SampleRng
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


def _bytes_of_places(sample: SampleInput, dtype: str) -> int:
    """x is read, a place of 32 bits a row is written."""
    (x,) = sample.args
    return int(x.size) * ITEMSIZE[dtype] + 4 * int(np.prod(x.shape[:-1]))


def _mean_vjp(x: Float64Array, cotangent: Float64Array) -> tuple[Float64Array]:
    with quiet():
        return (np.broadcast_to(np.asarray(cotangent)[..., None] / x.shape[-1], x.shape),)


def _spread(x: Float64Array, ddof: int) -> Float64Array:
    with quiet():
        return np.asarray(np.sum((x - mean(x)) ** 2, axis=-1) / (x.shape[-1] - np.float64(ddof)))


def _var_vjp(x: Float64Array, cotangent: Float64Array, ddof: int = 0) -> tuple[Float64Array]:
    with quiet():
        return (np.asarray(cotangent)[..., None] * 2 * (x - mean(x)) / (x.shape[-1] - np.float64(ddof)),)


def _std_vjp(x: Float64Array, cotangent: Float64Array, ddof: int = 0) -> tuple[Float64Array]:
    with quiet():
        return _var_vjp(x, cotangent / (2 * np.sqrt(_spread(x, ddof))), ddof)


def _extreme_vjp(extreme: Callable[..., Any]) -> Callable[..., tuple[Float64Array]]:
    """Equal ones share the cotangent."""

    def vjp(x: Float64Array, cotangent: Float64Array) -> tuple[Float64Array]:
        with quiet():
            here = x == extreme(x)[..., None]
            return (np.where(here, np.asarray(cotangent)[..., None] / np.sum(here, -1, keepdims=True), 0.0),)

    return vjp


def _max(x: Float64Array) -> Float64Array:
    return np.asarray(np.max(x, axis=-1, initial=-np.inf))


def _min(x: Float64Array) -> Float64Array:
    return np.asarray(np.min(x, axis=-1, initial=np.inf))


def _ties(rng: SampleRng) -> Float64Array:
    """Special numbers, and rows in which the extremes are there several times."""
    rows = _special(rng)
    rows[-1, ::2] = -6e4
    return rows


def _moderate(rng: SampleRng) -> Float64Array:
    """Those whose squares are numbers of float32, and none whose squares cancel to what rounding leaves."""
    return special_rows(rng, moderate=True)[:-1]


_DDOF = {"ddof": 1}


def _reduction(
    name: str,
    oracle: Callable[..., Float64Array],
    oracle_vjp: Callable[..., tuple[Float64Array]] | None,
    samples: Samples,
    own: Callable[..., Any],
    torch: Callable[..., Any],
    **others: Any,
) -> OpInfo:
    """An entry with what is common to all of them."""
    has_gradient = oracle_vjp is not None
    return OpInfo(
        name=f"reductions.{name}_lastdim",
        op=kernel("reductions", f"{name}_lastdim"),
        kernels=(f"zmlx_{name}_lastdim",),
        gpu_shape=as_on_a_gpu,
        oracle=oracle,
        oracle_vjp=oracle_vjp,
        differentiable=(0,) if has_gradient else (),
        samples=samples,
        source=f"The definition of the {name}; mlx.core.{name} with axis=-1",
        flops=lambda sample, dtype: int(sample.args[0].size),
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns),),
            formula=own,
            own_name=f"mx.{name}",
            own=own,
            peers=(torch_compiled(torch),),
        ),
        **{
            "grad_kernels": (f"zmlx_{name}_lastdim_vjp",) if has_gradient else (),
            "golden_samples": ("small", "single", "odd", "special"),
            "bytes_moved": _bytes_moved,
            **others,
        },
    )


def _no_columns(name: str) -> ErrorInput:
    return ErrorInput(
        "no_columns",
        lambda: (ones(2, 0),),
        ValueError,
        f"[{name}] Expected rows of one element at least, in which there is a place to name; got shape (2, 0).",
    )


_DDOF_ERROR = {
    name: ErrorInput(
        "ddof_text",
        lambda: (ones(2, 8),),
        TypeError,
        f"[{name}] Expected `ddof` to be a number, got str. Pass a float.",
        kwargs={"ddof": "one"},
    )
    for name in ("var_lastdim", "std_lastdim")
}

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
    _reduction(
        "mean",
        lambda x: mean(x)[..., 0],
        _mean_vjp,
        row_samples(special=_special),
        lambda mx, x: mx.mean(x, axis=-1),
        lambda torch, x: torch.mean(x, -1),
        tolerances=CANCELLING,
        grad_kernels=(),
        error_inputs=rejected_arrays("mean_lastdim"),
    ),
    _reduction(
        "max",
        _max,
        _extreme_vjp(_max),
        row_samples(special=_ties),
        lambda mx, x: mx.max(x, axis=-1),
        lambda torch, x: torch.amax(x, -1),
        error_inputs=rejected_arrays("max_lastdim"),
    ),
    _reduction(
        "min",
        _min,
        _extreme_vjp(_min),
        row_samples(special=_ties),
        lambda mx, x: mx.min(x, axis=-1),
        lambda torch, x: torch.amin(x, -1),
        error_inputs=rejected_arrays("min_lastdim"),
    ),
    _reduction(
        "var",
        lambda x, ddof=0: _spread(x, ddof),
        _var_vjp,
        row_samples(special=_moderate, kwargs={"odd": _DDOF}),
        lambda mx, x: mx.var(x, axis=-1),
        lambda torch, x: torch.var(x, -1, correction=0),
        error_inputs=(*rejected_arrays("var_lastdim"), _DDOF_ERROR["var_lastdim"]),
    ),
    _reduction(
        "std",
        lambda x, ddof=0: np.sqrt(_spread(x, ddof)),
        _std_vjp,
        row_samples(special=_moderate, kwargs={"odd": _DDOF}),
        lambda mx, x: mx.std(x, axis=-1),
        lambda torch, x: torch.std(x, -1, correction=0),
        # Of one element there is no deviation, and no gradient; nor of two that rounding makes equal.
        axis_extents={(0, -1): (8, 4200)},
        error_inputs=(*rejected_arrays("std_lastdim"), _DDOF_ERROR["std_lastdim"]),
    ),
    *(
        _reduction(
            name,
            oracle,
            None,
            row_samples(special=_ties, without=("no_columns",)),
            own,
            torch,
            out_dtype=lambda dtype: "uint32",
            bytes_moved=_bytes_of_places,
            error_inputs=(*rejected_arrays(f"{name}_lastdim"), _no_columns(f"{name}_lastdim")),
        )
        for name, oracle, own, torch in (
            (
                "argmax",
                lambda x: np.argmax(x, axis=-1),
                lambda mx, x: mx.argmax(x, axis=-1),
                lambda torch, x: torch.argmax(x, -1),
            ),
            (
                "argmin",
                lambda x: np.argmin(x, axis=-1),
                lambda mx, x: mx.argmin(x, axis=-1),
                lambda torch, x: torch.argmin(x, -1),
            ),
        )
    ),
)
