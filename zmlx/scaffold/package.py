"""Which package a project's kernels go to: its name, and the folder that it lies in."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from zmlx._settings import read_toml
from zmlx.scaffold.render import ScaffoldError, check_name

SRC = "src"

#: Packages that the files of `init` import, and their folder of tests.
TAKEN = ("zmlx", "mlx", "numpy", "pytest", "hypothesis", "nox", "tests")


@dataclass(frozen=True)
class Package:
    """A package, there or yet to be written.

    Attributes
    ----------
    name : str
        By which Python imports it.
    path : str
        Its folder, from the project's: the name, with ``src/`` before it in a project of that layout.
    """

    name: str
    path: str


def choose_package(folder: Path, name: str | None = None) -> Package:
    """The package of a folder: `name`; else the one in ``src`` that there is, or that ``[project].name`` means; else
    what is made of ``[project].name`` in pyproject.toml, or of the folder's name.

    Raises
    ------
    ScaffoldError
        The name is none that Python can import, or that of a module of Python or of what the tests need; or ``src`` has
        several packages, of which none is meant.
    zmlx._settings.SettingsError
        pyproject.toml is not TOML.
    """
    given, origin = (name, "--name") if name is not None else _found(folder)
    try:
        package = check_name(given, origin)
    except ScaffoldError as error:
        if name is not None:
            raise
        raise ScaffoldError(f"{error} Choose one: --name my_kernels") from None
    # In the current folder, a package named like one of Python's own comes before it, for zmlx and all else too.
    if package in TAKEN or package in sys.stdlib_module_names:
        raise ScaffoldError(f"{origin}: {package!r} is another package's name. Choose one: --name my_kernels")
    return Package(package, f"{SRC}/{package}" if _lies_in_src(folder, package) else package)


def _found(folder: Path) -> tuple[str, str]:
    """A name, and who gives it."""
    pyproject = folder / "pyproject.toml"
    project = read_toml(pyproject).get("project", {}) if pyproject.is_file() else {}
    distribution = project.get("name") if isinstance(project, dict) else None
    wanted = _importable(distribution) if isinstance(distribution, str) else None
    there = _packages(folder / SRC)
    meant = [package for package in there if wanted is not None and package.lower() == wanted.lower()]
    if len(meant or there) == 1:
        return (meant or there)[0], f"the package in {SRC}"
    if len(there) > 1:
        raise ScaffoldError(f"{SRC} has several packages: {', '.join(there)}. Choose one: --name {there[0]}")
    if wanted is not None:
        return wanted, "[project].name in pyproject.toml"
    return _importable(folder.resolve().name), "the folder's name"


def _importable(name: str) -> str:
    """The package that a distribution's name stands for, by custom."""
    return re.sub(r"[-. ]+", "_", name)


def _packages(folder: Path) -> list[str]:
    """The packages in a folder, which have Python modules in them."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name for path in folder.iterdir() if path.name.isidentifier() and any(path.glob("*.py"))
    )


def _lies_in_src(folder: Path, package: str) -> bool:
    src = folder / SRC
    if (src / package).is_dir() or not src.is_dir() or (folder / package).is_dir():
        return (src / package).is_dir()
    # A folder of this name that has other things is no layout of Python's.
    return bool(_packages(src)) or not any(src.iterdir())
