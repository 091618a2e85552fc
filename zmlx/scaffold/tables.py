"""The tables of zmlx's own documentation that follow from the code: ``python -m zmlx.scaffold.tables``.

Each stands between two comments ``<!-- zmlx NAME: begin -->`` and ``<!-- zmlx NAME: end -->``. The command rewrites
them in its checkout; a test fails if one is stale.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zmlx.scaffold.render import ScaffoldError
from zmlx.testing.files import write_whole


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return (
        "\n".join(f"| {' | '.join(line)} |" for line in lines)
        .replace("| --- ", "|---")
        .replace("|--- |", "|---|")
    )


def _functions(file: Path) -> list[ast.FunctionDef]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [node for node in tree.body if isinstance(node, ast.FunctionDef)]


def _first_sentence(function: ast.FunctionDef) -> str:
    """Of the docstring; where it begins with a signature, of what follows that."""
    paragraphs = (ast.get_docstring(function) or "").split("\n\n")
    text = " ".join(next((p for p in paragraphs if p.rstrip().endswith(".")), paragraphs[0]).split())
    return text.partition(". ")[0].rstrip(".").replace("``", "`").replace("|", "\\|")


def kernels(root: Path) -> str:
    """The catalogue: signature, shapes, formula and source of each kernel."""
    from zmlx.testing.op_db import op_db

    rows = []
    for op in (op for op in op_db if op.kernel):
        family, _, name = op.name.partition(".")
        file = root / "zmlx" / "kernels" / f"{family}.py"
        function = next(found for found in _functions(file) if found.name == name)
        source = re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", op.source)
        rows.append(
            (
                f"`{family}.{_call(function, file.read_text(encoding='utf-8'))}`",
                _shapes(function),
                _first_sentence(function),
                source,
            )
        )
    return _table(("kernel", "shapes", "computes", "from"), rows)


def _call(function: ast.FunctionDef, text: str) -> str:
    arguments, given = function.args.args, function.args.defaults
    defaults = [
        *[""] * (len(arguments) - len(given)),
        *(f"={ast.get_source_segment(text, d)}" for d in given),
    ]
    return f"{function.name}({', '.join(a.arg + d for a, d in zip(arguments, defaults, strict=True))})"


def _shapes(function: ast.FunctionDef) -> str:
    """From the docstring: "(…, 2D) → (…, D)"; a result without a shape of its own has the first argument's."""
    before, _, after = (ast.get_docstring(function) or "").partition("\nReturns\n")
    inputs, outputs = (
        re.findall(r"Shape (\([^()]*\))", text) for text in (before, after.partition("\nRaises")[0])
    )
    if not inputs:
        return "any"
    shapes = [*inputs, *(outputs or inputs)[:1]]
    plain = [shape.replace("...", "…").replace(" * ", "").replace(",)", ")") for shape in shapes]
    return f"{', '.join(plain[:-1])} → {plain[-1]}"


def functions(root: Path) -> str:
    """What a formula may call."""
    from zmlx.kernels._formula.functions import FUNCTIONS, MACRO_DOCS

    known = {**{name: f.doc for name, f in FUNCTIONS.items() if f.doc}, **MACRO_DOCS}
    rows = [(f"`{name}`", doc.replace("``", "`")) for name, doc in sorted(known.items())]
    return _table(("function", "is"), rows)


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
    return _table(("session", "what it does"), rows)


def markers(root: Path) -> str:
    """The plugin's markers."""
    from zmlx.testing.markers import MARKERS

    return _table(
        ("marker", "the test"), [(f"`@pytest.mark.{name}`", text) for name, text in MARKERS.items()]
    )


def fixtures(root: Path) -> str:
    """The plugin's fixtures, by the first sentences of their docstrings."""
    rows = [
        (f"`{function.name}`", _first_sentence(function))
        for function in _functions(root / "zmlx" / "testing" / "fixtures.py")
        if any("fixture" in ast.unparse(decorator) for decorator in function.decorator_list)
    ]
    return _table(("fixture", "what it is"), rows)


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
    return _table(("option", "meaning"), rows)


#: (file, name of the comments) to what stands between them.
TABLES: dict[tuple[str, str], Callable[[Path], str]] = {
    ("docs/kernels.md", "kernels"): kernels,
    ("docs/kernels.md", "functions"): functions,
    ("README.md", "sessions"): sessions,
    ("README.md", "markers"): markers,
    ("README.md", "fixtures"): fixtures,
    ("README.md", "options"): options,
}


def replaced(text: str, name: str, table: str, file: str) -> str:
    """`text` with `table` between the two comments of `name`.

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
    return f"{head}{begin}\n{table}\n{end}{tail}"


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
