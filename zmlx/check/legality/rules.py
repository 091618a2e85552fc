"""Which complaints of the front end are Metal's too, and the paragraph that says so: of the Metal Shading Language
Specification, or of C++17, on which it builds.

Anything that is not in these tables is not reported: the front end is of another language, and what it does not know
is no fault of the kernel.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from zmlx.check.legality.conversions import CONSTRUCT, Refusal, in_metal, refused, refused_argument
from zmlx.check.legality.front_end import Complaint
from zmlx.check.legality.sections import msl
from zmlx.check.legality.text import HEADER, PRELUDE, SOURCE


@dataclass(frozen=True)
class Rule:
    """What the front end says (a pattern, or the key of an assertion), what a finding says, and what to do instead."""

    pattern: str
    message: str
    advice: str
    paragraph: str
    #: Only in the header, where the front end sees functions that are no kernels.
    header_only: bool = False
    #: The complaint has two types with different address spaces, and both are said.
    spaces: bool = False


_SPACES_ADVICE = (
    "say the address space that the memory is in, or take the pointer's type as a template parameter; inputs with "
    "fewer than 8 elements are `constant`, others `device`."
)
_LOCALS = (
    "declare it at program scope (`constant`), in the kernel (`threadgroup`), or without an address space."
)

#: Complaints by their text. Groups of a pattern are put into the message.
RULES = (
    Rule(r"(cannot (?:initialize|pass|return|convert).*)", "{0}", _SPACES_ADVICE, msl("4"), spaces=True),
    Rule(r"(assigning .*)", "{0}", _SPACES_ADVICE, msl("4"), spaces=True),
    Rule(r"(.*(?:cast from|initializing) .*)", "{0}", _SPACES_ADVICE, msl("4"), spaces=True),
    Rule(r"(passing .*)", "{0}", _SPACES_ADVICE, msl("4"), spaces=True),
    Rule(r"(variable .* has incompatible .*)", "{0}", _SPACES_ADVICE, msl("4"), spaces=True),
    Rule(r"(returning .*)", "{0}", _SPACES_ADVICE, msl("4"), spaces=True),
    Rule(
        r"((?:incompatible operand types|conditional operator|comparison) .*)",
        "{0}",
        _SPACES_ADVICE,
        msl("4"),
        spaces=True,
    ),
    Rule(r"(binding reference of type .*)", "{0}", _SPACES_ADVICE, msl("4"), spaces=True),
    Rule(r"(reference of type .* cannot bind .*)", "{0}", _SPACES_ADVICE, msl("4"), spaces=True),
    Rule(r"(.*reference to type .* could not bind to .*)", "{0}", _SPACES_ADVICE, msl("4"), spaces=True),
    Rule(
        r"program scope variable must reside in constant address space",
        "a variable at program scope that is not `constant`",
        "write `constant` in front of its type: `constant float table[4] = {{…}};`",
        msl("4.2"),
    ),
    Rule(
        r"static local variable must reside in constant address space",
        "a static variable in a function that is not `constant`",
        "leave out `static`, or declare it at program scope as `constant`.",
        msl("5.3"),
    ),
    Rule(
        r"non-kernel function variable cannot be declared in (constant) address space",
        "a local variable with the address space `{0}`",
        _LOCALS,
        msl("4.3"),
    ),
    Rule(
        r"function scope variable cannot be declared in (global) address space",
        "a local variable with the address space `device`",
        _LOCALS,
        msl("4.3"),
    ),
    Rule(
        r"non-kernel function variable cannot be declared in local address space",
        "a `threadgroup` variable in a function that is not a kernel",
        "declare it in the kernel, and give the function a `threadgroup` pointer.",
        msl("4.4"),
        header_only=True,
    ),
    Rule(
        r"(?:array size is not a constant expression|variable length arrays? .*)",
        "an array whose size is not a constant",
        "use a template argument or a constexpr for the size.",
        "C++17 [dcl.array]",
    ),
    Rule(
        r"redefinition of '(\w+)'.*",
        "`{0}` is defined again where a parameter or a variable of this name is",
        "give it another name; inputs, outputs and attributes are parameters of the kernel.",
        "C++17 [basic.scope.block]",
    ),
)

#: The prelude's assertions by their keys.
ASSERTIONS = {
    "arguments": (
        "`{name}` is called with {types}: a vector becomes no other type by itself",
        CONSTRUCT,
        msl("2.22"),
    ),
    "float-arguments": (
        "`{name}` is called with {types}, and takes numbers and vectors of floats",
        CONSTRUCT,
        msl("2.22"),
    ),
    "bool-arguments": (
        "`{name}` is called with {types}, and takes a bool or a vector of bools",
        "compare the vector: any(v != 0).",
        msl("2.22"),
    ),
    "number-argument": (
        "`{name}` is called with {types}, and takes a number for one of the vectors",
        CONSTRUCT,
        msl("2.22"),
    ),
    "simd-64": (
        "a simdgroup reduction of a 64-bit integer, which Metal does not have",
        "reduce the two halves, or shuffle: MLX has simd_shuffle_down and kin for 64 bits.",
        msl("6.9.2"),
    ),
    "atomic-type": (
        "an atomic of a type that Metal does not have",
        "use int, uint, float (in device memory) or bool.",
        msl("2.6"),
    ),
    "atomic-order": (
        "a memory order other than memory_order_relaxed on an atomic operation",
        "use memory_order_relaxed, and a fence or barrier for the order.",
        msl("6.15.1"),
    ),
    "atomic-space": (
        "an atomic operation on memory that is neither device nor threadgroup",
        "keep atomics in device or threadgroup memory.",
        msl("6.15.4"),
    ),
    "atomic-float-threadgroup": (
        "a float atomic in threadgroup memory",
        "reduce with simd_sum, or use an atomic_uint and as_type.",
        msl("6.15.4"),
    ),
    "atomic-operation": (
        "an atomic operation that Metal does not have for this type",
        (
            "int and uint have all of them, float has load, store, exchange, compare, add and sub, bool has load, "
            "store, exchange and compare, ulong has atomic_min_explicit and atomic_max_explicit in device memory."
        ),
        msl("6.15.4"),
    ),
}

_OURS = {"__global": "device", "__constant": "constant", "__local": "threadgroup", "__private": "thread"}
_ASSERTION = re.compile(r"static assertion failed.*zmlx:([\w-]+)")
_INT = re.compile(r"\bint[234]?\b")
_INSTANCE = re.compile(
    r"in instantiation of function template specialization 'metal::(?:\w+::)*(\w+)<(.*)>' requested here"
)
_AKA = re.compile(r" \(aka '[^']*'\)")
_TYPE = re.compile(r"'([^']*)'")
_SPACE = re.compile(r"__(?:global|constant|local|private|generic)\b")
#: Candidates that are out for another reason than an address space, and beyond doubt.
_OTHER_CANDIDATE = re.compile(
    r"candidate (?:function|template)? ?.*(?:requires .* arguments?)|"
    r"candidate constructor \(the implicit (?:copy|move) constructor\) not viable: no known conversion .*"
)
_SPACE_CANDIDATE = re.compile(
    r"candidate (?:function|constructor).* not viable: "
    r"(?:cannot (?:pass|bind) .*address space '([^']*)'.* address space '([^']*)'.*)"
)
_DEDUCED = re.compile(r"candidate template ignored: .*type '([^']*)'.* does not match .*type '([^']*)'.*")
_NO_CONVERSION = re.compile(
    r"candidate function.* not viable: no known conversion from '([^']*)' to '([^']*)'.*"
)
_CALL = re.compile(
    r"no matching (?:(?:member )?function for call to(?: object of type)?|constructor for initialization of|"
    r"conversion for functional-style cast from .* to) '([^']*)'"
)


@dataclass(frozen=True)
class Verdict:
    """One complaint that Metal shares: where it is, and the words of the finding."""

    part: str
    line: int
    message: str
    advice: str
    paragraph: str
    #: A conversion of an int, which the front end also takes for a type that it does not know.
    of_int: bool = False


def verdict(complaint: Complaint) -> Verdict | None:
    """What Metal says to a complaint; None if that is not known."""
    place = _place(complaint)
    if place is None:
        return None
    part, line = place
    asserted = _ASSERTION.search(complaint.message)
    if asserted:
        message, advice, paragraph = ASSERTIONS[asserted[1]]
        return Verdict(part, line, message.format_map(_called(complaint)), advice, paragraph)
    if complaint.file == PRELUDE:
        return None
    conversion = refused(complaint)
    if conversion:
        return _converts(part, line, conversion.message, conversion)
    call = _CALL.fullmatch(complaint.message)
    if call:
        spaces = _candidates(complaint)
        if spaces is None:
            return None
        callee = "a lambda" if "(lambda at" in call[1] else f"`{_SPACE.sub('', call[1]).strip()}`"
        if isinstance(spaces, Refusal):
            message = f"{callee} is called with {spaces.message}"
            return _converts(part, line, message, spaces)
        given, wanted = (_OURS[s] for s in spaces)
        message = f"{callee} is given {given} memory and takes {wanted} memory"
        return Verdict(part, line, message, _SPACES_ADVICE, msl("4"))
    for rule in RULES:
        found = re.fullmatch(rule.pattern, complaint.message)
        if found is None or (rule.header_only and complaint.file != HEADER):
            continue
        if rule.spaces and not _differ(complaint.message):
            continue
        words = rule.message.format(*(_in_metal(g) for g in found.groups()))
        return Verdict(part, line, words, rule.advice.replace("{{", "{").replace("}}", "}"), rule.paragraph)
    return None


def _converts(part: str, line: int, message: str, conversion: Refusal) -> Verdict:
    of_int = bool(_INT.search(conversion.message))
    return Verdict(part, line, message, conversion.advice, conversion.paragraph, of_int)


def _called(complaint: Complaint) -> dict[str, str]:
    """The function of the prelude whose assertion failed, and the types that it was called with."""
    for note in complaint.notes:
        found = _INSTANCE.fullmatch(note.message)
        if found:
            return {"name": found[1], "types": _in_metal(found[2])}
    return {}


def _place(complaint: Complaint) -> tuple[str, int] | None:
    """The author's line: that of the complaint, or else the innermost from which the prelude was used."""
    for place in (complaint, *complaint.notes):
        if place.file in (HEADER, SOURCE) and place.line:
            instance = place is complaint or "instantiation" in place.message
            if instance:
                return ("header" if place.file == HEADER else "source"), place.line
    return None


def _in_metal(text: str) -> str:
    """A message with Metal's words for types and address spaces."""
    text = in_metal(_AKA.sub("", text)).replace(" *__private", " *").replace("'__private ", "'")
    text = text.replace("metal::", "")
    for theirs, ours in _OURS.items():
        text = text.replace(theirs, ours)
    return text


def _pointed(kind: str) -> str | None:
    """The address space that a type points into (or, of no pointer, lies in); None if it does not say."""
    target = kind.rpartition("*")[0] if "*" in kind else kind
    spaces = _SPACE.findall(target)
    return spaces[0] if len(spaces) == 1 else None


def _is_pointer(kind: str) -> bool:
    """Whether the type is a pointer, or an array that becomes one."""
    return "*" in kind or "[" in kind


def _differ(message: str) -> bool:
    """Whether the two types of a message are in different address spaces, and both are told."""
    kinds = [k for k in _TYPE.findall(_AKA.sub("", message)) if _SPACE.search(k)]
    if len(kinds) != 2 or _is_pointer(kinds[0]) != _is_pointer(kinds[1]):
        return False
    first, second = map(_pointed, kinds)
    return None not in (first, second) and "__generic" not in (first, second) and first != second


def _candidates(complaint: Complaint) -> tuple[str, str] | Refusal | None:
    """(given, wanted) address spaces, or a conversion, if nothing but these keeps any candidate from being called."""
    found: tuple[str, str] | Refusal | None = None
    for note in complaint.notes:
        if not note.message.startswith("candidate") or _OTHER_CANDIDATE.match(note.message):
            continue
        conversion = refused_argument(note.message)
        if conversion:
            found = found or conversion
            continue
        spaces = _SPACE_CANDIDATE.fullmatch(note.message)
        message = _AKA.sub("", note.message)
        deduced = _DEDUCED.fullmatch(message)
        refused = _NO_CONVERSION.fullmatch(message)
        if refused:
            deduced = refused if _is_pointer(refused[1]) and _is_pointer(refused[2]) else None
        if spaces:
            pair = spaces[1], spaces[2]
        elif (
            deduced
            and _pointed(deduced[1])
            and _pointed(deduced[2])
            and _pointed(deduced[1]) != _pointed(deduced[2])
        ):
            pair = str(_pointed(deduced[2])), str(_pointed(deduced[1]))
            pair = pair[::-1] if refused else pair
        else:
            return None
        if not set(pair) <= set(_OURS):
            return None
        found = found or pair
    return found
