"""The kernels of a whole Metal file: their names, what they take, and the text of their bodies."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from zmlx.metal.conditions import value_of
from zmlx.metal.declarations import Declaration, declarations
from zmlx.metal.signature import HIDDEN, MAX_BUFFERS
from zmlx.metal.structure import Fragment, Program
from zmlx.metal.tokens import join, tokenize

_SPACES = frozenset({"device", "constant", "threadgroup", "thread"})
#: What stands in a parameter's type and changes nothing for who calls the kernel.
_QUALIFIERS = frozenset({"const", "volatile", "restrict", "__restrict", "__restrict__", "coherent"})
_KERNEL = "kernel"


@dataclass(frozen=True)
class Argument:
    """One parameter of a kernel.

    ``space`` is ``device``, ``constant`` or ``threadgroup``; empty for an attribute. ``type`` is what it points to, or
    its own type, without qualifiers. ``form`` is ``"*"``, ``"&"`` or empty. ``attributes`` are the words in ``[[…]]``,
    each with what stands in its parentheses.
    """

    name: str
    space: str
    type: str
    form: str
    const: bool
    attributes: tuple[tuple[str, str], ...]

    def attribute(self, name: str) -> str | None:
        """What is in the parentheses of one of its attributes; None if it has no such."""
        return dict(self.attributes).get(name)

    @property
    def is_buffer(self) -> bool:
        return self.space in ("device", "constant")

    @property
    def written(self) -> bool:
        """Whether the kernel may write to it."""
        return self.space == "device" and not self.const

    @property
    def declaration(self) -> str:
        """As Metal declares it, without attributes: ``const device float* x``."""
        const = "const " if self.const else ""
        return f"{const}{self.space} {self.type}{self.form} {self.name}".strip()


@dataclass(frozen=True)
class TemplateParameter:
    """``typename T`` or ``int N``, and the text of the value that the kernel has for it."""

    kind: str
    name: str
    value: str


@dataclass(frozen=True)
class EntryPoint:
    """A kernel. ``line`` is that of its body's brace, ``body`` the text between the braces. ``problem`` is why it
    cannot be launched, where it cannot.
    """

    name: str
    arguments: tuple[Argument, ...]
    template: tuple[TemplateParameter, ...]
    namespaces: tuple[str, ...]
    body: str
    line: int
    max_threads: int | None = None
    problem: str = ""

    @cached_property
    def buffers(self) -> tuple[tuple[int, Argument], ...]:
        """The buffers with their indices, in the order of these: those of ``[[buffer(n)]]``, else the next free one."""
        return _indexed([a for a in self.arguments if a.is_buffer], "buffer")

    @cached_property
    def threadgroup_memory(self) -> tuple[tuple[int, Argument], ...]:
        """Arguments in threadgroup memory with their indices, likewise."""
        return _indexed([a for a in self.arguments if a.space == "threadgroup"], "threadgroup")


@dataclass(frozen=True)
class _Instance:
    """``template [[host_name("f_float")]] [[kernel]] decltype(f<float>) f<float>;``"""

    name: str
    function: str
    values: tuple[str, ...]


def entry_points(text: str) -> tuple[EntryPoint, ...]:
    """The kernels of a preprocessed Metal text, in the order in which they stand there.

    A template is none by itself: what is explicitly instantiated of it is, by its ``host_name``.
    """
    fragment = Program(text, "").header.main
    functions = [d for d in declarations(fragment) if d.kind == "function"]
    inside = [range(d.body[0], d.body[1]) for d in functions]
    found: list[tuple[int, EntryPoint]] = []
    templates: dict[str, list[Declaration]] = {}
    for function in functions:
        if not _is_kernel(fragment, function.first, function.parameters[0]):
            continue
        if fragment.text(function.first) == "template":
            templates.setdefault(function.name, []).append(function)
        else:
            name = _attributes(fragment, function.first, function.parameters[0]).get("host_name")
            found.append((function.first, _entry(fragment, function, _string(name) or function.name, ())))
    for index in range(len(fragment)):
        if fragment.text(index) != "template" or fragment.text(index + 1) == "<":
            continue
        if fragment.text(index - 1) in (".", "->", "::") or any(index in span for span in inside):
            continue
        instance = _instance(fragment, index)
        for function in templates.get(instance.function, [])[:1] if instance else []:
            assert instance is not None
            found.append((index, _entry(fragment, function, instance.name, instance.values)))
    return tuple(entry for _, entry in sorted(found, key=lambda pair: pair[0]))


def _is_kernel(fragment: Fragment, first: int, last: int) -> bool:
    """Whether ``kernel`` stands in front of a function's parameters, as a word or an attribute."""
    return any(fragment.text(i) == _KERNEL for i in range(first, last))


def _attributes(fragment: Fragment, first: int, last: int) -> dict[str, str]:
    """The attributes between two tokens, each with the text in its parentheses."""
    found: dict[str, str] = {}
    index = first
    while index <= last:
        closed = fragment.partner(index)
        if fragment.text(index) == "[" and fragment.text(index + 1) == "[" and closed > 0:
            for start, end in fragment.pieces(index + 2, closed - 2):
                inner = fragment.render(start + 2, end - 1) if fragment.text(start + 1) == "(" else ""
                found[fragment.text(start)] = inner
            index = closed
        index += 1
    return found


def _string(text: str | None) -> str:
    """Adjacent string literals as one string."""
    return str(ast.literal_eval(f"({text})")) if text else ""


def _instance(fragment: Fragment, index: int) -> _Instance | None:
    """The explicit instantiation of a kernel at ``template``, if it is one."""
    end = index
    while end < len(fragment) - 1 and fragment.text(end) not in (";", "{"):
        end = fragment.skip_group(end)
    if fragment.text(end) != ";" or not _is_kernel(fragment, index, end):
        return None
    name = _string(_attributes(fragment, index, end).get("host_name"))
    last = end - 1
    values: tuple[str, ...] = ()
    if fragment.text(last) == ")":
        last = fragment.partner(last) - 1
    if fragment.text(last) == ">":
        opened = fragment.angles.get(last, -1)
        values = tuple(fragment.render(*piece) for piece in fragment.pieces(opened + 1, last - 1))
        last = opened - 1
    return _Instance(name or fragment.text(last), fragment.text(last), values)


def _entry(fragment: Fragment, function: Declaration, name: str, values: tuple[str, ...]) -> EntryPoint:
    opened, closed = function.body
    attributes = _attributes(fragment, function.first, function.parameters[0])
    arguments = [
        _argument(fragment, *piece)
        for piece in fragment.pieces(function.parameters[0] + 1, function.parameters[1] - 1)
    ]
    template, problem = _template(fragment, function.first, values)
    known = {p.name: int(p.value) for p in template if p.value.isdecimal()}
    most = tokenize(attributes.get("max_total_threads_per_threadgroup", ""))
    problem = problem or _wrong_indices(arguments)
    return EntryPoint(
        name,
        tuple(arguments),
        template,
        tuple(_namespaces(fragment, function.first)),
        join(fragment.tokens(opened, closed))[1:-1],
        fragment.code[opened].line,
        value_of(most, known) if most else None,
        problem,
    )


def _wrong_indices(arguments: list[Argument]) -> str:
    """What is wrong with the indices of a kernel's buffers, if anything."""
    named: dict[int, str] = {}
    for index, argument in _indexed([a for a in arguments if a.is_buffer], "buffer"):
        if index >= MAX_BUFFERS:
            return f"{argument.name!r} is [[buffer({index})]], and Metal has {MAX_BUFFERS} buffers, from 0"
        if index in named:
            return f"{named[index]!r} and {argument.name!r} are both [[buffer({index})]]; give each an index of its own"
        named[index] = argument.name
    return ""


def _template(
    fragment: Fragment, first: int, values: tuple[str, ...]
) -> tuple[tuple[TemplateParameter, ...], str]:
    """A function's template parameters with values, and what is missing."""
    if fragment.text(first) != "template":
        return (), ""
    closed = fragment.angles.get(first + 1, first + 1)
    found: list[TemplateParameter] = []
    for index, (start, end) in enumerate(fragment.pieces(first + 2, closed - 1)):
        equals = next((i for i in range(start, end + 1) if fragment.text(i) == "="), end + 1)
        kind, name = fragment.render(start, equals - 2), fragment.text(equals - 1)
        default = fragment.render(equals + 1, end)
        if fragment.text(start) == "template" or "." in (fragment.text(i) for i in range(start, equals)):
            return tuple(found), f"its template parameter {name!r} is a template or a pack"
        if index >= len(values) and not default:
            return tuple(found), f"its instantiation does not say what the template parameter {name!r} is"
        found.append(TemplateParameter(kind, name, values[index] if index < len(values) else default))
    return tuple(found), ""


def _namespaces(fragment: Fragment, index: int) -> Iterator[str]:
    """The named namespaces around a token, the outermost first."""
    around = []
    index = fragment.parent(index)
    while index >= 0:
        start = index
        while start > 0 and (fragment.is_name(start - 1) or fragment.text(start - 1) == "::"):
            start -= 1
        if fragment.text(start) == "namespace" and start + 1 < index:
            around.append(fragment.render(start + 1, index - 1).replace(" ", ""))
        index = fragment.parent(index)
    yield from reversed(around)


def _argument(fragment: Fragment, first: int, last: int) -> Argument:
    attributes = _attributes(fragment, first, last)
    while fragment.text(first) == "[":  # attributes may stand in front, too
        first = fragment.partner(first) + 1
    end = next((i for i in range(first, last + 1) if fragment.text(i) == "["), last + 1) - 1
    form, at = None, None
    if fragment.text(end + 1) == "[" and fragment.text(end + 2) != "[":
        form, at = "*", end  # `constant int strides[2]` is a pointer
    for i in range(end, first - 1, -1):
        if fragment.text(i) in ("*", "&"):
            form, at = fragment.text(i), i
            break
    space, const, index = "", False, first
    parts: list[str] = []
    stop = end - 1 if at is None else at - 1
    while index <= stop:
        text = fragment.text(index)
        after = fragment.skip_group(index)
        if text in _SPACES:
            space = text
        elif text == "coherent" and fragment.text(index + 1) == "(":
            after = fragment.skip_group(index + 1)
        elif text in _QUALIFIERS:
            const |= text == "const"
        else:
            parts.append(fragment.render(index, after - 1))
        index = after
    kind = "".join(p if p.startswith(("<", "::")) or p == "" else f" {p}" for p in parts).replace(":: ", "::")
    name, unnamed = fragment.text(end), f"{HIDDEN}unnamed{end}"
    if not fragment.is_name(end):
        name = unnamed
    elif at is None and not kind:
        name, kind = unnamed, name
    return Argument(name, space, kind.strip(), form or "", const, tuple(attributes.items()))


def _indexed(arguments: list[Argument], attribute: str) -> tuple[tuple[int, Argument], ...]:
    """The arguments with their indices, in the order of these."""
    return tuple(sorted(_with_indices(arguments, attribute), key=lambda pair: pair[0]))


def _with_indices(arguments: list[Argument], attribute: str) -> Iterator[tuple[int, Argument]]:
    taken = {
        int(a.attribute(attribute) or -1) for a in arguments if (a.attribute(attribute) or "").isdecimal()
    }
    following = iter(i for i in range(len(arguments) + len(taken) + 1) if i not in taken)
    for argument in arguments:
        given = argument.attribute(attribute) or ""
        yield (int(given) if given.isdecimal() else next(following)), argument
