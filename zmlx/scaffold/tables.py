"""The tables of zmlx's own documentation that follow from the code: ``python -m zmlx.scaffold.tables``.

Each stands between two comments ``<!-- zmlx NAME: begin -->`` and ``<!-- zmlx NAME: end -->``. The command rewrites
them in its checkout; a test fails if one is stale.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zmlx.scaffold.catalogue import kernels
from zmlx.scaffold.markdown import first_sentence, table
from zmlx.scaffold.markdown import functions as functions_of
from zmlx.scaffold.render import ScaffoldError
from zmlx.testing.files import write_whole


def _functions(file: Path) -> list[ast.FunctionDef]:
    return functions_of(file.read_text(encoding="utf-8"))


def _first_sentence(function: ast.FunctionDef) -> str:
    return first_sentence(ast.get_docstring(function) or "")


def functions(root: Path) -> str:
    """What a formula may call."""
    from zmlx.kernels._formula.functions import FUNCTIONS, MACRO_DOCS

    known = {**{name: f.doc for name, f in FUNCTIONS.items() if f.doc}, **MACRO_DOCS}
    rows = [(f"`{name}`", doc.replace("``", "`")) for name, doc in sorted(known.items())]
    return table(("function", "is"), rows)


def sessions(root: Path) -> str:
    """The sessions of noxfile.py, by their docstrings."""
    rows = []
    for function in _functions(root / "noxfile.py"):
        for decorator in map(ast.unparse, function.decorator_list):
            if decorator.startswith("nox.session"):
                named = re.search(r"name='([^']+)'", decorator)
                rows.append(
                    (f"`{named[1] if named else function.name}`", _first_sentence(function).rstrip("."))
                )
    return table(("session", "what it does"), rows)


def markers(root: Path) -> str:
    """The plugin's markers."""
    from zmlx.testing.markers import MARKERS

    return table(("marker", "the test"), [(f"`@pytest.mark.{name}`", text) for name, text in MARKERS.items()])


def fixtures(root: Path) -> str:
    """The plugin's fixtures, by the first sentences of their docstrings."""
    rows = [
        (f"`{function.name}`", _first_sentence(function))
        for function in _functions(root / "zmlx" / "testing" / "fixtures.py")
        if any("fixture" in ast.unparse(decorator) for decorator in function.decorator_list)
    ]
    return table(("fixture", "what it is"), rows)


def options(root: Path) -> str:
    """The plugin's options."""
    rows: list[tuple[str, str]] = []

    class Group:
        def addoption(self, name: str, **about: Any) -> None:
            value = f" {about['metavar']}" if "metavar" in about else ""
            rows.append((f"`{name}{value}`", about["help"]))

    class Parser:
        def getgroup(self, *_: str) -> Group:
            return Group()

    from zmlx.testing.plugin import pytest_addoption

    pytest_addoption(Parser())  # type: ignore[arg-type]
    return table(("option", "meaning"), rows)


#: (file, name of the comments) to what stands between them.
TABLES: dict[tuple[str, str], Callable[[Path], str]] = {
    ("docs/kernels.md", "kernels"): kernels,
    ("docs/kernels.md", "functions"): functions,
    ("README.md", "sessions"): sessions,
    ("README.md", "markers"): markers,
    ("README.md", "fixtures"): fixtures,
    ("README.md", "options"): options,
}


def replaced(text: str, name: str, made: str, file: str) -> str:
    """`text` with `made` between the two comments of `name`.

    Raises
    ------
    ScaffoldError
        The comments are not there, once each and in this order.
    """
    begin, end = (f"<!-- zmlx {name}: {edge} -->" for edge in ("begin", "end"))
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed or begin in rest or end in head + tail:
        raise ScaffoldError(f"{file} needs one line {begin!r} and after it one line {end!r}.")
    return f"{head}{begin}\n{made}\n{end}{tail}"


def rewrite(root: Path) -> list[str]:
    """Rewrite the tables of a checkout; returns the files that changed."""
    changed = []
    for file in dict.fromkeys(file for file, _ in TABLES):
        before = text = (root / file).read_text(encoding="utf-8")
        for (where, name), make in TABLES.items():
            if where == file:
                text = replaced(text, name, make(root), file)
        if text != before:
            write_whole(root / file, text)
            changed.append(file)
    return changed


if __name__ == "__main__":
    print(*(rewrite(Path(__file__).resolve().parents[2]) or ["up to date"]), sep="\n")
    sys.exit()
