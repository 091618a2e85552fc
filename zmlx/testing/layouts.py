"""The same values in memory in different ways.

A kernel that indexes as if its input were row-contiguous passes every test whose inputs are. The arrays made
here have MLX strides and offsets to match their names, and whatever lies between and around their elements
is NaN (the largest value, for integers), so that a wrong read shows in the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from zmlx.testing._formats import FLOAT_FORMATS, INTEGER_DTYPES

if TYPE_CHECKING:
    import mlx.core as mx

Layout = Literal["row", "transposed", "strided", "sliced", "broadcast"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

_MIN_NDIM: dict[str, int] = {"row": 0, "transposed": 2, "strided": 1, "sliced": 1, "broadcast": 2}


def check_layout(layout: str) -> None:
    """ValueError for a name that is not a layout."""
    if layout not in LAYOUTS:
        raise ValueError(f"Unknown layout {layout!r}. Known: {', '.join(LAYOUTS)}.")


def applies(layout: str, shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape can differ from a row-contiguous one under `layout`."""
    check_layout(layout)
    if layout == "row":
        return True
    if len(shape) < _MIN_NDIM[layout] or 0 in shape:
        return False
    if layout == "transposed":
        return shape[-1] > 1 and shape[-2] > 1
    return layout != "broadcast" or shape[0] > 1


def repeat_first(array: NDArray[Any]) -> NDArray[Any]:
    """`array` with its first entry along axis 0 in place of all: the values a broadcast array can have."""
    return np.broadcast_to(array[:1], array.shape).copy()


def _from_bits(array: NDArray[Any], dtype: str) -> mx.array:
    """A row-contiguous MLX array of `dtype`, bit for bit: no device rounds or flushes anything."""
    import mlx.core as mx

    if dtype == "bfloat16":
        # The upper half of a float32 is the bfloat16, exactly for the rounded values that come here.
        upper = np.array(array, dtype=np.float32, order="C").view(np.uint32) >> 16
        return mx.array(upper.astype(np.uint16)).view(mx.bfloat16)
    if dtype == "float64":
        with mx.stream(mx.cpu):
            return mx.array(array, dtype=mx.float64)
    return mx.array(np.array(array, dtype=np.dtype(dtype), order="C"))


def _poison(dtype: str) -> Any:
    if dtype in FLOAT_FORMATS:
        return np.nan
    return True if dtype == "bool" else np.iinfo(dtype).max


def to_mlx_array(array: NDArray[Any], dtype: str, layout: Layout = "row") -> mx.array:
    """An evaluated MLX array of `dtype` that holds `array` and lies in memory as `layout` says.

    ============  ==============================================================================
    row           contiguous
    transposed    stored with its last two axes swapped, and swapped back by a view
    strided       every second element of a row twice as long (the others are poison)
    sliced        the inside of a larger array: rows have gaps and the data starts at an offset
    broadcast     stride 0 along axis 0: its first entry, seen ``shape[0]`` times
    ============  ==============================================================================

    An array to which the layout does not apply (see `applies`) comes out row-contiguous.

    Parameters
    ----------
    array : numpy.ndarray
        Values representable in `dtype` (see `round_to`).
    dtype : str
        Name of a float, integer or bool dtype.
    layout : str
        See the table.

    Raises
    ------
    ValueError
        For an unknown dtype or layout, and for a broadcast layout of values that differ along axis 0.
    """
    import mlx.core as mx

    if dtype not in FLOAT_FORMATS and dtype not in INTEGER_DTYPES:
        raise ValueError(f"Unknown dtype {dtype!r}. Known: {', '.join([*FLOAT_FORMATS, *INTEGER_DTYPES])}.")
    if layout == "row" or not applies(layout, array.shape):
        made = _from_bits(array, dtype)
    elif layout == "transposed":
        made = mx.swapaxes(_from_bits(np.swapaxes(array, -1, -2), dtype), -1, -2)
    elif layout == "strided":
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), _poison(dtype), dtype=array.dtype)
        wide[..., ::2] = array
        made = _from_bits(wide, dtype)[..., ::2]
    elif layout == "sliced":
        padded = np.full([n + 2 for n in array.shape], _poison(dtype), dtype=array.dtype)
        inside = tuple(slice(1, n + 1) for n in array.shape)
        padded[inside] = array
        made = _from_bits(padded, dtype)[inside]
    else:
        if not np.array_equal(array, repeat_first(array), equal_nan=array.dtype.kind == "f"):
            raise ValueError(
                "A broadcast layout needs equal entries along axis 0; use SampleInput.laid_out('broadcast')."
            )
        made = mx.broadcast_to(_from_bits(array[:1], dtype), array.shape)
    mx.eval(made)
    return made
