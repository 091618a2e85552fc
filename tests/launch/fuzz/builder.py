"""Draws the statements of a kernel.

*Uniform* statements are reached by all threads of a group that are left, the same number of times: only they hold
barriers, and only uniform expressions decide about them. Everything else is up to each thread.

At each barrier, threadgroup arrays change hands: from then on they are either read by all, or each thread reads and
writes its own element (`memory`). Branches and loops leave them as they found them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from fuzz.drawing import Leaves, Scope, expressions
from fuzz.expressions import CONTENTS, NUMBERS, Expression, arithmetic, literal, reduced, variable
from fuzz.functions import Function
from fuzz.memory import (
    TOGETHER,
    Array,
    declared_local,
    element,
    own_element,
    put,
    stored,
    swapped,
    updated,
)
from fuzz.statements import (
    Statement,
    assigned,
    branched,
    condition_of,
    repeated,
    returned,
    silent,
    switched,
    written,
)

#: What stands for a barrier, and what writes one's own element and meets the others.
BARRIERS = ("threadgroup_barrier(FLAGS);", "metal::threadgroup_barrier(FLAGS);", "SYNC();", "meet();")
PUT_AND_MEET = "PUT_SYNC({}, ({}));"


def contents(kind: str, text: str) -> Expression:
    return variable(kind, text, *CONTENTS[kind])


@dataclass
class Builder:
    """What is in scope while a kernel is drawn.

    ``variables`` and ``uniform`` are what expressions of a thread, and those that are the same for the whole group, may
    read. ``assignable`` and ``outputs`` are variables to change and to write out. ``own`` says of each shared array
    whether its elements belong to threads; ``pointers`` are texts that point to those.
    """

    draw: st.DrawFn
    threads: int
    variables: Leaves
    uniform: Leaves
    functions: list[Function]
    functors: list[Function]
    arrays: list[Array] = field(default_factory=list)
    bins: list[Array] = field(default_factory=list)
    own: dict[str, bool] = field(default_factory=dict)
    pointers: dict[str, str] = field(default_factory=dict)
    assignable: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in NUMBERS})
    outputs: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in NUMBERS})
    count: int = 0
    nesting: int = 0
    simd: bool = True

    # --- drawing ---------------------------------------------------------------------------------------------------

    def pick(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def chance(self, one_in: int) -> bool:
        return self.draw(st.integers(1, one_in)) == one_in

    def name(self, letter: str = "v") -> str:
        self.count += 1
        return f"{letter}{self.count}"

    def kind(self) -> str:
        return self.pick(*NUMBERS)

    def readable(self) -> list[Array]:
        return [array for array in self.arrays if not self.own.get(array.name, False)]

    def own_arrays(self, atomic: bool) -> list[Array]:
        return [a for a in self.arrays if self.own.get(a.name, False) and bool(a.op) == atomic]

    def expression(self, kind: str, depth: int = 3) -> Expression:
        """What each thread computes for itself."""
        leaves = {of: list(found) for of, found in self.variables.items()}
        for array in self.own_arrays(atomic=False):
            texts = [array.own_element, *([self.pointers[array.name]] if array.name in self.pointers else [])]
            leaves.setdefault(array.kind, []).extend(own_element(array, text) for text in texts)
        scope = Scope(leaves, self.readable(), self.functions, self.simd)
        return self.draw(expressions(kind, scope, depth))

    def uniform_expression(self, kind: str, depth: int = 1) -> Expression:
        """What all threads of a group agree on."""
        arrays = [array for array in self.readable() if array.space != "local"]
        return self.draw(expressions(kind, Scope(self.uniform, arrays, self.functions, simd=False), depth))

    def small(self, kind: str, depth: int = 3) -> Expression:
        return reduced(self.expression(kind, depth))

    def two(self, first: Callable[[], Expression], second: Callable[[], Expression]) -> list[Expression]:
        """Of which one holds simd operations: compilers evaluate arguments, and sides of ``=``, in different orders."""
        simd, which = self.simd, self.draw(st.booleans())
        self.simd = simd and which
        made = [first()]
        self.simd = simd and not which
        made.append(second())
        self.simd = simd
        return made

    def index_and_value(self, kind: str) -> list[Expression]:
        return self.two(lambda: self.expression("uint", 2), lambda: self.small(kind, 2))

    @contextmanager
    def inner(self, **names: Expression) -> Iterator[None]:
        """A block: what is declared in it, and what it gets (``variables`` or ``uniform``), ends with it."""
        groups = (self.variables, self.uniform, self.assignable)
        kept = [{kind: list(found) for kind, found in group.items()} for group in groups]
        arrays = list(self.arrays)
        for scope, e in names.items():
            getattr(self, scope).setdefault(e.kind, []).append(e)
        self.nesting += 1
        yield
        self.nesting -= 1
        for group, before in zip(groups, kept, strict=True):
            group.clear()
            group.update(before)
        self.arrays = arrays

    # --- what all threads reach ------------------------------------------------------------------------------------

    def uniform_block(self, depth: int, most: int = 3) -> list[Statement]:
        """Statements after which shared arrays are what they were before."""
        before = dict(self.own)
        block = [
            part for _ in range(self.draw(st.integers(1, most))) for part in self.uniform_statement(depth)
        ]
        if self.own != before:
            self.own = before
            block.append(silent(self.pick(*BARRIERS)))
        return block

    def uniform_statement(self, depth: int) -> list[Statement]:
        forms = ["declare"] * 3 + ["change"] * 3 + ["barrier"] * 3 + ["uniform", "leave"]
        forms += ["loop", "loop", "branch"] if depth else []
        shared = [array for array in self.arrays if array.is_shared and not array.op]
        forms += ["exchange"] * 5 * bool(shared)
        form = self.pick(*forms)
        if form == "exchange":
            return self.exchange(self.draw(st.sampled_from(shared)))
        if form == "declare":
            return [self.declaration()]
        if form == "change":
            return [self.change(2)]
        if form == "barrier":
            return self.meeting()
        if form == "uniform":
            return [self.uniform_declaration()]
        if form == "leave":
            return [self.leaving()]
        if form == "branch":
            return [self.uniform_branch(depth)]
        return [self.uniform_loop(depth)]

    def exchange(self, array: Array) -> list[Statement]:
        """All threads write their elements, and each reads another's."""
        meet = [] if self.own[array.name] else [silent(self.pick(*BARRIERS))]
        self.own[array.name] = True
        store = stored(array, None, self.small(array.kind, 2), "{} = {};")
        self.own[array.name] = False
        step = literal("uint", self.draw(st.integers(1, 40)))
        another = arithmetic("+", variable("uint", "t", 200, 0), step)
        name = self.name()
        read = assigned(name, element(array, another), f"{array.kind} {{}} = {{}};")
        self.declare(array.kind, name)
        return [*meet, store, silent(self.pick(*BARRIERS)), read]

    def meeting(self) -> list[Statement]:
        """A barrier, before which a thread may write and after which arrays change hands."""
        plain = self.own_arrays(atomic=False)
        if plain and self.chance(2):
            array = self.draw(st.sampled_from(plain))
            simple = array.space == "threadgroup" and not array.columns
            if simple and self.nesting < 3 and self.chance(2):
                return [self.swap(array)]
            met = stored(array, None, self.small(array.kind, 2), PUT_AND_MEET)
        else:
            met = silent(self.pick(*BARRIERS))
        self.own = {name: self.draw(st.booleans()) for name in self.own}
        return [met]

    def swap(self, array: Array) -> Statement:
        name, callee = self.name(), self.pick("swap_through", f"swap_through<{array.kind}>")
        statement = swapped(array, name, *self.index_and_value(array.kind), callee)
        self.declare(array.kind, name)
        return statement

    def uniform_loop(self, depth: int) -> Statement:
        style, bound, name = (
            self.pick("up", "down", "while", "do"),
            self.uniform_expression("uint"),
            self.name("k"),
        )
        with self.inner(uniform=variable("uint", name, 4, 0)):
            self.variables["uint"].append(variable("uint", name, 4, 0))
            skip = self.uniform_expression("bool", 2) if self.chance(4) else None
            part = self.uniform_block(depth - 1)
            leave = self.uniform_expression("bool", 2) if self.chance(4) else None
        return repeated(name, style, bound, skip, leave, part)

    def uniform_branch(self, depth: int) -> Statement:
        condition = self.uniform_expression("bool", 2)
        with self.inner():
            then = self.uniform_block(depth - 1, 2)
        with self.inner():
            otherwise = self.uniform_block(depth - 1, 2) if self.chance(2) else []
        return branched(condition, then, otherwise)

    def uniform_declaration(self) -> Statement:
        kind, name = self.kind(), self.name("u")
        statement = assigned(name, reduced(self.uniform_expression(kind, 2)), f"const {kind} {{}} = {{}};")
        for leaves in (self.uniform, self.variables):
            leaves.setdefault(kind, []).append(contents(kind, name))
        return statement

    def leaving(self) -> Statement:
        """Some threads leave, some of them after writing. A group's first thread stays, or all of the group go."""
        form = self.pick("edge", "late", "some", "groups")
        if form == "edge":
            limit = self.draw(st.integers(1, self.threads))
            condition = condition_of(f"i >= {limit}u", lambda s: s.variables["i"] >= limit)
        elif form == "late":
            limit = self.draw(st.integers(1, 64))
            condition = condition_of(f"t >= {limit}u", lambda s: s.variables["t"] >= limit)
        elif form == "groups":
            condition = self.uniform_expression("bool", 2)
        else:
            condition = self.all_but_first(self.expression("bool", 2))
        return returned(condition, self.stores() if self.chance(2) else [])

    def all_but_first(self, e: Expression) -> Expression:
        def value(s):
            late = s.variables["t"] != 0
            return late & e.value(s.where(late))

        return condition_of(f"t != 0u && {e.text}", value)

    def stores(self) -> list[Statement]:
        """All variables that are outputs go to their places."""
        return [
            written(kind, column, name)
            for kind, names in self.outputs.items()
            for column, name in enumerate(names)
        ]

    # --- what each thread does for itself ----------------------------------------------------------------------------

    def declare(self, kind: str, name: str) -> None:
        """From here on the variable may be read, and what is assigned to it later is no larger."""
        self.variables.setdefault(kind, []).append(contents(kind, name))
        self.assignable[kind].append(name)
        if self.nesting == 0:
            self.outputs[kind].append(name)

    def observation(self) -> list[Statement]:
        """What arrays hold at the end, in variables: each thread looks at what belongs to another."""
        another = arithmetic("+", variable("uint", "t", 200, 0), literal("uint", 3))
        self.own = dict.fromkeys(self.own, False)
        found = []
        for array in self.arrays:
            if array.space != "input":
                name = self.name()
                form = f"{array.kind} {{}} = {{}};"
                found.append(assigned(name, element(array, another), form))
                self.declare(array.kind, name)
        return [silent(self.pick(*BARRIERS)), *found] if found else []

    def declaration(self, plain: bool = False) -> Statement:
        kind = self.kind()
        if not plain and self.chance(3):
            parts = [self.small(kind, 2) for _ in range(self.draw(st.integers(2, 4)))]
            style = self.pick("array", "box")
            name = self.name("a") + ".cells" * (style == "box")
            array = Array(kind, name, len(parts), "local")
            statement = declared_local(array, parts, style)
            self.arrays.append(array)
            return statement
        name = self.name()
        statement = assigned(name, self.small(kind), f"{kind} {{}} = {{}};")
        self.declare(kind, name)
        return statement

    def block(self, depth: int) -> list[Statement]:
        return [self.change(depth) for _ in range(self.draw(st.integers(1, 2)))]

    def change(self, depth: int) -> Statement:
        """A statement that changes variables or elements that exist."""
        changes: list[Callable[[], Statement]] = []
        if any(self.assignable.values()):
            changes += [self.assignment] * 3
        if self.own_arrays(atomic=False):
            changes += [self.own_store] * 2
        if any(array.space == "local" for array in self.arrays):
            changes.append(self.local_store)
        if self.bins or self.own_arrays(atomic=True):
            changes += [self.update] * 2
        if depth or not changes:
            depth = max(depth, 1)
            forms = (self.branch, self.branch, self.loop, self.loop, self.switch, self.early_return)
            changes += [lambda form=form: form(depth) for form in forms]
        return self.draw(st.sampled_from(changes))()

    def assignment(self) -> Statement:
        kind = self.pick(*[k for k in NUMBERS if self.assignable[k]])
        name = self.pick(*self.assignable[kind])
        if kind == "uint" and self.chance(3):
            op, e = self.pick("+", "-", "*", "&", "|", "^"), self.expression(kind)
            function = {"+": np.add, "-": np.subtract, "*": np.multiply}.get(op) or (
                {"&": np.bitwise_and, "|": np.bitwise_or, "^": np.bitwise_xor}[op]
            )
            made = Expression(kind, e.text, lambda s: function(s.variables[name], e.value(s)), np.inf)
            return assigned(name, made, f"{{}} {op}= {{}};")
        functors = [f for f in self.functors if kind in f.kinds and (self.simd or not f.meets)]
        if functors and self.chance(2):
            # Not in expressions: between the operands of `?:` and `&&`, lanes of two calls would meet on the CPU.
            a, b = self.two(lambda: self.small(kind, 2), lambda: self.small(kind, 2))
            functor = self.draw(st.sampled_from(functors))
            return assigned(name, reduced(functor.call(a, b, self.draw(st.booleans()), 0)))
        return assigned(name, self.small(kind))

    def own_store(self) -> Statement:
        array = self.draw(st.sampled_from(self.own_arrays(atomic=False)))
        pointer = self.pointers.get(array.name)
        form = f"{pointer} = {{1}};" if pointer and self.chance(2) else "{} = {};"
        return stored(array, None, self.small(array.kind, 2), form)

    def local_store(self) -> Statement:
        array = self.draw(st.sampled_from([a for a in self.arrays if a.space == "local"]))
        index, e = self.index_and_value(array.kind)
        if array.name.endswith(".cells") and self.chance(2):
            return put(array, index, e)
        return stored(array, index, e, "{} = {};")

    def update(self) -> Statement:
        array = self.draw(st.sampled_from([*self.bins, *self.own_arrays(atomic=True)]))
        op = self.pick(*TOGETHER.get(array.op, (array.op,)))
        return updated(array, op, *self.index_and_value(array.kind))

    def branch(self, depth: int) -> Statement:
        otherwise = self.block(depth - 1) if self.chance(2) else []
        return branched(self.expression("bool", 2), self.block(depth - 1), otherwise)

    def loop(self, depth: int) -> Statement:
        style, bound, name = (
            self.pick("up", "down", "while", "do"),
            self.expression("uint", 1),
            self.name("k"),
        )
        with self.inner(variables=variable("uint", name, 4, 0)):
            skip = self.expression("bool", 1) if self.chance(3) else None
            part = self.block(depth - 1)
            leave = self.expression("bool", 1) if self.chance(3) else None
        return repeated(name, style, bound, skip, leave, part)

    def switch(self, depth: int) -> Statement:
        number, falls, simd = self.expression("uint", 1), self.chance(3), self.simd
        # Where lanes of two cases meet, it is not defined whether they take part in one simd operation.
        self.simd = simd and not falls
        cases = [self.block(depth - 1) for _ in range(self.draw(st.integers(2, 3)))]
        self.simd = simd
        return switched(number, cases, falls)

    def early_return(self, _: int) -> Statement:
        return returned(self.all_but_first(self.expression("bool", 2)), [])
