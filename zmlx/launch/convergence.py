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
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from zmlx.launch.declarations import declarations
from zmlx.launch.pastes import chains, pasted_names
from zmlx.launch.structure import Fragment, Program

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
_LANE_TYPES = re.compile(r"simdgroup_(?:float|half|bfloat)8x8")

_LOOPS = frozenset({"for", "while", "do"})
_NO_CALLEE = frozenset({"if", "for", "while", "switch", "return", "sizeof", "decltype"})


def uses_lanes(name: str) -> bool:
    """Whether a kernel that mentions this name runs its threads in simdgroups."""
    return name in SITED_FUNCTIONS or name in _LANE_FUNCTIONS or bool(_LANE_TYPES.fullmatch(name))


class Convergence:
    """Puts the marks into a program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.loops = 0
        self.meeting = set(SITED_FUNCTIONS)
        self.pasted = pasted_names(program)
        self._find_meeting()

    def mark(self) -> None:
        for fragment in self.program.fragments:
            for first, last in self._bodies(fragment):
                self._mark_range(fragment, first, last)

    def _find_meeting(self) -> None:
        """Close the set of meeting functions over the program's own functions, lambdas and macros."""
        uses = [(name, set(names)) for name, names in self._definitions()]
        grown = True
        while grown:
            found = {name for name, names in uses if names & self.meeting} - self.meeting
            self.meeting |= found
            grown = bool(found)

    def _definitions(self) -> Iterator[tuple[str, Iterator[str]]]:
        """Name and names used, of all that can be called."""
        for macro in self.program.macros.values():
            made = {
                name for (owner, _), names in self.pasted.items() if owner == macro.name for name in names
            }
            used = made.union(_names(macro.body, 0, len(macro.body) - 1))
            # What is pasted may be a call, or the name of a function that the macro declares.
            for name in (macro.name, *made - SITED_FUNCTIONS):
                yield name, iter(used)
        for declaration in declarations(self.program.header.main):
            if declaration.kind == "function" and not declaration.name.startswith("operator"):
                yield declaration.name, _names(self.program.header.main, *declaration.body)
        for fragment in self.program.fragments:
            for index in range(len(fragment)):
                # auto name = [&](…) { … };
                if fragment.is_name(index) and (fragment.text(index + 1), fragment.text(index + 2)) == (
                    "=",
                    "[",
                ):
                    yield fragment.text(index), _names(fragment, index + 2, fragment.statement_end(index))

    def _bodies(self, fragment: Fragment) -> Iterator[tuple[int, int]]:
        """The ranges that hold statements: functions of the header, macros, and the whole of the kernel's body."""
        if fragment is not self.program.header.main:
            yield 0, len(fragment) - 1
            return
        for declaration in declarations(fragment):
            if declaration.kind == "function" and declaration.first not in fragment.erased:
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
            elif index in pasted:
                if self._chain(fragment, index) & self.meeting:
                    self._mark_traced(fragment, index, pasted[index])
            elif text in self.meeting and fragment.is_name(index):
                self._mark_call(fragment, index)

    def _meets(self, fragment: Fragment, first: int, last: int) -> bool:
        pasted = (self._chain(fragment, i) for i, _ in chains(fragment) if first <= i <= last)
        return not self.meeting.isdisjoint(set(_names(fragment, first, last)).union(*pasted))

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
        loop = f"zmlx_loop_{self.loops}"
        self.loops += 1
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

    def _for_condition(self, fragment: Fragment, opened: int, closed: int) -> tuple[int, int]:
        """First and last token of a for loop's condition (last < first: it is empty); (-1, -1) for ``for (a : b)``."""
        semicolons = [
            i for i in range(opened, closed) if fragment.text(i) == ";" and fragment.parent(i) == opened
        ]
        return (semicolons[0] + 1, semicolons[1] - 1) if len(semicolons) == 2 else (-1, -1)

    def _mark_call(self, fragment: Fragment, index: int) -> None:
        name = self._aliased(fragment.text(index))
        if name in SITED_FUNCTIONS:
            closed = _call_end(fragment, index)
            if closed < 0:
                return
            site = "::zmlx::Site(__COUNTER__)"
            token = fragment.code[closed]
            token.before = token.before + (site if fragment.text(closed - 1) == "(" else f", {site}")
        elif name not in self.program.macros:
            self._mark_traced(fragment, index, index)
        elif (closed := _call_end(fragment, index)) >= 0:
            self._mark_traced(fragment, index, closed)  # ``NAME_OF(sum)(x)``: the macro makes a name

    def _mark_traced(self, fragment: Fragment, first: int, last: int) -> None:
        """Let the call of the function whose name is from ``first`` to ``last`` leave a trace."""
        closed = _call_end(fragment, last)
        start = _call_start(fragment, first)
        before = fragment.text(start - 1)
        if closed < 0 or (fragment.is_name(start - 1) and before not in ("return", "else", "do", "case")):
            return  # no call, but a declaration
        _surround(
            fragment, start, closed, "::zmlx::call(__COUNTER__, [&]() -> decltype(auto) { return ", "; })"
        )

    def _aliased(self, name: str) -> str:
        """The function that a macro is another name of."""
        macro = self.program.macros.get(name)
        alias = macro is not None and macro.parameters is None and len(macro.body) == 1
        return macro.body.text(0) if macro is not None and alias else name


def _names(fragment: Fragment, first: int, last: int) -> Iterator[str]:
    return (fragment.text(i) for i in range(first, last + 1) if fragment.is_name(i))


def _surround(fragment: Fragment, first: int, last: int, before: str, after: str) -> None:
    """Put something around a range, inside of what earlier rewriting put around it."""
    fragment.code[first].before += before
    fragment.code[last].after = after + fragment.code[last].after


def _call_end(fragment: Fragment, index: int) -> int:
    """The parenthesis that closes the call of the function whose name ends at ``index``; -1 if it is not called."""
    opened = index + 1
    if fragment.text(opened) == "<" and fragment.angles.get(opened, -1) > opened:
        opened = fragment.angles[opened] + 1
    return fragment.partner(opened) if fragment.text(opened) == "(" else -1


def _call_start(fragment: Fragment, index: int) -> int:
    """Where the expression that ends in the callee at ``index`` begins: ``a[i].b`` of ``a[i].b.f(…)``."""
    while fragment.text(index - 1) in ("::", ".", "->"):
        index -= 2
        while fragment.text(index) in (")", "]", ">"):
            opened = (
                fragment.angles.get(index, -1) if fragment.text(index) == ">" else fragment.partner(index)
            )
            if opened < 0:
                return index
            index = opened - (fragment.is_name(opened - 1) or fragment.text(opened - 1) in (")", "]"))
    return index
