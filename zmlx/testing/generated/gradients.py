"""Gradients: the oracle's, by kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from zmlx.testing.generated.case import Case, Ops, Record, bits, cases_of, differentiable_of
from zmlx.testing.launches import not_launched


def check_gradient(case: Case, backend: str, record: Record) -> None:
    """Fail unless the gradients are the oracle's, in the arguments' dtypes, the kernels that the entry names for them
    ran on `backend`, no input was touched and no MLX operations took a kernel's place."""
    __tracebackhide__ = True
    import mlx.core as mx

    from zmlx.launch import poisoned_outputs, watch

    arguments = case.arguments()
    before = [bits(a) for a in arguments]
    with poisoned_outputs(), watch() as launches:
        gradients = case.gradients(arguments)
        mx.eval(gradients)
    for position, gradient in zip(case.op.differentiable, gradients, strict=True):
        assert gradient.dtype == arguments[position].dtype, (
            f"{case}: the gradient of argument {position} is {gradient.dtype}, not {arguments[position].dtype}"
        )
    case.check_gradients(gradients, record)
    assert [bits(a) for a in arguments] == before, f"{case}: an input was changed"
    assert all(r.path != "reference" for r in launches), f"{case}: MLX operations ran instead of the kernel"
    if case.has_values:
        absent = not_launched(case.op.grad_kernels, launches, backend)
        assert not absent, f"{case}: {', '.join(absent)} was not launched for the gradient"


def tests(ops: Ops) -> Iterator[Callable[..., None]]:
    """test_gradient, for every operation that has one, dtype and sample."""
    differentiable = differentiable_of(ops)
    if not differentiable:
        return

    @pytest.mark.parametrize("case", cases_of(differentiable))
    def test_gradient(case: Case, backend: str, record_error: Record) -> None:
        """The oracle's gradients, in the arguments' dtypes."""
        check_gradient(case, backend, record_error)

    yield test_gradient
