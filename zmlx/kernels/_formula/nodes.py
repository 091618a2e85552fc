"""The graph of a formula: constants, variables, and functions of other nodes. Equal nodes are one object.

A node knows how it varies in a kernel that works on rows, its `extent`:

========  ==========================================================
ELEMENT   a value for each element of a row
ROW       a value for each row: a reduction, or an argument that is one
UNIFORM   one value: a constant, or a scalar argument
========  ==========================================================
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator
from enum import IntEnum

#: The functions that reduce a row; their argument varies from element to element.
REDUCTIONS = ("row_sum", "row_max", "row_min", "row_peak")

#: One element of a row: (a variable, a place, `column`). It is read by itself, without a pass over the row.
PICKED = "row_at"


class Extent(IntEnum):
    """How a node varies; what is made of several varies as the one that varies most."""

    UNIFORM = 0
    ROW = 1
    ELEMENT = 2


class Node:
    """A constant (``function`` is "constant"), a variable ("variable"), or a function of ``arguments``.

    Nodes are made by `constant`, `variable` and `apply`, compared by identity and never changed.
    """

    __slots__ = ("__weakref__", "arguments", "extent", "function", "number", "value")

    def __init__(
        self, function: str, arguments: tuple[Node, ...], value: float | str, extent: Extent, number: int
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.value = value
        self.extent = extent
        self.number = (
            number  # the order in which nodes were made: no argument comes after what it is an argument of
        )

    def __repr__(self) -> str:
        if self.function in ("constant", "variable"):
            return str(self.value)
        return f"{self.function}({', '.join(map(repr, self.arguments))})"


_nodes: dict[tuple[object, ...], Node] = {}


def _make(function: str, arguments: tuple[Node, ...], value: float | str, extent: Extent) -> Node:
    # A sign of zero, and NaN, tell constants apart that compare otherwise.
    key = (function, *map(id, arguments), repr(value), extent)
    if key not in _nodes:
        _nodes[key] = Node(function, arguments, value, extent, len(_nodes))
    return _nodes[key]


def constant(value: float) -> Node:
    """A number."""
    return _make("constant", (), float(value), Extent.UNIFORM)


def variable(name: str, extent: Extent = Extent.ELEMENT) -> Node:
    """An argument of the formula."""
    return _make("variable", (), name, extent)


def apply(function: str, *arguments: Node) -> Node:
    """``function`` of these, as it is: `zmlx.kernels._formula.functions` has what simplifies."""
    extent = max(argument.extent for argument in arguments)
    if function in REDUCTIONS or function == PICKED:
        extent = Extent.ROW
    return _make(function, arguments, "", extent)


def is_constant(node: Node, value: float | None = None) -> bool:
    """Whether a node is a number, or that number (and no negative zero for zero)."""
    if node.function != "constant":
        return False
    return value is None or (
        node.value == value and math.copysign(1, float(node.value)) == math.copysign(1, value)
    )


def ordered(roots: Iterable[Node], known: Container[Node] = ()) -> list[Node]:
    """All nodes under ``roots``, each once, arguments first; without ``known`` ones and what only those need.

    The order is that of the formula. When nodes were made does not show in it: a kernel's text, by which it is found
    in the cache, is the same in every process.
    """
    found: dict[Node, None] = {}
    waiting = [(node, False) for node in reversed(list(roots))]
    while waiting:
        node, complete = waiting.pop()
        if complete:
            found[node] = None
        elif node not in found and node not in known:
            waiting.append((node, True))
            waiting.extend((argument, False) for argument in reversed(node.arguments))
    return list(found)


def variables(*roots: Node) -> Iterator[str]:
    """The names of the variables under ``roots``, each once."""
    return (str(node.value) for node in ordered(roots) if node.function == "variable")
