"""The kernels of a formula: its Metal text around what `zmlx.kernels._formula` writes, and their launches."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import mlx.core as mx

from zmlx.kernels import _rows
from zmlx.kernels._broadcast import Broadcast
from zmlx.kernels._columns import in_first_line
from zmlx.kernels._formula.metal import HELPERS, statements
from zmlx.kernels._formula.nodes import Extent, Node, ordered, variable
from zmlx.kernels._formula.reference import evaluate
from zmlx.kernels._maths import FUNCTIONS, MATHS, NORMAL
from zmlx.kernels._msl import CHUNKS
from zmlx.launch import MetalKernel, metal_kernel

_PLACES = """
// Where the values of a row begin, of an array that has as many rows as the result or one for all of them.
template <typename P, typename S>
METAL_FUNC P zmlx_row(P from, S shape, uint row) {
  return from + size_t(shape[0] == 1 ? 0 : row) * shape[1];
}
// Reads a chunk that begins at i, of a row with values `across` it or with one for all columns.
template <typename T, int N, bool PACKED, typename P>
METAL_FUNC void zmlx_fetch(thread float* to, P from, bool across, uint i, uint count, bool sure) {
  if (across) {
    zmlx_chunk<T, N, PACKED>::load(to, from + i, count, 0.0f, sure);
  } else {
    const float value = static_cast<float>(*from);
    for (int j = 0; j < N; ++j) to[j] = value;
  }
}
"""

HEADER = CHUNKS + MATHS + FUNCTIONS + NORMAL + HELPERS + _PLACES

#: EVEN: all arrays have the result's shape. LOOP is over the rows of a thread.
_BODY = """
  const uint rows = ROWS;
  const uint length = COLUMNS;
  const uint begin = thread_position_in_grid.x * (N * S);
  const uint end = min(begin + N * S, length);
  const bool whole = PACKED && length % N == 0ALIGNED;
UNIFORMLOOP
PLACES    ZMLX_SPAN(begin, end, whole, {
LOADS      for (int j = 0; j < N; ++j) {
STATEMENTS      }
STORES    })
  }
SUMS"""

_ROWS = "  for (uint row = thread_position_in_grid.y; row < rows; row += threads_per_grid.y) {"

# SUMMED: some results are added up over rows. Then a thread has one chunk of each row of a run, and the sums of the run
# are a line of the output: what is added up is never in memory.
_RUNS = """  const uint run = SUMMED ? (rows + threads_per_grid.y - 1) / threads_per_grid.y : rows;
  const uint first = SUMMED ? thread_position_in_grid.y * run : thread_position_in_grid.y;
  const uint last = SUMMED ? min(first + run, rows) : rows;
TOTALS  for (uint row = first; row < last; row += SUMMED ? 1 : threads_per_grid.y) {"""

_Output = tuple[tuple[int, int], mx.Dtype]


@dataclass(frozen=True)
class ElementKernel:
    """A kernel with an output of the broadcast shape for each of its results.

    Attributes
    ----------
    name
        The kernel's.
    inputs, scalars
        Names of the variables: arrays, and numbers.
    results
        Name -> node. Its values are of the dtype that the call says, and all kernels' arithmetic is in float32.
    sums
        Whether calls may ask for the sums over rows of results: gradients of what was the same for all rows.
    """

    name: str
    inputs: tuple[str, ...]
    scalars: tuple[str, ...]
    results: Mapping[str, Node]
    sums: bool = False

    def run(
        self,
        arrays: Sequence[mx.array],
        scalars: Sequence[float],
        seen: Broadcast,
        dtypes: Sequence[mx.Dtype],
        summed: Collection[str] = (),
    ) -> list[mx.array]:
        """The results as (rows, columns), of these dtypes; ``arrays`` are as ``seen`` has them. Of those that are
        ``summed``, which are float32, as (runs, columns): each line has the sums over a run of rows."""
        dtype = arrays[0].dtype
        plan = _rows.run_span_launch if summed else _rows.span_launch
        launch = plan(seen.rows, seen.columns, dtype.size)
        shape = (seen.rows, seen.columns)
        launch, outputs, types = self._variant(launch, seen.even, shape, tuple(dtypes), tuple(summed))
        return launch.run(self._kernel, [*arrays, *scalars], outputs, T=dtype, **types)

    @cached_property
    def _variant(self) -> Callable[..., tuple[_rows.Launch, list[_Output], dict[str, mx.Dtype]]]:
        """`_make_variant`, remembered."""
        return lru_cache(maxsize=1024)(self._make_variant)

    def _make_variant(
        self,
        launch: _rows.Launch,
        even: bool,
        shape: tuple[int, int],
        dtypes: tuple[mx.Dtype, ...],
        summed: tuple[str, ...],
    ) -> tuple[_rows.Launch, list[_Output], dict[str, mx.Dtype]]:
        """The launch with all of its template arguments but dtypes, the outputs, and the outputs' dtypes by name."""
        more = [("EVEN", even)]
        if self.sums:
            more += [("SUMMED", bool(summed)), *((f"SUM_{name}", name in summed) for name in self.results)]
        (rows, columns), runs = shape, launch.grid[1]
        outputs = [
            ((runs if name in summed else rows, columns), dtype)
            for name, dtype in zip(self.results, dtypes, strict=True)
        ]
        types = {f"T_{name}": dtype for name, dtype in zip(self.results, dtypes, strict=True)}
        return replace(launch, template=(*launch.template, *more)), outputs, types

    def values(
        self, arrays: Sequence[mx.array], scalars: Sequence[Any], dtypes: Sequence[mx.Dtype]
    ) -> list[mx.array]:
        """The same of arrays that broadcast, in MLX operations."""
        given: dict[Node, Any] = {
            variable(name): array.astype(mx.float32) for name, array in zip(self.inputs, arrays, strict=True)
        }
        given.update({scalar(name): value for name, value in zip(self.scalars, scalars, strict=True)})
        # A result need not depend on all arrays.
        shape = mx.broadcast_shapes(*(array.shape for array in arrays))
        return [
            mx.broadcast_to(value, shape).astype(dtype)
            for value, dtype in zip(evaluate(self.results.values(), given), dtypes, strict=True)
        ]

    @cached_property
    def _kernel(self) -> MetalKernel:
        def reference(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
            count = len(self.inputs)
            dtypes = [template[f"T_{name}"] for name in self.results]
            found = self.values(inputs[:count], inputs[count:], dtypes)
            if not template.get("SUMMED"):
                return found
            shape, size = found[0].shape, inputs[0].dtype.size
            runs = _rows.column_runs(shape[0], shape[1], size)
            return [
                in_first_line(mx.sum(value, axis=0), runs) if template[f"SUM_{name}"] else value
                for name, value in zip(self.results, found, strict=True)
            ]

        return metal_kernel(
            self.name,
            [*(f"x_{name}" for name in self.inputs), *(f"s_{name}" for name in self.scalars)],
            [f"y_{name}" for name in self.results],
            self.source,
            HEADER,
            reference=reference,
        )

    @cached_property
    def source(self) -> str:
        """The body of the kernel."""
        roots = list(self.results.values())
        names = {scalar(name): f"s_{name}" for name in self.scalars}
        shared = [
            node
            for node in ordered(roots)
            if node.extent == Extent.UNIFORM and node.function not in ("constant", "variable")
        ]
        uniform, names = statements(shared, names, indent="  ")
        names.update({variable(name): f"v_{name}[j]" for name in self.inputs})
        text, names = statements(roots, names, indent="        ")
        for name, node in self.results.items():
            text += f"        w_{name}[j] = {names[node]};\n"
            if self.sums:
                text += f"        if (SUM_{name}) t_{name}[j] += w_{name}[j];\n"
        place, stored = ("SUM_{0} ? 0 : row", "if (!SUM_{0}) ") if self.sums else ("row", "")
        parts = {
            "ROWS": _extents(self.inputs, 0),
            "COLUMNS": _extents(self.inputs, 1),
            "ALIGNED": "".join(
                [
                    *self._each(self.inputs, " && zmlx_chunk<T, N, PACKED>::aligned(x_{0})"),
                    *self._each(self.results, " && zmlx_chunk<T_{0}, N, PACKED>::aligned(y_{0})"),
                ]
            ),
            "UNIFORM": uniform,
            "PLACES": "".join(
                [
                    *self._each(
                        self.inputs,
                        "    auto in_{0} = EVEN ? x_{0} + size_t(row) * length : zmlx_row(x_{0}, x_{0}_shape, row);\n"
                        "    const bool across_{0} = EVEN || x_{0}_shape[1] != 1;\n"
                        "    float v_{0}[N];\n",
                    ),
                    *self._each(
                        self.results,
                        f"    auto out_{{0}} = y_{{0}} + size_t({place}) * length;\n    float w_{{0}}[N];\n",
                    ),
                ]
            ),
            "LOADS": "".join(
                self._each(
                    self.inputs,
                    "      zmlx_fetch<T, N, PACKED>(v_{0}, in_{0}, across_{0}, i, count, sure);\n",
                )
            ),
            "STATEMENTS": text,
            "STORES": "".join(
                self._each(
                    self.results,
                    f"      {stored}zmlx_chunk<T_{{0}}, N, PACKED>::store(out_{{0}} + i, w_{{0}}, count, sure);\n",
                )
            ),
            "LOOP": _ROWS,
            "SUMS": "",
        }
        if self.sums:
            totals = self._each(
                self.results,
                "  float t_{0}[SUM_{0} ? N : 1];\n"
                "  for (int j = 0; j < (SUM_{0} ? N : 1); ++j) t_{0}[j] = 0.0f;\n",
            )
            parts["LOOP"] = _RUNS.replace("TOTALS", "".join(totals))
            parts["SUMS"] = "".join(
                self._each(
                    self.results,
                    "  if (SUM_{0})\n"
                    "    zmlx_chunk<T_{0}, N, PACKED>::store(\n"
                    "        y_{0} + size_t(thread_position_in_grid.y) * length + begin, t_{0}, end - begin);\n",
                )
            )
        return _filled(_BODY, parts)

    @staticmethod
    def _each(names: Sequence[str] | Mapping[str, Node], text: str) -> list[str]:
        return [text.format(name) for name in names]


def scalar(name: str) -> Node:
    """The node of a scalar argument."""
    return variable(name, Extent.UNIFORM)


def _extents(names: Sequence[str], axis: int) -> str:
    """The largest extent along an axis, which is the result's."""
    text = f"uint(x_{names[0]}_shape[{axis}])"
    for name in names[1:]:
        text = f"max({text}, uint(x_{name}_shape[{axis}]))"
    return text


def _filled(text: str, parts: Mapping[str, str]) -> str:
    """``text`` with ``parts`` in the place of their names."""
    return re.sub("|".join(parts), lambda found: parts[found[0]], text)
