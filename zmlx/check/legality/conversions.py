"""Implicit conversions of numbers, vectors and pointers that Metal does not have, told by the types that the front end
names in its complaints.

A type that is not known for certain is not judged. Nor are two vectors of signed integers: comparisons of vectors are
of bool in Metal, and of an integer as wide as the operands in the front end's language.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from zmlx.check.legality.front_end import Complaint
from zmlx.check.legality.sections import msl

_SPACE = re.compile(r"__(?:global|constant|local|private|generic)\b")
_QUALIFIER = re.compile(r"\b(?:const|volatile|__restrict|restrict)\b")
_ELEMENTS = {
    **{name: name for name in ("bool", "char", "uchar", "short", "ushort", "int", "uint", "long", "ulong")},
    **{name: name for name in ("half", "float", "bfloat")},
    **{f"int{n}_t": kind for n, kind in ((8, "char"), (16, "short"), (32, "int"), (64, "long"))},
    **{f"uint{n}_t": f"u{kind}" for n, kind in ((8, "char"), (16, "short"), (32, "int"), (64, "long"))},
    **{f"unsigned {kind}": f"u{kind}" for kind in ("char", "short", "int", "long")},
    "signed char": "char",
    "size_t": "ulong",
    "__bf16": "bfloat",
    "bfloat16_t": "bfloat",
    "float16_t": "half",
}
_NAMES = "|".join(sorted(map(re.escape, _ELEMENTS), key=len, reverse=True))
_FORMS = tuple(
    re.compile(form.format(_NAMES))
    for form in (
        r"({})",
        r"(?:packed_|simd_)?({})(2|3|4)",
        r"(?:(?:packed_)?vec|zmlx_legal_deduced)<({}), (\d+)>",
        r"zmlx_legal_vector<({}), (\d+)>::(?:type)",
        r"({}|lane) __attribute__\(\(ext_vector_type\((\d+)\)\)\)",
    )
)
_TYPE = re.compile(r"'([^']*)'(?: \(aka '([^']*)'\))?")
#: How the front end writes a vector for which it knows no name; the words of a pointer may be within.
_SPELLED_OUT = re.compile(
    rf"({_NAMES})((?: __(?:private|global|local|constant|generic))?(?: \*)?) __attribute__"
    r"\(\(ext_vector_type\((\d+)\)\)\)"
)
_VECTOR_OF = re.compile(r" \(vector of \d+ '[^']*' values\)")
#: What a comparison of vectors may be in the front end's language, and a vector of bool is in its prelude.
_TRUTHS = frozenset({"bool", "char", "short", "int", "long"})

_IMPLICIT = msl("2.22")
CONSTRUCT = "convert it by a constructor, such as float4(v), or take one component, such as v.x."
_TRUTH = "ask for all or any of its components: all(v), any(v)."
_POINTER = "cast the pointer, if the memory is meant to be read as another type."
_CONST = "take a pointer to const; inputs are const."

#: ``half4 h(f)``: asked for, so no conversion by itself.
_DIRECT = re.compile(r"\w+\s*[({]")
#: Complaints with two types, of which the groups say: what it is to become, and what it is.
_FORWARD = re.compile(
    r"(?:cannot initialize .*? of type|assigning to|incompatible pointer types assigning to) T "
    r"(?:with an? \w+ of type|from(?: incompatible type)?) T.*"
)
_OPERANDS = re.compile(r"implicit conversions between vector types \(T and T\) are not permitted")
_LENGTHS = re.compile(r"vector operands do not have the same number of elements \(T and T\)")
_NARROWED = re.compile(r"implicit conversion loses floating-point precision: T to T")
_ARGUMENT = re.compile(r"candidate (?:function|constructor).* not viable: no known conversion from T to T.*")
_CONDITION = re.compile(r"value of type T is not contextually convertible to T")
_CONST_LOST = re.compile(
    r"candidate (?:function|constructor).* not viable: .* argument \(T\) would lose const qualifier"
)


@dataclass(frozen=True)
class Number:
    """A scalar, or a vector of ``length`` components; that of a swizzle that is written to has no known element."""

    element: str
    length: int = 1

    def __str__(self) -> str:
        if not self.element:
            return f"a swizzle of {self.length} components"
        return self.element if self.length == 1 else f"{self.element}{self.length}"


@dataclass(frozen=True)
class Refusal:
    """What a finding says, what to do instead, and the paragraph."""

    message: str
    advice: str
    paragraph: str


def in_metal(message: str) -> str:
    """A complaint with Metal's names for vectors."""
    message = message.replace("zmlx_legal_deduced<", "vec<")
    named = _SPELLED_OUT.sub(lambda found: _ELEMENTS[found[1]] + found[3] + found[2], message)
    return _VECTOR_OF.sub("", named)


def refused(complaint: Complaint) -> Refusal | None:
    """What Metal says to the conversion that a complaint is about; None if it is about none, or not known."""
    message = _VECTOR_OF.sub("", complaint.message)
    kinds = _TYPE.findall(message)
    text = _TYPE.sub("T", message)
    if len(kinds) != 2:
        return None
    if _FORWARD.fullmatch(text):
        direct = "initialize a variable" in message and _DIRECT.match(complaint.text)
        return None if direct or "vector element" in message else _converted(kinds[1], kinds[0])
    if _CONDITION.fullmatch(text):
        given = _number(kinds[0])
        vector = given is not None and given.length > 1
        return Refusal(f"{given} as a condition", _TRUTH, _IMPLICIT) if vector else None
    if _NARROWED.fullmatch(text):
        return _narrowed(kinds[0], kinds[1])
    if _OPERANDS.fullmatch(text) or _LENGTHS.fullmatch(text):
        first, second = map(_number, kinds)
        if first and second and not _same(first, second):
            return Refusal(f"an operator on {first} and {second}", CONSTRUCT, msl("3.1"))
    return None


def refused_argument(note: str) -> Refusal | None:
    """The same of a note that says why a function cannot be called."""
    note = _VECTOR_OF.sub("", note)
    kinds = _TYPE.findall(note)
    if len(kinds) == 2 and _ARGUMENT.fullmatch(_TYPE.sub("T", note)):
        return _converted(kinds[0], kinds[1])
    if len(kinds) == 1 and _CONST_LOST.fullmatch(_TYPE.sub("T", note)):
        given = _pointer(kinds[0])
        if given:
            message = f"a pointer to const {given[0]}, for which it takes one to {given[0]}"
            return Refusal(message, _CONST, "C++17 [conv.qual]")
    return None


def _number(kind: tuple[str, str]) -> Number | None:
    for name in kind:
        plain = _QUALIFIER.sub("", _SPACE.sub("", name)).replace("metal::", "")
        plain = " ".join(plain.split())
        for form in _FORMS:
            found = form.fullmatch(plain)
            if found:
                return Number(_ELEMENTS.get(found[1], ""), int(found[2]) if form.groups > 1 else 1)
    return None


def _pointer(kind: tuple[str, str]) -> tuple[Number, str, bool] | None:
    """What a pointer to numbers points to, in which address space, and whether to const."""
    target, star, behind = kind[0].partition("*")
    if not star or "*" in behind or "(" in behind:
        return None
    number = _number((target, kind[1].partition("*")[0]))
    spaces = _SPACE.findall(target)
    return (number, spaces[0], "const" in target.split()) if number and len(spaces) == 1 else None


def _same(first: Number, second: Number) -> bool:
    """Whether two vectors are of one type, or may be."""
    if first.length != second.length:
        return False
    if not first.element or not second.element:
        return True
    return first.element == second.element or {first.element, second.element} <= _TRUTHS


def _converted(source: tuple[str, str], target: tuple[str, str]) -> Refusal | None:
    pointers = _pointer(source), _pointer(target)
    if pointers[0] and pointers[1]:
        return _converted_pointer(pointers[0], pointers[1])
    given, wanted = _number(source), _number(target)
    if given is None or wanted is None:
        return None
    message = f"an implicit conversion from {given} to {wanted}"
    if given.length > 1:
        refuses = wanted.length == 1 or not _same(given, wanted)
        return Refusal(message, CONSTRUCT, _IMPLICIT) if refuses else None
    if wanted.length == 1 and {given.element, wanted.element} == {"half", "bfloat"}:
        return Refusal(message, f"write {wanted}(float(…)).", _IMPLICIT)
    return None


def _narrowed(source: tuple[str, str], target: tuple[str, str]) -> Refusal | None:
    given, wanted = _number(source), _number(target)
    if wanted != Number("bfloat") or given not in (Number("float"), Number("half")):
        return None
    advice = "write bfloat(…), or static_cast<T>(…) where T is a template argument."
    return Refusal(f"an implicit conversion from {given} to bfloat", advice, _IMPLICIT)


def _converted_pointer(source: tuple[Number, str, bool], target: tuple[Number, str, bool]) -> Refusal | None:
    if source[1] != target[1]:
        return None  # a matter of address spaces
    if source[0] != target[0]:
        if {source[0].element, target[0].element} <= _TRUTHS and source[0].length > 1:
            return None
        message = f"an implicit conversion from a pointer to {source[0]} to a pointer to {target[0]}"
        return Refusal(message, _POINTER, "C++17 [conv.ptr]")
    if source[2] and not target[2]:
        message = f"an implicit conversion from a pointer to const {source[0]} to a pointer to {target[0]}"
        return Refusal(message, _CONST, "C++17 [conv.qual]")
    return None
