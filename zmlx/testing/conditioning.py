"""How much rounding moves an oracle's answer: that of its inputs, and that of its own steps.

A kernel computes in float32. Where terms cancel, its rounding alone moves the result by more than the result is large,
and no tolerance can be met, by anyone. What the oracle itself makes of float32 inputs that are off by half a unit in
the last place tells such an element from a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from zmlx.testing._formats import Float64Array, float_format
from zmlx.testing._values import as_float64
from zmlx.testing.opinfo import OpInfo, SampleInput
from zmlx.testing.sample_rng import SampleRng

#: How often inputs are moved, each element up or down.
ROUNDS = 16
#: A computation of several steps rounds several times.
STEPS = 8.0


def working_precision(op: OpInfo, dtype: str) -> float:
    """Half a unit in the last place of 1: of float32, in which kernels compute, and for MLX's own operations of the
    dtype."""
    return float_format("float32" if op.kernel else dtype).eps / 2


def movement(oracle: Callable[[SampleInput], Any], sample: SampleInput, precision: float) -> Float64Array:
    """How far each element of the oracle's answer moves, at most, when every float input does and is float32, as what
    NumPy computes from it then is too.

    Parameters
    ----------
    oracle : callable
        Gives one array for a sample.
    sample : SampleInput
        The inputs, as they are.
    precision : float
        By which share of itself an input moves.

    Returns
    -------
    numpy.ndarray of float64
        Of the answer's shape; 0 where it is not finite, or does not stay so.
    """
    with np.errstate(all="ignore"):
        still = as_float64(oracle(sample))
        moved = np.zeros(still.shape)
        for number in range(ROUNDS):
            away = np.abs(as_float64(oracle(_moved(sample, precision, f"moved/{number}"))) - still)
            moved = np.maximum(moved, np.where(np.isfinite(away), away, 0.0))
    return moved


def _moved(sample: SampleInput, precision: float, seed: str) -> SampleInput:
    rng = SampleRng(seed)
    args = tuple(
        (a * (1.0 + precision * (2 * rng.integers(a.shape, 0, 2) - 1))).astype(np.float32)
        if isinstance(a, np.ndarray) and a.dtype.kind == "f"
        else a
        for a in sample.args
    )
    return replace(sample, args=args)


def nearer(result: Any, truth: Any, moved: Float64Array) -> Float64Array:
    """The result, brought as near to the truth as `STEPS` times the movement explains; what is not finite stays."""
    got, wanted = as_float64(result), as_float64(truth)
    with np.errstate(all="ignore"):
        apart = got - wanted
        left = np.sign(apart) * np.maximum(np.abs(apart) - STEPS * moved, 0.0)
    return np.where(np.isfinite(apart), wanted + left, got)
