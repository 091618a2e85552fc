"""Metal text from a schedule: the body of a kernel that goes over rows, each in passes.

`each_row` writes a kernel whose teams of threads take
rows in turn, `run_of_rows` one whose threadgroups take a run of rows each and add up over it. What is in `_msl` is used
as it is: chunks of values, what a thread holds, the meetings of a row's threads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from zmlx.kernels._formula.functions import CHUNK_FUNCTIONS, FUNCTIONS
from zmlx.kernels._formula.metal import literal
from zmlx.kernels._formula.nodes import PICKED, REDUCTIONS, Extent, Node, is_constant, ordered
from zmlx.kernels._row_arguments import Arguments
from zmlx.kernels._row_msl import BEGIN, EACH_ROW, RUN_OF_ROWS
from zmlx.kernels._row_program import Schedule, reduced, schedule, shared, varying

#: Sums that meet at once: so many of 32 simdgroups have room in half of the scratch.
_SUMS_AT_ONCE = 4


def each_row(arguments: Arguments, results: Mapping[str, Node], wide: Collection[str]) -> str:
    """The body of a kernel that writes ``results``, of dtype ``T_NAME`` to ``res_NAME``: those that are ``wide`` for
    each element, others for each row."""
    writer = _Writer(arguments, results, wide, {})
    row = writer.held() + writer.row("if (!inside) continue;")
    return f"{writer.begin()}{EACH_ROW}{writer.pointers()}{row}  }}\n"


def run_of_rows(
    arguments: Arguments, results: Mapping[str, Node], wide: Collection[str], sums: Mapping[str, Node]
) -> str:
    """The same, with ``sums`` of elements over each threadgroup's run of rows: in float32, a line each of its lines of
    ``partial``. What a thread holds of a row it adds up in registers, what is beyond in that line."""
    writer = _Writer(arguments, results, wide, sums)
    row = writer.row("")
    return (
        f"{writer.begin()}{RUN_OF_ROWS}{writer.held_weights()}{writer.totals()}"
        f"{writer.fetched('begin', 'held_')}"
        "  for (uint row = begin; row < end; ++row) {\n"
        # The next row is on its way while this one is computed.
        "    const uint following = min(row + 1, end - 1);\n"
        f"{writer.pointers()}{writer.fetched('following', 'next_')}"
        f"{row}{writer.advance()}  }}\n{writer.lines()}"
    )


class _Writer:
    """One kernel: its parts, with the names that nodes have in it."""

    def __init__(
        self,
        arguments: Arguments,
        results: Mapping[str, Node],
        wide: Collection[str],
        sums: Mapping[str, Node],
    ) -> None:
        self.arguments, self.results, self.sums = arguments, results, sums
        self.roots = (*results.values(), *sums.values())
        self.plan: Schedule = schedule(self.roots)
        self.used = {str(n.value): n for n in ordered(self.roots) if n.function == "variable"}
        self.read = tuple(name for name in arguments.arrays if name in self.used)
        self.weights = tuple(name for name in arguments.weights if name in self.used)
        self.of_elements = {name: node for name, node in results.items() if name in wide}
        self.names: dict[Node, str] = {
            node: text for name, node in self.used.items() if (text := self._variable(name))
        }
        self.reciprocals: dict[Node, str] = {}
        # A kernel's text, by which it is found in the cache, is the same in every process: nodes' own numbers are not.
        self.numbers = {node: number for number, node in enumerate(ordered(self.roots))}

    def _variable(self, name: str) -> str:
        if name == "length":
            return "extent"
        if name == "column":
            return "(float(i) + float(j))"  # one conversion a chunk
        prefix = "value_" if name in (*self.arguments.per_row, *self.arguments.scalars) else "chunk_"
        return f"{prefix}{name}" if prefix == "value_" else f"{prefix}{name}[j]"

    def begin(self) -> str:
        aligned = "".join(
            f" &&\n      zmlx_chunk<T_{name}, N, PACKED>::aligned({prefix}_{name})"
            for prefix, names in (("arg", (*self.read, *self.weights)), ("res", self.of_elements))
            for name in names
        )
        first = f"arg_{self.arguments.arrays[0]}"
        values = "".join(
            f"  const float value_{name} = arg_{name};\n"
            for name in self.arguments.scalars
            if name in self.used
        )
        text = BEGIN.replace("FIRST", first).replace("ALIGNED", aligned)
        return f"  using T = T_{self.arguments.arrays[0]};\n{text}{values}"

    def pointers(self) -> str:
        """Where the row's values are, and those that are one a row."""
        lines = [
            f"    auto in_{name} = arg_{name} + size_t({self._row_of(name, 'row')}) * length;\n"
            for name in self.read
        ]
        lines += [
            f"    const float value_{name} = static_cast<float>(arg_{name}[row]);\n"
            for name in self.arguments.per_row
            if name in self.used
        ]
        lines += [f"    auto out_{name} = res_{name} + size_t(row) * length;\n" for name in self.of_elements]
        return "".join(lines)

    def _row_of(self, name: str, row: str) -> str:
        if name == self.arguments.arrays[0]:
            return row
        return f"arg_{name}_shape[0] == rows ? {row} : {row} % arg_{name}_shape[0]"

    def _line(self, name: str) -> str:
        """Where the row's values of an array are, or a weight's."""
        return f"{'in' if name in self.arguments.arrays else 'arg'}_{name}"

    def held(self) -> str:
        return "".join(f"    ZMLX_HOLD_ROW(T_{name}, held_{name}, in_{name})\n" for name in self.read)

    def held_weights(self) -> str:
        return "".join(f"  ZMLX_HOLD_ROW(T_{name}, held_{name}, arg_{name})\n" for name in self.weights)

    def fetched(self, row: str, prefix: str) -> str:
        return "".join(
            f"  ZMLX_HOLD_ROW(T_{name}, {prefix}{name}, "
            f"arg_{name} + size_t({self._row_of(name, row)}) * length)\n"
            for name in self.read
        )

    def advance(self) -> str:
        moves = "".join(f"held_{name}[k] = next_{name}[k]; " for name in self.read)
        return f"    ZMLX_UNROLL for (int k = 0; k < K; ++k) {{ {moves}}}\n"

    def totals(self) -> str:
        line = (
            f"  auto line = partial + size_t(threadgroup_position_in_grid.x) * length * {len(self.sums)};\n"
        )
        return line + "".join(
            f"  float total_{name}[ZMLX_KEPT * N];\n  zmlx_fill<ZMLX_KEPT * N>(total_{name}, 0.0f);\n"
            for name in self.sums
        )

    def lines(self) -> str:
        stores = "".join(
            "    zmlx_chunk<float, N, PACKED>::store("
            f"line + size_t({index}) * length + i, total_{name} + k * N, length - i);\n"
            for index, name in enumerate(self.sums)
        )
        return (
            "  ZMLX_UNROLL for (int k = 0; k < K; ++k) {\n    const uint i = start + k * (W * N);\n"
            f"    if (i >= length) continue;\n{stores}  }}\n"
        )

    def row(self, before_results: str) -> str:
        """What is done with one row."""
        parts = [f"    float keep_{self.numbers[node]}[ZMLX_KEPT * N];\n" for node in self.plan.kept]
        stored: set[Node] = set()
        for reductions in self.plan.passes:
            parts.append(self._shared(reduced(reductions)))
            parts.append(self._reductions(reductions, stored))
        parts.append(self._shared(self.roots))
        parts.append(f"    {before_results}\n")
        parts.extend(
            f"    if (start == 0) res_{name}[row] = static_cast<T_{name}>({self.names[node]});\n"
            for name, node in self.results.items()
            if name not in self.of_elements
        )
        if self.of_elements or self.sums:
            parts.append(self._results(stored))
        return "".join(parts)

    def _shared(self, roots: Sequence[Node]) -> str:
        """Statements for what the elements of a row share, and the next pass needs."""
        lines: list[str] = []
        waiting = shared(roots)
        wanted = [node for node in ordered(waiting) if node not in self.names]
        needed: set[Node] = set()
        stack = [node for node in waiting if node not in self.names]
        while stack:
            node = stack.pop()
            if node not in needed:
                needed.add(node)
                stack.extend(a for a in node.arguments if a not in self.names)
        for node in wanted:
            if node in needed:
                self._define(node, lines, "    ")
        for node in sorted(varying(roots), key=self.numbers.__getitem__):
            divisor = node.arguments[1] if node.function == "divide" else None
            if divisor and self._is_shared(divisor) and divisor not in self.reciprocals:
                self.reciprocals[divisor] = f"inverse_{self.numbers[divisor]}"
                lines.append(
                    f"    const float inverse_{self.numbers[divisor]} = zmlx_ratio<T>(1.0f, {self.names[divisor]});\n"
                )
        return "".join(lines)

    @staticmethod
    def _is_shared(divisor: Node) -> bool:
        return divisor.extent < Extent.ELEMENT and not is_constant(divisor)

    def _define(self, node: Node, lines: list[str], indent: str, kept: str = "") -> None:
        """A statement for ``node``, whose arguments have names."""
        if node.function == "constant":
            self.names[node] = literal(float(node.value))
            return
        arguments = [self.names[argument] for argument in node.arguments]
        if node.function == PICKED:
            arguments[0] = self._line(str(node.arguments[0].value))
        if node.extent == Extent.ELEMENT and node.function == "divide" and self._is_shared(node.arguments[1]):
            text = f"({arguments[0]} * {self.reciprocals[node.arguments[1]]})"
        else:
            text = FUNCTIONS[node.function].metal.format(*arguments)
        kind = "bool" if FUNCTIONS[node.function].truth else "float"
        self.names[node] = f"z{self.numbers[node]}"
        value = f"kept ? {kept} : {text}" if kept else text
        lines.append(f"{indent}const {kind} z{self.numbers[node]} = {value};\n")

    def _elements(self, roots: Sequence[Node], stored: set[Node]) -> tuple[str, str]:
        """What a pass reads of a chunk, and the statements of its loop over the chunk's values."""
        nodes = sorted(varying(roots), key=self.numbers.__getitem__)
        reads: list[str] = []
        lines: list[str] = []
        for node in nodes:
            if node.function == "variable" and node.value != "column":
                reads.append(self._read(str(node.value)))
            elif node.function in CHUNK_FUNCTIONS:
                seed = node.arguments[0].value
                reads.append(
                    f"      float chunk_{self.numbers[node]}[N];\n"
                    f"      {CHUNK_FUNCTIONS[node.function]}<N>"
                    f"(chunk_{self.numbers[node]}, uint2(arg_{seed}[0], arg_{seed}[1]), row, i);\n"
                )
                self.names[node] = f"chunk_{self.numbers[node]}[j]"
            elif node.function not in ("variable", "constant"):
                place = f"keep_{self.numbers[node]}[k * N + j]" if node in self.plan.kept else ""
                self._define(node, lines, "        ", place if node in stored else "")
                if place and node not in stored:
                    lines.append(f"        if (kept) {place} = z{self.numbers[node]};\n")
        stored.update(node for node in nodes if node in self.plan.kept)
        return "".join(reads), "".join(lines)

    def _read(self, name: str) -> str:
        if name in self.arguments.arrays or self.sums:
            return f"      ZMLX_HELD(T_{name}, chunk_{name}, held_{name}, {self._line(name)})\n"
        return f"      ZMLX_READ(T_{name}, chunk_{name}, {self._line(name)})\n"

    def _reductions(self, reductions: Sequence[Node], stored: set[Node]) -> str:
        """A pass over the row, and the meeting of its threads."""
        reads, statements = self._elements(reduced(reductions), stored)
        declared, added = "", ""
        for node in reductions:
            kind, part = _REDUCED[node.function], f"part_{self.numbers[node]}"
            declared += f"    float {part}[N];\n    zmlx_fill<N>({part}, {kind.start});\n"
            value = self._value(node.arguments[0])
            added += "        " + kind.collect.format(part=f"{part}[j]", value=value) + "\n"
        sums = [node for node in reductions if node.function == "row_sum"]
        met = ""
        for first in range(0, len(sums), _SUMS_AT_ONCE):
            some = sums[first : first + _SUMS_AT_ONCE]
            place = f"met_{self.numbers[some[0]]}"
            values = ", ".join(f"zmlx_sum<N>(part_{self.numbers[node]})" for node in some)
            met += f"    float {place}[{len(some)}] = {{{values}}};\n"
            met += f"    team.template sums<{len(some)}>({place});\n"
            for index, node in enumerate(some):
                self.names[node] = f"{place}[{index}]"
        for node in reductions:
            if node.function != "row_sum":
                self.names[node] = f"z{self.numbers[node]}"
                met += f"    const float z{self.numbers[node]} = "
                met += _REDUCED[node.function].meet.format(part=f"part_{self.numbers[node]}") + ";\n"
        return (
            f"{declared}    ZMLX_PASS({{\n{reads}      for (int j = 0; j < N; ++j) {{\n"
            "        const bool there = uint(j) < count;\n"
            f"{statements}{added}      }}\n    }})\n{met}"
        )

    def _value(self, node: Node) -> str:
        return literal(float(node.value)) if node.function == "constant" else self.names[node]

    def _results(self, stored: set[Node]) -> str:
        """The pass that writes what varies over the elements."""
        reads, statements = self._elements(
            [node for node in self.roots if node.extent == Extent.ELEMENT], stored
        )
        declared, after = "", ""
        for name, node in self.of_elements.items():
            declared += f"      float wrote_{name}[N];\n"
            statements += f"        wrote_{name}[j] = {self._value(node)};\n"
            after += (
                f"      zmlx_chunk<T_{name}, N, PACKED>::store(out_{name} + i, wrote_{name}, count, sure);\n"
            )
        for index, (name, node) in enumerate(self.sums.items()):
            line = f"line + size_t({index}) * length + i"
            declared += (
                f"      float sum_{name}[N];\n      zmlx_fill<N>(sum_{name}, 0.0f);\n"
                "      if (!kept && row > begin)\n"
                f"        zmlx_chunk<float, N, PACKED>::load(sum_{name}, {line}, count, 0.0f);\n"
            )
            statements += (
                f"        if (kept) total_{name}[k * N + j] += {self._value(node)};\n"
                f"        else sum_{name}[j] += {self._value(node)};\n"
            )
            after += f"      if (!kept) zmlx_chunk<float, N, PACKED>::store({line}, sum_{name}, count);\n"
        return (
            f"    ZMLX_LAST_PASS({{\n{reads}{declared}      for (int j = 0; j < N; ++j) {{\n"
            f"{statements}      }}\n{after}    }})\n"
        )


@dataclass(frozen=True)
class _Reduction:
    """How a row is reduced: with what a part starts, what a value does to it, and how the parts meet."""

    start: str
    collect: str
    meet: str = ""


_REDUCED: Mapping[str, _Reduction] = {
    "row_sum": _Reduction("0.0f", "{part} += there ? {value} : 0.0f;"),
    "row_max": _Reduction(
        "-INFINITY",
        "{part} = there ? zmlx_greater({value}, {part}) : {part};",
        "team.greatest(zmlx_greatest<N>({part}))",
    ),
    # NaN is passed over: what is computed relative to the peak has it. One instruction where `row_max` takes three.
    "row_peak": _Reduction(
        "-INFINITY",
        "{part} = there ? max({part}, {value}) : {part};",
        "team.largest(zmlx_largest<N>({part}))",
    ),
    # The least is the greatest with the sign turned.
    "row_min": _Reduction(
        "-INFINITY",
        "{part} = there ? zmlx_greater(-{value}, {part}) : {part};",
        "(-team.greatest(zmlx_greatest<N>({part})))",
    ),
}
assert set(_REDUCED) == set(REDUCTIONS)
