"""One recorded array, and its form in JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zmlx.testing._formats import (
    COMPONENTS,
    FLOAT_FORMATS,
    INTEGER_DTYPES,
    is_float,
    round_one,
    round_to,
    shortest,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The source hash of cases that are MLX's own operations.
STOCK_SOURCE = "mlx"

_CASE_KEYS = {
    *("dtype", "shape", "input_hash", "source_hash", "other_sources", "error", "environment", "oracle"),
    *("checksum", "values"),
}
_MAX_DIMENSIONS = 32  # NumPy 1 has no more
_NON_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True)
class GoldenCase:
    """One recorded array.

    Attributes
    ----------
    dtype : str
        MLX's name of the dtype.
    shape : tuple of int
        The array's shape.
    values : tuple
        Flattened, as they stand in the file: numbers, or "nan", "inf", "-inf".
    input_hash, source_hash : str
        What produced them; empty where nothing is known (values that tests registered).
    max_ulp, rms : float or None
        The error against the oracle when it was recorded.
    environment : mapping of str to str
        What differs from the file's environment, for a case that was recorded by itself.
    oracle : str
        "float32" if the oracle is MLX operations in float32; empty for float64.
    other_sources : mapping of str to str
        By back end, the `source_hash` that a record of the same day has there, where it is another one.
    """

    dtype: str
    shape: tuple[int, ...]
    values: tuple[float | int | str, ...]
    input_hash: str = ""
    source_hash: str = ""
    max_ulp: float | None = None
    rms: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    oracle: str = ""
    other_sources: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_array(cls, array: NDArray[Any], dtype: str, **known: Any) -> GoldenCase:
        """Encode `array`, whose numbers must be representable in `dtype`; `known` gives the other fields."""
        import numpy as np

        part = COMPONENTS.get(dtype)
        if part is not None:
            flat = np.asarray(array).ravel()
            pairs = np.stack([flat.real, flat.imag], axis=-1).astype(np.float64)
            values = tuple(_encode(float(v), part) for v in pairs.ravel())
            return cls(dtype, tuple(int(n) for n in np.shape(array)), values, **known)
        encode = (lambda v: _encode(float(v), dtype)) if is_float(dtype) else int
        values = tuple(encode(v) for v in np.asarray(array).ravel())
        return cls(dtype, tuple(int(n) for n in np.shape(array)), values, **known)

    def array(self) -> NDArray[Any]:
        """The values in their shape: float64 for float dtypes, complex128 for complex ones, else the dtype itself."""
        import numpy as np

        if self.dtype in COMPONENTS:
            parts = GoldenCase(COMPONENTS[self.dtype], (*self.shape, 2), self.values).array()
            # Not by 1j times the second: an infinity there would make the first NaN.
            return np.ascontiguousarray(parts).view(np.complex128)[..., 0]
        if not is_float(self.dtype):
            return np.array(self.values, dtype=np.dtype(self.dtype)).reshape(self.shape)
        numbers = [_NON_NUMBERS[v] if isinstance(v, str) else float(v) for v in self.values]
        return round_to(np.array(numbers, dtype=np.float64), self.dtype).reshape(self.shape)

    def numbers(self) -> tuple[float | int, ...]:
        """The values, decoded and flattened, as Python's own numbers; complex ones as real and imaginary part in turn.

        Needs no NumPy.
        """
        dtype = COMPONENTS.get(self.dtype, self.dtype)
        if not is_float(dtype):
            return tuple(int(value) for value in self.values)
        return tuple(
            _NON_NUMBERS[value] if isinstance(value, str) else round_one(float(value), dtype)
            for value in self.values
        )

    def to_json(self) -> dict[str, Any]:
        """The dict that stands in the file."""
        made: dict[str, Any] = {"dtype": self.dtype, "shape": list(self.shape)}
        if self.input_hash:
            made["input_hash"] = self.input_hash
        if self.source_hash:
            made["source_hash"] = self.source_hash
        if self.other_sources:
            made["other_sources"] = {key: self.other_sources[key] for key in sorted(self.other_sources)}
        if self.max_ulp is not None and self.rms is not None:
            made["error"] = {"max_ulp": _figure(self.max_ulp), "rms": _figure(self.rms)}
        if self.environment:
            made["environment"] = {key: self.environment[key] for key in sorted(self.environment)}
        if self.oracle:
            made["oracle"] = self.oracle
        made["values"] = list(self.values)
        return made

    @classmethod
    def from_json(cls, raw: Any) -> GoldenCase:
        """Read a case back.

        Raises
        ------
        ValueError
            If it is not what `to_json` makes.
        """
        if not isinstance(raw, dict) or not {"dtype", "shape", "values"} <= raw.keys() <= _CASE_KEYS:
            raise ValueError(f"expected an object with dtype, shape and values (of {sorted(_CASE_KEYS)})")
        dtype, shape, values = raw["dtype"], raw["shape"], raw["values"]
        if not isinstance(dtype, str) or dtype not in {*FLOAT_FORMATS, *INTEGER_DTYPES, *COMPONENTS}:
            raise ValueError(f"unknown dtype {dtype!r}")
        if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
            raise ValueError(f"bad shape {shape!r}")
        if len(shape) > _MAX_DIMENSIONS:
            raise ValueError(f"bad shape: {len(shape)} dimensions, at most {_MAX_DIMENSIONS} are known")
        count = math.prod(shape) * (2 if dtype in COMPONENTS else 1)
        if not isinstance(values, list) or len(values) != count:
            raise ValueError(f"shape {shape} needs {count} values")
        for value in values:
            if not _is_value(value, COMPONENTS.get(dtype, dtype)):
                raise ValueError(f"{value!r} is not a {dtype} value")
        for key in ("input_hash", "source_hash", "oracle"):
            if not isinstance(raw.get(key, ""), str):
                raise ValueError(f"{key} must be text, got {raw[key]!r}")
        sources = _texts(raw.get("other_sources", {}), "other_sources must be text by back end")
        environment = _texts(raw.get("environment", {}), "the environment must be text")
        error = raw.get("error", {})
        if not isinstance(error, dict) or not error.keys() <= {"max_ulp", "rms"}:
            raise ValueError(f"bad error figures {error!r}")
        return cls(
            dtype=dtype,
            shape=tuple(shape),
            values=tuple(values),
            input_hash=str(raw.get("input_hash", "")),
            source_hash=str(raw.get("source_hash", "")),
            other_sources=sources,
            max_ulp=_read_figure(error.get("max_ulp")),
            rms=_read_figure(error.get("rms")),
            environment=environment,
            oracle=str(raw.get("oracle", "")),
        )


def _texts(found: Any, wanted: str) -> dict[str, str]:
    """`found`, which has to be a dict of texts."""
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError(f"{wanted}, got {str(found)[:80]}")
    return found


def _is_value(value: Any, dtype: str) -> bool:
    """Whether JSON's `value` is a number that `dtype` has, or can round to."""
    if isinstance(value, str):
        return is_float(dtype) and value in _NON_NUMBERS
    if is_float(dtype):
        fmt = FLOAT_FORMATS[dtype]
        return type(value) in (float, int) and (abs(value) <= fmt.max or abs(value) < fmt.overflow < math.inf)
    if dtype == "bool":
        return type(value) is int and value in (0, 1)
    bits = int(dtype.lstrip("uint"))
    low, high = (0, 2**bits) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return type(value) is int and low <= value < high


def _encode(value: float, dtype: str) -> float | str:
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return shortest(value, dtype)


def _figure(value: float) -> float | str:
    """An error figure to four digits; more would be noise in a diff."""
    return float(f"{value:.4g}") if math.isfinite(value) else _encode(value, "float64")


def _read_figure(value: Any) -> float | None:
    if value is None or type(value) is float or (type(value) is int and abs(value) < 2**53):
        return None if value is None else float(value)
    if isinstance(value, str) and value in _NON_NUMBERS:
        return _NON_NUMBERS[value]
    raise ValueError(f"bad error figure {value!r}")
