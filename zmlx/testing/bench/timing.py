"""Timing several things against each other on a machine that does other things too.

They take turns, so that what disturbs one disturbs all, and each ratio is that of two times from one round. Medians
stand for many rounds: a round in which the machine was busy elsewhere then counts for nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: Runs something once and returns how many seconds it took.
Stopwatch = Callable[[], float]

#: More rounds than this show nothing new, however short they are.
MAX_ROUNDS = 1000


@dataclass(frozen=True)
class Timing:
    """What a stopwatch said, in seconds, one number for each round; there is one at least. Or ratios of two such."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Half of the rounds took less."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of the rounds took less than the first, a quarter more than the second."""
        if len(self.seconds) == 1:
            return self.seconds[0], self.seconds[0]
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high

    @property
    def spread(self) -> float:
        """Half of the distance between the quartiles, as a fraction of the median."""
        low, high = self.quartiles
        return (high - low) / 2 / self.median if self.median else 0.0

    def relative_to(self, other: Timing) -> Timing:
        """This time divided by the other's, round by round: what disturbed both alike is not in it."""
        return Timing(tuple(mine / theirs for mine, theirs in zip(self.seconds, other.seconds, strict=True)))

    def times_slower_than(self, other: Timing) -> float:
        """The median over the rounds of this time divided by the other's."""
        return self.relative_to(other).median


def marginal(run: Callable[[int], float], batch: int) -> Stopwatch:
    """The seconds of one call among many on a GPU: what a timing of twice as many takes longer, for each of them.

    What a timing takes whatever the number of calls is in both, and so in neither: the time until the GPU begins and
    until the host has noticed its end, and that between what it was given to do before and the first call. Of a batch
    of 0.7 ms on an H100 they are 5 to 12 %, and each library has its own. A single call goes before, untimed: after
    another library's turn the host is slower to begin.

    Parameters
    ----------
    run : callable
        ``run(count)``: the seconds until so many calls are done.
    batch : int
        How many calls the shorter timing has, and the longer one more.
    """

    def once() -> float:
        run(1)
        few = run(batch)
        return (run(2 * batch) - few) / batch

    return once


def race(stopwatches: Mapping[str, Stopwatch], rounds: int, seconds: float) -> dict[str, Timing]:
    """Run all of them in turn, round after round, each round beginning with another one.

    Parameters
    ----------
    stopwatches : mapping of name to Stopwatch
        Each is run once more, first: caches fill and what is compiled when first used is compiled.
    rounds : int
        At least so many, one or more.
    seconds : float
        And on until so much time has passed, but no more than `MAX_ROUNDS`.
    """
    contenders = list(stopwatches.items())
    for _, stopwatch in contenders:
        stopwatch()
    taken: dict[str, list[float]] = {name: [] for name in stopwatches}
    began, done = time.perf_counter(), 0
    while done < rounds or (done < MAX_ROUNDS and time.perf_counter() - began < seconds):
        first = done % len(contenders)
        for name, stopwatch in contenders[first:] + contenders[:first]:
            taken[name].append(stopwatch())
        done += 1
    return {name: Timing(tuple(times)) for name, times in taken.items()}
