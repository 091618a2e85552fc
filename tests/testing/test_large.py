"""Samples beyond what 16 bits count to: which they are, and that bounds and memory are kept."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from zmlx.testing.large import (
    MANY,
    MOST,
    MOST_WITH_INTEGERS,
    Way,
    large_samples,
    largest,
    many_elements,
    ways_of,
)
from zmlx.testing.op_db import op_db
from zmlx.testing.opinfo import OpInfo, SampleInput

pytestmark = pytest.mark.cpu


def op_of(*arrays: np.ndarray[Any, Any], **more: Any) -> OpInfo:
    def samples(rng: object) -> Iterator[SampleInput]:
        yield SampleInput("empty", tuple(np.zeros((0, 8)) for _ in arrays))
        yield SampleInput("nan", tuple(a * np.nan if a.dtype.kind == "f" else a for a in arrays))
        yield SampleInput("small", arrays)

    given = {"op": lambda *x: x[0], "oracle": lambda *x: x[0], "samples": samples, "source": "itself", **more}
    return OpInfo("mine.op", **given)


def shapes(op: OpInfo, way: Way) -> list[list[tuple[int, ...]]]:
    return [[a.shape for a in sample.args] for sample in large_samples(op, way)]


X = np.ones((4, 12))


def test_one_extent_is_long_and_a_multiple_of_what_it_was() -> None:
    op = op_of(X, np.ones(12), np.ones(4))
    (columns, *_), (rows, *_) = shapes(op, "columns"), shapes(op, "rows")
    # 65,544 of 12: the least multiple beyond 65,536; what stands beside it stays while there is room.
    assert columns == [(2, 65544), (65544,), (2,)]
    assert rows == [(65540, 4), (4,), (65540,)]
    assert shapes(op_of(np.ones((3, 12))), "columns")[0] == [(3, 65544)]
    assert shapes(op_of(np.ones((31, 12))), "columns")[0] == [(3, 65544)]


def test_what_belongs_to_a_long_extent_grows_with_it() -> None:
    found = shapes(op_of(np.ones((3, 8)), np.ones(16)), "columns")
    assert [(3, 65544), (16,)] in found
    assert [(3, 65544), (131088,)] in found


def test_special_values_come_last() -> None:
    values = [sample.args[0] for sample in large_samples(op_of(X), "columns")]
    assert np.isfinite(values[0]).all()
    assert np.isnan(values[-1]).all()


def test_there_are_more_than_16_bits_count_to_and_no_more_than_memory_is_for() -> None:
    for op in op_db:
        assert ways_of(op) or op.extents[1] <= 40 or op.strategy is not None, op.name
        for way in ways_of(op):
            assert all(MANY < largest(s, {}) <= MOST_WITH_INTEGERS for s in large_samples(op, way)), op.name


def test_bounds_of_the_entry_are_the_operation_s_own_unless_they_are_the_default() -> None:
    assert ways_of(op_of(X)) == ("rows", "columns")
    assert ways_of(op_of(X, axis_extents={(0, -1): (2, 512)})) == ("rows",)
    assert ways_of(op_of(X, axis_extents={(0, 0): (2, 4)})) == ("columns",)
    assert ways_of(op_of(X, extents=(1, 512))) == ("elements",)
    assert ways_of(op_of(X, extents=(1, 40))) == ()
    assert ways_of(op_of(np.ones(7))) == ("columns",)
    assert ways_of(op_of(np.ones((7, 7)))) == ("elements",)
    for (shape,) in shapes(op_of(X, extents=(3, 512)), "elements"):
        assert max(shape) <= 512
        assert shape[0] * shape[1] > MANY
    for (shape,) in shapes(op_of(X, extents=(3, 9000)), "columns"):
        assert shape[0] >= 3


def test_a_strategy_says_that_extents_do_not() -> None:
    assert ways_of(op_of(X, strategy=lambda dtype: None)) == ()


def test_an_entry_gives_its_own() -> None:
    def large(rng: Any) -> Iterator[SampleInput]:
        yield SampleInput("long", (rng("long").normal((2, 40000)),))
        yield SampleInput("short", (rng("short").normal((2, 32768)),))

    op = op_of(X, strategy=lambda dtype: None, large=large)
    assert ways_of(op) == ("given",)
    found = large_samples(op, "given")
    assert next(found).args[0].shape == (2, 40000)
    with pytest.raises(
        ValueError, match=r"^mine\.op: expected samples of `large` to have .* got 65536 in 'short'\.$"
    ):
        next(found)


def test_places_along_an_extent_stay_within_it_while_there_is_room() -> None:
    op = op_of(np.ones((4, 12)), np.arange(4))
    assert shapes(op, "rows")[0] == [(65540, 12), (65540,)]


def test_memory_by_the_square_shows_beside_memory_by_the_length() -> None:
    """A mask of one byte for each pair, beside a hundred arrays of eight for each element."""

    def masked(x: Any) -> Any:
        copies = [x + number for number in range(100 // len(x))]
        return np.where((x[:, :, None] > x[:, None, :]).any(-1), copies[0], x)

    import mlx.core as mx

    held = mx.zeros(1 << 26, stream=mx.cpu)  # what others hold is not the oracle's
    mx.eval(held)
    assert shapes(op_of(X, oracle=masked), "columns") == []


def test_memory_by_the_length_times_its_logarithm_is() -> None:
    def levels(x: Any) -> Any:
        return sum([x + number for number in range(x.shape[-1].bit_length())])

    assert shapes(op_of(X, oracle=levels), "columns")


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_memory_by_the_square_is_not_asked_for(precision: str) -> None:
    def pairwise(x: Any) -> Any:
        return (x[:, :, None] - x[:, None, :]).max(-1)

    op = op_of(X, oracle=pairwise, oracle_precision=precision)
    assert shapes(op, "columns") == []
    assert shapes(op, "rows")
    assert shapes(replace(op, oracle=lambda x: x * 2), "columns")


def test_many_elements_keep_the_limits() -> None:
    sample = SampleInput("small", (X,))
    for seed in range(20):
        found = many_elements(sample, {4: (1, 4200), 12: (1, 4200)}, random.Random(seed))
        assert found is not None
        assert max(found.values()) <= 4200
        assert MANY < largest(sample, found) <= MOST
    assert many_elements(sample, {4: (1, 40), 12: (1, 40)}, random.Random(0)) is None
