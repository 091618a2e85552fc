"""Variations of an operation's samples: other extents, values and special values, drawn from what the samples show.

Equal extents of a sample are replaced by equal ones, so that what belongs together stays together; values are like the
sample's; special values are planted where a sample has some. Whoever draws brings the numbers: Hypothesis for
property-based tests, a secret for the judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from zmlx.testing.layouts import Layout
from zmlx.testing.opinfo import SampleInput
from zmlx.testing.sample_rng import SampleRng

__all__ = [
    "REFUSALS",
    "VALUES",
    "Draws",
    "Variation",
    "arrays_of",
    "draw_extents",
    "draw_variation",
    "extents_of",
    "planted",
    "resized",
    "special_values",
    "with_arrays",
]

T = TypeVar("T")

#: What a function raises whose arguments do not fit together.
REFUSALS = (ValueError, TypeError, IndexError, ArithmeticError, RuntimeError)

#: Elements that an array of a variation has, at most.
MAX_ELEMENTS = 6000

#: Beyond this a value is huge: of such ones an array gets one, since two may cancel, to what no precision tells.
HUGE = 1e6
TINY = 2.0**-126

#: How values follow those of the sample: any of them, those times something near 1, or one of them everywhere.
Values = Literal["alike", "scaled", "level"]
VALUES: tuple[Values, ...] = ("alike", "scaled", "level")


class Draws(Protocol):
    """Where numbers come from: `random.Random`, or Hypothesis."""

    def randint(self, a: int, b: int, /) -> int:
        """An integer, a <= n <= b."""

    def choice(self, seq: Sequence[T], /) -> T:
        """One of them."""


@dataclass(frozen=True)
class Variation:
    """A sample with other extents and values; its text is Python that makes it again.

    Parameters
    ----------
    sample : str
        The name of the sample.
    extents : mapping of int to int
        What takes the place of each extent.
    seed : int
        Of the values.
    values : str
        How they follow the sample's, see `VALUES`.
    special : tuple of (int, int, float)
        Values to plant: position of the argument, place in it, and value. A place beyond the end is counted on from the
        beginning.
    layout : str
        How the arrays lie in memory.
    """

    sample: str
    extents: Mapping[int, int]
    seed: int = 0
    values: Values = "alike"
    special: tuple[tuple[int, int, float], ...] = ()
    layout: Layout = "row"

    def applied(self, base: SampleInput, dtype: str) -> SampleInput:
        """The sample varied, rounded to `dtype` and in its layout (if that shows in none of its arrays: "row")."""
        made = resized(base, self.extents, self.seed, self.values)
        made = planted(made, self.special)
        layout: Layout = self.layout if self.layout in made.layouts() else "row"
        return made.cast(dtype).laid_out(layout)


def arrays_of(sample: SampleInput) -> list[NDArray[Any]]:
    """The arrays among the arguments, in order."""
    return [a for a in sample.args if isinstance(a, np.ndarray)]


def with_arrays(sample: SampleInput, arrays: Iterable[NDArray[Any]]) -> SampleInput:
    """The sample with others in their places."""
    left = iter(arrays)
    return replace(sample, args=tuple(next(left) if isinstance(a, np.ndarray) else a for a in sample.args))


def extents_of(sample: SampleInput) -> list[int]:
    """The extents of its arrays that can be varied, each once. One of 1 may stand for broadcasting, and stays."""
    return sorted({n for a in arrays_of(sample) for n in a.shape if n > 1})


def resized(
    sample: SampleInput, extents: Mapping[int, int], seed: int, values: Values = "scaled"
) -> SampleInput:
    """The sample with other extents, and with values like its own that `seed` tells."""
    made = [
        _drawn(a, tuple(extents.get(n, n) for n in a.shape), f"{seed}/{number}", values)
        for number, a in enumerate(arrays_of(sample))
    ]
    return with_arrays(sample, made)


def _drawn(array: NDArray[Any], shape: tuple[int, ...], seed: str, values: Values) -> NDArray[Any]:
    if 0 in shape or not array.size:
        return np.zeros(shape, array.dtype)
    numbers = SampleRng(seed)
    flat = array.reshape(-1)
    if array.dtype.kind == "f":
        flat = flat[~_is_huge(flat)] if not _is_huge(flat).all() else flat[:1]
    places = numbers.integers(shape, 0, flat.size)
    if values == "level":
        return np.full(shape, flat[places.flat[0]], array.dtype)
    drawn = flat[places]
    if values == "scaled" and array.dtype.kind == "f":
        drawn = drawn * numbers.uniform(shape, 0.5, 1.5)
    return np.asarray(drawn)


def _is_huge(values: Any) -> Any:
    return np.isfinite(values) & (np.abs(values) > HUGE)


def planted(sample: SampleInput, special: Iterable[tuple[int, int, float]]) -> SampleInput:
    """The sample with values at (argument, place); those for arguments without elements are left out."""
    args = list(sample.args)
    for position, place, value in special:
        if args[position].size:
            args[position] = args[position].copy()
            args[position].reshape(-1)[place % args[position].size] = value
    return replace(sample, args=tuple(args))


def special_values(samples: Iterable[SampleInput]) -> dict[int, tuple[float, ...]]:
    """The special values that samples have, by the argument: NaN, infinities, zeros, subnormal and huge numbers.

    An operation is asked about those that its samples ask about: whether it gives what its oracle gives of others is
    more than its entry says.
    """
    found: dict[int, dict[str, float]] = {}
    for sample in samples:
        for position, value in enumerate(sample.args):
            if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                size = np.abs(value)
                chosen = value[~(np.isfinite(value) & (size >= TINY) & (size <= HUGE))]
                found.setdefault(position, {}).update({repr(float(v)): float(v) for v in chosen.flat})
    return {position: tuple(values.values()) for position, values in found.items() if values}


def draw_extents(
    extents: Iterable[int], size: Callable[[int], int], *, ratios: bool, parity: bool
) -> dict[int, int]:
    """New extents for old ones.

    Parameters
    ----------
    extents : iterable of int
        The old ones, smallest first.
    size : callable
        ``size(old)``: a new one.
    ratios : bool
        A multiple of a smaller extent stays the same multiple of it.
    parity : bool
        An even extent stays even, and an odd one odd.
    """
    new: dict[int, int] = {}
    for old in extents:
        lower = next((n for n in new if old % n == 0), None) if ratios else None
        wanted = size(old)
        new[old] = new[lower] * (old // lower) if lower else wanted + (parity and (wanted + old) % 2)
    return new


def _draw_size(draws: Draws, low: int, high: int) -> int:
    """Small ones, any, and those around powers of two, where kernels go from one way to another."""
    kind = draws.randint(0, 2)
    if kind == 0:
        return draws.randint(low, min(low + 8, high))
    if kind == 1:
        return draws.randint(low, min(low + 100, high))
    return min(max((1 << draws.randint(1, high.bit_length() - 1)) + draws.randint(-1, 1), low), high)


def _fitting(sample: SampleInput, extents: dict[int, int], low: int) -> dict[int, int]:
    """The extents, the largest halved until no array has too many elements; halves keep parity."""
    fitting = dict(extents)
    while True:
        shapes = [[fitting.get(int(n), int(n)) for n in a.shape] for a in arrays_of(sample)]
        largest = max(fitting, key=lambda old: fitting[old], default=0)
        if all(math.prod(shape) <= MAX_ELEMENTS for shape in shapes) or not largest:
            return fitting
        half = fitting[largest] // 2
        if half < max(low, 2):
            return fitting
        fitting[largest] = half + (half + fitting[largest]) % 2


def draw_variation(
    draws: Draws,
    samples: Sequence[SampleInput],
    layouts: Sequence[Layout],
    bounds: tuple[int, int],
    special: Mapping[int, tuple[float, ...]],
    *,
    multiple: int = 1,
) -> Variation:
    """One variation of one of the samples.

    Parameters
    ----------
    draws : Draws
        Smaller numbers mean simpler variations.
    samples : sequence of SampleInput
        Not empty, simple ones first.
    layouts : sequence of str
        Those that the operation claims.
    bounds : tuple of int
        The least and the largest extent.
    special : mapping
        What `special_values` says of all samples.
    multiple : int
        New extents are multiples of it.
    """
    base = draws.choice(samples)
    low, high = bounds
    way = draws.randint(0, 3)
    drawn = draw_extents(
        extents_of(base),
        lambda old: multiple * _draw_size(draws, low, max(high // multiple, low)),
        ratios=way == 3,
        parity=way > 0 and multiple == 1,
    )
    extents = {old: min(new, high) for old, new in _fitting(base, drawn, low).items()}
    if multiple > 1:
        extents = {old: max(new // multiple, 1) * multiple for old, new in extents.items()}
    return Variation(
        base.name,
        extents,
        draws.randint(0, 2**16),
        draws.choice(VALUES),
        _draw_special(draws, special, base),
        draws.choice(layouts),
    )


def _draw_special(
    draws: Draws, special: Mapping[int, tuple[float, ...]], base: SampleInput
) -> tuple[tuple[int, int, float], ...]:
    positions = [p for p in special if p < len(base.args) and isinstance(base.args[p], np.ndarray)]
    if not positions:
        return ()
    found: list[tuple[int, int, float]] = []
    for _ in range(max(draws.randint(-2, 3), 0)):
        position = draws.choice(positions)
        huge = any(at == position and _is_huge(value) for at, _, value in found)
        pool = [v for v in special[position] if not (huge and _is_huge(v))]
        if pool:
            found.append((position, draws.randint(0, MAX_ELEMENTS), draws.choice(pool)))
    return tuple(found)
