"""The gradients of a formula, as formulas: reverse-mode differentiation of its graph.

Of a value that all elements of a row share, the gradient is the sum over the row of what each element has of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from zmlx.kernels._formula.functions import FUNCTIONS, ZERO, add, negative, row_sum, subtract
from zmlx.kernels._formula.nodes import Extent, Node, ordered


def adjoints(results: Mapping[Node, Node], variables: Sequence[Node]) -> list[Node]:
    """The gradient of each of ``variables``, given that of each of ``results``.

    Parameters
    ----------
    results
        A formula's result -> its cotangent, a node that varies as it does.
    variables
        Those that gradients are wanted of. A ROW variable's is summed over the row, one that varies over the elements
        (a weight, too) has a gradient an element; sums over rows are the caller's.

    Returns
    -------
    list of Node
        `ZERO` for a variable that no result depends on.
    """
    gradient: dict[Node, Node] = {}

    def collect(node: Node, share: Node) -> None:
        if share.extent == Extent.ELEMENT and node.extent == Extent.ROW:
            share = _summed(share)
        gradient[node] = add(gradient[node], share) if node in gradient else share

    for result, cotangent in results.items():
        collect(result, cotangent)
    wanted = _dependent(results, variables)
    for node in reversed(ordered(results)):
        if node not in gradient or not node.arguments:
            continue
        shares = FUNCTIONS[node.function].rule(node.arguments, node, gradient[node])
        for argument, share in zip(node.arguments, shares, strict=True):
            if share is not None and argument in wanted:
                collect(argument, share)
    return [gradient.get(variable, ZERO) for variable in variables]


def _summed(share: Node) -> Node:
    """The sum over the row, term by term: then those of the terms do not wait for what only others need."""
    if share.extent == Extent.ELEMENT and share.function in _LINEAR:
        return _LINEAR[share.function](*map(_summed, share.arguments))
    return row_sum(share)


#: What the sum goes into: a sum of sums is the sum.
_LINEAR: Mapping[str, Callable[..., Node]] = {"add": add, "subtract": subtract, "negative": negative}


def _dependent(results: Mapping[Node, Node], variables: Sequence[Node]) -> set[Node]:
    """The nodes under ``results`` that depend on one of ``variables``."""
    found = set(variables)
    for node in ordered(results):
        if any(argument in found for argument in node.arguments):
            found.add(node)
    return found
