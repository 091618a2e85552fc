"""Where an array comes from: whether its values are those of another one, moved, cast or cut, but not computed with.

An MLX operation that computes leaves an array that nothing here explains. So arithmetic outside of kernels shows, in
what a kernel is given and in what is returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations_with_replacement, islice, permutations

import numpy as np
from numpy.typing import NDArray

from zmlx.testing._formats import is_float, round_to
from zmlx.testing.judge.arrays import Raw

#: How many cuts of one axis are tried.
MAX_CUTS = 4096
#: Axes whose orders are all tried.
MAX_AXES = 4


def comes_from(target: Raw, sources: Iterable[Raw]) -> bool:
    """Whether `target` is one of `sources`, reshaped, with its axes in another order, repeated, cut out, or cast.

    Parameters
    ----------
    target : Raw
        The array to explain. One without elements comes from anything.
    sources : iterable of Raw
        What it may come from.
    """
    return come_alike([target], [list(sources)])


def come_alike(targets: Sequence[Raw], sources: Sequence[Sequence[Raw]]) -> bool:
    """Whether arrays of several calls come from the same source each, in the same way.

    Which source, and which part of it, is a choice. If it differs between calls that differ in values only, then
    something outside of kernels has looked at the values.

    Parameters
    ----------
    targets : sequence of Raw
        One array of each call.
    sources : sequence of sequences of Raw
        For each call what the array may come from, in the same order and of the same shapes.
    """
    if len({(target.dtype, target.shape) for target in targets}) > 1:
        return False
    if not targets[0].bits.size:
        return True
    wanted = [np.asarray(target.values).reshape(-1) for target in targets]
    return any(
        all(_same(candidate.reshape(-1), values) for candidate, values in zip(way, wanted, strict=True))
        for alike in zip(*sources, strict=True)
        for way in zip(
            *(_moved(_cast(source, t.dtype), t.shape) for source, t in zip(alike, targets, strict=True)),
            strict=True,
        )
    )


def _cast(source: Raw, dtype: str) -> NDArray[np.generic]:
    values = np.asarray(source.values)
    if is_float(dtype) and source.dtype != dtype and values.dtype.kind != "c":
        return np.asarray(round_to(values.astype(np.float64), dtype))
    return values


def _same(a: NDArray[np.generic], b: NDArray[np.generic]) -> bool:
    floats = a.dtype.kind in "fc" and b.dtype.kind in "fc"
    return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=floats))


def _moved(source: NDArray[np.generic], shape: tuple[int, ...]) -> Iterator[NDArray[np.generic]]:
    size = int(np.prod(shape))
    if source.size == size:
        yield source
        if 1 < source.ndim <= MAX_AXES:
            yield from (np.transpose(source, order) for order in permutations(range(source.ndim)))
    elif source.size > size:
        yield source.reshape(-1)[:size]
        yield from islice(_cuts(source, size), MAX_CUTS)
    elif source.size:
        yield from _repeated(source, shape)


def _cuts(source: NDArray[np.generic], size: int) -> Iterator[NDArray[np.generic]]:
    """Parts of `source` along one axis: neighbours, or every other."""
    for axis, extent in enumerate(source.shape):
        rest = source.size // extent
        count, remainder = divmod(size, rest)
        if remainder or not count:
            continue
        for step in (1, 2):
            reach = (count - 1) * step
            for start in range(max(0, extent - reach)):
                window = [slice(None)] * source.ndim
                window[axis] = slice(start, start + reach + 1, step)
                yield source[tuple(window)]


def _repeated(source: NDArray[np.generic], shape: Sequence[int]) -> Iterator[NDArray[np.generic]]:
    """`source` broadcast to `shape`, with its axes last or first, or to one of as many elements, with a new axis or
    two."""
    for axes in range(len(shape) - source.ndim + 1):
        padded = source.reshape((*source.shape, *[1] * axes))
        try:
            yield np.broadcast_to(padded, tuple(shape))
        except ValueError:
            continue  # it does not fit so
    times, remainder = divmod(int(np.prod(shape)), source.size)
    if remainder or source.size == 1:
        return
    # Where rows are flattened afterwards, only the order of the elements is left to see.
    for before, after in combinations_with_replacement(range(source.ndim + 1), 2):
        parts = (source.shape[:before], source.shape[before:after], source.shape[after:])
        outer, middle, inner = (int(np.prod(part)) for part in parts)
        for first in range(1, times + 1) if before < after else (times,):
            if times % first == 0:
                placed = source.reshape(outer, 1, middle, 1, inner)
                yield np.broadcast_to(placed, (outer, first, middle, times // first, inner))
