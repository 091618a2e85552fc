"""``python -m zmlx init``: a project of one's own, written into a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zmlx import _distribution
from zmlx._settings import GOLDEN_DIR, read_settings
from zmlx.scaffold.package import choose_package
from zmlx.scaffold.render import render

#: Actions of the workflow, by commit, as zmlx's own workflow has them.
ACTIONS: Mapping[str, str] = {
    "checkout": "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2",
    "setup-python": "actions/setup-python@a309ff8b426b58ec0e2a45f0f869d46889d02405 # v6.2.0",
}

NEXT = """\
Next:
  python -m zmlx verify          the kernel against its oracle, here
  python -m zmlx golden record   what this machine computes, into {golden}; commit it
  python -m pytest               everything that follows from the table
  python -m nox                  the same in an environment of its own; python -m nox -l lists the sessions"""

LOCAL = """\
noxfile.py installs {}, a folder that other machines do not have: for them, write a git URL there, and as zmlx-from into
[tool.zmlx]."""


@dataclass(frozen=True)
class Initialised:
    """What `init` did.

    Attributes
    ----------
    written, kept : tuple of str
        Files, from the folder: new ones, and those that were there and are as they were.
    to_add : str
        What a pyproject.toml that was there needs, and has not; empty if nothing.
    requirement : str
        By which the noxfile installs zmlx.
    """

    written: tuple[str, ...]
    kept: tuple[str, ...]
    to_add: str = ""
    requirement: str = ""

    def text(self) -> str:
        """For the terminal."""
        lines = [f"wrote {name}" for name in self.written]
        lines += [f"kept  {name}, which was there" for name in self.kept]
        if "file:" in self.requirement:
            lines.append(f"\n{LOCAL.format(self.requirement)}")
        if self.to_add:
            lines += ["", "pyproject.toml has no [tool.zmlx]. Add:", "", self.to_add.rstrip()]
        return "\n".join([*lines, "", NEXT.format(golden=GOLDEN_DIR)])


def init(folder: Path, name: str | None = None) -> Initialised:
    """Write the files of a project into `folder`; none replaces one that is there.

    Parameters
    ----------
    folder : pathlib.Path
        It exists.
    name : str, optional
        Of the package; as `choose_package` finds it unless given.

    Raises
    ------
    ScaffoldError, zmlx._settings.SettingsError
        As `choose_package` says.
    OSError
        A file cannot be written.
    """
    package = choose_package(folder, name)
    values = {"package": package.name, "name": "relu2", "family": package.name, **ACTIONS}
    values["requirement"] = _distribution.requirement(_distribution.source())
    kernel = "\n\n\n".join(
        render(part, values).rstrip() for part in ("ops_head.py", "kernel.py", "opinfo.py")
    )
    texts = {
        "pyproject.toml": render("pyproject.toml", values),
        f"{package.path}/__init__.py": "",
        f"{package.path}/ops.py": f"{kernel}\n\nOPS = (_relu2_info,)\n",
        "tests/test_ops.py": render("test_ops.py", values),
        "noxfile.py": render("noxfile.py", values),
        f"{GOLDEN_DIR}/.gitkeep": "",
        ".github/workflows/zmlx.yml": render("workflow.yml", values),
    }
    written, kept = [], []
    for path, text in texts.items():
        try:
            _write_new(folder / path, text)
        except FileExistsError:
            kept.append(path)
        else:
            written.append(path)
    to_add = "" if read_settings(folder / "pyproject.toml") is not None else texts["pyproject.toml"]
    return Initialised(tuple(written), tuple(kept), to_add, values["requirement"])


def _write_new(path: Path, text: str) -> None:
    """Write a file that is not there; FileExistsError if something is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "x", encoding="utf-8", newline="\n") as file:
        file.write(text)
