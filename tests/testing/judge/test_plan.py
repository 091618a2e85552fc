"""What is asked: drawn anew for each run, fair, and different enough to tell a cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mlx.core")

import mlx.core as mx
from example_ops import PICK

from zmlx.testing import OpInfo, SampleInput
from zmlx.testing.judge.plan import Case, draw
from zmlx.testing.op_db import op_db
from zmlx.testing.project import load_ops
from zmlx.testing.sample_rng import SampleRng


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch):
    with mx.stream(mx.cpu):
        yield


@pytest.fixture
def op() -> OpInfo:
    return load_ops(["small_ops:OPS"], Path(__file__).parent)[0]


def drawn(op: OpInfo, secret: str, seeds: int = 1) -> list[Case]:
    return list(draw(op, seeds, secret))


def shapes(cases: list[Case]) -> set[tuple[int, ...]]:
    return {c.questions[0].sample.args[0].shape for c in cases if c.name.startswith("hidden")}


def test_runs_differ_and_a_secret_repeats(op: OpInfo) -> None:
    assert [c.name for c in drawn(op, "a")] == [c.name for c in drawn(op, "a")]
    assert shapes(drawn(op, "a", 4)) != shapes(drawn(op, "b", 4))
    known = {s.args[0].shape for s in op.sample_inputs()}
    assert shapes(drawn(op, "a", 4)) - known


def test_all_kinds_are_asked_in_all_dtypes(op: OpInfo) -> None:
    cases = drawn(op, "a")
    for dtype in ("float32", "float16", "bfloat16"):
        kinds = {c.name.partition(",")[0] for c in cases if c.dtype == dtype}
        assert {"hidden shape 1", "special values", "edge shape"} <= kinds
    assert {c.layout for c in cases} == {"row", "transposed", "strided", "sliced", "broadcast"}
    assert [c.has_elements for c in cases if c.name.startswith("no elements")] == [False]


def test_calls_of_a_case_have_one_shape_and_other_values(op: OpInfo) -> None:
    for case in drawn(op, "a"):
        first, second, *near = (question.sample.args[0] for question in case.questions)
        assert first.shape == second.shape
        if case.has_elements:
            assert not np.array_equal(first, second, equal_nan=True)
        for third in near:
            assert np.count_nonzero(third != second) == 2
            assert sorted(third.ravel()) == sorted(second.ravel())


def test_a_long_row_and_many_rows_are_asked_in_every_run(op: OpInfo) -> None:
    for secret in "abcdef":
        cases = {c.name.partition(",")[0]: c.questions[0].sample.args[0].shape for c in drawn(op, secret)}
        *_, length = cases["a long row"]
        *rows, _ = cases["many rows"]
        assert length > 1024
        assert max(rows) > 512


def test_extents_that_belong_together_stay_so() -> None:
    (op,) = (op for op in op_db if op.name == "norms.rmsnorm")
    for case in drawn(op, "a", 3):
        x, weight, *_ = case.questions[0].sample.args
        assert weight.shape == x.shape[-1:]


def test_what_the_operation_itself_gets_wrong_is_not_asked(op: OpInfo) -> None:
    skipped: list[str] = []
    wrong = replace(op, op=lambda x: mx.nan_to_num(op.op(x)))
    cases = list(draw(wrong, 1, "a", skipped))
    assert all(np.isfinite(e).all() for case in cases for q in case.questions for e in q.expected)
    assert any(case.name.startswith("zeros and the smallest") for case in cases)

    left = list(draw(replace(op, op=lambda x: x + 1), 1, "a", skipped))
    assert [case.name.partition(",")[0] for case in left] == ["no elements"]
    assert any(name.startswith("hidden shape 1, float16") for name in skipped)


def test_values_that_the_operation_gets_wrong_now_and_then_are_drawn_anew(op: OpInfo) -> None:
    calls: list[bool] = []

    def jumping(x: mx.array) -> mx.array:
        first = x.reshape(-1)[:1].astype(mx.float32).tolist()
        wrong = any(int(abs(value) * 1000) % 5 == 0 for value in first)  # of about a fifth of all values
        calls.append(wrong)
        return op.op(x) + 1 if wrong else op.op(x)

    skipped: list[str] = []
    hidden = [c for c in draw(replace(op, op=jumping), 4, "a", skipped) if c.is_hidden]
    assert len(hidden) == 4 * len(op.dtypes_on("cpu"))
    assert not [name for name in skipped if name.startswith("hidden")]
    assert 10 < sum(calls) < len(calls) - 10


def test_ranks_that_the_samples_lack_are_asked(op: OpInfo) -> None:
    def ranks(op: OpInfo) -> list[int]:
        return [c.questions[0].sample.args[0].ndim for c in drawn(op, "a") if c.name.startswith("another")]

    assert ranks(op) == [4]  # samples of 2 and 3
    for other in op_db:
        if other.name in ("norms.rmsnorm", "transformer.swiglu"):
            assert ranks(other) == [4]

    def refusing(x: mx.array) -> mx.array:
        if x.ndim > 3:
            raise ValueError("two or three axes")
        return op.op(x)

    skipped: list[str] = []
    cases = list(draw(replace(op, op=refusing), 1, "a", skipped))
    assert cases
    assert not [name for name in (*skipped, *(c.name for c in cases)) if name.startswith("another")]


def test_hidden_shapes_keep_the_bounds_of_the_entry(op: OpInfo) -> None:
    bounded = replace(op, extents=(3, 9), axis_extents={(0, -1): (5, 6)})
    known = {s.args[0].shape for s in op.sample_inputs()}
    hidden = shapes(drawn(bounded, "a", 6)) - known
    assert hidden
    for *rows, columns in hidden:
        assert columns in (5, 6)
        assert all(n == 1 or 3 <= n <= 9 for n in rows)


def test_labels_count_along_their_axis_in_every_case() -> None:
    for case in drawn(PICK, "a", 4):
        for question in case.questions:
            x, labels, _ = question.sample.args
            assert labels.dtype == np.int32
            assert labels.max() < x.shape[-1]
    assert shapes(drawn(PICK, "a", 4)) - {s.args[0].shape for s in PICK.sample_inputs()}


def test_an_entry_with_a_strategy_keeps_its_shapes_and_draws_its_values_itself() -> None:
    def samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
        for name, size in (("few", 5), ("more", 9)):
            order = np.argsort(rng(name).normal((size,))).astype(np.int32)
            yield SampleInput(name, (rng(f"{name}/x").normal((size,)), order))

    op = OpInfo(
        "small.permuted",
        lambda x, order: x[order],
        lambda x, order: x[order],
        samples,
        "x[order]",
        strategy=lambda dtype: None,
        layouts=("row",),
    )
    cases = drawn(op, "a", 3)
    orders = [question.sample.args[1].tolist() for case in cases for question in case.questions]
    assert {len(order) for order in orders} <= {5, 9}
    assert all(sorted(order) == list(range(len(order))) for order in orders)
    assert len(set(map(tuple, orders))) > len(cases)
    # Varied, they would be no permutations any more.
    varied = drawn(replace(op, strategy=None), "a", 3)
    orders = [question.sample.args[1].tolist() for case in varied for question in case.questions]
    assert any(sorted(order) != list(range(len(order))) for order in orders)
