"""Whose operations a command works on: the one place that decides it.

1. ``--ops package.module:NAME``, if it is given;
2. the nearest ``[tool.zmlx]`` in a pyproject.toml of this folder or one above it (`zmlx._settings` has its keys);
3. the entry points ``zmlx.ops`` of what is installed;
4. zmlx's own table, `zmlx.testing.op_db`.

Nothing of the project is imported until `Project.ops` is asked for, so that golden files can be found without it.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import zmlx
from zmlx import _compat
from zmlx._settings import GOLDEN_DIR, TABLE, Tolerances, did_you_mean, find_settings, project_folders
from zmlx._text import count

if TYPE_CHECKING:
    from zmlx.testing.opinfo import OpInfo

OWN_TABLE = "zmlx.testing.op_db:op_db"
ENTRY_POINTS = "zmlx.ops"
PYPROJECT = "pyproject.toml"


class ProjectError(ValueError):
    """The table of operations cannot be used; the message says which, why, and what to write."""


@dataclass(frozen=True)
class Project:
    """A project: its operations and where its golden files are.

    Attributes
    ----------
    root : pathlib.Path
        Its folder; modules are imported from there, and from ``src`` in it.
    tables : tuple of str
        "package.module:NAME" of each table of operations.
    origin : str
        Who named them: "pyproject.toml", "--ops", "entry point zmlx.ops of DISTRIBUTION", or why zmlx's own are taken.
    golden_dir : pathlib.Path
        Absolute; it need not exist.
    tolerances : mapping
        Defaults by operation pattern and dtype, as `zmlx._settings.Settings` has them.
    pending_until : datetime.date or None
        The day from which a golden case that nobody with the hardware has recorded is a failure; None for never.
    """

    root: Path
    tables: tuple[str, ...]
    origin: str
    golden_dir: Path
    tolerances: Tolerances
    pending_until: datetime.date | None = None

    @property
    def table_name(self) -> str:
        """The tables, as text."""
        return ", ".join(self.tables)

    @cached_property
    def ops(self) -> tuple[OpInfo, ...]:
        """The operations, with the project's tolerances where an entry has none of its own.

        Raises
        ------
        ProjectError
            As `load_ops` and `check_tolerances`, and for a tolerance that is looser than the default without a reason.
        """
        ops = load_ops(self.tables, self.root)
        if self.has_own_tables:
            self.check_tolerances(ops)
        return self.with_tolerances(ops)

    @property
    def has_own_tables(self) -> bool:
        """Whether its pyproject.toml names the tables: then tolerances are for them, all of them."""
        return self.origin == PYPROJECT

    def check_tolerances(self, ops: Iterable[OpInfo]) -> None:
        """Refuse tolerances that are for nothing, as a misspelt pattern is: they would be left out in silence.

        Raises
        ------
        ProjectError
            A pattern matches none of `ops`, or no operation that it matches claims one of its dtypes.
        """
        dtypes = {op.name: {d for backend in _compat.BACKENDS for d in op.dtypes_on(backend)} for op in ops}
        for pattern, by_dtype in self.tolerances.items():
            matched = [name for name in dtypes if matches(name, pattern)]
            if not matched:
                self._refuse_tolerance(
                    f"{pattern!r} matches no operation.{did_you_mean(pattern, dtypes)} "
                    f"{self.table_name} has: {', '.join(dtypes)}."
                )
            for dtype in by_dtype:
                if not any(dtype in dtypes[name] for name in matched):
                    claimed = sorted(set().union(*(dtypes[name] for name in matched)))
                    self._refuse_tolerance(
                        f"{pattern!r} has a tolerance for {dtype}, which no operation that it matches claims "
                        f"({', '.join(matched)}: {', '.join(claimed) or 'none'})."
                    )

    def _refuse_tolerance(self, why: str) -> NoReturn:
        raise ProjectError(
            f"{self.root / PYPROJECT}, [tool.zmlx.tolerances]: {why} Correct it, or take it out."
        )

    def with_tolerances(self, ops: Iterable[OpInfo]) -> tuple[OpInfo, ...]:
        """Entries with the project's tolerances where they have none of their own; the last pattern that fits wins.

        Raises
        ------
        ProjectError
            A tolerance is looser than the default and has no reason.
        """
        return tuple(self._with_tolerances(op) for op in ops)

    def _with_tolerances(self, op: OpInfo) -> OpInfo:
        mine: dict[str, Any] = {}
        for pattern, by_dtype in self.tolerances.items():
            if matches(op.name, pattern):
                mine.update({dtype: _tolerance(bounds) for dtype, bounds in by_dtype.items()})
        if not mine:
            return op
        try:
            return replace(
                op, tolerances={**mine, **op.tolerances}, grad_tolerances={**mine, **op.grad_tolerances}
            )
        except ValueError as error:
            raise ProjectError(f"{self.root / PYPROJECT}, [tool.zmlx.tolerances]: {error}") from error

    def heading(self) -> str:
        """The line that commands begin with: which operations, named where, how many. Loads them."""
        return f"operations: {self.table_name} ({self.origin}), {count(len(self.ops), 'operation')}"


def _tolerance(bounds: Mapping[str, Any]) -> Any:
    from zmlx.testing.tolerance import Tolerance

    return Tolerance(**{key.replace("-", "_"): value for key, value in bounds.items()})


def matches(name: str, pattern: str) -> bool:
    """Whether a shell pattern means an operation, named with its family ("norms.*") or without it ("*norm")."""
    return any(fnmatchcase(n, pattern) for n in (name, name.split(".")[-1]))


def find_project(start: Path | None = None, tables: Sequence[str] = ()) -> Project:
    """The project of a folder.

    Parameters
    ----------
    start : pathlib.Path, optional
        The folder; the working directory unless given.
    tables : sequence of str
        What ``--ops`` names, before everything else. Golden files and tolerances are still the project's.

    Raises
    ------
    ProjectError
        A table is not "package.module:NAME".
    zmlx._settings.SettingsError
        ``[tool.zmlx]`` cannot be used.
    """
    here = Path.cwd() if start is None else start
    for table in tables:
        if not TABLE.fullmatch(table):
            raise ProjectError(
                f"--ops: expected package.module:NAME, such as mypackage.ops:OPS; got {table!r}."
            )
    settings = find_settings(here)
    root = here.resolve() if settings is None else settings.root
    if tables:
        named, origin = tuple(tables), "--ops"
    elif settings is not None and settings.ops:
        named, origin = settings.ops, PYPROJECT
    else:
        named, origin = _entry_points()
    if not named:
        missing = "this folder and those above have no [tool.zmlx] in a pyproject.toml"
        if settings is not None:
            missing = f"{settings.file} names no ops in [tool.zmlx]"
        named, origin = (OWN_TABLE,), f"zmlx's own, for {missing}"
    if settings is not None:
        return Project(root, named, origin, settings.golden_dir, settings.tolerances, settings.pending_until)
    golden_dir = root / GOLDEN_DIR
    beside = Path(zmlx.__file__).parent.parent / GOLDEN_DIR
    if named == (OWN_TABLE,) and not golden_dir.is_dir() and beside.is_dir():
        golden_dir = beside  # those of the checkout
    return Project(root, named, origin, golden_dir, {})


def _entry_points() -> tuple[tuple[str, ...], str]:
    found = sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda point: point.value)
    owners = dict.fromkeys(point.dist.name for point in found if point.dist is not None)
    return tuple(point.value for point in found), f"entry point {ENTRY_POINTS} of {', '.join(owners)}"


def load_ops(tables: Sequence[str], root: Path | None = None) -> tuple[OpInfo, ...]:
    """The entries of tables "package.module:NAME", in their order.

    Parameters
    ----------
    tables : sequence of str
        Each names a tuple (or another iterable) of OpInfo, or one OpInfo.
    root : pathlib.Path, optional
        A folder that modules are imported from first, and ``src`` in it; it stays on ``sys.path``, for functions may
        import more when they are called.

    Raises
    ------
    ProjectError
        The module or the attribute is missing, importing the module raises, what is there is no OpInfo, there is none,
        or two have one name.
    """
    from zmlx.testing.opinfo import OpInfo

    if root is not None:
        make_importable(root)
    loaded: dict[str, str] = {}
    ops: list[OpInfo] = []
    for table in tables:
        value = load_attribute(table)
        entries = (value,) if isinstance(value, OpInfo) else value
        if not isinstance(entries, Iterable) or isinstance(entries, (str, bytes)):
            raise ProjectError(
                f"{table}: expected a tuple of zmlx.testing.OpInfo, got {type(value).__name__}."
            )
        for index, entry in enumerate(entries):
            if not isinstance(entry, OpInfo):
                kind = type(entry).__name__
                raise ProjectError(
                    f"{table}: expected entry {index} to be a zmlx.testing.OpInfo, got {kind}."
                )
            if entry.name in loaded:
                raise ProjectError(
                    f"{table}: two entries are named {entry.name!r} (the first is in {loaded[entry.name]}); "
                    "golden cases go by that name, so give one of them another."
                )
            loaded[entry.name] = table
            ops.append(entry)
    if not ops:
        raise ProjectError(f"{', '.join(tables)}: there is no operation. Add a zmlx.testing.OpInfo.")
    return tuple(ops)


def make_importable(root: Path) -> None:
    """Have modules imported from a project's folder, and from ``src`` in it."""
    for folder in project_folders(root):
        if folder not in sys.path:
            sys.path.insert(0, folder)


def load_attribute(table: str, root: Path | None = None) -> Any:
    """What "package.module:NAME" names.

    Raises
    ------
    ProjectError
        The module or the attribute is missing, or importing the module raises.
    """
    if root is not None:
        make_importable(root)
    module_name, _, attribute = table.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and (module_name == missing or module_name.startswith(f"{missing}.")):
            raise ProjectError(
                f"{table}: there is no module {missing!r} to import. Run the command in the project's folder, or "
                "install the project into this Python."
            ) from error
        if isinstance(error, ImportError) and (missing or "").partition(".")[0] in ("mlx", "zmlx"):
            raise  # says itself what to install
        raise ProjectError(
            f"{table}: importing {module_name} raised {type(error).__name__}: {error}. "
            f"To see where: python -c 'import {module_name}'"
        ) from error
    value = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            names = [name for name in vars(value) if not name.startswith("_")]
            raise ProjectError(
                f"{table}: {module_name} has no {attribute!r}.{did_you_mean(attribute, names)} "
                "Name a tuple of zmlx.testing.OpInfo."
            )
        value = getattr(value, part)
    return value
