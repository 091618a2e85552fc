"""Arrays as memory: outputs for the host to write, and what a kernel's parameters point to."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from zmlx.launch import primitive_library
from zmlx.launch.lazy import mlx, numpy

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.launch.call import Call


class Buffer(ctypes.Structure):
    """CPython's ``Py_buffer``."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("suboffsets", ctypes.POINTER(ctypes.c_ssize_t)),
        ("internal", ctypes.c_void_p),
    )


_STRIDED = 0x18  # PyBUF_STRIDES: any layout, without asking for a format
_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(Buffer), ctypes.c_int)
release = ctypes.pythonapi.PyBuffer_Release
release.argtypes = (ctypes.POINTER(Buffer),)


class View(NamedTuple):
    """An evaluated array's memory. ``strides`` count elements."""

    address: int | None
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def span(self, itemsize: int) -> tuple[int, int]:
        """Bytes in front of the first element, and bytes in all, that the elements span."""
        low = high = 0
        for extent, stride in zip(self.shape, self.strides, strict=True):
            if extent == 0:
                return 0, 0
            if stride < 0:
                low -= stride * (extent - 1)
            else:
                high += stride * (extent - 1)
        return low * itemsize, (low + high + 1) * itemsize


def view(array: mx.array, contiguous: bool, held: list[Buffer]) -> View:
    """The memory of ``array``, or of a row-contiguous copy of it; valid until what goes to ``held`` is released."""
    buffer = Buffer()
    _get_buffer(array, buffer, _STRIDED)
    held.append(buffer)
    shape = array.shape
    itemsize = buffer.itemsize
    strides = tuple([stride // itemsize for stride in buffer.strides[: len(shape)]])
    if contiguous and not _is_row_contiguous(shape, strides):
        return view(row_contiguous(array), False, held)
    return View(buffer.buf, shape, strides)


def row_contiguous(array: mx.array) -> mx.array:
    """An evaluated row-contiguous copy."""
    import mlx.core as mx

    copy = mx.contiguous(array, stream=mx.cpu)
    mx.eval(copy)
    return copy


def _is_row_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent == 0:
            return True
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True


def argument(role: str, view: View) -> Any:
    """What a parameter points to: an address, or a ctypes value that holds it."""
    match role:
        case "ndim":
            return ctypes.c_int(len(view.shape))
        case "shape":
            return (ctypes.c_int * len(view.shape))(*view.shape)
        case "strides":
            return (ctypes.c_int64 * len(view.strides))(*view.strides)
    return view.address


#: Up to this many elements, copying zeros to a new array beats waking MLX's evaluation thread.
_SMALL = 1 << 14
_ZEROS = memoryview(bytes(_SMALL))


def allocate(call: Call) -> list[mx.array]:
    """The outputs: evaluated arrays of their own memory, which the kernel then writes in place."""
    mx = mlx()
    outputs, lazy = [], bool(call.contents)
    for index, (shape, dtype) in enumerate(zip(call.output_shapes, call.output_dtypes, strict=True)):
        if index < len(call.contents):
            outputs.append(padded(call.contents[index], 0, 1, mx.cpu)[: shape[0]])
        elif call.init_value is None and (size := math.prod(shape)) <= _SMALL:
            outputs.append(mx.array(_small_zeros(shape, size), dtype))
        else:
            outputs.append(_filled(shape, dtype, call.init_value))
            lazy = True
    if lazy:
        mx.eval(outputs)
    return outputs


#: Bytes around an output that no kernel may write: ``zmlx::BAND`` of ``runtime/host/bands.h``.
BAND = 4096
#: An axis of an MLX array is shorter than this.
_MAX_EXTENT = 1 << 31
#: From so many bytes on, zeros that the kernel overwrites cost more than to look for the library that does without.
_MANY_BYTES = 1 << 20


def allocate_guarded(call: Call) -> tuple[list[mx.array], list[mx.array]]:
    """The outputs as `allocate` has them, and the rooms that they lie in, with a guard band on each side.

    Small outputs have no room, and the second list is empty: the runtime keeps bands for them. A room shares its memory
    with its output, and is not needed after the launch.
    """
    if not call.contents and call.init_value is None and max(map(math.prod, call.output_shapes)) <= _SMALL:
        return allocate(call), []
    mx = mlx()
    outputs, rooms = [], []
    for index, (shape, dtype) in enumerate(zip(call.output_shapes, call.output_dtypes, strict=True)):
        given = index < len(call.contents)
        if not given and call.init_value is None and math.prod(shape) * dtype.size >= _MANY_BYTES:
            unwritten = _unwritten(shape, dtype)
            if unwritten is not None:
                outputs.append(unwritten[0])
                rooms.append(unwritten[1])
                continue
        edge = BAND // dtype.size
        wanted = math.prod(shape) + 2 * edge
        extent = [wanted] if wanted < _MAX_EXTENT else [-(-wanted // edge), edge]
        held = call.contents[index] if given else None
        room = _filled(extent, dtype, call.init_value) if held is None else padded(held, edge, edge, mx.cpu)
        rooms.append(room)
        outputs.append(mx.as_strided(room, shape, offset=edge, stream=mx.cpu))
    mx.eval(outputs, rooms)
    return outputs, rooms


def padded(x: mx.array, front: int, back: int, stream: Any) -> mx.array:
    """A lazy copy of a one-dimensional array between zeros, at least one of them: nobody else has its memory."""
    core = mlx()
    zeros = [core.zeros((count,), x.dtype, stream=stream) for count in (front, back)]
    made: mx.array = core.concatenate([zeros[0], x, zeros[1]], stream=stream)
    return made


def _unwritten(shape: tuple[int, ...], dtype: mx.Dtype) -> tuple[mx.array, mx.array] | None:
    """An array that nobody has written to, and its room; None where the library that makes them is not to be had."""
    library, _ = primitive_library.found()
    if library is None:
        return None
    mx = mlx()
    output, room = mx.array(0, dtype), mx.array(0, dtype)
    if library.zmlx_unwritten(output, room, (ctypes.c_int32 * len(shape))(*shape), len(shape)):
        raise RuntimeError(library.zmlx_failure().decode(errors="replace"))
    return output, room


def _filled(shape: Sequence[int], dtype: mx.Dtype, value: float | None) -> mx.array:
    """A lazy array of zeros, or of ``value``."""
    core = mlx()
    filled: mx.array
    if value is None:
        filled = core.zeros(shape, dtype, stream=core.cpu)
    else:
        # Given a float, mx.full makes floats, whatever dtype it is given too.
        filled = core.full(shape, core.array(value).astype(dtype, stream=core.cpu), stream=core.cpu)
    return filled


def _small_zeros(shape: tuple[int, ...], size: int) -> Any:
    """Something to copy zeros from, which MLX reads faster than a NumPy array."""
    try:
        return _ZEROS[:size].cast("B", shape)
    except (TypeError, ValueError):  # an empty shape, or none at all: NumPy has the error message
        np = numpy()
        return np.zeros(shape, np.uint8)
