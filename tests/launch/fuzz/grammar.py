"""Random kernels, race-free by construction, together with their NumPy meaning.

A kernel declares variables and arrays, changes them in nested branches and loops, hands values over through threadgroup
arrays between barriers and adds up in atomics; threads may leave at any time. Each variable is written to an output of
its kind at the end. `builder` draws the statements.

`kernels()` is the strategy; `Kernel.launch` runs a kernel, `Kernel.expected` is what comes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fuzz.builder import BARRIERS, Builder, contents
from fuzz.drawing import Leaves
from fuzz.expressions import DTYPES, NUMBERS, State, variable
from fuzz.functions import BOX, functions
from fuzz.memory import ATOMIC_OPS, Array, declared_shared
from fuzz.statements import Statement, silent

#: What outputs hold where nobody writes.
FILL = 7

_HEADER = f"""#define FLAGS mem_flags::mem_device | mem_flags::mem_threadgroup
#define SYNC() threadgroup_barrier(FLAGS)
#define PUT_SYNC(to, v) to = v; SYNC()
inline void meet() {{ threadgroup_barrier(FLAGS); }}
template <typename T> T swap_through(threadgroup T* cells, uint at, uint from, T v) {{
  cells[at] = v;
  threadgroup_barrier(FLAGS);
  T other = cells[from];
  threadgroup_barrier(FLAGS);
  return other;
}}
{BOX}
"""


@dataclass(frozen=True)
class Kernel:
    """A kernel and one launch of it: ``columns * rows`` threads in groups of ``group`` along x and all rows."""

    source: str
    header: str
    inputs: Mapping[str, Any] = field(compare=False)
    outputs: Mapping[str, tuple[str, tuple[int, ...]]]  # name -> kind, shape
    columns: int
    rows: int
    group: int
    body: tuple[Statement, ...] = field(repr=False)
    views: Mapping[str, tuple[str, int, int]] = field(repr=False)  # name -> output, and the part that it is

    def __str__(self) -> str:
        launch = f"{self.columns} x {self.rows} threads in groups of {self.group} x {self.rows}"
        return f"{self.header}\n// {launch}\n{self.source}"

    def launch(self, stream: Any = None) -> dict[str, Any]:
        """The outputs, as NumPy."""
        import mlx.core as mx

        import zmlx

        kernel = zmlx.metal_kernel("fuzz", list(self.inputs), list(self.outputs), self.source, self.header)
        arrays = kernel(
            inputs=[mx.array(a) for a in self.inputs.values()],
            output_shapes=[shape for _, shape in self.outputs.values()],
            output_dtypes=[getattr(mx, DTYPES[kind]) for kind, _ in self.outputs.values()],
            grid=(self.columns, self.rows, 1),
            threadgroup=(self.group, self.rows, 1),
            init_value=FILL,
            stream=stream,
        )
        return {name: np.array(array) for name, array in zip(self.outputs, arrays, strict=True)}

    def expected(self) -> dict[str, Any]:
        """What `launch` should return."""
        thread = np.arange(self.columns * self.rows)
        column, row = thread % self.columns, thread // self.columns
        group = column // self.group
        size = np.minimum(self.group, self.columns - group * self.group)
        index = row * size + column % self.group
        numbers = {"t": index, "i": thread, "g": group, "m": size * self.rows, "lane": index % 32}
        variables = {name: number.astype("uint32") for name, number in numbers.items()}
        variables |= {f"in_{kind}": self.inputs[f"x_{kind}"] for kind in NUMBERS}
        results = {name: np.full(shape, FILL, DTYPES[kind]) for name, (kind, shape) in self.outputs.items()}
        memory = {**self.inputs, **results}
        memory |= {name: memory[whole][first:last] for name, (whole, first, last) in self.views.items()}
        everyone = np.ones(len(thread), bool)
        state = State(variables, memory, everyone, ~everyone, group, index)
        with np.errstate(all="ignore"):
            for statement in self.body:
                statement.run(state)
        return results


@st.composite
def kernels(draw: st.DrawFn, statements: int = 5) -> Kernel:
    """A kernel of up to ``2 * statements`` statements that all threads reach, with more within."""
    group, rows = draw(
        st.sampled_from([(1, 1), (7, 1), (32, 1), (33, 1), (64, 1), (100, 1), (11, 3), (32, 2)])
    )
    columns = draw(st.integers(1, 3 * group).filter(lambda n: n * rows <= 200))
    threads, groups = columns * rows, -(-columns // group)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    inputs = {
        "x_int": rng.integers(-100, 101, threads).astype("int32"),
        "x_uint": rng.integers(0, 2**32, threads, dtype="uint32"),
        "x_float": rng.integers(-32, 33, threads).astype("float32"),
        "x_half": (rng.integers(-64, 65, threads) / 8).astype("float16"),
    }
    leaves: Leaves = {kind: [contents(kind, f"in_{kind}")] for kind in NUMBERS}
    leaves["uint"] += [variable("uint", name, 200, 0) for name in ("t", "i", "g", "m", "lane")]
    uniform: Leaves = {"uint": [variable("uint", name, 200, 0) for name in ("g", "m")]}
    made = [draw(functions(f"f{k}")) for k in range(draw(st.integers(0, 3)))]
    functors = [draw(functions("h0", functor=True))] if draw(st.integers(0, 2)) == 0 else []
    builder = Builder(draw, threads, leaves, uniform, made, functors)
    builder.arrays += [Array(kind, f"x_{kind}", threads, "input") for kind in NUMBERS if threads >= 8]
    body = [builder.leaving()] if builder.chance(3) else []
    size = 1 << (min(group, columns) * rows - 1).bit_length()
    body += _shared_arrays(builder, size)
    outputs, views = _device_arrays(builder, body, groups, size)
    body += [builder.declaration(plain=True)]
    for _ in range(draw(st.integers(2, 2 * statements))):
        body += builder.uniform_statement(2)
    body += builder.observation()
    body += builder.stores()
    names = {kind: len(found) for kind, found in builder.outputs.items() if found}
    outputs |= {f"out_{kind}": (kind, (threads, count)) for kind, count in names.items()}
    header = "".join(f"#define N_{kind} {count}u\n" for kind, count in names.items())
    header += f"#define SIZE {size}\n{_HEADER}" + "\n".join(f.declaration for f in (*made, *functors)) + "\n"
    lines = ["uint g = threadgroup_position_in_grid.x, lane = thread_index_in_simdgroup;"]
    if rows == 1:
        lines += ["uint i = thread_position_in_grid.x, t = thread_position_in_threadgroup.x;"]
        lines += ["uint m = threads_per_threadgroup.x;"]
    else:
        lines += ["uint i = thread_position_in_grid.y * threads_per_grid.x + thread_position_in_grid.x;"]
        lines += ["uint t = thread_index_in_threadgroup;"]
        lines += ["uint m = threads_per_threadgroup.x * threads_per_threadgroup.y;"]
    lines += [f"{kind} in_{kind} = x_{kind}[i];" for kind in NUMBERS]
    lines += [statement.text for statement in body]
    source = "\n".join(lines) + "\n"
    return Kernel(source, header, inputs, outputs, columns, rows, group, tuple(body), views)


def _shared_arrays(builder: Builder, size: int) -> list[Statement]:
    """Declarations of threadgroup arrays and of pointers into them."""
    draw, statements = builder.draw, []
    for number in range(draw(st.integers(1, 3))):
        name, atomic = builder.name("s"), number > 0 and builder.chance(2)
        kind = draw(st.sampled_from([k for k in NUMBERS if not atomic or k in ATOMIC_OPS]))
        first = draw(st.integers(-8, 8))
        if atomic:
            op = draw(st.sampled_from(ATOMIC_OPS[kind]))
            array = Array(kind, name, draw(st.sampled_from([1, 3, 8])), "threadgroup", op=op)
        else:
            own = draw(st.integers(0, 2 if size > 1 else 0))
            columns = size // 2 if size >= 4 and builder.chance(4) else 0
            array = Array(kind, name, size, "threadgroup", own, columns)
        extent = "SIZE" if array.size == size and builder.chance(2) else str(array.size)
        statements.append(declared_shared(array, first, extent))
        builder.arrays.append(array)
        builder.own[name] = draw(st.booleans())
        if not atomic and builder.chance(2):
            pointer = builder.name("p")
            kind_of_pointer = draw(st.sampled_from(["auto", f"threadgroup {kind}*"]))
            declaration = f"{kind_of_pointer} {pointer} = &{array.own_element};"
            statements.append(silent(declaration))
            builder.pointers[name] = draw(st.sampled_from([f"(*{pointer})", f"{pointer}[0]"]))
    if statements:
        statements.append(silent(draw(st.sampled_from(BARRIERS))))
    return statements


def _device_arrays(
    builder: Builder, body: list[Statement], groups: int, size: int
) -> tuple[dict[str, tuple[str, tuple[int, ...]]], dict[str, tuple[str, int, int]]]:
    """Pointers to device memory that threads share, with the outputs that it is in and the part that each has."""
    draw = builder.draw
    outputs: dict[str, tuple[str, tuple[int, ...]]] = {}
    views: dict[str, tuple[str, int, int]] = {}
    if builder.chance(3):
        kind, name = builder.kind(), builder.name("d")
        body.append(silent(f"auto {name} = rows_{kind} + g * {size}u;"))
        builder.arrays.append(Array(kind, name, size, "device", draw(st.integers(0, 2 if size > 1 else 0))))
        builder.own[name] = draw(st.booleans())
        outputs[f"rows_{kind}"] = (kind, (groups, size))
        views[name] = (f"rows_{kind}", 0, groups)
    counts: dict[str, int] = {}
    for _ in range(draw(st.integers(0, 2))):
        kind, name = draw(st.sampled_from(list(ATOMIC_OPS))), builder.name("b")
        first, count = counts.get(kind, 0), draw(st.sampled_from([1, 4, 5]))
        counts[kind] = first + count
        body.append(silent(f"auto {name} = (device atomic_{kind}*)(bins_{kind} + {first}u);"))
        builder.bins.append(Array(kind, name, count, "bins", op=draw(st.sampled_from(ATOMIC_OPS[kind]))))
        views[name] = (f"bins_{kind}", first, first + count)
    outputs |= {f"bins_{kind}": (kind, (count,)) for kind, count in counts.items()}
    return outputs, views
