"""The entries of hyper-connections, which `mixing` lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from zmlx.testing.op_db._shared import (
    CANCELLING,
    ITEMSIZE,
    Float64Array,
    as_on_a_gpu,
    kernel,
    ones,
    quiet,
    values,
)
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleInput, SampleRng
from zmlx.testing.rivals import Rivals


def _turns(logits: Float64Array, iterations: int) -> list[tuple[int, Float64Array, Float64Array]]:
    """Every normalisation: its axis, the sums that it divides by, and its result."""
    a = np.exp(logits)
    turns = []
    for _ in range(iterations):
        for axis in (-2, -1):  # columns, then rows
            sums = np.sum(a, axis=axis, keepdims=True)
            a = a / sums
            turns.append((axis, sums, a))
    return turns


def _sinkhorn(logits: Float64Array, iterations: int = 20) -> Float64Array:
    with quiet():
        return _turns(logits, iterations)[-1][2]


def _sinkhorn_vjp(logits: Float64Array, cotangent: Float64Array, iterations: int = 20) -> tuple[Float64Array]:
    with quiet():
        d = cotangent
        for axis, sums, y in reversed(_turns(logits, iterations)):
            d = (d - np.sum(d * y, axis=axis, keepdims=True)) / sums
        return (d * np.exp(logits),)


def _sinkhorn_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    yield SampleInput("small", (rng("small").normal((3, 4, 4)),))
    yield SampleInput("single", (np.array([[0.75]]),))
    yield SampleInput("odd", (rng("odd").normal((2, 7, 3, 3)),), {"iterations": 5})
    yield SampleInput("largest", (rng("largest").normal((5, 8, 8), scale=2.0),), {"iterations": 7})
    yield SampleInput("two", (rng("two").normal((9, 2, 2)),), {"iterations": 1})
    yield SampleInput("many", (rng("many").normal((301, 4, 4)),))
    yield SampleInput("large_logits", (rng("large_logits").normal((3, 4, 4), loc=60.0),))
    special = rng("special").normal((3, 4, 4))
    special[0, 1, 2], special[1, 0, 3] = np.nan, -np.inf
    yield SampleInput("special", (special,))
    yield SampleInput("none", (np.zeros((0, 4, 4)),))


def _mix(streams: Float64Array, weights: Float64Array) -> Float64Array:
    with quiet():
        return np.asarray(np.einsum("...ij,...jd->...id", weights, streams))


def _mix_vjp(
    streams: Float64Array, weights: Float64Array, cotangent: Float64Array
) -> tuple[Float64Array, Float64Array]:
    with quiet():
        return (
            np.einsum("...ij,...id->...jd", weights, cotangent),
            np.einsum("...id,...jd->...ij", cotangent, streams),
        )


def _mix_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    def sample(name: str, shape: tuple[int, ...], results: int) -> SampleInput:
        numbers = rng(name)
        weights = numbers.normal((*shape[:-2], results, shape[-2]), scale=0.5)
        return SampleInput(name, (numbers.normal(shape), weights))

    yield sample("small", (3, 4, 16), 4)
    yield sample("single", (1, 1), 1)
    yield sample("odd", (2, 5, 3, 7), 6)
    yield sample("one_result", (5, 4, 33), 1)
    yield sample("largest", (3, 8, 10), 8)
    yield sample("long_rows", (2, 4, 1030), 3)
    yield sample("many_tokens", (151, 2, 5), 4)
    yield sample("no_tokens", (0, 4, 8), 4)
    yield sample("no_elements", (3, 4, 0), 4)


def _call(*shapes: tuple[int, ...], dtype: str = "float32") -> Callable[[], tuple[Any, ...]]:
    return lambda: tuple(ones(*shape, dtype=dtype) for shape in shapes)


def _integer(function: str, name: str, *shapes: tuple[int, ...]) -> ErrorInput:
    return ErrorInput(
        "integer",
        _call(*shapes, dtype="int32"),
        TypeError,
        f"[{function}] Expected `{name}` to be float32, float16 or bfloat16, got int32. "
        f"Convert it first: {name}.astype(mx.float32).",
    )


_SQUARE = "[sinkhorn] Expected `logits` to have shape (..., n, n) with n from 1 to 8, got {}."
_MATRIX = (
    "[hyper_connection_mix] Expected `weights` to have shape (2, m, 4) with m from 1 to 8, for `streams` of shape "
    "(2, 4, 8), got {}. Repeat one matrix with mx.broadcast_to."
)


def _sinkhorn_formula(mx: Any, logits: Any) -> Any:
    found = mx.exp(logits - mx.max(logits, axis=(-2, -1), keepdims=True))
    for _ in range(20):
        found = found / mx.sum(found, axis=-2, keepdims=True)
        found = found / mx.sum(found, axis=-1, keepdims=True)
    return found


SINKHORN = OpInfo(
    name="mixing.sinkhorn",
    op=kernel("mixing", "sinkhorn"),
    kernels=("zmlx_sinkhorn",),
    grad_kernels=("zmlx_sinkhorn_vjp",),
    gpu_shape=as_on_a_gpu,
    oracle=_sinkhorn,
    oracle_vjp=_sinkhorn_vjp,
    differentiable=(0,),
    samples=_sinkhorn_samples,
    axis_extents={(0, -1): (1, 8), (0, -2): (1, 8)},
    source="Sinkhorn and Knopp 1967, Concerning nonnegative matrices and doubly stochastic matrices; Xie et al. 2025, "
    "mHC: Manifold-Constrained Hyper-Connections (arXiv:2512.24880): columns, then rows",
    grad_tolerances=CANCELLING,
    golden_samples=("small", "single", "odd", "special"),
    error_inputs=(
        _integer("sinkhorn", "logits", (4, 4)),
        ErrorInput("not_square", _call((2, 3, 4)), ValueError, _SQUARE.format("(2, 3, 4)")),
        ErrorInput("nine", _call((9, 9)), ValueError, _SQUARE.format("(9, 9)")),
        ErrorInput(
            "flat",
            _call((4,)),
            ValueError,
            "[sinkhorn] Expected `logits` to have at least 2 dimensions, square matrices, got shape (4,).",
        ),
        ErrorInput(
            "no_iterations",
            _call((4, 4)),
            ValueError,
            "[sinkhorn] Expected `iterations` to be from 1 to 1000, got 0.",
            kwargs={"iterations": 0},
        ),
        ErrorInput(
            "half_an_iteration",
            _call((4, 4)),
            TypeError,
            "[sinkhorn] Expected `iterations` to be an integer, got float. Pass an int.",
            kwargs={"iterations": 0.5},
        ),
    ),
    bytes_moved=lambda sample, dtype: 2 * values(sample) * ITEMSIZE[dtype],
    rivals=Rivals(
        shapes=lambda rows, columns: ((rows, max(columns // 16, 1), 4, 4),), formula=_sinkhorn_formula
    ),
)

MIX = OpInfo(
    name="mixing.hyper_connection_mix",
    op=kernel("mixing", "hyper_connection_mix"),
    kernels=("zmlx_hyper_connection_mix",),
    grad_kernels=("zmlx_hyper_connection_mix_vjp",),
    gpu_shape=as_on_a_gpu,
    oracle=_mix,
    oracle_vjp=_mix_vjp,
    differentiable=(0, 1),
    samples=_mix_samples,
    axis_extents={(0, -2): (1, 8), (1, -2): (1, 8)},
    source="Zhu et al. 2024, Hyper-Connections (arXiv:2409.19606); Xie et al. 2025, mHC (arXiv:2512.24880)",
    tolerances=CANCELLING,
    grad_tolerances={
        **CANCELLING,
        "float32": replace(
            CANCELLING["float32"],
            atol=2e-4,
            reason="a weight's is a sum over a row, of which long ones cancel",
        ),
    },
    golden_samples=("small", "single", "odd"),
    error_inputs=(
        _integer("hyper_connection_mix", "streams", (2, 4, 8), (2, 4, 4)),
        ErrorInput("other_streams", _call((2, 4, 8), (2, 4, 3)), ValueError, _MATRIX.format("(2, 4, 3)")),
        ErrorInput("one_matrix", _call((2, 4, 8), (4, 4)), ValueError, _MATRIX.format("(4, 4)")),
        ErrorInput("nine_results", _call((2, 4, 8), (2, 9, 4)), ValueError, _MATRIX.format("(2, 9, 4)")),
        ErrorInput(
            "nine_streams",
            _call((2, 9, 8), (2, 4, 9)),
            ValueError,
            "[hyper_connection_mix] Expected `streams` to have shape (..., n, D) with n from 1 to 8, got (2, 9, 8).",
        ),
        ErrorInput(
            "flat",
            _call((8,), (4, 4)),
            ValueError,
            "[hyper_connection_mix] Expected `streams` to have at least 2 dimensions, streams and their elements at "
            "the end, got shape (8,).",
        ),
    ),
    bytes_moved=lambda sample, dtype: (
        (values(sample) + int(sample.args[0].size) * sample.args[1].shape[-2] // sample.args[0].shape[-2])
        * ITEMSIZE[dtype]
    ),
    flops=lambda sample, dtype: 2 * int(sample.args[0].size) * int(sample.args[1].shape[-2]),
    rivals=Rivals(
        shapes=lambda rows, columns: ((max(rows // 4, 1), 4, columns), (max(rows // 4, 1), 4, 4)),
        formula=lambda mx, streams, weights: weights @ streams,
    ),
)
