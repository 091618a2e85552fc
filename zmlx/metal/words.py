"""Words that C++ and Metal do not share: those of C++ for what Metal has not, and Metal's own names that a kernel gives
to a variable, which to other compilers are ordinary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zmlx.metal.tokens import Token

#: Words of C++ for what Metal does not have: what that is, and what to do instead.
NOT_METAL = {
    "double": ("Metal has no double", "use float"),
    "new": ("Metal has no dynamic memory", "declare an array of a fixed size"),
    "try": ("Metal has no exceptions", "return an error value"),
    "throw": ("Metal has no exceptions", "return an error value"),
    "dynamic_cast": ("Metal has no run-time types", "use a template"),
    "typeid": ("Metal has no run-time types", "use a template"),
    "thread_local": ("Metal has no thread_local", "variables of a function are the thread's own"),
}

_SCALARS = (
    "bool",
    "char",
    "uchar",
    "short",
    "ushort",
    "int",
    "uint",
    "long",
    "ulong",
    "half",
    "float",
    "bfloat",
)
_TYPES = frozenset(_SCALARS) | {f"{t}{n}" for t in _SCALARS for n in "234"}
ADDRESS_SPACES = frozenset({"device", "constant", "thread", "threadgroup"})
#: Words of the language. ``uint``, ``float2`` and ``vec`` are none: they name types of Metal's library (MSL 2.1,
#: 2.2, 6.1), which a variable may hide, as any name of an outer scope (C++17 [basic.scope.hiding]).
_KEYWORDS = ADDRESS_SPACES | frozenset(
    {"bool", "char", "short", "int", "long", "half", "float", "bfloat", "kernel", "vertex", "fragment"}
)
_BEFORE = _TYPES | {"auto", "size_t", *(f"{u}int{n}_t" for u in ("", "u") for n in (8, 16, 32, 64))}
#: Types that C++ writes in several words, of which a second one may come after a first.
_SEVERAL = frozenset({"short", "int", "long", "char"})
_BEHIND = frozenset({"=", ";", ",", "[", ")", "{", ":", ">"})


def reserved_names(tokens: Sequence[Token]) -> Iterator[Token]:
    """Of a text's tokens, those that declare a variable by a word of the language."""
    code = [t for t in tokens if t.is_code]
    for i in range(1, len(code) - 1):
        token, before, behind = code[i], code[i - 1].text, code[i + 1].text
        if token.text not in _KEYWORDS or behind not in _BEHIND or before not in _BEFORE:
            continue
        if before in _SEVERAL and token.text in _SEVERAL:
            continue
        start = i - 1
        while start > 0 and code[start - 1].text not in (";", "{", "}"):
            start -= 1
        if "typedef" not in {t.text for t in code[start:i]}:
            yield token
