"""The arguments of a benchmark, as `Rivals.shapes` says them: on the device, as a sample, and those of some rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from zmlx import _compat
from zmlx.testing._formats import is_float
from zmlx.testing.opinfo import SampleInput
from zmlx.testing.rivals import Argument, Rivals
from zmlx.testing.sample_rng import SampleRng
from zmlx.testing.tolerance import as_float64

#: Rows of a result that are compared with the oracle, spread over all of it: so many at most, and two at least, for
#: about so many elements. Rows may be images or sequences, which oracles take their time for.
CHECKED_ROWS = 16
CHECKED_ELEMENTS = 1 << 22


def arguments_of(rivals: Rivals, rows: int, columns: int) -> tuple[Argument, ...]:
    """What `shapes` gives; a shape that stands alone is that of normal numbers."""
    given = rivals.shapes(rows, columns)
    return tuple(a if isinstance(a, Argument) else Argument(tuple(a)) for a in given)


def make_arguments(specs: Iterable[Argument | tuple[int, ...]], dtype: str) -> list[Any]:
    """Random arrays, made on the device: the masters of a `SampleInput` would take gigabytes here."""
    mx = _compat.import_mx()
    mx.random.seed(0)
    arrays = []
    for spec in specs:
        of = spec if isinstance(spec, Argument) else Argument(spec)
        target = getattr(mx, {"bool": "bool_"}.get(of.dtype, of.dtype or dtype))
        if not of.within:
            arrays.append(mx.random.normal(of.shape, target))
        elif is_float(of.dtype or dtype):
            arrays.append(mx.random.uniform(*of.within, of.shape, target))
        else:
            low, high = map(int, of.within)
            # From 0 on: MLX 0.30 rounds towards it, and so draws 0 for -1.
            arrays.append((mx.random.randint(0, high - low, of.shape) + low).astype(target))
    mx.eval(arrays)
    return arrays


def bench_sample(rivals: Rivals, rows: int, columns: int) -> SampleInput:
    """A sample with the shapes of the benchmark, for an entry's `bytes_moved`; its arrays take no memory."""
    arrays = tuple(np.broadcast_to(_zero(a), a.shape) for a in arguments_of(rivals, rows, columns))
    return SampleInput("bench", arrays, rivals.kwargs)


def _zero(argument: Argument) -> Any:
    dtype = argument.dtype
    return np.zeros((), np.float64 if not dtype or is_float(dtype) else dtype)


def drawn_sample(
    rivals: Rivals, rows: int, columns: int, rng: SampleRng, name: str, *, loc: float = 0.0
) -> SampleInput:
    """A sample of the benchmark's shapes with values of its kind: normal ones around `loc`, or as it says."""

    def drawn(argument: Argument) -> Any:
        if not argument.within:
            return rng.normal(argument.shape, loc=loc)
        if argument.dtype and not is_float(argument.dtype):
            low, high = argument.within
            return rng.integers(argument.shape, int(low), int(high)).astype(argument.dtype)
        return rng.uniform(argument.shape, *argument.within)

    return SampleInput(name, tuple(map(drawn, arguments_of(rivals, rows, columns))), rivals.kwargs)


def step_of(rivals: Rivals, array: Any) -> int:
    """How many rows of an array on the next one is that is compared: all are, where rows are not each by itself."""
    if not rivals.by_rows:
        return 1
    rows, size = int(array.shape[0]), int(array.size)
    checked = min(max(CHECKED_ELEMENTS * rows // size, 2), CHECKED_ROWS)
    return max(1, rows // checked)


def some_rows(array: Any, step: int) -> Any:
    """Every `step`-th row of an array, as an array of its own."""
    if isinstance(array, np.ndarray):
        return array[::step]
    return array if step == 1 else _compat.import_mx().contiguous(array[::step])


def picked(specs: Sequence[Argument], arguments: Sequence[Any], step: int) -> tuple[Any, ...]:
    """What makes the rows that are checked: those rows of arrays that have rows, and weights whole."""
    return tuple(
        _numpy(some_rows(a, step) if of.has_rows else a) for of, a in zip(specs, arguments, strict=True)
    )


def _numpy(array: Any) -> Any:
    mx = _compat.import_mx()
    return as_float64(array) if mx.issubdtype(array.dtype, mx.floating) else np.asarray(array)


def another(array: Any) -> Any:
    """The same numbers in memory of their own."""
    mx = _compat.import_mx()
    return mx.logical_not(mx.logical_not(array)) if array.dtype == mx.bool_ else array + 0
