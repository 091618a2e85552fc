"""Which ranks are fair to ask, by the ranks of samples."""

from __future__ import annotations

import random

import numpy as np
import pytest

from zmlx.testing.judge.ranks import Leading, leading_of, of_rank
from zmlx.testing.opinfo import SampleInput

Shape = tuple[int, ...]


def samples(*shapes: tuple[Shape, ...]) -> list[SampleInput]:
    return [
        SampleInput(f"sample{number}", (*(np.ones(shape) for shape in each), 0.5))
        for number, each in enumerate(shapes)
    ]


@pytest.mark.parametrize(
    ("shapes", "positions", "lacking"),
    [
        # An x of any leading shape and a weight; targets without the last axis of x.
        ((((4, 8), (8,)), ((2, 4, 8), (8,))), (0,), [4]),
        ((((8,), (8,)), ((2, 3, 4, 8), (8,))), (0,), [2, 3, 5]),
        ((((4, 8), (4,)), ((2, 4, 8), (2, 4))), (0, 1), [4]),
        ((((4,), (4, 8)), ((2, 4), (2, 4, 8))), (0, 1), [3]),
        # An argument that some samples have not.
        ((((4, 8),), ((2, 4, 8), (2, 4, 8))), (0, 1), [4]),
    ],
)
def test_ranks_that_are_fair(
    shapes: tuple[tuple[Shape, ...], ...], positions: Shape, lacking: list[int]
) -> None:
    leading = leading_of(samples(*shapes))
    assert leading is not None
    assert leading.positions == positions
    assert leading.lacking == lacking


@pytest.mark.parametrize(
    "shapes",
    [
        (((4, 8), (8,)), ((5, 9), (9,))),
        # Only the second one differs, as a mask that is broadcast does; or not as the first does.
        (((2, 4, 8), (8,)), ((2, 4, 8), (4, 8))),
        (((4, 8), (8,)), ((2, 4, 8), (1, 4, 8))),
        (),
        ((),),
    ],
)
def test_ranks_that_nothing_is_known_of(shapes: tuple[tuple[Shape, ...], ...]) -> None:
    assert leading_of(samples(*shapes)) is None


def test_arrays_with_more_and_fewer_leading_axes() -> None:
    given = samples(((5, 8), (5,), (8,)), ((5, 6, 7, 8), (5, 6, 7), (8,)))
    leading = Leading((0, 1), frozenset({2, 4}))
    more = of_rank(given, leading, 5, random.Random(1), (1, 100))
    assert more is not None
    x, targets, weight, number = more.args
    assert x.shape[1:] == (5, 6, 7, 8)
    assert x.shape[0] in (2, 3)
    assert targets.shape == x.shape[:-1]
    assert (weight.shape, number) == ((8,), 0.5)
    fewer = of_rank(given[1:], leading, 3, random.Random(1), (1, 100))
    assert fewer is not None
    assert [np.shape(a) for a in fewer.args] == [(6, 7, 8), (6, 7), (8,), ()]


def test_bounds_of_extents_and_of_elements_are_kept() -> None:
    leading = Leading((0,), frozenset({1, 2}))
    wide = of_rank(samples(((5, 8),)), leading, 3, random.Random(1), (7, 100))
    assert wide is not None
    assert wide.args[0].shape == (7, 5, 8)
    narrow = of_rank(samples(((5, 8),)), leading, 3, random.Random(1), (1, 1))
    assert narrow is not None
    assert narrow.args[0].shape == (1, 5, 8)
    assert of_rank(samples(((5000,),)), leading, 2, random.Random(1), (1, 100)) is None
