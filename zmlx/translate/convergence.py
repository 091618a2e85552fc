"""Which lanes execute a simd operation together: marks that let the host's fibers find out.

A GPU's lanes diverge at a branch and are together again behind it. The host runs lanes one after the other, each
up to its next simd operation, and must then know which of the waiting lanes wait *in the same execution* of it: the
same call in the source, reached through the same calls, in the same iteration of the loops around. Of several, the
one that comes first in program order goes first. That is all that structured control flow asks for, and what
SPIR-V calls maximal reconvergence.

So on the host

=================================  ==========================================================================
a simd function is told its place  ``simd_sum(x)`` → ``simd_sum(x, ::zmlx::Site(__COUNTER__))``
a loop around one counts           ``for (a; b; c)`` → ``for (Loop l(…); l.once();) for (a; l.next() && (b); c)``
a call of a function with one      ``f(x)`` → ``::zmlx::call(__COUNTER__, [&]() -> decltype(auto) { return f(x); })``
leaves a trace
=================================  ==========================================================================

``__COUNTER__`` grows along the source and is different for each expansion of a macro.

Operators and constructors are called without a name. In a program where one of them holds a simd operation, every
call, loop, branch and statement is marked, since any of them may be the one around it. Between the operands of ``?:``,
``&&`` and ``||`` they are not told apart.
"""

from __future__ import annotations

from collections.abc import Iterator

from zmlx.metal.declarations import Declaration, declarations
from zmlx.metal.pastes import chains, pasted_names
from zmlx.metal.structure import Fragment, Program

_REDUCTIONS = ("sum", "product", "min", "max", "and", "or", "xor")
_READS = ("shuffle", "shuffle_up", "shuffle_down", "shuffle_xor", "shuffle_rotate_up", "shuffle_rotate_down")
_PREFIXES = ("inclusive_sum", "exclusive_sum", "inclusive_product", "exclusive_product")
_BOTH = (
    *_REDUCTIONS,
    *_READS,
    *(f"prefix_{name}" for name in _PREFIXES),
    *("shuffle_and_fill_up", "shuffle_and_fill_down", "broadcast", "broadcast_first"),
    *("ballot", "active_threads_mask", "all", "any", "is_first"),
)

#: Functions in which the lanes of a simdgroup meet. All take a ``zmlx::Site`` as their last argument on the host.
SITED_FUNCTIONS = frozenset(
    {f"{group}_{name}" for group in ("simd", "quad") for name in _BOTH}
    | {"simdgroup_barrier", "simdgroup_multiply", "simdgroup_multiply_accumulate"}
)
#: What needs a lane of its own, but not the others at the same time.
_LANE_FUNCTIONS = frozenset(
    {"simdgroup_load", "simdgroup_store", "make_filled_simdgroup_matrix", "simdgroup_matrix"}
)
#: All names of the matrices' type.
MATRIX_TYPES = frozenset(
    {"simdgroup_matrix", *(f"simdgroup_{kind}8x8" for kind in ("float", "half", "bfloat"))}
)
#: What the lanes of a simdgroup do with matrices together, and how many of the first arguments are matrices.
MATRIX_FUNCTIONS = {
    "simdgroup_load": 1,
    "simdgroup_store": 1,
    "simdgroup_multiply": 3,
    "simdgroup_multiply_accumulate": 4,
}

_LOOPS = frozenset({"for", "while", "do"})
#: Words whose parentheses a statement follows, and words that an expression follows.
_HEADS = frozenset({"if", "for", "while", "switch"})
#: What a branch may begin with that is marked itself, or has to find the loop around it.
_STATEMENTS = frozenset({"{", "if", "for", "while", "do", "switch", "break", "continue", ";", ""})
_BEFORE_EXPRESSIONS = frozenset({"return", "else", "do", "case"})


def uses_lanes(name: str) -> bool:
    """Whether a kernel that mentions this name runs its threads in simdgroups."""
    return name in SITED_FUNCTIONS or name in _LANE_FUNCTIONS or name in MATRIX_TYPES


def reaching(program: Program, functions: frozenset[str]) -> frozenset[str]:
    """``functions``, and the program's own functions, lambdas and macros in which one of them is used."""
    found = set(functions)
    uses = [(name, set(names)) for name, names in _definitions(program)]
    grown = True
    while grown:
        new = {name for name, names in uses if names & found} - found
        found |= new
        grown = bool(new)
    return frozenset(found)


def is_hidden(program: Program, functions: frozenset[str]) -> bool:
    """Whether an operator or a constructor of the header uses one of the functions: it is called without its name."""
    header = program.header.main
    return any(
        _is_unnamed(d) and not functions.isdisjoint(_names(header, d.first, d.last))
        for d in _functions(program)
    )


def _definitions(program: Program) -> Iterator[tuple[str, Iterator[str]]]:
    """Name and names used, of all that can be called."""
    pasted = pasted_names(program)
    for macro in program.macros.values():
        made = {name for (owner, _), names in pasted.items() if owner == macro.name for name in names}
        used = made.union(_names(macro.body, 0, len(macro.body) - 1))
        # What is pasted may be a call, or the name of a function that the macro declares.
        for name in (macro.name, *made - SITED_FUNCTIONS):
            yield name, iter(used)
        for declaration in declarations(macro.body):
            if declaration.kind == "function" and declaration.name not in _LOOPS | _HEADS:
                yield declaration.name, _names(macro.body, *declaration.body)
    for declaration in _functions(program):
        if not declaration.name.startswith("operator"):
            yield declaration.name, _names(program.header.main, *declaration.body)
    for fragment in program.fragments:
        for index in range(len(fragment)):
            # auto name = [&](…) { … }; auto name{[&](…) { … }};
            following = fragment.text(index + 1), fragment.text(index + 2)
            if fragment.is_name(index) and following in (("=", "["), ("{", "[")):
                yield fragment.text(index), _names(fragment, index + 2, fragment.statement_end(index))


def _functions(program: Program) -> Iterator[Declaration]:
    return (d for d in declarations(program.header.main) if d.kind == "function")


class Convergence:
    """Puts the marks into a program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.loops = 0
        self.pasted = pasted_names(program)
        self.meeting = reaching(program, SITED_FUNCTIONS)
        self.hidden = is_hidden(program, self.meeting)
        if self.hidden:
            found = (d.name for d in _functions(program) if not _is_unnamed(d) and not self._is_constant(d))
            self.meeting = self.meeting.union(found)

    def mark(self) -> None:
        for fragment in self.program.fragments:
            for first, last in self._bodies(fragment):
                self._mark_range(fragment, first, last)
                if self.hidden and fragment.macro is None:
                    braces = fragment.text(first) == "{"
                    self._number(fragment, first + braces, last - braces)

    def _is_constant(self, declaration: Declaration) -> bool:
        """Whether it may be called where a constant is needed, and so has no lanes to wait for."""
        return "constexpr" in _names(self.program.header.main, declaration.first, declaration.body[0])

    def _bodies(self, fragment: Fragment) -> Iterator[tuple[int, int]]:
        """The ranges that hold statements: functions of the header, macros, and the whole of the kernel's body."""
        if fragment is not self.program.header.main:
            yield 0, len(fragment) - 1
            return
        for declaration in _functions(self.program):
            constant = self.hidden and self._is_constant(declaration)
            if declaration.first not in fragment.erased and not constant:
                yield declaration.body

    def _mark_range(self, fragment: Fragment, first: int, last: int) -> None:
        tails: set[int] = set()  # the `while` of each do loop
        pasted = dict(chains(fragment))
        for index in range(first, last + 1):
            text = fragment.text(index)
            if text in _LOOPS and index not in tails:
                tail = self._do_tail(fragment, index)
                tails.add(tail)
                if self._meets(fragment, index, fragment.statement_end(index)):
                    self._mark_loop(fragment, index, tail)
            elif self.hidden and text in ("if", "else"):
                self._mark_branch(fragment, index)
            elif index in pasted:
                if self._chain(fragment, index) & self.meeting:
                    self._mark_traced(fragment, index, pasted[index])
            elif text in self.meeting and fragment.is_name(index):
                self._mark_call(fragment, index)

    def _meets(self, fragment: Fragment, first: int, last: int) -> bool:
        pasted = (self._chain(fragment, i) for i, _ in chains(fragment) if first <= i <= last)
        return self.hidden or not self.meeting.isdisjoint(set(_names(fragment, first, last)).union(*pasted))

    def _chain(self, fragment: Fragment, index: int) -> frozenset[str]:
        """The names that are pasted together at ``index``."""
        return self.pasted.get((fragment.macro.name, index), frozenset()) if fragment.macro else frozenset()

    def _do_tail(self, fragment: Fragment, index: int) -> int:
        return fragment.statement_end(index + 1) + 1 if fragment.text(index) == "do" else -1

    def _mark_loop(self, fragment: Fragment, index: int, tail: int) -> None:
        opened = (tail if tail >= 0 else index) + 1
        closed = fragment.partner(opened)
        if fragment.text(opened) != "(" or closed < 0:
            return
        loop = self._scope()
        if fragment.text(index) == "for":
            first, last = self._for_condition(fragment, opened, closed)
            if first < 0:
                return
        else:
            first, last = opened + 1, closed - 1
        head = f"for (::zmlx::Loop {loop}(__COUNTER__); {loop}.once();) "
        fragment.code[index].before = head + fragment.code[index].before
        if first > last:
            fragment.code[last].after += f" {loop}.next()"
        elif tail >= 0:
            _surround(fragment, first, last, "(", f") && {loop}.next()")
        else:
            _surround(fragment, first, last, f"{loop}.next() && (", ")")

    def _scope(self) -> str:
        self.loops += 1
        return f"zmlx_loop_{self.loops - 1}"

    def _mark_branch(self, fragment: Fragment, index: int) -> None:
        """Let the single statement behind ``if (…)`` or ``else`` leave a trace; blocks are numbered."""
        first = index + 1
        if fragment.text(index) == "if":
            first = fragment.partner(first + (fragment.text(first) == "constexpr")) + 1
        if first > index and fragment.text(first) not in _STATEMENTS:
            scope = self._scope()
            head = f"for (::zmlx::Loop {scope}(__COUNTER__); {scope}.once();) "
            fragment.code[first].before = head + fragment.code[first].before

    def _number(self, fragment: Fragment, first: int, last: int) -> None:
        """Let each statement of a block leave a trace that grows from one to the next."""
        scope, index = self._scope(), first
        while index <= last:
            end = fragment.statement_end(index)
            mark = f"::zmlx::Loop {scope}(__COUNTER__); " if index == first else f"{scope}.next(); "
            fragment.code[index].before = mark + fragment.code[index].before
            inner = index
            while inner <= end:
                if fragment.text(inner) == "{" and self._is_block(fragment, inner, index):
                    self._number(fragment, inner + 1, fragment.partner(inner) - 1)
                    inner = fragment.partner(inner)
                inner += 1
            index = end + 1

    def _is_block(self, fragment: Fragment, index: int, statement: int) -> bool:
        """Whether statements stand in the braces at ``index``, and no labels of a ``switch``."""
        before = fragment.text(index - 1)
        if before == ")":
            return fragment.text(fragment.partner(index - 1) - 1) != "switch"
        in_parentheses = fragment.text(fragment.parent(index)) == "("
        return index == statement or before in ("else", "do") or (before == ":" and not in_parentheses)

    def _for_condition(self, fragment: Fragment, opened: int, closed: int) -> tuple[int, int]:
        """First and last token of a for loop's condition (last < first: it is empty); (-1, -1) for ``for (a : b)``."""
        semicolons = [
            i for i in range(opened, closed) if fragment.text(i) == ";" and fragment.parent(i) == opened
        ]
        return (semicolons[0] + 1, semicolons[1] - 1) if len(semicolons) == 2 else (-1, -1)

    def _mark_call(self, fragment: Fragment, index: int) -> None:
        name = self._aliased(fragment.text(index))
        if name in SITED_FUNCTIONS:
            closed = call_end(fragment, index)
            if closed < 0:
                return
            site = "::zmlx::Site(__COUNTER__)"
            token = fragment.code[closed]
            token.before = token.before + (site if fragment.text(closed - 1) == "(" else f", {site}")
        elif name not in self.program.macros:
            self._mark_traced(fragment, index, index)
        elif (closed := call_end(fragment, index)) >= 0:
            self._mark_traced(fragment, index, closed)  # ``NAME_OF(sum)(x)``: the macro makes a name

    def _mark_traced(self, fragment: Fragment, first: int, last: int) -> None:
        """Let the call of the function whose name is from ``first`` to ``last`` leave a trace."""
        closed = call_end(fragment, last)
        start = call_start(fragment, first)
        before = fragment.text(start - 1)
        if closed < 0 or (fragment.is_name(start - 1) and before not in _BEFORE_EXPRESSIONS):
            return  # no call, but a declaration
        _surround(
            fragment, start, closed, "::zmlx::call(__COUNTER__, [&]() -> decltype(auto) { return ", "; })"
        )

    def _aliased(self, name: str) -> str:
        """The function that a macro is another name of."""
        macro = self.program.macros.get(name)
        alias = macro is not None and macro.parameters is None and len(macro.body) == 1
        return macro.body.text(0) if macro is not None and alias else name


def _is_unnamed(declaration: Declaration) -> bool:
    """Whether it is an operator or a constructor, which are called without their name."""
    return declaration.name.startswith("operator") or declaration.scope.endswith(f"{declaration.name}::")


def _names(fragment: Fragment, first: int, last: int) -> Iterator[str]:
    return (fragment.text(i) for i in range(first, last + 1) if fragment.is_name(i))


def _surround(fragment: Fragment, first: int, last: int, before: str, after: str) -> None:
    """Put something around a range, inside of what earlier rewriting put around it."""
    fragment.code[first].before += before
    fragment.code[last].after = after + fragment.code[last].after


def call_end(fragment: Fragment, index: int) -> int:
    """The parenthesis that closes the call of the function whose name ends at ``index``; -1 if it is not called."""
    opened = index + 1
    if fragment.text(opened) == "<" and fragment.angles.get(opened, -1) > opened:
        opened = fragment.angles[opened] + 1
    return fragment.partner(opened) if fragment.text(opened) == "(" else -1


def call_start(fragment: Fragment, index: int) -> int:
    """Where the expression that ends in the callee at ``index`` begins: ``a[i].b`` of ``a[i].b.f(…)``."""
    while fragment.text(index - 1) in ("::", ".", "->"):
        index -= 2
        while fragment.text(index) in (")", "]", ">", "}"):
            closed = index
            opened = (
                fragment.angles.get(closed, -1) if fragment.text(closed) == ">" else fragment.partner(closed)
            )
            before = fragment.text(opened - 1)
            if opened < 0 or before in _HEADS:
                return closed + (opened >= 0)  # what is behind `if (…)`
            named = fragment.is_name(opened - 1) and before not in _BEFORE_EXPRESSIONS
            index = opened - (named or before in (")", "]", ">"))
            if index == opened:
                break
    return index
