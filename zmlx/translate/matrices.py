"""Simdgroup matrices in loops over threads.

Each thread has a place for its two elements, as for other variables. What a simdgroup does with a matrix, the group
calls once for each simdgroup, on the places of its lanes (``runtime/host/matrices.h``)::

    simdgroup_load(a, s + k, 8);    →    group.each_simdgroup([&](thread, t, lanes) {
                                           zmlx_matrices::simdgroup_load(lanes, held(a's place, t, a), s + k, 8);
                                         });

Pointers and numbers are those of its first lane, which for Metal are those of all. A constructor that puts a number
on the diagonal is told the lane.
"""

from __future__ import annotations

from zmlx.metal.declarations import declarations
from zmlx.metal.statements import Range, Statement, Unclear
from zmlx.metal.structure import Program
from zmlx.translate.convergence import MATRIX_FUNCTIONS, MATRIX_TYPES
from zmlx.translate.places import LAMBDA, Places
from zmlx.translate.uniform import Uniformity
from zmlx.translate.variables import Body

_LANE = "zmlx::Lane{zmlx_t % 32u}"
_EACH_SIMDGROUP = "[&](const zmlx::Thread& zmlx_thread, uint32_t zmlx_t, uint32_t zmlx_lanes) ZMLX_LAMBDA"


def check_types(program: Program) -> None:
    """Raise `Unclear` where a matrix type has a name that its constructors do not show."""
    header, body = program.header.main, program.body.main
    # A function's own are put into the body with it, or nothing calls it.
    functions = (d for d in declarations(header) if d.kind == "function" and not d.scope)
    erased = header.erased.union(*(range(d.first, d.last + 1) for d in functions))
    for index in range(len(header)):
        if header.text(index) in MATRIX_TYPES and index not in erased:
            raise Unclear(f"`{header.text(index)}` in the header")
    for index in range(len(body)):
        if body.text(index) in MATRIX_TYPES:
            first = index
            while first > 0 and body.text(first - 1) not in (";", "{", "}"):
                first -= 1
            if body.text(first) in ("using", "typedef", "struct", "class", "union"):
                raise Unclear(f"`{body.text(first)}` of `{body.text(index)}`")


def tell_lanes(body: Body) -> None:
    """Tell the matrices' constructors the lane."""
    fragment = body.fragment
    opened: list[int] = []
    for index in range(len(fragment)):
        if fragment.text(index) in MATRIX_TYPES:
            opened.append(fragment.skip_group(index + 1) if fragment.text(index + 1) == "<" else index + 1)
    for outer in body.statements:
        for statement in outer.walk():
            if statement.kind == "declaration" and is_of_matrices(body, statement):
                opened += [d.name + 1 for d in statement.declarators if d.form in ("(", "{")]
    for index in opened:
        if fragment.text(index) in ("(", "{") and fragment.partner(index) > index + 1:
            fragment.code[index].after = f"{_LANE}, {fragment.code[index].after}"


def is_of_matrices(body: Body, statement: Statement) -> bool:
    """Whether a statement declares matrices, or arrays of them."""
    first, last = statement.type
    return any(body.fragment.text(i) in MATRIX_TYPES for i in range(first, last + 1))


class MatrixCalls:
    """Writes the calls."""

    def __init__(self, uniformity: Uniformity, places: Places) -> None:
        self.uniformity = uniformity
        self.variables = uniformity.variables
        self.fragment = uniformity.fragment
        self.places = places
        self._count = 0
        #: The calls that are still to be written.
        self.left = set(uniformity.body.matrices)

    def call_of(self, statement: Statement) -> int:
        """The name of the function that a statement calls, as a token; -1 if it calls none of a matrix."""
        matrices = self.uniformity.body.matrices
        found = [i for i in range(statement.first, statement.last + 1) if i in matrices]
        if not found:
            return -1
        index = statement.first
        index += self.fragment.text(index) == "::"
        while self.fragment.text(index + 1) == "::":
            index += 2
        if (
            statement.kind != "simple"
            or found != [index]
            or self.fragment.partner(index + 1) != statement.last - 1
        ):
            raise Unclear(f"`{self.fragment.text(found[0])}` that is not a statement of its own")
        return index

    def write(self, index: int, mask: str) -> tuple[list[str], list[str]]:
        """The lines of the call at token ``index`` by the threads in ``mask``, and those of one thread's behind it."""
        name, closed = self.fragment.text(index), self.fragment.partner(index + 1)
        count = MATRIX_FUNCTIONS[name]
        self.left.discard(index)
        parts = list(self.fragment.pieces(index + 2, closed - 1))
        if len(parts) < count:
            raise Unclear(f"`{name}` of fewer arguments than it takes")
        lines: list[str] = []
        arguments, used = ["zmlx_lanes"], list(parts[count:])
        behind: list[str] = []
        for number, part in enumerate(parts[:count]):
            place = self._place(part)
            if place:
                used.append(part)
                arguments.append(f"zmlx::held({place}, zmlx_t, {self.places.text(part)})")
                continue
            self._count += 1
            copy = f"zmlx_x{self._count}"
            before, after = self.places.around([part])
            if after:
                raise Unclear(f"an argument of `{name}` that changes others")
            value = f"return {self.places.text(part)};"
            lines += [f"zmlx::Each {copy}(zmlx_group, {mask}{LAMBDA} {{", *before, value, "});"]
            arguments.append(f"zmlx::held({copy}, zmlx_t, {copy}[zmlx_t])")
            if number == 0 and name != "simdgroup_store":
                behind.append(f"{self.places.text(part)} = {copy}[zmlx_t];")
        arguments += [self.places.text(part) for part in parts[count:]]
        before, after = self.places.around(used, in_place=True) if used else ([], [])
        if after:
            raise Unclear(f"an argument of `{name}` that changes others")
        call = f"metal::zmlx_matrices::{name}({', '.join(arguments)});"
        marked = f"#line {self.fragment.code[index].line}\n{call}"
        lines += [f"zmlx_group.each_simdgroup({mask}{_EACH_SIMDGROUP} {{", *before, marked, "});"]
        return lines, behind

    def _place(self, span: Range) -> str:
        """The place that the lanes' elements of a matrix lie in; empty where a lane may mean another one."""
        variable = self.variables.at(self.fragment.text(span[0]), span[0])
        if variable is None or not self.places.is_taken(variable) or variable.is_pointer:
            return ""
        index = span[0] + 1
        while index <= span[1]:
            text = self.fragment.text(index)
            if text == "[" and self.uniformity.is_uniform((index + 1, self.fragment.partner(index) - 1)):
                index = self.fragment.partner(index) + 1
            elif text == "." and self.fragment.is_name(index + 1):
                index += 2
            else:
                return ""
        return f"zmlx_e{variable.number}"
