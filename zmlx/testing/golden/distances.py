"""Distances between two recorded arrays in ULPs, without NumPy, for machines that have none.

The numbers are those of `zmlx.testing.tolerance.ulp_distance`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zmlx.testing._formats import COMPONENTS, is_float, round_one, ulp_at
from zmlx.testing._limits import Tolerance, default_tolerance
from zmlx.testing.golden.case import GoldenCase
from zmlx.testing.golden.comparison import Worst, count_in_bins


@dataclass(frozen=True)
class Drift:
    """How far the values of a case are from another back end's.

    Attributes
    ----------
    max_ulp, rms : float
        In ULPs of the dtype.
    identical : bool
        Bit for bit, but for the payloads of NaNs.
    share : float
        The largest part of the tolerance that an element takes.
    bins : tuple of int
        See `count_in_bins`.
    worst : Worst or None
        None for an empty array.
    """

    max_ulp: float
    rms: float
    identical: bool
    share: float
    bins: tuple[int, ...]
    worst: Worst | None


def distance(actual: float, desired: float, dtype: str, floor: float = 0.0) -> float:
    """Distance of two numbers in ULPs of `dtype` taken at `desired`, or at `floor` if that is larger; 0 for equal
    numbers and two NaNs, infinite if only one is a NaN or they are infinities of which the other is none."""
    if actual == desired or (actual != actual and desired != desired):
        return 0.0
    if not is_float(dtype):
        return max(float(abs(actual - desired)), 1.0)
    if math.isinf(round_one(desired, dtype)):
        return math.inf
    apart = abs(actual - desired) / max(ulp_at(desired, dtype), ulp_at(floor, dtype))
    return math.inf if math.isnan(apart) else apart


def drift(mine: GoldenCase, theirs: GoldenCase, tolerance: Tolerance | None = None) -> Drift:
    """Measure `mine` by `theirs`, of the same dtype and shape.

    Parameters
    ----------
    mine, theirs : GoldenCase
        Two recordings of one case.
    tolerance : Tolerance, optional
        The dtype's default unless given.
    """
    dtype = COMPONENTS.get(mine.dtype, mine.dtype)
    allowed = tolerance or default_tolerance(dtype)
    actual, desired = mine.numbers(), theirs.numbers()
    floor = max(allowed.atol, allowed.rms_floor * _root_mean_square([d for d in desired if math.isfinite(d)]))
    far = [distance(a, d, dtype, floor) for a, d in zip(actual, desired, strict=True)]
    shares = [_share(a, d, ulps, allowed) for a, d, ulps in zip(actual, desired, far, strict=True)]
    worst = None
    if far:
        place = max(range(len(far)), key=far.__getitem__)
        shape = (*mine.shape, 2) if mine.dtype in COMPONENTS else mine.shape
        worst = Worst(unravel(place, shape), actual[place], desired[place])
    return Drift(
        max_ulp=max(far, default=0.0),
        rms=_root_mean_square(far),
        identical=all(_same(a, d) for a, d in zip(actual, desired, strict=True)),
        share=max(shares, default=0.0),
        bins=count_in_bins(far),
        worst=worst,
    )


def _same(a: float, b: float) -> bool:
    if a != a or b != b:
        return a != a and b != b
    return a == b and math.copysign(1.0, a) == math.copysign(1.0, b)


def _share(actual: float, desired: float, ulps: float, tolerance: Tolerance) -> float:
    if ulps == 0:
        return 0.0
    bound = tolerance.atol + tolerance.rtol * (abs(desired) if math.isfinite(desired) else 0.0)
    apart = abs(actual - desired)
    if not bound or not math.isfinite(apart) or math.isinf(ulps):
        return math.inf
    return float(apart / bound)


def _root_mean_square(values: Sequence[float]) -> float:
    if not values or math.inf in values:
        return math.inf if values else 0.0
    # hypot neither overflows nor loses what is small.
    return math.hypot(*values) / math.sqrt(len(values))


def unravel(flat: int, shape: Sequence[int]) -> tuple[int, ...]:
    """The index of the element that is number `flat` in row order."""
    index: list[int] = []
    for size in reversed(shape):
        flat, place = divmod(flat, size)
        index.append(place)
    return tuple(reversed(index))
