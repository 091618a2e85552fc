"""Broadcasting as a kernel has it: arrays seen as rows by columns, each of which varies along both, one or neither.

Equal shapes are one row. Where no two such axes say how all arrays vary, those that do not fit are repeated in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby

import mlx.core as mx

from zmlx.kernels._columns import column_sum
from zmlx.kernels.reductions import sum_lastdim

Shape = tuple[int, ...]

#: Longer rows are cut at an axis: in a row, elements are counted in 32 bits.
MOST_COLUMNS = 2**31


@dataclass(frozen=True)
class View:
    """How a kernel sees an array.

    Attributes
    ----------
    own
        The array's shape.
    rows, columns
        The extents that the kernel sees; 1 where it does not vary.
    repeated
        Whether it is repeated in memory before.
    full
        Whether it has a value of its own for each element of the result.
    """

    own: Shape
    rows: int
    columns: int
    repeated: bool
    full: bool


@dataclass(frozen=True)
class Broadcast:
    """Arrays of several shapes as (rows, columns), and what their results are like."""

    shape: Shape
    rows: int
    columns: int
    views: tuple[View, ...]

    @cached_property
    def even(self) -> bool:
        """Whether all arrays have the result's shape."""
        return all(view.full for view in self.views)

    def seen(self, arrays: Sequence[mx.array]) -> list[mx.array]:
        """The arrays as the kernel sees them."""
        return [
            (mx.broadcast_to(array, self.shape) if view.repeated else array).reshape(view.rows, view.columns)
            for array, view in zip(arrays, self.views, strict=True)
        ]

    def is_vector(self, view: View) -> bool:
        """Whether the kernel sees an array as one row that stands beside all rows, as a bias does."""
        return not view.full and not view.repeated and (view.rows, view.columns) == (1, self.columns)

    def summed(self, gradient: mx.array, view: View) -> mx.array:
        """The gradient of an array from one of shape (rows, columns): summed over where the array was repeated. Of a
        vector's gradient lines of sums over some rows will do.

        Sums are of float32, and always added up in the same order.
        """
        if view.full:
            return gradient.reshape(view.own)
        if self.is_vector(view):
            return column_sum(gradient).reshape(view.own)
        if not view.repeated and (view.rows, view.columns) == (self.rows, 1):
            return sum_lastdim(gradient).reshape(view.own)
        return summed_to(gradient.reshape(self.shape), view.own)


def summed_to(array: mx.array, shape: Shape) -> mx.array:
    """The sum over the axes along which ``shape``, of as many dimensions, has one element."""
    axes = [axis for axis, (one, all_) in enumerate(zip(shape, array.shape, strict=True)) if one != all_]
    return mx.sum(array, axis=axes, keepdims=True) if axes else array


@lru_cache(maxsize=1024)
def result_shape(shapes: tuple[Shape, ...]) -> Shape | None:
    """What shapes of one number of dimensions broadcast to; None: they do not."""
    result = []
    for extents in zip(*shapes, strict=True):
        others = {extent for extent in extents if extent != 1}
        if len(others) > 1:
            return None
        result.append(others.pop() if others else 1)
    return tuple(result)


@lru_cache(maxsize=1024)
def broadcast(shapes: tuple[Shape, ...]) -> Broadcast:
    """The views of arrays whose shapes broadcast, have one number of dimensions, and values."""
    shape = result_shape(shapes)
    assert shape is not None, "checked by the caller"
    size = math.prod(shape)
    # Neighbouring axes along which the same arrays vary are one.
    axes = [(n, tuple(own[axis] == n for own in shapes)) for axis, n in enumerate(shape) if n != 1]
    groups = [
        (math.prod(n for n, _ in group), varies) for varies, group in groupby(axes, key=lambda axis: axis[1])
    ]
    cut = _cut(groups, len(shapes))
    rows = math.prod(n for n, _ in groups[:cut])
    if len(groups) == 1 and size > MOST_COLUMNS:
        rows = next(rows for rows in _leading(shape) if size // rows <= MOST_COLUMNS)
    columns = size // rows
    views = []
    for index, own in enumerate(shapes):
        down = {varies[index] for _, varies in groups[:cut]}
        across = {varies[index] for _, varies in groups[cut:]}
        full = math.prod(own) == size
        repeated = not full and (len(down) > 1 or len(across) > 1)
        wide = full or repeated
        views.append(
            View(
                own,
                rows if wide or down == {True} else 1,
                columns if wide or across == {True} else 1,
                repeated,
                full,
            )
        )
    return Broadcast(shape, rows, columns, tuple(views))


def _cut(groups: Sequence[tuple[int, tuple[bool, ...]]], count: int) -> int:
    """After how many groups of axes rows end and columns begin, for the fewest arrays that must be repeated."""
    if len(groups) < 2:
        return 0

    def misfits(cut: int) -> int:
        return sum(
            any(len({varies[index] for _, varies in part}) > 1 for part in (groups[:cut], groups[cut:]))
            for index in range(count)
        )

    return min(range(1, len(groups)), key=misfits)


def _leading(shape: Shape) -> list[int]:
    """The products of the first axes, from none to all."""
    return [math.prod(shape[:count]) for count in range(len(shape) + 1)]
