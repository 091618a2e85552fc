"""Operations of MLX itself: their golden values show how far the back ends agree where zmlx has no say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zmlx.testing.op_db._shared import CANCELLING, SPECIAL, Float64Array, quiet
from zmlx.testing.op_db.softmax import softmax
from zmlx.testing.opinfo import OpInfo, SampleInput, SampleRng
from zmlx.testing.tolerance import Tolerance

Oracle = Callable[..., Any]

# Metal takes subnormal numbers for zero, whose logarithm is something else; and no one needs the sine of
# 1e30.
_NORMAL_SPECIAL = tuple(v for v in SPECIAL if not 0 < abs(v) < 1e-38)
_SMALL_SPECIAL = tuple(v for v in SPECIAL if abs(v) != 1e30)

#: Intermediate results are rounded to float16, which costs one more ULP than the default allows.
_ROUNDED_TWICE = {
    "float16": Tolerance(rtol=2e-3, atol=1e-5, reason="MLX rounds an intermediate result to float16 here")
}

#: On CUDA, MLX adds up 16-bit floats in their own dtype: the error grows with the terms, not with their sum.
_HALF_SUMS = "MLX's CUDA back end accumulates in the dtype of the input"
_SUMMED_IN_HALF = {
    **CANCELLING,
    "float16": Tolerance(rtol=4e-3, atol=2e-2, rms_floor=1.0, reason=_HALF_SUMS),
    "bfloat16": Tolerance(rtol=3e-2, atol=2e-1, rms_floor=1.0, reason=_HALF_SUMS),
}
_AVERAGED_IN_HALF = {
    **CANCELLING,
    "float16": Tolerance(rtol=4e-3, atol=1e-3, rms_floor=1.0, reason=_HALF_SUMS),
    "bfloat16": Tolerance(rtol=3e-2, atol=8e-3, rms_floor=1.0, reason=_HALF_SUMS),
}

#: On the CPU MLX adds up one number after the other: the sum of 512 equal ones is off by 51 ULPs.
_FEW_TERMS = (1, 40)

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _mlx(name: str, **fixed: Any) -> Callable[..., Any]:
    """``mlx.core.<name>``, imported when it is called."""

    def call(*args: Any, **kwargs: Any) -> Any:
        import mlx.core as mx

        return getattr(mx, name)(*args, **fixed, **kwargs)

    return call


def _quietly(oracle: Oracle) -> Oracle:
    def call(*args: Float64Array, **kwargs: Any) -> Any:
        with quiet():
            return np.asarray(oracle(*args, **kwargs))

    return call


@dataclass(frozen=True)
class _Elementwise:
    """A function of one or two arguments: where its samples lie, and which special values it is asked about."""

    name: str
    oracle: Oracle
    low: float = -4.0
    high: float = 4.0
    arguments: int = 1
    special: Sequence[float] = tuple(SPECIAL)
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)

    def samples(self, rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
        def drawn(name: str, *shape: int) -> tuple[Float64Array, ...]:
            source = rng(name)
            return tuple(source.uniform(shape, self.low, self.high) for _ in range(self.arguments))

        yield SampleInput("small", drawn("small", 3, 8))
        yield SampleInput("long", drawn("long", 2, 1031))
        if self.special:
            others = drawn("special", len(self.special))[1:]
            yield SampleInput("special", (np.array(self.special), *others))

    def entry(self) -> OpInfo:
        return _entry(
            self.name,
            _mlx(self.name),
            self.oracle,
            self.samples,
            ("small", "special") if self.special else ("small",),
            self.tolerances,
        )


def _entry(
    name: str,
    op: Callable[..., Any],
    oracle: Oracle,
    samples: Callable[[Callable[[str], SampleRng]], Iterator[SampleInput]],
    golden: tuple[str, ...],
    tolerances: Mapping[str, Tolerance],
    **more: Any,
) -> OpInfo:
    return OpInfo(
        name=f"stock.{name}",
        op=op,
        oracle=_quietly(oracle),
        samples=samples,
        source=f"mlx.core.{name} and the NumPy function of the same meaning",
        kernel=False,
        golden_samples=golden,
        tolerances=tolerances,
        **more,
    )


_ELEMENTWISE = (
    _Elementwise("exp", np.exp),
    _Elementwise("log", np.log, low=0.01, high=100.0, special=_NORMAL_SPECIAL),
    _Elementwise("sqrt", np.sqrt, low=0.0, high=100.0),
    _Elementwise(
        "rsqrt",
        lambda x: 1 / np.sqrt(x),
        low=0.01,
        high=100.0,
        special=_NORMAL_SPECIAL,
        tolerances=_ROUNDED_TWICE,
    ),
    _Elementwise("sin", np.sin, special=_SMALL_SPECIAL),
    _Elementwise("cos", np.cos, special=_SMALL_SPECIAL),
    _Elementwise("tanh", np.tanh),
    _Elementwise("sigmoid", lambda x: 1 / (1 + np.exp(-x)), tolerances=_ROUNDED_TWICE),
    _Elementwise("erf", _erf),
    _Elementwise("add", np.add, arguments=2),
    _Elementwise("subtract", np.subtract, arguments=2),
    _Elementwise("multiply", np.multiply, arguments=2),
    _Elementwise("divide", np.divide, arguments=2, low=0.5),
    _Elementwise("maximum", np.maximum, arguments=2),
)


def _logsumexp(x: Float64Array) -> Float64Array:
    top = np.max(x, axis=-1, keepdims=True)
    return np.asarray(np.log(np.sum(np.exp(x - top), axis=-1)) + top[..., 0])


@dataclass(frozen=True)
class _RowFunction:
    """A function of the last axis."""

    name: str
    oracle: Oracle
    fixed: Mapping[str, Any]
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)

    def samples(self, rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
        yield SampleInput("small", (rng("small").normal((3, 16)),))
        yield SampleInput("odd", (rng("odd").normal((2, 3, 7), scale=2.0),))
        yield SampleInput("long", (rng("long").normal((3, 1031)),))

    def entry(self) -> OpInfo:
        op = _mlx(self.name, **self.fixed)
        return _entry(
            self.name, op, self.oracle, self.samples, ("small", "odd"), self.tolerances, extents=_FEW_TERMS
        )


_ROW_FUNCTIONS = (
    _RowFunction("sum", lambda x: np.sum(x, axis=-1), {"axis": -1}, _SUMMED_IN_HALF),
    _RowFunction("mean", lambda x: np.mean(x, axis=-1), {"axis": -1}, _AVERAGED_IN_HALF),
    _RowFunction("max", lambda x: np.max(x, axis=-1), {"axis": -1}),
    _RowFunction("var", lambda x: np.var(x, axis=-1), {"axis": -1}, _ROUNDED_TWICE),
    _RowFunction("logsumexp", _logsumexp, {"axis": -1}),
    _RowFunction("softmax", softmax, {"axis": -1, "precise": True}),
)


def _matmul_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    for name, rows, inner, columns in (("small", 4, 8, 5), ("odd", 3, 33, 7), ("long", 8, 515, 9)):
        source = rng(name)
        yield SampleInput(name, (source.normal((rows, inner)), source.normal((inner, columns))))


# Computed without TF32, which the suite switches off: with it CUDA multiplies float32 matrices to 10 bits.
_MATMUL = _entry(
    *("matmul", _mlx("matmul"), np.matmul, _matmul_samples, ("small", "odd"), CANCELLING),
    extents=_FEW_TERMS,
    multiplies_matrices=True,
)

OPS = (
    *(function.entry() for function in _ELEMENTWISE),
    *(function.entry() for function in _ROW_FUNCTIONS),
    _MATMUL,
)
