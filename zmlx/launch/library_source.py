"""A kernel of a Metal file as the `KernelSource` of a `metal_kernel`: the function around it is generated anew.

Metal lets only kernels declare threadgroup memory, so that a kernel cannot be called from another one: its body is
put into the generated function, behind lines that give its parameters their names and types. The generated function's
own parameters have these at once where they can.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from zmlx.errors import TranslationError
from zmlx.metal.entry_points import Argument, EntryPoint, TemplateParameter
from zmlx.metal.signature import ATTRIBUTES, HIDDEN, KernelSource
from zmlx.metal.structure import Program
from zmlx.metal.type_names import NumberType, aliases, number_type
from zmlx.translate.entries import drop_entries

Target = Literal["cpu", "cuda", "metal"]

#: The output of a launch that makes nothing new: MLX runs no kernel without one.
DONE = f"{HIDDEN}done"

#: What buffers in constant memory that are not there hold.
ABSENT = "constant ulong zmlx_absent[64] = {};\n"

_INTEGER = re.compile(r"-?[0-9]+")
_LANES = {1: ".x", 2: ".xy", 3: ""}


@dataclass(frozen=True)
class Library:
    """A Metal file without its kernels, and what they share."""

    header: str
    aliases: Mapping[str, str]

    @classmethod
    def of(cls, text: str) -> Library:
        """The library of a preprocessed text."""
        program = Program(text, "")
        drop_entries(program)
        return cls(f"{program.header.render()}\n{ABSENT}", aliases(text))


@dataclass(frozen=True)
class LibrarySource:
    """What is generated for one kernel of a library.

    Parameters
    ----------
    library, entry
        Where it stands, and which it is.
    dtypes
        Dtype names of the buffers, in the order of `EntryPoint.buffers`; empty for one that is not there.
    memory
        Bytes of each argument in threadgroup memory, in the order of `EntryPoint.threadgroup_memory`.
    constants
        What buffers in constant memory hold that the kernel's text has, in the order of `EntryPoint.buffers`; empty for
        the others. MLX, on Metal, passes arrays in constant memory only if they are small.
    target
        The back end. On the CPU and CUDA what is written is an output. MLX's own kernels, on Metal, change no array:
        there it is an input, a private copy, and the kernel is told that it may write to it.
    """

    library: Library
    entry: EntryPoint
    dtypes: tuple[str, ...]
    memory: tuple[int, ...]
    target: Target
    constants: tuple[bytes, ...] = ()

    @cached_property
    def kernel(self) -> KernelSource:
        """The source to launch. Its inputs are the buffers that are not written, its outputs the others."""
        hiding = [argument for argument in self._present if argument.name in ATTRIBUTES]
        plain = [argument for argument in self._present if argument not in hiding]
        lines = [*self._template_lines(), *map(self._buffer_line, plain), *self._memory_lines()]
        lines += [f"using namespace {name};" for name in self.entry.namespaces]
        attributes, shadowing = self._attribute_lines()
        shadowing += map(self._buffer_line, hiding)
        body = self.entry.body
        if shadowing:
            body = f"{{ {' '.join(shadowing)} {body}}}"
        start = "\n" * (self.entry.line - 1) + " ".join(line for line in (*lines, *attributes) if line)
        inputs = [
            a for a in self._present if (self.target == "metal" or not a.written) and a not in self._embedded
        ]
        outputs = [] if self.target == "metal" else [a for a in self._present if a.written]
        return KernelSource(
            re.sub(r"\W", "_", self.entry.name),
            tuple(self._name(a) for a in inputs),
            (*(self._name(a) for a in outputs), *([] if self.target == "cpu" else [DONE])),
            f"{start} {body}",
            self.library.header + "".join(map(self._embedding, self._embedded)),
        )

    @cached_property
    def template(self) -> list[tuple[str, Any]]:
        """The template arguments that a launch gives: types as dtype names, integers and booleans."""
        return [(p.name, value) for p in self.entry.template if (value := self._plain(p)) is not None]

    def number(self, argument: Argument) -> NumberType | None:
        """What a buffer's elements are, where its type is one of numbers."""
        return number_type(argument.type, self._types)

    def is_scalar(self, argument: Argument) -> bool:
        """Whether the generated function takes a buffer as a reference, to an array without axes."""
        return argument.form == "&" and self._is_direct(argument)

    @property
    def constant(self) -> list[bool] | None:
        """Which inputs are in constant memory; None on Metal, where MLX decides."""
        if self.target == "metal":
            return None
        return [argument.space == "constant" for argument in self._present if not argument.written]

    # ---- what the generated function has ----

    @cached_property
    def _types(self) -> dict[str, str]:
        return {**self.library.aliases, **{p.name: p.value for p in self.entry.template}}

    @cached_property
    def _present(self) -> list[Argument]:
        return [a for (_, a), dtype in zip(self.entry.buffers, self.dtypes, strict=True) if dtype]

    @cached_property
    def _embedded(self) -> dict[Argument, bytes]:
        """Buffers whose contents are part of the text."""
        buffers = [argument for _, argument in self.entry.buffers]
        return {a: data for a, data in zip(buffers, self.constants, strict=False) if data}

    def _embedding(self, argument: Argument) -> str:
        data = self._embedded[argument]
        data += bytes(-len(data) % 8)
        words = [f"{int.from_bytes(data[i : i + 8], 'little'):#x}ul" for i in range(0, len(data), 8)]
        return f"constant ulong {self._name(argument)}[{len(words)}] = {{{', '.join(words)}}};\n"

    def _plain(self, parameter: TemplateParameter) -> Any:
        """The value of a template parameter as a launch gives it; None if it is no such value."""
        kind = parameter.kind.removeprefix("const ")
        if kind in ("typename", "class"):
            number = number_type(parameter.value, self._types)
            return number.dtype if number is not None and number == NumberType(number.dtype) else None
        if kind == "bool" and parameter.value in ("true", "false"):
            return parameter.value == "true"
        if kind == "int" and _INTEGER.fullmatch(parameter.value):
            return int(parameter.value)
        return None

    def _template_lines(self) -> Iterator[str]:
        for p in self.entry.template:
            if self._plain(p) is None:
                is_type = p.kind in ("typename", "class")
                yield (
                    f"using {p.name} = {p.value};" if is_type else f"constexpr {p.kind} {p.name} = {p.value};"
                )

    def _is_direct(self, argument: Argument) -> bool:
        """Whether the generated function's parameter can be the kernel's own: of its type, and by its name."""
        number = self.number(argument)
        if self.target == "metal" or number is None or number != NumberType(number.dtype):
            return False
        if argument.written and argument.form == "&":
            return False
        # MLX declares these by itself where the source mentions them.
        made = [f"{argument.name}_{what}" for what in ("shape", "strides", "ndim")]
        return argument.name not in ATTRIBUTES and not any(name in self.entry.body for name in made)

    def _name(self, argument: Argument) -> str:
        return argument.name if self._is_direct(argument) else HIDDEN + argument.name

    def _buffer_line(self, argument: Argument) -> str:
        """The declaration of a buffer of another type than the generated function's parameter has."""
        if self._is_direct(argument):
            return ""
        const = "const " if argument.const else ""
        pointer = f"({const}{argument.space} {argument.type}*)({self._name(argument)})"
        return f"{argument.declaration} = {'*' if argument.form == '&' else ''}{pointer};"

    def _memory_lines(self) -> Iterator[str]:
        absent = [a for (_, a), dtype in zip(self.entry.buffers, self.dtypes, strict=True) if not dtype]
        for argument in absent:
            # Kernels read structs that are not there, and make nothing of it.
            none = f"(constant {argument.type}*)zmlx_absent" if argument.space == "constant" else "nullptr"
            yield f"{argument.declaration} = {'*' if argument.form == '&' else ''}{none};"
        for (_, argument), count in zip(self.entry.threadgroup_memory, self.memory, strict=True):
            name, kind = argument.name, argument.type
            yield f"threadgroup {kind} {HIDDEN}{name}[{count} / sizeof({kind})];"
            yield f"{argument.declaration} = {'*' if argument.form == '&' else ''}{HIDDEN}{name};"

    def _attribute_lines(self) -> tuple[list[str], list[str]]:
        """Declarations of the arguments that are attributes, and those that hide one of these."""
        lines, shadowing = [], []
        for argument in self.entry.arguments:
            if argument.space:
                continue
            attribute = next((name for name, _ in argument.attributes if name in ATTRIBUTES), None)
            if attribute is None:
                raise TranslationError(self._unknown(argument))
            lanes = int(argument.type[-1]) if argument.type[-1] in "23" else 1
            value = attribute + (_LANES[lanes] if ATTRIBUTES[attribute] == "uint3" else "")
            if argument.name == attribute and argument.type == ATTRIBUTES[attribute]:
                continue
            if argument.name in ATTRIBUTES:
                kept = HIDDEN + argument.name
                lines.append(f"const {argument.type} {kept} = {argument.type}({value});")
                shadowing.append(f"{argument.type} {argument.name} = {kept};")
            else:
                lines.append(f"{argument.type} {argument.name} = {argument.type}({value});")
        return lines, shadowing

    def _unknown(self, argument: Argument) -> str:
        given = ", ".join(f"[[{name}]]" for name, _ in argument.attributes) or "no attribute"
        return (
            f"[metal_library] Expected the parameters of {self.entry.name!r} to be buffers (`device` or `constant` "
            f"pointers and references), threadgroup memory, or one of the attributes {', '.join(ATTRIBUTES)}; got "
            f"`{argument.type} {argument.name}` with {given}. Textures, samplers and the rest exist only in Metal's "
            "own API."
        )


def described(entry: EntryPoint) -> str:
    """The buffers that a kernel takes, for messages."""
    return ", ".join(argument.declaration for _, argument in entry.buffers) or "no buffers"


def names_of(arguments: Sequence[tuple[int, Argument]]) -> str:
    """Names of arguments, for messages."""
    return ", ".join(argument.name for _, argument in arguments) or "none"
