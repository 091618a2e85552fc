"""Which variables have one value for the whole threadgroup, and what the group therefore does only once.

A variable is *uniform* if every thread gives it the same value at the same time, as far as the text tells: it is made
of uniform values, and changed only by statements that all threads execute together. `Uniformity` starts from the
assumption that all are, and takes it back until nothing contradicts it. What is left of the others may be *derived*:
each thread can work it out again from its position.
"""

from __future__ import annotations

from collections.abc import Iterator

from zmlx.metal.statements import Range, Statement, Unclear, exits
from zmlx.translate.convergence import uses_lanes
from zmlx.translate.variables import (
    ASSIGNMENTS,
    BEFORE_OPERAND,
    STEPS,
    Variable,
    Variables,
    close_over_macros,
)

#: Conversions, which cost nothing to do again.
_CHEAP_CALLS = frozenset(
    f"{kind}{lanes}"
    for kind in (
        "uint",
        "int",
        "ulong",
        "long",
        "ushort",
        "short",
        "uchar",
        "char",
        "size_t",
        "float",
        "bool",
    )
    for lanes in ("", "2", "3", "4")
)


class Uniformity:
    """Says of the variables of a body whether they are uniform or derived, and of its statements what they are to the
    group: `Body.masked` are those that only some threads enter."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.body = variables.body
        self.fragment = variables.fragment
        self._changed = True
        while self._changed:
            self._changed = False
            self._visit(self.body.statements, ())
        self._find_derived()

    def is_uniform(self, span: Range) -> bool:
        """Whether an expression has one value for all threads that evaluate it together, and no effect."""
        return all(self._is_uniform_token(i) for i in range(span[0], span[1] + 1))

    def _is_uniform_token(self, index: int) -> bool:
        text, before = self.fragment.text(index), self.fragment.text(index - 1)
        if not self.fragment.is_name(index):
            if text in ASSIGNMENTS or text in STEPS or text == "->":
                return False
            if text in ("*", "&"):
                return before not in BEFORE_OPERAND
            return not (text == "[" and not self.fragment.is_name(index - 1))
        if before in (".", "->", "::"):
            return True
        variable = self.variables.at(text, index)
        if variable is None:
            return all(
                self._is_uniform_name(name, index) for name in close_over_macros(self.body.program, [text])
            )
        subscript = self.fragment.text(index + 1) == "["
        return variable.uniform and (not subscript or variable.origin in ("input", "shape", "constant"))

    def _is_uniform_name(self, name: str, index: int) -> bool:
        """A name that is no variable, or stands in a macro."""
        variable = self.variables.at(name, index)
        if variable is not None:
            return variable.uniform and variable.origin in ("attribute", "constant", "local")
        return (
            name not in self.variables.functions and not uses_lanes(name) and not name.startswith("atomic_")
        )

    def is_group_step(self, statement: Statement) -> bool:
        """Whether a statement assigns uniform values to uniform variables, so that the group executes it once."""
        return statement.kind == "simple" and self._is_step((statement.first, statement.last - 1))

    def is_group_steps(self, span: Range) -> bool:
        """The same of the comma-separated assignments of a ``for``."""
        return all(self._is_step(part) for part in self.fragment.pieces(*span))

    def _is_step(self, span: Range) -> bool:
        target, value = self._assigned(span)
        if target is None:
            return False
        return target.uniform and target.origin != "attribute" and self.is_uniform(value)

    def _assigned(self, span: Range) -> tuple[Variable | None, Range]:
        """The variable and the value of ``v op= value``, ``v++`` and ``++v``; None for anything else."""
        first, last = span
        empty = (last + 1, last)
        if self.fragment.text(first) in STEPS and first + 1 == last:
            return self.variables.at(self.fragment.text(last), last), empty
        if not self.fragment.is_name(first):
            return None, empty
        variable = self.variables.at(self.fragment.text(first), first)
        if self.fragment.text(first + 1) in STEPS and first + 1 == last:
            return variable, empty
        if self.fragment.text(first + 1) in ASSIGNMENTS and first + 1 < last:
            return variable, (first + 2, last)
        return None, empty

    def _visit(self, statements: list[Statement], masks: tuple[Statement, ...]) -> None:
        for statement in statements:
            if statement in self.body.grouped:
                self._visit_grouped(statement, masks)
            elif statement.kind == "declaration":
                self._visit_declaration(statement, masks)
            else:
                self._visit_plain(statement, masks)

    def _visit_declaration(self, statement: Statement, masks: tuple[Statement, ...]) -> None:
        for variable in self.variables.of(statement):
            variable.masks = masks
            declarator = variable.declarator
            assert declarator is not None
            if variable.origin in ("shared", "constant"):
                self._spoil(variable, variable.origin == "shared", False)
                continue
            if self._is_of_lanes(statement):  # of each of which a lane has a part
                self._spoil(variable, True, False)
            table = variable.is_array and not declarator.constant
            known = declarator.initialiser is None or self.is_uniform(declarator.initialiser)
            # Of `uint a = 0, b = t;` the group cannot have one half.
            alone = all(other.uniform for other in self.variables.of(statement))
            self._spoil(variable, table or declarator.reference or not known or not alone, False)
            if declarator.reference and declarator.initialiser is not None:
                for index in range(declarator.initialiser[0], declarator.initialiser[1] + 1):
                    target = self.variables.at(self.fragment.text(index), index)
                    if target is not None and target.origin in ("local", "input", "output"):
                        self._spoil(target, not declarator.constant, True)
        self._visit_plain(statement, masks)

    def _is_of_lanes(self, statement: Statement) -> bool:
        return any(uses_lanes(self.fragment.text(i)) for i in range(statement.type[0], statement.type[1] + 1))

    def _visit_plain(self, statement: Statement, masks: tuple[Statement, ...]) -> None:
        step = self.is_group_step(statement)
        self._visit_writes((statement.first, statement.last), masks, step)

    def _visit_writes(self, span: Range, masks: tuple[Statement, ...], step: bool) -> None:
        """``step``: the group executes this once, which is as good as all threads only where all execute it."""
        for _, variable, by_address in self.variables.writes(*span):
            if variable.origin == "attribute":
                raise Unclear(f"`{variable.name}` is assigned to")
            variable.written = True
            self._spoil(variable, by_address or not step or variable.masks != masks, by_address)

    def _visit_grouped(self, statement: Statement, masks: tuple[Statement, ...]) -> None:
        if statement.kind == "block":
            self._visit(statement.children, masks)
            return
        uniform = self.is_uniform(statement.head)
        if statement.kind == "loop":
            leaving = any(e.keyword != "return" for e in self._thread_exits(statement))
            uniform &= not leaving and self.is_group_steps(statement.step)
            if statement.init is not None:
                uniform &= self._is_group_init(statement.init)
        if not uniform and statement not in self.body.masked:
            self.body.masked.add(statement)
            self._changed = True
        inner = (*masks, statement) if statement in self.body.masked else masks
        if statement.init is not None:
            self._visit([statement.init], masks)
        self._visit_writes(statement.head, inner, False)
        self._visit_writes(statement.step, inner, self.is_group_steps(statement.step))
        self._visit(statement.children, inner)
        self._visit(statement.otherwise or [], inner)

    def _is_group_init(self, statement: Statement) -> bool:
        if statement.kind == "declaration":
            return all(v.uniform for v in self.variables.of(statement))
        return self.is_group_steps((statement.first, statement.last - 1))

    def _thread_exits(self, loop: Statement) -> Iterator[Statement]:
        """The ``break`` and ``continue`` of a loop that only some threads may take."""
        yield from self._exits_in(loop.children, False)

    def _exits_in(self, statements: list[Statement], diverged: bool) -> Iterator[Statement]:
        for statement in statements:
            if statement.kind == "exit":
                if diverged:
                    yield statement
            elif statement in self.body.grouped and statement.kind != "loop":
                inner = diverged or statement in self.body.masked or not self._is_plain_if(statement)
                yield from self._exits_in(statement.children, inner)
                yield from self._exits_in(statement.otherwise or [], inner)
            else:
                yield from exits(statement)

    def _is_plain_if(self, statement: Statement) -> bool:
        return statement.kind == "block" or self.is_uniform(statement.head)

    def _spoil(self, variable: Variable, written: bool, by_address: bool) -> None:
        if by_address and not variable.addressed:
            variable.pinned = variable.addressed = True
            self._changed = True
        if written and variable.uniform:
            variable.uniform = False
            self._changed = True

    # --- derived values ---

    def _find_derived(self) -> None:
        for variable in self.variables.all:
            if variable.statement is not None and not variable.uniform:
                variable.derived = all(self._is_derived(v) for v in self.variables.of(variable.statement))

    def _is_derived(self, variable: Variable) -> bool:
        declarator = variable.declarator
        if declarator is None or declarator.initialiser is None or variable.origin != "local":
            return False
        fixed = not (variable.written or variable.pinned or declarator.reference)
        return fixed and all(
            self._is_cheap_token(i) for i in range(declarator.initialiser[0], declarator.initialiser[1] + 1)
        )

    def _is_cheap_token(self, index: int) -> bool:
        """Whether a token may stand in what is worked out again: sums and products of what does not change."""
        text, before, behind = (self.fragment.text(index + k) for k in (0, -1, 1))
        if not self.fragment.is_name(index):
            divides = text in ("/", "%") and self.fragment.code[index + 1].kind != "number"
            unary = text in ("*", "&") and before in BEFORE_OPERAND
            return not (divides or unary or text in ASSIGNMENTS or text in STEPS or text in ("->", "?", "{"))
        if before == ".":
            return True
        variable = self.variables.at(text, index)
        if variable is None:
            return text in _CHEAP_CALLS or (behind != "(" and text not in self.body.program.macros)
        if len(self.variables.by_name[text]) > 1 or variable.written:
            return False  # the name may mean another variable where it is worked out again
        if behind == "[":
            return variable.origin in ("shape", "constant")
        return variable.uniform or variable.derived or variable.origin == "attribute"
