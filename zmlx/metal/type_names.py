"""What Metal calls the types of numbers, and the dtype that an array of each has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

#: Names of a dtype's elements in Metal and C++, besides those that end in ``_t``.
_NAMES = {
    "bool": "bool",
    "uint8": "uint8_t uchar",
    "uint16": "uint16_t ushort",
    "uint32": "uint32_t uint unsigned",
    "uint64": "uint64_t ulong size_t",
    "int8": "int8_t char",
    "int16": "int16_t short",
    "int32": "int32_t int signed",
    "int64": "int64_t long ptrdiff_t",
    "float16": "float16_t half",
    "bfloat16": "bfloat16_t bfloat",
    "float32": "float",
    "complex64": "complex64_t",
}
_DTYPES = {name: dtype for dtype, names in _NAMES.items() for name in names.split()}
#: Types of several words, as C++ has them.
_WORDS = {
    **{f"unsigned {name}": f"u{name}" for name in ("char", "short", "int", "long")},
    **{f"signed {name}": name for name in ("char", "short", "int", "long")},
    **{f"{name} int": name for name in ("short", "long")},
    **{f"unsigned {name} int": f"u{name}" for name in ("short", "long")},
}
_VECTOR = re.compile(r"(?:packed_)?([a-z]+)([234])")
_TEMPLATE = re.compile(r"(atomic|(?:packed_)?vec)<\s*([\w ]+?)\s*(?:,\s*([234])\s*)?>")
_ATOMIC = re.compile(r"atomic_([a-z]+)")
_ALIAS = re.compile(r"\busing\s+(\w+)\s*=\s*([\w: ]+);|\btypedef\s+([\w: ]+?)\s+(\w+)\s*;")


class NumberType(NamedTuple):
    """A type of numbers: its dtype, how many of them a vector has, and whether it is atomic."""

    dtype: str
    lanes: int = 1
    atomic: bool = False


def aliases(text: str) -> dict[str, str]:
    """The types that a text names anew by ``typedef`` and ``using``, where they have no arguments."""
    return {match[1] or match[4]: match[2] or match[3] for match in _ALIAS.finditer(text)}


def number_type(name: str, known: Mapping[str, str] | None = None) -> NumberType | None:
    """What a type's name stands for; None if it is no type of numbers (a struct), or not seen from its name alone.

    ``known`` are other names of types, by name: `aliases`, and template arguments.
    """
    known = known or {}
    name = " ".join(name.replace("metal::", "").split())
    seen: set[str] = set()
    while name in known and name not in seen:
        seen.add(name)
        name = " ".join(known[name].replace("metal::", "").split())
    name = _WORDS.get(name, name)
    if name in _DTYPES:
        return NumberType(_DTYPES[name])
    if match := _VECTOR.fullmatch(name):
        return NumberType(_DTYPES[match[1]], int(match[2])) if match[1] in _DTYPES else None
    if match := _ATOMIC.fullmatch(name):
        return NumberType(_DTYPES[match[1]], atomic=True) if match[1] in _DTYPES else None
    if match := _TEMPLATE.fullmatch(name):
        element = number_type(match[2], known)
        if element is not None and element.lanes == 1:
            return NumberType(element.dtype, int(match[3] or 1), match[1] == "atomic")
    return None
