"""Variations of an operation's samples: other extents, values and special values, drawn from what the samples show.

Equal extents of a sample are replaced by equal ones, so that what belongs together stays together; values are like the
sample's; special values are planted where a sample has some. Whoever draws brings the numbers: Hypothesis for
property-based tests, a secret for the judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from zmlx.testing.layouts import Layout
from zmlx.testing.opinfo import SampleInput
from zmlx.testing.sample_rng import SampleRng

__all__ = [
    "REFUSALS",
    "VALUES",
    "Bounds",
    "Draws",
    "Variation",
    "arrays_of",
    "draw_extents",
    "draw_variation",
    "extents_of",
    "full",
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

#: Beyond these a value is huge, or subnormal in float32.
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
        made = resized(base, self.extents, self.seed, self.values, ordinary=bool(self.special))
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


def full(samples: Iterable[SampleInput]) -> list[SampleInput]:
    """Those in which every array has elements."""
    return [s for s in samples if all(a.size for a in arrays_of(s))]


def resized(
    sample: SampleInput,
    extents: Mapping[int, int],
    seed: int,
    values: Values = "scaled",
    *,
    ordinary: bool = False,
) -> SampleInput:
    """The sample with other extents, and with values like its own that `seed` tells; `ordinary`: not its special ones,
    but for zeros, if it has others."""
    made = [
        _drawn(_pool(a, ordinary), tuple(extents.get(n, n) for n in a.shape), f"{seed}/{number}", values)
        for number, a in enumerate(arrays_of(sample))
    ]
    return with_arrays(sample, made)


def _pool(array: NDArray[Any], ordinary: bool) -> NDArray[Any]:
    """The values to draw from, all but those that an oracle can say nothing of beside some others (`_goes_with`)."""
    flat = array.reshape(-1)
    if array.dtype.kind != "f":
        return flat
    left = (
        flat[~_is_special(flat) | (flat == 0)] if ordinary else flat[~(_is_huge(flat) | _is_subnormal(flat))]
    )
    return left if left.size else flat


def _drawn(pool: NDArray[Any], shape: tuple[int, ...], seed: str, values: Values) -> NDArray[Any]:
    if 0 in shape or not pool.size:
        return np.zeros(shape, pool.dtype)
    numbers = SampleRng(seed)
    places = numbers.integers(shape, 0, pool.size)
    if values == "level":
        return np.full(shape, pool[places.flat[0]], pool.dtype)
    drawn = pool[places]
    if values == "scaled" and pool.dtype.kind == "f":
        drawn = drawn * numbers.uniform(shape, 0.5, 1.5)
    return np.asarray(drawn)


def _is_huge(values: Any) -> Any:
    return np.isfinite(values) & (np.abs(values) > HUGE)


def _is_subnormal(values: Any) -> Any:
    return (values != 0) & (np.abs(values) < TINY)


def _is_special(values: Any) -> Any:
    return ~np.isfinite(values) | (values == 0) | _is_subnormal(values) | _is_huge(values)


def planted(sample: SampleInput, special: Iterable[tuple[int, int, float]]) -> SampleInput:
    """The sample with values at (argument, place); those for arguments without elements are left out."""
    args = list(sample.args)
    for position, place, value in special:
        if args[position].size:
            args[position] = args[position].copy()
            args[position].reshape(-1)[place % args[position].size] = value
    return replace(sample, args=tuple(args))


def special_values(sample: SampleInput) -> dict[int, tuple[float, ...]]:
    """The special values of a sample, by the argument: NaN, infinities, zeros, subnormal and huge numbers.

    A sample without any is not asked about them: what becomes of them among its values is more than the entry says.
    """
    found: dict[int, tuple[float, ...]] = {}
    for position, array in enumerate(sample.args):
        if isinstance(array, np.ndarray) and array.dtype.kind == "f":
            chosen = {repr(float(v)): float(v) for v in array[_is_special(array)].flat}
            if chosen:
                found[position] = tuple(chosen.values())
    return found


def draw_extents(
    limits: Mapping[int, tuple[int, int]], size: Callable[[int], int], *, ratios: bool, parity: bool
) -> dict[int, int]:
    """New extents for old ones.

    Parameters
    ----------
    limits : mapping of int to tuple of int
        The least and the largest for each old one, smallest old one first; see `Bounds.of`.
    size : callable
        ``size(old)``: a new one, which is brought within the limits.
    ratios : bool
        A multiple of a smaller extent stays the same multiple of it.
    parity : bool
        An even extent stays even, and an odd one odd, if the limits have room.
    """
    new: dict[int, int] = {}
    for old, (low, high) in limits.items():
        lower = next((n for n in new if old % n == 0), None) if ratios else None
        wanted = new[lower] * (old // lower) if lower else size(old)
        wanted = min(max(wanted, low), high)
        if parity and lower is None and (wanted + old) % 2:
            wanted += 1 if wanted < high else -1 if wanted > low else 0
        new[old] = wanted
    return new


@dataclass(frozen=True)
class Bounds:
    """What extents may be.

    Attributes
    ----------
    every : tuple of int
        The least and the largest of all.
    axes : mapping
        By (argument, axis), more narrowly.
    columns : tuple of int, optional
        Those of last axes; if the least is not 1, samples with a last axis of 1 are left out.
    rows : tuple of int, optional
        Those of other axes; if the least is not 1, samples of more than two axes are left out.
    multiple : int
        Those of last axes are multiples of it.
    """

    every: tuple[int, int]
    axes: Mapping[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    columns: tuple[int, int] | None = None
    rows: tuple[int, int] | None = None
    multiple: int = 1

    def of(self, sample: SampleInput) -> dict[int, tuple[int, int]]:
        """Bounds for what takes the place of each extent of a sample."""
        found = dict.fromkeys(extents_of(sample), self.every)
        for (position, axis), (low, high) in self.axes.items():
            shape: tuple[int, ...] = np.shape(sample.args[position])
            if -len(shape) <= axis < len(shape) and shape[axis] in found:
                high = min(high, found[shape[axis]][1])
                found[shape[axis]] = min(max(low, found[shape[axis]][0]), high), high
        last = self.last(sample)
        for wanted, extents in ((self.columns, found.keys() & last), (self.rows, found.keys() - last)):
            if wanted is not None:
                found.update(dict.fromkeys(extents, wanted))
        return found

    def last(self, sample: SampleInput) -> set[int]:
        """The extents of a sample that are those of a last axis."""
        return {int(a.shape[-1]) for a in arrays_of(sample) if a.ndim}

    def take(self, sample: SampleInput) -> bool:
        """Whether a sample can be varied within them."""
        shapes = [a.shape for a in arrays_of(sample)]
        if max(self.multiple, (self.columns or (1,))[0]) > 1 and any(s[-1:] == (1,) for s in shapes):
            return False
        return self.rows is None or self.rows[0] == 1 or all(len(s) <= 2 for s in shapes)


def _draw_size(draws: Draws, low: int, high: int) -> int:
    """Small ones, any, and those around powers of two, where kernels go from one way to another."""
    kind = draws.randint(0, 2)
    if kind == 0:
        return draws.randint(low, min(low + 8, high))
    if kind == 1:
        return draws.randint(low, min(low + 100, high))
    return (1 << draws.randint(0, high.bit_length() - 1)) + draws.randint(-1, 1)


def _one_long(draws: Draws, bounds: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """One extent near the largest, or anywhere, and the others small."""
    drawn = {old: draws.randint(low, min(low + 1, high)) for old, (low, high) in bounds.items()}
    if bounds:
        long = draws.choice(list(bounds))
        low, high = bounds[long]
        drawn[long] = draws.randint(max(high - 200, low) if draws.randint(0, 1) else low, high)
    return drawn


def _fitting(
    sample: SampleInput, extents: Mapping[int, int], bounds: Mapping[int, tuple[int, int]]
) -> dict[int, int]:
    """The extents, the largest halved until no array has too many elements; halves keep parity."""
    fitting = dict(extents)
    while True:
        shapes = [[fitting.get(int(n), int(n)) for n in a.shape] for a in arrays_of(sample)]
        if all(math.prod(shape) <= MAX_ELEMENTS for shape in shapes):
            return fitting
        halves = {old: (new // 2 + (new // 2 + new) % 2) for old, new in fitting.items()}
        able = [old for old in fitting if bounds[old][0] <= halves[old] < fitting[old]]
        if not able:
            return fitting
        largest = max(able, key=lambda old: fitting[old])
        fitting[largest] = halves[largest]


def draw_variation(
    draws: Draws,
    samples: Sequence[SampleInput],
    layouts: Sequence[Layout],
    bounds: Bounds,
    special: Mapping[str, Mapping[int, tuple[float, ...]]],
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
    bounds : Bounds
        Of the extents.
    special : mapping
        What `special_values` says, by the name of the sample.
    """
    base = draws.choice([sample for sample in samples if bounds.take(sample)])
    limits = bounds.of(base)
    way = draws.randint(0, 4)
    if way == 4:
        drawn = _one_long(draws, limits)
    else:
        drawn = draw_extents(
            limits, lambda old: _draw_size(draws, *limits[old]), ratios=way == 3, parity=way > 0
        )
    drawn = _fitting(base, drawn, limits)
    last, multiple = bounds.last(base), bounds.multiple
    drawn.update({old: max(new // multiple, 1) * multiple for old, new in drawn.items() if old in last})
    return Variation(
        base.name,
        drawn,
        draws.randint(0, 2**16),
        draws.choice(VALUES),
        _draw_special(draws, special.get(base.name, {})),
        draws.choice(layouts),
    )


def _draw_special(
    draws: Draws, special: Mapping[int, tuple[float, ...]]
) -> tuple[tuple[int, int, float], ...]:
    found: list[tuple[int, int, float]] = []
    for _ in range(max(draws.randint(-1, 3), 0) if special else 0):
        position = draws.choice(list(special))
        pool = [v for v in special[position] if _goes_with(v, [value for _, _, value in found])]
        if pool:
            found.append((position, draws.randint(0, MAX_ELEMENTS), draws.choice(pool)))
    return tuple(found)


def _goes_with(value: float, others: Sequence[float]) -> bool:
    """Whether an oracle can say what becomes of a value beside others: two huge ones may cancel to what no precision
    tells, and whether a subnormal one is zero depends on the hardware, which shows where it meets an infinite one."""
    large = [_is_huge(other) or np.isinf(other) for other in others]
    if _is_subnormal(value):
        return not any(large)
    if _is_huge(value) or np.isinf(value):
        return not any(_is_subnormal(other) or (_is_huge(other) and _is_huge(value)) for other in others)
    return True
