"""What is computed once for several steps of a test: the oracle's values, and results that others are compared with."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from zmlx.testing.generated import invariance
from zmlx.testing.generated.case import all_cases, results
from zmlx.testing.generated.latest import Latest
from zmlx.testing.op_db import op_db
from zmlx.testing.opinfo import OpInfo

RMSNORM = next(op for op in op_db if op.name == "norms.rmsnorm")


def test_a_value_is_that_of_its_parts_and_no_others() -> None:
    latest, made = Latest(), []
    one, other = np.zeros(3), np.zeros(3)

    def make() -> int:
        made.append(len(made))
        return made[-1]

    assert [latest.of(parts, make) for parts in ((one,), (one,), (other,), (one,), (one, one))] == [
        0,
        0,
        1,
        2,
        3,
    ]


def test_as_many_values_as_said_are_known_and_the_oldest_goes() -> None:
    latest, made = Latest(2), []
    first, second, third = np.zeros(3), np.zeros(3), np.zeros(3)
    for one in (first, second, first, second, third, second, first):
        latest.of((one,), lambda one=one: made.append(one) or one)
    assert [id(one) for one in made] == [id(first), id(second), id(third), id(first)]


def test_what_fails_is_made_again() -> None:
    latest = Latest()
    with pytest.raises(ZeroDivisionError):
        latest.of(("a",), lambda: 1 // 0)
    assert latest.of(("a",), lambda: 7) == 7


def counted(asked: Counter[str]) -> OpInfo:
    """An operation that says how often its oracle is asked."""

    def oracle(*args, **kwargs):
        asked["values"] += 1
        return RMSNORM.oracle(*args, **kwargs)

    def oracle_vjp(*args, **kwargs):
        asked["gradients"] += 1
        return RMSNORM.oracle_vjp(*args, **kwargs)

    return replace(RMSNORM, oracle=oracle, oracle_vjp=oracle_vjp)


def test_a_case_asks_its_oracle_once() -> None:
    asked: Counter[str] = Counter()
    op = counted(asked)
    first, second = all_cases(op, "float32")[:2]
    first.check_all(results(first), lambda *_: None)
    assert asked == {"values": 1, "gradients": 1}
    second.check_all(results(second), lambda *_: None)
    assert asked == {"values": 2, "gradients": 2}


def test_other_dtypes_and_other_oracles_have_values_of_their_own() -> None:
    op = counted(Counter())
    wrong = replace(op, oracle=lambda *args, **kwargs: 1.1 * RMSNORM.oracle(*args, **kwargs))
    for wanted in (op, wrong):
        for dtype in ("float32", "float16"):
            case = all_cases(wanted, dtype)[0]
            made = results(case)
            if wanted is op:
                case.check_all(made, lambda *_: None)
            else:
                with pytest.raises(pytest.fail.Exception, match="outside the tolerance"):
                    case.check_all(made, lambda *_: None)


def test_all_layouts_are_compared_with_rows_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: Counter[str] = Counter()

    def counting(case, layout=None):
        computed[str(layout)] += 1
        return results(case, layout)

    monkeypatch.setattr(invariance, "results", counting)
    op = replace(RMSNORM)
    for layout in ("transposed", "strided", "broadcast"):
        invariance.check_layout(op, "float32", layout)
    # Broadcast arrays have other values, and rows of their own.
    assert computed["row"] == max(computed["transposed"], computed["strided"]) + computed["broadcast"]
    assert computed["broadcast"]
