"""Arrays of the grammar: local, threadgroup and device arrays, inputs, and atomics, with their meaning.

No kernel has a race. Between two barriers, an array that threads share is either read, by anyone, or each thread keeps
to an element of its own; atomics are either changed, by an operation whose order does not matter, or read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fuzz.expressions import CONTENTS, DTYPES, Expression, State, literal, reduced
from fuzz.statements import Statement

RELAXED = "memory_order_relaxed"


@dataclass(frozen=True)
class Array:
    """An array and the text that stands for it.

    Parameters
    ----------
    kind, name, size
        Of its elements; its text and key in `State.memory`; how many there are.
    space
        ``"local"``, ``"threadgroup"``, ``"device"`` (a part for each threadgroup), ``"bins"`` (atomics for all
        threads of the grid) or ``"input"``.
    own
        Which element belongs to thread ``t`` of the group: 0 its own, 1 from the end, 2 its neighbour's.
    columns
        Of a two-dimensional array; 0 if it has one dimension.
    op
        What changes an atomic array.
    """

    kind: str
    name: str
    size: int
    space: str
    own: int = 0
    columns: int = 0
    op: str = ""

    @property
    def is_shared(self) -> bool:
        """Whether barriers order what threads do with it."""
        return self.space in ("threadgroup", "device")

    def at(self, index: str) -> str:
        """The element whose number is ``index``, which need not be within the array."""
        if self.columns:
            rows = self.size // self.columns
            return f"{self.name}[{index} / {self.columns}u % {rows}u][{index} % {self.columns}u]"
        return f"{self.name}[{index} % {self.size}u]"

    @property
    def own_index(self) -> str:
        return ("t", f"({self.size - 1}u - t)", "(t ^ 1u)")[self.own]

    @property
    def own_element(self) -> str:
        if self.columns:
            return self.at(self.own_index)
        return f"{self.name}[{self.own_index}]"

    def own_place(self, s: State) -> Any:
        index = (s.index, self.size - 1 - s.index, s.index ^ 1)[self.own]
        return self.place(s, index)

    def place(self, s: State, index: Any) -> tuple[Any, ...]:
        """Index of each thread's element in the array of `State.memory`."""
        within = (index % self.size).astype("int64")
        if self.space == "local":
            return np.arange(len(s.group)), within
        return (s.group, within) if self.is_shared else (within,)

    def new_memory(self, s: State) -> Any:
        """Memory for `State.memory`, of zeros."""
        shape = {"local": (len(s.group), self.size), "bins": (self.size,), "input": (self.size,)}
        return np.zeros(shape.get(self.space, (int(s.group.max()) + 1, self.size)), DTYPES[self.kind])


def element(array: Array, index: Expression) -> Expression:
    """An element to read."""
    place = array.at(index.text)
    text = f"atomic_load_explicit(&{place}, {RELAXED})" if array.op else place
    e = _contents(array, text, lambda s: s.memory[array.name][array.place(s, index.value(s))])
    return reduced(e) if array.op else e


def own_element(array: Array, text: str) -> Expression:
    """The thread's own element, by its text or a pointer's."""
    return _contents(array, text, lambda s: s.memory[array.name][array.own_place(s)])


def _contents(array: Array, text: str, value: Callable[[State], Any]) -> Expression:
    bound, bits = CONTENTS[array.kind]
    if array.op:
        bound = 2.0**30 if array.kind == "int" else 2.0**24 if array.kind == "float" else np.inf
    return Expression(array.kind, text, value, bound, bits)


def stored(array: Array, index: Expression | None, e: Expression, form: str) -> Statement:
    """``form`` (``"{} = {};"``) on an element of a local array, or on the thread's own one if there is no index."""

    def run(s: State) -> None:
        value = e.value(s)
        place = array.own_place(s) if index is None else array.place(s, index.value(s))
        mask = s.mask
        s.memory[array.name][tuple(part[mask] for part in place)] = value[mask]

    return Statement(form.format(array.own_element if index is None else array.at(index.text), e.text), run)


def put(array: Array, index: Expression, e: Expression) -> Statement:
    """The same through a member function of the struct that holds a local array."""
    box = array.name.removesuffix(".cells")
    made = stored(array, index, e, "")
    return Statement(f"{box}.put({index.text}, {e.text});", made.run)


def declared_local(array: Array, parts: list[Expression], style: str) -> Statement:
    """A local array; ``style`` ``"box"``: in a struct."""
    texts = ", ".join(part.text for part in parts)
    if style == "box":
        box = array.name.removesuffix(".cells")
        text = f"Box<{array.kind}, {array.size}> {box} = {{{{{texts}}}}};"
    else:
        text = f"{array.kind} {array.name}[{array.size}] = {{{texts}}};"

    def run(s: State) -> None:
        values = np.stack([part.value(s) for part in parts], 1)
        memory = s.memory.setdefault(array.name, array.new_memory(s))
        memory[s.mask] = values[s.mask]

    return Statement(text, run)


def declared_shared(array: Array, first: float, size_text: str) -> Statement:
    """A threadgroup array, which the group's first thread fills. A barrier has to follow."""
    number = literal(array.kind, first)
    kind = f"atomic_{array.kind}" if array.op else array.kind
    extents = f"[{array.size // array.columns}][{array.columns}]" if array.columns else f"[{size_text}]"
    place = array.at("k") if array.columns else f"{array.name}[k]"
    store = (
        f"atomic_store_explicit(&{place}, {number.text}, {RELAXED})"
        if array.op
        else f"{place} = {number.text}"
    )
    text = f"threadgroup {kind} {array.name}{extents}; "
    text += f"if (t == 0u) for (uint k = 0u; k < {array.size}u; ++k) {store};"

    def run(s: State) -> None:
        s.memory[array.name] = array.new_memory(s)
        s.memory[array.name][:] = number.value(s)[0]

    return Statement(text, run)


def swapped(array: Array, name: str, index: Expression, e: Expression, callee: str) -> Statement:
    """A new variable from a header function with barriers: write one's own element, read another."""
    at = f"{index.text} % {array.size}u"
    text = f"{array.kind} {name} = {callee}({array.name}, {array.own_index}, {at}, {e.text});"
    store = stored(array, None, e, "")

    def run(s: State) -> None:
        # Arguments are evaluated before the function writes.
        place = array.place(s, index.value(s))
        store.run(s)
        new = s.memory[array.name][place]
        old = s.variables.get(name)
        s.variables[name] = new if old is None else np.where(s.mask, new, old)

    return Statement(text, run)


#: Operations on atomics: NumPy's function, and the text of a compare-exchange loop's next value; without one, there
#: is a function ``atomic_fetch_<name>_explicit``.
_UPDATES = {
    "add": (np.add, ""),
    "sub": (np.subtract, ""),
    "min": (np.minimum, ""),
    "max": (np.maximum, ""),
    "and": (np.bitwise_and, ""),
    "or": (np.bitwise_or, ""),
    "xor": (np.bitwise_xor, ""),
    "swap add": (np.add, "before + with"),
    "swap max": (np.maximum, "max(before, with)"),
    "swap product": (np.multiply, "before * with"),
}
#: What may be done to the same atomic, in any order.
TOGETHER = {"add": ("add", "sub", "swap add"), "max": ("max", "swap max")}
#: What may be done to atomics of a kind. Metal has only additions of float.
ATOMIC_OPS = {
    "int": ("add", "min", "max", "and", "or", "xor"),
    "uint": ("add", "min", "max", "and", "or", "xor", "swap product"),
    "float": ("add", "swap max"),
}


def updated(array: Array, op: str, index: Expression, operand: Expression) -> Statement:
    """An atomic operation on an element."""
    function, following = _UPDATES[op]
    if following:
        text = (
            f"{{ auto at = &{array.at(index.text)}; {array.kind} with = {operand.text}; "
            f"{array.kind} before = atomic_load_explicit(at, {RELAXED}); "
            f"while (!atomic_compare_exchange_weak_explicit(at, &before, {following}, {RELAXED}, {RELAXED})) {{}} }}"
        )
    else:
        text = f"atomic_fetch_{op}_explicit(&{array.at(index.text)}, {operand.text}, {RELAXED});"

    def run(s: State) -> None:
        mask = s.mask
        place = tuple(part[mask] for part in array.place(s, index.value(s)))
        function.at(s.memory[array.name], place, operand.value(s)[mask])

    return Statement(text, run)
