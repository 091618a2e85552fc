"""Floating-point formats: rounding to them, the size of their ULP, and their shortest decimal text.

NumPy has no bfloat16, so nothing here relies on a NumPy dtype of that name: values travel as float64
arrays that hold exactly representable numbers of the format. What works on single numbers needs no NumPy, so that
golden files can be read where there is none.
"""

from __future__ import annotations

import decimal
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    Float64Array: TypeAlias = NDArray[np.float64]
else:
    Float64Array = Any


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format.

    Parameters
    ----------
    name : str
        MLX's name of the dtype.
    precision : int
        Bits of the significand, the hidden one included.
    min_exponent, max_exponent : int
        Exponents of the smallest and the largest normal number, as in ``1.xxx * 2**exponent``.
    """

    name: str
    precision: int
    min_exponent: int
    max_exponent: int

    @property
    def eps(self) -> float:
        """Distance from 1 to the next larger number."""
        return math.ldexp(1.0, 1 - self.precision)

    @property
    def max(self) -> float:
        """Largest finite number."""
        return math.ldexp(2.0 - self.eps, self.max_exponent)

    @property
    def overflow(self) -> float:
        """First power of two past the largest finite number (infinite for float64)."""
        return math.ldexp(1.0, self.max_exponent + 1) if self.max_exponent < 1023 else math.inf

    @property
    def rounds_to_infinity(self) -> float:
        """The least number that becomes infinite when it is rounded to this format (infinite for float64)."""
        # Half a step past the largest, which is odd: the tie goes up.
        return self.overflow - math.ldexp(1.0, self.max_exponent - self.precision)

    @property
    def smallest_normal(self) -> float:
        """Smallest positive number with a full significand."""
        return math.ldexp(1.0, self.min_exponent)


FLOAT_FORMATS: dict[str, FloatFormat] = {
    f.name: f
    for f in (
        FloatFormat("float64", 53, -1022, 1023),
        FloatFormat("float32", 24, -126, 127),
        FloatFormat("float16", 11, -14, 15),
        FloatFormat("bfloat16", 8, -126, 127),
    )
}

#: The dtype of the parts of complex numbers.
COMPONENTS = {"complex64": "float32", "complex128": "float64"}

INTEGER_DTYPES = frozenset({"bool"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)})


def is_float(dtype: str) -> bool:
    """Whether `dtype` names a floating-point format.

    Raises
    ------
    ValueError
        If `dtype` is neither a float format nor an integer or bool dtype.
    """
    if dtype in FLOAT_FORMATS:
        return True
    if dtype in INTEGER_DTYPES:
        return False
    known = ", ".join([*FLOAT_FORMATS, *sorted(INTEGER_DTYPES)])
    raise ValueError(f"No error measure for dtype {dtype!r}. Known: {known}.")


def float_format(dtype: str) -> FloatFormat:
    """The format of a floating-point dtype; ValueError for any other."""
    if not is_float(dtype):
        raise ValueError(f"{dtype!r} is not a floating-point dtype. Known: {', '.join(FLOAT_FORMATS)}.")
    return FLOAT_FORMATS[dtype]


def ulp_at(value: float, dtype: str) -> float:
    """Size of one unit in the last place of `dtype` at one number; `ulp` without NumPy."""
    fmt = float_format(dtype)
    exponent = math.frexp(value)[1] - 1 if math.isfinite(value) and value != 0 else fmt.min_exponent
    return math.ldexp(1.0, min(max(exponent, fmt.min_exponent), fmt.max_exponent) - (fmt.precision - 1))


def round_one(value: float, dtype: str) -> float:
    """One number rounded to `dtype`, ties to even; `round_to` without NumPy."""
    fmt = float_format(dtype)
    if fmt.name == "float64" or not math.isfinite(value) or value == 0:
        return value
    place = ulp_at(value, dtype)
    # Exact (a power of two), so round() makes the only rounding, to even.
    rounded = round(value / place) * place
    return math.copysign(rounded if abs(rounded) <= fmt.max else math.inf, value)


def ulp(values: Any, dtype: str) -> Float64Array:
    """Size of one unit in the last place of `dtype` at each value, in float64.

    It is the spacing of the representable numbers in the binade that holds the value, never less than
    the spacing of the subnormals and never more than that of the largest binade; of inf and NaN, that of subnormals.
    """
    import numpy as np

    fmt = float_format(dtype)
    exact = np.asarray(values, dtype=np.float64)
    # What the exponent's bits alone are: the power of two below, 0 of float64's subnormals, inf of inf and NaN.
    power = np.asarray(exact.view(np.int64) & _EXPONENT_BITS).view(np.float64)
    if not np.isfinite(np.max(power, initial=0.0)):
        power = np.where(np.isinf(power), 0.0, power)
    least, most = fmt.smallest_normal, math.ldexp(1.0, fmt.max_exponent)
    return np.asarray(np.minimum(np.maximum(power, least), most) * fmt.eps)


#: Of float64.
_EXPONENT_BITS = 0x7FF << 52

#: What NumPy has too, and converts float64 to in one rounding, to nearest even.
_OF_NUMPY = ("float32", "float16")


def round_to(values: Any, dtype: str) -> Float64Array:
    """Round float64 values to the nearest number of `dtype`, ties to even; the result stays float64.

    The rounding is a single step, so a bfloat16 is not rounded twice by way of float32. Numbers past the
    largest finite one become infinite as IEEE 754 has it; NaN, infinities and the sign of zero are kept.

    Parameters
    ----------
    values : array_like
        Any shape, converted to float64.
    dtype : str
        "float32", "float16", "bfloat16" or "float64".
    """
    import numpy as np

    exact = np.asarray(values, dtype=np.float64)
    fmt = float_format(dtype)
    if fmt.name == "float64":
        return exact.copy()
    if fmt.name in _OF_NUMPY:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(exact.astype(fmt.name).astype(np.float64))
    size = np.abs(exact)
    if np.all(((size >= 2.0**fmt.min_exponent) | (size == 0)) & (size <= fmt.max)):
        # All are normal: adding to what is cut off carries into what stays, or not, and what was cut off is cleared.
        cut = 53 - fmt.precision
        bits = exact.view(np.int64)
        bits = bits + ((1 << (cut - 1)) - 1) + ((bits >> cut) & 1)
        rounded = (bits & -(1 << cut)).view(np.float64)
    else:
        place = ulp(exact, dtype)
        # The quotient is exact (a power of two), so rint makes the only rounding, to nearest even.
        with np.errstate(invalid="ignore"):
            rounded = np.rint(exact / place) * place
    return np.asarray(np.where(np.abs(rounded) > fmt.max, np.copysign(np.inf, rounded), rounded))


def _shortest_text(value: float, dtype: str) -> str:
    import numpy as np

    if dtype == "float64":
        return repr(value)
    if dtype == "float32":
        return str(np.format_float_scientific(np.float32(value), unique=True))
    if dtype == "float16":
        return str(np.format_float_scientific(np.float16(value), unique=True))
    # NumPy has no printer for the rest. Both neighbours are tried at each length, since at a power of two
    # the nearest decimal may lie in the narrower half of the rounding interval and fall out of it.
    exact = decimal.Decimal(value)
    for digits in range(1, 18):
        texts = [
            str(decimal.Context(prec=digits, rounding=mode).plus(exact))
            for mode in (decimal.ROUND_FLOOR, decimal.ROUND_CEILING)
        ]
        fitting = [t for t in texts if float(round_to(float(t), dtype)) == value]
        if fitting:
            return min(fitting, key=lambda text: abs(decimal.Decimal(text) - exact))
    raise ValueError(f"{value!r} is not a {dtype} number.")


def shortest(value: float, dtype: str) -> float:
    """The float64 whose ``repr`` is the shortest decimal text that `dtype` reads back as `value`.

    ``json.dumps`` prints a float by its ``repr``, so storing this number instead of `value` itself keeps
    ``0.1`` as ``0.1`` in a float32 file rather than as ``0.10000000149011612``. Reading it needs
    `round_to`. NaN, infinities and zeros come back unchanged.

    Raises
    ------
    ValueError
        If `value` is not representable in `dtype`.
    """
    if not math.isfinite(value) or value == 0.0:
        return value
    if float(round_to(value, dtype)) != value:
        raise ValueError(f"{value!r} is not a {dtype} number; round it with round_to first.")
    return float(_shortest_text(value, dtype))
