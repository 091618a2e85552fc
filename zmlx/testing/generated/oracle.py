"""What the oracle says of a case, computed once for all that one test asks of it: it takes longer than the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zmlx.testing.differentiation import make_cotangent
from zmlx.testing.opinfo import Cotangent, OpInfo, SampleInput


class _Latest:
    """The latest value of a kind, and what it was made from: told by identity, for arrays are not compared."""

    def __init__(self) -> None:
        self._parts: tuple[Any, ...] = ()
        self._value: Any = None

    def of(self, parts: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """The value if it is of these parts, else a new one."""
        if len(parts) != len(self._parts) or any(a is not b for a, b in zip(parts, self._parts, strict=True)):
            self._value = make()
            self._parts = parts
        return self._value


_truths, _cotangent, _gradients = _Latest(), _Latest(), _Latest()


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
