"""Mixtures of experts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx.testing.layouts import LAYOUTS
from zmlx.testing.op_db import _moves, _routers
from zmlx.testing.op_db._shared import (
    CANCELLING,
    ITEMSIZE,
    as_on_a_gpu,
    kernel,
    ones,
    rejected_arrays,
)
from zmlx.testing.op_db.selection import PICKS, largest, picked_bytes, rejected_counts, with_more
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleInput, SampleRng
from zmlx.testing.rivals import Argument, Rivals

Places = NDArray[np.uint32]
Rng = Callable[[str], SampleRng]


def _groups(
    message: str, name: str, k: int = 2, exception: type[Exception] = ValueError, **numbers: Any
) -> ErrorInput:
    return ErrorInput(
        name, lambda: (ones(2, 8), ones(8), k), exception, f"[sigmoid_router] {message}", numbers
    )


def _bias_of(length: int, dtype: str = "float32") -> Callable[[], tuple[Any, ...]]:
    return lambda: (ones(2, 8), ones(length, dtype=dtype), 2)


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


def _router_formula(mx: Any, logits: Any) -> tuple[Any, Any]:
    places = largest(mx, logits)
    return mx.softmax(mx.take_along_axis(logits, places, axis=-1), axis=-1), places.astype(mx.uint32)


def _sigmoid_formula(mx: Any, logits: Any, bias: Any) -> tuple[Any, Any]:
    # In float32, whatever the dtype: what is rounded before it is chosen gives other places.
    scores = mx.sigmoid(logits.astype(mx.float32))
    places = largest(mx, scores + bias)
    weights = mx.take_along_axis(scores, places, axis=-1)
    return (weights / mx.sum(weights, axis=-1, keepdims=True)).astype(logits.dtype), places.astype(mx.uint32)


#: Positions of which rows are repeated are those of no order.
_INVERTIBLE = tuple(layout for layout in LAYOUTS if layout != "broadcast")

OPS = (
    OpInfo(
        name="moe.router_topk",
        op=kernel("moe", "router_topk"),
        kernels=("zmlx_router_topk",),
        grad_kernels=("zmlx_router_topk_vjp",),
        gpu_shape=as_on_a_gpu,
        oracle=_routers.router_topk,
        oracle_vjp=_routers.router_topk_vjp,
        differentiable=(0,),
        samples=_routers.router_samples,
        source="Shazeer et al. 2017 (arXiv:1701.06538), equations 3 to 5; Jiang et al. 2024, Mixtral of Experts "
        "(arXiv:2401.04088), section 2.1",
        out_dtype=lambda dtype: (dtype, "uint32"),
        golden_samples=("small", "small_whole", "single", "special"),
        error_inputs=(
            *with_more(rejected_arrays("router_topk", name="logits"), 2),
            *rejected_counts("router_topk", lambda k: (ones(2, 8), k), "logits"),
        ),
        bytes_moved=picked_bytes,
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns),), formula=_router_formula, kwargs={"k": PICKS}
        ),
    ),
    OpInfo(
        name="moe.sigmoid_router",
        op=kernel("moe", "sigmoid_router"),
        kernels=("zmlx_sigmoid_router",),
        grad_kernels=("zmlx_sigmoid_router_vjp",),
        gpu_shape=as_on_a_gpu,
        oracle=_routers.sigmoid_router,
        oracle_vjp=_routers.sigmoid_router_vjp,
        differentiable=(0,),
        samples=_routers.sigmoid_samples,
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
        bytes_moved=picked_bytes,
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns), (columns,)),
            formula=_sigmoid_formula,
            kwargs={"k": PICKS},
        ),
    ),
    OpInfo(
        name="moe.expert_order",
        op=kernel("moe", "expert_order"),
        kernels=("zmlx_expert_counts", "zmlx_expert_order"),
        oracle=_moves.expert_order,
        samples=_moves.order_samples,
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
        oracle=_moves.dispatch,
        oracle_vjp=_moves.dispatch_vjp,
        differentiable=(0,),
        samples=_moves.moving("tokens", "order", "positions"),
        strategy=_moves.moved_strategy("tokens", "order", "positions"),
        layouts=_INVERTIBLE,
        large=_moves.moving_much("tokens", "order", "positions"),
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
        oracle=_moves.combine,
        oracle_vjp=_moves.combine_vjp,
        differentiable=(0, 1),
        samples=_moves.moving("copies", "weights", "order", "positions"),
        strategy=_moves.moved_strategy("copies", "weights", "order", "positions"),
        layouts=_INVERTIBLE,
        large=_moves.moving_much("copies", "weights", "order", "positions"),
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
        oracle=_moves.gather_add,
        oracle_vjp=_moves.gather_add_vjp,
        differentiable=(0, 1),
        samples=_moves.adding(scatters=False),
        rivals=Rivals(
            shapes=lambda rows, columns: (
                (rows, columns),
                (rows, columns),
                Argument((rows,), "int32", (0, rows), per_row=True),
            ),
            formula=lambda mx, x, y, indices: x + y[indices],
            by_rows=False,
        ),
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
        oracle=_moves.scatter_add,
        oracle_vjp=_moves.scatter_add_vjp,
        differentiable=(0, 1),
        samples=_moves.adding(scatters=True),
        rivals=Rivals(
            shapes=lambda rows, columns: (
                (rows, columns),
                (rows, columns),
                Argument((rows,), "int32", (0, rows), per_row=True),
            ),
            formula=lambda mx, x, y, indices: x.at[indices].add(y),
            by_rows=False,
        ),
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
