"""SampleInput: one call of an operation, in any dtype and memory layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zmlx.testing._formats import is_float, round_to
from zmlx.testing.layouts import LAYOUTS, Layout, applies, check_layout, repeat_first, to_mlx_array

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class SampleInput:
    """One call of an operation.

    Parameters
    ----------
    name : str
        Unique within the OpInfo; seeds the values and names the case.
    args : tuple
        Positional arguments: NumPy arrays and Python scalars. Float arrays are float64 or float32 masters
        that `cast` rounds to the dtype under test; integer arrays stay what they are.
    kwargs : mapping
        Keyword arguments, passed as they are.
    layout : str
        How the arrays lie in memory (`zmlx.testing.layouts`).
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    layout: Layout = "row"

    def __post_init__(self) -> None:
        check_layout(self.layout)
        if not self.name or "/" in self.name or any(c.isspace() for c in self.name):
            raise ValueError(f"A sample's name must be one word without a slash, got {self.name!r}.")

    def cast(self, dtype: str) -> SampleInput:
        """This sample with its float arrays rounded to `dtype`, held as float64: what the oracle must see.

        Integer dtypes leave the sample unchanged.
        """
        if not is_float(dtype):
            return self
        return replace(
            self,
            args=tuple(round_to(a, dtype) if _is_float_array(a) else a for a in self.args),
        )

    def laid_out(self, layout: Layout) -> SampleInput:
        """This sample in another layout. "broadcast" repeats each array's first entry along axis 0, since
        equal entries are all that such an array can hold."""
        args = self.args
        if layout == "broadcast":
            args = tuple(
                repeat_first(a) if isinstance(a, np.ndarray) and applies(layout, a.shape) else a for a in args
            )
        return replace(self, args=args, layout=layout)

    def layouts(self) -> tuple[Layout, ...]:
        """The layouts in which at least one argument differs from row-contiguous, "row" first."""
        arrays = [a for a in self.args if isinstance(a, np.ndarray)]
        return tuple(
            layout for layout in LAYOUTS if layout == "row" or any(applies(layout, a.shape) for a in arrays)
        )


def _is_float_array(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def to_mx(sample: SampleInput, dtype: str, layout: Layout | None = None) -> tuple[Any, ...]:
    """The positional arguments of `sample` for MLX: evaluated arrays in `dtype` and `layout`.

    Parameters
    ----------
    sample : SampleInput
        Float arrays are rounded to `dtype` (again, if `cast` has done it: that changes nothing).
    dtype : str
        Dtype of the float arrays; integer arrays keep their own.
    layout : str, optional
        Instead of the sample's own. For "broadcast" take ``sample.laid_out("broadcast")``, whose values fit.

    Returns
    -------
    tuple
        `mlx.core.array` for each NumPy array, other values as they are.
    """
    rounded = sample.cast(dtype)
    layout = layout or sample.layout

    def convert(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        if _is_float_array(value):
            return to_mlx_array(value, dtype, layout)
        return to_mlx_array(value, value.dtype.name, layout)

    return tuple(convert(a) for a in rounded.args)
