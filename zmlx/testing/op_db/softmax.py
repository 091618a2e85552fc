"""Softmax."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from zmlx.testing.op_db._peers import liger, torch_compiled
from zmlx.testing.op_db._row_ops import a_row, moved, operations, row_samples, special_rows, total
from zmlx.testing.op_db._shared import (
    CANCELLING,
    ITEMSIZE,
    Float64Array,
    as_on_a_gpu,
    kernel,
    ones,
    quiet,
    rejected_arrays,
)
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleInput, SampleRng
from zmlx.testing.rivals import Argument, Rivals


def softmax(x: Float64Array) -> Float64Array:
    """exp(x - max(x)) / sum(exp(x - max(x))) over the last axis."""
    with quiet():
        e = np.exp(x - np.max(x, axis=-1, keepdims=True, initial=-np.inf))
        return np.asarray(e / np.sum(e, axis=-1, keepdims=True))


def _softmax_vjp(x: Float64Array, cotangent: Float64Array) -> tuple[Float64Array]:
    y = softmax(x)
    with quiet():
        return (y * (cotangent - np.sum(cotangent * y, axis=-1, keepdims=True)),)


def _samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    yield SampleInput("small", (rng("small").normal((4, 32)),))
    yield SampleInput("single", (np.array([0.75]),))
    yield SampleInput("odd", (rng("odd").normal((3, 5, 7), scale=3.0),))
    yield SampleInput("long_rows", (rng("long_rows").normal((2, 4099), scale=3.0),))
    yield SampleInput("many_rows", (rng("many_rows").normal((301, 5)),))
    yield SampleInput("steep", (rng("steep").normal((3, 40), scale=2000.0),))
    yield SampleInput("level", (np.full((2, 33), -7.5),))
    yield SampleInput("special", (special_rows(rng("special")),))
    yield SampleInput("no_rows", (np.zeros((0, 8)),))
    yield SampleInput("no_columns", (np.zeros((3, 0)),))


def _shifted(x: Float64Array) -> Float64Array:
    with quiet():
        return np.asarray(x - np.max(x, axis=-1, keepdims=True, initial=-np.inf))


def _log_softmax(x: Float64Array) -> Float64Array:
    with quiet():
        return np.asarray(_shifted(x) - np.log(total(np.exp(_shifted(x)))))


def _log_softmax_vjp(x: Float64Array, cotangent: Float64Array) -> tuple[Float64Array]:
    with quiet():
        return (cotangent - softmax(x) * total(cotangent),)


def _logsumexp(x: Float64Array) -> Float64Array:
    with quiet():
        return np.asarray(np.logaddexp.reduce(x, axis=-1, initial=-np.inf))


def _logsumexp_vjp(x: Float64Array, cotangent: Float64Array) -> tuple[Float64Array]:
    with quiet():
        # exp(x - logsumexp(x)), which is NaN where both are infinite.
        return (cotangent[..., None] * np.exp(x - _logsumexp(x)[..., None]),)


def _masked(z: Float64Array, visible: Any) -> Float64Array:
    """The softmax of what is visible; zero elsewhere, and where nothing is."""
    with quiet():
        hidden = np.where(visible, z, -np.inf)
        e = np.where(visible, np.exp(z - np.max(hidden, axis=-1, keepdims=True, initial=-np.inf)), 0.0)
        return np.where(total(e) == 0, 0.0, e / total(e))


def _masked_vjp(z: Float64Array, visible: Any, cotangent: Float64Array) -> Float64Array:
    y = _masked(z, visible)
    with quiet():
        return np.where(visible, y * (cotangent - total(np.where(visible, cotangent * y, 0.0))), 0.0)


def _visible(x: Float64Array, causal: bool, window: int | None) -> Any:
    if not causal and window is None:
        return True
    queries, keys = x.shape[-2:]
    ahead = np.arange(keys) - (np.arange(queries)[:, None] + keys - queries)
    return (ahead <= 0) & (ahead > -(window or np.inf))


def _scale_mask_softmax(
    x: Float64Array,
    bias: Any = 0.0,
    *,
    scale: float = 1.0,
    causal: bool = False,
    window: int | None = None,
) -> Float64Array:
    with quiet():
        return _masked(x * scale + bias, _visible(x, causal, window))


def _scale_mask_softmax_vjp(
    x: Float64Array,
    bias: Float64Array,
    cotangent: Float64Array,
    *,
    scale: float = 1.0,
    causal: bool = False,
    window: int | None = None,
) -> tuple[Float64Array, Float64Array]:
    with quiet():
        dz = _masked_vjp(x * scale + bias, _visible(x, causal, window), cotangent)
        repeated = tuple(range(x.ndim - bias.ndim))
        return dz * scale, np.sum(dz, axis=repeated)


def _sink_softmax(x: Float64Array, sink: Float64Array) -> Float64Array:
    return softmax(np.concatenate([x, sink[..., None]], axis=-1))[..., :-1]


def _sink_softmax_vjp(
    x: Float64Array, sink: Float64Array, cotangent: Float64Array
) -> tuple[Float64Array, Float64Array]:
    joined = np.concatenate([x, sink[..., None]], axis=-1)
    (d,) = _softmax_vjp(joined, np.concatenate([cotangent, 0.0 * sink[..., None]], axis=-1))
    return d[..., :-1], d[..., -1]


def _some(rng: SampleRng, shape: tuple[int, ...]) -> Any:
    """A mask that hides a third, and of the first row, where there are several, everything."""
    mask = rng.normal(shape) > -0.4
    if mask.ndim > 1:
        mask[:1] = False
    return mask


def _scores(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    def sample(name: str, *shape: int, bias: int = 2, **kwargs: Any) -> SampleInput:
        x = rng(name).normal(shape, scale=2.0)
        return SampleInput(name, (x, rng(f"{name}_bias").normal(shape[-bias:])), kwargs)

    yield sample("small", 4, 32, scale=0.25)
    yield sample("single", 1, 1)
    yield sample("odd", 3, 5, 7, causal=True)
    yield sample("window", 2, 6, 9, bias=3, window=3, scale=0.5)
    yield sample("more_queries", 7, 4, causal=True)
    yield sample("long_rows", 2, 4099, window=4000)
    yield sample("many_rows", 7, 43, 5, causal=True)
    # Sums that reach zero by way of infinities are left to masked_softmax.
    special = special_rows(rng("special"))
    yield SampleInput("special", (special, np.zeros(special.shape)), {"scale": 1.0})
    yield SampleInput("no_rows", (np.zeros((0, 8)), np.zeros((0, 8))))
    yield SampleInput("no_columns", (np.zeros((3, 0)), np.zeros((3, 0))))


def _rejected_window() -> tuple[ErrorInput, ...]:
    def call() -> tuple[Any, ...]:
        return (ones(2, 8),)

    needs = "[scale_mask_softmax] Expected `window` to be "
    return (
        ErrorInput("window_zero", call, ValueError, f"{needs}one or more, got 0.", kwargs={"window": 0}),
        ErrorInput(
            "window_float",
            call,
            TypeError,
            f"{needs}an integer, got float. Pass an int.",
            kwargs={"window": 2.0},
        ),
        ErrorInput(
            "one_dimension",
            lambda: (ones(8),),
            ValueError,
            "[scale_mask_softmax] Expected `x` to have at least two dimensions, scores of queries and keys, which "
            "have positions; got shape (8,).",
            kwargs={"causal": True},
        ),
        ErrorInput(
            "bias_shape",
            lambda: (ones(2, 8), ones(3, 8)),
            ValueError,
            "[scale_mask_softmax] Expected `bias` to have shape (2, 8), that of `x`, or one that broadcasts to it; "
            "got (3, 8).",
        ),
        ErrorInput(
            "scale_text",
            call,
            TypeError,
            "[scale_mask_softmax] Expected `scale` to be a number, got str. Pass a float.",
            kwargs={"scale": "half"},
        ),
    )


def _formula(mx: Any, x: Any) -> Any:
    e = mx.exp(x - mx.max(x, axis=-1, keepdims=True))
    return e / mx.sum(e, axis=-1, keepdims=True)


OPS = (
    OpInfo(
        name="softmax.softmax_lastdim",
        op=kernel("softmax", "softmax_lastdim"),
        kernels=("zmlx_softmax",),
        gpu_shape=as_on_a_gpu,
        grad_kernels=("zmlx_softmax_vjp",),
        oracle=softmax,
        oracle_vjp=_softmax_vjp,
        differentiable=(0,),
        samples=_samples,
        source="Goodfellow, Bengio and Courville 2016, Deep Learning, equations 4.1 and 6.33",
        golden_samples=("small", "single", "odd", "special"),
        error_inputs=rejected_arrays("softmax_lastdim"),
        bytes_moved=lambda sample, dtype: 2 * int(sample.args[0].size) * ITEMSIZE[dtype],
        flops=lambda sample, dtype: 5 * int(sample.args[0].size),
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns),),
            formula=_formula,
            own_name="mx.softmax",
            own=lambda mx, x: mx.softmax(x, axis=-1, precise=True),
            peers=(
                torch_compiled(lambda torch, x: torch.softmax(x, -1)),
                liger("softmax", "LigerSoftmaxFunction"),
            ),
        ),
    ),
    OpInfo(
        name="softmax.log_softmax",
        op=kernel("softmax", "log_softmax"),
        kernels=("zmlx_log_softmax",),
        gpu_shape=as_on_a_gpu,
        grad_kernels=("zmlx_log_softmax_vjp",),
        oracle=_log_softmax,
        oracle_vjp=_log_softmax_vjp,
        differentiable=(0,),
        samples=row_samples(),
        source="Goodfellow, Bengio and Courville 2016, Deep Learning, equation 6.30",
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "single", "odd", "special"),
        error_inputs=rejected_arrays("log_softmax"),
        bytes_moved=moved(),
        flops=operations(5),
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns),),
            formula=lambda mx, x: x - mx.logsumexp(x, axis=-1, keepdims=True),
            peers=(torch_compiled(lambda torch, x: torch.log_softmax(x, -1)),),
        ),
    ),
    OpInfo(
        name="softmax.logsumexp",
        op=kernel("softmax", "logsumexp"),
        kernels=("zmlx_logsumexp",),
        gpu_shape=as_on_a_gpu,
        grad_kernels=("zmlx_logsumexp_vjp",),
        oracle=_logsumexp,
        oracle_vjp=_logsumexp_vjp,
        differentiable=(0,),
        samples=row_samples(),
        source="Blanchard, Higham and Higham 2021, Accurately Computing the Log-Sum-Exp and Softmax Functions, "
        "equation 3.8",
        tolerances=CANCELLING,
        golden_samples=("small", "single", "odd", "special"),
        error_inputs=rejected_arrays("logsumexp"),
        bytes_moved=moved(per_row=True),
        flops=operations(4),
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns),),
            formula=lambda mx, x: (
                mx.log(mx.sum(mx.exp(x - mx.max(x, -1, keepdims=True)), -1)) + mx.max(x, -1)
            ),
            own_name="mx.logsumexp",
            own=lambda mx, x: mx.logsumexp(x, axis=-1),
            peers=(torch_compiled(lambda torch, x: torch.logsumexp(x, -1)),),
        ),
    ),
    OpInfo(
        name="softmax.masked_softmax",
        op=kernel("softmax", "masked_softmax"),
        kernels=("zmlx_masked_softmax",),
        gpu_shape=as_on_a_gpu,
        grad_kernels=("zmlx_masked_softmax_vjp",),
        oracle=_masked,
        oracle_vjp=lambda x, mask, cotangent: (_masked_vjp(x, mask, cotangent),),
        differentiable=(0,),
        samples=row_samples(_some),
        source="Vaswani et al. 2017, Attention Is All You Need (arXiv:1706.03762), section 3.2.3",
        golden_samples=("small", "single", "odd", "special"),
        error_inputs=(
            *rejected_arrays("masked_softmax", weights=1),
            ErrorInput(
                "mask_float",
                lambda: (ones(2, 8), ones(2, 8)),
                TypeError,
                "[masked_softmax] Expected `mask` to be an mlx.core.array of bool, true where an element counts, got "
                "float32. Compare first, such as mask != 0.",
            ),
            ErrorInput(
                "mask_shape",
                lambda: (ones(2, 8), ones(2, 7, dtype="bool_")),
                ValueError,
                "[masked_softmax] Expected `mask` to have shape (2, 8), that of `x`, or one that broadcasts to it; "
                "got (2, 7).",
            ),
        ),
        bytes_moved=lambda sample, dtype: int(sample.args[0].size) * (2 * ITEMSIZE[dtype] + 1),
        flops=operations(5),
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns), Argument((rows, columns), "bool", (0, 2))),
            formula=lambda mx, x, mask: mx.softmax(mx.where(mask, x, -mx.inf), axis=-1, precise=True).astype(
                x.dtype
            ),
        ),
    ),
    OpInfo(
        name="softmax.scale_mask_softmax",
        op=kernel("softmax", "scale_mask_softmax"),
        kernels=("zmlx_scale_mask_softmax",),
        gpu_shape=as_on_a_gpu,
        grad_kernels=("zmlx_scale_mask_softmax_vjp",),
        oracle=_scale_mask_softmax,
        oracle_vjp=_scale_mask_softmax_vjp,
        differentiable=(0, 1),
        samples=_scores,
        source="Vaswani et al. 2017, Attention Is All You Need (arXiv:1706.03762), equation 1; Beltagy, Peters and "
        "Cohan 2020, Longformer (arXiv:2004.05150), section 3.1",
        golden_samples=("small", "single", "odd", "window"),
        error_inputs=(*rejected_arrays("scale_mask_softmax"), *_rejected_window()),
        bytes_moved=moved(),
        flops=operations(7),
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns), (rows, columns)),
            formula=lambda mx, x, bias: _formula(mx, x + bias),
            peers=(torch_compiled(lambda torch, x, bias: torch.softmax(x + bias, -1)),),
        ),
    ),
    OpInfo(
        name="softmax.sink_softmax",
        op=kernel("softmax", "sink_softmax"),
        kernels=("zmlx_sink_softmax",),
        gpu_shape=as_on_a_gpu,
        grad_kernels=("zmlx_sink_softmax_vjp",),
        oracle=_sink_softmax,
        oracle_vjp=_sink_softmax_vjp,
        differentiable=(0, 1),
        samples=row_samples(a_row()),
        source="Xiao et al. 2023, Efficient Streaming Language Models with Attention Sinks (arXiv:2309.17453), "
        "section 3.3; gpt-oss model card (arXiv:2508.10925), section 2.3",
        golden_samples=("small", "single", "odd", "special"),
        error_inputs=(
            *rejected_arrays("sink_softmax", weights=1),
            ErrorInput(
                "sink_shape",
                lambda: (ones(2, 8), ones(3)),
                ValueError,
                "[sink_softmax] Expected `sink` to have shape (2,), one value for each row of `x` (shape (2, 8)), or "
                "one that broadcasts to it; got (3,).",
            ),
            ErrorInput(
                "sink_number",
                lambda: (ones(2, 8), 0.0),
                TypeError,
                "[sink_softmax] Expected `sink` to be an mlx.core.array, got float. Convert it first: mx.array(sink).",
            ),
        ),
        bytes_moved=moved(),
        flops=operations(5),
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns), Argument((rows,), per_row=True)),
            formula=lambda mx, x, sink: mx.softmax(mx.concatenate([x, sink[:, None]], -1), -1, precise=True)[
                :, :-1
            ],
        ),
    ),
)
