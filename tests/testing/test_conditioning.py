"""An element is excused by what rounding its inputs moves the oracle, and by no more."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from zmlx.testing.conditioning import STEPS, movement, nearer, working_precision
from zmlx.testing.op_db import op_db
from zmlx.testing.opinfo import SampleInput

PRECISION = 2.0**-24


def moved(oracle: Any, *arrays: Any) -> Any:
    return movement(oracle, SampleInput("one", tuple(map(np.asarray, arrays))), PRECISION)


def test_a_difference_that_cancels_moves_by_its_terms() -> None:
    terms = np.array([1000.0, 1.0])
    far = moved(lambda s: s.args[0] - s.args[1], terms, terms - 1e-6)
    assert np.all(far > 0.5 * PRECISION * terms)
    assert np.all(far < 2.5 * PRECISION * terms)


def test_a_product_moves_by_little_more_than_itself() -> None:
    far = moved(lambda s: s.args[0] * s.args[1], np.array([3.0]), np.array([5.0]))
    assert 0 < far[0] <= 4 * PRECISION * 15


def test_steps_of_the_oracle_round_too() -> None:
    """(1 + x) - 1: however exact x is, float32 keeps few digits of it beside 1."""
    far = moved(lambda s: (np.float32(1) + s.args[0]) - np.float32(1), np.array([1.23456789e-4]))
    assert 1e-9 < far[0] < 2.0**-23


def test_integers_stay_and_what_is_not_finite_counts_nothing() -> None:
    assert moved(lambda s: s.args[0] * 2.0, np.array([3, 4])).tolist() == [0, 0]
    assert moved(lambda s: s.args[0], np.array([np.inf, np.nan])).tolist() == [0, 0]


def test_a_result_comes_as_near_as_the_movement_explains() -> None:
    result = mx.array([1.0 + 2**-10, 2.0, float("nan"), float("inf"), 3.0])
    truth = np.array([1.0, 2.0, 1.0, 1.0, np.nan])
    near = nearer(result, truth, np.full(5, 2.0**-10 / (2 * STEPS)))
    assert near[0] == 1.0 + 2**-11
    assert near[1] == 2.0
    assert np.isnan(near[2])
    assert np.isinf(near[3])
    assert near[4] == 3.0
    assert nearer(result, truth, np.full(5, 2.0**-10))[0] == 1.0


def test_kernels_compute_in_float32_and_mlx_in_the_dtype() -> None:
    kernel = next(op for op in op_db if op.kernel)
    stock = next(op for op in op_db if not op.kernel)
    assert working_precision(kernel, "float16") == PRECISION
    assert working_precision(stock, "float16") == 2.0**-11
