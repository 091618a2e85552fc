"""What an MLX or NumPy array, a list or a number holds: its dtype and its values."""

from __future__ import annotations

from typing import Any

import numpy as np

from zmlx.testing._formats import Float64Array


def _is_mlx(value: object) -> bool:
    # By module, so that NumPy-only code never imports MLX.
    return type(value).__module__.startswith("mlx.")


def dtype_name(value: Any) -> str | None:
    """MLX's name of the dtype of an MLX or NumPy array; None for lists and Python scalars."""
    if _is_mlx(value):
        return str(value.dtype).removeprefix("mlx.core.")
    if isinstance(value, (np.ndarray, np.generic)):
        return str(value.dtype.name)
    return None


def is_number(value: object) -> bool:
    """Whether it is a single number of Python or NumPy; an array without dimensions is none."""
    import numbers

    return isinstance(value, (numbers.Number, np.number, np.bool_))


def is_complex(value: Any) -> bool:
    """Whether an array, list or number has complex values."""
    name = dtype_name(value)
    return np.asarray(value).dtype.kind == "c" if name is None else name.startswith("complex")


def as_float64(value: Any) -> Float64Array:
    """A float64 NumPy copy of an MLX array (evaluated; bfloat16 too), NumPy array, list or scalar.

    Raises
    ------
    TypeError
        If the values are complex.
    """
    if _is_mlx(value):
        import mlx.core as mx

        if value.dtype == mx.bfloat16:
            # NumPy cannot read a bfloat16 buffer; every bfloat16 is a float32.
            value = value.astype(mx.float32)
    array = np.asarray(value)
    if array.dtype.kind == "c":
        raise TypeError("Complex values have no ULP distance; compare their .real and .imag.")
    return np.array(array, dtype=np.float64)
