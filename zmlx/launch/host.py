"""The CPU launcher: translate, compile with the host's C++ compiler, run on all cores.

Ways to run, chosen for each launch:

=====================================  =====================================================
the kernel                             how its threads run
=====================================  =====================================================
neither barrier nor simd operation     a plain loop over threads, which the compiler vectorises
threadgroups of one thread             the same; barriers and simd operations do nothing
barriers or simd operations            loops over threads from one to the next (regions.py)
the same, in a form not taken apart    one fiber a thread (``runtime/host_group.h``)
=====================================  =====================================================
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from zmlx.launch import compiler
from zmlx.launch.errors import KernelCompileError, KernelRuntimeError
from zmlx.launch.records import Triple, launched_group
from zmlx.launch.signature import Signature
from zmlx.launch.statements import Unclear
from zmlx.launch.translate import cpp_function, cpp_group_function, translate

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.launch.kernel import Call

#: How many threads to use; all processors that this process may run on otherwise.
THREADS_VARIABLE = "ZMLX_NUM_THREADS"

MSG_NO_GRADIENT = (
    "[metal_kernel] {name!r} has no gradient. Wrap the call in mx.custom_function and give it a vjp, as for any "
    "custom kernel."
)

#: Set to anything: kernels whose threads meet run as fibers, also where loops over the threads would do.
FIBERS_VARIABLE = "ZMLX_FIBERS"

#: Threads along x up to which kernels are compiled to vectorise: ``zmlx::MAX_POSITION`` of ``runtime/host.h``.
_ORDINARY_GRID = 1 << 30

#: What ended a launch (``zmlx::Error``), as the rest of "Kernel … ".
_FAILURES = {
    1: "declares {bytes} bytes of threadgroup memory; Metal has 32768 bytes a threadgroup.",
    2: "divided an integer by zero, which Metal leaves undefined. Guard the division.",
    3: "read or wrote memory outside of its arrays. Check its indices against the arrays' sizes, also for the threads "
    "at the edge of the grid.",
    4: "overflowed its stack: it recurses, or its local arrays are too large for any GPU.",
}

#: Attributes that tell threads of one row of the grid apart only by their position in the grid.
_FLAT_ATTRIBUTES = frozenset(
    {"thread_position_in_grid", "threads_per_grid", "grid_size", "grid_origin", "threads_per_simdgroup"}
    | {"dispatch_threads_per_threadgroup", "thread_execution_width", "threadgroups_per_grid"}
)


class _Extent(ctypes.Structure):
    _fields_ = (("x", ctypes.c_uint32), ("y", ctypes.c_uint32), ("z", ctypes.c_uint32))


class _Launch(ctypes.Structure):
    """``zmlx::Launch`` of ``runtime/host_launch.h``."""

    _fields_ = (
        ("buffers", ctypes.c_void_p),
        ("grid", _Extent),
        ("group", _Extent),
        ("groups", _Extent),
        ("error", ctypes.c_uint32),
        ("group_memory", ctypes.c_uint32),
    )


class _Buffer(ctypes.Structure):
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
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int)
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_Buffer),)


@dataclass(frozen=True)
class Program:
    """A compiled kernel. ``path`` is ``"loop"``, ``"regions"`` or ``"fibers"``."""

    library: ctypes.CDLL
    entry: int
    path: str


def launch(signature: Signature, call: Call) -> tuple[list[mx.array], str]:
    """Run one call whose inputs are evaluated; returns its outputs and the way it ran."""
    group = launched_group(call.grid, call.threadgroup)
    program = load(signature, _threads(group) == 1, call.grid[0] > _ORDINARY_GRID)
    contiguous = signature.kernel.ensure_row_contiguous
    outputs = _allocate(call)
    held: list[_Buffer] = []
    try:
        inputs = [_view(x, contiguous, held) for x in call.inputs]
        memory = [_view(x, False, held) for x in outputs]
        if _threads(call.grid):
            _run(program, signature, call.grid, group, inputs, memory)
    finally:
        for buffer in held:
            _release_buffer(buffer)
    return _guarded(signature.kernel.name, call.inputs, outputs), program.path


def load(signature: Signature, single: bool, large: bool = False) -> Program:
    """The compiled program for a signature.

    ``single``: every threadgroup has one thread. ``large``: positions along x may go beyond `_ORDINARY_GRID`.
    """
    return _load(signature, single and translate(signature.kernel, "host").uses_sync, large)


@cache
def _load(signature: Signature, single: bool, large: bool) -> Program:
    defines = (*(["-DZMLX_SINGLE_THREAD"] if single else []), *(["-DZMLX_LARGE_GRID"] if large else []))
    if single or not translate(signature.kernel, "host").uses_sync:
        return _compiled(signature, host_text(signature, single), "loop", defines)
    if not os.environ.get(FIBERS_VARIABLE):
        # What is wrong with the author's text, the compiler says of the text below, line by line.
        with contextlib.suppress(Unclear, KernelCompileError):
            return _compiled(signature, region_text(signature), "regions", defines)
    return _compiled(signature, host_text(signature, single), "fibers", defines)


def forget_programs() -> None:
    """Look again at how to run each kernel, as after a change of ``$ZMLX_FIBERS``."""
    _load.cache_clear()


def _compiled(signature: Signature, text: str, path: str, defines: tuple[str, ...]) -> Program:
    library = ctypes.CDLL(str(compiler.compile_host(signature.kernel, text, defines)))
    entry = ctypes.cast(library.zmlx_entry, ctypes.c_void_p).value
    assert entry is not None
    return Program(library, entry, path)


#: As for Metal's vectors in ``runtime/msl_vector.h``: MLX's CPU arrays begin 8 bytes past a multiple of 16.
_CAP_ALIGNMENT = "#define alignas(bytes) alignas((bytes) < 8 ? (bytes) : 8)\n"


def host_text(signature: Signature, single: bool, checked: bool = False) -> str:
    """The translation unit for a signature: the kernel as a C++ function and the entry that runs it.

    ``checked``: all threads are fibers, and whole threadgroups meet, whatever the kernel uses.
    """
    kernel = signature.kernel
    translation = translate(kernel, "host")
    if checked:
        run = "run_fibers<true>"
    elif translation.uses_sync and not single:
        run = f"run_fibers<{_flag(translation.uses_barrier)}>"
    else:
        run = f"run_loop<{_flag(all(name in _FLAT_ATTRIBUTES for name, _ in kernel.attributes))}>"
    function = cpp_function(signature, "host", "zmlx_kernel_function", "zmlx::Group& zmlx_group")
    attributes = [f"thread.{name}()" for name, _ in kernel.attributes]
    return _entry(signature, function, run, "zmlx::Group& group, const zmlx::Thread& thread", attributes)


def region_text(signature: Signature) -> str:
    """The translation unit for a signature whose threads meet, as loops over the threads between meetings.

    Raises
    ------
    Unclear
        The kernel cannot be taken apart.
    """
    function = cpp_group_function(signature, "zmlx_kernel_function", "zmlx::Region& zmlx_group")
    run = f"run_regions<{_flag(translate(signature.kernel, 'host').uses_barrier)}>"
    return _entry(signature, function, run, "zmlx::Region& group", [])


def _entry(signature: Signature, function: str, run: str, parameters: str, attributes: list[str]) -> str:
    """A kernel's function and the entry that runs it for some threadgroups of a launch."""
    unpack, arguments = _unpack(signature)
    arguments = ["group", *arguments, *attributes]
    return (
        f"{_CAP_ALIGNMENT}{function}"
        '#line 1 "zmlx entry"\n'
        "using namespace metal;\n"
        'extern "C" __attribute__((visibility("default"))) void zmlx_entry(\n'
        "    zmlx::Launch* launch, zmlx::Worker* worker, uint64_t begin, uint64_t end) {\n"
        f"{unpack}"
        f"  zmlx::{run}(launch, worker, begin, end, [=]({parameters}) {{\n"
        f"    metal::zmlx_kernel::zmlx_kernel_function{signature.template_arguments}({', '.join(arguments)});\n"
        "  });\n"
        "}\n"
    )


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _unpack(signature: Signature) -> tuple[str, list[str]]:
    """Statements that read the launch's buffers into locals, and the kernel's arguments made of them.

    Scalars and shapes are copied to locals: through a pointer, every store to an output would make the compiler
    read them again.
    """
    lines, arguments = [], []
    for index, parameter in enumerate(signature.parameters):
        source = f"launch->buffers[{index}]"
        local = f"zmlx_{index}"
        kind = parameter.type.metal
        if parameter.role == "output":
            kind = f"atomic<{kind}>" if parameter.atomic else kind
            lines.append(f"  auto* {local} = static_cast<{kind}*>({source});")
        elif parameter.role == "input" and parameter.type.ndim:
            lines.append(f"  auto* {local} = static_cast<const {kind}*>({source});")
        elif parameter.role in ("shape", "strides"):
            kind = "int" if parameter.role == "shape" else "int64_t"
            count = parameter.type.ndim
            lines.append(
                f"  struct {{ {kind} at[{count}]; }} {local}; "
                f"for (int i = 0; i < {count}; ++i) {local}.at[i] = static_cast<const {kind}*>({source})[i];"
            )
            local += ".at"
        else:
            kind = "int" if parameter.role == "ndim" else kind
            lines.append(f"  const {kind} {local} = *static_cast<const {kind}*>({source});")
        arguments.append(local)
    return "".join(line + "\n" for line in lines), arguments


class _View(NamedTuple):
    """An evaluated array's memory. ``strides`` count elements."""

    address: int | None
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _view(array: mx.array, contiguous: bool, held: list[_Buffer]) -> _View:
    """The memory of ``array``, or of a row-contiguous copy of it; valid until what goes to ``held`` is released."""
    buffer = _Buffer()
    _get_buffer(array, buffer, _STRIDED)
    held.append(buffer)
    shape = array.shape
    itemsize = buffer.itemsize
    strides = tuple([stride // itemsize for stride in buffer.strides[: len(shape)]])
    if contiguous and not _is_row_contiguous(shape, strides):
        import mlx.core as mx

        copy = mx.contiguous(array, stream=mx.cpu)
        mx.eval(copy)
        return _view(copy, False, held)
    return _View(buffer.buf, shape, strides)


def _is_row_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent == 0:
            return True
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True


def _run(
    program: Program,
    signature: Signature,
    grid: Triple,
    group: Triple,
    inputs: list[_View],
    outputs: list[_View],
) -> None:
    groups = tuple(-(-threads // size) for threads, size in zip(grid, group, strict=True))
    arguments = [
        _argument(p.role, (outputs if p.role == "output" else inputs)[p.array]) for p in signature.parameters
    ]
    addresses = [a if isinstance(a, int) or a is None else ctypes.addressof(a) for a in arguments]
    buffers = (ctypes.c_void_p * len(addresses))(*addresses)
    launch = _Launch(ctypes.addressof(buffers), _Extent(*grid), _Extent(*group), _Extent(*groups), 0, 0)
    failed = _runtime().zmlx_run(program.entry, ctypes.byref(launch), program.path != "loop", num_threads())
    if failed:
        raise MemoryError(
            f"[metal_kernel] No memory for the threads of {signature.kernel.name!r} on the CPU."
        )
    if launch.error:
        what = _FAILURES[launch.error].format(bytes=launch.group_memory)
        raise KernelRuntimeError(f"[metal_kernel] Kernel {signature.kernel.name!r} {what}")


def _argument(role: str, view: _View) -> Any:
    """What a parameter points to: an address, or a ctypes value that holds it."""
    match role:
        case "ndim":
            return ctypes.c_int(len(view.shape))
        case "shape":
            return (ctypes.c_int * len(view.shape))(*view.shape)
        case "strides":
            return (ctypes.c_int64 * len(view.strides))(*view.strides)
    return view.address


#: Up to this many elements, copying an array from NumPy beats waking MLX's evaluation thread.
_SMALL = 1 << 14


def _allocate(call: Call) -> list[mx.array]:
    """The outputs: evaluated arrays of their own memory, which the kernel then writes in place."""
    import mlx.core as mx
    import numpy as np

    outputs = []
    for shape, dtype in zip(call.output_shapes, call.output_dtypes, strict=True):
        if call.init_value is not None:
            # Given a float, mx.full makes floats, whatever dtype it is given too.
            value = mx.array(call.init_value).astype(dtype, stream=mx.cpu)
            outputs.append(mx.full(shape, value, stream=mx.cpu))
        elif math.prod(shape) <= _SMALL:
            outputs.append(mx.array(np.zeros(shape, np.uint8), dtype=dtype))
        else:
            outputs.append(mx.zeros(shape, dtype, stream=mx.cpu))
    mx.eval(outputs)
    return outputs


def _threads(extent: Triple) -> int:
    return extent[0] * extent[1] * extent[2]


@lru_cache
def _runtime() -> ctypes.CDLL:
    library = ctypes.CDLL(str(compiler.runtime_library()))
    library.zmlx_run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint)
    library.zmlx_run.restype = ctypes.c_int
    return library


@lru_cache
def num_threads() -> int:
    """Worker threads of a launch: ``$ZMLX_NUM_THREADS``, else the processors this process may use."""
    named = os.environ.get(THREADS_VARIABLE, "")
    if named:
        if not named.isdecimal() or int(named) == 0:
            raise ValueError(f"{THREADS_VARIABLE}={named!r}: expected a number of threads, 1 or more.")
        return int(named)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _guarded(name: str, inputs: list[mx.array], outputs: list[mx.array]) -> list[mx.array]:
    """Outputs that know where they came from: an eager result is a constant to mx.grad, which would then return
    zeros without a word. This way asking for the gradient is the error that it is on a GPU."""
    return list(_guard(name, len(outputs))(*inputs, *outputs)) if inputs else outputs


@cache
def _guard(name: str, count: int) -> Any:
    import mlx.core as mx

    @mx.custom_function
    def result(*arrays: mx.array) -> list[mx.array]:
        return list(arrays[-count:])

    @result.vjp
    def no_vjp(*_: Any) -> Any:
        raise ValueError(MSG_NO_GRADIENT.format(name=name))

    return result
