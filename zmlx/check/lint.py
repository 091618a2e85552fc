"""What C++ accepts and the Metal compiler refuses or leaves undefined, found in a kernel's text before it runs.

The host's compiler is no judge of Metal: it takes ``double``, ``std::`` and recursion without a word. These rules
look at tokens; each names the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from zmlx.check.findings import Access, Finding
from zmlx.check.symbolize import Place
from zmlx.launch.records import Triple
from zmlx.metal.signature import MAX_BUFFERS, KernelSource, Signature
from zmlx.metal.tokens import Token, tokenize
from zmlx.metal.words import ADDRESS_SPACES, NOT_METAL

MAX_THREADS = 1024

#: Words that are no Metal, with what to write instead.
_WORDS = {
    **NOT_METAL,
    "delete": ("Metal has no dynamic memory", "declare an array of a fixed size"),
    "malloc": ("Metal has no dynamic memory", "declare an array of a fixed size"),
    "free": ("Metal has no dynamic memory", "declare an array of a fixed size"),
    "catch": ("Metal has no exceptions", "return an error value"),
    "goto": ("Metal has no goto", "use a loop or a function"),
    "virtual": ("Metal has no virtual functions", "use a template"),
    "printf": ("Metal kernels cannot print", "write values to an output"),
    "asm": ("Metal has no inline assembly", "use the functions of <metal_stdlib>"),
}

#: Those that are only meant as functions; anything else may have such a name.
_CALLED = frozenset({"malloc", "free", "printf", "asm"})

_INTEGER_KEYWORDS = frozenset({"const", "volatile", "restrict", "unsigned", "signed", "typename", "struct"})
#: Types whose pointers must say where they point; template parameters and the author's own types are added.
_SCALARS = (
    "void",
    "bool",
    "char",
    "short",
    "int",
    "long",
    "uchar",
    "ushort",
    "uint",
    "ulong",
    "half",
    "float",
    "bfloat",
)
_SIZED = (
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "bfloat16",
    "complex64",
)
_TYPES = (
    frozenset(_SCALARS)
    | {f"{name}_t" for name in (*_SIZED, "size", "ptrdiff")}
    | {f"{name}{width}" for name in _SCALARS[1:] for width in "234"}
)
_ATOMIC_64 = {
    "atomic_fetch_add_explicit",
    "atomic_fetch_sub_explicit",
    "atomic_fetch_and_explicit",
    "atomic_fetch_or_explicit",
    "atomic_fetch_xor_explicit",
    "atomic_exchange_explicit",
    "atomic_compare_exchange_weak_explicit",
}
_CONTROL = frozenset({"if", "for", "while", "switch", "return", "sizeof", "else", "do", "case"})


@dataclass(frozen=True)
class _Text:
    """One of a kernel's two texts as code tokens."""

    part: str
    lines: list[str]
    code: list[Token]

    def place(self, token: Token) -> Place:
        return Place(self.part, token.line, self.lines[token.line - 1].strip())


#: What a rule yields: the token, what is wrong, what to do.
_Hit = tuple[Token, str, str]


def lint(signature: Signature, threadgroup: Triple) -> list[Finding]:
    """The findings of kind ``metal-lint`` of one call."""
    kernel = signature.kernel
    found = list(_lint_text(kernel))
    buffers = len(signature.parameters)
    if buffers > MAX_BUFFERS:
        message = f"takes {buffers} buffers, counting shapes and strides; Metal has {MAX_BUFFERS}"
        found.append(_finding(kernel, message, "pass fewer arrays, or put several into one."))
    threads = threadgroup[0] * threadgroup[1] * threadgroup[2]
    if threads > MAX_THREADS:
        message = f"is launched with threadgroups of {threads} threads; Metal has {MAX_THREADS}"
        found.append(_finding(kernel, message, "launch smaller threadgroups."))
    return found


@lru_cache(maxsize=1024)
def _lint_text(kernel: KernelSource) -> tuple[Finding, ...]:
    found = []
    for part, source in (("header", kernel.header), ("source", kernel.source)):
        code = [t for t in tokenize(source) if t.is_code]
        text = _Text(part, source.split("\n"), code)
        for rule in _RULES:
            for token, message, advice in rule(text):
                finding = _finding(kernel, message, advice, Access("here", text.place(token)))
                if finding not in found:
                    found.append(finding)
    return tuple(found)


def _finding(kernel: KernelSource, message: str, advice: str, *accesses: Access) -> Finding:
    return Finding("metal-lint", kernel.name, message, advice, accesses)


def _closing(code: list[Token], index: int) -> int:
    """Index of the bracket that closes the one at ``index``; ``len(code)`` if it stays open."""
    opened, depth = code[index].text, 0
    closed = {"(": ")", "{": "}"}[opened]
    for i in range(index, len(code)):
        depth += {opened: 1, closed: -1}.get(code[i].text, 0)
        if depth == 0:
            return i
    return len(code)


def _words(text: _Text) -> Iterator[_Hit]:
    for i, token in enumerate(text.code):
        before = text.code[i - 1].text if i else ""
        after = text.code[i + 1].text if i + 1 < len(text.code) else ""
        meant = token.text not in _CALLED or after == "("
        if token.kind == "name" and token.text in _WORDS and meant and before not in (".", "->", "::"):
            what, instead = _WORDS[token.text]
            yield token, f"`{token.text}`: {what}", f"{instead}."


def _std(text: _Text) -> Iterator[_Hit]:
    for token, after in zip(text.code, text.code[1:], strict=False):
        if token.text == "std" and after.text == "::":
            yield (
                token,
                "`std::`: Metal does not have the C++ library",
                "use the functions of metal::, such as metal::exp.",
            )


def _includes(text: _Text) -> Iterator[_Hit]:
    for i, token in enumerate(text.code):
        if token.kind == "directive" and token.text.lstrip("# \t") == "include":
            rest = "".join(t.text for t in text.code[i + 1 :] if t.line == token.line)
            if not rest.startswith(("<metal_", "<simd/")):
                yield (
                    token,
                    f"`#include {rest}`: MLX compiles kernels without a path to other files",
                    "put what it declares into the header.",
                )


def _pointers(text: _Text) -> Iterator[_Hit]:
    """``float* p``: in Metal, a pointer that is declared must say which memory it points into."""
    types = set(_TYPES)
    for token, after in zip(text.code, text.code[1:], strict=False):
        if token.text in ("typename", "struct", "class") and after.kind == "name":
            types.add(after.text)
    depth = 0
    for i, token in enumerate(text.code):
        depth += {"<": 1, ">": -1}.get(token.text, 0) if token.kind == "punct" else 0
        if token.text not in ("*", "&") or i + 1 >= len(text.code) or i == 0:
            continue
        kind, after = text.code[i - 1], text.code[i + 1]
        if kind.text not in types or not (after.kind == "name" or after.text == ")"):
            continue
        start = i - 1
        while start > 0 and text.code[start - 1].text in _INTEGER_KEYWORDS | types:
            start -= 1
        before = text.code[start - 1].text if start else ";"
        if before in ADDRESS_SPACES or text.code[start].text in ADDRESS_SPACES:
            continue
        # References to a value of a template, casts and expressions are left alone.
        if before in (";", "{", "}", "(", ",") and (after.kind == "name" or before == "("):
            what = "pointer" if token.text == "*" else "reference"
            written = f"{kind.text}{token.text}"
            yield (
                token,
                f"`{written}`: a {what} without an address space",
                f"write `device {written}`, `threadgroup {written}`, `constant {written}` or `thread {written}`.",
            )


def _threadgroup(text: _Text) -> Iterator[_Hit]:
    """Threadgroup variables have no initialiser, and are declared in the kernel itself."""
    for i, token in enumerate(text.code):
        if token.text != "threadgroup":
            continue
        last = i + 1
        while last < len(text.code) and text.code[last].text not in (";", "=", "(", ")", "{", "*", "&"):
            last += 1
        if last < len(text.code) and text.code[last].text in ("=", "{") and last > i + 2:
            name = next((t.text for t in reversed(text.code[i:last]) if t.kind == "name"), "")
            yield (
                token,
                f"the threadgroup variable {name} has an initialiser",
                "assign it in one thread, with a barrier after that.",
            )


def _functions(text: _Text) -> dict[str, tuple[int, int]]:
    """The functions that a text defines once: name -> where its body begins and ends.

    Overloads call each other without being recursive, and which one is meant takes a compiler to tell.
    """
    found: dict[str, tuple[int, int]] = {}
    overloaded = set()
    for i, token in enumerate(text.code[:-1]):
        if token.kind != "name" or token.text in _CONTROL or text.code[i + 1].text != "(":
            continue
        before = text.code[i - 1] if i else None
        if before is None or not (
            (before.kind == "name" and before.text not in _CONTROL) or before.text in ("*", "&", ">")
        ):
            continue
        end = _closing(text.code, i + 1)
        if end + 1 < len(text.code) and text.code[end + 1].text == "{":
            if token.text in found:
                overloaded.add(token.text)
            found[token.text] = (end + 1, _closing(text.code, end + 1))
    return {name: body for name, body in found.items() if name not in overloaded}


def _recursion(text: _Text) -> Iterator[_Hit]:
    functions = _functions(text)
    calls = {
        name: {
            text.code[i].text: text.code[i]
            for i in range(first, last)
            if text.code[i].text in functions
            and text.code[i + 1].text == "("
            and text.code[i - 1].text not in (".", "->", "::")
        }
        for name, (first, last) in functions.items()
    }
    for name, called in calls.items():
        seen, todo = set(), list(called)
        while todo:
            other = todo.pop()
            if other not in seen:
                seen.add(other)
                todo += calls[other]
        if name in seen:
            token = next(iter(called.values()))
            yield token, f"the function {name} calls itself: Metal has no recursion", "use a loop."


def _atomics(text: _Text) -> Iterator[_Hit]:
    source = " ".join(t.text for t in text.code)
    if not re.search(r"atomic\s*_ulong|atomic_long|atomic < (ulong|long|uint64_t|int64_t) >", source):
        return
    for token in text.code:
        if token.text in _ATOMIC_64:
            yield (
                token,
                f"{token.text} on 64 bits: Metal has only atomic_min and atomic_max on ulong",
                "use two 32-bit atomics, or a reduction.",
            )
            return


_RULES: tuple[Callable[[_Text], Iterator[_Hit]], ...] = (
    _words,
    _std,
    _includes,
    _pointers,
    _threadgroup,
    _recursion,
    _atomics,
)
