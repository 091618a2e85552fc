"""``[tool.zmlx]`` of a project's pyproject.toml, read and checked without importing anything of the project.

==================  ==================================================================================
``ops``             "package.module:NAME" of a tuple of OpInfo, or a list of such
``golden-dir``      where golden files are, from the project's folder (default: golden_values)
``pending-until``   a date: golden cases that no one with their hardware has recorded are pending till then
``zmlx-from``       where sessions install zmlx from: a folder, or a git URL (default: where it came from)
``tolerances``      tables by operation pattern and dtype: defaults for entries that say nothing themselves
==================  ==================================================================================
"""

from __future__ import annotations

import datetime
import difflib
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

GOLDEN_DIR = "golden_values"
TOLERANCE_KEYS = ("rtol", "atol", "max-ulp", "max-rms", "rms-floor", "reason")
DTYPES = ("float32", "float16", "bfloat16")

#: "package.module:NAME".
TABLE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")

Tolerances = Mapping[str, Mapping[str, Mapping[str, Any]]]


class SettingsError(ValueError):
    """pyproject.toml or its ``[tool.zmlx]`` cannot be used; the message names the file, the key and what to write."""


@dataclass(frozen=True)
class Settings:
    """What ``[tool.zmlx]`` says.

    Attributes
    ----------
    file : pathlib.Path
        The pyproject.toml.
    ops : tuple of str
        "package.module:NAME", one for each table; empty if the key is missing.
    golden_dir : pathlib.Path
        Absolute.
    pending_until : datetime.date or None
        None: pending cases never become failures.
    zmlx_from : str
        A folder (absolute) or a URL; empty if the key is missing.
    tolerances : mapping
        Operation pattern to dtype to the keys of ``TOLERANCE_KEYS``.
    """

    file: Path
    ops: tuple[str, ...] = ()
    golden_dir: Path = Path(GOLDEN_DIR)
    pending_until: datetime.date | None = None
    zmlx_from: str = ""
    tolerances: Tolerances = field(default_factory=lambda: MappingProxyType({}))

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self.file.parent


class _Wrong(Exception):
    """A value that is not what its key takes: what was expected."""


def _read_ops(value: Any, root: Path) -> tuple[str, ...]:
    tables = [value] if isinstance(value, str) else value
    good = (
        isinstance(tables, list) and tables and all(isinstance(t, str) and TABLE.fullmatch(t) for t in tables)
    )
    if not good:
        raise _Wrong('"package.module:NAME", such as "mypackage.ops:OPS", or a list of such')
    return tuple(tables)


def _read_folder(value: Any, root: Path) -> Path:
    if not isinstance(value, str) or not value:
        raise _Wrong('a folder, such as "golden_values"')
    return root / value


def _read_date(value: Any, root: Path) -> datetime.date:
    if isinstance(value, str):
        try:
            value = datetime.date.fromisoformat(value)
        except ValueError:
            value = None
    if not isinstance(value, datetime.date) or isinstance(value, datetime.datetime):
        raise _Wrong('a date, such as "2027-01-01"')
    return value


def _read_source(value: Any, root: Path) -> str:
    if not isinstance(value, str) or not value:
        raise _Wrong('a folder or a URL, such as "../zmlx" or "git+https://HOST/PATH.git"')
    return value if "://" in value else str((root / value).resolve())


def _read_tolerances(value: Any, root: Path) -> Tolerances:
    shape = '{ "mypackage.*" = { float16 = { rtol = 1e-3, atol = 1e-5, reason = "…" } } }'
    if not isinstance(value, dict):
        raise _Wrong(shape)
    for pattern, by_dtype in value.items():
        if not isinstance(by_dtype, dict) or not by_dtype:
            raise _Wrong(shape)
        for dtype, bounds in by_dtype.items():
            where = f"tolerances.{pattern!r}"
            _check_name(dtype, DTYPES, f"{where}, dtype")
            if not isinstance(bounds, dict) or not {"rtol", "atol"} <= bounds.keys():
                raise _Wrong(f"rtol and atol in {where}.{dtype}: {shape}")
            for key, bound in bounds.items():
                _check_name(key, TOLERANCE_KEYS, f"{where}.{dtype}, key")
                number = (
                    isinstance(bound, (int, float)) and not isinstance(bound, bool) and 0 <= bound < math.inf
                )
                if not (isinstance(bound, str) if key == "reason" else number):
                    raise _Wrong(
                        f"{'text' if key == 'reason' else 'a finite number of zero or more'} for {key} in {where}"
                    )
    return MappingProxyType(value)


#: Key of [tool.zmlx] to the field of Settings and what reads it.
KEYS: Mapping[str, tuple[str, Callable[[Any, Path], Any]]] = {
    "ops": ("ops", _read_ops),
    "golden-dir": ("golden_dir", _read_folder),
    "pending-until": ("pending_until", _read_date),
    "zmlx-from": ("zmlx_from", _read_source),
    "tolerances": ("tolerances", _read_tolerances),
}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " Did you mean 'x'?" with a space before it, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def _check_name(name: str, known: Iterable[str], what: str) -> None:
    names = tuple(known)
    if name not in names:
        raise SettingsError(
            f"{what} {name!r} is not known.{did_you_mean(name, names)} Known: {', '.join(names)}."
        )


def read_toml(file: Path) -> dict[str, Any]:
    """What a TOML file holds.

    Raises
    ------
    SettingsError
        It cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}.") from error


def read_settings(file: Path) -> Settings | None:
    """``[tool.zmlx]`` of a pyproject.toml; None if it has none.

    Raises
    ------
    SettingsError
        The file is not TOML, a key is not known, or a value is not what its key takes.
    """
    try:
        text = file.read_text(encoding="utf-8")
        # Other people's files are parsed only if they could be meant.
        tool = tomllib.loads(text).get("tool", {}) if "zmlx" in text else {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}.") from error
    if not isinstance(tool, dict) or "zmlx" not in tool:
        return None
    section = tool["zmlx"]
    if not isinstance(section, dict):
        raise SettingsError(f"{file}: expected a table [tool.zmlx], got {section!r}.")
    root = file.parent
    found: dict[str, Any] = {"golden_dir": root / GOLDEN_DIR}
    try:
        for key, value in section.items():
            _check_name(key, KEYS, "key")
            name, read = KEYS[key]
            found[name] = read(value, root)
    except _Wrong as wrong:
        raise SettingsError(f"{file}, [tool.zmlx]: {key}: expected {wrong}; got {value!r}.") from None
    except SettingsError as error:
        raise SettingsError(f"{file}, [tool.zmlx]: {error}") from None
    return Settings(file, **found)


def project_folders(root: Path) -> list[str]:
    """The folders of a project that modules may be imported from: ``src``, if there is one, and its own."""
    return [str(folder) for folder in (root / "src", root) if folder.is_dir()]


def find_settings(start: Path) -> Settings | None:
    """The nearest ``[tool.zmlx]`` in `start` and the folders above it.

    Raises
    ------
    SettingsError
        As `read_settings`.
    """
    here = start.resolve()
    for folder in (here, *here.parents):
        file = folder / "pyproject.toml"
        settings = read_settings(file) if file.is_file() else None
        if settings is not None:
            return settings
    return None
