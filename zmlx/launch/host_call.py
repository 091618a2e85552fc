"""Launches on the host in one call: Python objects go in, ``runtime/host/python.h`` does the rest.

Looking up the memory of each array, and packing addresses and extents, took several times as long in Python as the
kernel and its threads do for a small grid.
"""

from __future__ import annotations

import ctypes
import signal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from zmlx.launch import compiler
from zmlx.launch.loading import loadable

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.launch.records import Triple
    from zmlx.metal.signature import Signature

#: How a launch ends (``zmlx::Outcome``), besides 0 and what ``zmlx::Error`` has. In brackets: what its detail says.
NO_MEMORY = 16
NOT_CONTIGUOUS = 17  # (the number of the input) nothing has run
OUTSIDE = 19  # (which output and how far, see `Outside`) memory around an output was written
BAD_TIME_LIMIT = 20  # nothing has run
INTERRUPTED = 6  # zmlx::Error
TOO_LONG = 7  # zmlx::Error

#: ``zmlx::Role``
_ROLES = {"input": 0, "shape": 1, "strides": 2, "ndim": 3, "output": 4}


class _Python(ctypes.Structure):
    """``zmlx::Python``: functions of CPython's."""

    _fields_ = (
        ("get_buffer", ctypes.c_void_p),
        ("release_buffer", ctypes.c_void_p),
        ("list_item", ctypes.c_void_p),
        ("release_lock", ctypes.c_void_p),
        ("take_lock", ctypes.c_void_p),
        ("list_size", ctypes.c_void_p),
        ("interrupts", ctypes.CFUNCTYPE(ctypes.c_int)),
    )


class _Parameter(ctypes.Structure):
    """``zmlx::Parameter``"""

    _fields_ = (("role", ctypes.c_uint32), ("array", ctypes.c_uint32))


class _Plan(ctypes.Structure):
    """``zmlx::Plan``"""

    _fields_ = (
        ("python", ctypes.POINTER(_Python)),
        ("entry", ctypes.c_void_p),
        ("parameters", ctypes.POINTER(_Parameter)),
        ("parameter_count", ctypes.c_uint32),
        ("inputs", ctypes.c_uint32),
        ("outputs", ctypes.c_uint32),
        ("fibers", ctypes.c_uint32),
    )


class Outside(NamedTuple):
    """Where a kernel wrote outside of an output, from the detail of `OUTSIDE`."""

    output: int
    before: bool
    distance: int

    @classmethod
    def of(cls, detail: int) -> Outside:
        return cls(detail >> 17, bool(detail >> 16 & 1), detail & 0xFFFF)


class Plan:
    """What the launches of a compiled kernel have in common, packed once.

    Parameters
    ----------
    entry
        The address of the kernel's entry.
    signature
        What its parameters are.
    meets
        Its threads wait for each other, so that a threadgroup is worth a worker however small the grid is.
    """

    def __init__(self, entry: int, signature: Signature, meets: bool) -> None:
        found = signature.parameters
        parameters = (_Parameter * len(found))(*[_Parameter(_ROLES[p.role], p.array) for p in found])
        self._plan = _Plan(
            ctypes.pointer(_python()),
            entry,
            parameters,
            len(found),
            len(signature.inputs),
            len(signature.outputs),
            meets,
        )
        self.address = ctypes.addressof(self._plan)
        self._launch = _launcher()

    def run(
        self,
        inputs: list[mx.array],
        outputs: list[mx.array],
        checked: int,
        threads: int,
        grid: Triple,
        group: Triple,
    ) -> tuple[int, int]:
        """Run it on evaluated arrays; returns how that ended and the detail, 0 and 0 if all is well.

        Behind the outputs may stand their rooms, one each (memory.py). Inputs from the one numbered ``checked`` on must
        be row-contiguous. No extent of ``grid`` and ``group`` is 0.
        """
        result = self._launch(self.address, inputs, outputs, checked, threads, *grid, *group)
        return result & 0xFFFFFFFF, result >> 32


@lru_cache
def runtime() -> ctypes.CDLL:
    """The compiled runtime, for calls that Python's lock is released for."""
    library = ctypes.CDLL(str(loadable(compiler.runtime_library())))
    library.zmlx_run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint)
    library.zmlx_run.restype = ctypes.c_int
    return library


@lru_cache
def _launcher() -> Any:
    # This one is called with Python's lock held, and an exception that it sets is raised.
    launch = ctypes.PyDLL(str(loadable(compiler.runtime_library()))).zmlx_launch
    launch.argtypes = (ctypes.c_void_p, ctypes.py_object, ctypes.py_object, *[ctypes.c_uint32] * 8)
    launch.restype = ctypes.c_uint64
    return launch


@lru_cache
def python_api() -> int:
    """The address of a ``zmlx::Python``."""
    return ctypes.addressof(_python())


@lru_cache
def _python() -> _Python:
    api = ctypes.pythonapi
    functions = (
        api.PyObject_GetBuffer,
        api.PyBuffer_Release,
        api.PyList_GetItem,
        api.PyEval_SaveThread,
        api.PyEval_RestoreThread,
        api.PyList_Size,
    )
    addresses = [ctypes.cast(function, ctypes.c_void_p) for function in functions]
    return _Python(*addresses, ctypes.CFUNCTYPE(ctypes.c_int)(_interrupts))


def _interrupts() -> int:
    """Whether Ctrl-C raises KeyboardInterrupt: a handler of the program's own may have other plans."""
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler
