"""Random kernels, race-free by construction, together with their NumPy meaning.

A kernel declares variables, changes them in nested branches and loops, and exchanges values through threadgroup
arrays between barriers, which all threads reach. Each variable is written to an output of its kind at the end.

`kernels()` is the strategy; `Kernel.launch` runs a kernel, `Kernel.expected` is what comes out, and
`Kernel.without_barrier(k)` plants a race for tools that look for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fuzz.expressions import DTYPES, NUMBERS, Expression, Leaves, State, expressions, reduced, variable

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"

#: Changes the variables of a state in place, for the threads of its mask.
Effect = Callable[[State], None]


@dataclass(frozen=True)
class Statement:
    text: str
    run: Effect = field(compare=False, repr=False)


@dataclass(frozen=True)
class Kernel:
    """A kernel and one launch of it."""

    source: str
    header: str
    inputs: dict[str, Any] = field(compare=False)
    outputs: dict[str, tuple[str, int]]  # name -> kind, variables
    threads: int
    group: int
    body: tuple[Statement, ...] = field(repr=False)
    names: dict[str, list[str]] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.header}\n// {self.threads} threads in groups of {self.group}\n{self.source}"

    def launch(self, stream: Any = None) -> dict[str, Any]:
        """The outputs, as NumPy."""
        import mlx.core as mx

        import zmlx

        kernel = zmlx.metal_kernel("fuzz", list(self.inputs), list(self.outputs), self.source, self.header)
        arrays = kernel(
            inputs=[mx.array(a) for a in self.inputs.values()],
            output_shapes=[(self.threads * count,) for _, count in self.outputs.values()],
            output_dtypes=[getattr(mx, DTYPES[kind]) for kind, _ in self.outputs.values()],
            grid=(self.threads, 1, 1),
            threadgroup=(self.group, 1, 1),
            stream=stream,
        )
        return {name: np.array(array) for name, array in zip(self.outputs, arrays, strict=True)}

    def expected(self) -> dict[str, Any]:
        thread = np.arange(self.threads)
        variables = {f"in_{kind}": array for kind, array in ((n[2:], a) for n, a in self.inputs.items())}
        group = min(self.group, self.threads)
        variables |= {"t": (thread % group).astype("uint32"), "i": thread.astype("uint32")}
        state = State(variables, np.ones(self.threads, bool), thread // group, thread % group)
        with np.errstate(all="ignore"):
            for statement in self.body:
                statement.run(state)
        return {
            name: np.stack([variables[v] for v in self.names[kind]], 1).ravel()
            for name, (kind, _) in self.outputs.items()
        }

    @property
    def barriers(self) -> int:
        return self.source.count(BARRIER)

    def without_barrier(self, number: int) -> Kernel:
        """The same kernel with one of its barriers left out."""
        places = [match.start() for match in re.finditer(re.escape(BARRIER), self.source)]
        place = places[number]
        return replace(self, source=self.source[:place] + self.source[place + len(BARRIER) :])


def _assign(name: str, e: Expression, declare: bool) -> Statement:
    def run(s: State) -> None:
        old = s.variables.get(name)
        new = e.value(s)
        s.variables[name] = new if old is None else np.where(s.mask, new, old)

    return Statement(f"{e.kind + ' ' if declare else ''}{name} = {e.text};", run)


def _if(condition: Expression, then: list[Statement], otherwise: list[Statement]) -> Statement:
    def run(s: State) -> None:
        c = condition.value(s)
        for branch, part in ((c, then), (~c, otherwise)):
            inside = s.where(branch)
            for statement in part:
                statement.run(inside)

    text = f"if ({condition.text}) {{ {' '.join(x.text for x in then)} }}"
    return Statement(text + (f" else {{ {' '.join(x.text for x in otherwise)} }}" if otherwise else ""), run)


def _for(
    name: str, bound: Expression, skip: Expression | None, leave: Expression | None, part: list[Statement]
) -> Statement:
    """``for`` with a bound of up to 3 that may differ from thread to thread, ``continue`` and ``break``."""
    text = f"for (uint {name} = 0; {name} < {bound.text} % 4u; ++{name}) {{ "
    text += f"if ({skip.text}) continue; " if skip else ""
    text += " ".join(x.text for x in part)
    text += f" if ({leave.text}) break;" if leave else ""

    def run(s: State) -> None:
        alive = s.mask.copy()
        for k in range(4):
            s.variables[name] = np.full(len(alive), k, "uint32")
            here = replace(s, mask=alive)
            alive = alive & (k < bound.value(here) % 4)
            if not alive.any():
                break
            inside = replace(s, mask=alive)
            active = inside.where(~skip.value(inside)) if skip else inside
            for statement in part:
                statement.run(active)
            if leave:
                alive = alive & ~(active.mask & leave.value(active))
        s.variables.pop(name)

    return Statement(text + " }", run)


def _exchange(number: int, name: str, e: Expression, step: int, group: int) -> Statement:
    """All threads write to a threadgroup array and read another's element."""
    array = f"shared_{number}"
    size = min(1 << (group - 1).bit_length(), 1024)
    text = (
        f"threadgroup {e.kind} {array}[{size}]; {array}[t] = {e.text}; {BARRIER}"
        f" {e.kind} {name} = {array}[(t + {step}u) % threads_per_threadgroup.x]; {BARRIER}"
    )

    def run(s: State) -> None:
        values = e.value(s)
        out = values.copy()
        for g in np.unique(s.group):
            members = np.flatnonzero(s.group == g)
            out[members] = values[members[(np.arange(len(members)) + step) % len(members)]]
        s.variables[name] = out

    return Statement(text, run)


def _local_array(name: str, parts: list[Expression], index: Expression) -> Statement:
    """A variable read from a local array at an index that only the thread knows."""
    kind = parts[0].kind
    array = f"{name}_of"
    text = f"{kind} {array}[{len(parts)}] = {{{', '.join(p.text for p in parts)}}};"
    text += f" {kind} {name} = {array}[{index.text} % {len(parts)}u];"

    def run(s: State) -> None:
        values = np.stack([p.value(s) for p in parts])
        s.variables[name] = values[index.value(s) % len(parts), np.arange(len(s.mask))]

    return Statement(text, run)


@dataclass
class _Builder:
    """Draws a kernel. ``scope`` holds the variables by kind."""

    draw: st.DrawFn
    group: int
    scope: Leaves
    assigned: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in NUMBERS})
    count: int = 0
    header: list[str] = field(default_factory=list)

    def expression(self, kind: str, depth: int = 3, simd: bool = True) -> Expression:
        return self.draw(expressions(kind, self.scope, depth, simd))

    def kind(self) -> str:
        return self.draw(st.sampled_from(NUMBERS))

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def declare(self, kind: str, name: str, e: Expression | None = None) -> None:
        """From here on the variable may be read; what is assigned to it later is no larger."""
        bound, bits = {"int": (100, 0), "float": (32, 0), "half": (8, 0)}.get(kind, (np.inf, 0))
        self.scope.setdefault(kind, []).append(variable(kind, name, bound, bits))
        self.assigned[kind].append(name)

    def small(self, kind: str, depth: int = 3) -> Expression:
        e = self.expression(kind, depth)
        return e if kind == "uint" else reduced(e)

    def declaration(self) -> Statement:
        kind, name = self.kind(), self.name()
        form = self.draw(st.sampled_from(["plain", "plain", "exchange", "array"]))
        if form == "exchange":
            statement = _exchange(
                self.count, name, self.small(kind), self.draw(st.integers(1, 40)), self.group
            )
        elif form == "array":
            parts = [self.small(kind, 2) for _ in range(self.draw(st.integers(2, 4)))]
            statement = _local_array(name, parts, self.expression("uint", 2))
        else:
            statement = _assign(name, self.small(kind), declare=True)
        self.declare(kind, name)
        return statement

    def change(self, depth: int) -> Statement:
        """A statement that changes variables that exist."""
        form = self.draw(st.sampled_from(["assign", "assign", "if", "for"])) if depth else "assign"
        if form == "if":
            otherwise = self.block(depth - 1) if self.draw(st.booleans()) else []
            return _if(self.expression("bool", 2), self.block(depth - 1), otherwise)
        if form == "for":
            bound, name = self.expression("uint", 1), f"k{self.count}"
            self.count += 1
            self.scope["uint"].append(variable("uint", name, 4, 0))
            skip = self.expression("bool", 1) if self.draw(st.integers(0, 2)) == 0 else None
            part = self.block(depth - 1)
            leave = self.expression("bool", 1) if self.draw(st.integers(0, 2)) == 0 else None
            self.scope["uint"].pop()
            return _for(name, bound, skip, leave, part)
        kind = self.draw(st.sampled_from([k for k in NUMBERS if self.assigned[k]]))
        return _assign(self.draw(st.sampled_from(self.assigned[kind])), self.small(kind), declare=False)

    def block(self, depth: int) -> list[Statement]:
        return [self.change(depth) for _ in range(self.draw(st.integers(1, 2)))]


@st.composite
def kernels(draw: st.DrawFn, statements: int = 5) -> Kernel:
    """A kernel of up to ``statements`` declarations and as many changes."""
    group = draw(st.sampled_from([1, 7, 32, 33, 64, 100]))
    threads = draw(st.integers(1, 3 * group).filter(lambda n: n <= 200))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    inputs = {
        "x_int": rng.integers(-100, 101, threads).astype("int32"),
        "x_uint": rng.integers(0, 2**32, threads, dtype="uint32"),
        "x_float": rng.integers(-32, 33, threads).astype("float32"),
        "x_half": (rng.integers(-64, 65, threads) / 8).astype("float16"),
    }
    scope: Leaves = {
        "int": [variable("int", "in_int", 100, 0)],
        "uint": [variable("uint", "in_uint", np.inf, 0), variable("uint", "t", 128, 0)],
        "float": [variable("float", "in_float", 32, 0)],
        "half": [variable("half", "in_half", 8, 0)],
    }
    builder = _Builder(draw, group, scope)
    body = [builder.declaration()]
    for _ in range(draw(st.integers(1, statements))):
        body.append(builder.declaration() if draw(st.booleans()) else builder.change(2))
    names = {kind: found for kind, found in builder.assigned.items() if found}
    outputs = {f"out_{kind}": (kind, len(found)) for kind, found in names.items()}
    lines = ["uint i = thread_position_in_grid.x, t = thread_position_in_threadgroup.x;"]
    lines += [f"{kind} in_{kind} = x_{kind}[i];" for kind in NUMBERS]
    lines += [statement.text for statement in body]
    for kind, found in names.items():
        lines += [f"out_{kind}[i * {len(found)} + {k}] = {name};" for k, name in enumerate(found)]
    return Kernel("\n".join(lines) + "\n", "", inputs, outputs, threads, group, tuple(body), names)
