"""Kernels whose threads meet, as loops over the threads between one meeting point and the next (host).

::

    float v = x[t];                                     group.each([&](thread, t) { v[t] = x[t]; … });
    threadgroup_barrier(…);                   →
    out[t] = s[0] * v;                                  group.each([&](thread, t) { out[t] = s[0] * v[t]; });

That is what work-group compilers for CPUs do (Stratton et al. 2008, MCUDA; Jääskeläinen et al. 2015, pocl): a barrier
costs nothing, and the compiler can vectorise each loop. Fibers run anything; this form needs a body that can be taken
apart:

=============================================  ======================================================================
in the kernel                                  here
=============================================  ======================================================================
statements between meeting points              one loop over the threads, a *region*
a variable that outlives its region            a place for each thread (``Each``), read and written back by each region
a value that is the same for all threads       one variable of the group (see variables.py)
``if`` and loops in which threads meet         of the group, if all threads decide alike; else of the threads in a mask
``simd_sum(v)``                                brought in one region, taken in the next (``Met``)
``simdgroup_load(m, p)`` and other matrices     called once for each simdgroup (matrices.py)
``return`` before threads meet                 leaves the mask of the threads that are there
=============================================  ======================================================================

What cannot be taken apart raises `Unclear`, and the kernel runs as fibers: functions of the header in which threads
meet, barriers that only some threads may reach, and what statements.py does not understand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from zmlx.metal.declarations import declarations
from zmlx.metal.expansion import expand
from zmlx.metal.signature import KernelSource
from zmlx.metal.statements import Unclear, begins_declaration, parse
from zmlx.metal.structure import Fragment, Program
from zmlx.translate.convergence import MATRIX_FUNCTIONS, MATRIX_TYPES, SITED_FUNCTIONS, is_hidden, reaching
from zmlx.translate.matrices import check_types, tell_lanes
from zmlx.translate.overloads import overloaded_functions
from zmlx.translate.region_writer import RegionWriter
from zmlx.translate.uniform import Uniformity
from zmlx.translate.variables import Body, Variables, close_over_macros

GROUP_BARRIER = "threadgroup_barrier"
_BARRIERS = frozenset({GROUP_BARRIER, "simdgroup_barrier"})
_MEETINGS = SITED_FUNCTIONS | _BARRIERS | MATRIX_FUNCTIONS.keys()
_COLLECTIVES = SITED_FUNCTIONS - MATRIX_FUNCTIONS.keys()


def meeting_names(program: Program) -> frozenset[str]:
    """The program's functions and macros in which threads meet, or a matrix is made."""
    return reaching(program, _MEETINGS | MATRIX_TYPES) - _MEETINGS - MATRIX_TYPES


def written_out(program: Program) -> str:
    """The program's body with the macros in which threads meet written out."""
    defined = Counter(macro.name for part in program.sources for macro in part.macros)
    meeting = meeting_names(program)
    once = frozenset(name for name, times in defined.items() if times == 1 and name in meeting)
    body = program.body.render()
    return expand(program, body, once) if once else body


def region_body(kernel: KernelSource, program: Program) -> str:
    """The body of a translated program as a function of the whole threadgroup, ``zmlx_group``.

    Raises
    ------
    Unclear
        It cannot be taken apart.
    """
    body = _take_apart(kernel, program)
    tell_lanes(body)
    return RegionWriter(Uniformity(Variables(body))).write()


def _take_apart(kernel: KernelSource, program: Program) -> Body:
    fragment = program.body.main
    for source in program.sources:
        for directive in source.directives:
            if source is program.body and directive.word != "pragma":
                raise Unclear(f"`#{directive.word}` in the body")
    names = {fragment.text(i) for i in range(len(fragment)) if fragment.is_name(i)}
    check_types(program)
    overloaded = {name.rpartition("::")[2] for name in overloaded_functions(program.header.main)}
    if overloaded & SITED_FUNCTIONS:
        raise Unclear("simd functions of the header's own")
    for index in range(len(fragment)):
        if fragment.text(index) == "[" and _opens_lambda(fragment, index):
            raise Unclear("a lambda")
        if fragment.text(index) in ("&", "&&") and fragment.text(index + 1) in (")", ">"):
            raise Unclear("a cast to a reference")
    aliases = dict(_aliases(program))
    reached = meeting_names(program)
    hidden = (reached - aliases.keys()) & names
    if hidden:
        raise Unclear(f"threads meet in `{min(hidden)}`")
    if is_hidden(program, reached | _MEETINGS | MATRIX_TYPES):
        raise Unclear("threads meet in an operator or a constructor")
    for name in close_over_macros(program, names) & program.macros.keys():
        _check_macro(program, name)
    barriers, collectives, matrices = set(), set(), set()
    for index in range(len(fragment)):
        name = aliases.get(fragment.text(index), fragment.text(index))
        if name in _BARRIERS:
            barriers.add(index)
        elif name in MATRIX_FUNCTIONS:
            matrices.add(index)
        elif name in _COLLECTIVES:
            collectives.add(index)
    whole_group = any(aliases.get(name, name) == GROUP_BARRIER for name in names)
    statements = parse(fragment, 0, len(fragment) - 1)
    return Body(
        kernel,
        program,
        statements,
        frozenset(barriers),
        frozenset(collectives),
        whole_group,
        frozenset(matrices),
    )


def _opens_lambda(fragment: Fragment, index: int) -> bool:
    before = fragment.text(index - 1)
    return not (
        fragment.is_name(index - 1) or before in (")", "]", "[", ">") or fragment.text(index + 1) == "["
    )


def _aliases(program: Program) -> Iterator[tuple[str, str]]:
    """Macros and functions of the header that are another name of a barrier, and which."""
    for macro in program.macros.values():
        if macro.parameters is None:
            yield from _named(macro.name, macro.body, 0, len(macro.body) - 1)
    header = program.header.main
    for declaration in declarations(header):
        opened, closed = declaration.body
        if (
            declaration.kind == "function"
            and not declaration.scope
            and declaration.parameters[1] == (declaration.parameters[0] + 1)
        ):
            yield from _named(declaration.name, header, opened + 1, closed - 1)


def _named(name: str, code: Fragment, first: int, last: int) -> Iterator[tuple[str, str]]:
    """``name`` and the barrier that is all there is from ``first`` to ``last``, if it is."""
    first += 2 * (code.text(first + 1) == "::")
    closed = code.partner(first + 1)
    if code.text(first) in _BARRIERS and code.text(first + 1) == "(" and closed in (last, last - 1):
        yield name, code.text(first)


def _check_macro(program: Program, name: str) -> None:
    """Macros may not hide where control goes, or what is declared."""
    body = program.macros[name].body
    words = {body.text(i) for i in range(len(body))}
    loops = words & {"for", "while", "do", "switch"}
    if "return" in words or "goto" in words or (words & {"break", "continue"} and not loops):
        raise Unclear(f"the macro `{name}` leaves")
    if begins_declaration(body, 0) or words & {"threadgroup", "#", "##", "__VA_ARGS__"}:
        raise Unclear(f"the macro `{name}` declares variables, makes names or takes any number of arguments")
