"""The library that makes a launch on the CPU an operation of MLX's graph: built, tried out and loaded when needed.

It is compiled against the headers that come with MLX (``runtime/primitive``) and takes mx.array objects by their
addresses, which stands or falls with how MLX's Python package lays them out. So it is tried out in a process of its own
when it is built, and again, without touching what it was not told of, when it is loaded.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

from zmlx.errors import CompilerNotFoundError, KernelCompileError, KernelRuntimeError
from zmlx.launch import compiler
from zmlx.launch.cache import cached, digest
from zmlx.launch.host_call import python_api
from zmlx.launch.lazy import mlx
from zmlx.launch.loading import loadable
from zmlx.runtime import RUNTIME

_SOURCE = RUNTIME / "primitive/primitive.cpp"

#: Set to anything: no launch on the CPU becomes part of a graph.
EAGER_VARIABLE = "ZMLX_EAGER"

#: What nanobind puts in front of the C++ object: Python's head, then where the object is and how (nb_inst).
_HEAD = 16
_DIRECT = 1 << 2
_ARRAY_SIZE = 16  # an mlx::core::array is a std::shared_ptr


class Unavailable(RuntimeError):
    """Why launches cannot be part of a graph here."""


#: The library, once `found` has found it.
loaded: ctypes.PyDLL | None = None


@cache
def found() -> tuple[ctypes.PyDLL | None, str]:
    """The library, or None and the reason why there is none."""
    global loaded
    if os.environ.get(EAGER_VARIABLE):
        return None, f"{EAGER_VARIABLE} is set"
    try:
        library = ctypes.PyDLL(str(loadable(_built())))
        try_out(library)
    except (Unavailable, KernelRuntimeError, KernelCompileError, CompilerNotFoundError) as error:
        return None, str(error)
    loaded = _declared(library)
    return loaded, ""


def _built() -> Path:
    mx = mlx()
    package = Path(mx.__file__).parent
    include, shared = package / "include", package / "lib/libmlx.so"
    if sys.platform != "linux":
        raise Unavailable(f"it is for Linux only so far, and this is {sys.platform}")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise Unavailable("it needs a Python with a global lock, and this one is free-threaded")
    scheduler = include / "mlx/scheduler.h"
    if not scheduler.is_file() or not shared.is_file():
        raise Unavailable(f"MLX's headers or its library are not in {package}")
    if "check_error" not in scheduler.read_text():
        raise Unavailable(
            f"MLX {mx.__version__} does not report errors of operations that run on the CPU; a newer MLX does"
        )
    used = compiler.find_compiler()
    command = [
        *used.command,
        *("-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", "-shared", "-w"),
        *(f"-I{RUNTIME}", f"-I{include}", str(_SOURCE)),
        *(f"-L{shared.parent}", f"-l:{shared.name}", f"-Wl,-rpath,{shared.parent}", "-pthread"),
        *used.link_flags,
    ]

    def build(path: Path) -> None:
        run = subprocess.run(
            [*command, "-o", str(path)], capture_output=True, text=True, env=compiler.in_english()
        )
        if run.returncode != 0:
            errors = [line for line in run.stderr.splitlines() if "error" in line] or [run.stderr.strip()]
            raise Unavailable(
                f"{used.version} cannot build it with the headers of MLX {mx.__version__}: {errors[0]}"
            )
        _try_out_apart(path)

    sources = compiler.runtime_digest("primitive/*.h", "primitive/*.cpp")
    parts = (mx.__version__, str(package), _size(shared), _size(Path(mx.__file__)), sys.version)
    return cached("primitive", digest("primitive", *parts, used.identity, sources), ".so", build)


def _size(file: Path) -> str:
    return str(file.stat().st_size)


def _try_out_apart(path: Path) -> None:
    """Try a library out in another process: what does not fit may crash it."""
    code = "import ctypes, sys; from zmlx.launch.primitive_library import try_out; try_out(ctypes.PyDLL(sys.argv[1]))"
    here = str(Path(__file__).parents[2])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH")))),
    }
    command = [sys.executable, "-c", code, str(path)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"a process that tries it out did not end well: {error}") from error
    if run.returncode != 0:
        last = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
        raise Unavailable(f"it does not fit MLX {mlx().__version__}: {last}")


def try_out(library: ctypes.PyDLL) -> None:
    """Hold what the library finds in arrays and a stream against what Python says of them.

    Raises
    ------
    Unavailable
        Something is not where the library looks for it.
    """
    mx = mlx()
    library.zmlx_describe.argtypes = (ctypes.py_object, ctypes.POINTER(ctypes.c_int64))
    library.zmlx_describe.restype = None
    library.zmlx_copy.argtypes = (ctypes.py_object, ctypes.py_object)
    library.zmlx_copy.restype = None
    library.zmlx_is_default_stream.argtypes = (ctypes.py_object,)
    library.zmlx_followed.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.py_object)
    stream = mx.default_stream(mx.cpu)
    arrays = [mx.array(1.5), mx.array([[1, 2, 3], [4, 5, 6]]), mx.array([0.5] * 5).astype(mx.float16)]
    mx.eval(arrays)
    for value, size in ((stream, 8), *((array, _ARRAY_SIZE) for array in arrays)):
        offset, flags = (ctypes.c_uint32.from_address(id(value) + at).value for at in (_HEAD, _HEAD + 4))
        if not _HEAD + 8 <= offset <= type(value).__basicsize__ - size or not flags & _DIRECT:
            raise Unavailable(
                f"MLX {mx.__version__} does not keep an {type(value).__name__} where it is expected"
            )
    for array in arrays:
        numbers = (ctypes.c_int64 * 5)()
        library.zmlx_describe(array, numbers)
        first = array.shape[0] if array.ndim else 0
        wanted = [array.ndim, array.size, array.itemsize, first, array.dtype == mx.float16]
        copy = mx.array(0)
        library.zmlx_copy(array, copy)
        if list(numbers) != wanted or copy.tolist() != array.tolist() or copy.dtype != array.dtype:
            raise Unavailable(f"arrays of MLX {mx.__version__} have another layout than its headers")
    if not library.zmlx_is_default_stream(stream):
        raise Unavailable(f"streams of MLX {mx.__version__} have another layout than its headers")
    answers: list[bool] = []

    def note(x: Any) -> Any:
        product = 1 * x
        answers.extend(_follows(library, [1.5, a, arrays[1]]) for a in (x, product))
        return product

    note(arrays[0])
    mx.vjp(note, arrays[:1], arrays[:1])
    note(arrays[0])
    if answers != [False, False, True, True, False, False]:
        raise Unavailable(f"MLX {mx.__version__} does not say which arrays a transformation follows")


def followed(things: list[Any]) -> bool | None:
    """Whether a transformation follows one of some things; what is no array is followed by none. None before the
    library is loaded."""
    return None if loaded is None else _follows(loaded, things)


def _follows(library: ctypes.PyDLL, things: list[Any]) -> bool:
    return bool(library.zmlx_followed(python_api(), id(mlx().array), things))


def _declared(library: ctypes.PyDLL) -> ctypes.PyDLL:
    pointer, number, thing = ctypes.c_void_p, ctypes.c_uint32, ctypes.py_object
    declarations: dict[str, tuple[tuple[Any, ...], Any]] = {
        "zmlx_failure": ((), ctypes.c_char_p),
        "zmlx_call_new": ((pointer, thing, pointer), ctypes.c_int),
        "zmlx_call_free": ((pointer,), None),
        "zmlx_call_lazily": ((pointer, thing, thing, number, thing), ctypes.c_int),
        "zmlx_unwritten": ((thing, thing, pointer, number), ctypes.c_int),
        "zmlx_derivation_count": ((pointer, number), number),
        "zmlx_derivation_number": ((pointer, number, number), ctypes.c_int32),
        "zmlx_derivation_get": ((pointer, number, number, thing), None),
        "zmlx_derivation_put": ((pointer, thing), None),
        "zmlx_derivation_fail": ((pointer, ctypes.c_char_p), None),
    }
    for name, (arguments, result) in declarations.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    return library
