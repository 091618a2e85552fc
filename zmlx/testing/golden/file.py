"""Golden files: what they hold, how they are written, and everything that can be wrong with one.

One file a back end, ``golden_values/<backend>.json``::

    {
      "schema": 3,
      "backend": "cpu",
      "environment": {"date": "2026-01-31", "device": "…", "mlx": "0.32.4", …},
      "cases": {
        "transformer.swiglu/float16/small": {
          "dtype": "float16", "shape": [4, 8],
          "input_hash": "…", "source_hash": "…",
          "error": {"max_ulp": 0.5, "rms": 0.28},
          "environment": {"date": "…"},        (what differs from the file's, for a case recorded by itself)
          "oracle": "float32",                 (if it is MLX operations in float32; else float64 NumPy)
          "checksum": "sha256 of back end, name, whole environment and case",
          "values": [0.1, "nan", "-inf", -0.0, …]
        }
      }
    }

Values are flattened in row order and are the shortest decimals that round back to the same number of the
dtype (`zmlx.testing._formats.shortest`).
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx._compat import BACKENDS
from zmlx.testing._formats import FLOAT_FORMATS, INTEGER_DTYPES, is_float, round_to, shortest
from zmlx.testing.files import write_whole
from zmlx.testing.golden import checksum
from zmlx.testing.tolerance import COMPONENTS

SCHEMA = 3
#: Older schemas are read too; `python -m zmlx golden migrate` rewrites them as today's.
READABLE = (1, 2, SCHEMA)
_KEYS = ("schema", "backend", "environment", "cases")
_CASE_KEYS = {
    *("dtype", "shape", "input_hash", "source_hash", "error", "environment", "oracle", "checksum", "values"),
}
_VALUES_PER_LINE = 8
_MAX_DIMENSIONS = 32  # NumPy 1 has no more
_NON_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}

ADVICE = (
    "Restore the file from version control, or record it again on that back end: "
    "python -m zmlx golden record --backend {backend}"
)


class GoldenError(RuntimeError):
    """A golden file or directory cannot be used; the message says why and what to do."""


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

    @classmethod
    def from_array(cls, array: NDArray[Any], dtype: str, **known: Any) -> GoldenCase:
        """Encode `array`, whose numbers must be representable in `dtype`; `known` gives the other fields."""
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
        if self.dtype in COMPONENTS:
            parts = GoldenCase(COMPONENTS[self.dtype], (*self.shape, 2), self.values).array()
            # Not by 1j times the second: an infinity there would make the first NaN.
            return np.ascontiguousarray(parts).view(np.complex128)[..., 0]
        if not is_float(self.dtype):
            return np.array(self.values, dtype=np.dtype(self.dtype)).reshape(self.shape)
        numbers = [_NON_NUMBERS[v] if isinstance(v, str) else float(v) for v in self.values]
        return round_to(np.array(numbers, dtype=np.float64), self.dtype).reshape(self.shape)

    def to_json(self) -> dict[str, Any]:
        """The dict that stands in the file."""
        made: dict[str, Any] = {"dtype": self.dtype, "shape": list(self.shape)}
        if self.input_hash:
            made["input_hash"] = self.input_hash
        if self.source_hash:
            made["source_hash"] = self.source_hash
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
        environment = raw.get("environment", {})
        if not isinstance(environment, dict) or not all(isinstance(v, str) for v in environment.values()):
            raise ValueError(f"the environment must be text, got {str(environment)[:80]}")
        error = raw.get("error", {})
        if not isinstance(error, dict) or not error.keys() <= {"max_ulp", "rms"}:
            raise ValueError(f"bad error figures {error!r}")
        return cls(
            dtype=dtype,
            shape=tuple(shape),
            values=tuple(values),
            input_hash=str(raw.get("input_hash", "")),
            source_hash=str(raw.get("source_hash", "")),
            max_ulp=_read_figure(error.get("max_ulp")),
            rms=_read_figure(error.get("rms")),
            environment=environment,
            oracle=str(raw.get("oracle", "")),
        )


def _is_value(value: Any, dtype: str) -> bool:
    """Whether JSON's `value` is a number that `dtype` has, or can round to."""
    if isinstance(value, str):
        return is_float(dtype) and value in _NON_NUMBERS
    if is_float(dtype):
        fmt = FLOAT_FORMATS[dtype]
        return type(value) in (float, int) and (abs(value) <= fmt.max or abs(value) < fmt.overflow < math.inf)
    if dtype == "bool":
        return type(value) is int and value in (0, 1)
    limits = np.iinfo(dtype)
    return type(value) is int and int(limits.min) <= value <= int(limits.max)


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


@dataclass(frozen=True)
class GoldenFile:
    """What one back end computed.

    Attributes
    ----------
    backend : str
        "metal", "cuda" or "cpu".
    environment : mapping of str to str
        Where and with what: MLX, device, architecture, operating system, Python, TF32, date.
    cases : mapping of str to GoldenCase
        By case name.
    """

    backend: str
    environment: Mapping[str, str] = field(default_factory=dict)
    cases: Mapping[str, GoldenCase] = field(default_factory=dict)

    def environment_of(self, name: str) -> dict[str, str]:
        """Where and with what a case was recorded."""
        return {**self.environment, **self.cases[name].environment}

    def checksum(self, name: str) -> str:
        """sha256 over the back end and everything that is known of a case."""
        return checksum.of_case(self.backend, name, self.environment_of(name), self.cases[name].to_json())

    def dumps(self) -> str:
        """The text of the file: cases in order of their names, so that equal contents are equal bytes."""
        head = {"schema": SCHEMA, "backend": self.backend}
        lines = ["{", *(f'  "{key}": {json.dumps(value)},' for key, value in head.items())]
        environment = {key: self.environment[key] for key in sorted(self.environment)}
        lines.append('  "environment": ' + json.dumps(environment, indent=4).replace("\n}", "\n  }") + ",")
        blocks = [_case_text(name, self.cases[name], self.checksum(name)) for name in sorted(self.cases)]
        lines.append('  "cases": {' + ",".join(blocks) + "\n  }")
        lines.append("}")
        return "\n".join(lines) + "\n"


def _case_text(name: str, case: GoldenCase, proof: str) -> str:
    raw = case.to_json()
    values = raw.pop("values")
    raw["checksum"] = proof
    lines = [f"      {json.dumps(key)}: {json.dumps(value)}," for key, value in raw.items()]
    chunks = [
        ", ".join(json.dumps(v) for v in values[i : i + _VALUES_PER_LINE])
        for i in range(0, len(values), _VALUES_PER_LINE)
    ]
    body = ",\n        ".join(chunks)
    lines.append(
        f'      "values": [\n        {body}\n      ]' if len(chunks) > 1 else f'      "values": [{body}]'
    )
    return f"\n    {json.dumps(name)}: {{\n" + "\n".join(lines) + "\n    }"


def save(golden: GoldenFile, path: Path) -> None:
    """Write `golden` to `path` whole or not at all.

    A full disk or a crash leaves the old file as it was. Missing directories are made.

    Raises
    ------
    GoldenError
        If the directory cannot be made or written to.
    """
    try:
        write_whole(path, golden.dumps())
    except OSError as error:
        raise GoldenError(
            f"Cannot write {path}: {error.strerror or error}. Nothing was recorded; check that the directory "
            "is writable and the disk is not full."
        ) from error


def _number(text: str) -> float:
    value = float(text)
    if repr(value) != text:
        # 1E-5 for 1e-05: the same number, but not what was written, so the file was edited.
        raise ValueError(f"the number {text} is not written as zmlx writes it ({value!r})")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"the key {twice!r} appears twice")
    return made


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON; zmlx writes it as a string")


def _parse(text: str, path: Path, advice: str) -> dict[str, Any]:
    if not text.strip():
        raise GoldenError(f"{path} is empty. {advice}")
    try:
        raw = json.loads(
            text, parse_float=_number, parse_constant=_no_constant, object_pairs_hook=_no_duplicates
        )
    except RecursionError as error:
        raise GoldenError(f"{path} was edited: it is nested too deeply. {advice}") from error
    except json.JSONDecodeError as error:
        body = text.strip()
        cut = body.startswith("{") and (not body.endswith("}") or error.pos >= len(text.rstrip()))
        if cut:
            raise GoldenError(
                f"{path} is truncated: it ends in line {len(text.splitlines())} and is not complete. {advice}"
            ) from error
        raise GoldenError(
            f"{path} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}. {advice}"
        ) from error
    except ValueError as error:
        raise GoldenError(f"{path} was edited: {error}. {advice}") from error
    if not isinstance(raw, dict) or not all(key in raw for key in _KEYS):
        have = ", ".join(raw) if isinstance(raw, dict) else f"a {type(raw).__name__}"
        raise GoldenError(f"{path} is not a golden file: expected {', '.join(_KEYS)}, got {have}. {advice}")
    return raw


def _prove(raw: dict[str, Any], path: Path, advice: str) -> None:
    """GoldenError unless every checksum is that of the contents."""
    environment = raw["environment"]
    if raw["schema"] < SCHEMA:
        found = checksum.of_file(raw["schema"], raw["backend"], environment, raw["cases"])
        if raw.get("checksum") != found:
            raise GoldenError(
                f"{path} does not match its checksum: it says {str(raw.get('checksum'))[:12]}…, its contents give "
                f"{found[:12]}…. A value was changed by hand or in a merge. {advice}"
            )
        return
    if "checksum" in raw:
        raise GoldenError(
            f"{path} was edited: a file of schema {SCHEMA} has a checksum in each case only. {advice}"
        )
    wrong = [
        name for name, case in raw["cases"].items() if not _is_proven(raw["backend"], name, environment, case)
    ]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise GoldenError(
            f"{path}, case {wrong[0]}{more}: the case does not match its checksum. A value or where it comes from was "
            f"changed by hand or in a merge. {advice}"
        )


def _is_proven(backend: str, name: str, environment: Mapping[str, str], case: Any) -> bool:
    own = case.get("environment", {}) if isinstance(case, dict) else None
    if not isinstance(own, dict):
        return False
    return bool(case.get("checksum") == checksum.of_case(backend, name, {**environment, **own}, case))


def load(path: Path, *, backend: str | None = None) -> GoldenFile:
    """Read a golden file and check that it is whole.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    backend : str, optional
        The back end that it must be of; that in the file's name unless given.

    Raises
    ------
    GoldenError
        If it is missing or unreadable, truncated, not JSON, not a golden file, of another schema, of another
        back end, does not match its checksum, or holds a malformed case. Each has its own message.
    """
    wanted = backend or path.stem
    advice = ADVICE.format(backend=wanted)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(
            mode
        ):  # to open a pipe would wait for a writer, perhaps for ever
            raise GoldenError(f"{path} is no regular file; move it out of the way. {advice}")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise GoldenError(
            f"{path} does not exist. Record it on that back end: "
            f"python -m zmlx golden record --backend {wanted}"
        ) from error
    except UnicodeDecodeError as error:
        raise GoldenError(f"{path} is not text: {error.reason} at byte {error.start}. {advice}") from error
    except OSError as error:
        raise GoldenError(f"Cannot read {path}: {error.strerror or error}. Check its permissions.") from error
    raw = _parse(text, path, advice)
    if type(raw["schema"]) is not int or raw["schema"] not in READABLE:
        raise GoldenError(
            f"{path} has schema {raw['schema']!r}; this zmlx reads schema {READABLE[0]} to {SCHEMA}. "
            "Use the zmlx that wrote it, or record it again."
        )
    if raw["backend"] not in BACKENDS:
        raise GoldenError(
            f"{path} is of back end {raw['backend']!r}; expected one of {', '.join(BACKENDS)}. {advice}"
        )
    if raw["backend"] != wanted:
        raise GoldenError(
            f"{path} holds values of {raw['backend']!r}, expected {wanted!r}: it was renamed or copied. "
            f"{advice}"
        )
    if not isinstance(raw["cases"], dict) or not isinstance(raw["environment"], dict):
        raise GoldenError(f"{path} is not a golden file: environment and cases must be objects. {advice}")
    wrong = [f"{key!r}: {value!r}" for key, value in raw["environment"].items() if not isinstance(value, str)]
    if wrong:
        raise GoldenError(f"{path} was edited: the environment must be text, got {wrong[0][:80]}. {advice}")
    _prove(raw, path, advice)
    cases = {}
    for name, case in raw["cases"].items():
        try:
            cases[name] = GoldenCase.from_json(case)
        except ValueError as error:
            raise GoldenError(f"{path}, case {name}: {error}. {advice}") from error
    return GoldenFile(raw["backend"], raw["environment"], cases)


def migrate(path: Path) -> bool:
    """Rewrite a file of an older schema in today's, with the same cases and environment.

    Returns
    -------
    bool
        Whether it was rewritten; False if it has today's schema.

    Raises
    ------
    GoldenError
        If it cannot be used, as by `load`, or written.
    """
    name = path.stem.removeprefix("registered-")
    golden = load(path, backend=name)
    if json.loads(path.read_text(encoding="utf-8"))["schema"] == SCHEMA:
        return False
    save(golden, path)
    return True


def check_directory(directory: Path) -> None:
    """GoldenError unless `directory` is a directory that can be listed."""
    try:
        with os.scandir(directory):
            return
    except FileNotFoundError as error:
        raise GoldenError(
            f"The golden directory {directory} does not exist. "
            "Record values with `python -m zmlx golden record`, or name another directory."
        ) from error
    except NotADirectoryError as error:
        raise GoldenError(f"{directory} is not a directory; name the one that holds cpu.json.") from error
    except OSError as error:
        raise GoldenError(
            f"Cannot read the golden directory {directory}: {error.strerror or error}. Check its permissions."
        ) from error
