"""What exists only on Metal is refused, with its name, its line and what to do instead; Metal's headers are dropped."""

from __future__ import annotations

import re
from functools import lru_cache

from zmlx.errors import TranslationError
from zmlx.metal.conditions import METAL_HEADERS, NEWER_HEADERS
from zmlx.metal.signature import KernelSource
from zmlx.metal.structure import Fragment, Program, Source
from zmlx.metal.tokens import Token, join
from zmlx.metal.words import NOT_METAL
from zmlx.translate.branches import uncertain_lines
from zmlx.translate.declared import refuse_declarations
from zmlx.translate.entries import ENTRIES
from zmlx.translate.function_constants import needed_constants

_TEXTURES = "textures exist only on Metal; pass an array instead"
_TABLES = "function tables exist only on Metal; call the function by its name"
_IMAGEBLOCKS = "imageblocks exist only in Metal's tile shaders"
_ENTRIES = (
    "no function begins or ends here; leave it out, or put it into the header, which may hold entry points"
)

_CONSTANTS = "function constants have no values here; give it with function_constants={{{name!r}: value}}"

_NOT_METAL = {word: f"{what}; {advice}" for word, (what, advice) in NOT_METAL.items()}

#: What exists only on Metal, and what to do instead. Names behind ``::``, ``.`` or ``->`` are the author's own.
_REFUSED = {
    "double": _NOT_METAL["double"],
    "kernel": _ENTRIES,
    "vertex": _ENTRIES,
    "fragment": _ENTRIES,
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
    "tensor": "Metal's tensors exist only on Metal; use simdgroup_matrix",
    "cooperative_tensor": "Metal's tensors exist only on Metal; use simdgroup_matrix",
    "goto": "Metal has no goto",
    **_NOT_METAL,
}
_REFUSED_PATTERNS = {
    re.compile(r"(?:texture(?:1d|2d|3d|cube)|depth(?:2d|cube))(?:_ms)?(?:_array)?|texture_buffer"): _TEXTURES,
}
#: What a reader may want to know of the two tables: each construct with what to do instead.
REFUSED_CONSTRUCTS = {
    **{word: reason for word, reason in _REFUSED.items() if word not in ENTRIES},
    "kernel, vertex and fragment in the source": "the source is the body of one function; a header may hold them",
    "texture2d, depth2d, texture_buffer, …": _TEXTURES,
    "[[function_constant(0)]] of a constant that the kernel needs": _CONSTANTS.format(name="name"),
    '#include "…"': "name its folder in include_dirs=",
    "overloads that differ in address spaces only": "accepted if they do the same; give the other one another name",
}
#: Of those, the ones that are refused only where a declaration uses them, since kernels have variables of that name.
_REFUSED_AS_TYPES = frozenset({"kernel", "vertex", "fragment", "mesh", "tensor", "sampler", "goto"})


def refuse_names(kernel: KernelSource, program: Program) -> None:
    """Refuse names of what cannot be carried to C++. Where only the preprocessor knows whether a line is there, the
    compiler tells.

    Raises
    ------
    TranslationError
        The program uses one of `REFUSED_CONSTRUCTS`.
    """
    uncertain = uncertain_lines(program)
    for fragment in program.fragments:
        for index, token in enumerate(fragment.code):
            if token.kind != "name" or not _may_be_refused(fragment.texts[index]):
                continue
            if fragment.text(index - 1) in (".", "->") or token.line in uncertain[fragment.source.part]:
                continue
            reason = _reason(fragment, index)
            if reason is not None:
                raise refusal(kernel, fragment.source, token, f"`{token.text}`: {reason}")
    for fragment, index, name in needed_constants(program):
        reason = _CONSTANTS.format(name=name)
        raise refusal(kernel, fragment.source, fragment.code[index], f"`{name}`: {reason}", metal_too=True)


@lru_cache(maxsize=4096)
def _may_be_refused(name: str) -> bool:
    """Whether a name is refused anywhere."""
    return name in _REFUSED or any(pattern.fullmatch(name) for pattern in _REFUSED_PATTERNS)


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


def drop_includes(kernel: KernelSource, program: Program) -> None:
    """Metal's own headers are always there; others cannot be followed. Where only the preprocessor knows whether one is
    included, it is an ``#error``.

    Raises
    ------
    TranslationError
        Another header is included.
    """
    uncertain = uncertain_lines(program)
    for source in program.sources:
        for directive in source.directives:
            if directive.word not in ("include", "import"):
                continue
            problem = _problem(join(directive.rest).strip())
            may_not_be_there = directive.token.line in uncertain[source.part]
            if problem and not may_not_be_there:
                raise refusal(kernel, source, directive.token, problem)
            for token in (directive.token, *directive.rest):
                token.text = ""
            if problem:
                directive.token.text = f"#error {problem}"


def _problem(target: str) -> str:
    """What is wrong with including ``<metal_stdlib>``; nothing if it is empty."""
    if NEWER_HEADERS.fullmatch(target):
        return f"`#include {target}`: {_REFUSED['tensor']}"
    if not METAL_HEADERS.fullmatch(target):
        return (
            f"`#include {target}` cannot be followed here; name its folder in include_dirs=, or put what it declares "
            "into the kernel's header"
        )
    return ""


def refuse_declared(kernel: KernelSource, program: Program) -> None:
    """Refuse declarations that Metal refuses; see declared.py.

    Raises
    ------
    TranslationError
        There is one.
    """
    uncertain = uncertain_lines(program)

    def refuse(fragment: Fragment, token: Token, what: str) -> None:
        if token.line not in uncertain[fragment.source.part]:
            raise refusal(kernel, fragment.source, token, what, metal_too=True)

    refuse_declarations(kernel, program, refuse)


#: Of what is refused by its name, what Metal refuses too.
_NOT_IN_METAL = frozenset({"goto", *NOT_METAL})
_BODY_ONLY = (
    "`{name}`: a kernel's source is the body of its function only. Paste what stands between its braces, and name its "
    "buffers in input_names and output_names: the function around it is generated"
)


def refusal(
    kernel: KernelSource, source: Source, token: Token, what: str, metal_too: bool = False
) -> TranslationError:
    """The error for ``token``: ``what`` names it and says what to do. ``metal_too``: Metal refuses it as well."""
    refused_there = metal_too or token.text in _NOT_IN_METAL
    where = "Metal refuses it too." if refused_there else "The kernel can run on Metal only."
    if not metal_too and source.part == "source" and token.text in ("kernel", "vertex", "fragment"):
        what, where = _BODY_ONLY.format(name=token.text), "Metal refuses it too."
    return TranslationError(
        f"[metal_kernel] {kernel.name!r}, {source.part} line {token.line}: {what}. {where}"
    )
