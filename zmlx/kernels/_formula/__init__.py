"""Formulas as data: what `zmlx.elementwise` and `zmlx.row_kernel` make kernels of.

In: text such as ``x / (1 + exp(-x))``. Out: Metal statements, functions of MLX arrays, and the formulas of its
gradients. `nodes` has the graph, `functions` the table of what a formula may call, `parse` reads, `derive`
differentiates, `metal` and `reference` write. Must not know: arrays' shapes, launches, MLX (but for `reference`).
"""

from __future__ import annotations

from zmlx.kernels._formula.derive import adjoints
from zmlx.kernels._formula.nodes import Node, constant, variable, variables
from zmlx.kernels._formula.parse import FormulaError, Program, parse

__all__ = [
    "FormulaError",
    "Node",
    "Program",
    "adjoints",
    "constant",
    "parse",
    "variable",
    "variables",
]
