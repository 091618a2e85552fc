"""Steps of optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from zmlx.testing.op_db._shared import (
    ITEMSIZE,
    SPECIAL,
    Float64Array,
    as_on_a_gpu,
    kernel,
    ones,
    quiet,
    values,
)
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleInput, SampleRng
from zmlx.testing.rivals import Argument, Rivals

_DTYPES = "float32, float16 or bfloat16"


def _adamw(
    p: Float64Array,
    g: Float64Array,
    m: Float64Array,
    v: Float64Array,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> tuple[Float64Array, Float64Array, Float64Array]:
    with quiet():
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        m_hat = m / (1 - betas[0] ** step)
        v_hat = v / (1 - betas[1] ** step)
        return p - lr * (m_hat / (np.sqrt(v_hat) + eps) + weight_decay * p), m, v


def _lion(
    p: Float64Array,
    g: Float64Array,
    m: Float64Array,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
) -> tuple[Float64Array, Float64Array]:
    with quiet():
        update = np.sign(betas[0] * m + (1 - betas[0]) * g)
        return p - lr * (update + weight_decay * p), betas[1] * m + (1 - betas[1]) * g


#: Gradients; the square of 1e30 is beyond float32, as the kernel's docs say.
_SPECIAL = SPECIAL[np.abs(SPECIAL) != 1e30]


def _samples(moments: int, settings: tuple[float, ...]) -> Callable[..., Iterator[SampleInput]]:
    """Samples of p, g and so many moments, the second of which is a mean of squares, with the numbers after them."""

    def made(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
        def sample(name: str, shape: tuple[int, ...], **kwargs: Any) -> SampleInput:
            numbers = rng(name)
            # As far from zero that rounding turns no sign: Lion's step is all or nothing.
            p, g = numbers.normal(shape), numbers.uniform(shape, 0.1, 2.0)
            g = np.where(numbers.uniform(shape) < 0.5, -g, g)
            held = (0.05 * g, numbers.uniform(shape, 0.01, 1.0))[:moments]
            return SampleInput(name, (p, g, *held, *settings), kwargs)

        yield sample("small", (4, 32))
        yield sample("single", (1,), weight_decay=0.1)
        yield sample("odd", (3, 5, 7), betas=(0.8, 0.95), weight_decay=0.1)
        yield sample("long_rows", (2, 4099))
        yield sample("many_rows", (301, 5))
        yield sample("no_momentum", (3, 9), betas=(0.0, 0.0))
        special = sample("special", (_SPECIAL.size,))
        yield SampleInput("special", (special.args[0], _SPECIAL, *special.args[2:]))
        yield sample("no_rows", (0, 8))
        yield sample("no_columns", (3, 0))

    return made


def _arguments(
    moments: int, settings: tuple[float, ...], **wrong: Callable[[], Any]
) -> Callable[[], tuple[Any, ...]]:
    """Arguments of shape (2, 8), some of them replaced."""

    def made() -> tuple[Any, ...]:
        names = ("p", "g", "m", "v")[: 2 + moments]
        return (*(wrong.get(name, lambda: ones(2, 8))() for name in names), *settings)

    return made


def _rejected(function: str, moments: int, settings: tuple[float, ...]) -> tuple[ErrorInput, ...]:
    def arguments(**wrong: Callable[[], Any]) -> Callable[[], tuple[Any, ...]]:
        return _arguments(moments, settings, **wrong)

    return (
        ErrorInput(
            "integer",
            arguments(p=lambda: ones(2, 8, dtype="int32")),
            TypeError,
            f"[{function}] Expected `p` to be {_DTYPES}, got int32. Convert it first: p.astype(mx.float32).",
        ),
        ErrorInput(
            "not_mlx",
            arguments(g=lambda: np.ones((2, 8))),
            TypeError,
            f"[{function}] Expected `g` to be an mlx.core.array, got ndarray. Convert it first: mx.array(g).",
        ),
        ErrorInput(
            "other_shape",
            arguments(m=lambda: ones(2, 7)),
            ValueError,
            f"[{function}] Expected `m` to have shape (2, 8), that of `p`, got (2, 7).",
        ),
        ErrorInput(
            "beta_of_one",
            arguments(),
            ValueError,
            f"[{function}] Expected `betas` to be at least 0 and less than 1, got 1.0.",
            kwargs={"betas": (0.9, 1.0)},
        ),
        ErrorInput(
            "one_beta",
            arguments(),
            ValueError,
            f"[{function}] Expected `betas` to be two numbers, got 0.9.",
            kwargs={"betas": 0.9},
        ),
        ErrorInput(
            "decay_text",
            arguments(),
            TypeError,
            f"[{function}] Expected `weight_decay` to be a number, got str. Pass a float.",
            kwargs={"weight_decay": "much"},
        ),
        ErrorInput(
            "many_rates",
            lambda: (*_arguments(moments, settings[:-1])(), ones(3)),
            ValueError,
            f"[{function}] Expected `lr` to be a number or an array of no dimension, got shape (3,).",
        ),
    )


def _bytes_moved(results: int) -> Callable[[SampleInput, str], int]:
    """All arrays are read, all but the gradient are written."""
    return lambda sample, dtype: (values(sample) + results * int(sample.args[0].size)) * ITEMSIZE[dtype]


def _adamw_formula(mx: Any, p: Any, g: Any, m: Any, v: Any) -> tuple[Any, Any, Any]:
    """The third step, with what is fixed worked out."""
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * mx.square(g)
    p = (1 - 1e-5) * p - 1e-3 * (m / (1 - 0.9**3)) / (mx.sqrt(v / (1 - 0.999**3)) + 1e-8)
    return p, m, v


def _lion_formula(mx: Any, p: Any, g: Any, m: Any) -> tuple[Any, Any]:
    return p - 1e-3 * mx.sign(0.9 * m + 0.1 * g), 0.99 * m + 0.01 * g


_ADAMW_SETTINGS = (3, 1e-3)
_LION_SETTINGS = (1e-3,)

OPS = (
    OpInfo(
        name="optimizers.adamw_step",
        op=kernel("optimizers", "adamw_step"),
        kernels=("zmlx_adamw",),
        gpu_shape=as_on_a_gpu,
        oracle=_adamw,
        samples=_samples(2, _ADAMW_SETTINGS),
        source="Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization (arXiv:1711.05101), algorithm 2, "
        "with the decay times the learning rate as in PyTorch",
        golden_samples=("small", "single", "odd", "special"),
        error_inputs=(
            *_rejected("adamw_step", 2, _ADAMW_SETTINGS),
            ErrorInput(
                "step_zero",
                _arguments(2, (0, 1e-3)),
                ValueError,
                f"[adamw_step] Expected `step` to be from 1 to {2**63}, got 0.",
            ),
            ErrorInput(
                "eps_negative",
                _arguments(2, _ADAMW_SETTINGS),
                ValueError,
                "[adamw_step] Expected `eps` to be at least 0, got -1e-08.",
                kwargs={"eps": -1e-8},
            ),
            ErrorInput(
                "two_dtypes",
                _arguments(2, _ADAMW_SETTINGS, v=lambda: ones(2, 8, dtype="float16")),
                TypeError,
                "[adamw_step] Expected `m` and `v` to have one dtype, got mlx.core.float32 and mlx.core.float16. "
                "Convert one of them: v.astype(m.dtype).",
            ),
        ),
        bytes_moved=_bytes_moved(3),
        flops=lambda sample, dtype: 14 * int(sample.args[0].size),
        rivals=Rivals(
            shapes=lambda rows, columns: (
                *[(rows, columns)] * 3,
                Argument((rows, columns), within=(0.01, 1.0)),
            ),
            formula=_adamw_formula,
            kwargs={"step": 3, "lr": 1e-3},
        ),
    ),
    OpInfo(
        name="optimizers.lion_step",
        op=kernel("optimizers", "lion_step"),
        kernels=("zmlx_lion",),
        gpu_shape=as_on_a_gpu,
        oracle=_lion,
        samples=_samples(1, _LION_SETTINGS),
        source="Chen et al. 2023, Symbolic Discovery of Optimization Algorithms (arXiv:2302.06675), algorithm 2",
        golden_samples=("small", "single", "odd", "special"),
        error_inputs=_rejected("lion_step", 1, _LION_SETTINGS),
        bytes_moved=_bytes_moved(2),
        flops=lambda sample, dtype: 9 * int(sample.args[0].size),
        rivals=Rivals(
            # All of one sign: none is so near zero that rounding turns it.
            shapes=lambda rows, columns: (
                (rows, columns),
                *[Argument((rows, columns), within=(0.1, 2.0))] * 2,
            ),
            formula=_lion_formula,
            kwargs={"lr": 1e-3},
        ),
    ),
)
