"""Mixtures of experts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx.testing.op_db._shared import ITEMSIZE, SPECIAL, Float64Array, as_on_a_gpu, kernel, ones, quiet, rejected_arrays
from zmlx.testing.op_db.selection import rejected_counts, stable_order, with_more
from zmlx.testing.op_db.softmax import softmax
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleInput, SampleRng

Places = NDArray[np.uint32]
Rng = Callable[[str], SampleRng]


def _router_topk(logits: Float64Array, k: int, renormalize: bool = True) -> tuple[Float64Array, Places]:
    places = stable_order(logits)[..., :k]
    with quiet():
        # Of a softmax, what is divided by the sum of some is the softmax of these.
        if renormalize:
            weights = softmax(np.take_along_axis(logits, places, axis=-1))
        else:
            weights = np.take_along_axis(softmax(logits), places, axis=-1)
    return weights, places.astype(np.uint32)


def _router_topk_vjp(
    logits: Float64Array, k: int, cotangent: Float64Array, renormalize: bool = True
) -> tuple[Float64Array]:
    weights, chosen = _router_topk(logits, k, renormalize)
    places = chosen.astype(np.intp)
    with quiet():
        mean = np.sum(weights * cotangent, axis=-1, keepdims=True)
        gradient = np.zeros_like(logits) if renormalize else -softmax(logits) * mean
        np.put_along_axis(gradient, places, weights * (cotangent - mean), axis=-1)
    return (gradient,)


def _router_samples(rng: Rng) -> Iterator[SampleInput]:
    whole = {"renormalize": False}
    yield SampleInput("small", (rng("small").normal((4, 16)), 2))
    yield SampleInput("small_whole", (rng("small_whole").normal((4, 16)), 2), whole)
    yield SampleInput("single", (np.array([0.75]), 1))
    yield SampleInput("odd", (rng("odd").normal((3, 5, 7), scale=3.0), 3), whole)
    yield SampleInput("many_experts", (rng("many_experts").normal((3, 515), scale=2.0), 11))
    yield SampleInput("many_experts_whole", (rng("many_experts").normal((3, 515), scale=2.0), 11), whole)
    yield SampleInput("many_rows", (rng("many_rows").normal((301, 8)), 2))
    yield SampleInput("ties", (rng("ties").integers((6, 24), -2, 2).astype(np.float64), 5), whole)
    yield SampleInput("special", (_special(rng("special")), 3))
    yield SampleInput("special_whole", (_special(rng("special")), 3), whole)
    yield SampleInput("no_rows", (np.zeros((0, 8)), 2))


def _special(rng: SampleRng) -> Float64Array:
    """Rows with one special number each; one of minus infinities but for one, one of nothing else."""
    rows = rng.normal((SPECIAL.size + 2, 9))
    rows[: SPECIAL.size, 2] = SPECIAL
    rows[-2:] = -np.inf
    rows[-2, 4] = 1.0
    return rows


def _sigmoid_choice(
    logits: Float64Array, bias: Float64Array, k: int, groups: int, best_groups: int
) -> tuple[Float64Array, NDArray[np.intp]]:
    """The scores of all experts, and the chosen ones."""
    with quiet():
        scores = 1 / (1 + np.exp(-logits))
    preference = scores + bias
    if best_groups < groups:
        grouped = preference.reshape(*logits.shape[:-1], groups, -1)
        two = np.take_along_axis(grouped, stable_order(grouped)[..., :2], axis=-1).sum(axis=-1)
        shut = stable_order(two)[..., best_groups:]
        np.put_along_axis(grouped, shut[..., None], -np.inf, axis=-2)
        preference = grouped.reshape(logits.shape)
    return scores, stable_order(preference)[..., :k]


def _sigmoid_router(
    logits: Float64Array,
    bias: Float64Array,
    k: int,
    groups: int = 1,
    best_groups: int = 1,
    renormalize: bool = True,
    scaling: float = 1.0,
) -> tuple[Float64Array, Places]:
    scores, places = _sigmoid_choice(logits, bias, k, groups, best_groups)
    weights = np.take_along_axis(scores, places, axis=-1)
    if renormalize:
        weights = weights / (weights.sum(axis=-1, keepdims=True) + 1e-20)
    return weights * scaling, places.astype(np.uint32)


def _sigmoid_router_vjp(
    logits: Float64Array,
    bias: Float64Array,
    k: int,
    cotangent: Float64Array,
    groups: int = 1,
    best_groups: int = 1,
    renormalize: bool = True,
    scaling: float = 1.0,
) -> tuple[Float64Array]:
    scores, places = _sigmoid_choice(logits, bias, k, groups, best_groups)
    s = np.take_along_axis(scores, places, axis=-1)
    slope = scaling * cotangent
    if renormalize:
        total = s.sum(axis=-1, keepdims=True) + 1e-20
        slope = slope / total - np.sum(slope * s, axis=-1, keepdims=True) / total**2
    gradient = np.zeros_like(logits)
    np.put_along_axis(gradient, places, slope * s * (1 - s), axis=-1)
    return (gradient,)


#: A mixture like DeepSeek-V3's.
_GROUPED = {"groups": 4, "best_groups": 2, "scaling": 2.5}


def _sigmoid_samples(rng: Rng) -> Iterator[SampleInput]:
    def drawn(name: str, *shape: int) -> tuple[Float64Array, Float64Array]:
        numbers = rng(name)
        return numbers.normal(shape), numbers.normal(shape[-1:], scale=0.2)

    yield SampleInput("small", (*drawn("small", 4, 16), 2))
    yield SampleInput("grouped", (*drawn("grouped", 5, 16), 3), _GROUPED)
    yield SampleInput("single", (np.array([0.75]), np.array([-0.5]), 1))
    yield SampleInput("odd", (*drawn("odd", 3, 5, 21), 5), {"groups": 3, "best_groups": 2})
    yield SampleInput("all_groups", (*drawn("all_groups", 3, 12), 4), {"groups": 12, "best_groups": 12})
    yield SampleInput("many_experts", (*drawn("many_experts", 3, 256), 8), {"groups": 8, "best_groups": 4})
    yield SampleInput("as_they_are", (*drawn("as_they_are", 70, 9), 2), {"renormalize": False, "scaling": 0.5})
    level = np.zeros((2, 12)), np.zeros(12)
    yield SampleInput("ties", (*level, 4), {"groups": 3, "best_groups": 2})
    yield SampleInput("no_rows", (np.zeros((0, 8)), np.zeros(8), 2))


def _groups(message: str, name: str, k: int = 2, exception: type[Exception] = ValueError, **numbers: Any) -> ErrorInput:
    return ErrorInput(name, lambda: (ones(2, 8), ones(8), k), exception, f"[sigmoid_router] {message}", numbers)


def _bias_of(length: int, dtype: str = "float32") -> Callable[[], tuple[Any, ...]]:
    return lambda: (ones(2, 8), ones(length, dtype=dtype), 2)


def _named(errors: tuple[ErrorInput, ...]) -> tuple[ErrorInput, ...]:
    """The same for a first argument that is called `logits`."""
    return tuple(
        ErrorInput(
            e.name,
            e.make,
            e.exception,
            e.match.replace("`x`", "`logits`").replace("x.", "logits.").replace("array(x)", "array(logits)"),
            e.kwargs,
            e.regex,
        )
        for e in errors
    )


OPS = (
    OpInfo(
        name="moe.router_topk",
        op=kernel("moe", "router_topk"),
        kernels=("zmlx_router_topk",),
        grad_kernels=("zmlx_router_topk_vjp",),
        gpu_shape=as_on_a_gpu,
        oracle=_router_topk,
        oracle_vjp=_router_topk_vjp,
        differentiable=(0,),
        samples=_router_samples,
        source="Shazeer et al. 2017 (arXiv:1701.06538), equations 3 to 5; Jiang et al. 2024, Mixtral of Experts "
        "(arXiv:2401.04088), section 2.1",
        out_dtype=lambda dtype: (dtype, "uint32"),
        golden_samples=("small", "small_whole", "single", "special"),
        error_inputs=(
            *_named(with_more(rejected_arrays("router_topk"), 2)),
            *rejected_counts("router_topk", lambda k: (ones(2, 8), k), "logits"),
        ),
        bytes_moved=lambda sample, dtype: int(sample.args[0].size) * ITEMSIZE[dtype],
    ),
    OpInfo(
        name="moe.sigmoid_router",
        op=kernel("moe", "sigmoid_router"),
        kernels=("zmlx_sigmoid_router",),
        grad_kernels=("zmlx_sigmoid_router_vjp",),
        gpu_shape=as_on_a_gpu,
        oracle=_sigmoid_router,
        oracle_vjp=_sigmoid_router_vjp,
        differentiable=(0,),
        samples=_sigmoid_samples,
        source="DeepSeek-AI 2024, DeepSeek-V3 Technical Report (arXiv:2412.19437), equations 13 to 16",
        out_dtype=lambda dtype: (dtype, "uint32"),
        golden_samples=("small", "grouped", "single", "ties"),
        error_inputs=(
            *_named(with_more(rejected_arrays("sigmoid_router", weights=1), 2)),
            *rejected_counts("sigmoid_router", lambda k: (ones(2, 8), ones(8), k), "logits"),
            ErrorInput(
                "bias_short",
                _bias_of(7),
                ValueError,
                "[sigmoid_router] Expected `bias` to have shape (8,), one number for each expert of `logits` "
                "(shape (2, 8)), got (7,).",
            ),
            ErrorInput(
                "bias_integer",
                _bias_of(8, "int32"),
                TypeError,
                "[sigmoid_router] Expected `bias` to be float32, float16 or bfloat16, got int32. "
                "Convert it first: bias.astype(mx.float32).",
            ),
            _groups(
                "Expected `groups` to be from 1 to 32, and 8 experts to be a multiple of it, got 3.", "uneven", groups=3
            ),
            _groups(
                "Expected `best_groups` to be from 1 to 2, which is `groups`, got 3.", "too_good", groups=2, best_groups=3
            ),
            _groups(
                "Expected groups of two experts at least, whose two best preferences are added up, got 8 groups of 1. "
                "Choose from all: best_groups=8.",
                "lonely",
                groups=8,
                best_groups=4,
            ),
            _groups(
                "Expected `k` to be at most 4, the experts of 2 groups, got 5.", "shut", 5, groups=4, best_groups=2
            ),
            _groups(
                "Expected `groups` to be an integer, got float. Pass an int.", "half", exception=TypeError, groups=0.5
            ),
            _groups("Expected `scaling` to be finite, got inf.", "endless", scaling=float("inf")),
            _groups(
                "Expected `scaling` to be a number, got str. Pass a float.", "text", exception=TypeError, scaling="1"
            ),
        ),
        bytes_moved=lambda sample, dtype: int(sample.args[0].size) * ITEMSIZE[dtype],
    ),
)
