"""Values that tests register by name, and their files ``registered-<backend>.json``.

They have the form of golden files but a name of their own: ``<backend>.json`` is complete by construction
(every case of op_db, none more), while these grow by whatever tests register.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zmlx import _compat
from zmlx._settings import did_you_mean
from zmlx.testing.golden.case import GoldenCase
from zmlx.testing.golden.file import GoldenError, GoldenFile, check_directory, load, save
from zmlx.testing.ledger import Ledger
from zmlx.testing.tolerance import as_float64, dtype_name, is_complex, is_float

if TYPE_CHECKING:
    from numpy.typing import NDArray


def registered_path(directory: Path, backend: str) -> Path:
    """Where the registered values of a back end are."""
    return directory / f"registered-{backend}.json"


def encode(value: Any) -> GoldenCase:
    """A value as it is stored.

    Raises
    ------
    TypeError
        If it is not an array, a number, or a (nested) list of numbers.
    """
    import numpy as np

    dtype = dtype_name(value)
    try:
        if is_complex(value):
            return GoldenCase.from_array(np.asarray(value), dtype or "complex128")
        array = as_float64(value) if dtype is None or is_float(dtype) else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"Expected an MLX or NumPy array, a number or nested lists of numbers, got {value!r}."
        ) from error
    return GoldenCase.from_array(array, dtype or "float64")


def _plain(case: GoldenCase) -> Any:
    """As lists or a number, where these have the shape of the case."""
    import numpy as np

    array = case.array()
    value = array.tolist()
    return value if array.size or np.shape(value) == array.shape else array


class GoldenRegistry:
    """What the `golden_registry` fixture hands out the methods of.

    Parameters
    ----------
    directory : pathlib.Path
        Where recorded files are.
    ledger : Ledger
        Where values of this session are kept.
    prefer_session : bool
        Whether `get` takes a value of this session before a recorded one, as recording needs.
    """

    def __init__(self, directory: Path, ledger: Ledger, *, prefer_session: bool = False) -> None:
        self._directory = directory
        self._ledger = ledger
        self._prefer_session = prefer_session
        self._files: dict[str, dict[str, GoldenCase]] = {}

    def register(self, name: str, value: Any, backend: str) -> None:
        """Remember `value` as what `backend` computed for `name`.

        Raises
        ------
        ValueError
            For an unknown back end, an empty name, or a name that has another value already.
        TypeError
            For a value that is not made of numbers.
        """
        _compat.check_backend_name(backend, "golden_registry")
        if not name:
            raise ValueError("golden_registry: a value needs a name.")
        known = len(self._ledger.conflicts)
        self._ledger.record_golden(backend, name, encode(value).to_json())
        if len(self._ledger.conflicts) > known:
            raise ValueError(f"golden_registry: {self._ledger.conflicts.pop()}.")

    def get(self, name: str, backend: str) -> Any:
        """The value of `name` on `backend` as (nested) lists or a number; None if there is none.

        An array without elements whose shape nested lists cannot say, as (0, 3), is a NumPy array.

        A recorded value comes before one that this session registered, so that a test which registers and
        then gets does not compare a result with itself. While recording it is the other way round.

        Raises
        ------
        ValueError
            For an unknown back end.
        zmlx.testing.golden.file.GoldenError
            If a recorded file cannot be used.
        """
        _compat.check_backend_name(backend, "golden_registry")
        case = self._merged(backend).get(name)
        return None if case is None else _plain(case)

    def recorded(self, name: str) -> dict[str, NDArray[Any]]:
        """What the files have for `name`, by back end; values of this session do not count.

        Raises
        ------
        zmlx.testing.golden.file.GoldenError
            If a recorded file cannot be used.
        """
        cases = {backend: self._recorded(backend).get(name) for backend in _compat.BACKENDS}
        return {backend: case.array() for backend, case in cases.items() if case is not None}

    def nothing_recorded(self, name: str, backend: str) -> str:
        """What to say where `name` has no recorded value on `backend`."""
        known = self._recorded(backend)
        there = f"; {len(known)} other names are" if known else f", nor anything else, in {self._directory}"
        return (
            f"golden value {name!r}: nothing is recorded for it on {backend}{there}."
            f"{did_you_mean(name, known)} If the name is right, record it: python -m pytest --golden-record "
            f"--backend {backend}"
        )

    def all(self) -> dict[str, dict[str, Any]]:
        """Every value that `get` would find, as {back end: {name: value}}."""
        found = {
            backend: {name: _plain(case) for name, case in self._merged(backend).items()}
            for backend in _compat.BACKENDS
        }
        return {backend: values for backend, values in found.items() if values}

    def _merged(self, backend: str) -> dict[str, GoldenCase]:
        session = self._ledger.golden.get(backend, {})
        live = {name: GoldenCase.from_json(raw) for name, raw in session.items()}
        recorded = self._recorded(backend)
        return {**recorded, **live} if self._prefer_session else {**live, **recorded}

    def _recorded(self, backend: str) -> dict[str, GoldenCase]:
        if backend not in self._files:
            cases: dict[str, GoldenCase] = {}
            if self._directory.exists():
                check_directory(self._directory)
                for path in (self._directory / f"{backend}.json", registered_path(self._directory, backend)):
                    if path.exists():
                        cases.update(load(path, backend=backend).cases)
            self._files[backend] = cases
        return self._files[backend]


def persist(
    directory: Path, backend: str, values: Mapping[str, dict[str, Any]], environment: Mapping[str, str]
) -> tuple[Path, int]:
    """Add registered values to the file of `backend`; recorded names that this session did not run stay.

    Parameters
    ----------
    directory : pathlib.Path
        Made if it does not exist.
    backend : str
        The back end that ran.
    values : mapping
        Name to the JSON form of a `GoldenCase`.
    environment : mapping
        From `describe_environment`.

    Returns
    -------
    tuple of pathlib.Path and int
        The file, and how many of its values are new or changed.

    Raises
    ------
    zmlx.testing.golden.file.GoldenError
        If the present file is damaged (it is left as it is) or cannot be written.
    """
    path = registered_path(directory, backend)
    new = {name: GoldenCase.from_json(raw) for name, raw in values.items()}
    with _only_writer(path):
        before = dict(load(path, backend=backend).cases) if path.exists() else {}
        changed = sum(before.get(name) != case for name, case in new.items())
        if changed:
            save(GoldenFile(backend, environment, {**before, **new}), path)
    return path, changed


def stale_names(directory: Path, backend: str, registered: Iterable[str]) -> list[str]:
    """The recorded names of `backend` that are not among `registered`, in order.

    Raises
    ------
    zmlx.testing.golden.file.GoldenError
        If the recorded file is damaged.
    """
    path = registered_path(directory, backend)
    recorded = load(path, backend=backend).cases.keys() if path.exists() else set()
    return sorted(recorded - set(registered))


def prune(directory: Path, backend: str, names: Iterable[str]) -> None:
    """Remove recorded values of `backend`; a file that has none left is removed.

    Raises
    ------
    zmlx.testing.golden.file.GoldenError
        If the recorded file is damaged (it is left as it is) or cannot be written.
    """
    path = registered_path(directory, backend)
    with _only_writer(path):
        present = load(path, backend=backend)
        kept = {name: case for name, case in present.cases.items() if name not in set(names)}
        if kept:
            save(GoldenFile(backend, present.environment, kept), path)
        else:
            path.unlink()


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    """Hold the file's lock: to add to it is to read, change and write it, and two at once would lose values.

    The lock is a file beside it, which stays: removing it would let two hold it.
    """
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = Path(os.path.realpath(path))  # what is written, by whichever link
        lock = FileLock(target.with_name(f".{target.name}.lock"))
        lock.acquire()
    except OSError as error:
        raise GoldenError(
            f"Cannot write {path}: {error.strerror or error}. Nothing was recorded; check that the directory "
            "is writable."
        ) from error
    try:
        yield
    finally:
        lock.release()
