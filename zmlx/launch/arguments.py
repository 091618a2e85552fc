"""What is wrong with the arguments of a call or of a kernel, as an error that says what was expected and what came.

Good calls never come here, but for values that are new (shapes, grids, dtypes): launches are to be quick.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zmlx.errors import ArgumentTypeError
from zmlx.launch.lazy import mlx
from zmlx.metal.signature import MAX_BUFFERS, METAL_TYPES, KernelSource, Signature

if TYPE_CHECKING:
    import mlx.core as mx

_MAX_EXTENT = 2**31 - 1  # MLX's own
_KNOWN_DTYPES = ", ".join(METAL_TYPES)


def expected(what: str, wanted: str, got: Any, hint: str = "") -> str:
    """``[metal_kernel] Expected `what` to be … but got …. hint``"""
    return (
        f"[metal_kernel] Expected `{what}` to be {wanted} but got {shown(got)}.{' ' + hint if hint else ''}"
    )


def shown(value: Any) -> str:
    """A value as a message shows it: arrays by dtype and shape, what is long cut short."""
    if isinstance(value, mlx().array):
        return f"an mx.array of {_dtype_text(value.dtype)}, shape {tuple(value.shape)}"
    text = repr(value)
    text = text if len(text) <= 80 else text[:77] + "..."
    return (
        text
        if isinstance(value, str | int | float | list | tuple | dict | type(None))
        else (f"{text} ({type(value).__name__})")
    )


def _dtype_text(dtype: mx.Dtype) -> str:
    return str(dtype).rpartition(".")[2]


def is_list(value: Any) -> bool:
    """Whether a value can stand for a list of things. A string, an array and a dict cannot."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview)


def check_lists(source: KernelSource, inputs: Any, output_shapes: Any, output_dtypes: Any) -> None:
    """Refuse what is no list where a call needs one."""
    for what, names, value, example in (
        ("inputs", source.input_names, inputs, "arrays or Python scalars"),
        ("output_shapes", source.output_names, output_shapes, "shapes"),
        ("output_dtypes", source.output_names, output_dtypes, "dtypes"),
    ):
        if not is_list(value):
            raise ArgumentTypeError(
                expected(
                    what, f"a list of {example}, one for each of {', '.join(names) or 'no names'},", value
                )
            )


def as_array(source: KernelSource, index: int, value: Any) -> mx.array:
    """An input that is no array yet, as one."""
    try:
        made: mx.array = mlx().array(value)
        return made
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        name = source.input_names[index]
        raise ArgumentTypeError(
            expected(f"inputs[{index}]", f"an mx.array or a Python scalar, for {name!r},", value)
        ) from error


def checked_shape(index: int, shape: Any) -> tuple[int, ...]:
    """The shape of an output, of integers that are not negative."""
    what = f"output_shapes[{index}]"
    if isinstance(shape, str | bytes | Mapping) or not hasattr(shape, "__iter__"):
        hint = f"Write ({shape},)." if isinstance(shape, int) else ""
        raise ArgumentTypeError(expected(what, "a shape, a tuple of integers,", shape, hint))
    try:
        found = tuple(map(operator.index, shape))
    except TypeError as error:
        raise ArgumentTypeError(expected(what, "a shape, a tuple of integers,", shape)) from error
    if any(not 0 <= extent <= _MAX_EXTENT for extent in found):
        raise ValueError(expected(what, "a shape, of integers from 0 to 2^31 - 1,", shape))
    return found


def checked_extent(what: str, value: Any) -> tuple[int, int, int]:
    """A grid or a threadgroup."""
    wanted = "three counts of threads along x, y and z"
    hint = f"Write ({value}, 1, 1)." if isinstance(value, int) and not isinstance(value, bool) else ""
    if isinstance(value, str | bytes | Mapping | set | frozenset):
        raise ArgumentTypeError(_plain(what, wanted, value))
    try:
        given = tuple(value)
        found = tuple(map(_count, given))
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentTypeError(_plain(what, wanted, value, hint)) from error
    if len(found) != 3 or min(found) < 0 or max(found) >= 2**32:
        raise ValueError(_plain(what, wanted, value))
    return found


def _plain(what: str, wanted: str, value: Any, hint: str = "") -> str:
    return f"[metal_kernel] Expected `{what}` to be {wanted} but got {value!r}.{' ' + hint if hint else ''}"


def _count(value: Any) -> int:
    if value is None or isinstance(value, str | bytes) or int(value) != value:
        raise TypeError(value)
    return int(value)


def check_dtype(what: str, name: str, dtype: Any) -> None:
    """Refuse what no kernel can have as an input's or output's dtype."""
    where = f"[metal_kernel] Expected `{what}`, for {name!r}, to be one of {_KNOWN_DTYPES}"
    if not isinstance(dtype, mlx().Dtype):
        text = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", str(dtype))
        hint = f" Write mx.{text}." if text in METAL_TYPES else ""
        raise ArgumentTypeError(f"{where} (mx.Dtype) but got {shown(dtype)}.{hint}")
    if _dtype_text(dtype) not in METAL_TYPES:
        raise ValueError(f"{where} but got {_dtype_text(dtype)}, which Metal does not have. Use mx.float32.")


def checked_template(template: Any) -> list[tuple[str, Any]]:
    """Template arguments as (name, value) pairs."""
    wanted = "a list of (name, value) pairs"
    if isinstance(template, Mapping):
        pairs = ", ".join(f"({name!r}, {value})" for name, value in template.items())
        raise ArgumentTypeError(expected("template", wanted, template, f"Write [{pairs}]."))
    if not is_list(template):
        raise ArgumentTypeError(expected("template", wanted, template, 'Write [("T", mx.float32)].'))
    for pair in template:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ArgumentTypeError(
                expected("template", wanted, template, f"{shown(pair)} is no pair of a name and a value.")
            )
    return [(name, value) for name, value in template]


def check_template_names(template: Sequence[tuple[str, Any]]) -> None:
    """Refuse template arguments that C++ cannot declare."""
    seen = set()
    for name, _ in template:
        if not name.isidentifier():
            raise ValueError(f"[metal_kernel] {name!r} in `template` is no identifier.")
        if name in seen:
            raise ValueError(f"[metal_kernel] {name!r} is in `template` twice.")
        seen.add(name)


def checked_init_value(value: Any) -> float:
    """What outputs are filled with."""
    if not isinstance(value, str | bytes):
        try:
            return value if isinstance(value, int | float) else float(value)
        except (TypeError, ValueError):
            pass
    raise ArgumentTypeError(expected("init_value", "a number or None", value))


def check_stream(stream: Any) -> None:
    """Refuse what is neither a stream nor a device."""
    mx = mlx()
    if not isinstance(stream, mx.Stream | mx.Device | mx.DeviceType) and not hasattr(stream, "device"):
        raise ArgumentTypeError(expected("stream", "a stream or a device, such as mx.cpu, or None", stream))


def check_bool(what: str, value: Any) -> None:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool):
        raise ArgumentTypeError(expected(what, "True or False", value))


def check_text(what: str, value: Any) -> None:
    """Refuse what is no text."""
    if not isinstance(value, str):
        raise ArgumentTypeError(expected(what, "Metal source, a str,", value))
    if "\0" in value:
        raise ValueError(f"[metal_kernel] `{what}` has a NUL character, which no compiler takes.")


def too_many_buffers(signature: Signature) -> str:
    """The message for a kernel that takes more buffers than a Metal function can."""
    roles = [parameter.role for parameter in signature.parameters]
    inputs, outputs = roles.count("input"), roles.count("output")
    return (
        f"[metal_kernel] {signature.kernel.name!r} takes {len(roles)} buffers ({inputs} inputs, {outputs} outputs, "
        f"{len(roles) - inputs - outputs} of shapes, strides and ranks); Metal has {MAX_BUFFERS}. Join arrays, or "
        "mention fewer of their shapes in the source."
    )
