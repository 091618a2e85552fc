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
          "other_sources": {"cuda": "…"},      (of back ends that launch other kernels)
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
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zmlx._compat import BACKENDS
from zmlx.testing.files import write_whole
from zmlx.testing.golden import checksum
from zmlx.testing.golden.case import GoldenCase

SCHEMA = 3
#: Older schemas are read too; `python -m zmlx golden migrate` rewrites them as today's.
READABLE = (1, 2, SCHEMA)
_KEYS = ("schema", "backend", "environment", "cases")
_VALUES_PER_LINE = 8

ADVICE = (
    "Restore the file from version control, or record it again on that back end: "
    "python -m zmlx golden record --backend {backend}"
)


class GoldenError(RuntimeError):
    """A golden file or directory cannot be used; the message says why and what to do."""


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
    except IsADirectoryError as error:
        raise GoldenError(f"{path} is a folder; move it out of the way. {advice}") from error
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
