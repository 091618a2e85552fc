"""Arrays on their way between processes: a dtype, a shape and bytes, which NumPy and MLX can both be made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import mlx.core as mx

#: MLX dtype name -> the NumPy dtype that holds its bits.
BITS = {
    "bool": "bool",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "float16": "float16",
    "bfloat16": "uint16",
    "float32": "float32",
    "float64": "float64",
    "complex64": "complex64",
}


@dataclass(frozen=True)
class Raw:
    """An array: MLX's name of its dtype, its shape, and its elements in row-major order.

    Raises
    ------
    ValueError
        The dtype is none of `BITS`, an extent is negative, or the bytes are not as many as the shape has.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def __post_init__(self) -> None:
        if self.dtype not in BITS:
            raise ValueError(f"Expected a dtype that MLX has, got {self.dtype!r}.")
        if any(type(n) is not int or n < 0 for n in self.shape):
            raise ValueError(f"Expected a shape of integers from 0 on, got {self.shape}.")
        wanted = math.prod(self.shape) * np.dtype(BITS[self.dtype]).itemsize
        if len(self.data) != wanted:
            raise ValueError(
                f"Expected {wanted} bytes for {self.dtype} of shape {self.shape}, got {len(self.data)}."
            )

    @property
    def bits(self) -> NDArray[Any]:
        """The elements as NumPy holds them; bfloat16 as uint16."""
        return np.frombuffer(self.data, BITS[self.dtype]).reshape(self.shape)

    @property
    def values(self) -> NDArray[Any]:
        """The elements as numbers: floats as float64, integers and booleans as they are."""
        if self.dtype == "bfloat16":
            return (self.bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        return self.bits.astype(np.float64) if self.bits.dtype.kind == "f" else self.bits


def raw_of_numpy(array: NDArray[Any], dtype: str) -> Raw:
    """`array`, whose values `dtype` can represent, as a `Raw` of that dtype."""
    if dtype == "bfloat16":
        array = (np.array(array, np.float32, order="C").view(np.uint32) >> 16).astype(np.uint16)
    made = np.array(array, np.dtype(BITS[dtype]), order="C")
    return Raw(dtype, tuple(map(int, made.shape)), made.tobytes())


def raw_of_mlx(array: mx.array) -> Raw:
    """An MLX array, evaluated on the way."""
    import mlx.core as mx

    dtype = str(array.dtype).rpartition(".")[2]
    bits = np.asarray(array.view(mx.uint16) if dtype == "bfloat16" else array)
    return Raw(dtype, tuple(array.shape), bits.tobytes())


def mlx_of_raw(raw: Raw) -> mx.array:
    """A row-contiguous MLX array, bit for bit."""
    import mlx.core as mx

    with mx.stream(mx.cpu):
        made = mx.array(raw.bits)
        if raw.dtype == "bfloat16":
            made = made.view(mx.bfloat16)
        mx.eval(made)
        return made
