"""Normalisation of groups of channels."""

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
    rejected_eps,
    rejected_weight,
    values,
)
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleInput, SampleRng
from zmlx.testing.rivals import Rivals


def _over_groups(x: Float64Array, groups: int) -> Float64Array:
    """The mean over all places and the channels of each group, repeated for every element."""
    batch, channels = x.shape[0], x.shape[-1]
    grouped = x.reshape(batch, -1, groups, channels // groups)
    mean = np.sum(grouped, axis=(1, 3), keepdims=True) / (grouped.shape[1] * grouped.shape[3])
    return np.asarray(np.broadcast_to(mean, grouped.shape).reshape(x.shape))


def _standardised(x: Float64Array, groups: int, eps: float) -> tuple[Float64Array, Float64Array]:
    """(x - mean) * scale, and scale."""
    centred = x - _over_groups(x, groups)
    scale = 1 / np.sqrt(_over_groups(centred * centred, groups) + eps)
    return centred * scale, scale


def _groupnorm(
    x: Float64Array, gamma: Float64Array, beta: Float64Array, num_groups: int, eps: float = 1e-5
) -> Float64Array:
    if not x.size:
        return x
    with quiet():
        return _standardised(x, num_groups, eps)[0] * gamma + beta


def _groupnorm_vjp(
    x: Float64Array,
    gamma: Float64Array,
    beta: Float64Array,
    cotangent: Float64Array,
    num_groups: int,
    eps: float = 1e-5,
) -> tuple[Float64Array, Float64Array, Float64Array]:
    if not x.size:
        return x, np.zeros_like(gamma), np.zeros_like(beta)
    with quiet():
        normal, scale = _standardised(x, num_groups, eps)
        weighted = cotangent * gamma
        mean = _over_groups(weighted, num_groups)
        dx = scale * (weighted - mean - normal * _over_groups(weighted * normal, num_groups))
        over = tuple(range(x.ndim - 1))
        return dx, np.asarray(np.sum(cotangent * normal, axis=over)), np.asarray(np.sum(cotangent, axis=over))


def _sample(
    numbers: SampleRng, name: str, shape: tuple[int, ...], groups: int, loc: float = 0.0, **kwargs: Any
) -> SampleInput:
    around = numbers.normal(shape[-1], scale=0.3, loc=1.0), numbers.normal(shape[-1], scale=0.3)
    arrays = (numbers.normal(shape, loc=loc), *around)
    return SampleInput(name, arrays, {"num_groups": groups, **kwargs})


def _samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    yield _sample(rng("small"), "small", (2, 6, 16), 2)
    yield _sample(rng("single"), "single", (1, 2), 1, eps=0.25)
    yield _sample(rng("odd"), "odd", (3, 2, 5, 21), 3, eps=1e-3)
    yield _sample(rng("one_group"), "one_group", (2, 33, 5), 1, eps=0.25)
    yield _sample(rng("a_group_a_channel"), "a_group_a_channel", (2, 33, 2), 2)
    yield _sample(rng("wide"), "wide", (2, 3, 1030), 2)
    yield _sample(rng("many_places"), "many_places", (2, 131, 4), 2)
    yield _sample(rng("far_from_zero"), "far_from_zero", (2, 12, 8), 2, loc=1000.0)
    yield _sample(rng("parts"), "parts", (2, 700, 52), 2, loc=30.0)
    special = _sample(rng("special"), "special", (4, 3, 8), 2)
    special.args[0][0, 1, 2], special.args[0][1, 0, 5], special.args[0][2, 2, 0] = np.nan, np.inf, -np.inf
    special.args[0][3, :, :4] = 0.0
    yield special
    yield _sample(rng("no_batch"), "no_batch", (0, 3, 8), 2)
    yield _sample(rng("no_places"), "no_places", (2, 0, 8), 2)


def _strategy(dtype: str) -> Any:
    """Groups divide the channels, which equal extents do not show."""
    from hypothesis import strategies

    def made(batch: int, places: list[int], groups: int, width: int, seed: int) -> SampleInput:
        numbers = SampleRng(f"groups/{seed}")
        return _sample(numbers, "drawn", (batch, *places, groups * width), groups, eps=1e-2)

    integers = strategies.integers
    places = strategies.lists(integers(1, 9), min_size=1, max_size=2)
    return strategies.builds(
        made, integers(1, 4), places, integers(1, 6), integers(1, 40), integers(0, 2**16)
    )


def _call(x: Callable[[], Any], groups: Any = 2) -> Callable[[], tuple[Any, ...]]:
    return lambda: (x(), ones(8), ones(8), groups)


def _grouped(error: ErrorInput) -> ErrorInput:
    """The same call with a number of groups."""
    return ErrorInput(
        error.name, lambda: (*error.make(), 2), error.exception, error.match, error.kwargs, error.regex
    )


_REJECTED = (
    ErrorInput(
        "integer",
        _call(lambda: ones(2, 8, dtype="int32")),
        TypeError,
        "[groupnorm] Expected `x` to be float32, float16 or bfloat16, got int32. "
        "Convert it first: x.astype(mx.float32).",
    ),
    ErrorInput(
        "no_batch_axis",
        _call(lambda: ones(8)),
        ValueError,
        "[groupnorm] Expected `x` to have at least 2 dimensions, batch first and channels last, got shape (8,).",
    ),
    ErrorInput(
        "three_groups",
        _call(lambda: ones(2, 8), 3),
        ValueError,
        "[groupnorm] Expected `num_groups` to divide the 8 channels of `x` (shape (2, 8)), got 3.",
    ),
    ErrorInput(
        "no_groups",
        _call(lambda: ones(2, 8), 0),
        ValueError,
        "[groupnorm] Expected `num_groups` to be from 1 to 8, got 0.",
    ),
    ErrorInput(
        "groups_text",
        _call(lambda: ones(2, 8), "two"),
        TypeError,
        "[groupnorm] Expected `num_groups` to be an integer, got str. Pass an int.",
    ),
    *(_grouped(error) for error in rejected_weight("groupnorm", "gamma", 1, weights=2)),
    *(_grouped(error) for error in rejected_weight("groupnorm", "beta", 2, weights=2)),
    *(_grouped(error) for error in rejected_eps("groupnorm", weights=2)),
)


_GRADIENTS = {
    dtype: replace(tolerance, atol=5e-5, reason="sums over thousands of places cross zero")
    for dtype, tolerance in CANCELLING.items()
}

#: Images of 16 x 16, and groups, as diffusion models have them; so many channels of a group that they are whole chunks.
_PLACES, _GROUPS, _WIDTH = 256, 32, 8


def _shapes(rows: int, columns: int) -> tuple[tuple[int, ...], ...]:
    """At least so many channels."""
    channels = -(-columns // (_GROUPS * _WIDTH)) * _GROUPS * _WIDTH
    return (max(rows // _PLACES, 1), min(rows, _PLACES), channels), (channels,), (channels,)


def _formula(mx: Any, x: Any, gamma: Any, beta: Any) -> Any:
    # Sums of a group pass what float16 holds.
    wide = x.astype(mx.float32).reshape(*x.shape[:2], _GROUPS, -1)
    centred = wide - mx.mean(wide, axis=(1, 3), keepdims=True)
    normal = centred * mx.rsqrt(mx.mean(mx.square(centred), axis=(1, 3), keepdims=True) + 1e-5)
    return (normal.reshape(x.shape) * gamma + beta).astype(x.dtype)


OPS = (
    OpInfo(
        name="group_norms.groupnorm",
        op=kernel("group_norms", "groupnorm"),
        # Groups that threadgroups share have their moments, and the gradient's sums, from a kernel before.
        kernels=("zmlx_groupnorm", "zmlx_groupnorm*"),
        grad_kernels=("zmlx_groupnorm_vjp", "zmlx_groupnorm_weights", "zmlx_groupnorm*"),
        gpu_shape=as_on_a_gpu,
        oracle=_groupnorm,
        oracle_vjp=_groupnorm_vjp,
        differentiable=(0, 1, 2),
        samples=_samples,
        strategy=_strategy,
        source="Wu and He 2018, Group Normalization (arXiv:1803.08494), equations 1, 2, 6 and 7",
        tolerances=CANCELLING,
        grad_tolerances=_GRADIENTS,
        golden_samples=("small", "single", "odd", "special"),
        error_inputs=_REJECTED,
        bytes_moved=lambda sample, dtype: (values(sample) + int(sample.args[0].size)) * ITEMSIZE[dtype],
        flops=lambda sample, dtype: 8 * int(sample.args[0].size),
        rivals=Rivals(
            shapes=_shapes,
            formula=_formula,
            kwargs={"num_groups": _GROUPS},
        ),
    ),
)
