"""Dropout, alone and behind norms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from zmlx.testing.op_db._row_ops import Beside, moved, operations, row_samples, special_rows, vector
from zmlx.testing.op_db._shared import (
    CANCELLING,
    Float64Array,
    as_on_a_gpu,
    kernel,
    ones,
    quiet,
    rejected_arrays,
)
from zmlx.testing.op_db.norms import _layernorm, _layernorm_vjp, _rmsnorm, _rmsnorm_vjp
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleRng

_WORD = 0xFFFFFFFF


def _philox(counter: list[Any], key: tuple[int, int]) -> list[Any]:
    """Philox4x32-10, from section 5.3 of the paper: arrays of uint64 that hold words of 32 bits."""
    first, second = key
    for _ in range(10):
        left, right = counter[0] * np.uint64(0xD2511F53), counter[2] * np.uint64(0xCD9E8D57)
        counter = [
            (right >> np.uint64(32)) ^ counter[1] ^ np.uint64(first),
            right & np.uint64(_WORD),
            (left >> np.uint64(32)) ^ counter[3] ^ np.uint64(second),
            left & np.uint64(_WORD),
        ]
        first, second = (first + 0x9E3779B9) & _WORD, (second + 0xBB67AE85) & _WORD
    return counter


def _uniform(shape: tuple[int, ...], seed: int) -> Float64Array:
    """The random number of each element: that of its row and column."""
    columns = shape[-1]
    rows = int(np.prod(shape[:-1]))
    place = np.arange(columns, dtype=np.uint64)
    zero = np.zeros((rows, columns), np.uint64)
    row = zero + np.arange(rows, dtype=np.uint64)[:, None]
    words = np.stack(_philox([zero + place // np.uint64(4), row, zero, zero], (seed & _WORD, seed >> 32)))
    chosen = np.take_along_axis(words, (zero + place % np.uint64(4)).astype(np.int64)[None], axis=0)[0]
    return np.asarray((chosen >> np.uint64(8)).astype(np.float64) * 2.0**-24).reshape(shape)


def _drop(y: Float64Array, p: float, seed: int) -> Float64Array:
    with quiet():
        return np.where(_uniform(y.shape, seed) >= np.float32(p), y / (1 - p), 0.0)


def _dropped(norm: Callable[..., Float64Array]) -> Callable[..., Float64Array]:
    return lambda x, *rest, **eps: _drop(norm(x, *rest[:-2], **eps), *rest[-2:])


def _dropped_vjp(vjp: Callable[..., tuple[Float64Array, ...]]) -> Callable[..., tuple[Float64Array, ...]]:
    def call(x: Float64Array, *rest: Any, **eps: float) -> tuple[Float64Array, ...]:
        *weights, p, seed, cotangent = rest
        return vjp(x, *weights, _drop(cotangent, p, seed), **eps)

    return call


def _number(value: float) -> Beside:
    """The same number in every sample."""
    return lambda rng, shape: value  # type: ignore[return-value]


def _moderate(rng: SampleRng) -> Float64Array:
    return special_rows(rng, moderate=True)


def _rejected(function: str, weights: int) -> tuple[ErrorInput, ...]:
    def call(p: Any, seed: Any) -> Callable[[], tuple[Any, ...]]:
        return lambda: (ones(2, 8), *(ones(8) for _ in range(weights)), p, seed)

    return (
        ErrorInput(
            "p_one",
            call(1.0, 1),
            ValueError,
            f"[{function}] Expected `p` to be from 0 to less than 1, got 1.0.",
        ),
        ErrorInput(
            "p_text",
            call("half", 1),
            TypeError,
            f"[{function}] Expected `p` to be a number, got str. Pass a float.",
        ),
        ErrorInput(
            "seed_negative",
            call(0.5, -1),
            TypeError,
            f"[{function}] Expected `seed` to be an integer from 0 to 2**64 - 1, got -1. Pass another one for each "
            "call that is to have other numbers.",
        ),
    )


def _with_numbers(errors: tuple[ErrorInput, ...]) -> tuple[ErrorInput, ...]:
    """Rejected arrays, followed by a probability and a seed."""
    return tuple(
        ErrorInput(e.name, lambda e=e: (*e.make(), 0.25, 1), e.exception, e.match)  # type: ignore[misc]
        for e in errors
    )


_NAMES: tuple[tuple[str, int, Callable[..., Any], Callable[..., Any], str], ...] = (
    (
        "dropout",
        0,
        _drop,
        lambda x, p, seed, cotangent: (_drop(cotangent, p, seed),),
        "Srivastava et al. 2014, Dropout, section 10",
    ),
    (
        "rms_norm_dropout",
        1,
        _dropped(_rmsnorm),
        _dropped_vjp(_rmsnorm_vjp),
        "Zhang and Sennrich 2019 (arXiv:1910.07467), equation 4; Srivastava et al. 2014, Dropout, section 10",
    ),
    (
        "layer_norm_dropout",
        2,
        _dropped(_layernorm),
        _dropped_vjp(_layernorm_vjp),
        "Ba, Kiros and Hinton 2016 (arXiv:1607.06450), equation 4; Srivastava et al. 2014, Dropout, section 10",
    ),
)

OPS = tuple(
    OpInfo(
        name=f"dropouts.{name}",
        op=kernel("dropouts", name),
        kernels=(f"zmlx_{name}",),
        gpu_shape=as_on_a_gpu,
        grad_kernels=(f"zmlx_{name}_vjp", *(("zmlx_column_sum",) if weights else ())),
        oracle=oracle,
        oracle_vjp=vjp,
        differentiable=tuple(range(1 + weights)),
        samples=row_samples(
            *(vector(1.0 - i) for i in range(weights)),
            _number(0.25),
            _number(2**40 + 7),
            special=_moderate,
            kwargs={"": {"eps": 1e-3}, "single": {"eps": 0.25}} if weights else None,
        ),
        axis_extents={(0, -1): (2, 4200)} if weights else {},
        source=f"{source}; the random numbers: Salmon et al. 2011, Parallel Random Numbers, section 5.3",
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "single", "odd"),
        error_inputs=(
            *_with_numbers(rejected_arrays(name, weights=weights)),
            *_rejected(name, weights),
        ),
        bytes_moved=moved(),
        flops=operations(2 + 6 * bool(weights)),
    )
    for name, weights, oracle, vjp, source in _NAMES
)
