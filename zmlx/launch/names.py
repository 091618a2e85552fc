"""Names of kernels and their arguments: what would be no Metal once MLX has written the function around a body.

=============================  ==============================================================================
a name                         must be
=============================  ==============================================================================
of a kernel                    letters, digits and underscores, as it stands in ``custom_kernel_<name>``
of an input or an output       a C++ identifier, no keyword of C++ or Metal, and nobody else's
                               ... nor an attribute or ``<input>_shape`` that the source makes MLX declare
=============================  ==============================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zmlx.errors import ArgumentTypeError
from zmlx.metal.signature import ATTRIBUTES


def _words(text: str) -> list[str]:
    return text.split()


#: C++17's keywords that stand for themselves.
_CPP_KEYWORDS = frozenset(
    _words(
        "alignas alignof asm auto bool break case catch char char16_t char32_t class const const_cast "
        "constexpr continue decltype default delete do double dynamic_cast else enum explicit export "
        "extern false float for friend goto if inline int long mutable namespace new noexcept nullptr "
        "operator private protected public register reinterpret_cast return short signed sizeof static "
        "static_assert static_cast struct switch template this thread_local throw true try typedef typeid "
        "typename union unsigned using virtual void volatile wchar_t while "
    )
)
#: Keywords that stand for operators. `custom_kernel_xor` is a name like any other.
_OPERATORS = frozenset(_words("and and_eq bitand bitor compl not not_eq or or_eq xor xor_eq "))
#: What Metal adds: address spaces, kinds of functions and a type.
_METAL_KEYWORDS = frozenset(
    _words(
        "constant device fragment half kernel object_data ray_data thread threadgroup "
        "threadgroup_imageblock vertex "
    )
)

_INFORMATION = ("shape", "strides", "ndim")


def checked_names(what: str, names: Any) -> tuple[str, ...]:
    """The names as a tuple; ``what`` is the parameter's name.

    Raises
    ------
    ValueError
        They are no list of strings.
    """
    if isinstance(names, str | bytes) or not isinstance(names, Sequence):
        raise ArgumentTypeError(
            f'[metal_kernel] Expected `{what}` to be a list of names, such as ["x"], but got {names!r}.'
        )
    for name in names:
        if not isinstance(name, str):
            raise ArgumentTypeError(
                f"[metal_kernel] Expected `{what}` to be a list of names but got {name!r} in it."
            )
    return tuple(names)


def check_kernel_name(name: Any) -> None:
    """Refuse what is no name for a kernel with ValueError."""
    if not isinstance(name, str):
        raise ArgumentTypeError(f"[metal_kernel] Expected `name` to be a str but got {name!r}.")
    if not name or not ("_" + name).isidentifier():
        raise ValueError(
            f"[metal_kernel] Expected `name` to be an identifier, of letters, digits and underscores, but got "
            f"{name!r}: it becomes part of a Metal function's name, {'custom_kernel_' + name!r}."
        )


def check_argument_names(inputs: tuple[str, ...], outputs: tuple[str, ...], source: str) -> None:
    """Refuse names that cannot stand in the generated function's parameter list, with ValueError."""
    declared: dict[str, str] = {}
    for what, names in (("input_names", inputs), ("output_names", outputs)):
        for name in names:
            problem = _problem(name, source) or (
                f"is in `{declared[name]}` already; every argument needs a name of its own"
                if name in declared
                else ""
            )
            if problem:
                raise ValueError(f"[metal_kernel] {name!r} in `{what}` {problem}.")
            declared[name] = what
    for name in inputs:
        for information in _INFORMATION:
            made = f"{name}_{information}"
            if made in declared and made in source:
                raise ValueError(
                    f"[metal_kernel] {made!r} in `{declared[made]}` is what MLX declares by itself for the input "
                    f"{name!r}, since the source mentions it. Give the argument another name."
                )


def _problem(name: str, source: str) -> str:
    """What is wrong with an argument's name taken alone; nothing if it is empty."""
    if not name.isidentifier():
        return "is no identifier: expected letters, digits and underscores, beginning with no digit"
    if name in _CPP_KEYWORDS or name in _OPERATORS:
        return "is a keyword of C++, and cannot name an argument"
    if name in _METAL_KEYWORDS:
        return "is a keyword of Metal, and cannot name an argument"
    if name in ATTRIBUTES and name in source:
        return (
            "is an attribute, which MLX declares since the source mentions it. Give the argument another name"
        )
    return ""
