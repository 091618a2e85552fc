"""How far a result is from the truth, and how far it may be.

Inputs are rounded to the dtype first and the oracle runs in float64 on those, so the whole distance between
a result and the oracle is the fault of the computation. It is counted in ULPs of the output dtype (one unit
in the last place, taken at the oracle's value), and ``|actual - desired| <= atol + rtol * |desired|`` judges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx.testing._formats import (
    FLOAT_FORMATS,
    INTEGER_DTYPES,
    Float64Array,
    FloatFormat,
    float_format,
    is_float,
    round_to,
    ulp,
    ulp_at,
)
from zmlx.testing._limits import (
    COMPONENTS,
    DEFAULT_TOLERANCES,
    Tolerance,
    coarser_dtype,
    default_tolerance,
    judged_by,
    root_mean_square,
    widened_for,
)
from zmlx.testing._values import as_float64, dtype_name, is_complex, is_number

__all__ = [
    "COMPONENTS",
    "DEFAULT_TOLERANCES",
    "FLOAT_FORMATS",
    "INTEGER_DTYPES",
    "Agreement",
    "ErrorStats",
    "FloatFormat",
    "Tolerance",
    "as_float64",
    "coarser_dtype",
    "compare",
    "default_tolerance",
    "dtype_name",
    "error_stats",
    "float_format",
    "is_complex",
    "is_float",
    "judged_by",
    "root_mean_square",
    "round_to",
    "ulp",
    "ulp_distance",
    "widened_for",
]


@dataclass(frozen=True)
class _Distances:
    """How far each element is from the truth.

    Attributes
    ----------
    absolute : numpy.ndarray of float64
        Differences: 0 where both are the same non-number, infinite where only one is.
    spacing : numpy.ndarray of float64, or None
        One ULP at each truth; None for integers, whose distance is the difference.
    dtype : str
        In whose ULPs to count.
    """

    absolute: Float64Array
    spacing: Float64Array | None
    dtype: str

    def in_ulps(self, floor: float) -> Float64Array:
        """The differences in ULPs, of which none is smaller than at ``floor``."""
        if self.spacing is None:
            return self.absolute
        with np.errstate(over="ignore"):
            return np.asarray(self.absolute / np.maximum(self.spacing, ulp_at(floor, self.dtype)))


def _distances(actual: Any, desired: Any, dtype: str) -> _Distances:
    """Measure `actual` against `desired`; of floats, both are float64 arrays.

    An oracle past the end of the dtype is the infinity that it rounds to: one of 70000 is infinite in float16, a result
    must be infinite too, and 65504 is as wrong as a number can be. Nor is an infinite result close to a finite oracle,
    however large that is.
    """
    if not is_float(dtype):
        return _Distances(_integer_distance(actual, desired), None, dtype)
    limit, size = float_format(dtype).rounds_to_infinity, np.abs(desired)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(actual - desired)
        # False too where one is NaN: what has a place among numbers needs none of the cases below.
        if np.max(size, initial=0.0) < limit and np.max(difference, initial=0.0) < np.inf:
            return _Distances(difference, ulp(size, dtype), dtype)
        truth = np.where(size >= limit, np.copysign(np.inf, desired), desired)
        difference = np.abs(actual - truth)
    difference = np.where((actual == truth) | (np.isnan(actual) & np.isnan(truth)), 0.0, difference)
    return _Distances(np.where(np.isnan(difference), np.inf, difference), ulp(truth, dtype), dtype)


def ulp_distance(actual: Any, desired: Any, dtype: str, *, floor: float = 0.0) -> Float64Array:
    """Elementwise distance in ULPs of `dtype`, taken at `desired`.

    Parameters
    ----------
    actual, desired : array_like
        Of one shape (or broadcastable). `desired` may have more precision than `dtype`: the distance of a
        correctly rounded result from a float64 oracle is at most 0.5.
    dtype : str
        The output dtype. For integer dtypes the distance is the difference.
    floor : float
        The ULP is never taken smaller than at this magnitude, so that cancellation to nearly zero does not
        count as millions.

    Returns
    -------
    numpy.ndarray of float64
        0 where both are NaN or the same infinity; infinite where only one is, or where the signs of
        infinities differ.
    """
    if is_float(dtype):
        actual, desired = as_float64(actual), as_float64(desired)
    return _distances(actual, desired, dtype).in_ulps(floor)


def _integer_distance(actual: Any, desired: Any) -> Float64Array:
    a, d = np.asarray(actual), np.asarray(desired)
    # Equality is exact; float64 only sizes a difference that is there, which rounding must not erase.
    size = np.abs(as_float64(a) - as_float64(d))
    return np.asarray(np.where(a == d, 0.0, np.maximum(size, 1.0)))


@dataclass(frozen=True)
class ErrorStats:
    """The error of one array against its oracle.

    Attributes
    ----------
    max_ulp, rms : float
        Largest and root-mean-square distance, both in ULPs of the output dtype. Infinite when a NaN or an
        infinity is where it should not be, or is not where it should be.
    max_abs : float
        Largest absolute difference.
    worst_index : tuple of int, or None
        Where `max_ulp` is; None for an empty array.
    worst_actual, worst_desired : float
        The two values there (NaN for an empty array).
    count : int
        Number of elements compared.
    typical : tuple of float
        `max_ulp` and `rms` again, in ULPs taken at the root mean square of the oracle or more: what tables show. An
        element that cancels to nearly zero does not count thousands of its own tiny ULPs there.
    """

    max_ulp: float
    rms: float
    max_abs: float
    worst_index: tuple[int, ...] | None
    worst_actual: float
    worst_desired: float
    count: int
    typical: tuple[float, float] = (0.0, 0.0)


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat, shape))


def error_stats(actual: Any, oracle: Any, dtype: str, *, floor: float | None = None) -> ErrorStats:
    """Measure `actual` against `oracle`.

    Parameters
    ----------
    actual : array_like
        The result.
    oracle : array_like
        The float64 truth, of the same shape.
    dtype : str
        The dtype of the result, in whose ULPs the error is counted.
    floor : float, optional
        See `ulp_distance`; the `atol` of the dtype's default tolerance unless given.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    a, d = as_float64(actual), as_float64(oracle)
    if a.shape != d.shape:
        raise ValueError(f"Shapes differ: the result has {a.shape}, the oracle {d.shape}.")
    if floor is None:
        floor = default_tolerance(dtype).atol
    if is_float(dtype):
        actual, oracle = a, d
    return _stats(_distances(actual, oracle, dtype), a, d, floor)


def _mean_distance(distance: Float64Array) -> float:
    """The root mean square, infinite where a distance is."""
    with np.errstate(over="ignore"):
        return math.sqrt(float(np.mean(np.square(distance))))


def _stats(distances: _Distances, a: Float64Array, d: Float64Array, floor: float) -> ErrorStats:
    """`error_stats` of what is measured already."""
    if a.size == 0:
        return ErrorStats(0.0, 0.0, 0.0, None, math.nan, math.nan, 0)
    dtype, distance = distances.dtype, distances.in_ulps(floor)
    worst = int(np.argmax(distance))
    rms = _mean_distance(distance)
    typical = (float(distance.flat[worst]), rms)
    at_rms = max(default_tolerance(dtype).atol, root_mean_square(d)) if is_float(dtype) else 0.0
    if at_rms > floor:
        far = distances.in_ulps(at_rms)
        typical = (float(np.max(far)), _mean_distance(far))
    return ErrorStats(
        max_ulp=float(distance.flat[worst]),
        rms=rms,
        max_abs=float(np.max(distances.absolute)),
        worst_index=_index(worst, d.shape),
        worst_actual=float(a.flat[worst]),
        worst_desired=float(d.flat[worst]),
        count=int(d.size),
        typical=typical,
    )


@dataclass(frozen=True)
class Agreement:
    """The verdict of `compare`.

    Attributes
    ----------
    ok : bool
        Whether every element is inside the tolerance.
    stats : ErrorStats or None
        The error; None when the shapes differ, and nothing could be measured.
    message : str
        Empty when `ok`; otherwise the worst element, both values, their ULP distance, how many elements
        are outside, and the tolerance that was applied.
    """

    ok: bool
    stats: ErrorStats | None
    message: str = ""

    def __bool__(self) -> bool:
        return self.ok


def _texts(got: Any, wanted: Any) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to tell them apart, and no fewer than nine."""
    pair = (got, wanted)
    if all(np.asarray(v).dtype.kind in "iub" for v in pair):
        return str(got), str(wanted)
    texts = [(f"{got:.{digits}g}", f"{wanted:.{digits}g}") for digits in (9, 12, 15, 17)]
    return next((pair for pair in texts if pair[0] != pair[1]), texts[-1])


def _compare_complex(
    actual: Any, desired: Any, dtype: str | None, tolerance: Tolerance | None, name: str
) -> Agreement:
    """Real parts and imaginary parts, each by the dtype of the parts; the first that disagree is the verdict."""
    known = dtype or dtype_name(actual) or "complex128"
    parts = COMPONENTS.get(known, known)
    got, wanted = np.asarray(actual), np.asarray(desired)
    verdicts = [
        compare(getattr(got, part), getattr(wanted, part), parts, tolerance, name=f"{name}, {part} part")
        for part in ("real", "imag")
        if is_number(desired) or got.shape == wanted.shape
    ]
    if not verdicts:
        return Agreement(False, None, f"{name}: expected shape {wanted.shape}, got {got.shape}.")
    worst = max(verdicts, key=lambda v: (not v.ok, v.stats.max_ulp if v.stats is not None else math.inf))
    return Agreement(worst.ok, worst.stats, "\n".join(v.message for v in verdicts if not v.ok))


def compare(
    actual: Any,
    desired: Any,
    dtype: str | None = None,
    tolerance: Tolerance | None = None,
    *,
    name: str = "result",
) -> Agreement:
    """Judge `actual` against `desired`.

    Parameters
    ----------
    actual, desired : array_like
        MLX or NumPy arrays, lists or scalars; bfloat16 included. The shapes must be the same, except that
        a number `desired`, of Python or NumPy, stands for every element. Complex values are judged by their real
        and imaginary parts.
    dtype : str, optional
        The dtype to count ULPs in; that of `actual` unless given, and float64 if it has none.
    tolerance : Tolerance, optional
        The dtype's default unless given.
    name : str
        What the message calls the result.
    """
    if is_complex(actual) or is_complex(desired):
        return _compare_complex(actual, desired, dtype, tolerance, name)
    dtype = dtype or dtype_name(actual) or "float64"
    tolerance = tolerance or default_tolerance(dtype)
    got, wanted = as_float64(actual), as_float64(desired)
    if got.shape != wanted.shape:
        if not is_number(desired):
            return Agreement(False, None, f"{name}: expected shape {wanted.shape}, got {got.shape}.")
        desired = np.full(got.shape, desired)
        wanted = as_float64(desired)
    exact = (np.asarray(actual), np.asarray(desired)) if not is_float(dtype) else (got, wanted)
    if is_float(dtype):
        actual, desired = got, wanted  # convert once: MLX arrays would be copied out in every step below
    floor = tolerance.ulp_floor(wanted)
    distances = _distances(actual, desired, dtype)
    stats = _stats(distances, got, wanted, floor)
    if stats.count == 0:
        return Agreement(True, stats)

    difference = distances.absolute
    finite = np.where(np.isfinite(wanted), np.abs(wanted), 0.0)
    allowed = tolerance.atol + tolerance.rtol * finite
    outside: NDArray[np.bool_] = difference > allowed
    if tolerance.max_ulp is not None:
        outside = outside | (distances.in_ulps(floor) > tolerance.max_ulp)
    bad = int(np.count_nonzero(outside))
    rms_exceeded = tolerance.max_rms is not None and stats.rms > tolerance.max_rms
    if not bad and not rms_exceeded:
        return Agreement(True, stats)

    distance = distances.in_ulps(floor)
    unit = "ULP of " + dtype if is_float(dtype) else "(integers)"
    if bad:
        share = f"{100 * bad / stats.count:.1f} %"
        headline = f"{name}: {bad} of {stats.count} elements ({share}) are outside the tolerance"
        # The farthest outside, as a multiple of what is allowed: with an absolute floor that need not be the
        # largest ULP distance.
        with np.errstate(over="ignore"):  # an infinite difference, or one of so much more than nothing
            excess = np.where(outside, difference / np.maximum(allowed, np.finfo(np.float64).tiny), -1.0)
        worst = int(np.argmax(excess))
    else:
        headline = f"{name}: the RMS error is over its bound"
        worst = int(np.argmax(distance))
    index = list(_index(worst, got.shape))
    texts = _texts(exact[0].flat[worst], exact[1].flat[worst])
    return Agreement(
        False,
        stats,
        f"{headline}\n"
        f"  worst element {index}: got {texts[0]}, expected {texts[1]}, "
        f"{distance.flat[worst]:.4g} {unit} apart (|difference| {difference.flat[worst]:.4g})\n"
        f"  tolerance: {tolerance}\n"
        f"  all elements: max {stats.max_ulp:.4g} ULP, RMS {stats.rms:.4g} ULP, "
        f"max |difference| {stats.max_abs:.4g}",
    )
