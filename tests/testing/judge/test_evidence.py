"""What one case's answers are refused for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mlx.core")

from zmlx.testing import SampleInput
from zmlx.testing.judge.arrays import raw_of_numpy
from zmlx.testing.judge.evidence import Answer, weigh
from zmlx.testing.judge.plan import Case, Question
from zmlx.testing.judge.verdict import Verdict
from zmlx.testing.project import load_ops

ONES = np.ones((2, 3))


@pytest.mark.parametrize(("second", "stale"), [(ONES, False), (2 * ONES, True)], ids=["same", "other"])
def test_a_wrong_result_that_comes_again_is_stale_if_another_was_expected(
    second: np.ndarray, stale: bool
) -> None:
    (op,) = (op for op in load_ops(["small_ops:OPS"], Path(__file__).parent) if op.name.endswith("square"))
    questions = tuple(
        Question(SampleInput("s", (ONES,)), False, (expected,), ("float32",)) for expected in (ONES, second)
    )
    case = Case("a case", "float32", "row", questions)
    wrong = raw_of_numpy(np.full((2, 3), 7.0), "float32")
    given = raw_of_numpy(ONES, "float32")
    verdict = Verdict("candidate.py", op.name)

    weigh(verdict, op, case, [Answer((wrong,), (given,), {}, ())] * 2)

    assert ("stale" in verdict.codes) is stale
    assert "wrong-values" in verdict.codes
