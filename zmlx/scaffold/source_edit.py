"""Small additions to Python source that leave every other line as it is."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence

#: "module" for an import, "module:name" for an import from.
Imports = Sequence[str]


def defines(text: str, name: str) -> bool:
    """Whether the top level of a module defines, assigns or imports a name."""
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            return True
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in node.targets
        ):
            return True
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            return True
        if isinstance(node, (ast.Import, ast.ImportFrom)) and any(
            (alias.asname or alias.name).partition(".")[0] == name for alias in node.names
        ):
            return True
    return False


def add_imports(text: str, wanted: Imports) -> str:
    """A module with more imports; what is imported already is left out.

    A name joins the line that imports others from its module, if that is one line; else it gets one of its own, after
    the imports that there are.
    """
    for entry in wanted:
        module, _, name = entry.partition(":")
        plain, _, alias = module.partition(" as ")
        if not defines(text, name or alias or plain):
            text = _with_import(text, module, name)
    return text


def _with_import(text: str, module: str, name: str) -> str:
    rows = text.splitlines()
    imports = [n for n in ast.parse(text).body if isinstance(n, (ast.Import, ast.ImportFrom))]
    for node in imports:
        here = isinstance(node, ast.ImportFrom) and node.module == module and node.end_lineno == node.lineno
        if name and here and not any(alias.asname for alias in node.names):
            names = sorted([name, *(alias.name for alias in node.names)], key=_import_order)
            rows[node.lineno - 1] = f"from {module} import {', '.join(names)}"
            return "\n".join(rows) + "\n"
    at = (imports[-1].end_lineno or 0) if imports else 0
    return (
        "\n".join([*rows[:at], f"from {module} import {name}" if name else f"import {module}", *rows[at:]])
        + "\n"
    )


def _import_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the others."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def add_to_all(text: str, name: str) -> str:
    """A module whose ``__all__``, a list of names in order, has one name more; without one it stays as it is."""
    for node in ast.parse(text).body:
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if value is None or not any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
            continue
        names = sorted({*ast.literal_eval(value), name}, key=_import_order)
        rows = text.splitlines()
        made = f"__all__ = [{', '.join(json.dumps(n) for n in names)}]"
        return "\n".join([*rows[: node.lineno - 1], made, *rows[node.end_lineno :]]) + "\n"
    return text


def add_to_sequence(text: str, variable: str, element: str) -> str | None:
    """A module whose tuple or list `variable` has one element more, at its end: None if there is no such literal.

    Parameters
    ----------
    text : str
        The module.
    variable : str
        Assigned at the top level.
    element : str
        Source of the element, without a comma; it may have several lines, which stay as they are.
    """
    for node in ast.parse(text).body:
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not any(isinstance(t, ast.Name) and t.id == variable for t in targets):
            continue
        if (
            not isinstance(value, (ast.Tuple, ast.List))
            or value.end_lineno is None
            or value.end_col_offset is None
        ):
            return None
        rows = text.splitlines()
        last = rows[value.end_lineno - 1].encode()
        inside, closing = last[: value.end_col_offset - 1].decode(), last[value.end_col_offset - 1 :].decode()
        before = "\n".join([*rows[: value.end_lineno - 1], inside]).rstrip()
        comma = "" if not value.elts or before.endswith(",") else ","
        if value.end_lineno == value.lineno and "\n" not in element:
            joined = (
                f"{before}{comma} {element.strip()}{closing}"
                if value.elts
                else f"{before}{element.strip()},{closing}"
            )
        else:
            own = element if "\n" in element else f"    {element.strip()}"
            joined = f"{before}{comma}\n{own},\n{closing}"
        return "\n".join([joined, *rows[value.end_lineno :]]) + "\n"
    return None
