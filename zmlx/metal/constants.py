"""Function constants that are given with the kernel: their declarations get values in the text itself."""

from __future__ import annotations

import re
from collections.abc import Mapping

_DECLARED = r"(\b{name}\s*)\[\[\s*function_constant\s*\(\s*\w+\s*\)\s*\]\]"


def with_values(text: str, values: Mapping[str, bool | int | float], what: str = "the header") -> str:
    """``constant bool causal [[function_constant(0)]];`` as ``constant bool causal = true;``, for each of ``values``.

    ``what`` is whose text it is, for messages.

    Raises
    ------
    ValueError
        The text declares no function constant of that name, or a value is no number.
    """
    for name, value in values.items():
        if not isinstance(value, (bool, int, float)):
            raise ValueError(
                f"[metal_kernel] Expected function_constants[{name!r}] to be a bool or a number, got {value!r}."
            )
        text, found = re.subn(_DECLARED.format(name=re.escape(str(name))), rf"\1= {_literal(value)}", text)
        if not found:
            raise ValueError(
                f"[metal_kernel] Expected function_constants to be those of {what}, got {name!r}, which it does "
                f"not declare as `constant … {name} [[function_constant(0)]];`."
            )
        # Who asks whether it is there hears yes.
        text = re.sub(rf"\bis_function_constant_defined\s*\(\s*{re.escape(str(name))}\s*\)", "true", text)
    return text


def _literal(value: bool | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
