"""Variations of samples beyond what 16 bits count to: many elements, many rows, a long row.

The judge asks for many elements within an entry's bounds; the generated suite for each `Way` that an operation takes.
"""

from __future__ import annotations

import math
import random
import tracemalloc
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from zmlx.testing.opinfo import DEFAULT_EXTENTS, OpInfo, SampleInput
from zmlx.testing.sample_rng import case_rng
from zmlx.testing.variations import REFUSALS, Bounds, arrays_of, full, resized, special_values

#: What 16 bits count to.
MANY = 1 << 16
#: Elements that an array of such a variation has, at most.
MOST = 5 * MANY

#: The same where the other extents stay as they are: with smaller ones as much is seen, in less time.
MOST_AS_THEY_ARE = 4 * MANY

#: The same where an argument holds integers. They may be places along an extent, which must then stay as it is.
MOST_WITH_INTEGERS = 16 * MANY

#: More than `MANY` rows, a row of more than `MANY` elements, or as many elements in all as that, by varying samples; or
#: what the entry gives as `large`.
Way = Literal["rows", "columns", "elements", "given"]
VARIED: tuple[Way, ...] = ("rows", "columns", "elements")

#: An extent is tried with so few and so many entries, to see how memory grows with it; at most by the last factor,
#: which is more than n log n makes it and less than n * n does.
PROBES = (256, 2048)
GROWTH = 14


def largest(sample: SampleInput, extents: Mapping[int, int]) -> int:
    """How many elements the largest array of a sample has with other extents."""
    return max(
        (math.prod(extents.get(int(n), int(n)) for n in a.shape) for a in arrays_of(sample)), default=1
    )


def many_elements(
    sample: SampleInput,
    limits: Mapping[int, tuple[int, int]],
    rng: random.Random,
    first: Collection[int] = (),
) -> dict[int, int] | None:
    """Extents within `limits` that give an array more than `MANY` elements, grown one after the other, those in `first`
    before others; None if those limits, or `MOST`, are in the way."""
    extents = {old: old for old in limits}
    for old in sorted(rng.sample(sorted(limits), len(limits)), key=lambda old: old not in first):
        size = largest(sample, extents)
        if 0 < size <= MANY:
            # Where an array has an extent twice, both grow.
            power = max(a.shape.count(old) for a in arrays_of(sample)) or 1
            wanted = int(old * (MANY / size) ** (1 / power)) + rng.randint(1, 8)
            extents[old] = min(max(old, wanted), max(old, limits[old][1]))
    return extents if MANY < largest(sample, extents) <= MOST else None


def extents_of(sample: SampleInput, way: Way) -> set[int]:
    """The extents of a sample's last axes, or of others, without those that are both.

    The arrays of most axes say which those are: one of a single axis may have an entry for each row, or each column.
    """
    deepest = max((a.ndim for a in arrays_of(sample)), default=0)
    shapes = [a.shape for a in arrays_of(sample) if a.ndim == deepest]
    last = {int(s[-1]) for s in shapes if s}
    others = {int(n) for s in shapes for n in s[:-1]}
    return last - others if way == "columns" else others - last


def _long_extents(sample: SampleInput, bounds: Bounds, way: Way) -> list[int]:
    """The extents of a sample that may be longer than `MANY`."""
    limits = bounds.of(sample)
    return sorted(old for old in extents_of(sample, way) & limits.keys() if _unlimited(limits[old][1]))


def _unlimited(high: int) -> bool:
    """Whether an upper bound is the tests' own and not the operation's."""
    return high >= DEFAULT_EXTENTS[1]


def _beside(old: int, low: int, way: Way) -> int:
    """A small extent for what stands beside a long one; an even one stays even, and an odd one odd."""
    # Two rows tell where one begins; a row of two shows less: normalised, it has no gradient.
    least = max(low, 2 if way == "columns" else 3)
    return min(old, least + (least + old) % 2)


def _elongated(sample: SampleInput, bounds: Bounds, way: Way) -> Iterator[dict[int, int]]:
    """Extents of which one is longer than `MANY`, a multiple of what it was: the others as they are, small, or, those
    that belong to it, as many times as long."""
    limits = bounds.of(sample)
    own = {old: old for old in limits}
    small = {old: _beside(old, low, way) for old, (low, _) in limits.items()}
    holds_integers = any(a.dtype.kind in "iu" for a in arrays_of(sample))
    for old in _long_extents(sample, bounds, way):
        times = MANY // old + 1
        related = {n: n * times for n in limits if n % old == 0 or old % n == 0}
        longer = {old: old * times}
        if largest(sample, own | longer) <= (MOST_WITH_INTEGERS if holds_integers else MOST_AS_THEY_ARE):
            yield own | longer
        for extents in (small | longer, small | related):
            if largest(sample, extents) <= MOST:
                yield extents


def _candidates(
    samples: Sequence[SampleInput], bounds: Bounds, way: Way
) -> Iterator[tuple[SampleInput, dict[int, int]]]:
    # NaN or an infinity among the values could hide what is wrong with others.
    for sample in sorted(full(samples), key=lambda s: len(special_values(s))):
        if way != "elements":
            for extents in _elongated(sample, bounds, way):
                yield sample, extents
        elif (found := many_elements(sample, bounds.of(sample), random.Random(sample.name))) is not None:
            yield sample, found


def ways_of(op: OpInfo) -> tuple[Way, ...]:
    """In which ways the samples of an operation can be so large: as given; else within its `extents`, and by many
    elements where neither rows nor columns can be many. None for an operation with a `strategy`, whose arguments belong
    together in a way that extents do not show."""
    if op.large is not None:
        return ("given",)
    if op.strategy is not None:
        return ()
    samples, bounds = op.sample_inputs(), Bounds(op.extents, op.axis_extents)
    able = [way for way in VARIED if next(_candidates(samples, bounds, way), None) is not None]
    return tuple(way for way in able if way != "elements") or tuple(able)


def large_samples(op: OpInfo, way: Way) -> Iterator[SampleInput]:
    """Samples of an operation that are so large in this way, those first that are nearest to its own.

    Left out are those for which the oracle needs memory that grows with the square of the long extent.

    Raises
    ------
    ValueError
        One that the entry gives is not large.
    """
    if way == "given":
        yield from _given(op)
        return
    bounds = Bounds(op.extents, op.axis_extents)
    for number, (sample, extents) in enumerate(_candidates(op.sample_inputs(), bounds, way)):
        if way == "elements" or not _grows_fast(op, sample, extents):
            yield op.in_range(resized(sample, extents, number))


def _given(op: OpInfo) -> Iterator[SampleInput]:
    for sample in op.large(case_rng(op.name)) if op.large is not None else ():
        size = largest(sample, {})
        if size <= MANY:
            raise ValueError(
                f"{op.name}: expected samples of `large` to have an array of more than {MANY} elements, got {size} in "
                f"{sample.name!r}."
            )
        yield sample


def _grows_fast(op: OpInfo, sample: SampleInput, extents: Mapping[int, int]) -> bool:
    few, many = (
        _peak(op, op.in_range(resized(sample, {old: min(new, most) for old, new in extents.items()}, 0)))
        for most in PROBES
    )
    return 0 < few * GROWTH < many


def _peak(op: OpInfo, sample: SampleInput) -> int:
    """Bytes that the oracle has at most, of Python, NumPy and MLX. 0 if it does not take the sample."""
    import mlx.core as mx

    traced = tracemalloc.is_tracing()
    if not traced:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        mx.reset_peak_memory()
        before, active = tracemalloc.get_traced_memory()[0], mx.get_active_memory()
        with np.errstate(all="ignore"):
            op.expected(sample)
    except REFUSALS:
        return 0
    else:
        # MLX's peak is 0 until it allocates something, whatever is held already.
        return tracemalloc.get_traced_memory()[1] - before + max(mx.get_peak_memory() - active, 0)
    finally:
        if not traced:
            tracemalloc.stop()
