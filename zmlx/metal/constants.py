"""Function constants that are given with the kernel: their declarations get values in the text itself."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from zmlx.errors import ArgumentTypeError
from zmlx.metal.type_names import aliases, number_type

_DECLARED = r"(\w+)(\s+{name}\s*)\[\[\s*function_constant\s*\(\s*\w+\s*\)\s*\]\]"
_INTEGER = re.compile(r"(u?)int(\d+)")


def with_values(text: str, values: Mapping[str, bool | int | float], what: str = "the header") -> str:
    """``constant bool causal [[function_constant(0)]];`` as ``constant bool causal = true;``, for each of ``values``.

    ``what`` is whose text it is, for messages.

    Raises
    ------
    ArgumentTypeError
        ``values`` is no mapping.
    ValueError
        The text declares no function constant of that name, or a value is no number, or none that its type holds.
    """
    if not isinstance(values, Mapping):
        raise ArgumentTypeError(
            f"[metal_kernel] Expected function_constants to be values by name, {{'causal': True}}, got {values!r}."
        )
    for name, given in values.items():
        value = plain_number(given)
        if value is None:
            raise ValueError(
                f"[metal_kernel] Expected function_constants[{name!r}] to be a bool or a number, got {given!r}."
            )
        declared = re.compile(_DECLARED.format(name=re.escape(str(name))))
        found = declared.search(text)
        if found is None:
            raise ValueError(
                f"[metal_kernel] Expected function_constants to be those of {what}, got {name!r}, which it does "
                f"not declare as `constant … {name} [[function_constant(0)]];`."
            )
        number = number_type(found[1], aliases(text))
        if number is not None and not _holds(number.dtype, value):
            raise ValueError(
                f"[metal_kernel] Expected function_constants[{name!r}] to be a value of `{found[1]}`, as it is "
                f"declared, got {value!r}."
            )
        text = declared.sub(rf"\1\2= {literal(value)}", text)
        # Who asks whether it is there hears yes.
        text = re.sub(rf"\bis_function_constant_defined\s*\(\s*{re.escape(str(name))}\s*\)", "true", text)
    return text


def plain_number(value: object) -> bool | int | float | None:
    """A number as Python's own, also one of NumPy's; None for what is none."""
    value = value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value
    return value if isinstance(value, bool | int | float) else None


def literal(value: bool | int | float) -> str:
    """A number as Metal writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if math.isfinite(value):
        return repr(value)
    return "NAN" if math.isnan(value) else f"{'-' * (value < 0)}INFINITY"


def _holds(dtype: str, value: bool | int | float) -> bool:
    """Whether a type of numbers has this one; floats have all."""
    if dtype == "bool":
        return value in (0, 1)
    integer = _INTEGER.fullmatch(dtype)
    if integer is None:
        return True
    bits, signed = int(integer[2]), not integer[1]
    lowest, end = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    return math.isfinite(value) and value == int(value) and lowest <= value < end
