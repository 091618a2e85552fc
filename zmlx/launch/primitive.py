"""Launches on the CPU as operations of MLX's graph, for where a transformation traces the call, or follows its inputs.

The launch runs when MLX evaluates it, as often as it does, on the thread of its stream. mx.vmap makes one operation of
all its launches; a gradient or a tangent is the reference's, and an error without one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from zmlx.launch import failures, gradient, primitive_library
from zmlx.launch.host_call import BAD_TIME_LIMIT, NO_MEMORY, Plan, runtime
from zmlx.launch.lazy import mlx
from zmlx.launch.reference import Reference, outputs_of

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.launch.call import Call
    from zmlx.launch.records import Triple
    from zmlx.metal.signature import KernelSource

#: How launch records call it.
PATH = "lazy"

_MESSAGES = 24  # of call.h
_Extent = ctypes.c_uint32 * 3
_Derive = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)


class _Arguments(ctypes.Structure):
    """``zmlx::CallArguments``"""

    _fields_ = (
        ("plan", ctypes.c_void_p),
        ("launcher", ctypes.c_void_p),
        ("derive", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("messages", ctypes.POINTER(ctypes.c_char_p)),
        ("outside", ctypes.POINTER(ctypes.c_char_p)),
        ("shapes", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("ranks", ctypes.POINTER(ctypes.c_uint32)),
        ("no_gradient", ctypes.c_char_p),
        ("no_tangent", ctypes.c_char_p),
        ("token", ctypes.c_uint64),
        ("grid", _Extent),
        ("group", _Extent),
        ("threads", ctypes.c_uint32),
        ("contiguous", ctypes.c_uint32),
        ("filled", ctypes.c_uint32),
    )


def unavailable() -> str:
    """Why launches cannot be part of a graph here; empty if they can."""
    return primitive_library.found()[1]


def joins(arrays: list[mx.array]) -> bool:
    """Whether a launch with these inputs belongs into MLX's graph, since a transformation follows one of them; false
    before the library is loaded."""
    return bool(primitive_library.followed(arrays))


def launch(
    plan: Plan, kernel: KernelSource, call: Call, group: Triple, threads: int, reference: Reference | None
) -> list[mx.array]:
    """The outputs of a call, to be computed when they are evaluated.

    Raises
    ------
    zmlx.launch.primitive_library.Unavailable
        There is no library; `unavailable` says why.
    """
    library = _library()
    made = _made(plan, kernel, call, group, threads, reference)
    mx = mlx()
    outputs = [mx.array(0) for _ in call.output_shapes]
    kind, stream = _stream(call.stream)
    _check(library, library.zmlx_call_lazily(made.handle, call.inputs, outputs, kind, stream))
    return outputs


def _library() -> ctypes.PyDLL:
    library, reason = primitive_library.found()
    if library is None:
        raise primitive_library.Unavailable(reason)
    return library


def _check(library: ctypes.PyDLL, failed: int) -> None:
    if failed:
        raise ValueError(library.zmlx_failure().decode(errors="replace"))


def _stream(stream: Any) -> tuple[int, Any]:
    """A stream as ``zmlx::StreamKind`` has it."""
    mx = mlx()
    if isinstance(stream, mx.Stream):
        return 1, stream
    if isinstance(stream, mx.ThreadLocalStream):
        return 2, stream
    return 0, None


class _Made:
    """A call that the library knows. What MLX's graphs still hold of it outlives this."""

    def __init__(self, library: ctypes.PyDLL, handle: int) -> None:
        self.handle, self._free = handle, library.zmlx_call_free

    def __del__(self) -> None:
        self._free(self.handle)


#: By all that `_make` reads. There may be as many as there are shapes: when full, it starts anew.
_known: dict[Any, _Made] = {}
_MAX_KNOWN = 4096


def _made(
    plan: Plan, kernel: KernelSource, call: Call, group: Triple, threads: int, reference: Reference | None
) -> _Made:
    shapes, dtypes = tuple(call.output_shapes), tuple(call.output_dtypes)
    template = tuple(call.template) if reference is not None else ()
    # The text tells -0.0 from 0.0, and NaN is like NaN.
    key = (plan, call.grid, group, shapes, dtypes, repr(call.init_value), threads, reference, template)
    made = _known.get(key)
    if made is None:
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        made = _known[key] = _make(plan, kernel, call, group, threads, reference)
    return made


def _make(
    plan: Plan, kernel: KernelSource, call: Call, group: Triple, threads: int, reference: Reference | None
) -> _Made:
    mx, library = mlx(), _library()
    texts = {
        **failures.failure_texts(kernel),
        NO_MEMORY: failures.no_memory_text(kernel),
        BAD_TIME_LIMIT: f"[metal_kernel] Kernel {kernel.name!r}: {failures.BAD_TIME_LIMIT_TEXT}",
    }
    messages = (ctypes.c_char_p * _MESSAGES)(*[texts.get(i, "").encode() for i in range(_MESSAGES)])
    outside = [
        failures.outside_text(kernel, i, dtype, shape, before).encode()
        for i, (shape, dtype) in enumerate(zip(call.output_shapes, call.output_dtypes, strict=True))
        for before in (False, True)
    ]
    shapes = [(ctypes.c_int32 * len(shape))(*shape) for shape in call.output_shapes]
    pointers = [ctypes.cast(shape, ctypes.POINTER(ctypes.c_int32)) for shape in shapes]
    value = 0 if call.init_value is None else call.init_value
    samples = [mx.array(value).astype(dtype, stream=mx.cpu) for dtype in call.output_dtypes]
    mx.eval(samples)
    arguments = _Arguments(
        plan.address,
        ctypes.cast(runtime().zmlx_launch_buffers, ctypes.c_void_p).value,
        ctypes.cast(_derive(), ctypes.c_void_p).value if reference is not None else None,
        kernel.name.encode(),
        messages,
        (ctypes.c_char_p * len(outside))(*outside),
        (ctypes.POINTER(ctypes.c_int32) * len(shapes))(*pointers),
        (ctypes.c_uint32 * len(shapes))(*map(len, shapes)),
        gradient.MSG_NO_GRADIENT.format(name=kernel.name).encode(),
        gradient.MSG_NO_TANGENT.format(name=kernel.name).encode(),
        _derivable(reference, kernel, call) if reference is not None else 0,
        _Extent(*call.grid),
        _Extent(*group),
        threads,
        kernel.ensure_row_contiguous,
        call.init_value is not None,
    )
    handle = ctypes.c_void_p()
    _check(library, library.zmlx_call_new(ctypes.addressof(arguments), samples, ctypes.byref(handle)))
    assert handle.value is not None
    return _Made(library, handle.value)


#: Computes a call's outputs from other inputs. (MLX's arrays, whose type is not there when this runs.)
_Function = Callable[[list[Any]], list[Any]]

#: References that graphs may ask for by number. Kept like compiled kernels: nobody says when the last graph is gone.
_references: list[_Function] = []


def _derivable(reference: Reference, kernel: KernelSource, call: Call) -> int:
    # Without the inputs, which would be kept too.
    plain = call._replace(inputs=[])
    _references.append(lambda inputs: outputs_of(reference, kernel, plain._replace(inputs=inputs)))
    return len(_references) - 1


class _Derivation:
    """``zmlx::Derivation``: primals, tangents or cotangents, and the numbers of the inputs that have them."""

    def __init__(self, library: ctypes.PyDLL, address: int) -> None:
        self._library, self._address = library, address
        self.primals, self.directions = self._arrays(0), self._arrays(1)
        self.argnums, self.batch = self._numbers(2), self._numbers(3)
        self.is_vjp = bool(library.zmlx_derivation_count(address, 4))

    def _count(self, what: int) -> range:
        return range(self._library.zmlx_derivation_count(self._address, what))

    def _arrays(self, what: int) -> list[mx.array]:
        found = [mlx().array(0) for _ in self._count(what)]
        for i, array in enumerate(found):
            self._library.zmlx_derivation_get(self._address, what, i, array)
        return found

    def _numbers(self, what: int) -> list[int]:
        return [self._library.zmlx_derivation_number(self._address, what, i) for i in self._count(what)]

    def results(self, function: _Function) -> list[mx.array]:
        core = mlx()

        def outputs(*some: mx.array) -> list[mx.array]:
            inputs = list(self.primals)
            for number, value in zip(self.argnums, some, strict=True):
                inputs[number] = value
            depth = len(self.batch)
            mapped: Any = lambda *values: function(list(values))  # noqa: E731  (one for each mapped axis below)
            for _ in range(depth):
                mapped = core.vmap(mapped)
            return list(mapped(*[core.broadcast_to(x, (*self.batch, *x.shape[depth:])) for x in inputs]))

        transform = core.vjp if self.is_vjp else core.jvp
        return list(transform(outputs, [self.primals[i] for i in self.argnums], self.directions)[1])


@cache
def _derive() -> Any:
    library = _library()

    def derive(address: int, token: int) -> None:
        # An exception must not leave a function that C++ calls: it raises this text.
        try:
            results = _Derivation(library, address).results(_references[token])
        except Exception as error:  # noqa: BLE001
            library.zmlx_derivation_fail(address, f"{error}".encode() or b"The reference failed.")
            return
        for result in results:
            library.zmlx_derivation_put(address, result)

    return _Derive(derive)
