"""Short causal convolutions, and the mixing of hyper-connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from zmlx.testing.op_db._hyper import MIX, SINKHORN
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
from zmlx.testing.rivals import Argument, Rivals

_TYPES = "float32, float16 or bfloat16"
_SILU = {"activation": "silu"}


def _sigmoid(a: Float64Array) -> Float64Array:
    return np.asarray(1 / (1 + np.exp(-a)))


def _filtered(x: Float64Array, weight: Float64Array, bias: Float64Array | None) -> Float64Array:
    taps, time = weight.shape[1], x.shape[-2]
    y = np.zeros_like(x)
    for k in range(taps):
        back = taps - 1 - k  # rows before the beginning are zero
        y[..., back:, :] += weight[:, k] * x[..., : max(time - back, 0), :]
    return y if bias is None else y + bias


def _conv(
    x: Float64Array, weight: Float64Array, bias: Float64Array | None = None, activation: str | None = None
) -> Float64Array:
    with quiet():
        y = _filtered(x, weight, bias)
        return y * _sigmoid(y) if activation else y


def _conv_vjp(
    x: Float64Array,
    weight: Float64Array,
    bias: Float64Array,
    cotangent: Float64Array,
    activation: str | None = None,
) -> tuple[Float64Array, Float64Array, Float64Array]:
    with quiet():
        g = cotangent
        if activation:
            y = _filtered(x, weight, bias)
            s = _sigmoid(y)
            g = g * s * (1 + y * (1 - s))
        taps, time = weight.shape[1], x.shape[-2]
        dx, dweight = np.zeros_like(x), np.zeros_like(weight)
        over = tuple(range(x.ndim - 1))
        for k in range(taps):
            back, left = taps - 1 - k, max(time - (taps - 1 - k), 0)
            dx[..., :left, :] += weight[:, k] * g[..., back:, :]
            dweight[:, k] = np.sum(g[..., back:, :] * x[..., :left, :], axis=over)
        return dx, dweight, np.asarray(np.sum(g, axis=over))


def _step(
    x: Float64Array,
    state: Float64Array,
    weight: Float64Array,
    bias: Float64Array | None = None,
    activation: str | None = None,
) -> tuple[Float64Array, Float64Array]:
    rows = np.concatenate([state, x[..., None, :]], axis=-2)
    return _conv(rows, weight, bias, activation)[..., -1, :], rows[..., 1:, :]


def _conv_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    def sample(name: str, shape: tuple[int, ...], taps: int, **kwargs: Any) -> SampleInput:
        numbers, channels = rng(name), shape[-1]
        filters = numbers.normal((channels, taps), scale=0.5), numbers.normal(channels)
        return SampleInput(name, (numbers.normal(shape), *filters), kwargs)

    yield sample("small", (2, 6, 16), 4)
    yield sample("small_silu", (2, 6, 16), 4, **_SILU)
    yield sample("single", (1, 1), 1)
    yield sample("odd", (3, 2, 5, 7), 3, **_SILU)
    yield sample("widest", (2, 11, 5), 8)
    yield sample("shorter_than_filter", (3, 2, 5), 4)
    yield sample("long_rows", (9, 1030), 4)
    yield sample("much_time", (2, 131, 3), 4, **_SILU)
    special = sample("special", (2, 9, 6), 4)
    special.args[0][0, 4, :3] = np.nan, 0.0, -0.0
    yield special
    yield sample("no_time", (2, 0, 5), 4)
    yield sample("no_channels", (2, 6, 0), 4)


def _step_sample(
    numbers: SampleRng, name: str, shape: tuple[int, ...], taps: int, kwargs: dict[str, Any]
) -> SampleInput:
    channels = shape[-1]
    arrays = (
        numbers.normal(shape),
        numbers.normal((*shape[:-1], taps - 1, channels)),
        numbers.normal((channels, taps), scale=0.5),
        numbers.normal(channels),
    )
    return SampleInput(name, arrays, kwargs)


def _step_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    for name, shape, taps, kwargs in (
        ("small", (4, 16), 4, {}),
        ("small_silu", (4, 16), 4, _SILU),
        ("single", (1,), 2, {}),
        ("odd", (3, 2, 7), 3, _SILU),
        ("widest", (3, 5), 8, {}),
        ("one_tap", (3, 5), 1, {}),
        ("long_rows", (2, 1030), 4, {}),
        ("many_rows", (301, 3), 4, {}),
        ("no_rows", (0, 5), 4, {}),
        ("no_channels", (2, 0), 4, {}),
    ):
        yield _step_sample(rng(name), name, shape, taps, dict(kwargs))


def _step_strategy(dtype: str) -> Any:
    """The state has a row less than the filter has taps, which equal extents do not show."""
    from hypothesis import strategies

    def made(rows: list[int], channels: int, taps: int, seed: int, activated: bool) -> SampleInput:
        kwargs = dict(_SILU) if activated else {}
        return _step_sample(SampleRng(f"step/{seed}"), "drawn", (*rows, channels), taps, kwargs)

    integers = strategies.integers
    rows = strategies.lists(integers(1, 5), max_size=2)
    return strategies.builds(
        made, rows, integers(1, 70), integers(1, 8), integers(0, 2**16), strategies.booleans()
    )


def _rejected(function: str, step: bool) -> tuple[ErrorInput, ...]:
    """Calls for 8 channels and 4 taps, of which one argument does not fit."""

    def call(**wrong: Callable[[], Any]) -> Callable[[], tuple[Any, ...]]:
        def made() -> tuple[Any, ...]:
            right: dict[str, Callable[[], Any]] = {"x": lambda: ones(2, 8) if step else ones(2, 5, 8)}
            if step:
                right["state"] = lambda: ones(2, 3, 8)
            right.update(weight=lambda: ones(8, 4), bias=lambda: ones(8))
            return tuple({**right, **wrong}[name]() for name in right)

        return made

    taps = f"[{function}] Expected `weight` to have shape (8, W), channels and taps, with W from 1 to 8, got "
    return (
        ErrorInput(
            "integer",
            call(x=lambda: ones(2, 8, dtype="int32")),
            TypeError,
            f"[{function}] Expected `x` to be {_TYPES}, got int32. Convert it first: x.astype(mx.float32).",
        ),
        ErrorInput("nine_taps", call(weight=lambda: ones(8, 9)), ValueError, f"{taps}(8, 9)."),
        ErrorInput("other_channels", call(weight=lambda: ones(4, 4)), ValueError, f"{taps}(4, 4)."),
        ErrorInput(
            "flat_weight",
            call(weight=lambda: ones(8)),
            ValueError,
            f"[{function}] Expected `weight` to have at least 2 dimensions, channels and taps, got shape (8,).",
        ),
        ErrorInput(
            "short_bias",
            call(bias=lambda: ones(7)),
            ValueError,
            f"[{function}] Expected `bias` to have shape (8,), one number for each channel, got (7,).",
        ),
        ErrorInput(
            "unknown_activation",
            call(),
            ValueError,
            f"[{function}] Expected `activation` to be None or 'silu', got 'relu'.",
            kwargs={"activation": "relu"},
        ),
        ErrorInput(
            "other_state" if step else "no_time",
            call(state=lambda: ones(2, 4, 8)) if step else call(x=lambda: ones(8)),
            ValueError,
            f"[{function}] Expected `state` to have shape (2, 3, 8), the rows before that of `x`, got (2, 4, 8)."
            if step
            else f"[{function}] Expected `x` to have at least 2 dimensions, time and channels at the end, got shape "
            "(8,).",
        ),
    )


def _conv_formula(mx: Any, x: Any, weight: Any, bias: Any) -> Any:
    padded = mx.concatenate([mx.zeros((x.shape[0], 3, x.shape[2]), x.dtype), x], axis=1)
    return sum((weight[:, k] * padded[:, k : k + x.shape[1]] for k in range(4)), bias)


def _step_formula(mx: Any, x: Any, state: Any, weight: Any, bias: Any) -> tuple[Any, Any]:
    rows = mx.concatenate([state, x[:, None]], axis=1)
    return sum((weight[:, k] * rows[:, k] for k in range(4)), bias), rows[:, 1:]


_MAMBA = (
    "Gu and Dao 2023, Mamba: Linear-Time Sequence Modeling with Selective State Spaces (arXiv:2312.00752)"
)

OPS = (
    OpInfo(
        name="mixing.causal_conv1d",
        op=kernel("mixing", "causal_conv1d"),
        kernels=("zmlx_causal_conv1d",),
        grad_kernels=("zmlx_causal_conv1d", "zmlx_causal_conv1d_vjp", "zmlx_column_sum"),
        gpu_shape=as_on_a_gpu,
        oracle=_conv,
        oracle_vjp=_conv_vjp,
        differentiable=(0, 1, 2),
        samples=_conv_samples,
        axis_extents={(1, 1): (1, 8)},
        source=f"{_MAMBA}, section 3.4 and figure 3; the filter of causal_conv1d",
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "small_silu", "single", "special"),
        error_inputs=_rejected("causal_conv1d", step=False),
        bytes_moved=lambda sample, dtype: (values(sample) + int(sample.args[0].size)) * ITEMSIZE[dtype],
        flops=lambda sample, dtype: 2 * int(sample.args[0].size) * int(sample.args[1].shape[1]),
        rivals=Rivals(
            shapes=lambda rows, columns: (
                (max(rows // 1024, 1), min(rows, 1024), columns),
                Argument((columns, 4), whole=True),
                (columns,),
            ),
            formula=_conv_formula,
        ),
    ),
    OpInfo(
        name="mixing.causal_conv1d_step",
        op=kernel("mixing", "causal_conv1d_step"),
        kernels=("zmlx_causal_conv1d*",),
        gpu_shape=as_on_a_gpu,
        oracle=_step,
        samples=_step_samples,
        strategy=_step_strategy,
        source=f"{_MAMBA}, section 3.4; causal_conv1d_update of causal_conv1d, channels last",
        tolerances=CANCELLING,
        golden_samples=("small", "small_silu", "single"),
        error_inputs=_rejected("causal_conv1d_step", step=True),
        bytes_moved=lambda sample, dtype: (
            (values(sample) + int(sample.args[0].size) + int(sample.args[1].size)) * ITEMSIZE[dtype]
        ),
        flops=lambda sample, dtype: 2 * int(sample.args[1].size),
        rivals=Rivals(
            shapes=lambda rows, columns: (
                (max(rows // 4, 1), columns),
                (max(rows // 4, 1), 3, columns),
                Argument((columns, 4), whole=True),
                (columns,),
            ),
            formula=_step_formula,
        ),
    ),
    SINKHORN,
    MIX,
)
