"""A formula as a function of MLX arrays: what kernels are where MLX traces, and what higher derivatives follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import mlx.core as mx

from zmlx.kernels._formula.functions import FUNCTIONS, not_a_number
from zmlx.kernels._formula.nodes import Node, ordered


def evaluate(roots: Iterable[Node], given: Mapping[Node, Any]) -> list[Any]:
    """The values of ``roots``; those of the variables (arrays of float32, or numbers) are ``given``."""
    wanted = list(roots)
    values: dict[Node, Any] = dict(given)
    for node in ordered(wanted):
        if node in values:
            continue
        if node.function == "constant":
            values[node] = not_a_number(mx) if node.value != node.value else node.value
        elif all(argument in values for argument in node.arguments) and node.arguments:
            arguments = (_array(values[a]) for a in node.arguments)
            values[node] = FUNCTIONS[node.function].mlx(mx, *arguments)
    return [_array(values[node]) for node in wanted]


def _array(value: Any) -> mx.array:
    return value if isinstance(value, mx.array) else mx.array(value, mx.float32)
