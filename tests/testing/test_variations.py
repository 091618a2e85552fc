"""Variations keep what the samples show, and reach what samples do not."""

from __future__ import annotations

import random

import numpy as np
import pytest

from zmlx.testing.layouts import LAYOUTS
from zmlx.testing.opinfo import SampleInput
from zmlx.testing.variations import (
    HUGE,
    MAX_ELEMENTS,
    Bounds,
    Variation,
    arrays_of,
    draw_extents,
    draw_variation,
    planted,
    resized,
    special_values,
)

ROWS = SampleInput("rows", (np.linspace(1, 2, 12).reshape(3, 4), np.ones(4), 7), {"eps": 0.5})
SPECIAL = SampleInput("special", (np.array([[np.nan, 1.0, -0.0, 1e30], [np.inf, 2.0, 1e-40, -1e30]]),))


def drawn(sample: SampleInput, count: int = 150, **bounds: object) -> list[Variation]:
    rng = random.Random(1)
    limits = Bounds(**{"every": (1, 4200), **bounds})  # type: ignore[arg-type]
    special = {sample.name: special_values(sample)}
    return [draw_variation(rng, [sample], LAYOUTS, limits, special) for _ in range(count)]


def shapes(variations: list[Variation], sample: SampleInput) -> set[tuple[int, ...]]:
    return {v.applied(sample, "float32").args[0].shape for v in variations}


def test_equal_extents_stay_equal() -> None:
    for variation in drawn(ROWS):
        x, weight, number = variation.applied(ROWS, "float32").args
        assert weight.shape == x.shape[-1:]
        assert number == 7


def test_extents_are_small_long_odd_and_powers_of_two() -> None:
    found = shapes(drawn(ROWS), ROWS)
    columns = {shape[1] for shape in found}
    assert {1, 2, 3} <= columns
    assert max(columns) > 4000
    assert max(shape[0] for shape in found) > 4000
    assert len({n & 1 for n in columns}) == 2
    assert {31, 32, 33, 63, 64, 65} & columns
    assert all(np.prod(shape) <= MAX_ELEMENTS for shape in found)


def test_bounds_are_kept() -> None:
    found = shapes(drawn(ROWS, every=(2, 50), axes={(0, -1): (5, 9)}), ROWS)
    assert {n for _, n in found} == {5, 6, 7, 8, 9}
    assert {n for n, _ in found} <= set(range(2, 51))
    assert shapes(drawn(ROWS, every=(1, 1)), ROWS) == {(1, 1)}
    rows = shapes(drawn(ROWS, rows=(100, 110), multiple=16), ROWS)
    assert {n % 16 for _, n in rows} == {0}
    assert all(100 <= n <= 110 for n, _ in rows)
    assert {n for _, n in shapes(drawn(ROWS, columns=(8, 10)), ROWS)} == {8, 9, 10}


def test_samples_that_do_not_fit_the_bounds_are_left_out() -> None:
    assert not Bounds((1, 9), multiple=16).take(SampleInput("one", (np.ones((3, 1)),)))
    assert not Bounds((1, 9), columns=(2, 9)).take(SampleInput("one", (np.ones((3, 1)),)))
    cube = SampleInput("cube", (np.ones((2, 3, 4)),))
    assert not Bounds((1, 9), rows=(20, 30)).take(cube)
    assert Bounds((1, 9), rows=(1, 30)).take(cube)


def test_new_extents_can_keep_ratio_and_parity() -> None:
    sizes = iter([5, 9])
    limits = dict.fromkeys((2, 6, 7), (1, 100))
    assert draw_extents(limits, lambda old: next(sizes), ratios=True, parity=True) == {2: 6, 6: 18, 7: 9}
    assert draw_extents(limits, lambda old: old + 1, ratios=False, parity=False) == {2: 3, 6: 7, 7: 8}


def test_limits_come_before_ratio_and_parity() -> None:
    narrow = {2: (4, 4), 6: (5, 8), 7: (9, 10)}
    assert draw_extents(narrow, lambda old: 1, ratios=True, parity=True) == {2: 4, 6: 8, 7: 9}
    assert draw_extents({7: (4, 6)}, lambda old: 6, ratios=False, parity=True) == {7: 5}
    assert draw_extents({7: (6, 6)}, lambda old: 6, ratios=False, parity=True) == {7: 6}


def test_values_are_those_of_the_sample() -> None:
    alike = resized(ROWS, {4: 100}, 1, "alike").args[0]
    assert set(alike.flat) <= set(ROWS.args[0].flat)
    assert len(set(alike.flat)) > 5
    assert len(set(resized(ROWS, {4: 100}, 1, "level").args[0].flat)) == 1
    scaled = resized(ROWS, {4: 100}, 1, "scaled").args[0]
    assert scaled.min() >= 0.5
    assert scaled.max() <= 3.0
    assert len(set(scaled.flat)) > 200
    integers = SampleInput("integers", (np.arange(6, dtype=np.int32),))
    assert resized(integers, {6: 50}, 1, "scaled").args[0].dtype == np.int32


def test_a_seed_repeats_and_another_differs() -> None:
    one, again, other = (resized(ROWS, {}, seed).args[0] for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_only_what_a_sample_has_is_planted() -> None:
    assert special_values(ROWS) == {}
    assert all(variation.special == () for variation in drawn(ROWS))
    (values,) = special_values(SPECIAL).values()
    assert {repr(v) for v in values} == {"nan", "-0.0", "1e+30", "inf", "1e-40", "-1e+30"}


def test_planted_values_go_together() -> None:
    seen: set[str] = set()
    for variation in drawn(SPECIAL):
        values = [value for _, _, value in variation.special]
        seen.update(map(repr, values))
        huge = [v for v in values if HUGE < abs(v) < np.inf]
        assert len(huge) <= 1
        if any(0 < abs(v) < 1e-38 for v in values):
            assert not huge
            assert not np.isinf(values).any()
        if values:  # and all else is ordinary, or zero
            x = variation.applied(SPECIAL, "float32").args[0]
            most = x.size if variation.layout == "broadcast" else len(values)
            assert np.count_nonzero(~np.isfinite(x)) <= most
    assert seen == {"nan", "-0.0", "1e+30", "inf", "1e-40", "-1e+30"}


def test_a_place_beyond_the_end_counts_on_from_the_beginning() -> None:
    made = planted(ROWS, [(0, 13, np.nan), (1, 2, -1.0)])
    assert np.argwhere(np.isnan(made.args[0])).tolist() == [[0, 1]]
    assert made.args[1].tolist() == [1, 1, -1, 1]
    assert not np.isnan(ROWS.args[0]).any()


def test_the_text_of_a_variation_makes_it_again() -> None:
    for variation in drawn(SPECIAL, 40):
        again = eval(repr(variation), {"Variation": Variation, "nan": np.nan, "inf": np.inf})
        one, other = (v.applied(SPECIAL, "float16") for v in (variation, again))
        assert one.layout == other.layout
        assert all(
            np.array_equal(a, b, equal_nan=True)
            for a, b in zip(arrays_of(one), arrays_of(other), strict=True)
        )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_that_show_nothing_are_row(layout: str) -> None:
    row = SampleInput("row", (np.ones((1, 1)),))
    made = Variation("row", {}, layout=layout).applied(row, "float32")  # type: ignore[arg-type]
    assert made.layout in row.layouts()
