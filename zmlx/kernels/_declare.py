"""What `elementwise` and `row_kernel` have in common: names, numbers, and what messages say of them."""

from __future__ import annotations

import keyword
from collections.abc import Collection, Mapping, Sequence

from zmlx.kernels import _check_numbers
from zmlx.kernels._formula.functions import NUMBERS

#: The scalars' names -> their defaults; None: a call has to give it.
Scalars = Mapping[str, "float | None"]


def check_name(block: str, name: str) -> None:
    """What a kernel can be called.

    Raises
    ------
    ValueError
        It is no identifier.
    """
    if not (name.isidentifier() and name.isascii()):
        raise ValueError(
            f"[{block}] Expected `name` to be letters, digits and underscores, which kernels' names are made of, "
            f"got {name!r}."
        )


def names(function: str, argument: str, given: Sequence[str]) -> tuple[str, ...]:
    """The names that an argument of the declaration lists.

    Raises
    ------
    TypeError
        It is a text, whose letters would pass for names.
    """
    if isinstance(given, str):
        raise TypeError(
            f"[{function}] Expected `{argument}` to be a sequence of names, got the text {given!r}. "
            f"Pass ({given!r},)."
        )
    return tuple(given)


def check_names(function: str, what: str, given: Sequence[str], reserved: Collection[str] = ()) -> None:
    """Names that a formula can mention, each once.

    Raises
    ------
    ValueError
        One is none, has another meaning, or is there twice.
    """
    for position, name in enumerate(given):
        if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
            raise ValueError(
                f"[{function}] Expected identifiers, which are ASCII and no words of Python, as names of {what}; got "
                f"{name!r}. Rename it."
            )
        if name in reserved or name in NUMBERS:
            raise ValueError(
                f"[{function}] Expected names of {what} other than {', '.join(sorted({*reserved, *NUMBERS}))}, "
                f"which formulas know; got {name!r}. Rename it."
            )
        if name in given[:position]:
            raise ValueError(
                f"[{function}] Expected each name of {what} once, got {name!r} again. Leave it out."
            )


def check_known(function: str, what: str, given: Collection[str], known: Sequence[str], kind: str) -> None:
    """Names among others, which are `kind`.

    Raises
    ------
    ValueError
        One is not.
    """
    for name in given:
        if name not in known:
            raise ValueError(
                f"[{function}] Expected {what} to name {kind}, which are {', '.join(known)}; got {name!r}."
            )


def check_used(function: str, formula: str, scalars: Collection[str], used: Collection[str]) -> None:
    """Scalars that something mentions: another one is a slip of the pen.

    Raises
    ------
    ValueError
        Nothing mentions it.
    """
    for name in scalars:
        if name not in used:
            raise ValueError(
                f"[{function}] Expected the formula to use the scalar {name!r}, got {formula!r}. "
                "Leave it out of `scalars`."
            )


def scalars(function: str, given: Sequence[str] | Scalars) -> dict[str, float | None]:
    """Names of numbers -> defaults.

    Raises
    ------
    TypeError
        A default is no number.
    """
    if not isinstance(given, Mapping):
        return dict.fromkeys(names(function, "scalars", given))
    for name, default in given.items():
        if default is not None:
            _check_numbers.check_real(function, default, name)
    return dict(given)


def check_keywords(
    function: str, given: Collection[str], known: Collection[str], arrays: Sequence[str]
) -> None:
    """Keyword arguments of a call.

    Raises
    ------
    TypeError
        One is unknown.
    """
    for name in given:
        if name not in known:
            raise TypeError(
                f"[{function}] Expected keyword arguments among {', '.join(known) or 'none'}, got {name!r}. "
                f"Arrays are given by position: {', '.join(arrays)}."
            )


def check_count(function: str, arrays: Sequence[object], expected: Sequence[str]) -> None:
    """As many arrays as were declared.

    Raises
    ------
    TypeError
        More or fewer.
    """
    if len(arrays) != len(expected):
        raise TypeError(
            f"[{function}] Expected {len(expected)} array{'s' * (len(expected) > 1)} ({', '.join(expected)}), got "
            f"{len(arrays)}. Pass them by position."
        )


def numbers(function: str, declared: Scalars, given: Mapping[str, float]) -> tuple[float, ...]:
    """The values of a call's scalars, in the order of their declaration.

    Raises
    ------
    TypeError
        One is not given, or is no number.
    ValueError
        One is beyond float's range.
    """
    values = []
    for name, default in declared.items():
        value = given.get(name, default)
        if value is None:
            raise TypeError(f"[{function}] Expected a number `{name}`, got none. Pass {name}=1.0.")
        values.append(_check_numbers.check_real(function, value, name))
    return tuple(values)
