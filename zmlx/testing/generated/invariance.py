"""What may not change a result: how arrays lie in memory, another run, what is evaluated together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from zmlx.testing.generated.case import (
    Case,
    Ops,
    all_cases,
    differentiable_of,
    in_one_dtype,
    kernels_of,
    of_each_shape,
    results,
    same_bits,
    typed_by_size,
    within_tolerance,
)
from zmlx.testing.generated.latest import SAMPLES, Latest
from zmlx.testing.layouts import LAYOUTS
from zmlx.testing.opinfo import OpInfo, as_tuple

#: Larger samples than this are left out: another layout of them would show nothing more.
_MOST_VALUES = 4096


def check_layout(op: OpInfo, dtype: str, layout: Any) -> None:
    """Fail unless values and gradients in `layout` are those of row-contiguous arrays, and a sample can show it."""
    __tracebackhide__ = True
    tried = 0
    for case in of_each_shape(all_cases(op, dtype)):
        if layout not in case.sample.layouts() or max(map(np.size, case.sample.args)) > _MOST_VALUES:
            continue
        if layout == "broadcast":  # where other values stand; in all other layouts the same
            case = case._replace(sample=case.sample.laid_out(layout))
        actual = results(case, layout)
        desired = results(case, "row") if layout == "broadcast" else _in_rows(case)
        what = f"{case}, {layout} against row"
        if op.kernel and op.deterministic:
            same_bits(actual, desired, what)
        else:  # MLX has other kernels for other layouts, which add up in another order
            within_tolerance(actual, desired, op.tolerance(dtype), what)
        tried += 1
    if not tried:
        pytest.fail(
            f"{op.name} claims the layout {layout!r}, and has no sample of up to {_MOST_VALUES} values that can be "
            f"laid out so: add one, or, if it takes none, leave {layout!r} out of the OpInfo's `layouts`",
            pytrace=False,
        )


#: Of as many samples as an operation has: the tests of its layouts, which follow each other, take them in turn.
_of_rows = Latest(SAMPLES)


def _in_rows(case: Case) -> list[Any]:
    """The results of row-contiguous arrays, computed once for all layouts."""
    found: list[Any] = _of_rows.of((case.op, case.dtype, case.sample), lambda: results(case, "row"))
    return found


def check_repeats(op: OpInfo, dtype: str) -> None:
    """Fail unless two runs agree to the bit."""
    __tracebackhide__ = True
    for case in of_each_shape(all_cases(op, dtype)):
        same_bits(results(case), results(case), f"{case}, two runs")


def check_joint_evaluation(op: OpInfo, dtype: str) -> None:
    """Fail unless results and gradients of all cases are the same evaluated together and one by one."""
    __tracebackhide__ = True
    import mlx.core as mx

    def lazy() -> list[Any]:
        made = []
        for case in of_each_shape(all_cases(op, dtype)):
            arguments = case.arguments()
            made += [*as_tuple(case.call(*arguments)), *case.gradients(arguments)]
        return made

    together, separate = lazy(), lazy()
    mx.eval(together)
    for array in separate:
        mx.eval(array)
    what = f"{op.name}/{dtype}, joint against separate evaluation"
    if op.deterministic:
        same_bits(together, separate, what)
    else:
        within_tolerance(together, separate, op.tolerance(dtype, grad=True), what)


def tests(ops: Ops) -> Iterator[Callable[..., None]]:
    """test_layouts; test_runs_repeat for deterministic kernels; test_joint_evaluation where there are gradients."""

    @pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "row"])
    @pytest.mark.parametrize(("op", "dtype"), typed_by_size(ops))
    def test_layouts(op: OpInfo, dtype: str, layout: Any) -> None:
        """Values and gradients do not depend on how the arrays lie in memory."""
        if layout not in op.layouts:
            pytest.skip(f"{op.name} does not claim the layout {layout!r}")
        check_layout(op, dtype, layout)

    yield test_layouts

    repeatable = tuple(op for op in kernels_of(ops) if op.deterministic)
    if repeatable:

        @pytest.mark.parametrize(("op", "dtype"), typed_by_size(repeatable))
        def test_runs_repeat(op: OpInfo, dtype: str) -> None:
            """Two runs agree to the bit."""
            check_repeats(op, dtype)

        yield test_runs_repeat

    differentiable = differentiable_of(ops)
    if differentiable:

        @pytest.mark.parametrize(("op", "dtype"), in_one_dtype(differentiable))
        def test_joint_evaluation(op: OpInfo, dtype: str) -> None:
            """Evaluating results and gradients of several calls together gives what evaluating them alone gives."""
            check_joint_evaluation(op, dtype)

        yield test_joint_evaluation
