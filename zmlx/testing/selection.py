"""What the commands that run operations begin with: which back end, and which of the entries."""

from __future__ import annotations

from collections.abc import Iterable

from zmlx import _compat
from zmlx.testing.opinfo import OpInfo
from zmlx.testing.project import find_project, matches

__all__ = ["matches", "project_ops", "resolve"]


def project_ops(ops: Iterable[OpInfo] | None = None) -> tuple[OpInfo, ...]:
    """The entries to run: as given, else those of the project of the working directory.

    Raises
    ------
    zmlx.testing.project.ProjectError
        Its table cannot be used.
    """
    return find_project().ops if ops is None else tuple(ops)


def resolve(backend: str | None, ops: Iterable[OpInfo] | None) -> tuple[str, tuple[OpInfo, ...]]:
    """The back end to work on and the entries to run: as given, else this machine's back end and the project's.

    Raises
    ------
    ImportError
        MLX does not import.
    ValueError
        ``backend`` names none, or the project's table cannot be used.
    """
    _compat.import_mx()
    name = _compat.check_backend_name(backend if backend is not None else _compat.detect_backend())
    return name, project_ops(ops)
