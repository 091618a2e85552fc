"""Ranks that no sample has: asked where the samples show that an operation takes arrays of any leading shape.

They show it by the first array having two different ranks at least, and every other array one rank only, or as many
axes more or fewer than the first in all samples. Then any rank between theirs is fair, and the one above.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zmlx.testing.opinfo import SampleInput
from zmlx.testing.variations import MAX_ELEMENTS, arrays_of


@dataclass(frozen=True)
class Leading:
    """What samples show of leading axes.

    Attributes
    ----------
    positions : tuple of int
        The arguments that get more of them, the first array first.
    ranks : frozenset of int
        Those that the first array has.
    """

    positions: tuple[int, ...]
    ranks: frozenset[int]

    @property
    def lacking(self) -> list[int]:
        """The ranks that are fair and that no sample has."""
        return [rank for rank in range(min(self.ranks), max(self.ranks) + 2) if rank not in self.ranks]


def leading_of(samples: Sequence[SampleInput]) -> Leading | None:
    """What the samples show; None if it is not that an operation takes any leading shape."""
    ranks: dict[int, dict[str, int]] = {}
    for sample in samples:
        for position, value in enumerate(sample.args):
            if isinstance(value, np.ndarray):
                ranks.setdefault(position, {})[sample.name] = value.ndim
    if not ranks:
        return None
    first, *others = sorted(ranks)
    seen = frozenset(ranks[first].values())
    if len(seen) < 2 or len(ranks[first]) < len(samples):
        return None
    along = [first]
    for position in others:
        if len(set(ranks[position].values())) == 1 and len(ranks[position]) == len(samples):
            continue
        if len({rank - ranks[first][name] for name, rank in ranks[position].items()}) != 1:
            return None
        along.append(position)
    return Leading(tuple(along), seen)


def of_rank(
    samples: Sequence[SampleInput], leading: Leading, rank: int, rng: random.Random, extents: tuple[int, int]
) -> SampleInput | None:
    """One of the samples, with more leading axes or fewer, so that the first array has this rank.

    None if all are too large for one more axis.
    """
    first = leading.positions[0]
    by_distance = sorted(rng.sample(samples, len(samples)), key=lambda s: abs(rank - s.args[first].ndim))
    low, high = extents
    for sample in by_distance:
        change = rank - sample.args[first].ndim
        lead = tuple(rng.randint(min(max(low, 2), high), min(max(low, 3), high)) for _ in range(change))

        def changed(position: int, value: Any, lead: tuple[int, ...] = lead, fewer: int = -change) -> Any:
            if position not in leading.positions or not isinstance(value, np.ndarray):
                return value
            return value[(0,) * fewer] if fewer > 0 else np.broadcast_to(value, (*lead, *value.shape)).copy()

        made = replace(sample, args=tuple(changed(i, value) for i, value in enumerate(sample.args)))
        if all(a.size <= MAX_ELEMENTS for a in arrays_of(made)):
            return made
    return None
