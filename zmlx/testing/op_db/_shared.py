"""What the entries of several modules have in common."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx.testing.opinfo import DEFAULT_DTYPES, ErrorInput, SampleInput
from zmlx.testing.tolerance import DEFAULT_TOLERANCES

Float64Array = NDArray[np.float64]

#: Bytes of one value.
ITEMSIZE = {"float32": 4, "float16": 2, "bfloat16": 2}

#: The numbers at which kernels go wrong: NaN, infinities, zeros of both signs, subnormal, huge and tiny ones.
#: (For float16 the last ones round to infinity and to zero.)
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 1e30, -1e30, 1e-30])


def kernel(family: str, function: str) -> Callable[..., Any]:
    """``zmlx.kernels.<family>.<function>``, imported (and MLX with it) when it is called."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(f"zmlx.kernels.{family}"), function)(*args, **kwargs)

    # It stands for that function: findings name its file.
    call.__module__, call.__name__ = f"zmlx.kernels.{family}", function
    return call


def as_on_a_gpu() -> AbstractContextManager[None]:
    """Calls share a row among 32 threads, as a GPU does; on the CPU one thread has it alone."""
    override: Callable[[int], AbstractContextManager[None]]
    override = importlib.import_module("zmlx.kernels._rows").override
    return override(32)


def quiet() -> Any:
    """For oracles: NaN and infinities are what they are asked about, not accidents."""
    return np.errstate(all="ignore")


def values(sample: SampleInput) -> int:
    """How many values the arrays of a sample have."""
    return sum(a.size for a in sample.args if isinstance(a, np.ndarray))


def ones(*shape: int, dtype: str = "float32") -> Any:
    """An MLX array of ones."""
    import mlx.core as mx

    return mx.ones(shape, getattr(mx, dtype))


def rejected_arrays(function: str, weights: int = 0, name: str = "x") -> tuple[ErrorInput, ...]:
    """Calls with a first argument that no kernel takes, followed by ``weights`` vectors of 8 float32 numbers."""
    rest = (8,) * weights
    needs = f"[{function}] Expected `{name}` to be"
    advice = f"Convert it first: {name}.astype(mx.float32)."

    def call(x: Callable[[], Any]) -> Callable[[], tuple[Any, ...]]:
        return lambda: (x(), *map(ones, rest))

    return (
        *(
            ErrorInput(
                dtype,
                call(lambda dtype=dtype: ones(2, 8, dtype=dtype)),  # type: ignore[misc]
                TypeError,
                f"{needs} float32, float16 or bfloat16, got {dtype}. {advice}",
            )
            for dtype in ("int32", "uint8", "complex64")
        ),
        ErrorInput(
            "zero_d",
            call(ones),
            ValueError,
            f"[{function}] Expected `{name}` to have at least one dimension, got a 0-d array. "
            f"For a single element pass {name}.reshape(1).",
        ),
        ErrorInput(
            "not_mlx",
            call(lambda: np.ones((2, 8), np.float32)),
            TypeError,
            f"{needs} an mlx.core.array, got ndarray. Convert it first: mx.array({name}).",
        ),
    )


def rejected_weight(function: str, name: str, position: int, weights: int) -> tuple[ErrorInput, ...]:
    """Calls on an ``x`` of shape (2, 8) with a weight, the argument at ``position``, that does not fit."""

    def call(wrong: Callable[[], Any]) -> Callable[[], tuple[Any, ...]]:
        def arguments() -> tuple[Any, ...]:
            made = [ones(2, 8), *(ones(8) for _ in range(weights))]
            made[position] = wrong()
            return tuple(made)

        return arguments

    shape = (
        f"[{function}] Expected `{name}` to have shape (8,), one number for each element of a row of `x` "
        "(shape (2, 8)), got {}."
    )
    return (
        ErrorInput(f"{name}_short", call(lambda: ones(7)), ValueError, shape.format("(7,)")),
        ErrorInput(f"{name}_2d", call(lambda: ones(2, 8)), ValueError, shape.format("(2, 8)")),
        ErrorInput(
            f"{name}_integer",
            call(lambda: ones(8, dtype="int32")),
            TypeError,
            f"[{function}] Expected `{name}` to be float32, float16 or bfloat16, got int32. "
            f"Convert it first: {name}.astype(mx.float32).",
        ),
    )


def rejected_eps(function: str, weights: int) -> tuple[ErrorInput, ...]:
    """Calls with an ``eps`` that makes no sense."""

    def arguments() -> tuple[Any, ...]:
        return (ones(2, 8), *(ones(8) for _ in range(weights)))

    return (
        ErrorInput(
            "eps_negative",
            arguments,
            ValueError,
            f"[{function}] Expected `eps` to be finite and not negative, got -1e-06.",
            kwargs={"eps": -1e-6},
        ),
        ErrorInput(
            "eps_text",
            arguments,
            TypeError,
            f"[{function}] Expected `eps` to be a number, got str. Pass a float.",
            kwargs={"eps": "small"},
        ),
    )


#: For results in which terms cancel: ULPs are those of a typical result, not of one that happens to be nearly zero.
CANCELLING = {dtype: replace(DEFAULT_TOLERANCES[dtype], rms_floor=1.0) for dtype in DEFAULT_DTYPES}
