"""Losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from zmlx.testing.op_db._loss_oracles import (
    cross_entropy,
    cross_entropy_vjp,
    js,
    js_vjp,
    kl,
    kl_vjp,
    linear_cross_entropy,
    linear_cross_entropy_vjp,
)
from zmlx.testing.op_db._row_ops import alike, moved, operations, row_samples, special_rows
from zmlx.testing.op_db._shared import (
    CANCELLING,
    ITEMSIZE,
    Float64Array,
    as_on_a_gpu,
    kernel,
    ones,
    rejected_arrays,
    values,
)
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleInput, SampleRng
from zmlx.testing.rivals import Argument, Rivals


def _labels_of(classes: int, rng: SampleRng, shape: tuple[int, ...]) -> Any:
    """Classes; the first of several rows does not count."""
    labels = np.asarray(np.abs(rng.normal(shape)) * 1000, np.int32) % np.int32(max(classes, 1))
    labels = np.asarray(labels)
    if labels.size > 1:
        labels.reshape(-1)[0] = -100
    return labels


def _labels(rng: SampleRng, shape: tuple[int, ...]) -> Any:
    return _labels_of(shape[-1], rng, shape[:-1])


def _layers(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    def sample(name: str, rows: tuple[int, ...], width: int, classes: int, **kwargs: Any) -> SampleInput:
        hidden = rng(name).normal((*rows, width))
        weight = rng(f"{name}_weight").normal((classes, width), scale=0.5)
        return SampleInput(name, (hidden, weight, _labels_of(classes, rng(f"{name}_labels"), rows)), kwargs)

    yield sample("small", (4,), 8, 12)
    yield sample("single", (1,), 1, 3)
    yield sample("odd", (3, 5), 7, 11, chunk=4, label_smoothing=0.1)
    yield sample("penalty", (6,), 16, 20, chunk=5, z_loss=1e-2)
    yield sample("many_classes", (9,), 6, 300)
    yield sample("many_rows", (301,), 5, 10, chunk=128)
    yield sample("no_rows", (0,), 8, 9)


def _rejected(function: str, hidden: bool) -> tuple[ErrorInput, ...]:
    """Calls with labels and numbers that make no sense, after arrays that do."""
    of = "hidden" if hidden else "logits"

    def call(labels: Callable[[], Any]) -> Callable[[], tuple[Any, ...]]:
        return lambda: (ones(2, 8), *((ones(5, 8),) if hidden else ()), labels())

    def right() -> Any:
        return ones(2, dtype="int32")

    needs = f"[{function}] Expected `{{}}` to be "
    return (
        ErrorInput(
            "labels_float",
            call(lambda: ones(2)),
            TypeError,
            f"{needs.format('labels')}an mlx.core.array of integers, got float32. "
            "Convert it first: labels.astype(mx.int32).",
        ),
        ErrorInput(
            "labels_shape",
            call(lambda: ones(3, dtype="int32")),
            ValueError,
            f"[{function}] Expected `labels` to have shape (2,), one class for each row of `{of}` (shape (2, 8)), got "
            "(3,).",
        ),
        ErrorInput(
            "smoothing_large",
            call(right),
            ValueError,
            f"{needs.format('label_smoothing')}from 0 to 1, got 1.5.",
            kwargs={"label_smoothing": 1.5},
        ),
        ErrorInput(
            "z_loss_negative",
            call(right),
            ValueError,
            f"{needs.format('z_loss')}finite and not negative, got -1.0.",
            kwargs={"z_loss": -1.0},
        ),
        ErrorInput(
            "ignore_float",
            call(right),
            TypeError,
            f"{needs.format('ignore_index')}an integer, got float. Pass an int.",
            kwargs={"ignore_index": 1.5},
        ),
    )


def _rejected_layers() -> tuple[ErrorInput, ...]:
    name = "[fused_linear_cross_entropy]"

    def labels() -> Any:
        return ones(2, dtype="int32")

    return (
        ErrorInput(
            "weight_shape",
            lambda: (ones(2, 8), ones(5, 7), labels()),
            ValueError,
            f"{name} Expected `weight` to have shape (V, 8), a row as long as those of `hidden` for each class, got "
            "(5, 7).",
        ),
        ErrorInput(
            "weight_dtype",
            lambda: (ones(2, 8), ones(5, 8, dtype="float16"), labels()),
            TypeError,
            f"{name} Expected `weight` to be float32 as `hidden` is, got float16. "
            "Convert it first: weight.astype(hidden.dtype).",
        ),
        ErrorInput(
            "chunk_zero",
            lambda: (ones(2, 8), ones(5, 8), labels()),
            ValueError,
            f"{name} Expected `chunk` to be one or more, got 0.",
            kwargs={"chunk": 0},
        ),
    )


def _rejected_logits(function: str, name: str) -> tuple[ErrorInput, ...]:
    """As `rejected_arrays`, of a first argument of that name."""
    return tuple(
        replace(
            error,
            match=error.match.replace("`x`", f"`{name}`")
            .replace(" x.", f" {name}.")
            .replace("(x)", f"({name})"),
        )
        for error in rejected_arrays(function, weights=1)
    )


#: bfloat16 and float16 round the products of matrices, and a chunk's gradient, to their own precision.
_ROUNDED = {
    dtype: replace(
        CANCELLING[dtype],
        rtol=4 * CANCELLING[dtype].rtol,
        atol=atol,
        reason="logits and their gradients are of the dtype between the products of matrices",
    )
    for dtype, atol in (("float16", 4e-3), ("bfloat16", 3e-2))
}


def _divergence_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    yield from row_samples(alike(), special=_finite_special, without=("no_columns",))(rng)
    # Softmax knows no common summand: one that is too large for exp must not show, whichever side has it.
    x, target = rng("far_apart").normal((3, 16)), rng("far_apart_target").normal((3, 16))
    apart = np.array([[200.0], [-200.0], [0.0]])
    yield SampleInput("far_apart", (x, target + apart))


def _formula(mx: Any, logits: Any, target: Any) -> Any:
    """In float32: of near distributions little is left."""
    x, y = logits.astype(mx.float32), target.astype(mx.float32)
    log_p, log_q = (a - mx.logsumexp(a, axis=-1, keepdims=True) for a in (x, y))
    return mx.sum(mx.exp(log_q) * (log_q - log_p), axis=-1).astype(logits.dtype)


def _js_formula(mx: Any, x: Any, target: Any) -> Any:
    """In float32: of near distributions little is left."""
    logits = [a.astype(mx.float32) for a in (x, target)]
    log_p, log_q = (a - mx.logsumexp(a, axis=-1, keepdims=True) for a in logits)
    p, q = mx.exp(log_p), mx.exp(log_q)
    log_m = mx.log(0.5 * (p + q))
    return 0.5 * mx.sum(p * (log_p - log_m) + q * (log_q - log_m), axis=-1).astype(x.dtype)


def _cross_entropy_formula(mx: Any, logits: Any, labels: Any) -> Any:
    own = mx.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    return mx.logsumexp(logits, axis=-1) - own


def _finite_special(rng: SampleRng) -> Float64Array:
    """Without plus infinity and 1e30, of whose distributions the logarithms are infinite."""
    rows = special_rows(rng)
    return np.asarray(rows[~np.any((rows == np.inf) | (np.abs(rows) == 1e30), axis=-1)])


OPS = (
    OpInfo(
        name="losses.softmax_cross_entropy",
        op=kernel("losses", "softmax_cross_entropy"),
        kernels=("zmlx_softmax_cross_entropy",),
        gpu_shape=as_on_a_gpu,
        grad_kernels=("zmlx_softmax_cross_entropy_vjp",),
        oracle=cross_entropy,
        oracle_vjp=cross_entropy_vjp,
        differentiable=(0,),
        samples=row_samples(
            _labels,
            scale=2.0,
            without=("no_columns",),
            special=_finite_special,
            kwargs={"odd": {"label_smoothing": 0.1}, "many_rows": {"z_loss": 1e-2}},
        ),
        indices={1: (0, -1)},
        source="Szegedy et al. 2015, Rethinking the Inception Architecture (arXiv:1512.00567), section 7; "
        "Chowdhery et al. 2022, PaLM (arXiv:2204.02311), section 5",
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "single", "odd", "special"),
        error_inputs=(
            *_rejected_logits("softmax_cross_entropy", "logits"),
            *_rejected("softmax_cross_entropy", hidden=False),
        ),
        bytes_moved=lambda sample, dtype: (
            (int(sample.args[0].size) + len(sample.args[0])) * ITEMSIZE[dtype] + 4 * int(sample.args[1].size)
        ),
        flops=operations(6),
        rivals=Rivals(
            shapes=lambda rows, columns: (
                (rows, columns),
                Argument((rows,), "int32", (0, columns), per_row=True),
            ),
            formula=_cross_entropy_formula,
        ),
    ),
    OpInfo(
        name="losses.kl_div",
        op=kernel("losses", "kl_div"),
        kernels=("zmlx_kl_div",),
        gpu_shape=as_on_a_gpu,
        grad_kernels=("zmlx_kl_div_vjp",),
        oracle=kl,
        oracle_vjp=kl_vjp,
        differentiable=(0, 1),
        samples=_divergence_samples,
        source="Kullback and Leibler 1951, On Information and Sufficiency, equation 2.4",
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "single", "odd"),
        error_inputs=rejected_arrays("kl_div", weights=1),
        bytes_moved=moved(per_row=True),
        flops=operations(10),
        rivals=Rivals(shapes=lambda rows, columns: ((rows, columns), (rows, columns)), formula=_formula),
    ),
    OpInfo(
        name="losses.js_div",
        op=kernel("losses", "js_div"),
        kernels=("zmlx_js_div",),
        gpu_shape=as_on_a_gpu,
        grad_kernels=("zmlx_js_div_vjp",),
        oracle=js,
        oracle_vjp=js_vjp,
        differentiable=(0, 1),
        samples=_divergence_samples,
        source="Lin 1991, Divergence Measures Based on the Shannon Entropy, equation 4.1 with equal weights",
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "single", "odd"),
        error_inputs=rejected_arrays("js_div", weights=1),
        bytes_moved=moved(per_row=True),
        flops=operations(16),
        rivals=Rivals(shapes=lambda rows, columns: ((rows, columns), (rows, columns)), formula=_js_formula),
    ),
    OpInfo(
        name="losses.fused_linear_cross_entropy",
        op=kernel("losses", "fused_linear_cross_entropy"),
        kernels=("zmlx_fused_linear_cross_entropy",),
        gpu_shape=as_on_a_gpu,
        # The gradients are computed with the loss.
        grad_kernels=("zmlx_fused_linear_cross_entropy",),
        oracle=linear_cross_entropy,
        oracle_vjp=linear_cross_entropy_vjp,
        differentiable=(0, 1),
        samples=_layers,
        indices={2: (1, 0)},
        extents=(2, 300),
        out_dtype=lambda dtype: "float32",
        multiplies_matrices=True,
        source="Szegedy et al. 2015, Rethinking the Inception Architecture (arXiv:1512.00567), section 7, of the "
        "logits hidden @ weight.T; in chunks as Hsu et al. 2024, Liger Kernel (arXiv:2410.10989), section 3.2",
        tolerances=_ROUNDED,
        grad_tolerances=_ROUNDED,
        golden_samples=("small", "single", "odd"),
        error_inputs=(
            *_rejected("fused_linear_cross_entropy", hidden=True),
            *_rejected_layers(),
        ),
        bytes_moved=lambda sample, dtype: 2 * values(sample) * ITEMSIZE[dtype],
        flops=lambda sample, dtype: 6 * int(sample.args[0].size) * int(sample.args[1].shape[0]),
    ),
)
