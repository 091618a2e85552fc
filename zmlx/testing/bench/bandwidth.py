"""How fast the device copies memory: the yardstick for kernels that do little else.

A kernel that reads and writes each number once can be no faster than a copy of as many bytes. Every back end has
several ways to copy, and the fastest one in a run is the yardstick of that run.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np

from zmlx import _compat
from zmlx.testing.bench.measurement import mlx_stopwatch
from zmlx.testing.bench.timing import Stopwatch, marginal

#: ``way(nbytes, sources, batch, lead)`` makes a stopwatch that copies `nbytes` bytes `batch` times, from each of
#: `sources` places in turn, and returns the seconds of one copy. `lead` is that of `mlx_stopwatch`, which ways that are
#: not MLX's need not have. What it allocates is freed at the end of the ``with`` block.
Way = Callable[[int, int, int, int], contextlib.AbstractContextManager[Stopwatch]]


@contextlib.contextmanager
def host_copy(nbytes: int, sources: int, batch: int, lead: int = 0) -> Iterator[Stopwatch]:
    """memcpy into memory that is there already, on as many threads as kernels run on."""
    from zmlx.launch.host import num_threads

    threads = num_threads()
    targets = np.array_split(np.zeros(nbytes, np.uint8), threads)
    ring = itertools.cycle([np.array_split(np.ones(nbytes, np.uint8), threads) for _ in range(sources)])
    with ThreadPoolExecutor(threads) as pool:

        def once() -> float:
            begin = time.perf_counter()
            for _ in range(batch):
                list(pool.map(np.copyto, targets, next(ring)))  # NumPy lets go of the GIL here
            return (time.perf_counter() - begin) / batch

        yield once


@contextlib.contextmanager
def mlx_copy(nbytes: int, sources: int, batch: int, lead: int = 0) -> Iterator[Stopwatch]:
    """An operation of MLX that reads and writes each number once, -x. (Its copies of an array are views.)"""
    mx = _compat.import_mx()
    arrays = [mx.ones(-(-nbytes // 4), mx.float32) for _ in range(sources)]
    mx.eval(arrays)
    ring = itertools.cycle(arrays)
    yield mlx_stopwatch(lambda: mx.negative(next(ring)), batch, lazy=True, lead=lead)


class CudaDriverError(RuntimeError):
    """A function of the CUDA driver failed."""


def _driver() -> Callable[..., None]:
    """``call(function, *arguments)``, which raises CudaDriverError unless the driver says that all is well."""
    library = ctypes.CDLL("libcuda.so.1")

    def call(function: str, *arguments: object) -> None:
        status = getattr(library, function)(*arguments)
        if status != 0:
            raise CudaDriverError(
                f"The CUDA driver's {function} failed with status {status}, so that the copy bandwidth could not be "
                "measured. Free some memory of the GPU, or run with --quick, which needs little."
            )

    return call


@contextlib.contextmanager
def driver_copy(nbytes: int, sources: int, batch: int, lead: int = 0) -> Iterator[Stopwatch]:
    """The driver's own copy from device memory to device memory, on the first GPU."""
    call = _driver()
    mx = _compat.import_mx()
    device, context = ctypes.c_int(), ctypes.c_void_p()
    memory = [ctypes.c_uint64() for _ in range(sources + 1)]
    target, ring = memory[0], itertools.cycle(memory[1:])
    size, no_stream = ctypes.c_size_t(nbytes), ctypes.c_void_p()
    with ExitStack() as stack:
        call("cuInit", 0)
        call("cuDeviceGet", ctypes.byref(device), 0)
        # The context that MLX works in too. It is made current here and left as it was found.
        call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        stack.callback(call, "cuDevicePrimaryCtxRelease_v2", device)
        call("cuCtxPushCurrent_v2", context)
        stack.callback(call, "cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
        for place in memory:
            call("cuMemAlloc_v2", ctypes.byref(place), size)
            stack.callback(call, "cuMemFree_v2", place)
            call("cuMemsetD8_v2", place, ctypes.c_ubyte(1), size)
        call("cuCtxSynchronize")

        def run(count: int) -> float:
            mx.synchronize()
            call("cuCtxSynchronize")
            begin = time.perf_counter()
            for _ in range(count):
                call("cuMemcpyDtoDAsync_v2", target, next(ring), size, no_stream)
            call("cuCtxSynchronize")
            return time.perf_counter() - begin

        # The driver's queue needs no lead; but what is timed beside is `marginal` then.
        yield marginal(run, batch) if lead else lambda: run(batch) / batch


#: The ways of each back end, by the names that reports have for them.
WAYS: Mapping[str, Mapping[str, Way]] = {
    "cpu": {"memcpy": host_copy, "mx.negative": mlx_copy},
    "cuda": {"cuMemcpyDtoD": driver_copy, "mx.negative": mlx_copy},
    "metal": {"mx.negative": mlx_copy},
}
