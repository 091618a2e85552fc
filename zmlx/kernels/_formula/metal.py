"""Metal statements that compute nodes, each once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from zmlx.kernels._formula.functions import FUNCTIONS
from zmlx.kernels._formula.nodes import Node, ordered

#: What the functions' texts call, beside what `zmlx.kernels._maths` has.
HELPERS = """
METAL_FUNC float zmlx_greater(float a, float b) { return a > b || a != a ? a : b; }
METAL_FUNC float zmlx_lesser(float a, float b) { return a < b || a != a ? a : b; }
METAL_FUNC float zmlx_sign(float a) { return a > 0.0f ? 1.0f : a < 0.0f ? -1.0f : a; }
"""


def statements(
    roots: Iterable[Node], names: Mapping[Node, str], prefix: str = "z", indent: str = "    "
) -> tuple[str, dict[Node, str]]:
    """Statements that compute ``roots``, and the name of each node's value.

    Parameters
    ----------
    roots
        Nodes of the graph.
    names
        The names of what is computed already: variables, reductions.
    prefix
        With which the new names begin; a number follows, that of names which there are before.

    Returns
    -------
    tuple
        The text, a declaration a line, and ``names`` with those of all nodes under ``roots``.
    """
    values = dict(names)
    lines = []
    for node in ordered(roots, names):
        if node.function == "constant":
            values[node] = literal(float(node.value))
            continue
        text = FUNCTIONS[node.function].metal.format(*(values[a] for a in node.arguments))
        values[node] = f"{prefix}{len(values)}"
        kind = "bool" if FUNCTIONS[node.function].truth else "float"
        lines.append(f"{indent}const {kind} {values[node]} = {text};\n")
    return "".join(lines), values


def literal(value: float) -> str:
    """A float32 constant that reads back as the nearest to ``value``."""
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "(-INFINITY)"
    text = f"{value:.9g}"
    text = text if any(c in text for c in ".en") else f"{text}.0"
    return f"{text}f" if value >= 0 and not text.startswith("-") else f"({text}f)"
