"""How far a result may be from the truth: tolerances, and by which of them two results are judged."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from zmlx.testing._formats import COMPONENTS, FLOAT_FORMATS, INTEGER_DTYPES, Float64Array, is_float

__all__ = [
    "COMPONENTS",
    "DEFAULT_TOLERANCES",
    "Tolerance",
    "coarser_dtype",
    "default_tolerance",
    "judged_by",
    "root_mean_square",
    "widened_for",
]


def root_mean_square(values: Float64Array) -> float:
    """Of what is finite; 0 where nothing is."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.sum(np.square(values)))
        if not math.isfinite(total):
            values = values[np.isfinite(values)]
            total = float(np.sum(np.square(values)))
    return math.sqrt(total / values.size) if values.size else 0.0


@dataclass(frozen=True)
class Tolerance:
    """What counts as equal.

    Parameters
    ----------
    rtol, atol : float
        ``|actual - desired| <= atol + rtol * |desired|`` must hold for every element.
    max_ulp : float, optional
        If given, no element may be farther off than this many ULPs either (see `ulp_distance`; `atol` is
        the floor there).
    reason : str
        Why this is looser than the dtype's default. `OpInfo` insists on one.
    max_rms : float, optional
        If given, the bound on the root mean square of the distances in ULPs.
    rms_floor : float
        ULPs are taken at no less than this multiple of the root mean square of `desired`. 1 suits sums and
        normalisations, whose error comes from terms as large as the typical result: an element that happens
        to cancel to nearly zero would count hundreds of its own tiny ULPs.

    Raises
    ------
    ValueError
        If a bound is negative or NaN, or rtol or atol infinite: nothing would fail.
    """

    rtol: float
    atol: float
    max_ulp: float | None = None
    reason: str = ""
    max_rms: float | None = None
    rms_floor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rtol", "atol", "max_ulp", "max_rms", "rms_floor"):
            bound = getattr(self, name)
            if bound is not None and not bound >= 0:
                raise ValueError(f"Tolerance.{name} must be zero or more, got {bound!r}.")
        for name, bound in (("rtol", self.rtol), ("atol", self.atol)):
            if bound == math.inf:
                raise ValueError(
                    f"Tolerance.{name} must be finite, got {bound!r}: nothing would be outside of it."
                )

    def looser_than(self, other: Tolerance) -> bool:
        """Whether this admits an elementwise error that `other` does not."""
        return self.rtol > other.rtol or self.atol > other.atol

    def ulp_floor(self, desired: Float64Array) -> float:
        """The magnitude at which, at least, ULPs are taken when comparing with `desired`."""
        return max(self.atol, self.rms_floor * root_mean_square(desired)) if self.rms_floor else self.atol

    def __str__(self) -> str:
        text = f"rtol {self.rtol:g}, atol {self.atol:g}"
        if self.max_ulp is not None:
            text += f", at most {self.max_ulp:g} ULP"
        if self.max_rms is not None:
            text += f", RMS at most {self.max_rms:g} ULP"
        return text


DEFAULT_TOLERANCES: dict[str, Tolerance] = {
    "float64": Tolerance(rtol=1e-7, atol=1e-7),
    "float32": Tolerance(rtol=1.3e-6, atol=1e-5),
    "float16": Tolerance(rtol=1e-3, atol=1e-5),
    "bfloat16": Tolerance(rtol=1.6e-2, atol=1e-5),
}
"""The defaults of torch.testing.assert_close, which MLX users know; integers must be equal."""


def default_tolerance(dtype: str) -> Tolerance:
    """The default for `dtype`: the table for floats, exact for integers and bool."""
    return DEFAULT_TOLERANCES[dtype] if is_float(dtype) else Tolerance(rtol=0.0, atol=0.0)


def coarser_dtype(first: str | None, second: str | None) -> str:
    """The dtype in whose ULPs to compare two arrays: the float format with fewer bits, a float before an
    integer, and float64 where neither side has a dtype."""
    floats = [FLOAT_FORMATS[name] for name in (first, second) if name in FLOAT_FORMATS]
    if floats:
        return min(floats, key=lambda fmt: fmt.precision).name
    # An integer array against a list without a dtype: the list may hold fractions.
    return first if first is not None and second is not None else "float64"


def widened_for(dtype: str, asked: Tolerance) -> Tolerance:
    """`asked`, with an `rtol` below the spacing of `dtype` raised to the dtype's default.

    No result can be asked to be nearer than the dtype's numbers are to each other. Zero stays zero: it asks
    for equality.
    """
    if not is_float(dtype) or not 0 < asked.rtol < FLOAT_FORMATS[dtype].eps:
        return asked
    return replace(asked, rtol=DEFAULT_TOLERANCES[dtype].rtol)


def _integral(value: Any) -> bool:
    """Whether an array, list or number holds whole numbers only, whatever its dtype."""
    import numpy as np

    from zmlx.testing._values import as_float64

    array = as_float64(value)
    return bool(np.all(array == np.trunc(array)))


def judged_by(
    actual: Any, desired: Any, dtype: str | None, rtol: float | None, atol: float | None
) -> tuple[str, Tolerance]:
    """The dtype and the tolerance by which a test compares two results.

    Whole numbers are compared exactly unless a tolerance is given: integers and bools with each other or with a list
    or float array of whole numbers. Everything else has 1e-4 for what is not given.
    """
    import numpy as np

    from zmlx.testing._values import dtype_name, is_complex, is_number

    # A NumPy number stands for a value, not for a precision: it does not make an array coarser.
    wanted = None if is_number(desired) and not is_number(actual) else dtype_name(desired)
    have = dtype_name(actual)
    if have in COMPONENTS or wanted in COMPONENTS or is_complex(actual) or is_complex(desired):
        names = [COMPONENTS.get(name, name) if name else None for name in (have, wanted)]
        return dtype or coarser_dtype(*names), _filled(1e-4, rtol, atol)
    kind = dtype or coarser_dtype(have, wanted)
    whole = have in INTEGER_DTYPES or (have is None and np.asarray(actual).dtype.kind in "iub")
    if dtype is None and whole and np.asarray(actual).size and _integral(desired):
        integers = wanted in INTEGER_DTYPES or (wanted is None and np.asarray(desired).dtype.kind in "iub")
        return (have or "int64") if integers else kind, _filled(0.0, rtol, atol)
    return kind, _filled(1e-4 if is_float(kind) else 0.0, rtol, atol)


def _filled(default: float, rtol: float | None, atol: float | None) -> Tolerance:
    return Tolerance(default if rtol is None else rtol, default if atol is None else atol)
