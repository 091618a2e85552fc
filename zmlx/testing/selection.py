"""What the commands that run op_db begin with: which back end, and which of the entries."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from zmlx import _compat
from zmlx.testing.opinfo import OpInfo


def resolve(backend: str | None, ops: Iterable[OpInfo] | None) -> tuple[str, Iterable[OpInfo]]:
    """The back end to work on and the entries to run: as given, else this machine's back end and op_db.

    Raises
    ------
    ImportError
        MLX does not import.
    ValueError
        ``backend`` names none.
    """
    _compat.import_mx()
    name = _compat.check_backend_name(backend if backend is not None else _compat.detect_backend())
    if ops is None:
        from zmlx.testing.op_db import op_db

        ops = op_db
    return name, ops


def matches(name: str, pattern: str) -> bool:
    """Whether a shell pattern means an operation, named with its family ("norms.*") or without it ("*norm")."""
    return any(fnmatchcase(n, pattern) for n in (name, name.split(".")[-1]))
