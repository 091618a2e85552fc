"""The Metal function that MLX generates for one call of a custom kernel, text for text.

`mx.fast.metal_kernel` takes the *body* of a kernel; MLX writes the function around it from the names, the
dtypes and ranks of the arrays and the template arguments of the call. Every launcher here starts from the same
`Signature`: Metal gets the text that MLX would compile, CUDA and the host get a C++ function with the same
parameters. The rules were read from MLX's ``metal_kernel.cpp`` and are tested against the text MLX prints.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

#: Arrays with fewer elements than this are passed in Metal's ``constant`` address space.
MAX_CONSTANT_ARRAY_SIZE = 8

#: MLX dtype name -> the type name that MLX writes into Metal source.
METAL_TYPES = {
    "bool": "bool",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "uint32": "uint32_t",
    "uint64": "uint64_t",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "float16": "float16_t",
    "bfloat16": "bfloat16_t",
    "float32": "float",
    "complex64": "complex64_t",
}

#: Kernel attributes in the order in which MLX declares them, with their types.
ATTRIBUTES = {
    "dispatch_quadgroups_per_threadgroup": "uint",
    "dispatch_simdgroups_per_threadgroup": "uint",
    "dispatch_threads_per_threadgroup": "uint3",
    "grid_origin": "uint3",
    "grid_size": "uint3",
    "quadgroup_index_in_threadgroup": "uint",
    "quadgroups_per_threadgroup": "uint",
    "simdgroup_index_in_threadgroup": "uint",
    "simdgroups_per_threadgroup": "uint",
    "thread_execution_width": "uint",
    "thread_index_in_quadgroup": "uint",
    "thread_index_in_simdgroup": "uint",
    "thread_index_in_threadgroup": "uint",
    "thread_position_in_grid": "uint3",
    "thread_position_in_threadgroup": "uint3",
    "threadgroup_position_in_grid": "uint3",
    "threadgroups_per_grid": "uint3",
    "threads_per_grid": "uint3",
    "threads_per_simdgroup": "uint",
    "threads_per_threadgroup": "uint3",
}

#: In front of an argument's name where the generated function has it as another type (launch/library_source.py).
HIDDEN = "zmlx_"


def shown_name(name: str) -> str:
    """An argument's name as its author wrote it."""
    return name.removeprefix(HIDDEN)


#: Buffers that a Metal function may take (Metal feature set tables), shapes and strides included.
MAX_BUFFERS = 31

#: What a template argument may be given as: a Metal type name, an int or a bool.
TemplateValue = str | int | bool


class TemplateArgument(NamedTuple):
    """One template argument as text. The kind counts: 1 and true are equal to Python, and two kernels to Metal."""

    name: str
    kind: Literal["typename", "int", "bool"]
    value: str

    @classmethod
    def of(cls, name: str, value: TemplateValue) -> TemplateArgument:
        if isinstance(value, bool):
            return cls(name, "bool", str(int(value)))
        return cls(name, "int" if isinstance(value, int) else "typename", str(value))


@dataclass(frozen=True)
class KernelSource:
    """What the author of a kernel wrote: the arguments of ``metal_kernel``."""

    name: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    source: str
    header: str = ""
    ensure_row_contiguous: bool = True
    atomic_outputs: bool = False
    math_mode: str = "safe"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything the author wrote, in hexadecimal: changes when, and only when, the kernel does."""
        parts = (
            self.name,
            *self.input_names,
            "->",
            *self.output_names,
            self.source,
            self.header,
            str(self.ensure_row_contiguous),
            str(self.atomic_outputs),
            self.math_mode,
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @cached_property
    def attributes(self) -> tuple[tuple[str, str], ...]:
        """The attributes MLX declares, as (name, type): those whose name occurs anywhere in the source."""
        return tuple((name, kind) for name, kind in ATTRIBUTES.items() if name in self.source)


@dataclass(frozen=True)
class ArrayType:
    """What a signature depends on of an array: MLX dtype name, rank, and whether it is small enough to be constant."""

    dtype: str
    ndim: int
    small: bool = False

    @property
    def metal(self) -> str:
        return METAL_TYPES[self.dtype]


ParameterRole = Literal["input", "shape", "strides", "ndim", "output"]


@dataclass(frozen=True)
class Parameter:
    """One buffer parameter of the generated function.

    ``array`` is the index of the input (or output) the parameter belongs to.
    """

    name: str
    role: ParameterRole
    array: int
    type: ArrayType
    atomic: bool = False

    @property
    def metal(self) -> str:
        """The parameter's declaration in Metal, without its ``[[buffer(i)]]``."""
        match self.role:
            case "input":
                space = "constant" if self.type.small else "device"
                return f"const {space} {self.type.metal}{'&' if self.type.ndim == 0 else '*'} {self.name}"
            case "shape":
                return f"const constant int* {self.name}"
            case "strides":
                return f"const constant int64_t* {self.name}"
            case "ndim":
                return f"const constant int& {self.name}"
            case "output":
                kind = f"atomic<{self.type.metal}>" if self.atomic else self.type.metal
                return f"device {kind}* {self.name}"


@dataclass(frozen=True)
class Signature:
    """The function generated for a kernel and one combination of dtypes, ranks and template arguments."""

    kernel: KernelSource
    inputs: tuple[ArrayType, ...]
    outputs: tuple[ArrayType, ...]
    template: tuple[TemplateArgument, ...] = ()

    # Every launch looks its program up by signature, and the source alone can be long: hash once.
    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.kernel, self.inputs, self.outputs, self.template))

    @cached_property
    def described(self) -> tuple[Parameter, ...]:
        """The parameters that tell an input's shape or strides."""
        return tuple(p for p in self.parameters if p.role in ("shape", "strides"))

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Buffer parameters in order: each input with the shape information its source mentions, then the outputs."""
        found: list[Parameter] = []
        for index, (name, kind) in enumerate(zip(self.kernel.input_names, self.inputs, strict=True)):
            found.append(Parameter(name, "input", index, kind))
            if kind.ndim == 0:
                continue
            for role in ("shape", "strides", "ndim"):
                if f"{name}_{role}" in self.kernel.source:
                    found.append(Parameter(f"{name}_{role}", role, index, kind))
        for index, (name, kind) in enumerate(zip(self.kernel.output_names, self.outputs, strict=True)):
            found.append(Parameter(name, "output", index, kind, atomic=self.kernel.atomic_outputs))
        return tuple(found)

    @cached_property
    def template_arguments(self) -> str:
        """``<float, 3, 1>``, or an empty string for a kernel without template arguments."""
        if not self.template:
            return ""
        return "<" + ", ".join(a.value for a in self.template) + ">"

    @cached_property
    def template_declaration(self) -> str:
        """``template <typename T, int N>``, or an empty string."""
        if not self.template:
            return ""
        return "template <" + ", ".join(f"{a.kind} {a.name}" for a in self.template) + ">"

    @cached_property
    def function_name(self) -> str:
        """The name MLX gives the function; it tells apart every variant that has a text of its own."""
        name = f"custom_kernel_{self.kernel.name}"
        if self.template:
            name += "_" + re.sub(r"<|>|, |-", "_", self.template_arguments)[:-1]
        for kind in self.inputs:
            name += f"_{kind.metal}" + ("s" if kind.ndim == 0 else "c" if kind.small else "")
        for kind in self.outputs:
            name += f"_{kind.metal}"
        return name

    def metal_text(self) -> str:
        """The Metal source that MLX compiles for this call (after its own prelude).

        One slip of MLX 0.32 is not repeated: with shape information, several outputs and no attribute its
        parameter list closes after the first output, and Metal refuses the text.
        """
        lines = [f"{p.metal} [[buffer({i})]]" for i, p in enumerate(self.parameters)]
        lines += [f"{kind} {name} [[{name}]]" for name, kind in self.kernel.attributes]
        declaration = self.template_declaration + "\n" if self.template else ""
        text = (
            f"{self.kernel.header}{declaration}[[kernel]] void {self.function_name}(\n  "
            + ",\n  ".join(lines)
            + f") {{\n{self.kernel.source}\n}}\n"
        )
        if self.template:
            instance = self.function_name + self.template_arguments
            text += f'\ntemplate [[host_name("{self.function_name}")]] [[kernel]] decltype({instance}) {instance};\n'
        return text


def make_signature(
    kernel: KernelSource,
    inputs: Sequence[ArrayType],
    output_dtypes: Sequence[str],
    template: Sequence[tuple[str, TemplateValue]] = (),
) -> Signature:
    """The `Signature` of one call. ``output_dtypes`` are MLX dtype names."""
    outputs = tuple(ArrayType(dtype, 1) for dtype in output_dtypes)
    return Signature(kernel, tuple(inputs), outputs, tuple(TemplateArgument.of(*a) for a in template))
