"""What the entries of kernels over rows have in common: their samples, and what they move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx.testing.op_db._shared import ITEMSIZE, SPECIAL, Float64Array, values
from zmlx.testing.opinfo import SampleInput, SampleRng

#: An argument beside x, from its own generator and the shape of x.
Beside = Callable[[SampleRng, tuple[int, ...]], NDArray[Any]]
Samples = Callable[[Callable[[str], SampleRng]], Iterator[SampleInput]]


def special_rows(rng: SampleRng, *, moderate: bool = False) -> Float64Array:
    """Rows of ordinary numbers with one special one each; two minus infinities; nothing but minus infinities.

    ``moderate``: without those whose square is beyond float32, and with zeros for the last row.
    """
    chosen = SPECIAL[np.abs(SPECIAL) != 1e30] if moderate else SPECIAL
    rows = rng.normal((chosen.size + 2, 6))
    rows[: chosen.size, 2] = chosen
    rows[-2, 1:3] = -np.inf
    rows[-1] = 0.0 if moderate else -np.inf
    return rows


def row_samples(
    *beside: Beside,
    special: Callable[[SampleRng], Float64Array] | None = special_rows,
    scale: float = 1.0,
    without: tuple[str, ...] = (),
    kwargs: Mapping[str, Mapping[str, Any]] | None = None,
) -> Samples:
    """Samples for an x and the arguments ``beside`` it.

    Parameters
    ----------
    beside
        The other arguments.
    special
        The x of the sample "special"; None: there is none.
    scale
        Of the numbers.
    without
        Samples that make no sense.
    kwargs
        A sample's name -> its keyword arguments; under "" those of all others.
    """
    named = kwargs or {}

    def made(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
        arrays = {
            "small": rng("small").normal((4, 32), scale=scale),
            "single": np.array([0.75]),
            "odd": rng("odd").normal((3, 5, 7), scale=2 * scale),
            "long_rows": rng("long_rows").normal((2, 4099), scale=scale),
            "many_rows": rng("many_rows").normal((301, 5), scale=scale),
            "no_rows": np.zeros((0, 8)),
            "no_columns": np.zeros((3, 0)),
        }
        if special is not None:
            arrays["special"] = special(rng("special"))
        for name, x in arrays.items():
            if name not in without:
                others = (make(rng(f"{name}_{position}"), x.shape) for position, make in enumerate(beside))
                yield SampleInput(name, (x, *others), named.get(name, named.get("", {})))

    return made


def alike(scale: float = 1.0, loc: float = 0.0) -> Beside:
    """An array of x's shape."""
    return lambda rng, shape: rng.normal(shape, scale=scale, loc=loc)


def vector(loc: float = 0.0) -> Beside:
    """A weight."""
    return lambda rng, shape: rng.normal(shape[-1], scale=0.3, loc=loc)


def a_row(scale: float = 1.0) -> Beside:
    """A value for each row."""
    return lambda rng, shape: rng.normal(shape[:-1], scale=scale)


def over_rows(x: Float64Array) -> Float64Array:
    """The sum over all axes but the last."""
    return np.asarray(np.sum(x, axis=tuple(range(x.ndim - 1))))


def total(x: Float64Array) -> Float64Array:
    """The sum over the last axis, which stays."""
    return np.asarray(np.sum(x, axis=-1, keepdims=True))


def mean(x: Float64Array) -> Float64Array:
    """The mean over the last axis, which stays."""
    with np.errstate(all="ignore"):
        return np.asarray(total(x) / x.shape[-1])


def moved(results: int = 1, *, per_row: bool = False) -> Callable[[SampleInput, str], int]:
    """Bytes: the arguments are read; so many results, of x's shape or with a value a row, are written."""

    def count(sample: SampleInput, dtype: str) -> int:
        x = sample.args[0]
        written = int(np.prod(x.shape[:-1])) if per_row else int(x.size)
        return (values(sample) + results * written) * ITEMSIZE[dtype]

    return count


def operations(each: int) -> Callable[[SampleInput, str], int]:
    """So many floating-point operations for each element of x."""
    return lambda sample, dtype: each * int(sample.args[0].size)
