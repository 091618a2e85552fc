"""Timing by turns: order, rounds, and the statistics of what comes out."""

import itertools
from types import SimpleNamespace

import pytest

from zmlx.testing.bench import timing
from zmlx.testing.bench.timing import Timing, marginal, race

pytestmark = pytest.mark.cpu


def test_median_quartiles_and_spread():
    found = Timing((1.0, 2.0, 3.0, 4.0, 100.0))
    assert found.median == 3.0
    assert found.quartiles == (2.0, 4.0)
    assert found.spread == pytest.approx(1 / 3)


def test_a_single_round_has_no_spread():
    assert Timing((2.0,)).quartiles == (2.0, 2.0)
    assert Timing((2.0,)).spread == 0.0


def test_the_ratio_is_that_of_times_from_one_round():
    # The machine was ten times slower in the second round; the ratio of the medians would be 4.5.
    ours, rival = Timing((1.0, 10.0, 1.0, 10.0)), Timing((3.0, 30.0, 3.0, 30.0))
    assert rival.times_slower_than(ours) == 3.0
    assert ours.times_slower_than(rival) == pytest.approx(1 / 3)


def test_a_call_takes_what_a_timing_of_more_takes_longer():
    asked = []

    def run(count):
        asked.append(count)
        return 1000.0 + 3.0 * count  # what every timing takes, and what each call does

    assert marginal(run, 4)() == 3.0
    assert asked == [1, 4, 8]


def test_all_take_turns_and_each_round_begins_with_another():
    order = []
    numbers = {name: itertools.count() for name in "abc"}

    def stopwatch(name):
        return lambda: order.append(name) or float(next(numbers[name]))

    found = race({name: stopwatch(name) for name in "abc"}, rounds=3, seconds=0.0)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    # The first run of each, which warms up, is not counted.
    assert {name: times.seconds for name, times in found.items()} == dict.fromkeys("abc", (1.0, 2.0, 3.0))


def test_a_race_goes_on_until_its_time_is_up(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    # It begins at 0; two rounds need no look at the clock, and seven more are found to be in time.
    assert len(race({"a": lambda: 1.0}, rounds=2, seconds=8.0)["a"].seconds) == 9
    monkeypatch.setattr(timing, "MAX_ROUNDS", 5)
    assert len(race({"a": lambda: 1.0}, rounds=2, seconds=8.0)["a"].seconds) == 5
    assert len(race({"a": lambda: 1.0}, rounds=7, seconds=8.0)["a"].seconds) == 7
