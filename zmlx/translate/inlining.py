"""Functions of the header in which threads meet, in the place of their calls: regions.py takes apart the kernel's body.

::

    T total(T v) { v += 1; return simd_sum(v); }         int zmlx_i1_v = x[i]; zmlx_i1_v += 1;
                                                     →   int zmlx_i1 = simd_sum(zmlx_i1_v);
    out[i] = total(x[i]) * 2;                            out[i] = zmlx_i1 * 2;

all in the line of the call. What goes in front of a statement is evaluated before the rest of it, which C++ allows
where nothing in the statement decides whether or when the function is called; else the kernel is left to fibers.
callee.py has what becomes of parameters, names and ``return``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from zmlx.metal.declarations import Declaration, declarations
from zmlx.metal.signature import KernelSource
from zmlx.metal.statements import Range, Statement, Unclear, parse
from zmlx.metal.structure import Fragment, Program
from zmlx.metal.tokens import join, tokenize
from zmlx.translate.callee import Callee, Parameter, Returns, declared_names, is_moved, parsed
from zmlx.translate.convergence import call_end, call_start
from zmlx.translate.evaluation import is_behind_comma, is_conditional

#: So many calls are written out, and so deep.
_MAX_CALLS, _MAX_DEPTH = 256, 16
#: Words in front of an expression; others are types, and a variable is declared.
_BEFORE_CALL = frozenset({"return", "else", "do"})
_PLAIN = frozenset({"+", "-", "*", "/", "%", "<<", ">>", ">", "[", "]", "."})


def inline_functions(kernel: KernelSource, program: Program, meeting: frozenset[str]) -> None:
    """Put the functions among ``meeting`` in the place of their calls in the program's body, in place.

    Raises
    ------
    Unclear
        A function, or the place of a call, does not have the form that this needs.
    """
    _Inliner(kernel, program, meeting).run()


def names_of_globals(header_text: str) -> frozenset[str]:
    """What the header's functions may name, and a template argument of the kernel hides from its body: constants and
    types that it defines outside of functions."""
    header = Program(header_text, "").header.main
    ends = ("=", "{", "[")
    return frozenset(
        header.text(i) for i in range(len(header) - 1) if header.parent(i) < 0 and header.text(i + 1) in ends
    )


class _Inliner:
    def __init__(self, kernel: KernelSource, program: Program, meeting: frozenset[str]) -> None:
        self.kernel = kernel
        self.program = program
        self.functions: dict[str, list[Declaration]] = {}
        self.macros = frozenset(
            name
            for name, times in Counter(m.name for s in program.sources for m in s.macros).items()
            if times == 1 and name in meeting
        )
        for declaration in declarations(program.header.main):
            if declaration.kind == "function" and not declaration.scope and declaration.name in meeting:
                self.functions.setdefault(declaration.name, []).append(declaration)
        self.callees: dict[str, Callee] = {}
        self.kernels: set[str] = set()
        self.deduced: set[str] = set()
        self.count = 0

    def run(self) -> None:
        body = self.program.body.main
        if not any(body.text(i) in self.functions for i in range(len(body))):
            return
        statements = parse(body, 0, len(body) - 1)
        self.kernels = self._names_of_kernel(body, statements)
        self._rewrite(body, statements, ())

    def _names_of_kernel(self, body: Fragment, statements: list[Statement]) -> set[str]:
        """What names in the body mean something of the kernel's own."""
        names = {*self.kernel.input_names, *self.kernel.output_names, *dict(self.kernel.attributes)}
        names |= {macro.name for macro in self.program.body.macros}
        for name in self.kernel.input_names:
            names |= {f"{name}_shape", f"{name}_strides", f"{name}_ndim"}
        for outer in statements:
            for statement in outer.walk():
                names |= {body.text(d.name) for d in statement.declarators}
                if statement.kind == "definition":
                    names |= {body.text(i) for i in (statement.first + 1, statement.last - 1)}
        return names

    # --- statements -----------------------------------------------------------------------------------------------

    def _rewrite(self, fragment: Fragment, statements: list[Statement], stack: tuple[str, ...]) -> None:
        for statement in statements:
            calls = self._calls(fragment, (statement.first, statement.last))
            if not calls:
                continue
            if statement.kind in ("block", "if"):
                if statement.kind == "if":
                    self._hoist(fragment, statement, statement.head, stack)
                self._rewrite(fragment, statement.children, stack)
                self._rewrite(fragment, statement.otherwise or [], stack)
            elif statement.kind == "loop":
                self._rewrite_loop(fragment, statement, stack)
            elif statement.kind in ("switch", "definition"):
                raise Unclear(f"threads meet in `{fragment.text(calls[0])}`, called in a `{statement.kind}`")
            else:
                self._hoist(fragment, statement, (statement.first, statement.last), stack)

    def _rewrite_loop(self, fragment: Fragment, loop: Statement, stack: tuple[str, ...]) -> None:
        for span, where in ((loop.step, "the step of a loop"), (loop.head, "a loop's condition")):
            calls = self._calls(fragment, span)
            if calls and (where.startswith("the step") or loop.keyword == "do"):
                raise Unclear(f"threads meet in `{fragment.text(calls[0])}`, called in {where}")
        if loop.init is not None and self._calls(fragment, (loop.init.first, loop.init.last)):
            self._hoist(fragment, loop, (loop.init.first, loop.init.last), stack)
        if self._calls(fragment, loop.head):
            # while (f(x)) …    →    while (true) { …; if (!(result)) break; … }
            prelude = self._take_out(fragment, loop.head, stack)
            first, last = loop.head
            condition = fragment.render(first, last)
            fragment.replace(first, last, "true")
            inner = loop.children[0].first if loop.children else -1
            if inner < 0:
                raise Unclear("a loop without a body in whose condition threads meet")
            opened = f"{prelude}if (!({condition})) break; "
            if fragment.text(inner - 1) == "{":
                fragment.code[inner - 1].after += f" {opened}"
            else:
                fragment.code[inner].before = f"{{ {opened}{fragment.code[inner].before}"
                fragment.code[loop.children[-1].last].after += " }"
        self._rewrite(fragment, loop.children, stack)

    def _hoist(self, fragment: Fragment, statement: Statement, span: Range, stack: tuple[str, ...]) -> None:
        """Put what the calls in ``span`` need in front of a statement."""
        if not self._calls(fragment, span):
            return
        prelude = self._take_out(fragment, span, stack)
        alone = fragment.text(statement.first - 1) in (
            ")",
            "else",
            "do",
        )  # the body of something, without braces
        token = fragment.code[statement.first]
        token.before = f"{'{ ' if alone else ''}{prelude}{token.before}"
        if alone:
            fragment.code[statement.last].after += " }"

    def _calls(self, fragment: Fragment, span: Range) -> list[int]:
        return [
            i
            for i in range(span[0], span[1] + 1)
            if fragment.text(i) in self.functions and fragment.text(i - 1) not in (".", "->")
        ]

    def _take_out(self, fragment: Fragment, span: Range, stack: tuple[str, ...]) -> str:
        """The statements that stand for the calls in ``span``, whose results take their places."""
        calls = self._calls(fragment, span)
        for index in calls:
            name = fragment.text(index)
            start = call_start(fragment, index)
            declared = fragment.is_name(start - 1) and fragment.text(start - 1) not in _BEFORE_CALL
            if call_end(fragment, index) < 0 or start < index - 1 or declared:
                raise Unclear(f"threads meet in `{name}`, which is not called plainly")
            if is_conditional(fragment, index, span) or is_behind_comma(fragment, index, span):
                raise Unclear(
                    f"threads meet in `{name}`, which is called only if another value allows it, or behind a comma"
                )
        found = ""
        for index in sorted(
            calls, key=lambda i: call_end(fragment, i)
        ):  # what is in another's arguments comes first
            found += self._take_one(fragment, index, span, stack)
        return found

    def _take_one(self, fragment: Fragment, index: int, span: Range, stack: tuple[str, ...]) -> str:
        name, closed = fragment.text(index), call_end(fragment, index)
        opened = fragment.partner(closed)
        pieces = list(fragment.pieces(opened + 1, closed - 1))
        callee = self._callee(name, len(pieces))
        if name in stack or len(stack) >= _MAX_DEPTH or self.count >= _MAX_CALLS:
            raise Unclear(f"threads meet in `{name}`, which calls itself or is called too often")
        self.count += 1
        own = f"zmlx_i{self.count}"
        arguments = [fragment.render(*piece) for piece in pieces]
        explicit = (
            [fragment.render(*p) for p in fragment.pieces(index + 2, opened - 2)]
            if opened > index + 1
            else []
        )
        start = call_start(fragment, index)
        whole = start == span[0] and closed == span[1] - 1 and fragment.text(span[1]) == ";"
        if not callee.result and not whole:
            raise Unclear(f"threads meet in `{name}`, which returns nothing, in an expression")
        fragment_of_body = callee.body(self.macros)
        statements = parsed(fragment_of_body)
        values = dict(zip((p.name for p in callee.parameters), pieces, strict=False))
        texts: dict[str, str] = {}
        lines = self._bind_template(callee, own, explicit, arguments, texts)
        of_template = dict(texts)
        changing = [
            piece
            for parameter, piece in zip(callee.parameters, pieces, strict=False)
            if (parameter.reference and not parameter.constant) or _has_effect(fragment, piece)
        ]
        for number, parameter in enumerate(callee.parameters):
            text = arguments[number] if number < len(arguments) else _renamed(parameter.default, of_template)
            piece = values.get(parameter.name)
            if self._is_alias(fragment, parameter, piece, fragment_of_body, changing):
                texts[parameter.name] = text
                continue
            texts[parameter.name] = f"{own}_{parameter.name}"
            before, behind = (_renamed(part, texts) for part in (parameter.before, parameter.behind))
            if parameter.reference:
                before = before.replace("&", "")
            lines += f"{before} {own}_{parameter.name}{behind} = {text}; "
        for declared in declared_names(fragment_of_body, statements, name):
            texts[declared] = f"{own}_{declared}"
        self._rename(fragment_of_body, name, texts)
        # What the function calls is put in place first: names in what is rendered then are the new ones.
        self._rewrite(fragment_of_body, statements, (*stack, name))
        returns = Returns(callee, _renamed(callee.result, texts), fragment_of_body, own)
        declaration = returns.rewrite(statements) if statements else ""
        text = join(fragment_of_body.source.tokens)
        fragment.replace(start, closed, own if callee.result else "")
        return f"{lines}{declaration}{text} "

    # --- functions ------------------------------------------------------------------------------------------------

    def _callee(self, name: str, arguments: int) -> Callee:
        """The function that a call means."""
        found = self.functions[name]
        if len(found) > 1:
            raise Unclear(f"threads meet in `{name}`, which is overloaded")
        if name not in self.callees:
            if self.program.header.main.parent(found[0].first) >= 0:
                raise Unclear(f"threads meet in `{name}`, in a namespace")
            self.callees[name] = Callee(self.program, found[0])
        callee = self.callees[name]
        needed = sum(not p.default for p in callee.parameters)
        if not needed <= arguments <= len(callee.parameters):
            raise Unclear(f"threads meet in `{name}`, called with {arguments} arguments")
        return callee

    def _bind_template(
        self, callee: Callee, own: str, explicit: list[str], arguments: list[str], texts: dict[str, str]
    ) -> str:
        """Statements that give the template's parameters their meaning under names of this call's own."""
        if not callee.template:
            return ""
        lines, held = "", ""
        if len(explicit) < len(callee.template):
            if callee.name not in self.deduced:
                self.deduced.add(callee.name)
                self.program.header.main.code[callee.declaration.last].after += callee.deduction()
            given = f"<{', '.join(explicit)}>" if explicit else ""
            call = f"zmlx_deduce_{callee.name}{given}({', '.join(arguments)})"
            lines, held = f"using {own}_A = decltype({call}); ", f"{own}_A"
        for number, parameter in enumerate(callee.template):
            name = f"{own}_{parameter.name}"
            kind = _renamed(parameter.kind, texts)
            texts[parameter.name] = name
            member = f"{held}::{parameter.name}_"
            if parameter.is_type:
                lines += f"using {name} = {f'typename {member}' if held else explicit[number]}; "
            else:
                lines += f"constexpr {kind} {name} = {member if held else explicit[number]}; "
        return lines

    def _is_alias(
        self,
        fragment: Fragment,
        parameter: Parameter,
        piece: Range | None,
        body: Fragment,
        changing: list[Range],
    ) -> bool:
        """Whether a parameter is another name of what the caller hands over."""
        name = piece is not None and piece[0] == piece[1] and fragment.is_name(piece[0])
        if not parameter.reference:
            return parameter.pointer and name and not is_moved(body, parameter.name, True)
        if piece is not None and _is_place(fragment, piece, changing):
            return True
        if parameter.constant and "(" not in parameter.before:
            return False
        raise Unclear(f"threads meet in a function that has `{parameter.name}` by reference")

    def _rename(self, body: Fragment, function: str, texts: Mapping[str, str]) -> None:
        """Give a function's names the texts of this call."""
        for index in range(len(body)):
            name = body.text(index)
            if not body.is_name(index) or body.text(index - 1) in (".", "->"):
                continue
            if name in texts and body.text(index - 1) != "::":
                body.code[index].text = texts[name]
                continue
            if name in self.kernels:
                raise Unclear(
                    f"threads meet in `{function}`, to which `{name}` is not what it is in the kernel"
                )
            self._check_macro(function, name, texts)

    def _check_macro(self, function: str, name: str, texts: Mapping[str, str]) -> None:
        """A macro may not name what has another name now."""
        seen, left = {name}, [name]
        while left:
            macro = self.program.macros.get(left.pop())
            if macro is None:
                continue
            for used in _names(macro.body):
                if used in texts or used in self.kernels:
                    raise Unclear(f"threads meet in `{function}`, which hides `{used}` in the macro `{name}`")
                if used not in seen:
                    seen.add(used)
                    left.append(used)


def _has_effect(fragment: Fragment, piece: Range) -> bool:
    """Whether an argument changes a variable, or hands out its address."""
    return any(fragment.text(i) in ("&", "=", "++", "--") for i in range(piece[0], piece[1] + 1))


def _is_place(fragment: Fragment, piece: Range, changing: list[Range]) -> bool:
    """Whether an argument is a variable, or an element of one whose index none of the others can change."""
    first, last = piece
    if not fragment.is_name(first):
        return False
    index = first + 1
    while index <= last:
        if fragment.text(index) == "." and fragment.is_name(index + 1):
            index += 2
        elif fragment.text(index) == "[":
            index = fragment.partner(index) + 1
        else:
            return False
    inner = [i for i in range(first + 1, last + 1) if fragment.text(i - 1) != "."]
    if any(
        not (fragment.is_name(i) or fragment.code[i].kind == "number" or fragment.text(i) in _PLAIN)
        for i in inner
    ):
        return False
    used = {fragment.text(i) for i in inner if fragment.is_name(i)}
    others = (p for p in changing if p != piece)
    return not any(fragment.text(i) in used for p in others for i in range(p[0], p[1] + 1))


def _renamed(text: str, texts: Mapping[str, str]) -> str:
    """A text in which names have those of a call."""
    tokens = tokenize(text)
    for token in tokens:
        if token.kind == "name":
            token.text = texts.get(token.text, token.text)
    return join(tokens)


def _names(fragment: Fragment) -> Iterator[str]:
    return (fragment.text(i) for i in range(len(fragment)) if fragment.is_name(i))
