"""What the oracle says of a case, computed once for all that one test asks of it: it takes longer than the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from zmlx.testing.differentiation import make_cotangent, mlx_cotangent
from zmlx.testing.generated.latest import SAMPLES, Latest
from zmlx.testing.opinfo import Cotangent, OpInfo, SampleInput


class _Kept:
    """What was computed of samples, so many of them."""

    def __init__(self, samples: int) -> None:
        self.truths, self.cotangents, self.arrays = Latest(samples), Latest(samples), Latest(samples)
        self.gradients = Latest()


#: Of small samples of all that an operation has, since tests take them in turn; of large ones of one.
_FEW_VALUES = 2**16
_small, _large = _Kept(SAMPLES), _Kept(1)


def _kept(sample: SampleInput) -> _Kept:
    return _small if sum(map(np.size, sample.args)) <= _FEW_VALUES else _large


def truths(op: OpInfo, sample: SampleInput) -> tuple[Any, ...]:
    """`OpInfo.expected`, which does not depend on tolerances."""
    found: tuple[Any, ...] = _kept(sample).truths.of(
        (op.oracle, op.oracle_precision, sample), lambda: op.expected(sample)
    )
    return found


def cotangent(op: OpInfo, sample: SampleInput, dtype: str) -> Cotangent:
    """The random cotangent of a case's results, as float64 arrays."""
    results = truths(op, sample)
    found: Cotangent = _kept(sample).cotangents.of(
        (op.name, op.out_dtype, results, sample, dtype), lambda: make_cotangent(op, sample, dtype, results)
    )
    return found


def cotangent_arrays(op: OpInfo, sample: SampleInput, dtype: str) -> Any:
    """The same as MLX arrays."""
    given = cotangent(op, sample, dtype)
    return _kept(sample).arrays.of((given,), lambda: mlx_cotangent(op, dtype, truths(op, sample), given))


def gradient_truths(op: OpInfo, sample: SampleInput, dtype: str) -> tuple[Any, ...]:
    """`OpInfo.expected_vjp` for that cotangent."""
    given = cotangent(op, sample, dtype)
    found: tuple[Any, ...] = _kept(sample).gradients.of(
        (op.oracle, op.oracle_vjp, op.oracle_precision, op.differentiable, sample, given),
        lambda: op.expected_vjp(sample, given),
    )
    return found
