"""Metal source to portable C++, for the host's compiler and for NVRTC.

Almost all of a Metal kernel already is C++; what the headers in ``runtime/`` declare covers the library. What is
neither is rewritten token by token, so that every line stays where its author put it:

===================  ==========================================================================================
address_spaces.py    ``device``, ``constant``, ``thread``, ``threadgroup``
operators.py         swizzles, shifts, ``?:`` between half and float
overloads.py         functions that differ in address spaces only
convergence.py       which lanes meet in a simd operation (host)
this module          literals (``1.0`` is a float, ``1.0h`` a half), ``#include <metal_…>``, and what is refused
===================  ==========================================================================================

What cannot be carried over is refused with a `TranslationError` that names it and its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from zmlx.launch.address_spaces import AddressSpaces
from zmlx.launch.convergence import Convergence, uses_lanes
from zmlx.launch.declarations import used_names
from zmlx.launch.errors import TranslationError
from zmlx.launch.operators import rewrite_conditionals, rewrite_shifts, rewrite_swizzles
from zmlx.launch.overloads import merge_overloads, overloaded_functions
from zmlx.launch.regions import GROUP_BARRIER, region_body, written_out
from zmlx.launch.signature import KernelSource, Parameter, Signature
from zmlx.launch.structure import Fragment, Program, Source
from zmlx.launch.tokens import Token, join

Target = Literal["host", "cuda"]

_TEXTURES = "textures exist only on Metal; pass an array instead"
_TABLES = "function tables exist only on Metal; call the function by its name"
_IMAGEBLOCKS = "imageblocks exist only in Metal's tile shaders"
_MATRICES = "matrices are not supported; use an array of vectors"
_ENTRIES = "a header cannot hold further kernels here; leave this one out"

#: What exists only on Metal, and what to do instead. Names behind ``::``, ``.`` or ``->`` are the author's own.
_REFUSED = {
    "double": "Metal has no double; use float",
    "kernel": _ENTRIES,
    "vertex": _ENTRIES,
    "fragment": _ENTRIES,
    "function_constant": "function constants exist only on Metal; pass the value as a template argument",
    "imageblock": _IMAGEBLOCKS,
    "threadgroup_imageblock": _IMAGEBLOCKS,
    "ray_data": "ray tracing exists only on Metal",
    "raytracing": "ray tracing exists only on Metal",
    "acceleration_structure": "ray tracing exists only on Metal",
    "object_data": "mesh shading exists only on Metal",
    "mesh": "mesh shading exists only on Metal",
    "visible_function_table": _TABLES,
    "intersection_function_table": _TABLES,
    "sampler": _TEXTURES,
    "os_log": "logging from kernels exists only on Metal; write to an output instead",
    "tensor": "Metal's tensors exist only on Metal; use simdgroup_matrix",
    "cooperative_tensor": "Metal's tensors exist only on Metal; use simdgroup_matrix",
    "goto": "Metal has no goto",
}
_REFUSED_PATTERNS = {
    re.compile(r"(?:texture(?:1d|2d|3d|cube)|depth(?:2d|cube))(?:_ms)?(?:_array)?|texture_buffer"): _TEXTURES,
    re.compile(r"(?:float|half|bfloat)[234]x[234]"): _MATRICES,
}
#: What a reader may want to know of the two tables: each construct with what to do instead.
REFUSED_CONSTRUCTS = {
    **_REFUSED,
    "texture2d, depth2d, texture_buffer, …": _TEXTURES,
    "float4x4, half2x3, …": _MATRICES,
    '#include "…"': "put what it declares into the kernel's header",
    "namespace metal { … }": "put the functions outside of it",
    "overloads that differ in address spaces only": "accepted if they do the same; give the other one another name",
}
#: Of those, the ones that are refused only where a declaration uses them, since kernels have variables of that name.
_REFUSED_AS_TYPES = frozenset({"kernel", "vertex", "fragment", "mesh", "tensor", "sampler", "goto"})

_METAL_HEADERS = re.compile(r"<(?:metal(?:_[a-z0-9_]+)?|simd/[a-z_]+\.h)>")
_TENSOR_HEADERS = re.compile(r"<(?:metal_tensor|MetalPerformancePrimitives/.*)>")

_FLOAT = re.compile(r"(?:[0-9']+\.[0-9']*|\.[0-9']+)(?:[eE][+-]?[0-9]+)?|[0-9']+[eE][+-]?[0-9]+")
_HEX_FLOAT = re.compile(r"0[xX][0-9a-fA-F.']+[pP][+-]?[0-9]+")
_FLOAT_SUFFIXES = {"": "{}f", "h": "half({}f)", "bf": "bfloat({}f)"}

_SMALL_FLOATS = re.compile(
    r"\b(?:packed_)?(?:half|bfloat)[234]?\b|\bb?float16_t\b|\bsimdgroup_b?(?:half|float)8x8\b"
)


@dataclass(frozen=True)
class Translation:
    """A kernel as portable C++: ``header`` and ``body`` are the author's, rewritten line for line.

    ``overloads`` are the library functions that the header overloads.
    """

    header: str
    body: str
    uses_barrier: bool
    uses_simd: bool
    overloads: tuple[str, ...] = ()

    @property
    def uses_sync(self) -> bool:
        """Whether threads of a group meet: then the host needs fibers."""
        return self.uses_barrier or self.uses_simd


@lru_cache(maxsize=4096)
def translate(kernel: KernelSource, target: Target, small_floats: bool = True) -> Translation:
    """Rewrite a kernel for the host's C++ compiler or for NVRTC.

    Parameters
    ----------
    kernel, target
        What to translate and for what.
    small_floats
        Whether half or bfloat may occur. Kernels without them keep their conditionals as they are.

    Raises
    ------
    TranslationError
        The source uses something that exists only on Metal.
    """
    program, names = _rewrite(kernel, target, small_floats)
    uses_simd = any(uses_lanes(name) for name in names)
    if target == "host" and uses_simd:
        Convergence(program).mark()
    return _rendered(program, names, program.body.render())


@lru_cache(maxsize=4096)
def translate_regions(kernel: KernelSource, small_floats: bool = True) -> Translation:
    """Rewrite a kernel whose threads meet for the host, with a body for the whole threadgroup: see regions.py.

    Raises
    ------
    Unclear
        The kernel cannot be taken apart; as fibers it may run all the same.
    TranslationError
        The source uses something that exists only on Metal.
    """
    program, names = _rewrite(written_out(kernel), "host", small_floats)
    return _rendered(program, names, region_body(kernel, program))


def _rewrite(kernel: KernelSource, target: Target, small_floats: bool) -> tuple[Program, frozenset[str]]:
    """The program with all that a target needs rewritten, but for how threads meet, and the names it uses."""
    program = Program(kernel.header, kernel.source)
    names = used_names(program)
    _refuse_names(kernel, program)
    spaces = AddressSpaces(program, target, lambda fragment, *what: _refusal(kernel, fragment.source, *what))
    for fragment in program.fragments:
        spaces.rewrite(fragment)
        rewrite_shifts(fragment)
        for token in fragment.code:
            if token.kind == "number":
                token.text = _literal(token.text)
    rewrite_swizzles(program)
    if small_floats:
        for fragment in program.fragments:
            rewrite_conditionals(fragment)
    merge_overloads(program.header.main, spaces)
    for source in program.sources:
        _drop_includes(kernel, source)
    return program, names


def _rendered(program: Program, names: frozenset[str], body: str) -> Translation:
    overloads = tuple(overloaded_functions(program.header.main))
    uses_simd = any(uses_lanes(name) for name in names)
    return Translation(program.header.render(), body, GROUP_BARRIER in names, uses_simd, overloads)


def may_use_small_floats(signature: Signature) -> bool:
    """Whether half or bfloat can occur in a kernel: by its arrays, its template arguments or its text."""
    kinds = {array.metal for array in (*signature.inputs, *signature.outputs)}
    kinds |= {argument.value for argument in signature.template}
    if kinds & {"float16_t", "bfloat16_t"}:
        return True
    return any(_SMALL_FLOATS.search(text) for text in (signature.kernel.header, signature.kernel.source))


def cpp_parameter(parameter: Parameter) -> str:
    """A buffer parameter of the generated function as C++."""
    kind = parameter.type.metal
    match parameter.role:
        case "input":
            return f"const {kind}{'&' if parameter.type.ndim == 0 else '*'} {parameter.name}"
        case "shape":
            return f"const int* {parameter.name}"
        case "strides":
            return f"const int64_t* {parameter.name}"
        case "ndim":
            return f"const int& {parameter.name}"
        case "output":
            return f"{f'atomic<{kind}>' if parameter.atomic else kind}* {parameter.name}"


def cpp_function(signature: Signature, target: Target, function: str, hidden: str = "") -> str:
    """The kernel as a C++ function (template) called ``function``, in ``metal::zmlx_kernel``.

    ``hidden`` is a parameter declaration that a launcher puts before those of the signature.
    """
    translation = translate(signature.kernel, target, may_use_small_floats(signature))
    attributes = [f"{kind} {name}" for name, kind in signature.kernel.attributes]
    return _function(signature, translation, function, hidden, attributes)


def cpp_group_function(signature: Signature, function: str, hidden: str) -> str:
    """The same for a whole threadgroup on the host, whose threads have the attributes: see regions.py.

    Raises
    ------
    Unclear
        The kernel cannot be taken apart.
    """
    translation = translate_regions(signature.kernel, may_use_small_floats(signature))
    return _function(signature, translation, function, hidden, [])


def _function(
    signature: Signature, translation: Translation, function: str, hidden: str, attributes: list[str]
) -> str:
    kernel = signature.kernel
    parameters = [hidden] if hidden else []
    parameters += [cpp_parameter(p) for p in signature.parameters]
    parameters += attributes
    return (
        "namespace metal { namespace zmlx_kernel { namespace {\n"
        f"{''.join(f'using {name};' for name in translation.overloads)}\n"
        f"{line_marker(kernel, 'header')}{translation.header}\n"
        f"{signature.template_declaration}\nZMLX_KERNEL void {function}({', '.join(parameters)}) {{\n"
        f"{line_marker(kernel, 'source')}{translation.body}\n}}\n"
        "}}}  // namespace metal::zmlx_kernel\n"
    )


def line_marker(kernel: KernelSource, part: str) -> str:
    """A ``#line`` that makes the compiler speak of the author's own lines, as ``<kernel> <part>``."""
    return f'#line 1 "{kernel.name} {part}"\n'


def _refusal(kernel: KernelSource, source: Source, token: Token, what: str) -> TranslationError:
    return TranslationError(
        f"[metal_kernel] {kernel.name!r}, {source.part} line {token.line}: {what}. "
        f"The kernel can run on Metal only."
    )


def _refuse_names(kernel: KernelSource, program: Program) -> None:
    for fragment in program.fragments:
        for index, token in enumerate(fragment.code):
            if token.kind != "name" or fragment.text(index - 1) in (".", "->"):
                continue
            reason = _reason(fragment, index)
            if reason is not None:
                raise _refusal(kernel, fragment.source, token, f"`{token.text}`: {reason}")
            if (
                token.text == "namespace"
                and fragment.text(index + 1) == "metal"
                and fragment.text(index + 2) == "{"
            ):
                raise _refusal(
                    kernel,
                    fragment.source,
                    token,
                    "`namespace metal`: the library cannot be added to here; put the functions outside of it",
                )


def _reason(fragment: Fragment, index: int) -> str | None:
    """Why the name at ``index`` is refused; None if it is not."""
    name = fragment.text(index)
    if fragment.text(index - 1) == "::" and fragment.text(index - 2) != "metal":
        return None
    for pattern, reason in _REFUSED_PATTERNS.items():
        if pattern.fullmatch(name):
            return reason
    if name not in _REFUSED:
        return None
    if name in _REFUSED_AS_TYPES and not (fragment.is_name(index + 1) or fragment.text(index + 1) == "<"):
        attribute = fragment.text(index - 1) == "[" and fragment.text(index - 2) == "["
        return _REFUSED[name] if attribute else None
    return _REFUSED[name]


def _drop_includes(kernel: KernelSource, source: Source) -> None:
    """Metal's own headers are always there; others cannot be followed."""
    for directive in source.directives:
        if directive.word not in ("include", "import"):
            continue
        target = join(directive.rest).strip()
        if _TENSOR_HEADERS.fullmatch(target):
            raise _refusal(kernel, source, directive.token, f"`#include {target}`: {_REFUSED['tensor']}")
        if not _METAL_HEADERS.fullmatch(target):
            raise _refusal(
                kernel,
                source,
                directive.token,
                f"`#include {target}` cannot be followed here; put what it declares into the kernel's header",
            )
        for token in (directive.token, *directive.rest):
            token.text = ""


def _literal(text: str) -> str:
    """Floating literals are float in Metal, and ``h`` (``bf``) makes them half (bfloat)."""
    match = (_HEX_FLOAT if text[:2].lower() == "0x" else _FLOAT).match(text)
    if match is None:
        return text
    form = _FLOAT_SUFFIXES.get(text[match.end() :].lower())
    return form.format(match.group()) if form else text
