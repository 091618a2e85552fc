"""Sizes beyond what 16 bits count to: many rows, and a long one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from zmlx.testing.generated import oracle
from zmlx.testing.generated.case import Ops
from zmlx.testing.generated.example import Refused, Unfit, check_example
from zmlx.testing.large import MANY, Way, large_samples, ways_of
from zmlx.testing.opinfo import OpInfo, SampleInput
from zmlx.testing.tolerance import Tolerance, as_float64, root_mean_square
from zmlx.testing.variations import REFUSALS

#: A plain sum of 65,536 terms may be off by the root of their number, 256, times as much as another result. Places and
#: counts are what is asked here, and a wrong one is off by more than the other bound.
LOOSER = 256
LOOSEST = 1e-2


def check_large(op: OpInfo, way: Way, backend: str) -> None:
    """Fail unless value and gradients are the oracle's: for all samples that the entry gives, or for the first so large
    variation that the operation takes; skip if it takes none."""
    __tracebackhide__ = True
    # One dtype is enough for places and counts, and this one has the most digits to show them.
    dtypes = op.dtypes_on(backend)
    dtype = "float32" if "float32" in dtypes else dtypes[0]

    def check(sample: SampleInput) -> None:
        __tracebackhide__ = True
        rounded = sample.cast(dtype)
        check_example(_counting(op, rounded, dtype), rounded, dtype, backend)

    if way == "given":
        for sample in large_samples(op, way):
            check(sample)
        return
    reasons: dict[str, None] = {}
    for sample in large_samples(op, way):
        try:
            check(sample)
        except (Refused, Unfit) as error:
            reasons[str(error)] = None
        else:
            return
    why = " ".join(reasons) or "its oracle needs memory by the square of that."
    pytest.skip(
        f"{op.name} takes no variation of its samples with more than {MANY} {way}: {why} "
        "If it is not meant to, bound the OpInfo's `extents`."
    )


def _counting(op: OpInfo, sample: SampleInput, dtype: str) -> OpInfo:
    """The operation with tolerances for places and counts.

    The absolute part follows the size of the truths: a number would be more than all that the softmax of so long a row
    is made of.
    """

    def loosened(tolerance: Tolerance, truths: Iterable[Any]) -> Tolerance:
        rtol = max(tolerance.rtol, min(LOOSER * tolerance.rtol, LOOSEST))
        sizes = (root_mean_square(as_float64(truth)) for truth in truths)
        atol = rtol * min(filter(None, sizes), default=0.0)
        return Tolerance(rtol, atol, reason="places and counts")

    with np.errstate(all="ignore"):
        try:
            truths = oracle.truths(op, sample)
            gradients = oracle.gradient_truths(op, sample, dtype) if op.differentiable else ()
        except REFUSALS as error:
            raise Unfit(str(error)) from error
    return replace(
        op,
        tolerances={dtype: loosened(op.tolerance(dtype), truths)},
        grad_tolerances={dtype: loosened(op.tolerance(dtype, grad=True), gradients)},
    )


def tests(ops: Ops) -> Iterator[Callable[..., None]]:
    """test_large, for every operation and each way in which its samples can be large."""
    able = [(op, way) for op in ops for way in ways_of(op)]
    if not able:
        return

    @pytest.mark.parametrize(("op", "way"), [pytest.param(*pair, id=f"{pair[0]}-{pair[1]}") for pair in able])
    def test_large(op: OpInfo, way: Way, backend: str) -> None:
        """More rows, or longer ones, than 16 bits count to: the oracle's values and gradients."""
        __tracebackhide__ = True
        from zmlx.launch import hook

        if not op.dtypes_on(backend):
            pytest.skip(f"{op.name} claims no dtype on {backend}")
        if hook.current() is not None:
            pytest.skip("takes long under the checker, which finds as much in small samples")
        check_large(op, way, backend)

    yield test_large
