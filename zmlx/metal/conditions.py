"""Conditions of ``#if`` that are known before anything is compiled: those that ask Metal's compiler who it is, and
which headers it has.

A condition of other names, which the author may have defined or another compiler defines, is left to the preprocessor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from zmlx.metal.tokens import Token

#: What Metal's compiler defines by itself: ``runtime/msl/predefined.h`` has the same for the C++ compilers. Of the
#: ``__HAVE_…__`` those are there whose features are here. ``__METAL_MACOS__`` is that of the languages before Metal 3.
PREDEFINED = {
    "__METAL__": 1,
    "__METAL_VERSION__": 320,
    "__AIR64__": 1,
    "__HAVE_BFLOAT__": 1,
    "__HAVE_COHERENT__": 1,
    "__HAVE_QUADGROUP__": 1,
    "__HAVE_QUADGROUP_BALLOT__": 1,
    "__HAVE_QUADGROUP_REDUCTION__": 1,
    "__HAVE_SIMDGROUP__": 1,
    "__HAVE_SIMDGROUP_BALLOT__": 1,
    "__HAVE_SIMDGROUP_MATRIX__": 1,
    "__HAVE_SIMDGROUP_REDUCTION__": 1,
}

#: What the C++ compilers define and Metal's does not: it is for no host and not CUDA's.
ABSENT = (
    *("__CUDACC__", "__CUDACC_RTC__", "__CUDA_ARCH__", "__NVCC__"),
    *("__linux__", "__linux", "__gnu_linux__", "__unix__", "__unix", "_WIN32"),
    *("__x86_64__", "__x86_64", "__amd64__", "__amd64", "__aarch64__", "__arm64__"),
)

#: Names that only Metal's compiler could define, and that it does not where they are not in the table.
_METALS_OWN = re.compile(r"__(?:METAL|HAVE)_\w+__|__METAL__")

#: The headers that Metal 3.2 has, and those that only a newer one has.
METAL_HEADERS = re.compile(r"<(?:metal(?:_[a-z0-9_]+)?|simd/[a-z_]+\.h)>")
NEWER_HEADERS = re.compile(r"<(?:metal_(?:cooperative_)?tensor|MetalPerformancePrimitives/.*)>")
_HAS_INCLUDE = "__has_include"

# What ``__has_feature`` says of Metal's compiler, a clang for C++14 without exceptions and type information: clang's
#: names for what C++11 and C++14 brought. Compilers that are no clang answer otherwise, if at all.
_FEATURES = """
cxx_access_control_sfinae cxx_alias_templates cxx_alignas cxx_alignof cxx_attributes cxx_auto_type cxx_constexpr
cxx_decltype cxx_decltype_incomplete_return_types cxx_default_function_template_args cxx_defaulted_functions
cxx_delegating_constructors cxx_deleted_functions cxx_explicit_conversions cxx_generalized_initializers
cxx_implicit_moves cxx_inheriting_constructors cxx_inline_namespaces cxx_lambdas cxx_local_type_template_args
cxx_noexcept cxx_nonstatic_member_init cxx_nullptr cxx_override_control cxx_range_for cxx_raw_string_literals
cxx_reference_qualified_functions cxx_rvalue_references cxx_static_assert cxx_strong_enums cxx_trailing_return
cxx_unicode_literals cxx_unrestricted_unions cxx_user_literals cxx_variadic_templates
cxx_aggregate_nsdmi cxx_binary_literals cxx_contextual_conversions cxx_decltype_auto cxx_generic_lambdas
cxx_init_captures cxx_relaxed_constexpr cxx_return_type_deduction cxx_variable_templates
"""
FEATURES = frozenset(_FEATURES.split())

_LEVELS = (("||",), ("&&",), ("==", "!="), ("<", ">", "<=", ">="), ("+", "-"), ("*",))


class _UnknownError(Exception):
    """The condition depends on something that is not known here."""


def evaluate(tokens: Sequence[Token], names: Mapping[str, int] = PREDEFINED) -> bool | None:
    """Whether the condition behind ``#if`` holds; None if that is not known here."""
    value = value_of(tokens, names)
    return None if value is None else bool(value)


def value_of(tokens: Sequence[Token], names: Mapping[str, int]) -> int | None:
    """The value of an expression of integers; None if that is not known here."""
    words = [token.text for token in answered(tokens) if token.is_code]
    try:
        value, rest = _binary(words, 0, names)
    except (_UnknownError, IndexError):
        return None
    return value if not rest else None


def is_defined(name: str, names: Mapping[str, int] = PREDEFINED) -> bool | None:
    """Whether a name is defined; None if that is not known here."""
    if name in names or name in _ANSWERS:
        return True
    if name in ABSENT:
        return False
    return False if _METALS_OWN.fullmatch(name) else None


def has_header(target: str) -> bool:
    """Whether Metal's compiler finds ``<metal_stdlib>`` when MLX compiles a kernel, which gives it no other folders."""
    return METAL_HEADERS.fullmatch(target) is not None and NEWER_HEADERS.fullmatch(target) is None


_ANSWERS: dict[str, Callable[[str], bool]] = {
    _HAS_INCLUDE: has_header,
    "__has_feature": FEATURES.__contains__,
    "__has_extension": FEATURES.__contains__,
}


def answered(tokens: Sequence[Token]) -> list[Token]:
    """The tokens of a condition with what ``__has_include(…)`` and its kin are on Metal in their place."""
    found: list[Token] = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        closed = next((i for i in range(index, len(tokens)) if tokens[i].text == ")"), -1)
        words = [t.text for t in tokens[index : closed + 1] if t.is_code]
        if token.text in _ANSWERS and words[1:2] == ["("]:
            found.append(Token("number", str(int(_ANSWERS[token.text]("".join(words[2:-1])))), token.line))
            index = closed + 1
        else:
            found.append(token)
            index += 1
    return found


def _binary(words: list[str], level: int, names: Mapping[str, int]) -> tuple[int, list[str]]:
    if level == len(_LEVELS):
        return _unary(words, names)
    left, words = _binary(words, level + 1, names)
    while words and words[0] in _LEVELS[level]:
        operator = words[0]
        right, words = _binary(words[1:], level + 1, names)
        left = _apply(operator, left, right)
    return left, words


def _apply(operator: str, left: int, right: int) -> int:
    return {
        "||": int(bool(left or right)),
        "&&": int(bool(left and right)),
        "==": int(left == right),
        "!=": int(left != right),
        "<": int(left < right),
        ">": int(left > right),
        "<=": int(left <= right),
        ">=": int(left >= right),
        "+": left + right,
        "-": left - right,
        "*": left * right,
    }[operator]


def _unary(words: list[str], names: Mapping[str, int]) -> tuple[int, list[str]]:
    word = words[0]
    if word == "!":
        value, rest = _unary(words[1:], names)
        return int(not value), rest
    if word == "(":
        value, rest = _binary(words[1:], 0, names)
        if rest[:1] != [")"]:
            raise _UnknownError
        return value, rest[1:]
    if word == "defined":
        name, rest = (words[2], words[4:]) if words[1] == "(" else (words[1], words[2:])
        known = is_defined(name, names)
        if known is None:
            raise _UnknownError
        return int(known), rest
    if word in names:
        return names[word], words[1:]
    if re.fullmatch(r"[0-9]+[uUlL]*", word):
        return int(word.rstrip("uUlL"), 8 if re.match(r"0[0-7]", word) else 10), words[1:]
    if _METALS_OWN.fullmatch(word) or word in ABSENT:
        return 0, words[1:]
    raise _UnknownError
