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
``return`` before threads meet                 leaves the mask of the threads that are there
=============================================  ======================================================================

What cannot be taken apart raises `Unclear`, and the kernel runs as fibers: functions of the header in which threads
meet, barriers that only some threads may reach, and what statements.py does not understand.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from zmlx.launch.convergence import SITED_FUNCTIONS, call_start, reaching, uses_lanes
from zmlx.launch.overloads import overloaded_functions
from zmlx.launch.signature import KernelSource
from zmlx.launch.statements import Range, Statement, Unclear, parse
from zmlx.launch.structure import Fragment, Program
from zmlx.launch.tokens import join
from zmlx.launch.variables import Body, Variable, Variables, exits

GROUP_BARRIER = "threadgroup_barrier"
_BARRIERS = frozenset({GROUP_BARRIER, "simdgroup_barrier"})
#: Simd functions that have no form here: two operations each, or matrices.
_LEFT_TO_FIBERS = frozenset(name for name in SITED_FUNCTIONS if "_and_fill_" in name or "multiply" in name)

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
_LIVE = "zmlx_live"
_LAMBDA = "[&](const zmlx::Thread& zmlx_thread, uint32_t zmlx_t) ZMLX_LAMBDA"


def region_body(kernel: KernelSource, program: Program) -> str:
    """The body of a translated program as a function of the whole threadgroup, ``zmlx_group``.

    Raises
    ------
    Unclear
        It cannot be taken apart.
    """
    body = _take_apart(kernel, program)
    return _Writer(body, Variables(body)).write()


def _take_apart(kernel: KernelSource, program: Program) -> Body:
    fragment = program.body.main
    for source in program.sources:
        for directive in source.directives:
            if source is program.body and directive.word != "pragma":
                raise Unclear(f"`#{directive.word}` in the body")
    names = {fragment.text(i) for i in range(len(fragment)) if fragment.is_name(i)}
    alone = next(
        (n for n in names if uses_lanes(n) and (n not in SITED_FUNCTIONS or n in _LEFT_TO_FIBERS)), None
    )
    if alone is not None:
        raise Unclear(f"`{alone}`")
    overloaded = {name.rpartition("::")[2] for name in overloaded_functions(program.header.main)}
    if overloaded & SITED_FUNCTIONS:
        raise Unclear("simd functions of the header's own")
    if any(fragment.text(i) == "[" and _opens_lambda(fragment, i) for i in range(len(fragment))):
        raise Unclear("a lambda")
    aliases = {name: _alias(program, name) for name in names & program.macros.keys()}
    hidden = (reaching(program, SITED_FUNCTIONS | _BARRIERS) - SITED_FUNCTIONS - _BARRIERS) & names
    hidden -= {name for name, barrier in aliases.items() if barrier}
    if hidden:
        raise Unclear(f"threads meet in `{min(hidden)}`")
    for name in names & program.macros.keys():
        _check_macro(program, name)
    barriers, collectives = set(), set()
    for index in range(len(fragment)):
        name = aliases.get(fragment.text(index)) or fragment.text(index)
        if name in _BARRIERS:
            barriers.add(index)
        elif name in SITED_FUNCTIONS:
            collectives.add(index)
    whole_group = any((aliases.get(n) or n) == GROUP_BARRIER for n in names)
    statements = parse(fragment, 0, len(fragment) - 1)
    return Body(kernel, program, statements, frozenset(barriers), frozenset(collectives), whole_group)


def _opens_lambda(fragment: Fragment, index: int) -> bool:
    before = fragment.text(index - 1)
    return not (
        fragment.is_name(index - 1) or before in (")", "]", "[", ">") or fragment.text(index + 1) == "["
    )


def _alias(program: Program, name: str) -> str | None:
    """The barrier that a macro is another word for."""
    macro = program.macros[name]
    words = macro.body
    if macro.parameters is not None or len(words) < 3 or words.text(0) not in _BARRIERS:
        return None
    closed = words.partner(1)
    return words.text(0) if closed >= len(words) - 2 and words.text(len(words) - 1) in (")", ";") else None


def _check_macro(program: Program, name: str) -> None:
    """Macros may not hide where control goes, or what is declared."""
    body = program.macros[name].body
    words = {body.text(i) for i in range(len(body))}
    loops = words & {"for", "while", "do", "switch"}
    if "return" in words or "goto" in words or (words & {"break", "continue"} and not loops):
        raise Unclear(f"the macro `{name}` leaves")
    if words & {"threadgroup", "#", "##", "__VA_ARGS__"}:
        raise Unclear(
            f"the macro `{name}` declares threadgroup memory, makes names or takes any number of them"
        )


@dataclass
class _Mask:
    """The threads that are there, as a variable of the group. ``ends`` are the exits that leave no mask around it:
    ``break`` of a loop's own, ``continue`` of the one of its iteration."""

    name: str
    ends: str = ""


@dataclass
class _Region:
    """Statements that one loop over the threads will run."""

    statements: list[Statement] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


class _Writer:
    """Writes the function of the group."""

    def __init__(self, body: Body, variables: Variables) -> None:
        self.body = body
        self.variables = variables
        self.fragment = body.fragment
        self.count = 0
        self.places: dict[int, Variable] = {}  # variables that have a place for each thread, by number
        leaving = [e for s in body.statements for e in exits(s) if not self._is_of_group(e)]
        self.masks = [_Mask(_LIVE)] if leaving else []
        self.out: list[str] = []
        self.region = _Region()

    def write(self) -> str:
        self._open_macros()
        self._open_parameters()
        self._write_list(self.body.statements)
        if len(self.places) > _MAX_PLACES:
            raise Unclear(f"{len(self.places)} variables that live across barriers")
        return "\n".join(self.out)

    # --- names and texts ------------------------------------------------------------------------------------------

    def _number(self) -> int:
        self.count += 1
        return self.count

    def _text(self, span: Range) -> str:
        return join(self.fragment.tokens(*span)) if span[0] <= span[1] else ""

    def _is_of_group(self, leaving: Statement) -> bool:
        """Whether all threads that are there take an exit together."""
        around = self._around(leaving)
        if leaving.keyword != "return":
            loop = next(i for i, s in enumerate(around) if s.kind == "loop")
            around = around[: loop + 1]
        return all(s in self.body.grouped and s not in self.body.masked for s in around)

    def _around(self, inner: Statement) -> list[Statement]:
        """The statements around one, the innermost first."""
        found: list[Statement] = []
        statements = self.body.statements
        while True:
            outer = next((s for s in statements if s.first <= inner.first <= s.last and s is not inner), None)
            if outer is None:
                return found[::-1]
            found.append(outer)
            statements = [*outer.children, *(outer.otherwise or ())]

    @property
    def _mask(self) -> str:
        """The first argument of what runs a loop over threads: the mask, if there is one."""
        return f"{self.masks[-1].name}, " if self.masks else ""

    # --- regions --------------------------------------------------------------------------------------------------

    def _open_macros(self) -> None:
        """The body's macros come first: a line of the preprocessor cannot stand in the middle of what is written."""
        macros = self.body.program.body.macros
        if len({macro.name for macro in macros}) < len(macros):
            raise Unclear("a macro that is defined twice")
        for macro in macros:
            parameters = "" if macro.parameters is None else f"({', '.join(macro.parameters)})"
            text = macro.body.render(0, len(macro.body) - 1)
            self.out.append(f"\n#define {macro.name}{parameters} {text}\n")

    def _open_parameters(self) -> None:
        """Places for the parameters that threads change, and the attributes that all threads share."""
        used = self.variables.names(0, len(self.fragment) - 1)
        if self.masks:
            self.out.append(f"zmlx::Lanes {_LIVE} = zmlx_group.all();")
        for variable in self.variables.all:
            if variable.statement is not None or variable.name not in used:
                continue
            if variable.origin == "attribute":
                if variable.uniform:
                    thread = "zmlx_group.thread(zmlx_group.first)"
                    self.out.append(f"const auto {variable.name} = {thread}.{variable.name}();")
            elif not variable.uniform:
                self._take_place(variable)
                self.out.append(
                    f"zmlx::Each zmlx_e{variable.number}(zmlx_group, {_LAMBDA} {{ return {variable.name}; }});"
                )

    def _take_place(self, variable: Variable) -> None:
        self.places[variable.number] = variable

    def _outlives(self, variable: Variable, last: int) -> bool:
        """Whether a variable needs a place because it is named behind token ``last``."""
        first, end = last + 1, variable.scope[1]
        return not variable.derived and first <= end and variable.name in self.variables.names(first, end)

    def _prologue(self, names: frozenset[str], at: int) -> tuple[list[str], list[str]]:
        """What a region that uses these names begins and ends with."""
        found: dict[int, Variable] = {}
        left = list(names)
        while left:
            variable = self.variables.at(left.pop(), at)
            if variable is None or variable.number in found:
                continue
            found[variable.number] = variable
            if variable.derived and variable.statement is not None:
                left += self.variables.names(variable.statement.first, variable.statement.last)
        before, after = [], []
        for number in sorted(found):
            variable, name, place = found[number], found[number].name, f"zmlx_e{number}[zmlx_t]"
            fixed = variable.declarator is not None and variable.declarator.constant
            if variable.origin == "attribute" and not variable.uniform:
                before.append(f"const auto {name} = {_BY_INDEX.get(name, f'zmlx_thread.{name}()')};")
            elif variable.derived and variable.statement is not None:
                if variable is self.variables.of(variable.statement)[0]:
                    before.append(self._text((variable.statement.first, variable.statement.last)))
            elif number in self.places:
                before.append(
                    f"{'const auto' if fixed else 'auto&' if variable.pinned else 'auto'} {name} = {place};"
                )
                if not fixed and not variable.pinned:
                    after.append(f"{place} = {name};")
        return before, after

    def _flush(self) -> None:
        """Write the statements that have gathered as one loop over the threads."""
        region, self.region = self.region, _Region()
        if region.statements:
            lines, after = self._loop_lines(region)
            self._each("\n".join([*lines, *after]))

    def _gathered_names(self) -> frozenset[str]:
        spans = ((s.first, s.last) for s in self.region.statements)
        return frozenset().union(*(self.variables.names(*span) for span in spans))

    def _each(self, lines: str) -> None:
        self.out.append(f"zmlx_group.each({self._mask}{_LAMBDA} {{\n{lines}\n}});")

    def _loop_lines(self, region: _Region, extra: Range = (0, -1)) -> tuple[list[str], list[str]]:
        """The lines of a region, and those that end it. ``extra`` is an expression that follows them."""
        spans = [*((s.first, s.last) for s in region.statements), extra]
        names: frozenset[str] = frozenset().union(*(self.variables.names(*span) for span in spans))
        before, after = self._prologue(names, spans[0][0])
        last = region.statements[-1].last if region.statements else -1
        for statement, text in zip(region.statements, region.texts, strict=True):
            before.append(text)
            for variable in self.variables.of(statement):
                outlives = self._outlives(variable, last)
                place = f"zmlx_e{variable.number}"
                if outlives:
                    self._declare_place(variable)
                if variable.pinned:
                    own = f"zmlx_v{variable.number}"
                    home = f"{place}.put(zmlx_t, {own})" if outlives else own
                    before.append(f"auto& {variable.name} = {home};")
                elif outlives:
                    after.append(f"{place}[zmlx_t] = {variable.name};")
        return before, after

    def _declare_place(self, variable: Variable) -> None:
        declarator, statement = variable.declarator, variable.statement
        assert declarator is not None
        assert statement is not None
        if declarator.reference:
            raise Unclear(f"the reference `{variable.name}` lives across a barrier")
        words = [self.fragment.text(i) for i in range(statement.type[0], statement.type[1] + 1)]
        if "auto" in words:
            raise Unclear(f"`auto {variable.name}`")  # has a loop of its own: see _write_auto
        kept = [
            i
            for i in range(statement.type[0], statement.type[1] + 1)
            if self.fragment.text(i) != "static" and (declarator.pointer or self.fragment.text(i) != "const")
        ]
        kind = " ".join(self._text((i, i)) for i in kept)
        stars = "*" * sum(
            self.fragment.text(i) == "*"
            for i in range(self._before_name(statement, declarator.name), declarator.name)
        )
        extents = self._text(declarator.extents) if declarator.extents else ""
        self._take_place(variable)
        self.out.append(f"zmlx::Each<{kind}{stars}{extents}> zmlx_e{variable.number};")

    def _before_name(self, statement: Statement, name: int) -> int:
        """Where the pointer marks in front of a declared name begin."""
        i = name
        while i - 1 > statement.type[1] and self.fragment.text(i - 1) != ",":
            i -= 1
        return i

    def _gather(self, statement: Statement) -> None:
        """Add a statement to the region. A pinned variable is declared under another name: what the author's own
        name means is said behind the declaration."""
        for variable in self.variables.of(statement):
            if variable.pinned and variable.declarator is not None:
                self.fragment.code[variable.declarator.name].text = f"zmlx_v{variable.number}"
        self.region.statements.append(statement)
        self.region.texts.append(self._text((statement.first, statement.last)))

    # --- statements -----------------------------------------------------------------------------------------------

    def _write_list(self, statements: list[Statement]) -> None:
        """Write statements; what they leave open behind an exit is closed at the end."""
        opened = 0
        for statement in statements:
            self._write_statement(statement)
            if self.masks and any(not self._is_of_group(e) for e in exits(statement)):
                self._flush()
                self.out.append(f"if ({self.masks[-1].name}.any()) {{")
                opened += 1
        self._flush()
        self.out.append("}" * opened)

    def _write_statement(self, statement: Statement) -> None:
        if statement.kind == "definition":
            self.out.append(self._text((statement.first, statement.last)))
        elif statement.kind == "exit" and self._is_of_group(statement):
            self._flush()
            self.out.append(f"{statement.keyword};")
        elif statement in self.body.grouped and self._is_written_in_parts(statement):
            self._flush()
            self._write_grouped(statement)
        elif self._is_barrier(statement):
            self._flush()
            if self.fragment.text(statement.first) != "simdgroup_barrier" and self._is_masked():
                raise Unclear("a barrier that only some threads reach")
        elif any(not self._is_of_group(e) for e in exits(statement)):
            self._write_leaving(statement)
        elif statement.kind == "declaration" and self._is_of_whole_group(statement):
            # In front of the loop that has gathered, unless that means something else by the name.
            if {v.name for v in self.variables.of(statement)} & self._gathered_names():
                self._flush()
            self.out.append(self._text((statement.first, statement.last)))
        elif self.variables.is_group_step(statement):
            self._flush()
            self.out.append(self._text((statement.first, statement.last)))
        else:
            self._bring((statement.first, statement.last))
            if statement.kind == "declaration" and self._is_auto_that_outlives(statement):
                self._write_auto(statement)
            else:
                self._gather(statement)

    def _is_masked(self) -> bool:
        return any(mask.name != _LIVE for mask in self.masks)

    def _is_written_in_parts(self, statement: Statement) -> bool:
        """A branch in which threads only leave is a statement like others, unless all of them leave."""
        return self.body.meets(statement) or statement not in self.body.masked

    def _is_barrier(self, statement: Statement) -> bool:
        found = [i for i in range(statement.first, statement.last + 1) if i in self.body.barriers]
        first = statement.first + 2 * (self.fragment.text(statement.first + 1) == "::")
        closed = self.fragment.partner(first + 1) if self.fragment.text(first + 1) == "(" else first
        if found and (found != [first] or closed < statement.last - 1):
            raise Unclear("a barrier that is not a statement of its own")
        return bool(found)

    def _is_of_whole_group(self, statement: Statement) -> bool:
        """Whether a declaration is one of the group's: shared memory, constants, uniform values."""
        return all(v.uniform or v.origin == "shared" for v in self.variables.of(statement))

    def _is_auto_that_outlives(self, statement: Statement) -> bool:
        words = {self.fragment.text(i) for i in range(statement.type[0], statement.type[1] + 1)}
        return "auto" in words and any(
            self._outlives(v, statement.last) for v in self.variables.of(statement)
        )

    def _write_auto(self, statement: Statement) -> None:
        """``auto v = expression;``: the loop that evaluates it also tells the type of v's place."""
        (variable, *others) = self.variables.of(statement)
        declarator = variable.declarator
        assert declarator is not None
        if others or declarator.form != "=" or declarator.initialiser is None or declarator.reference:
            raise Unclear(f"`auto {variable.name}`")
        self._flush()
        names = self.variables.names(*declarator.initialiser)
        before, after = self._prologue(names, statement.first)
        if after and any(w for w in self.variables.writes(*declarator.initialiser)):
            raise Unclear(f"`auto {variable.name}` changes others")
        lines = "\n".join([*before, f"return {self._text(declarator.initialiser)};"])
        self._take_place(variable)
        self.out.append(
            f"zmlx::Each zmlx_e{variable.number}(zmlx_group, {self._mask}{_LAMBDA} {{\n{lines}\n}});"
        )

    # --- simd operations ------------------------------------------------------------------------------------------

    def _bring(self, span: Range) -> None:
        """Let threads meet in the simd operations of an expression; what they get stands in their place."""
        calls = [i for i in range(span[0], span[1] + 1) if i in self.body.collectives]
        if not calls:
            return
        if any(self.fragment.text(i) == ";" for i in range(span[0], span[1])):
            raise Unclear("a simd operation in a statement of an unknown kind")
        if any(self._is_conditional(i, span) for i in calls):
            raise Unclear("a simd operation that is evaluated only if another value allows it")
        for index in sorted(calls, key=self._closed):  # what is in another's arguments closes first
            self._bring_one(index)

    def _closed(self, index: int) -> int:
        closed = self.fragment.partner(index + 1)
        if self.fragment.text(index + 1) != "(" or closed < 0:
            raise Unclear(f"`{self.fragment.text(index)}` that is not called plainly")
        return closed

    def _is_conditional(self, index: int, span: Range) -> bool:
        """Whether a ``?``, ``&&`` or ``||`` decides if the token at ``index`` is evaluated."""
        while True:
            opened = self.fragment.parent(index)
            decided = False
            for i in range(max(opened + 1, span[0]), index):
                if self.fragment.parent(i) == opened and self.fragment.text(i) in ("?", "&&", "||", ","):
                    decided = self.fragment.text(i) != ","
            if decided or opened < span[0]:
                return decided
            index = opened

    def _bring_one(self, index: int) -> None:
        closed = self._closed(index)
        name = f"zmlx_c{self._number()}"
        arguments = self._text((index + 2, closed - 1)) if closed > index + 2 else ""
        region, self.region = self.region, _Region()
        lines, after = self._loop_lines(region, (index + 2, closed - 1))
        if after:
            lines += [
                f"const auto zmlx_brought = metal::zmlx_bring::{self.fragment.text(index)}({arguments});",
                *after,
            ]
            lines.append("return zmlx_brought;")
        else:
            lines.append(f"return metal::zmlx_bring::{self.fragment.text(index)}({arguments});")
        self.out.append(
            f"zmlx::Met {name}(zmlx_group, {self._mask}{_LAMBDA} {{\n" + "\n".join(lines) + "\n});"
        )
        self.fragment.replace(call_start(self.fragment, index), closed, f"{name}[zmlx_t]")

    # --- control flow ---------------------------------------------------------------------------------------------

    def _write_leaving(self, statement: Statement) -> None:
        """A statement in which threads leave has a loop of its own, which changes variables in their places."""
        if self.body.meets(statement):
            raise Unclear("threads leave a statement in which others meet")
        self._flush()
        for leaving in exits(statement):
            dropped = "".join(f"{mask.name}.drop(zmlx_t); " for mask in self._left_masks(leaving))
            self.fragment.code[leaving.first].text = f"{{ {dropped}return"
            self.fragment.code[leaving.last].after += " }"
        names = self.variables.names(statement.first, statement.last)
        before, _ = self._prologue(names, statement.first)
        lines = [self._by_reference(line) for line in before]
        self._each("\n".join([*lines, self._text((statement.first, statement.last))]))

    def _by_reference(self, line: str) -> str:
        return line.replace("auto ", "auto& ", 1) if line.startswith("auto ") else line

    def _left_masks(self, leaving: Statement) -> list[_Mask]:
        """The masks that a thread is no longer in: up to that of the loop or iteration that it leaves, or all."""
        if leaving.keyword == "return":
            return self.masks
        last = next(i for i in reversed(range(len(self.masks))) if self.masks[i].ends == leaving.keyword)
        return self.masks[last:]

    def _write_grouped(self, statement: Statement) -> None:
        if statement.kind == "block":
            self.out.append("{")
            self._write_list(statement.children)
            self.out.append("}")
        elif statement.kind == "if":
            self._write_if(statement)
        else:
            self._write_loop(statement)

    def _write_if(self, statement: Statement) -> None:
        if statement not in self.body.masked:
            self.out.append(f"{statement.keyword} ({self._text(statement.head)}) {{")
            self._write_list(statement.children)
            if statement.otherwise is not None:
                self.out.append("} else {")
                self._write_list(statement.otherwise)
            self.out.append("}")
            return
        self.out.append("{")
        self._bring(statement.head)
        mask, other = f"zmlx_m{self._number()}", f"zmlx_m{self._number()}"
        outer = self._current_lanes()
        self._where(mask, outer, statement.head, "zmlx::Lanes ")
        if statement.otherwise is not None:
            self.out.append(f"zmlx::Lanes {other} = {outer}.without({mask});")
        self._write_masked(_Mask(mask), statement.children)
        if statement.otherwise is not None:
            self._write_masked(_Mask(other), statement.otherwise)
        self.out.append("}")

    def _current_lanes(self) -> str:
        return self.masks[-1].name if self.masks else "zmlx_group.all()"

    def _where(self, mask: str, outer: str, condition: Range, kind: str) -> None:
        """Set ``mask`` to the lanes of ``outer`` for which a condition holds."""
        region, self.region = self.region, _Region()
        lines, after = self._loop_lines(region, condition)
        if region.statements:
            raise AssertionError("a condition is evaluated in a region of its own")
        text = self._text(condition)
        lines += [f"const bool zmlx_holds = static_cast<bool>({text});", *after, "return zmlx_holds;"]
        self.out.append(
            f"{kind}{mask} = zmlx_group.where({outer}, {_LAMBDA} {{\n" + "\n".join(lines) + "\n});"
        )

    def _write_masked(self, mask: _Mask, statements: list[Statement]) -> None:
        self.masks.append(mask)
        self.out.append(f"if ({mask.name}.any()) {{")
        self._write_list(statements)
        self.out.append("}")
        self.masks.pop()

    def _write_loop(self, statement: Statement) -> None:
        if statement not in self.body.masked:
            init = f"{self._text((statement.init.first, statement.init.last))}" if statement.init else ";"
            head = self._text(statement.head)
            if statement.keyword == "for":
                self.out.append(f"for ({init} {head}; {self._text(statement.step)}) {{")
            else:
                self.out.append("do {" if statement.keyword == "do" else f"while ({head}) {{")
            self._write_list(statement.children)
            self.out.append(f"}} while ({head});" if statement.keyword == "do" else "}")
            return
        if statement.keyword == "do":
            raise Unclear("`do` that some threads leave before others")
        self.out.append("{")
        if statement.init is not None:
            self._write_list([statement.init])
        mask = _Mask(f"zmlx_m{self._number()}", "break")
        self.out.append(f"zmlx::Lanes {mask.name} = {self._current_lanes()};")
        self.masks.append(mask)
        self.out.append("for (;;) {")
        if statement.head[0] <= statement.head[1]:
            self._bring(statement.head)
            self._where(mask.name, mask.name, statement.head, "")
        turn = _Mask(f"zmlx_m{self._number()}", "continue")
        self.out.append(f"if (!{mask.name}.any()) break;\nzmlx::Lanes {turn.name} = {mask.name};\n{{")
        self.masks.append(turn)
        self._write_list(statement.children)
        self.masks.pop()
        self.out.append("}")
        if statement.step[0] <= statement.step[1]:
            self._bring(statement.step)
            names = self.variables.names(*statement.step)
            before, after = self._prologue(names, statement.step[0])
            self._each("\n".join([*before, f"{self._text(statement.step)};", *after]))
        self.out.append("}")
        self.masks.pop()
        self.out.append("}")
