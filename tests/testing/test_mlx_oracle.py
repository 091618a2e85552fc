"""Oracles of MLX operations in float32."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from zmlx.testing.opinfo import OpInfo, SampleInput

pytestmark = pytest.mark.cpu


def samples(rng):
    yield SampleInput("small", (np.array([0.5, 2.0]), np.array([1, 0], np.int32)), {"scale": 3.0})


def scaled(x: Any, index: Any, scale: float) -> Any:
    assert isinstance(x, mx.array)
    assert (x.dtype, index.dtype) == (mx.float32, mx.int32)
    return mx.square(x)[index] * scale


def made(**more: Any) -> OpInfo:
    fields = {"name": "mine.scaled", "op": scaled, "oracle": scaled, "samples": samples, "source": "a test"}
    return OpInfo(**{**fields, "oracle_precision": "float32", "differentiable": (0,), **more})


def test_values_are_those_of_the_function_as_float64() -> None:
    (sample,) = made().sample_inputs()
    (values,) = made().expected(sample)
    assert values.dtype == np.float64
    assert values.tolist() == [12.0, 0.75]


def test_the_gradient_is_mlx_s_own() -> None:
    (sample,) = made().sample_inputs()
    (gradient,) = made().expected_vjp(sample, np.array([1.0, 10.0]))
    assert gradient.dtype == np.float64
    assert gradient.tolist() == [2 * 0.5 * 3 * 10.0, 2 * 2.0 * 3]


def test_or_that_of_oracle_vjp() -> None:
    op = made(oracle_vjp=lambda x, index, cotangent, scale: (cotangent * scale,))
    (sample,) = op.sample_inputs()
    (gradient,) = op.expected_vjp(sample, np.array([1.0, 10.0]))
    assert gradient.tolist() == [3.0, 30.0]


def test_it_runs_on_the_cpu_wherever_the_session_is() -> None:
    seen = []
    op = made(oracle=lambda x, index, scale: (seen.append(mx.default_stream(mx.default_device())), x)[1])
    op.expected(op.sample_inputs()[0])
    assert seen[0].device == mx.cpu


def test_integers_stay_integers() -> None:
    op = made(oracle=lambda x, index, scale: index, differentiable=())
    (values,) = op.expected(op.sample_inputs()[0])
    assert values.dtype == np.int32


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^mine\.scaled: `oracle_precision` must be 'float64' .*, got 'half'\.$"
    ):
        made(oracle_precision="half")
