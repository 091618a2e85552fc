"""The variables of a kernel's body: where they are written, and which have one value for the whole threadgroup.

A variable is *uniform* if every thread gives it the same value at the same time, as far as the text tells: it is
made of uniform values, and changed only by statements that all threads execute together. `Variables` starts from
the assumption that all are, and takes it back until nothing contradicts it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from zmlx.launch.convergence import SITED_FUNCTIONS
from zmlx.launch.signature import ATTRIBUTES, KernelSource
from zmlx.launch.statements import Declarator, Range, Statement, Unclear
from zmlx.launch.structure import Fragment, Macro, Program

#: Attributes that are the same for all threads of a threadgroup.
UNIFORM_ATTRIBUTES = frozenset(
    {
        "dispatch_quadgroups_per_threadgroup",
        "dispatch_simdgroups_per_threadgroup",
        "dispatch_threads_per_threadgroup",
        "grid_origin",
        "grid_size",
        "quadgroups_per_threadgroup",
        "simdgroups_per_threadgroup",
        "thread_execution_width",
        "threadgroup_position_in_grid",
        "threadgroups_per_grid",
        "threads_per_grid",
        "threads_per_simdgroup",
        "threads_per_threadgroup",
    }
)

ASSIGNMENTS = frozenset({"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="})
_STEPS = frozenset({"++", "--"})
#: Behind these a ``*`` or ``&`` has one operand.
_OPERATORS = "( [ { , ; = ? : + - * / % & | ^ ! ~ < > && || == != <= >= return"
_BEFORE_OPERAND = frozenset(_OPERATORS.split()) | ASSIGNMENTS
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
#: Functions of the library that write through an argument.
_WRITING = frozenset({"sincos", "modf", "frexp", "fract"})


@dataclass(eq=False)
class Variable:
    """A parameter of the kernel, or a variable that a statement of the group declares.

    Parameters
    ----------
    name, number
        Its name, and a number that tells it from others of that name.
    scope
        The tokens in which it can be named.
    origin
        ``"input"``, ``"output"``, ``"shape"``, ``"attribute"``, ``"shared"`` (threadgroup memory), ``"constant"``
        or ``"local"``.
    masks
        The divergent statements around its declaration.
    pinned
        It is known by its address, which must not change.
    written
        It is changed behind its declaration.
    derived
        Each thread can work it out again at any time: from its position, without reading memory.
    """

    name: str
    number: int
    scope: Range
    origin: str
    statement: Statement | None = None
    declarator: Declarator | None = None
    masks: tuple[Statement, ...] = ()
    uniform: bool = True
    pinned: bool = False
    written: bool = False
    derived: bool = False

    @property
    def is_pointer(self) -> bool:
        return self.origin in ("input", "output", "shape") or (
            self.declarator is not None and self.declarator.pointer
        )


@dataclass
class Body:
    """A kernel's body as statements, and what is known of each.

    ``meets`` are the tokens at which threads meet. ``grouped`` are statements that the group executes as one, part by
    part; of those, ``masked`` are the ones that only some threads enter.
    """

    kernel: KernelSource
    program: Program
    statements: list[Statement]
    barriers: frozenset[int]
    collectives: frozenset[int]
    whole_group: bool
    grouped: set[Statement] = field(default_factory=set)
    masked: set[Statement] = field(default_factory=set)

    @property
    def fragment(self) -> Fragment:
        return self.program.body.main

    def meets(self, statement: Statement) -> bool:
        """Whether threads meet in a statement."""
        return self.meets_in((statement.first, statement.last))

    def meets_in(self, span: Range) -> bool:
        """The same of the tokens from one to another."""
        meetings = self.meetings
        at = bisect_left(meetings, span[0])
        return at < len(meetings) and meetings[at] <= span[1]

    @cached_property
    def meetings(self) -> list[int]:
        return sorted(self.barriers | self.collectives)


class Variables:
    """The variables of a body, and the statements in which the group acts as one."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.fragment = body.fragment
        self.all: list[Variable] = []
        self._by_name: dict[str, list[Variable]] = {}
        self._functions = _header_functions(body.program)
        self._declare_parameters()
        self._declare_locals(body.statements, (0, len(self.fragment) - 1), ())
        self._find_writes_in_macros()
        self._changed = True
        while self._changed:
            self._changed = False
            self._visit(body.statements, ())
        self._find_derived()

    # --- looking up -----------------------------------------------------------------------------------------------

    def at(self, name: str, index: int) -> Variable | None:
        """The variable that a name at token ``index`` means, if it is one of these."""
        found = [v for v in self._by_name.get(name, ()) if v.scope[0] <= index <= v.scope[1]]
        return found[-1] if found else None

    def of(self, statement: Statement) -> list[Variable]:
        """The variables that a statement declares."""
        return [v for v in self.all if v.statement is statement]

    def names(self, first: int, last: int) -> frozenset[str]:
        """The names used from token ``first`` to ``last``, those in macros included."""
        return frozenset(_close(self.body.program, _names(self.fragment, first, last)))

    # --- declarations ---------------------------------------------------------------------------------------------

    def _add(self, name: str, scope: Range, origin: str, **fields: object) -> Variable:
        variable = Variable(name, len(self.all), scope, origin, **fields)  # type: ignore[arg-type]
        self.all.append(variable)
        self._by_name.setdefault(name, []).append(variable)
        return variable

    def _declare_parameters(self) -> None:
        everywhere = (0, len(self.fragment) - 1)
        kernel = self.body.kernel
        for name in kernel.input_names:
            self._add(name, everywhere, "input")
            for information in ("shape", "strides", "ndim"):
                self._add(f"{name}_{information}", everywhere, "shape")
        for name in kernel.output_names:
            self._add(name, everywhere, "output")
        for name in ATTRIBUTES:
            uniform = name in UNIFORM_ATTRIBUTES
            if name == "simdgroup_index_in_threadgroup":
                uniform = not self.body.whole_group
            self._add(name, everywhere, "attribute", uniform=uniform)

    def _declare_locals(
        self, statements: list[Statement], scope: Range, masks: tuple[Statement, ...]
    ) -> None:
        for statement in statements:
            if statement.kind == "declaration":
                self._declare(statement, (statement.first, scope[1]))
            if not self._is_grouped(statement):
                continue
            self.body.grouped.add(statement)
            if statement.init is not None and statement.init.kind == "declaration":
                self._declare(statement.init, (statement.first, statement.last))
            for part in (statement.children, statement.otherwise or []):
                if part:
                    self._declare_locals(part, (part[0].first, part[-1].last), masks)

    def _is_grouped(self, statement: Statement) -> bool:
        """Whether the group goes through a statement part by part: threads meet in it, or leave from it."""
        if statement.kind not in ("block", "if", "loop"):
            return False
        return self.body.meets(statement) or (statement.kind == "if" and bool(exits(statement)))

    def _declare(self, statement: Statement, scope: Range) -> None:
        words = {self.fragment.text(i) for i in range(statement.type[0], statement.type[1] + 1)}
        for declarator in statement.declarators:
            plain = not declarator.pointer and not declarator.reference
            origin = "local"
            if "threadgroup" in words and plain:
                origin = "shared"
            elif "constexpr" in words:
                origin = "constant"
            self._add(
                self.fragment.text(declarator.name),
                (declarator.name, scope[1]),
                origin,
                statement=statement,
                declarator=declarator,
                pinned=declarator.extents is not None,
            )

    # --- writes ---------------------------------------------------------------------------------------------------

    def writes(self, first: int, last: int) -> Iterator[tuple[int, Variable, bool]]:
        """Where variables are changed, as (token, variable, whether by its address)."""
        for index in range(first, last + 1):
            if not self.fragment.is_name(index) or self.fragment.text(index - 1) in (".", "->", "::"):
                continue
            variable = self.at(self.fragment.text(index), index)
            if variable is None or (variable.declarator is not None and variable.declarator.name == index):
                continue
            how = _use(self.fragment, index, variable.is_pointer)
            if how == "read" and self._is_handed_over(index):
                how = "address"
            if how != "read":
                yield index, variable, how == "address"

    def _is_handed_over(self, index: int) -> bool:
        """Whether the name at ``index`` is an argument of what may write to it: a macro, a function of the header,
        or one of the library that returns a second result this way."""
        opened = self.fragment.parent(index)
        while opened >= 0:
            callee = self.fragment.text(opened - 1)
            macro = self.body.program.macros.get(callee)
            if self.fragment.text(opened) == "(" and macro is not None and macro.parameters is not None:
                number = sum(first <= index for first, _ in self.fragment.pieces(opened + 1, index)) - 1
                if self._changes(macro, number):
                    return True
            whole = self.fragment.text(index - 1) in ("(", ",") and self.fragment.text(index + 1) in (
                ")",
                ",",
            )
            direct = opened == self.fragment.parent(index) and self.fragment.text(opened) == "("
            if direct and whole and (callee in self._functions or callee in _WRITING):
                return True
            opened = self.fragment.parent(opened)
        return False

    def _changes(self, macro: Macro, number: int) -> bool:
        """Whether a macro may change its argument of this number."""
        if macro.parameters is None or number >= len(macro.parameters):
            return True
        body, name = macro.body, macro.parameters[number]
        handed = {**self.body.program.macros, **dict.fromkeys((*self._functions, *_WRITING))}
        return any(
            _use(body, i, False) != "read" or body.text(body.parent(i) - 1) in handed
            for i in range(len(body))
            if body.text(i) == name
        )

    def _find_writes_in_macros(self) -> None:
        """A macro's text is executed wherever its name stands: what it writes is written by threads."""
        used = self.names(0, len(self.fragment) - 1)
        for name in used & self.body.program.macros.keys():
            body = self.body.program.macros[name].body
            for index in range(len(body)):
                for variable in self._by_name.get(body.text(index), ()):
                    how = _use(body, index, variable.is_pointer)
                    variable.written |= how != "read"
                    self._spoil(variable, how != "read", how == "address")

    def _spoil(self, variable: Variable, written: bool, by_address: bool) -> None:
        if by_address and not variable.pinned:
            variable.pinned = True
            self._changed = True
        if written and variable.uniform:
            variable.uniform = False
            self._changed = True

    # --- uniform values -------------------------------------------------------------------------------------------

    def is_uniform(self, span: Range) -> bool:
        """Whether an expression has one value for all threads that evaluate it together, and no effect."""
        return all(self._is_uniform_token(i) for i in range(span[0], span[1] + 1))

    def _is_uniform_token(self, index: int) -> bool:
        text, before = self.fragment.text(index), self.fragment.text(index - 1)
        if not self.fragment.is_name(index):
            if text in ASSIGNMENTS or text in _STEPS or text == "->":
                return False
            if text in ("*", "&"):
                return before not in _BEFORE_OPERAND
            return not (text == "[" and not self.fragment.is_name(index - 1))
        if before in (".", "->", "::"):
            return True
        variable = self.at(text, index)
        if variable is None:
            return all(self._is_uniform_name(name, index) for name in _close(self.body.program, [text]))
        subscript = self.fragment.text(index + 1) == "["
        return variable.uniform and (not subscript or variable.origin in ("input", "shape", "constant"))

    def _is_uniform_name(self, name: str, index: int) -> bool:
        """A name that is no variable, or stands in a macro."""
        variable = self.at(name, index)
        if variable is not None:
            return variable.uniform and variable.origin in ("attribute", "constant", "local")
        return name not in self._functions and name not in SITED_FUNCTIONS and not name.startswith("atomic_")

    def _find_derived(self) -> None:
        for variable in self.all:
            if variable.statement is not None and not variable.uniform:
                variable.derived = all(self._is_derived(v) for v in self.of(variable.statement))

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
            unary = text in ("*", "&") and before in _BEFORE_OPERAND
            return not (divides or unary or text in ASSIGNMENTS or text in _STEPS or text in ("->", "?", "{"))
        if before == ".":
            return True
        variable = self.at(text, index)
        if variable is None:
            return text in _CHEAP_CALLS or (behind != "(" and text not in self.body.program.macros)
        if len(self._by_name[text]) > 1 or variable.written:
            return False  # the name may mean another variable where it is worked out again
        if behind == "[":
            return variable.origin in ("shape", "constant")
        return variable.uniform or variable.derived or variable.origin == "attribute"

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
        if self.fragment.text(first) in _STEPS and first + 1 == last:
            return self.at(self.fragment.text(last), last), empty
        if not self.fragment.is_name(first):
            return None, empty
        variable = self.at(self.fragment.text(first), first)
        if self.fragment.text(first + 1) in _STEPS and first + 1 == last:
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
        for variable in self.of(statement):
            variable.masks = masks
            declarator = variable.declarator
            assert declarator is not None
            if variable.origin in ("shared", "constant"):
                self._spoil(variable, variable.origin == "shared", False)
                continue
            table = declarator.extents is not None and not declarator.constant
            known = declarator.initialiser is None or self.is_uniform(declarator.initialiser)
            # Of `uint a = 0, b = t;` the group cannot have one half.
            alone = all(other.uniform for other in self.of(statement))
            self._spoil(variable, table or declarator.reference or not known or not alone, False)
            if declarator.reference and declarator.initialiser is not None:
                for index in range(declarator.initialiser[0], declarator.initialiser[1] + 1):
                    target = self.at(self.fragment.text(index), index)
                    if target is not None and target.origin == "local":
                        self._spoil(target, not declarator.constant, True)
        self._visit_plain(statement, masks)

    def _visit_plain(self, statement: Statement, masks: tuple[Statement, ...]) -> None:
        step = self.is_group_step(statement)
        self._visit_writes((statement.first, statement.last), masks, step)

    def _visit_writes(self, span: Range, masks: tuple[Statement, ...], step: bool) -> None:
        """``step``: the group executes this once, which is as good as all threads only where all execute it."""
        for _, variable, by_address in self.writes(*span):
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
            return all(v.uniform for v in self.of(statement))
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


def exits(statement: Statement) -> list[Statement]:
    """What leaves a statement: ``return``, and the ``break`` and ``continue`` of loops around it."""
    return list(_exits(statement, frozenset()))


def _exits(statement: Statement, caught: frozenset[str]) -> Iterator[Statement]:
    if statement.kind == "exit" and statement.keyword not in caught:
        yield statement
    if statement.kind == "loop":
        caught = caught | {"break", "continue"}
    for child in (*statement.children, *(statement.otherwise or ())):
        yield from _exits(child, caught)


def _use(fragment: Fragment, index: int, pointer: bool) -> str:
    """What happens to the variable at ``index``: ``"read"``, ``"write"`` or ``"address"`` (it can be written later).

    ``pointer``: what stands behind its subscript is no part of it.
    """
    before = fragment.text(index - 1)
    if before in _STEPS:
        return "write"
    if before == "&" and fragment.text(index - 2) in _BEFORE_OPERAND | {""} and not pointer:
        return "address"
    i = index + 1
    while fragment.text(i) in (".", "[", "->"):
        if pointer:
            return "read"
        i = fragment.partner(i) + 1 if fragment.text(i) == "[" else i + 2
        if i <= 0:
            return "address"
    return "write" if fragment.text(i) in ASSIGNMENTS or fragment.text(i) in _STEPS else "read"


def _names(fragment: Fragment, first: int, last: int) -> Iterator[str]:
    return (
        fragment.text(i)
        for i in range(first, last + 1)
        if fragment.is_name(i) and fragment.text(i - 1) not in (".", "->")
    )


def _close(program: Program, names: Iterable[str]) -> set[str]:
    """Names, and those in the macros among them."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            macro = program.macros.get(name)
            if macro is not None:
                left += _names(macro.body, 0, len(macro.body) - 1)
    return found


@lru_cache(maxsize=64)
def _header_functions(program: Program) -> frozenset[str]:
    from zmlx.launch.declarations import declarations

    return frozenset(d.name for d in declarations(program.header.main) if d.kind == "function")
