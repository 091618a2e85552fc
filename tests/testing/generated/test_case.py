"""Which cases and dtypes a test of all takes, where it need not take all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zmlx.testing.generated.case import Case, in_one_dtype, of_each_shape
from zmlx.testing.op_db import op_db
from zmlx.testing.opinfo import SampleInput

RMSNORM = next(op for op in op_db if op.name == "norms.rmsnorm")


def case(name: str, *shape: int, **keywords: object) -> Case:
    return Case(RMSNORM, "float32", SampleInput(name, (np.ones(shape), np.ones(shape[-1:])), keywords))


def test_one_of_each_shape_and_each_set_of_keywords() -> None:
    first, same, wider = case("first", 2, 3), case("same", 2, 3), case("wider", 2, 4)
    other, layout = case("other", 2, 3, eps=1.0), case("layout", 2, 3)
    layout = layout._replace(sample=replace(layout.sample, layout="broadcast"))
    found = of_each_shape([first, same, wider, other, layout, same])
    assert [c.sample.name for c in found] == ["first", "wider", "other", "layout"]


def test_numbers_among_the_arguments_are_told_apart() -> None:
    cases = [Case(RMSNORM, "float32", SampleInput(str(n), (np.ones(3), n))) for n in (1, 2, 1)]
    assert [c.sample.name for c in of_each_shape(cases)] == ["1", "2"]


def test_the_first_dtype_that_is_claimed() -> None:
    halves = replace(RMSNORM, dtypes=("bfloat16", "float32"))
    assert [parameters.id for parameters in in_one_dtype((RMSNORM, halves))] == [
        "norms.rmsnorm-float32",
        "norms.rmsnorm-bfloat16",
    ]
