"""A row program as something to call: its kernel, the kernel's reference, and the launch.

Here all arrays are flat: rows of the first one's length, of others so many rows or a part of them that repeats.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mlx.core as mx

from zmlx.kernels import _maths, _msl, _rows
from zmlx.kernels._columns import column_sum, in_first_line
from zmlx.kernels._formula.functions import OF_NOTHING, column_index, variable_length
from zmlx.kernels._formula.metal import HELPERS
from zmlx.kernels._formula.nodes import Extent, Node, ordered, variable
from zmlx.kernels._formula.reference import evaluate
from zmlx.kernels._row_arguments import Arguments
from zmlx.kernels._row_msl import PASSES
from zmlx.kernels._row_source import each_row, run_of_rows
from zmlx.launch import MetalKernel, metal_kernel

HEADER = _msl.CHUNKS + _msl.ROWS + _maths.MATHS + _maths.FUNCTIONS + _maths.NORMAL + HELPERS + PASSES


@dataclass(frozen=True)
class Rows:
    """Results from rows, by a kernel or by its reference.

    Attributes
    ----------
    name
        The kernel's.
    arguments
        What it takes; only what is used is handed to it.
    results
        The result's name -> its node.
    wide
        Names of results that have a value for each element; of others there is one for each row.
    sums
        Of elements over all rows: gradients of weights.
    """

    name: str
    arguments: Arguments
    results: Mapping[str, Node]
    wide: Collection[str]
    sums: Mapping[str, Node]

    @cached_property
    def used(self) -> Arguments:
        return self.arguments.used([*self.results.values(), *self.sums.values()])

    @cached_property
    def kernel(self) -> MetalKernel:
        outputs = [f"res_{name}" for name in self.results]
        if self.sums:
            source = run_of_rows(self.used, self.results, self.wide, self.sums)
            outputs.append("partial")
        else:
            source = each_row(self.used, self.results, self.wide)
        header = HEADER
        if self.used.seeds:
            from zmlx.kernels._random import PHILOX, UNIFORMS

            header += PHILOX + UNIFORMS
        inputs = [f"arg_{name}" for name in self.used.names]
        return metal_kernel(self.name, inputs, outputs, source, header, reference=self._reference)

    def run(
        self, values: Mapping[str, Any], dtypes: Mapping[str, mx.Dtype], *, traced: bool = False
    ) -> dict[str, mx.array]:
        """The results and sums by name.

        Parameters
        ----------
        values
            The arguments' values by name.
        dtypes
            Of the results; sums are float32.
        traced
            In MLX operations.
        """
        first = values[self.arguments.arrays[0]]
        rows, length = first.shape
        if not first.size:
            return self._of_nothing(values, dtypes)
        used = self.used
        template = {f"T_{name}": values[name].dtype for name in used.typed}
        template.update({f"T_{name}": dtypes[name] for name in self.results})
        inputs = [values[name] for name in used.names]
        outputs: list[tuple[tuple[int, ...], mx.Dtype]] = [
            ((rows, length) if name in self.wide else (rows,), dtypes[name]) for name in self.results
        ]
        sizes = (rows, length, first.dtype.size)
        if self.sums:
            outputs.append(((_rows.partials(*sizes), len(self.sums) * length), mx.float32))
        if traced:
            made = list(self._reference(inputs, template))
        else:
            arrays = len(used.arrays)
            launch = _rows.sums_launch if self.sums else _rows.row_launch
            made = launch(*sizes, arrays=arrays).run(self.kernel, inputs, outputs, **template)
        found = dict(zip(self.results, made, strict=False))
        if self.sums:
            total = mx.sum(made[-1], axis=0) if traced else column_sum(made[-1])
            parts = mx.split(total, len(self.sums)) if len(self.sums) > 1 else [total]
            found.update(zip(self.sums, parts, strict=True))
        return found

    def _of_nothing(self, values: Mapping[str, Any], dtypes: Mapping[str, mx.Dtype]) -> dict[str, mx.array]:
        """Of arrays without an element there is nothing to launch: what rows are reduced to is known."""
        rows, length = values[self.arguments.arrays[0]].shape
        found = {name: mx.zeros((rows, length), dtypes[name]) for name in self.wide}
        found.update((name, mx.zeros((length,))) for name in self.sums)
        narrow = {name: node for name, node in self.results.items() if name not in self.wide}
        given: dict[Node, Any] = {variable_length(): float(length)}
        for node in ordered(narrow.values()):
            if node.function in OF_NOTHING:
                given[node] = mx.full((rows, 1), OF_NOTHING[node.function])
        for name in self.arguments.per_row:
            given[variable(name, Extent.ROW)] = values[name].astype(mx.float32)[:, None]
        for name in self.arguments.scalars:
            given[variable(name, Extent.UNIFORM)] = values[name]
        for (name, _), value in zip(narrow.items(), evaluate(narrow.values(), given), strict=True):
            found[name] = mx.broadcast_to(value, (rows, 1))[:, 0].astype(dtypes[name])
        return found

    def _reference(self, inputs: Sequence[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        used = self.used
        values = dict(zip(used.names, inputs, strict=True))
        first = values[used.arrays[0]]
        rows, length = first.shape
        given: dict[Node, Any] = {
            variable_length(): float(length),
            column_index(): mx.arange(length, dtype=mx.float32),
            variable("row", Extent.ROW): mx.arange(rows, dtype=mx.uint32)[:, None],
        }
        for name in used.arrays:
            array = values[name].astype(mx.float32)
            repeats = rows // array.shape[0] if array.shape[0] else 1
            given[variable(name)] = mx.tile(array, (repeats, 1)) if repeats > 1 else array
        for name in used.per_row:
            given[variable(name, Extent.ROW)] = values[name].astype(mx.float32)[:, None]
        for name in used.weights:
            given[variable(name)] = values[name].astype(mx.float32)
        for name in (*used.scalars, *used.seeds):
            given[variable(name, Extent.UNIFORM)] = values[name]
        nodes = [*self.results.values(), *self.sums.values()]
        made = evaluate(nodes, given)
        outputs = []
        for (name, _), value in zip(self.results.items(), made, strict=False):
            wide = mx.broadcast_to(value, (rows, length if name in self.wide else 1))
            outputs.append((wide if name in self.wide else wide[:, 0]).astype(template[f"T_{name}"]))
        if self.sums:
            lines = [
                mx.sum(mx.broadcast_to(value, (rows, length)), axis=0) for value in made[len(self.results) :]
            ]
            total = mx.concatenate(lines)
            partials = _rows.partials(rows, length, first.dtype.size)
            outputs.append(in_first_line(total, partials))
        return outputs
