"""Writes a kernel whose threads meet as a function of the whole threadgroup; see regions.py for the form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from zmlx.metal.statements import Range, Statement, Unclear, exits
from zmlx.translate.convergence import call_start
from zmlx.translate.evaluation import is_conditional, is_sequenced
from zmlx.translate.matrices import MatrixCalls
from zmlx.translate.places import LAMBDA, Places, Region
from zmlx.translate.uniform import Uniformity

_LIVE = "zmlx_live"


@dataclass
class _Mask:
    """The threads that are there, as a variable of the group. ``ends`` are the exits that leave no mask around it:
    ``break`` of a loop's own, ``continue`` of the one of its iteration."""

    name: str
    ends: str = ""


def _outer(statements: Iterable[Statement]) -> Iterator[tuple[Statement, Statement]]:
    """Each statement that stands in another, and that other."""
    for statement in statements:
        inner = [*statement.children, *(statement.otherwise or ())]
        yield from ((child, statement) for child in inner)
        yield from _outer(inner)


class RegionWriter:
    """Writes the function of the group, line by line into `out`."""

    def __init__(self, uniformity: Uniformity) -> None:
        self.uniformity = uniformity
        self.variables = uniformity.variables
        self.body = uniformity.body
        self.fragment = uniformity.fragment
        self.places = Places(uniformity)
        self.matrices = MatrixCalls(uniformity, self.places)
        self.out: list[str] = []
        self._gathered = Region()
        self._count = 0
        self._outer = dict(_outer(self.body.statements))
        leaving = (e for s in self.body.statements for e in exits(s) if not self._is_of_group(e))
        self._masks = [_Mask(_LIVE)] if any(leaving) else []

    def write(self) -> str:
        """The body of the function.

        Raises
        ------
        Unclear
            It cannot be written in this form.
        """
        self._open_macros()
        if self._masks:
            self.out.append(f"zmlx::Lanes {_LIVE} = zmlx_group.all();")
        self.places.open_parameters()
        self._take_lines()
        self._write_list(self.body.statements)
        if self.matrices.left:
            raise Unclear(f"`{self.fragment.text(min(self.matrices.left))}` in a condition")
        return "\n".join(self.out)

    # --- names and texts ------------------------------------------------------------------------------------------

    def _marked(self, statement: Statement) -> str:
        """A statement's text behind the number of its line."""
        line = self.fragment.code[statement.first].line
        return f"#line {line}\n{self.places.text((statement.first, statement.last))}"

    def _number(self) -> int:
        self._count += 1
        return self._count

    def _is_of_group(self, leaving: Statement) -> bool:
        """Whether all threads that are there take an exit together."""
        for statement in self._around(leaving):
            if statement not in self.body.grouped or statement in self.body.masked:
                return False
            if statement.kind == "loop" and leaving.keyword != "return":
                return True
        return True

    def _around(self, inner: Statement) -> Iterator[Statement]:
        """The statements around one, the innermost first."""
        outer = self._outer.get(inner)
        while outer is not None:
            yield outer
            outer = self._outer.get(outer)

    @property
    def _mask(self) -> str:
        """The first argument of what runs a loop over threads: the mask, if there is one."""
        return f"{self._masks[-1].name}, " if self._masks else ""

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

    def _take_lines(self) -> None:
        """Write the declarations of places, in front of the loop that needs them."""
        self.out += self.places.lines
        self.places.lines.clear()

    def _flush(self) -> None:
        """Write the statements that have gathered as one loop over the threads."""
        region, self._gathered = self._gathered, Region()
        if region.statements:
            lines, after = self.places.loop(region)
            self._each([*lines, *after])

    def _gathered_names(self) -> frozenset[str]:
        spans = ((s.first, s.last) for s in self._gathered.statements)
        return frozenset().union(*(self.variables.names(*span) for span in spans))

    def _each(self, lines: list[str]) -> None:
        self._take_lines()
        self.out += [f"zmlx_group.each({self._mask}{LAMBDA} {{", *lines, "});"]

    def _gather(self, statement: Statement) -> None:
        """Add a statement to the region. A pinned variable is declared under another name: what the author's own
        name means is said behind the declaration."""
        for variable in self.variables.of(statement):
            if variable.pinned and variable.declarator is not None:
                self.fragment.code[variable.declarator.name].text = f"zmlx_v{variable.number}"
        self._gathered.statements.append(statement)
        self._gathered.texts.append(self._marked(statement))

    # --- statements -----------------------------------------------------------------------------------------------

    def _write_list(self, statements: list[Statement]) -> None:
        """Write statements; what they leave open behind an exit is closed at the end."""
        opened = 0
        for statement in statements:
            self._write_statement(statement)
            if self._masks and any(not self._is_of_group(e) for e in exits(statement)):
                self._flush()
                self.out.append(f"if ({self._masks[-1].name}.any()) {{")
                opened += 1
        self._flush()
        self.out.append("}" * opened)

    def _write_statement(self, statement: Statement) -> None:
        if statement.kind == "definition" and self._names_threads(statement):
            self._write_type(statement)
        elif statement.kind == "definition":
            self.out.append(self._marked(statement))
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
        elif (call := self.matrices.call_of(statement)) >= 0:
            self._flush()
            lines, behind = self.matrices.write(call, self._mask)
            self._take_lines()
            self.out += lines
            if behind:
                before, _ = self.places.around([(statement.first, statement.last)], in_place=True)
                self._each([*before, *behind])
        elif any(not self._is_of_group(e) for e in exits(statement)):
            self._write_leaving(statement)
        elif statement.kind == "declaration" and self._is_of_whole_group(statement):
            # In front of the loop that has gathered, unless that means something else by the name.
            if {v.name for v in self.variables.of(statement)} & self._gathered_names():
                self._flush()
            self.out.append(self._marked(statement))
        elif self.uniformity.is_group_step(statement):
            self._flush()
            self.out.append(self._marked(statement))
        else:
            self._bring((statement.first, statement.last))
            if statement.kind == "declaration" and self._is_auto_that_outlives(statement):
                self._write_auto(statement)
            else:
                self._gather(statement)

    def _names_threads(self, statement: Statement) -> bool:
        """Whether a definition names what is a thread's, as in ``using T = decltype(v);``."""
        found = (
            self.variables.at(self.fragment.text(i), i) for i in range(statement.first, statement.last + 1)
        )
        return any(v is not None and not v.uniform for v in found)

    def _write_type(self, statement: Statement) -> None:
        """``using T = decltype(v);``: a lambda that sees the thread's variables tells the type; nothing calls it."""
        name = self.fragment.text(statement.first + 1)
        if self.fragment.text(statement.first) != "using" or self.fragment.text(statement.first + 2) != "=":
            raise Unclear(f"`{self.fragment.text(statement.first)}` of a variable")
        self._flush()
        span = (statement.first + 3, statement.last - 1)
        before, _ = self.places.around([span])
        self._take_lines()
        told = f"zmlx_l{self._number()}"
        value = f"return zmlx::Type<{self.places.text(span)}>{{}};"
        self.out += [f"const auto {told} = {LAMBDA} {{", *before, value, "};"]
        self.out.append(f"using {name} = typename zmlx::Returned<decltype({told})>::T;")

    def _is_masked(self) -> bool:
        return any(mask.name != _LIVE for mask in self._masks)

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
            self.places.outlives(v, statement.last) for v in self.variables.of(statement)
        )

    def _write_auto(self, statement: Statement) -> None:
        """``auto v = expression;``: the loop that evaluates it also tells the type of v's place."""
        (variable, *others) = self.variables.of(statement)
        declarator = variable.declarator
        assert declarator is not None
        if others or declarator.form != "=" or declarator.initialiser is None or declarator.reference:
            raise Unclear(f"`auto {variable.name}`")
        self._flush()
        before, after = self.places.around([declarator.initialiser])
        if after:
            raise Unclear(f"`auto {variable.name}` changes others")
        value = f"return {self.places.text(declarator.initialiser)};"
        place = self.places.take(variable)
        self.out += [f"zmlx::Each {place}(zmlx_group, {self._mask}{LAMBDA} {{", *before, value, "});"]

    # --- simd operations ------------------------------------------------------------------------------------------

    def _bring(self, span: Range) -> None:
        """Let threads meet in the simd operations of an expression; what they get stands in their place."""
        calls = [i for i in range(span[0], span[1] + 1) if i in self.body.collectives]
        if not calls:
            return
        if any(self.fragment.text(i) == ";" for i in range(span[0], span[1])):
            raise Unclear("a simd operation in a statement of an unknown kind")
        if any(is_conditional(self.fragment, i, span) for i in calls):
            raise Unclear("a simd operation that is evaluated only if another value allows it")
        if any(is_sequenced(self.variables, (i, self._closed(i)), span) for i in calls):
            raise Unclear("a simd operation behind a comma")
        for index in sorted(calls, key=self._closed):  # what is in another's arguments closes first
            self._bring_one(index)

    def _closed(self, index: int) -> int:
        closed = self.fragment.partner(index + 1)
        if self.fragment.text(index + 1) != "(" or closed < 0:
            raise Unclear(f"`{self.fragment.text(index)}` that is not called plainly")
        return closed

    def _bring_one(self, index: int) -> None:
        closed = self._closed(index)
        name = f"zmlx_c{self._number()}"
        arguments = self.places.text((index + 2, closed - 1)) if closed > index + 2 else ""
        region, self._gathered = self._gathered, Region()
        lines, after = self.places.loop(region, (index + 2, closed - 1))
        self._take_lines()
        brings = f"metal::zmlx_bring::{self.fragment.text(index)}({arguments})"
        lines += [f"const auto zmlx_brought = {brings};", *after, "return zmlx_brought;"]
        self.out += [f"zmlx::Met {name}(zmlx_group, {self._mask}{LAMBDA} {{", *lines, "});"]
        start = call_start(self.fragment, index)
        first, last = self.fragment.code[start], self.fragment.code[closed]
        around = first.before, last.after  # what earlier passes put around the call stays around its result
        self.fragment.replace(start, closed, f"{name}[zmlx_t]")
        first.before, last.after = around

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
        # A thread leaves in the middle: what it changes must be in its place by then.
        before, _ = self.places.around([(statement.first, statement.last)], in_place=True)
        self._each([*before, self._marked(statement)])

    def _left_masks(self, leaving: Statement) -> list[_Mask]:
        """The masks that a thread is no longer in: up to that of the loop or iteration that it leaves, or all."""
        if leaving.keyword == "return":
            return self._masks
        last = next(i for i in reversed(range(len(self._masks))) if self._masks[i].ends == leaving.keyword)
        return self._masks[last:]

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
            self.out.append(f"{statement.keyword} ({self.places.text(statement.head)}) {{")
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
        return self._masks[-1].name if self._masks else "zmlx_group.all()"

    def _where(self, mask: str, outer: str, condition: Range, kind: str) -> None:
        """Set ``mask`` to the lanes of ``outer`` for which a condition holds."""
        lines, after = self.places.around([condition])
        holds = f"const bool zmlx_holds = static_cast<bool>({self.places.text(condition)});"
        lines += [holds, *after, "return zmlx_holds;"]
        self.out += [f"{kind}{mask} = zmlx_group.where({outer}, {LAMBDA} {{", *lines, "});"]

    def _write_masked(self, mask: _Mask, statements: list[Statement]) -> None:
        self._masks.append(mask)
        self.out.append(f"if ({mask.name}.any()) {{")
        self._write_list(statements)
        self.out.append("}")
        self._masks.pop()

    def _write_loop(self, statement: Statement) -> None:
        if statement not in self.body.masked:
            init = (
                f"{self.places.text((statement.init.first, statement.init.last))}" if statement.init else ";"
            )
            head = self.places.text(statement.head)
            if statement.keyword == "for":
                self.out.append(f"for ({init} {head}; {self.places.text(statement.step)}) {{")
            else:
                self.out.append("do {" if statement.keyword == "do" else f"while ({head}) {{")
            if self._masks:
                self.out.append(f"if (!{self._masks[-1].name}.any()) break;")
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
        self._masks.append(mask)
        self.out.append("for (;;) {")
        if statement.head[0] <= statement.head[1]:
            self._bring(statement.head)
            self._where(mask.name, mask.name, statement.head, "")
        turn = _Mask(f"zmlx_m{self._number()}", "continue")
        self.out.append(f"if (!{mask.name}.any()) break;\nzmlx::Lanes {turn.name} = {mask.name};\n{{")
        self._masks.append(turn)
        self._write_list(statement.children)
        self._masks.pop()
        self.out.append("}")
        if statement.step[0] <= statement.step[1]:
            self._bring(statement.step)
            before, after = self.places.around([statement.step])
            self._each([*before, f"{self.places.text(statement.step)};", *after])
        self.out.append("}")
        self._masks.pop()
        self.out.append("}")
