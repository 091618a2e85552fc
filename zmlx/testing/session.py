"""The state of one pytest session: which back end it is on, what it demands, what it has seen."""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from zmlx import _compat
from zmlx._settings import GOLDEN_DIR, Settings, SettingsError, find_settings, project_folders
from zmlx.testing.ledger import LaunchKey, Ledger
from zmlx.testing.markers import SessionBackend, missing_reason, needed_backends

REQUIRE_VARIABLE = "ZMLX_REQUIRE_BACKEND"


@dataclass
class Session:
    """One per `pytest.Config`; `of` finds it.

    Attributes
    ----------
    requested : str or None
        The back end that --backend or ZMLX_TEST_BACKEND names.
    origin : str
        Which of the two it was.
    require : bool
        Whether a missing back end is an error instead of a skip.
    golden_dir : pathlib.Path
        Where recorded values are.
    golden_record : bool
        Whether registered values are to be written there.
    golden_prune : bool
        Whether recorded values that no test registered are to be removed.
    ledger : Ledger
        What was measured.
    """

    requested: str | None
    origin: str
    require: bool
    golden_dir: Path
    golden_record: bool
    golden_prune: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    _backend: SessionBackend | None = None
    _missing: dict[str, str] | None = None
    _device: Any = None
    _previous_device: Any = None
    _environ: dict[str, str | None] = field(default_factory=dict)
    _path: list[str] = field(default_factory=list)

    @property
    def strict(self) -> bool:
        """Whether somebody counts on this session: then one in which nothing ran must not look green."""
        return self.require or self.requested is not None

    @property
    def backend(self) -> SessionBackend:
        """What the session works on. Imports MLX when it is first asked for."""
        if self._backend is None:
            self._backend = self._detect()
        return self._backend

    @property
    def device(self) -> Any:
        """The `mlx.core.Device` of the session's back end."""
        if self._device is None:
            self._device = _compat.device_for(self.backend.name)
        return self._device

    @property
    def missing(self) -> dict[str, str]:
        """The back ends that this machine does not have, and why."""
        if self._missing is None:
            states = _compat.availability()
            self._missing = {name: s.reason for name, s in states.items() if not s.available}
        return self._missing

    def _detect(self) -> SessionBackend:
        if self.requested is not None:
            problem = self.missing.get(self.requested, "")
            return SessionBackend("none" if problem else self.requested, self.origin, problem)
        try:
            name = _compat.detect_backend()
        except _compat.BackendUnavailableError as error:
            return SessionBackend("none", self.origin, str(error))
        if name == "unknown":
            return SessionBackend("none", self.origin, self.missing["cpu"])
        return SessionBackend(name, self.origin)

    def set_environment(self, name: str, value: str) -> None:
        """Set an environment variable until `close`."""
        self._environ.setdefault(name, os.environ.get(name))
        os.environ[name] = value

    def select_device(self) -> None:
        """Make the requested back end MLX's default device, until `close`."""
        if self.requested is None or self.backend.name == "none":
            return
        mx = _compat.import_mx()
        if self._previous_device is None:
            self._previous_device = mx.default_device()
        mx.set_default_device(self.device)

    def make_importable(self, root: Path) -> None:
        """Have a project's modules found, as commands find them, until `close`: after all others, for pytest and the
        project's own settings come first."""
        for folder in project_folders(root):
            if folder not in sys.path:
                sys.path.append(folder)
                self._path.append(folder)

    def close(self) -> None:
        """Undo all of this, for sessions that run inside another process."""
        for folder in self._path:
            if folder in sys.path:
                sys.path.remove(folder)
        self._path.clear()
        for name, value in self._environ.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._environ.clear()
        if self._previous_device is not None:
            _compat.import_mx().set_default_device(self._previous_device)

    def why_not_runnable(self, marker_names: set[str]) -> str | None:
        """Why a test with these markers cannot run here, or None."""
        if self.requested is not None and self.backend.name == "none":
            return f"{self.origin}: {self.requested} is not available here: {self.backend.problem}"
        needs = needed_backends(marker_names)
        return missing_reason(needs, self.backend, self.missing) if needs else None

    def lacks_hardware(self, marker_names: set[str]) -> bool:
        """Whether a test that cannot run here has no back end on this machine, rather than being meant for
        another session of it."""
        if self.requested is not None:
            return self.backend.name == "none"
        return all(name in self.missing for name in needed_backends(marker_names))


KEY: pytest.StashKey[Session] = pytest.StashKey()


def create(config: pytest.Config) -> Session:
    """Read options and environment.

    Raises
    ------
    pytest.UsageError
        For an unknown back end name, a golden directory that does not exist, or a ``[tool.zmlx]`` that cannot be used.
    """
    option = config.getoption("zmlx_backend")
    variable = os.environ.get(_compat.TEST_BACKEND_VARIABLE)
    requested = option or variable or None
    origin = "MLX's default device"
    if requested is not None:
        name = "--backend" if option else _compat.TEST_BACKEND_VARIABLE
        origin = f"{name} {requested}" if option else f"{name}={requested}"
        try:
            _compat.check_backend_name(requested, name)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from None
    try:
        settings = find_settings(config.rootpath)
    except SettingsError as error:
        raise pytest.UsageError(str(error)) from None
    session = Session(
        requested=requested,
        origin=origin,
        require=bool(config.getoption("zmlx_require_backend")) or _is_set(REQUIRE_VARIABLE),
        golden_dir=_golden_dir(config, settings),
        golden_record=bool(config.getoption("zmlx_golden_record")),
        golden_prune=bool(config.getoption("zmlx_golden_prune")),
    )
    if settings is not None and settings.ops:
        session.make_importable(settings.root)
    return session


def _golden_dir(config: pytest.Config, settings: Settings | None) -> Path:
    given = config.getoption("zmlx_golden_dir")
    if not given:
        return settings.golden_dir if settings is not None else config.rootpath / GOLDEN_DIR
    directory: Path = config.invocation_params.dir / given
    if not config.getoption("zmlx_golden_record") and not directory.is_dir():
        raise pytest.UsageError(
            f"--golden-dir: {directory} is not a directory. Name the one that holds the recorded values, "
            "or add --golden-record to make it."
        )
    return directory


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() not in ("", "0", "false", "no")


def launches_in_all() -> Counter[LaunchKey]:
    """The process's launches so far, without importing the launcher where nothing has launched."""
    records = sys.modules.get("zmlx.launch.records")
    return Counter() if records is None else records.launches_in_all()
