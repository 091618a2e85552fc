"""Mixtures of experts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    yield SampleInput("single", (np.array([0.75]), np.array([-0.5]), 1), {"renormalize": False})
    yield SampleInput("odd", (*drawn("odd", 3, 5, 21), 5), {"groups": 3, "best_groups": 2})
    yield SampleInput("all_groups", (*drawn("all_groups", 3, 12), 4), {"groups": 12, "best_groups": 12})
    yield SampleInput("many_experts", (*drawn("many_experts", 3, 256), 8), {"groups": 8, "best_groups": 4})
    yield SampleInput(
        "as_they_are", (*drawn("as_they_are", 70, 9), 2), {"renormalize": False, "scaling": 0.5}
    )
    level = np.zeros((2, 12)), np.zeros(12)
    yield SampleInput("ties", (*level, 4), {"groups": 3, "best_groups": 2})
    yield SampleInput("no_rows", (np.zeros((0, 8)), np.zeros(8), 2))


def _groups(
    message: str, name: str, k: int = 2, exception: type[Exception] = ValueError, **numbers: Any
) -> ErrorInput:
    return ErrorInput(
        name, lambda: (ones(2, 8), ones(8), k), exception, f"[sigmoid_router] {message}", numbers
    )


def _bias_of(length: int, dtype: str = "float32") -> Callable[[], tuple[Any, ...]]:
    return lambda: (ones(2, 8), ones(length, dtype=dtype), 2)


def _expert_order(indices: NDArray[np.int32], experts: int) -> tuple[Places, Places, Places]:
    flat = np.where((indices >= 0) & (indices < experts), indices, experts).reshape(-1)
    order = np.argsort(flat, kind="stable")
    offsets = np.searchsorted(flat[order], np.arange(experts + 1))
    positions = np.argsort(order, kind="stable").reshape(indices.shape)
    return order.astype(np.uint32), positions.astype(np.uint32), offsets.astype(np.uint32)


def _order_samples(rng: Rng) -> Iterator[SampleInput]:
    yield SampleInput("small", (rng("small").integers((12, 2), 0, 8), 8))
    yield SampleInput("single", (np.array([[0]], np.int32), 1))
    yield SampleInput("odd", (rng("odd").integers((3, 5, 3), 0, 7), 7))
    yield SampleInput("blocks", (rng("blocks").integers((301, 4), 0, 33), 33))
    yield SampleInput("strays", (rng("strays").integers((40, 3), -2, 9), 6))
    yield SampleInput("one_expert", (np.full((70, 2), 3, np.int32), 5))
    yield SampleInput("no_tokens", (np.zeros((0, 2), np.int32), 3))


def _moved(
    name: str, rng: Rng, tokens: tuple[int, ...], k: int, columns: int, experts: int
) -> dict[str, Any]:
    """Tokens, their copies, weights and the order of experts."""
    numbers = rng(name)
    order, positions, _ = _expert_order(numbers.integers((*tokens, k), 0, experts), experts)
    return {
        "tokens": numbers.normal((*tokens, columns)),
        "copies": numbers.normal((order.size, columns)),
        "weights": numbers.uniform((*tokens, k), 0.1, 1.0),
        "order": order,
        "positions": positions,
    }


def _moving(*wanted: str) -> Callable[[Rng], Iterator[SampleInput]]:
    """Samples of the arguments with these names."""
    shapes: tuple[tuple[str, tuple[int, ...], int, int, int], ...] = (
        ("small", (6,), 2, 16, 4),
        ("single", (1,), 1, 1, 1),
        ("odd", (3, 5), 3, 7, 6),
        ("long_rows", (3,), 2, 4099, 4),
        ("many_tokens", (301,), 2, 5, 8),
        ("no_tokens", (0,), 2, 8, 4),
        ("no_columns", (3,), 2, 0, 4),
    )

    def samples(rng: Rng) -> Iterator[SampleInput]:
        for name, *sizes in shapes:
            made = _moved(name, rng, *sizes)  # type: ignore[arg-type]
            yield SampleInput(name, tuple(made[argument] for argument in wanted))

        special = _moved("special", rng, (SPECIAL.size,), 2, 6, 4)
        for argument in ("tokens", "copies"):
            special[argument][: SPECIAL.size, 2] = SPECIAL
        yield SampleInput("special", tuple(special[argument] for argument in wanted))

    return samples


def _dispatch(x: Float64Array, order: Places, positions: Places) -> Float64Array:
    k = positions.shape[-1]
    return x.reshape(order.size // k, x.shape[-1])[order.astype(np.intp) // k]


def _dispatch_vjp(x: Float64Array, order: Places, positions: Places, g: Float64Array) -> tuple[Float64Array]:
    with quiet():
        return (g[positions.astype(np.intp)].sum(axis=-2),)


def _combine(x: Float64Array, weights: Float64Array, order: Places, positions: Places) -> Float64Array:
    with quiet():
        return np.sum(weights[..., None] * x[positions.astype(np.intp)], axis=-2)


def _combine_vjp(
    x: Float64Array, weights: Float64Array, order: Places, positions: Places, g: Float64Array
) -> tuple[Float64Array, Float64Array]:
    places = positions.astype(np.intp)
    dx = np.zeros_like(x)
    with quiet():
        dx[places] = weights[..., None] * g[..., None, :]
        return dx, np.sum(x[places] * g[..., None, :], axis=-1)


def _placed(rows: int, indices: NDArray[np.int32]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Which indices are in range, and these."""
    there = (indices >= 0) & (indices < rows)
    return there, indices[there].astype(np.intp)


def _gather_add(x: Float64Array, y: Float64Array, indices: NDArray[np.int32]) -> Float64Array:
    there, places = _placed(len(y), indices)
    result = x.copy()
    with quiet():
        result[there] += y[places]
    return result


def _scatter_add(x: Float64Array, y: Float64Array, indices: NDArray[np.int32]) -> Float64Array:
    there, places = _placed(len(x), indices)
    result = x.copy()
    with quiet():
        np.add.at(result, places, y[there])
    return result


def _gather_add_vjp(
    x: Float64Array, y: Float64Array, indices: NDArray[np.int32], g: Float64Array
) -> tuple[Float64Array, Float64Array]:
    return g, _scatter_add(np.zeros_like(y), g, indices)


def _scatter_add_vjp(
    x: Float64Array, y: Float64Array, indices: NDArray[np.int32], g: Float64Array
) -> tuple[Float64Array, Float64Array]:
    return g, _gather_add(np.zeros_like(y), g, indices)


def _adding(scatters: bool) -> Callable[[Rng], Iterator[SampleInput]]:
    """Samples of rows with indices (some of them twice, some out of range), and of a matrix that these count along."""
    shapes: tuple[tuple[str, tuple[int, ...], int, int], ...] = (
        ("small", (6,), 4, 16),
        ("single", (1,), 1, 1),
        ("odd", (3, 5), 6, 7),
        ("long_rows", (5,), 2, 4099),
        ("many_rows", (301,), 40, 5),
        ("no_rows", (0,), 3, 4),
        ("no_columns", (3,), 2, 0),
    )

    def samples(rng: Rng) -> Iterator[SampleInput]:
        for name, rows, count, columns in shapes:
            numbers = rng(name)
            x, y = numbers.normal((*rows, columns)), numbers.normal((count, columns))
            indices = numbers.integers(
                rows, 0 if name in ("small", "single") else -1, count + (name == "odd")
            )
            yield SampleInput(name, (y, x, indices) if scatters else (x, y, indices))
        numbers = rng("special")
        x, y = numbers.normal((SPECIAL.size, 6)), numbers.normal((4, 6))
        x[:, 2] = SPECIAL
        indices = np.arange(SPECIAL.size, dtype=np.int32) % 5
        yield SampleInput("special", (y, x, indices) if scatters else (x, y, indices))

    return samples


def _moving_errors(function: str, *middle: tuple[int, ...]) -> tuple[ErrorInput, ...]:
    """Calls on an x of shape (2, 8), with an order and positions of two slots that do not fit."""

    def call(order: Any, positions: Any) -> Callable[[], tuple[Any, ...]]:
        def make() -> tuple[Any, ...]:
            import mlx.core as mx

            return (
                ones(2, 8),
                *(ones(*shape) for shape in middle),
                *(mx.array(a) for a in (order, positions)),
            )

        return make

    of = "the tokens of `weights`" if middle else "the tokens of `x`"
    text = (
        f"[{function}] Expected `positions` to have shape (2, 'k'), k for each of {of}, and `order` as many values "
        "in one dimension, got shapes {} and {}. Pass what expert_order returns."
    )
    return (
        ErrorInput("order_short", call([0], [[0], [1]]), ValueError, text.format("(2, 1)", "(1,)")),
        ErrorInput("positions_flat", call([0, 1], [0, 1]), ValueError, text.format("(2,)", "(2,)")),
        ErrorInput(
            "order_float",
            call([0.0, 1.0], [[0], [1]]),
            TypeError,
            f"[{function}] Expected `order` to be int32 or uint32, got float32. Convert it first: "
            "order.astype(mx.int32).",
        ),
    )


def _adding_errors(function: str, two: str) -> tuple[ErrorInput, ...]:
    def call(x: Any, y: Any, count: int, dtype: str = "int32") -> Callable[[], tuple[Any, ...]]:
        return lambda: (ones(*x), ones(*y), ones(count, dtype=dtype))

    shapes = (
        f"[{function}] Expected `{two}` to have two dimensions, and `x` and `y` rows of one length, "
        "got shapes {} and {}."
    )
    return (
        ErrorInput("lengths", call((2, 8), (2, 7), 2), ValueError, shapes.format("(2, 8)", "(2, 7)")),
        ErrorInput("vectors", call((8,), (8,), 1), ValueError, shapes.format("(8,)", "(8,)")),
        ErrorInput(
            "indices_short",
            call((2, 8), (2, 8), 1),
            ValueError,
            f"[{function}] Expected `indices` to have shape (2,), one for each row of `{'y' if two == 'x' else 'x'}`, "
            "got (1,).",
        ),
        ErrorInput(
            "indices_float",
            call((2, 8), (2, 8), 2, "float32"),
            TypeError,
            f"[{function}] Expected `indices` to be int32 or uint32, got float32. Convert it first: "
            "indices.astype(mx.int32).",
        ),
        ErrorInput(
            "mixed",
            lambda: (ones(2, 8), ones(2, 8, dtype="float16"), ones(2, dtype="int32")),
            TypeError,
            f"[{function}] Expected `y` to have the dtype of `x`, float32, got float16. Convert it first: "
            "y.astype(x.dtype).",
        ),
    )


def _places(*values: int) -> Any:
    return np.array(values, np.int32)


def _bytes(sample: SampleInput, dtype: str) -> int:
    """Of what is read, and of a result that is as large as the larger of two arrays."""
    floats = [a.size for a in sample.args if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    return (sum(floats) + max(floats)) * ITEMSIZE[dtype]


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
            *with_more(rejected_arrays("router_topk", name="logits"), 2),
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
            *with_more(rejected_arrays("sigmoid_router", weights=1, name="logits"), 2),
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
                "Expected `groups` to be from 1 to 32, and 8 experts to be a multiple of it, got 3.",
                "uneven",
                groups=3,
            ),
            _groups(
                "Expected `best_groups` to be from 1 to 2, which is `groups`, got 3.",
                "too_good",
                groups=2,
                best_groups=3,
            ),
            _groups(
                "Expected groups of two experts at least, whose two best preferences are added up, got 8 groups of 1. "
                "Choose from all: best_groups=8.",
                "lonely",
                groups=8,
                best_groups=4,
            ),
            _groups(
                "Expected `k` to be at most 4, the experts of 2 groups, got 5.",
                "shut",
                5,
                groups=4,
                best_groups=2,
            ),
            _groups(
                "Expected `groups` to be an integer, got float. Pass an int.",
                "half",
                exception=TypeError,
                groups=0.5,
            ),
            _groups("Expected `scaling` to be finite, got inf.", "endless", scaling=float("inf")),
            _groups(
                "Expected `scaling` to be a number, got str. Pass a float.",
                "text",
                exception=TypeError,
                scaling="1",
            ),
        ),
        bytes_moved=lambda sample, dtype: int(sample.args[0].size) * ITEMSIZE[dtype],
    ),
    OpInfo(
        name="moe.expert_order",
        op=kernel("moe", "expert_order"),
        kernels=("zmlx_expert_counts", "zmlx_expert_order"),
        oracle=_expert_order,
        samples=_order_samples,
        source="Knuth 1998, The Art of Computer Programming, volume 3, section 5.2: distribution counting",
        dtypes=("int32",),
        out_dtype=lambda dtype: ("uint32",) * 3,
        golden_samples=("small", "single", "strays"),
        error_inputs=(
            ErrorInput(
                "no_experts",
                lambda: (ones(2, 2, dtype="int32"), 0),
                ValueError,
                "[expert_order] Expected `experts` to be from 1 to 65535, got 0. Pass their number.",
            ),
            ErrorInput(
                "experts_float",
                lambda: (ones(2, 2, dtype="int32"), 2.0),
                TypeError,
                "[expert_order] Expected `experts` to be an integer, got float. Pass an int.",
            ),
            ErrorInput(
                "not_mlx",
                lambda: (_places(0, 1), 2),
                TypeError,
                "[expert_order] Expected `indices` to be an mlx.core.array, got ndarray. Convert it first: "
                "mx.array(indices).",
            ),
        ),
        bytes_moved=lambda sample, dtype: 12 * int(sample.args[0].size),
    ),
    OpInfo(
        name="moe.dispatch",
        op=kernel("moe", "dispatch"),
        kernels=("zmlx_take_rows",),
        grad_kernels=("zmlx_combine",),
        gpu_shape=as_on_a_gpu,
        oracle=_dispatch,
        oracle_vjp=_dispatch_vjp,
        differentiable=(0,),
        samples=_moving("tokens", "order", "positions"),
        source="Gale et al. 2022, MegaBlocks (arXiv:2211.15841), section 5.1",
        golden_samples=("small", "single", "odd", "special"),
        grad_tolerances=CANCELLING,
        error_inputs=(
            *with_more(rejected_arrays("dispatch"), None, None),
            *_moving_errors("dispatch"),
        ),
        bytes_moved=_bytes,
    ),
    OpInfo(
        name="moe.combine",
        op=kernel("moe", "combine"),
        kernels=("zmlx_combine",),
        grad_kernels=("zmlx_combine_vjp",),
        gpu_shape=as_on_a_gpu,
        oracle=_combine,
        oracle_vjp=_combine_vjp,
        differentiable=(0, 1),
        samples=_moving("copies", "weights", "order", "positions"),
        source="Shazeer et al. 2017 (arXiv:1701.06538), equation 1",
        golden_samples=("small", "single", "odd", "special"),
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        error_inputs=(
            *with_more(rejected_arrays("combine", weights=1), None, None),
            *_moving_errors("combine", (2, 1)),
            ErrorInput(
                "another_k",
                lambda: (ones(2, 8), ones(2, 2), ones(2, dtype="int32"), ones(2, 1, dtype="int32")),
                ValueError,
                "[combine] Expected `weights` to have the shape of `positions`, (2, 1), and `x` a row for each of 2 "
                "slots, got shapes (2, 2) and (2, 8).",
            ),
            ErrorInput(
                "three_d",
                lambda: (ones(1, 2, 8), ones(2, 1), ones(2, dtype="int32"), ones(2, 1, dtype="int32")),
                ValueError,
                "[combine] Expected `x` to have two dimensions, (tokens * k, D), got shape (1, 2, 8).",
            ),
        ),
        bytes_moved=_bytes,
    ),
    OpInfo(
        name="moe.gather_add",
        op=kernel("moe", "gather_add"),
        kernels=("zmlx_gather_add",),
        grad_kernels=("zmlx_scatter_add",),
        gpu_shape=as_on_a_gpu,
        oracle=_gather_add,
        oracle_vjp=_gather_add_vjp,
        differentiable=(0, 1),
        samples=_adding(scatters=False),
        source="Blelloch 1990, Vector Models for Data-Parallel Computing, section 3.1",
        golden_samples=("small", "single", "odd", "special"),
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        indices={2: (1, 0)},
        error_inputs=(
            *with_more(rejected_arrays("gather_add", weights=1), None),
            *_adding_errors("gather_add", "y"),
        ),
        bytes_moved=_bytes,
    ),
    OpInfo(
        name="moe.scatter_add",
        op=kernel("moe", "scatter_add"),
        kernels=("zmlx_scatter_add",),
        grad_kernels=("zmlx_take_rows",),
        gpu_shape=as_on_a_gpu,
        oracle=_scatter_add,
        oracle_vjp=_scatter_add_vjp,
        differentiable=(0, 1),
        samples=_adding(scatters=True),
        source="Blelloch 1990, Vector Models for Data-Parallel Computing, section 3.1",
        golden_samples=("small", "single", "odd", "special"),
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        indices={2: (0, 0)},
        error_inputs=(
            *with_more(rejected_arrays("scatter_add", weights=1), None),
            *_adding_errors("scatter_add", "x"),
        ),
        bytes_moved=_bytes,
    ),
)
