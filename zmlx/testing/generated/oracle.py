"""What the oracle says of a case, computed once for all that one test asks of it: it takes longer than the kernels."""

from __future__ import annotations

from typing import Any

from zmlx.testing.differentiation import make_cotangent
from zmlx.testing.generated.latest import Latest
from zmlx.testing.opinfo import Cotangent, OpInfo, SampleInput

_truths, _cotangent, _gradients = Latest(), Latest(), Latest()


def truths(op: OpInfo, sample: SampleInput) -> tuple[Any, ...]:
    """`OpInfo.expected`, which does not depend on tolerances."""
    found: tuple[Any, ...] = _truths.of((op.oracle, op.oracle_precision, sample), lambda: op.expected(sample))
    return found


def cotangent(op: OpInfo, sample: SampleInput, dtype: str) -> Cotangent:
    """The random cotangent of a case's results, as float64 arrays."""
    results = truths(op, sample)
    found: Cotangent = _cotangent.of(
        (op.name, op.out_dtype, results, sample, dtype), lambda: make_cotangent(op, sample, dtype, results)
    )
    return found


def gradient_truths(op: OpInfo, sample: SampleInput, dtype: str) -> tuple[Any, ...]:
    """`OpInfo.expected_vjp` for that cotangent."""
    given = cotangent(op, sample, dtype)
    found: tuple[Any, ...] = _gradients.of(
        (op.oracle, op.oracle_vjp, op.oracle_precision, op.differentiable, sample, given),
        lambda: op.expected_vjp(sample, given),
    )
    return found
