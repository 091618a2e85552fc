"""Which operation ``--op`` means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zmlx._settings import did_you_mean
from zmlx.testing.opinfo import OpInfo
from zmlx.testing.project import ProjectError, find_project, load_attribute, load_ops


@dataclass(frozen=True)
class Choice:
    """An operation, the table that it is of ("package.module:NAME"), and the folders of its project."""

    op: OpInfo
    table: str
    paths: tuple[Path, ...]


def find_operation(name: str, start: Path | None = None) -> Choice:
    """The operation that a name means.

    Parameters
    ----------
    name : str
        A name of the project's table, with or without its family; or "package.module:NAME", where NAME is an OpInfo of
        that module, or the name of an operation in its table ``OPS`` (or one that the project names).
    start : pathlib.Path, optional
        The folder whose project counts; the working directory unless given.

    Raises
    ------
    ProjectError
        There is none of the name, or several; the message lists what there is.
    """
    project = find_project(start)
    paths = tuple(p for p in (project.root, project.root / "src") if p.is_dir())
    module, colon, wanted = name.rpartition(":")
    tables = project.tables
    if colon:
        tables = tuple(t for t in tables if t.startswith(f"{module}:"))
        value = load_attribute(f"{module}:__dict__", project.root).get(wanted)
        if isinstance(value, OpInfo):
            return Choice(project.with_tolerances([value])[0], name, paths)
        tables = (name,) if isinstance(value, (tuple, list)) else tables or (f"{module}:OPS",)
    found = [
        Choice(op, table, paths)
        for table in tables
        for op in project.with_tolerances(load_ops([table], project.root))
        if op.kernel
    ]
    if colon and tables == (name,):
        fitting = found
    else:
        fitting = [c for c in found if wanted in (c.op.name, c.op.name.rpartition(".")[2])]
    if len(fitting) != 1:
        names = [c.op.name for c in found]
        many = f"{len(fitting)} operations" if fitting else "no operation"
        raise ProjectError(
            f"--op {name}: expected one operation, and {', '.join(tables)} has {many} of that name."
            f"{did_you_mean(wanted, [n.rpartition('.')[2] for n in names])} There are: {', '.join(names)}."
        )
    return fitting[0]
