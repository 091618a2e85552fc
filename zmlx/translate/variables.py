"""The variables of a kernel's body: what a name means, and where it is changed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from zmlx.metal.signature import KernelSource
from zmlx.metal.statements import Declarator, Range, Statement, Unclear, exits
from zmlx.metal.structure import Fragment, Macro, Program
from zmlx.translate.convergence import MATRIX_FUNCTIONS

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
STEPS = frozenset({"++", "--"})
#: Behind these a ``*`` or ``&`` has one operand.
_OPERATORS = "( [ { , ; = ? : + - * / % & | ^ ! ~ < > && || == != <= >= return"
BEFORE_OPERAND = frozenset(_OPERATORS.split()) | ASSIGNMENTS
#: Functions of the library that write through an argument.
_WRITING = frozenset({"sincos", "modf", "frexp", "fract", *MATRIX_FUNCTIONS})


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
        It is known by its address, which must not change: it stays in one place.
    addressed
        That address may be kept in another variable.
    written, changed_by_macro
        It is changed behind its declaration; a macro does that.
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
    addressed: bool = False
    written: bool = False
    changed_by_macro: bool = False
    derived: bool = False

    @property
    def is_array(self) -> bool:
        return self.declarator is not None and self.declarator.extents is not None

    @property
    def is_pointer(self) -> bool:
        return self.origin in ("input", "output", "shape") or (
            self.declarator is not None and self.declarator.pointer
        )


@dataclass
class Body:
    """A kernel's body as statements, and what is known of each.

    ``barriers``, ``collectives`` and ``matrices`` are the tokens at which threads meet. ``grouped`` are statements that
    the group executes as one, part by part; of those, ``masked`` are the ones that only some threads enter.
    """

    kernel: KernelSource
    program: Program
    statements: list[Statement]
    barriers: frozenset[int]
    collectives: frozenset[int]
    whole_group: bool
    matrices: frozenset[int] = frozenset()
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
        return sorted(self.barriers | self.collectives | self.matrices)


class Variables:
    """The variables of a body. Which of them are uniform is for uniform.py to find: here all are said to be."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.fragment = body.fragment
        self.all: list[Variable] = []
        self.by_name: dict[str, list[Variable]] = {}
        self.functions = _header_functions(body.program)
        self._declare_parameters()
        self._declare_locals(body.statements, (0, len(self.fragment) - 1))
        self._find_writes_in_macros()

    # --- looking up -----------------------------------------------------------------------------------------------

    def at(self, name: str, index: int) -> Variable | None:
        """The variable that a name at token ``index`` means, if it is one of these."""
        found = [v for v in self.by_name.get(name, ()) if v.scope[0] <= index <= v.scope[1]]
        return found[-1] if found else None

    def of(self, statement: Statement) -> list[Variable]:
        """The variables that a statement declares."""
        return [v for v in self.all if v.statement is statement]

    def names(self, first: int, last: int) -> frozenset[str]:
        """The names used from token ``first`` to ``last``, those in macros included."""
        return frozenset(close_over_macros(self.body.program, _names(self.fragment, first, last)))

    # --- declarations ---------------------------------------------------------------------------------------------

    def _add(self, name: str, scope: Range, origin: str, **fields: object) -> Variable:
        variable = Variable(name, len(self.all), scope, origin, **fields)  # type: ignore[arg-type]
        self.all.append(variable)
        self.by_name.setdefault(name, []).append(variable)
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
        for name, _ in kernel.attributes:
            uniform = name in UNIFORM_ATTRIBUTES
            if name == "simdgroup_index_in_threadgroup":
                uniform = not self.body.whole_group
            self._add(name, everywhere, "attribute", uniform=uniform)

    def _declare_locals(self, statements: list[Statement], scope: Range) -> None:
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
                    self._declare_locals(part, (part[0].first, part[-1].last))

    def _is_grouped(self, statement: Statement) -> bool:
        """Whether the group goes through a statement part by part: threads meet in it, or leave from it."""
        if statement.kind not in ("block", "if", "loop"):
            return False
        return self.body.meets(statement) or (statement.kind == "if" and bool(exits(statement)))

    def _declare(self, statement: Statement, scope: Range) -> None:
        if statement in self.body.statements:
            self._check_outermost(statement)
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
                pinned=declarator.extents is not None and origin == "local",
            )

    def _check_outermost(self, statement: Statement) -> None:
        """A parameter that is declared again is an error of the author's, which the compiler tells of where the body
        is that of the function with the parameters: as fibers."""
        parameters = {variable.name for variable in self.all if variable.statement is None}
        for declarator in statement.declarators:
            name = self.fragment.text(declarator.name)
            if name in parameters:
                raise Unclear(f"the parameter `{name}` is declared again")

    # --- writes ---------------------------------------------------------------------------------------------------

    def writes(self, first: int, last: int) -> Iterator[tuple[int, Variable, bool]]:
        """Where variables are changed, as (token, variable, whether by its address)."""
        for index in range(first, last + 1):
            if not self.fragment.is_name(index) or self.fragment.text(index - 1) in (".", "->", "::"):
                continue
            variable = self.at(self.fragment.text(index), index)
            if variable is None or (variable.declarator is not None and variable.declarator.name == index):
                continue
            how = use_of(self.fragment, index, variable.is_pointer)
            decays = variable.is_array and self.fragment.text(index + 1) != "["
            if how == "read" and (decays or self._is_handed_over(index)):
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
            if direct and whole and (callee in self.functions or callee in _WRITING):
                return True
            opened = self.fragment.parent(opened)
        return False

    def _changes(self, macro: Macro, number: int) -> bool:
        """Whether a macro may change its argument of this number."""
        if macro.parameters is None or number >= len(macro.parameters):
            return True
        body, name = macro.body, macro.parameters[number]
        handed = {**self.body.program.macros, **dict.fromkeys((*self.functions, *_WRITING))}
        return any(
            use_of(body, i, False) != "read" or body.text(body.parent(i) - 1) in handed
            for i in range(len(body))
            if body.text(i) == name
        )

    def _find_writes_in_macros(self) -> None:
        """A macro's text is executed wherever its name stands: what it writes is written by threads."""
        used = self.names(0, len(self.fragment) - 1)
        for name in used & self.body.program.macros.keys():
            body = self.body.program.macros[name].body
            for index in range(len(body)):
                for variable in self.by_name.get(body.text(index), ()):
                    how = use_of(body, index, variable.is_pointer)
                    if how != "read":
                        variable.written, variable.uniform, variable.changed_by_macro = True, False, True
                        variable.addressed |= how == "address"
                        variable.pinned |= how == "address"


def use_of(fragment: Fragment, index: int, pointer: bool) -> str:
    """What happens to the variable at ``index``: ``"read"``, ``"write"`` or ``"address"`` (it can be written later).

    ``pointer``: what stands behind its subscript is no part of it.
    """
    before = fragment.text(index - 1)
    if before in STEPS:
        return "write"
    i = index + 1
    element = pointer and fragment.text(i) in ("[", "->")
    if before == "&" and fragment.text(index - 2) in BEFORE_OPERAND | {""} and not element:
        return "address"
    while fragment.text(i) in (".", "[", "->"):
        if pointer:
            return "read"
        i = fragment.partner(i) + 1 if fragment.text(i) == "[" else i + 2
    if fragment.text(i) == "(":
        return "address"  # a member function may do anything
    return "write" if fragment.text(i) in ASSIGNMENTS or fragment.text(i) in STEPS else "read"


def _names(fragment: Fragment, first: int, last: int) -> Iterator[str]:
    return (
        fragment.text(i)
        for i in range(first, last + 1)
        if fragment.is_name(i) and fragment.text(i - 1) not in (".", "->")
    )


def close_over_macros(program: Program, names: Iterable[str]) -> set[str]:
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
    from zmlx.metal.declarations import declarations

    return frozenset(d.name for d in declarations(program.header.main) if d.kind == "function")
