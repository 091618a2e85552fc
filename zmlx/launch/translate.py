"""Metal source to portable C++: address spaces, threadgroup storage, literals, swizzles.

Almost all of a Metal kernel already is C++14; what the headers in ``runtime/`` declare covers the library. This
module rewrites the few tokens that are neither:

======================================  ===============================================================
Metal                                   portable C++
======================================  ===============================================================
``device`` ``thread``                   dropped
``constant``                            ``const``, unless the declaration already says so
``threadgroup float s[32];``            storage shared by the group (``__shared__`` on CUDA)
``threadgroup float* p``                ``float* p``
``1.0``, ``1.0h``                       ``1.0f``, ``half(1.0f)``: Metal has no double
``v.xyz``, ``v.xy = …``                 ``v.swizzle(swz<0,1,2>())``, ``v.swizzle_ref(swz<0,1>()) = …``
``#include <metal_…>``                  dropped: the runtime headers are always there
======================================  ===============================================================

What cannot be carried over is refused with a `TranslationError` that names it and its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from zmlx.launch.errors import TranslationError
from zmlx.launch.signature import KernelSource, Parameter, Signature
from zmlx.launch.tokens import Token, closing, code_names, join, next_code, previous_code, tokenize

Target = Literal["host", "cuda"]

#: What makes all threads of a threadgroup meet, and what only those of a simdgroup.
_BARRIER = "threadgroup_barrier"
_SIMD = re.compile(
    r"(simd|quad)_\w+|simdgroup_(barrier|load|store|multiply|multiply_accumulate)|make_filled_simdgroup_matrix"
)

#: Address spaces that say nothing once all memory is one.
_DROPPED = frozenset({"device", "thread"})

#: Constructs of Metal that have no counterpart on the other back ends, and what to do instead.
_REFUSED = {
    "imageblock": "imageblocks exist only in Metal's tile shaders",
    "threadgroup_imageblock": "imageblocks exist only in Metal's tile shaders",
    "ray_data": "ray tracing exists only on Metal",
    "object_data": "mesh shading exists only on Metal",
    "texture1d": "textures exist only on Metal; pass an array instead",
    "texture2d": "textures exist only on Metal; pass an array instead",
    "texture3d": "textures exist only on Metal; pass an array instead",
    "sampler": "textures exist only on Metal; pass an array instead",
    "double": "Metal has no double; use float",
}

_COMPONENTS = {**{c: i for i, c in enumerate("xyzw")}, **{c: i for i, c in enumerate("rgba")}}
_SWIZZLE = re.compile(r"[xyzw]{2,4}|[rgba]{2,4}")
_ASSIGNMENTS = frozenset({"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>=", "++", "--"})
_FLOAT = re.compile(r"(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+")
_FLOAT_SUFFIXES = {"": "{}f", "h": "half({}f)", "bf": "bfloat({}f)"}


@dataclass(frozen=True)
class Translation:
    """A kernel as portable C++: ``header`` and ``body`` are the author's, rewritten line for line."""

    header: str
    body: str
    uses_barrier: bool
    uses_simd: bool

    @property
    def uses_sync(self) -> bool:
        """Whether threads of a group meet: then the host needs fibers."""
        return self.uses_barrier or self.uses_simd


@lru_cache(maxsize=4096)
def translate(kernel: KernelSource, target: Target) -> Translation:
    """Rewrite a kernel for the host's C++ compiler or for NVRTC.

    Raises
    ------
    TranslationError
        The source uses something that exists only on Metal.
    """
    names = set(code_names(kernel.header)) | set(code_names(kernel.source))
    return Translation(
        header=_Rewriter(kernel, "header", kernel.header, target).run(),
        body=_Rewriter(kernel, "source", kernel.source, target).run(),
        uses_barrier=_BARRIER in names,
        uses_simd=any(_SIMD.fullmatch(name) for name in names),
    )


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
    kernel = signature.kernel
    translation = translate(kernel, target)
    parameters = [hidden] if hidden else []
    parameters += [cpp_parameter(p) for p in signature.parameters]
    parameters += [f"{kind} {name}" for name, kind in kernel.attributes]
    return (
        "namespace metal { namespace zmlx_kernel { namespace {\n"
        f"{line_marker(kernel, 'header')}{translation.header}\n"
        f"{signature.template_declaration}\nZMLX_KERNEL void {function}({', '.join(parameters)}) {{\n"
        f"{line_marker(kernel, 'source')}{translation.body}\n}}\n"
        "}}}  // namespace metal::zmlx_kernel\n"
    )


def line_marker(kernel: KernelSource, part: str) -> str:
    """A ``#line`` that makes the compiler speak of the author's own lines, as ``<kernel> <part>``."""
    return f'#line 1 "{kernel.name} {part}"\n'


class _Rewriter:
    """Rewrites the tokens of one of a kernel's two texts."""

    def __init__(self, kernel: KernelSource, part: str, text: str, target: Target) -> None:
        self.kernel = kernel
        self.part = part
        self.target = target
        self.tokens = tokenize(text)

    def run(self) -> str:
        index = 0
        while index < len(self.tokens):
            token = self.tokens[index]
            if token.kind == "name":
                self._name(index)
            elif token.kind == "number":
                token.text = _literal(token.text)
            elif token.kind == "directive":
                self._directive(index)
            index += 1
        return join(self.tokens)

    def refuse(self, token: Token, what: str) -> TranslationError:
        return TranslationError(
            f"[metal_kernel] {self.kernel.name!r}, {self.part} line {token.line}: {what}. "
            f"The kernel can run on Metal only."
        )

    def _name(self, index: int) -> None:
        token = self.tokens[index]
        before = self.tokens[previous_code(self.tokens, index - 1)].text if index else ""
        if before in (".", "->"):
            if _SWIZZLE.fullmatch(token.text) and before == "." and token.text not in self._members:
                self._swizzle(index)
        elif token.text in _DROPPED:
            token.text = ""
        elif token.text == "constant":
            self._constant(index)
        elif token.text == "threadgroup":
            self._threadgroup(index)
        elif token.text in _REFUSED and before != "::":
            raise self.refuse(token, f"`{token.text}`: {_REFUSED[token.text]}")

    # `v.xyz` is a swizzle unless the author declared a member (or anything else) of that name.
    @cached_property
    def _members(self) -> frozenset[str]:
        declared = set()
        for text in (self.kernel.header, self.kernel.source):
            code = [t for t in tokenize(text) if t.is_code]
            for previous, token in zip(code, code[1:], strict=False):
                if token.kind == "name" and (previous.kind == "name" or previous.text in ("*", "&", ">", ",")):
                    declared.add(token.text)
        return frozenset(declared)

    def _swizzle(self, index: int) -> None:
        token = self.tokens[index]
        after = next_code(self.tokens, index + 1)
        if after < len(self.tokens) and self.tokens[after].text == "(":
            return
        assigned = after < len(self.tokens) and self.tokens[after].text in _ASSIGNMENTS
        method = "swizzle_ref" if assigned else "swizzle"
        token.text = f"{method}(metal::swz<{', '.join(str(_COMPONENTS[c]) for c in token.text)}>())"

    def _constant(self, index: int) -> None:
        """``constant`` is ``const``: once, and not beside ``constexpr``."""
        neighbours = {self._text(previous_code(self.tokens, index - 1)), self._text(next_code(self.tokens, index + 1))}
        self.tokens[index].text = "" if neighbours & {"const", "constexpr"} else "const"

    def _text(self, index: int) -> str:
        return self.tokens[index].text if 0 <= index < len(self.tokens) else ""

    def _directive(self, index: int) -> None:
        token = self.tokens[index]
        if token.text.lstrip("# \t") != "include":
            return
        end = index + 1
        while end < len(self.tokens) and "\n" not in self.tokens[end].text:
            end += 1
        target = join(self.tokens[index + 1 : end]).strip()
        if not target.startswith("<metal_") and target not in ("<simd/simd.h>", "<metal>"):
            raise self.refuse(
                token, f"`#include {target}` cannot be followed here; put what it declares into the kernel's header"
            )
        for removed in self.tokens[index:end]:
            removed.text = ""

    def _threadgroup(self, index: int) -> None:
        """Group storage becomes a reference into the group's memory (or ``__shared__``); elsewhere the word goes."""
        storage = self._storage(index)
        self.tokens[index].text = ""
        if storage is None:
            return
        first, last, declarators = storage
        if self.target == "cuda":
            self.tokens[index].text = "__shared__"
            return
        kind = _one_line(self.tokens[index + 1 : first])
        for token in self.tokens[index + 1 : last]:
            token.text = "\n" * token.text.count("\n")
        statements = []
        for name, extents in declarators:
            if extents:
                statements.append(f"{kind} (&{name}){extents} = zmlx_group.slot<{kind}{extents}>(__COUNTER__)")
            else:
                statements.append(f"{kind}& {name} = zmlx_group.slot<{kind}>(__COUNTER__)")
        self.tokens[index].text = "; ".join(statements)

    def _storage(self, index: int) -> tuple[int, int, list[tuple[str, str]]] | None:
        """The declaration that ``threadgroup`` at ``index`` begins, if it declares storage.

        Returns the index of the first declarator, the index of the closing semicolon and (name, extents) pairs.
        """
        i = next_code(self.tokens, index + 1)
        depth = 0
        name = -1
        while i < len(self.tokens):
            text = self.tokens[i].text
            if text == "<":
                depth += 1
            elif text == ">":
                depth -= 1
            elif depth == 0:
                if text in ("[", ";", ",", "=") and name >= 0:
                    break
                if self.tokens[i].kind != "name" and text != "::":
                    return None
                name = i if self.tokens[i].kind == "name" else -1
            i = next_code(self.tokens, i + 1)
        if i >= len(self.tokens) or self._first_type_token(index) == name:
            return None
        return name, *self._declarators(name)

    def _first_type_token(self, index: int) -> int:
        return next_code(self.tokens, index + 1)

    def _declarators(self, index: int) -> tuple[int, list[tuple[str, str]]]:
        declarators = []
        while True:
            token = self.tokens[index]
            if token.kind != "name":
                raise self.refuse(token, f"`{token.text}` in a threadgroup declaration: declare pointers separately")
            extents = ""
            i = next_code(self.tokens, index + 1)
            while self._text(i) == "[":
                end = closing(self.tokens, i)
                extents += _one_line(self.tokens[i : end + 1])
                i = next_code(self.tokens, end + 1)
            declarators.append((token.text, extents))
            if self._text(i) == ";":
                return i, declarators
            if self._text(i) != ",":
                raise self.refuse(token, f"`threadgroup` variable `{token.text}` cannot have an initialiser in Metal")
            index = next_code(self.tokens, i + 1)


def _one_line(tokens: list[Token]) -> str:
    """Code without comments and line breaks: text that moves must not move the lines after it."""
    return " ".join("".join(t.text if t.is_code else " " for t in tokens).split())


def _literal(text: str) -> str:
    """Floating literals are float in Metal, and ``h`` (``bf``) makes them half (bfloat)."""
    match = _FLOAT.match(text)
    if match is None or text[:2].lower() == "0x":
        return text
    form = _FLOAT_SUFFIXES.get(text[match.end() :].lower())
    return form.format(match.group()) if form else text
