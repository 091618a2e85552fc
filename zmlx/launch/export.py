"""Kernels in functions that ``mx.export_function`` writes to a file.

An export runs nothing: MLX follows the function with arrays that have no values, and what it writes down is the kernel
with its Metal source, on every platform. So the call goes to MLX's own kernel, as on a Mac. To Python an export looks
like any other tracing, which on the CPU needs a reference; who traces, the native stack tells.
"""

from __future__ import annotations

import ctypes
from functools import cache

#: How launch records call it.
PATH = "export"

#: In the names of MLX's functions that export: ``mlx::core::FunctionExporter`` and ``mlx::core::export_function``.
_EXPORTERS = (b"16FunctionExporter", b"15export_function")

#: More than Python's own limit on C recursion leaves.
_MOST_FRAMES = 4096


def exporting() -> bool:
    """Whether ``mx.export_function`` or ``mx.exporter`` is following the calling function.

    False where the C library cannot list its callers (musl): the call is then one that mx.compile could have made.
    """
    library = _backtrace_library()
    if library is None:
        return False
    frames = (ctypes.c_void_p * _MOST_FRAMES)()
    count = library.backtrace(frames, _MOST_FRAMES)
    names = library.backtrace_symbols(frames, count)
    if not names:
        return False
    try:
        return any(exporter in names[i] for i in range(count) for exporter in _EXPORTERS)
    finally:
        library.free(ctypes.cast(names, ctypes.c_void_p))


@cache
def _backtrace_library() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    if not hasattr(library, "backtrace_symbols"):
        return None
    library.backtrace.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.backtrace_symbols.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.backtrace_symbols.restype = ctypes.POINTER(ctypes.c_char_p)
    library.free.argtypes = [ctypes.c_void_p]
    return library
