"""Overloads that differ in address spaces only, and overloads of the library's own functions.

``float sum(device float* p)`` and ``float sum(threadgroup float* p)`` are the same function once address spaces
are gone. If they do the same, one is enough; if not, the kernel cannot be carried over and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zmlx.metal.declarations import Declaration, declarations
from zmlx.metal.structure import Fragment
from zmlx.translate.address_spaces import SPACES, AddressSpaces

#: Names of ``namespace metal`` that a header may overload for types of its own: there the kernel's functions stand
#: beside the library's, here they would hide them.
_LIBRARY = """
abs acos acosh all any asin asinh atan atan2 atanh ceil clamp clz copysign cos cosh cospi cross ctz distance
distance_squared divide dot exp exp10 exp2 extract_bits fabs fdim floor fma fmax fmin fmod fract frexp ilogb
insert_bits isfinite isinf isnan isnormal ldexp length length_squared log log10 log2 max max3 median3 min min3
mix modf mulhi normalize popcount pow powr reflect refract reverse_bits rint rotate round rsqrt saturate select
sign signbit sin sincos sinh sinpi smoothstep sqrt step tan tanh tanpi trunc simd_sum simd_product simd_min
simd_max simd_and simd_or simd_xor simd_shuffle simd_shuffle_up simd_shuffle_down simd_shuffle_xor
simd_broadcast simd_broadcast_first simd_prefix_inclusive_sum simd_prefix_exclusive_sum
simd_prefix_inclusive_product simd_prefix_exclusive_product
"""
LIBRARY_FUNCTIONS = frozenset(_LIBRARY.split())
#: The same for MLX's prelude.
PRELUDE_FUNCTIONS = frozenset({"log1p", "hypot", "ceildiv", "elem_to_loc", "cast_to"})


@dataclass(frozen=True)
class _Seen:
    declaration: Declaration
    body: str


def merge_overloads(fragment: Fragment, spaces: AddressSpaces) -> None:
    """Remove what address spaces alone told apart; refuses overloads whose bodies differ."""
    found = list(declarations(fragment))
    classes = [declaration for declaration in found if declaration.kind == "class"]
    _free_members(fragment, found)
    seen: dict[tuple[str, int, str], _Seen] = {}
    for declaration in found:
        if declaration.first in fragment.erased:
            continue
        owner = max(
            (c.first for c in classes if c is not declaration and _nested(c, declaration)), default=-1
        )
        key, body = _canonical(fragment, declaration)
        before = seen.setdefault((declaration.kind, owner, key), _Seen(declaration, body))
        same = before.declaration
        if same is declaration:
            continue
        if not (_has_spaces(fragment, declaration, spaces) or _has_spaces(fragment, same, spaces)):
            continue  # the author's own mistake, which the compiler will tell
        if before.body != body:
            raise spaces.refuse(
                fragment,
                fragment.code[declaration.first],
                f"`{declaration.name}` differs from the one in line {fragment.code[same.first].line} only in address "
                "spaces, which are one here, and does something else; give it another name",
            )
        fragment.erase(declaration.first, declaration.last)


def _free_members(fragment: Fragment, found: list[Declaration]) -> None:
    """Explicit specialisations of a class's function templates, which g++ takes outside of the class only: as functions
    beside the template they are chosen in the same calls."""
    for declaration in found:
        first = declaration.first
        special = fragment.text(first) == "template" and fragment.text(first + 1) == "<"
        if (
            declaration.kind == "function"
            and declaration.scope
            and special
            and fragment.text(first + 2) == ">"
        ):
            fragment.erase(first, first + 2)


def overloaded_functions(fragment: Fragment) -> Iterator[str]:
    """Library functions that the header overloads for other types, as ``metal::exp``, sorted."""
    found: dict[str, bool] = {}
    for declaration in declarations(fragment):
        name = declaration.name
        if declaration.kind == "function" and not declaration.scope:
            if name in LIBRARY_FUNCTIONS:
                found[f"metal::{name}"] = found.get(f"metal::{name}", True) and not _is_general(
                    fragment, declaration
                )
            elif name in PRELUDE_FUNCTIONS:
                found[f"metal::zmlx_kernel::{name}"] = True
    return iter(sorted(name for name, used in found.items() if used))


def _nested(outer: Declaration, inner: Declaration) -> bool:
    return outer.first <= inner.first and inner.last <= outer.last


def _has_spaces(fragment: Fragment, declaration: Declaration, spaces: AddressSpaces) -> bool:
    end = declaration.body[0] if declaration.body[0] >= 0 else declaration.last
    words = SPACES | spaces.aliases.keys()
    return any(fragment.text(i) in words for i in range(declaration.first, end + 1))


def _canonical(fragment: Fragment, declaration: Declaration) -> tuple[str, str]:
    """Head and body as translated, with parameters by number instead of by name."""
    names = [*_template_names(fragment, declaration), *_parameter_names(fragment, declaration)]
    numbers = {name: f"${k}" for k, name in enumerate(names)}

    def text(first: int, last: int) -> str:
        words = []
        for i in range(first, last + 1):
            token, word = fragment.code[i], fragment.code[i].written
            plain = token.kind == "name" and fragment.text(i - 1) not in (".", "->", "::")
            words.append(numbers.get(word, word) if plain else word)
        return " ".join(word for word in words if word)

    opened, closed = declaration.body
    if opened < 0:
        return text(declaration.first, declaration.last), ""
    return text(declaration.first, opened - 1), text(opened, closed)


def _template_names(fragment: Fragment, declaration: Declaration) -> list[str]:
    """Names of the template parameters."""
    if fragment.text(declaration.first) != "template":
        return []
    end = fragment.angles.get(declaration.first + 1, -1)
    return list(_last_names(fragment, declaration.first + 2, end - 1))


def _parameter_names(fragment: Fragment, declaration: Declaration) -> list[str]:
    opened, closed = declaration.parameters
    return list(_last_names(fragment, opened + 1, closed - 1)) if opened >= 0 else []


def _last_names(fragment: Fragment, first: int, last: int) -> Iterator[str]:
    """The declared name of each parameter that has one: the last name before a default or an extent."""
    for start, end in fragment.pieces(first, last):
        names = []
        i = start
        while i <= end and fragment.text(i) not in ("=", "["):
            if fragment.is_name(i):
                names.append(fragment.text(i))
            inner = fragment.text(i) == "(" and fragment.text(i + 1) in ("&", "*")
            i = i + 1 if inner else fragment.skip_group(i)
        types = [name for name in names if name not in SPACES | {"const", "volatile"}]
        if len(types) > 1 or (
            types and fragment.text(i - 1) == types[-1] and fragment.text(i - 2) in ("*", "&")
        ):
            yield types[-1]


def _is_general(fragment: Fragment, declaration: Declaration) -> bool:
    """Whether it is a template that takes any type: then it stands for the library's function everywhere."""
    templates = set(_template_names(fragment, declaration))
    opened, closed = declaration.parameters
    pieces = fragment.pieces(opened + 1, closed - 1)
    return bool(templates) and all(
        any(fragment.text(i) in templates for i in range(start, end + 1))
        and not any(fragment.text(i) in ("<", "*") for i in range(start, end + 1))
        for start, end in pieces
    )
