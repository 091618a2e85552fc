"""Loops over the threads of a threadgroup, as text: the places in which variables live from one loop to the next, and
what each loop therefore begins and ends with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zmlx.metal.statements import Range, Statement, Unclear
from zmlx.metal.tokens import join
from zmlx.translate.uniform import Uniformity
from zmlx.translate.variables import Variable

#: Attributes that follow from a thread's index in its threadgroup.
_BY_INDEX = {
    "thread_index_in_threadgroup": "zmlx_t",
    "thread_index_in_simdgroup": "zmlx_t % 32u",
    "thread_index_in_quadgroup": "zmlx_t % 4u",
    "simdgroup_index_in_threadgroup": "zmlx_t / 32u",
    "quadgroup_index_in_threadgroup": "zmlx_t / 4u",
}
#: So many variables with a place for each thread fit the stack.
_MAX_PLACES = 64
#: What runs once for each thread.
LAMBDA = "[&](const zmlx::Thread& zmlx_thread, uint32_t zmlx_t) ZMLX_LAMBDA"


@dataclass
class Region:
    """Statements that one loop over the threads will run, and their texts."""

    statements: list[Statement] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


class Places:
    """The variables that have a place for each thread; `lines` are their declarations, still to be written."""

    def __init__(self, uniformity: Uniformity) -> None:
        self.variables = uniformity.variables
        self.fragment = uniformity.fragment
        self.lines: list[str] = []
        self._taken: dict[int, Variable] = {}

    def text(self, span: Range) -> str:
        """Code as translated so far."""
        return join(self.fragment.tokens(*span)) if span[0] <= span[1] else ""

    def take(self, variable: Variable) -> str:
        """Give a variable a place, whose name this returns."""
        self._taken[variable.number] = variable
        if len(self._taken) > _MAX_PLACES:
            raise Unclear(f"more than {_MAX_PLACES} variables that live across barriers")
        return f"zmlx_e{variable.number}"

    def is_taken(self, variable: Variable) -> bool:
        """Whether a variable has a place."""
        return variable.number in self._taken

    def open_parameters(self) -> None:
        """The attributes that all threads share, and places for the parameters that threads change."""
        used = self.variables.names(0, len(self.fragment) - 1)
        for variable in self.variables.all:
            name = variable.name
            if variable.statement is not None or name not in used:
                continue
            if variable.origin != "attribute" and not variable.uniform:
                self.lines.append(
                    f"zmlx::Each {self.take(variable)}(zmlx_group, {LAMBDA} {{ return {name}; }});"
                )
            elif variable.origin == "attribute" and variable.uniform:
                self.lines.append(f"const auto {name} = zmlx_group.thread(zmlx_group.begin).{name}();")

    def outlives(self, variable: Variable, last: int) -> bool:
        """Whether a variable needs a place because it is named, or pointed to, behind token ``last``."""
        first, end = last + 1, variable.scope[1]
        if variable.addressed:
            return True
        return not variable.derived and first <= end and variable.name in self.variables.names(first, end)

    def around(self, spans: Sequence[Range], in_place: bool = False) -> tuple[list[str], list[str]]:
        """What a loop that runs these pieces of code begins and ends with: variables come from their places, and
        those that are changed go back there, or are changed in their places."""
        names: frozenset[str] = frozenset().union(*(self.variables.names(*span) for span in spans))
        changed = {variable for span in spans for _, variable, _ in self.variables.writes(*span)}
        before, after = [], []
        for variable in self._used(names, spans[0][0]):
            name, place = variable.name, f"zmlx_e{variable.number}[zmlx_t]"
            if variable.origin == "attribute":
                before.append(f"const auto {name} = {_BY_INDEX.get(name, f'zmlx_thread.{name}()')};")
            elif variable.derived and variable.statement is not None:
                if variable is self.variables.of(variable.statement)[0]:
                    before.append(self.text((variable.statement.first, variable.statement.last)))
            elif variable.pinned or (in_place and variable in changed):
                before.append(f"auto& {name} = {place};")
            elif variable in changed or variable.changed_by_macro:
                before.append(f"auto {name} = {place};")
                after.append(f"{place} = {name};")
            else:
                before.append(f"const auto {name} = {place};")
        return before, after

    def _used(self, names: frozenset[str], at: int) -> list[Variable]:
        """The variables behind names that a loop cannot see as they are, in the order of their declarations."""
        found: dict[int, Variable] = {}
        left = list(names)
        while left:
            variable = self.variables.at(left.pop(), at)
            if variable is None or variable.number in found:
                continue
            attribute = variable.origin == "attribute" and not variable.uniform
            if attribute or variable.derived or variable.number in self._taken:
                found[variable.number] = variable
            if variable.derived and variable.statement is not None:
                left += self.variables.names(variable.statement.first, variable.statement.last)
        return [found[number] for number in sorted(found)]

    def loop(self, region: Region, extra: Range = (0, -1)) -> tuple[list[str], list[str]]:
        """The lines of a region, and those that end it. ``extra`` is an expression that follows the region."""
        spans = [*((s.first, s.last) for s in region.statements), extra]
        lines, after = self.around(spans)
        last = region.statements[-1].last if region.statements else -1
        for statement, text in zip(region.statements, region.texts, strict=True):
            lines.append(text)
            for variable in self.variables.of(statement):
                outlives = self.outlives(variable, last)
                place = self._declare(variable) if outlives else ""
                if variable.pinned:
                    own = f"zmlx_v{variable.number}"
                    home = f"{place}.put(zmlx_t, {own})" if outlives else own
                    lines.append(f"auto& {variable.name} = {home};")
                elif outlives:
                    after.append(f"{place}[zmlx_t] = {variable.name};")
        return lines, after

    def _declare(self, variable: Variable) -> str:
        """The place of a variable whose type its declaration tells."""
        declarator, statement = variable.declarator, variable.statement
        assert declarator is not None
        assert statement is not None
        if declarator.reference:
            raise Unclear(f"the reference `{variable.name}` lives across a barrier")
        kind = self._type(statement.type, keep_const=declarator.pointer)
        first = declarator.name
        while first - 1 > statement.type[1] and self.fragment.text(first - 1) != ",":
            first -= 1
        stars = "*" * sum(self.fragment.text(i) == "*" for i in range(first, declarator.name))
        extents = self.text(declarator.extents) if declarator.extents else ""
        place = self.take(variable)
        self.lines.append(f"zmlx::Each<{kind}{stars}{extents}> {place};")
        return place

    def _type(self, span: Range, keep_const: bool) -> str:
        """A declaration's type for a place: nothing in a place is constant, but what it points to may be."""
        dropped = {"static"} if keep_const else {"static", "const"}
        kept = (i for i in range(span[0], span[1] + 1) if self.fragment.text(i) not in dropped)
        return " ".join(self.text((i, i)) for i in kept)
