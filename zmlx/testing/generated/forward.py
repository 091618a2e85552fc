"""Values: the oracle's, by a kernel that was launched here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from zmlx.testing.generated.case import Case, Ops, Record, bits, cases_of
from zmlx.testing.launches import not_launched


def check_forward(case: Case, backend: str, record: Record) -> None:
    """Fail unless the result is the oracle's, in the promised dtype, from a kernel on `backend` that wrote every
    element and touched no input."""
    __tracebackhide__ = True
    from zmlx.launch import poisoned_outputs, watch

    arguments = case.arguments()
    before = [bits(a) for a in arguments]
    with poisoned_outputs(), watch() as launches:
        results = case.run(*arguments)
    case.check_results(results, record)
    assert [bits(a) for a in arguments] == before, f"{case}: an input was changed"
    if case.op.kernel and case.has_values:
        assert launches, f"{case}: no kernel was launched"
        ran = {r.backend for r in launches}
        assert ran == {backend}, (
            f"{case}: kernels were launched on {', '.join(sorted(ran))}, not on {backend}"
        )
        assert all(r.path != "reference" for r in launches), (
            f"{case}: MLX operations ran instead of the kernel"
        )
        absent = not_launched(case.op.kernels, launches, backend)
        assert not absent, f"{case}: {', '.join(absent)} was not launched"


def tests(ops: Ops) -> Iterator[Callable[..., None]]:
    """test_forward, for every operation, dtype and sample."""

    @pytest.mark.parametrize("case", cases_of(ops))
    def test_forward(case: Case, backend: str, record_error: Record) -> None:
        """The oracle's values, in the promised dtype, by a kernel launched here, with every element written and no
        input touched."""
        check_forward(case, backend, record_error)

    yield test_forward
