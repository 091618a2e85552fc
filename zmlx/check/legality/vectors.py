"""Vectors in the front end's complaints: which conversions Metal refuses as well.

Metal has no implicit conversion from a vector to anything else: not to a vector of other elements or another length,
not to a scalar, not to a condition. (SPIRV-Cross casts for that reason: "the MSL spec forbids implicit conversions
between vector types", KhronosGroup/SPIRV-Cross ed16b3e.) Scalars do become vectors.

The front end is of OpenCL, where comparing two vectors gives signed integers as wide as what was compared; in Metal
that is bools. So nothing is said of two vectors of signed integers, and nothing of bools.
"""

from __future__ import annotations

import re

from zmlx.check.legality.front_end import Complaint

_NAMES = {
    **{name: name for name in ("bool", "char", "short", "int", "long", "half", "float", "bfloat")},
    **{name: name for name in ("uchar", "ushort", "uint", "ulong")},
    **{f"unsigned {name}": f"u{name}" for name in ("char", "short", "int", "long")},
    "__bf16": "bfloat",
    "_Bool": "bool",
}
_SIGNED = frozenset({"char", "short", "int", "long"})
_ELEMENT = "|".join(sorted(_NAMES, key=len, reverse=True))
_QUALIFIER = re.compile(r"\b(?:const|volatile|__private|__global|__local|__constant|__generic)\b ?")
#: ``half4 h(f)``: asked for, so no conversion by itself.
_DIRECT = re.compile(r"\w+\s*[({]")
#: The three ways in which the front end writes a vector.
_VECTOR = re.compile(
    rf"(?:metal::)?(?:vec<({_ELEMENT}), ([234])>|({_ELEMENT})([234])|"
    rf"({_ELEMENT}) __attribute__\(\(ext_vector_type\(([234])\)\)\))"
)
_SPELLED_OUT = re.compile(rf"({_ELEMENT}) __attribute__\(\(ext_vector_type\(([234])\)\)\)")
_PLACED = re.compile(r" (?:__private|__global|__local|__constant|__generic) __attribute__")
_VALUES = re.compile(r" \(vector of \d+ '[^']*' values\)")
_AKA = re.compile(r" \(aka '[^']*'\)")
_TYPE = re.compile(r"'([^']*)'")


def in_metal(message: str) -> str:
    """A complaint with Metal's names for vectors."""
    return _SPELLED_OUT.sub(
        lambda found: _NAMES[found[1]] + found[2], _PLACED.sub(" __attribute__", _VALUES.sub("", message))
    )


def are_refused(complaint: Complaint) -> bool:
    """Whether the two types of a complaint (or the one and bool) are such that Metal converts neither."""
    message = complaint.message
    if "initialize a variable" in message and _DIRECT.match(complaint.text):
        return False
    kinds = [_read(kind) for kind in _TYPE.findall(_VALUES.sub("", _AKA.sub("", message)))]
    if len(kinds) != 2 or None in kinds:
        return False
    (first, lanes), (second, more) = (kind for kind in kinds if kind is not None)
    if "not contextually convertible" in message:
        return lanes > 1
    if "implicit conversions between" not in message and more == 1:
        return False  # the second becomes the first: a scalar may
    if (lanes > 1 and first == "bool") or second == "bool":
        return False
    return (first, lanes) != (second, more) and not (lanes > 1 and {first, second} <= _SIGNED)


def _read(kind: str) -> tuple[str, int] | None:
    """The element and the number of lanes of a type; 1 for a scalar, None for what is neither."""
    kind = _QUALIFIER.sub("", kind)
    if kind in _NAMES:
        return _NAMES[kind], 1
    found = _VECTOR.fullmatch(kind)
    if found is None:
        return None
    element, lanes = (group for group in found.groups() if group is not None)
    return _NAMES[element], int(lanes)
