"""In which order a formula over rows is computed: passes over the row, and what each of them leaves for later ones.

A reduction belongs to the pass of its level, the number of reductions below it. All of a level are one pass and one
meeting of the row's threads; results that vary over the elements are the pass after the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zmlx.kernels._formula.functions import CHUNK_FUNCTIONS
from zmlx.kernels._formula.nodes import REDUCTIONS, Extent, Node, ordered

#: What costs more to compute again than to keep in a register.
_DEAR = frozenset(
    ("exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "sigmoid", "erf", "normal_cdf", "normal_density")
)
#: So many of them, at most: a thread has registers for its part of a row, and not for much more.
_MOST_KEPT = 2


@dataclass(frozen=True)
class Schedule:
    """What `zmlx.kernels._row_source` writes down.

    Attributes
    ----------
    passes
        The reductions of each pass.
    kept
        Functions of an element that more than one pass needs, and that are kept where the row is held.
    """

    passes: tuple[tuple[Node, ...], ...]
    kept: tuple[Node, ...]


def schedule(roots: Sequence[Node]) -> Schedule:
    """The passes in which ``roots`` are computed."""
    levels: dict[Node, int] = {}
    passes: list[list[Node]] = []
    for node in ordered(roots):
        level = max((levels[argument] for argument in node.arguments), default=0)
        if node.function in REDUCTIONS:
            passes.extend([] for _ in range(level + 1 - len(passes)))
            passes[level].append(node)
            level += 1
        levels[node] = level
    needs = [varying(reduced(nodes)) for nodes in passes]
    needs.append(varying(roots))
    dear = [
        node for node in ordered(roots) if node.function in _DEAR and sum(node in need for need in needs) > 1
    ]
    return Schedule(tuple(map(tuple, passes)), tuple(dear[:_MOST_KEPT]))


def reduced(reductions: Iterable[Node]) -> list[Node]:
    """What ``reductions`` reduce."""
    return [reduction.arguments[0] for reduction in reductions]


def varying(roots: Iterable[Node]) -> set[Node]:
    """The nodes that a pass computes for each element to have ``roots``: without what lies behind reductions."""
    found: set[Node] = set()
    waiting = [root for root in roots if root.extent == Extent.ELEMENT]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            if node.function not in CHUNK_FUNCTIONS:
                waiting.extend(a for a in node.arguments if a.extent == Extent.ELEMENT)
    return found


def shared(roots: Iterable[Node]) -> list[Node]:
    """The nodes that all elements of a row share and that computing ``roots`` begins with; no constants."""
    inside = varying(roots)
    # In the formula's order: that of a set differs from process to process, and a kernel's text must not.
    below = dict.fromkeys(a for node in ordered(roots) if node in inside for a in node.arguments)
    below.update(dict.fromkeys(roots))
    return [node for node in ordered(below) if node.extent < Extent.ELEMENT and node in below]
