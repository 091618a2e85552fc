"""What `pretend_metal` does with ``mx.gpu`` where MLX has no GPU: the CPU answers to the name.

==========================================  ===================================================================
``stream=mx.gpu`` of MLX's functions        the CPU's, for all functions of `MODULES` that take a stream
``mx.stream``, ``mx.default_stream``,       the CPU's; ``mx.is_available(mx.gpu)`` is True
``mx.new_stream``, ``mx.is_available`` …
``mx.set_default_device(mx.gpu)``           sets the CPU
``mx.device_info``,                         what MLX knows of the device, with Metal's figures of memory
``mx.metal.device_info``
==========================================  ===================================================================

``mx.gpu`` and ``mx.Device(mx.gpu)`` stay what they are, so that code can compare and print them. Methods of arrays
(``x.sum(stream=mx.gpu)``) are out of reach. Where there is a GPU, only ``device_info`` is replaced.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from zmlx.launch import pretence
from zmlx.launch.lazy import mlx
from zmlx.launch.replacement import METAL_IS_AVAILABLE, Replacement

#: Where functions that take a stream are looked for.
MODULES = ("mlx.core", "mlx.core.fast", "mlx.core.fft", "mlx.core.linalg", "mlx.core.random")

#: How a signature says that a function takes one; `metal_kernel` has a replacement of its own.
_TAKES_STREAM = re.compile(r"\bstream: ")
_HAS_ITS_OWN = ("metal_kernel",)

#: Functions of a device or a stream: their first argument.
_OF_A_DEVICE = (
    "default_stream",
    "device_count",
    "is_available",
    "new_stream",
    "new_thread_local_stream",
    "new_thread_unsafe_stream",
    "set_default_device",
    "stream",
    "synchronize",
)

#: Of the machine's memory, what Metal recommends to keep in use at most: about three quarters.
_RECOMMENDED = 0.75


@cache
def replacements() -> tuple[tuple[Replacement, Callable[..., Any]], ...]:
    """What is replaced, each with what takes its place; the same at every call."""
    mx = mlx()
    made = [
        _replaced(module, "device_info", _with_figures)
        for module in ("mlx.core", "mlx.core.metal")
        if hasattr(importlib.import_module(module), "device_info")
    ]
    if not gpu_backend():
        made += [_replaced("mlx.core", name, _of_a_device) for name in _OF_A_DEVICE if hasattr(mx, name)]
        made += [
            _replaced(module, name, _with_a_stream)
            for module in MODULES
            for name in _functions_on_streams(module)
        ]
    return tuple(made)


def on_the_cpu(device: Any) -> Any:
    """The device or stream that code asks for, of which it is known that the code `is_told`."""
    return mlx().cpu if _is_gpu(device) and not gpu_backend() else device


def _is_gpu(device: Any) -> bool:
    mx = mlx()
    if isinstance(device, mx.Device):
        device = mx.Device.type.__get__(device)
    return bool(device is mx.gpu)


@cache
def gpu_backend() -> str:
    """The GPU back end that MLX has here, "metal" or "cuda", which no program changes; empty if it has none."""
    if METAL_IS_AVAILABLE.native():
        return "metal"
    mx = mlx()
    return "cuda" if hasattr(mx, "cuda") and mx.cuda.is_available() else ""


def _functions_on_streams(module: str) -> list[str]:
    return [
        name
        for name, function in vars(importlib.import_module(module)).items()
        if callable(function)
        and not isinstance(function, type)
        and not name.startswith("_")
        and name not in (*_OF_A_DEVICE, *_HAS_ITS_OWN)
        and _TAKES_STREAM.search(function.__doc__ or "")
    ]


def _replaced(
    module: str, name: str, how: Callable[[Replacement], Callable[..., Any]]
) -> tuple[Replacement, Callable[..., Any]]:
    replacement = Replacement(module, name)
    return replacement, functools.wraps(replacement.native)(how(replacement))


def _with_a_stream(replacement: Replacement) -> Callable[..., Any]:
    native = replacement.native

    def call(*args: Any, **kwargs: Any) -> Any:
        if "stream" in kwargs and _is_gpu(kwargs["stream"]) and pretence.is_told(sys._getframe(1)):
            kwargs["stream"] = mlx().cpu
        return native(*args, **kwargs)

    return call


def _of_a_device(replacement: Replacement) -> Callable[..., Any]:
    native = replacement.native

    def call(*args: Any, **kwargs: Any) -> Any:
        if pretence.is_told(sys._getframe(1)):
            args = tuple(map(on_the_cpu, args))
            kwargs = {name: on_the_cpu(value) for name, value in kwargs.items()}
        return native(*args, **kwargs)

    return call


def _with_figures(replacement: Replacement) -> Callable[..., Any]:
    # Metal's own is deprecated, says so on each call, and knows nothing where there is no Metal.
    of_mlx = getattr(mlx(), "device_info", None)
    native = of_mlx or replacement.native

    def call(*args: Any, **kwargs: Any) -> Any:
        if not pretence.is_told(sys._getframe(1)):
            return replacement.native(*args, **kwargs)
        asked = [on_the_cpu(device) for device in (*args, *kwargs.values())]
        return {**_figures(), **native(*asked)}

    return call


def _figures() -> dict[str, Any]:
    """What Metal says of a device, for this machine's memory. Bytes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    recommended = int(memory * _RECOMMENDED)
    return {
        "memory_size": memory,
        "max_recommended_working_set_size": recommended,
        "max_buffer_length": recommended,
    }
