"""What a call gives for each buffer of a Metal file's kernel: checked against its type, and as an array of MLX's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zmlx.errors import ArgumentTypeError
from zmlx.launch.arguments import is_list, shown
from zmlx.launch.call import dtype_name
from zmlx.launch.lazy import mlx, numpy
from zmlx.metal.entry_points import Argument, EntryPoint
from zmlx.metal.signature import METAL_TYPES
from zmlx.metal.type_names import NumberType

#: How long NumPy may look for elements that two arrays share.
_MOST_WORK = 10000

if TYPE_CHECKING:
    import mlx.core as mx
    import numpy as np


@dataclass(frozen=True)
class Bound:
    """A buffer and what is bound to it.

    ``array`` has one axis. ``given`` is what the caller passed; ``memory`` is that as a NumPy array, where a kernel's
    writes go to it. A buffer that is not there has no array.
    """

    argument: Argument
    given: Any
    array: mx.array | None = None
    memory: np.ndarray[Any, Any] | None = None

    @property
    def dtype(self) -> str:
        return "" if self.array is None else dtype_name(self.array.dtype)


def bind(entry: EntryPoint, numbers: Sequence[NumberType | None], given: Sequence[Any]) -> list[Bound]:
    """The buffers of a kernel with the arguments of a call. ``numbers`` are the types of the buffers' elements.

    Raises
    ------
    ValueError
        There are too many or too few arguments, or two share memory and one of them is written.
    ArgumentTypeError
        An argument is of another kind or dtype than its parameter.
    """
    last = entry.buffers[-1][0] if entry.buffers else -1
    absent = [None] * (last + 1 - len(given))
    missing = [a for index, a in entry.buffers if index >= len(given) and not _is_optional(a)]
    if len(given) > last + 1 or missing:
        raise ValueError(_wrong_count(entry, given))
    values = [*given, *absent]
    taken = {index for index, _ in entry.buffers}
    for index, value in enumerate(values):
        if index not in taken and value is not None:
            raise ArgumentTypeError(
                f"[metal_library] Expected argument {index} of {entry.name!r} to be None, since it has no "
                f"[[buffer({index})]], but got {shown(value)}."
            )
    bound = [
        _Binder(entry, index, argument, number).bind(values[index])
        for (index, argument), number in zip(entry.buffers, numbers, strict=True)
    ]
    _check_overlaps(entry, bound)
    return bound


def _as_words(data: bytes) -> np.ndarray[Any, Any]:
    """Bytes as the largest integers that they divide into: MLX counts elements, and passes few in constant memory."""
    size = next(size for size in (8, 4, 2, 1) if len(data) % size == 0)
    words: np.ndarray[Any, Any] = numpy().frombuffer(data, f"u{size}")
    return words


def _is_optional(argument: Argument) -> bool:
    return argument.attribute("function_constant") is not None


def _wrong_count(entry: EntryPoint, given: Sequence[Any]) -> str:
    listed = "; ".join(f"{index}: {argument.declaration}" for index, argument in entry.buffers)
    wanted = entry.buffers[-1][0] + 1 if entry.buffers else 0
    return (
        f"[metal_library] Expected {entry.name!r} to be called with {wanted} arguments ({listed or 'none'}) but got "
        f"{len(given)}."
    )


def _check_overlaps(entry: EntryPoint, bound: Sequence[Bound]) -> None:
    """Refuse memory that is bound twice and written: here each buffer is a copy while the kernel runs."""
    held = [(b, memory) for b in bound if (memory := _memory(b.given)) is not None]
    for index, (one, first) in enumerate(held):
        for other, second in held[index + 1 :]:
            if (one.argument.written or other.argument.written) and _share(first, second):
                raise ValueError(
                    f"[metal_library] Expected arguments of {entry.name!r} that are written to have memory of their "
                    f"own, but {one.argument.name!r} and {other.argument.name!r} share some. Pass a copy for one."
                )


def _share(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> bool:
    """Whether two arrays have an element in common; also where that is too hard to say."""
    np = numpy()
    if not np.may_share_memory(first, second):
        return False
    try:
        return bool(np.shares_memory(first, second, max_work=_MOST_WORK))
    except RuntimeError:  # its TooHardError, which NumPy 1 and 2 have in different places
        return True


def _covers_itself(memory: np.ndarray[Any, Any]) -> bool:
    """Whether several elements of an array may lie in one place, as in sliding windows."""
    reach = memory.itemsize
    for stride, extent in sorted(
        (abs(s), n) for s, n in zip(memory.strides, memory.shape, strict=True) if n != 1
    ):
        if stride < reach and extent:
            return memory.size > 0
        reach += stride * (extent - 1)
    return False


def _memory(value: Any) -> np.ndarray[Any, Any] | None:
    """A value's memory as a NumPy array, which shares it; None where it has none."""
    numeric = numpy()
    found: np.ndarray[Any, Any] | None = None
    if isinstance(value, numeric.ndarray | numeric.void):
        found = numeric.asarray(value)
    elif isinstance(value, bytes | bytearray | memoryview) or type(value).__module__ == "array":
        found = numeric.asarray(memoryview(value))
    return found


@dataclass(frozen=True)
class _Binder:
    """One buffer of a kernel. ``number`` is the type of its elements, None where that is none of numbers."""

    entry: EntryPoint
    index: int
    argument: Argument
    number: NumberType | None

    def bind(self, value: Any) -> Bound:
        argument = self.argument
        if value is None:
            if not _is_optional(argument):
                raise self._error(value)
            return Bound(argument, value)
        if isinstance(value, mlx().array):
            self._check_dtype(dtype_name(value.dtype), value)
            return self._sized(Bound(argument, value, value.reshape(-1)))
        memory = _memory(value)
        if memory is None:
            if argument.written:
                raise self._error(value)
            return self._sized(Bound(argument, value, self._from_numbers(value)))
        if argument.written and not memory.flags.writeable:
            raise ValueError(
                f"{self._expected()} that can be written, but it is read-only. Pass a copy: np.array(x)."
            )
        if argument.written and _covers_itself(memory):
            raise ValueError(
                f"{self._expected()} whose elements lie apart, since the kernel writes them, but several share memory: "
                f"shape {memory.shape}, strides {memory.strides}. Pass a copy: np.array(x)."
            )
        if self.number is None:
            flat = _as_words(memory.tobytes())
        else:
            self._check_dtype(memory.dtype.name, value)
            if not memory.dtype.isnative:
                raise ArgumentTypeError(
                    f"{self._expected()} in this machine's byte order but got dtype {memory.dtype.str!r}. Convert it: "
                    f"x.astype({self.number.dtype!r})."
                )
            flat = memory.ravel()
        return self._sized(Bound(argument, value, mlx().array(flat), memory if argument.written else None))

    def _from_numbers(self, value: Any) -> mx.array:
        """An array of a number, or of a list of them."""
        np, number = numpy(), self.number
        if number is None or not (
            is_list(value) or isinstance(value, bool | int | float | complex | np.generic)
        ):
            raise self._error(value)
        given = np.asarray(value)
        if given.dtype.kind not in ("biufc" if number.dtype == "complex64" else "biuf"):
            raise self._error(value)
        wanted = np.dtype("float32" if number.dtype == "bfloat16" else number.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            converted = given.astype(wanted)
        if wanted.kind not in "fc" and not np.array_equal(converted, given):
            raise self._error(value)
        made: mx.array = mlx().array(converted.ravel())
        return made.astype(getattr(mlx(), number.dtype)) if number.dtype == "bfloat16" else made

    def _sized(self, bound: Bound) -> Bound:
        """``bound``, if it is as many elements as a reference refers to."""
        array = bound.array
        if self.argument.form == "&" and self.number is not None and array is not None:
            count = self.number.lanes
            if array.size != count:
                raise ValueError(
                    f"{self._expected()} with {count} element{'s' * (count != 1)}, since it is a reference, but got "
                    f"{shown(bound.given)}."
                )
        return bound

    def _check_dtype(self, dtype: str, value: Any) -> None:
        if self.number is not None and dtype != self.number.dtype:
            raise self._error(value)
        if dtype not in METAL_TYPES:
            raise self._error(value)

    def _expected(self) -> str:
        kind = f"an array of {self.number.dtype}" if self.number is not None else "an array, or bytes,"
        return (
            f"[metal_library] Expected argument {self.index} of {self.entry.name!r}, "
            f"`{self.argument.declaration}`, to be {kind}"
        )

    def _is_complex(self, value: Any) -> bool:
        """Whether a value has complex numbers where the kernel has floats."""
        known = isinstance(value, mlx().array | numpy().ndarray) and str(value.dtype).endswith("complex64")
        return known and self.number is not None and self.number.dtype == "float32"

    def _error(self, value: Any) -> ArgumentTypeError:
        number, hint = self.number, ""
        wanted = self._expected()
        if number is not None and not self.argument.written:
            wanted += " or numbers that are exactly of it" if number.dtype[0] not in "bfc" else " or numbers"
        if number is None:
            hint = f" For a struct, pass a NumPy array with the layout of {self.argument.type}."
        elif self._is_complex(value):
            kind = "mx.float32" if isinstance(value, mlx().array) else "'float32'"
            hint = f" For its real and imaginary parts, one after the other, pass x.view({kind})."
        elif isinstance(value, numpy().ndarray):
            hint = (
                " NumPy has none: pass an mx.array."
                if number.dtype == "bfloat16"
                else f" Convert it: x.astype({number.dtype!r})."
            )
        elif isinstance(value, mlx().array):
            hint = f" Convert it: x.astype(mx.{number.dtype})."
        elif value is not None:
            hint = " What a kernel writes has to be an array." if self.argument.written else ""
        return ArgumentTypeError(f"{wanted} but got {shown(value)}.{hint}")
