"""The routers of mixtures of experts in float64, and their samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx.testing.op_db._shared import (
    SPECIAL,
    Float64Array,
    quiet,
)
from zmlx.testing.op_db.selection import stable_order
from zmlx.testing.op_db.softmax import softmax
from zmlx.testing.opinfo import SampleInput, SampleRng

Places = NDArray[np.uint32]
Rng = Callable[[str], SampleRng]


def router_topk(logits: Float64Array, k: int, renormalize: bool = True) -> tuple[Float64Array, Places]:
    places = stable_order(logits)[..., :k]
    with quiet():
        # Of a softmax, what is divided by the sum of some is the softmax of these.
        if renormalize:
            weights = softmax(np.take_along_axis(logits, places, axis=-1))
        else:
            weights = np.take_along_axis(softmax(logits), places, axis=-1)
    return weights, places.astype(np.uint32)


def router_topk_vjp(
    logits: Float64Array, *rest: Any, k: int = 0, renormalize: bool = True
) -> tuple[Float64Array]:
    *given, cotangent = rest
    (k,) = given or (k,)
    weights, chosen = router_topk(logits, k, renormalize)
    places = chosen.astype(np.intp)
    with quiet():
        mean = np.sum(weights * cotangent, axis=-1, keepdims=True)
        gradient = np.zeros_like(logits) if renormalize else -softmax(logits) * mean
        np.put_along_axis(gradient, places, weights * (cotangent - mean), axis=-1)
    return (gradient,)


def router_samples(rng: Rng) -> Iterator[SampleInput]:
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


def sigmoid_router(
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


def sigmoid_router_vjp(
    logits: Float64Array,
    bias: Float64Array,
    *rest: Any,
    k: int = 0,
    groups: int = 1,
    best_groups: int = 1,
    renormalize: bool = True,
    scaling: float = 1.0,
) -> tuple[Float64Array]:
    *given, cotangent = rest
    (k,) = given or (k,)
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


def sigmoid_samples(rng: Rng) -> Iterator[SampleInput]:
    def drawn(name: str, *shape: int) -> tuple[Float64Array, Float64Array]:
        numbers = rng(name)
        return numbers.normal(shape), numbers.normal(shape[-1:], scale=0.2)

    yield SampleInput("small", (*drawn("small", 4, 16), 2))
    yield SampleInput("grouped", (*drawn("grouped", 5, 16), 3), _GROUPED)
    yield SampleInput(
        "single", (np.array([0.75]), np.array([-0.5]), 1), {"renormalize": False, "scaling": 0.5}
    )
    yield SampleInput("odd", (*drawn("odd", 3, 5, 21), 5), {"groups": 3, "best_groups": 2})
    yield SampleInput("all_groups", (*drawn("all_groups", 3, 12), 4), {"groups": 12, "best_groups": 12})
    yield SampleInput("many_experts", (*drawn("many_experts", 3, 256), 8), {"groups": 8, "best_groups": 4})
    yield SampleInput(
        "as_they_are", (*drawn("as_they_are", 70, 9), 2), {"renormalize": False, "scaling": 0.5}
    )
    level = np.zeros((2, 12)), np.zeros(12)
    yield SampleInput("ties", (*level, 4), {"groups": 3, "best_groups": 2})
    yield SampleInput("no_rows", (np.zeros((0, 8)), np.zeros(8), 2))
