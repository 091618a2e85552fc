"""The arguments of one launch: checked once, then the same for every launcher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from zmlx.launch.arguments import checked_extent, checked_shape
from zmlx.launch.lazy import mlx
from zmlx.launch.records import Triple
from zmlx.metal.signature import METAL_TYPES, KernelSource, TemplateValue

if TYPE_CHECKING:
    import mlx.core as mx

MAX_THREADS_PER_THREADGROUP = 1024


class Call(NamedTuple):
    """The arguments of one launch, checked. Arrays and dtypes are MLX's.

    ``contents`` are what the first outputs hold at the start, one-dimensional and evaluated, where a launch changes
    arrays instead of making them (library.py); outputs behind those are new.
    """

    inputs: list[mx.array]
    output_shapes: list[tuple[int, ...]]
    output_dtypes: list[mx.Dtype]
    grid: Triple
    threadgroup: Triple
    template: list[tuple[str, Any]]
    init_value: float | None
    stream: Any
    contents: tuple[mx.array, ...] = ()

    @property
    def read(self) -> list[mx.array]:
        """All arrays that the kernel may read."""
        return [*self.inputs, *self.contents] if self.contents else self.inputs


def dtype_name(dtype: mx.Dtype) -> str:
    """``"float32"`` for ``mx.float32``."""
    return str(dtype).rpartition(".")[2]


def evaluate(arrays: list[mx.array]) -> bool:
    """Evaluate the arrays; false if they are being traced and have no values."""
    try:
        mlx().eval(arrays)
    except (ValueError, RuntimeError) as error:
        if "during function transformations" in str(error):
            return False
        raise
    return True


def wrong_sizes(source: KernelSource, *given: Sequence[Any]) -> str:
    """The message for the first of inputs, output shapes and output dtypes that are not one for each name."""
    names = (source.input_names, source.output_names, source.output_names)
    wanted = list(map(len, names))
    whats = ("inputs", "output_shapes", "output_dtypes")
    return next(
        f"[metal_kernel] Expected `{what}` to have size {want} but got size {len(got)}."
        for what, got, want in zip(whats, given, wanted, strict=True)
        if len(got) != want
    )


#: Grids and threadgroups found good before. There may be as many as there are shapes: when full, it starts anew.
_known_extents: dict[tuple[Any, Any], tuple[Triple, Triple]] = {}
_MAX_KNOWN_EXTENTS = 4096


def extents(grid: Sequence[int], threadgroup: Sequence[int]) -> tuple[Triple, Triple]:
    """The grid and the threadgroup, checked."""
    key = (grid, threadgroup)
    try:
        known = _known_extents.get(key)
    except TypeError:  # lists
        known = None
    if known is not None:
        return known
    found = checked_extent("grid", grid), _check_group(checked_extent("threadgroup", threadgroup))
    # Plain integers only: an mx.array as an extent may be equal to itself and have another value the next time.
    if all(type(extent) is tuple and {*map(type, extent)} == {int} for extent in key):
        if len(_known_extents) >= _MAX_KNOWN_EXTENTS:
            _known_extents.clear()
        _known_extents[key] = found
    return found


#: Shapes found good before, likewise.
_known_shapes: set[tuple[int, ...]] = set()


def checked_shapes(shapes: Sequence[Any]) -> list[tuple[int, ...]]:
    """The shapes of outputs, checked."""
    found = []
    for index, shape in enumerate(shapes):
        try:
            known = shape in _known_shapes
        except TypeError:  # a list
            known = False
        # True and 1.0 are equal to 1, and found where that is.
        if not known or type(shape) is not tuple or {*map(type, shape)} - {int}:
            shape = checked_shape(index, shape)
            if len(_known_shapes) >= _MAX_KNOWN_EXTENTS:
                _known_shapes.clear()
            _known_shapes.add(shape)
        found.append(shape)
    return found


def _check_group(group: Triple) -> Triple:
    threads = group[0] * group[1] * group[2]
    if threads > MAX_THREADS_PER_THREADGROUP:
        raise ValueError(
            f"[metal_kernel] Thread group size ({threads}) is greater than the maximum allowed threads per "
            f"threadgroup ({MAX_THREADS_PER_THREADGROUP})."
        )
    if threads == 0:
        raise ValueError(
            f"[metal_kernel] Expected `threadgroup` to have at least one thread but got {group}."
        )
    return group


def template_value(value: Any) -> TemplateValue:
    import mlx.core as mx

    if isinstance(value, mx.Dtype):
        return METAL_TYPES[dtype_name(value)]
    if isinstance(value, bool) or (isinstance(value, int) and -(2**31) <= value < 2**31):
        return value
    raise ValueError("[metal_kernel] Invalid template argument. Must be `mlx.core.Dtype`, `int` or `bool`.")
