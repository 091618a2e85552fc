"""Standing in for MLX's own functions, so that libraries run unmodified on machines without Metal.

=====================  =====================================================================================
`install`              ``mx.fast.metal_kernel`` is `zmlx.metal_kernel`: kernels made from then on run on
                       Metal, CUDA and the CPU
`pretend_metal`        the same, for a ``with`` block, in which ``mx.metal.is_available()`` and
                       ``mx.default_device() == mx.gpu`` also hold: for libraries that ask before they make
                       or call a kernel
=====================  =====================================================================================

Both are process-wide, may be nested and may overlap: MLX has its own functions back when the last one ends.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import lru_cache
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from zmlx.launch.kernel import metal_kernel
from zmlx.launch.replacement import METAL_KERNEL, Replacement, lock

if TYPE_CHECKING:
    import mlx.core as mx

#: Who is never told what `pretend_metal` pretends: they decide by it where work runs.
_TRUTHFUL = ("zmlx", "mlx")


_is_available = Replacement("mlx.core.metal", "is_available")
_default_device = Replacement("mlx.core", "default_device")


class Installation:
    """What `install` returns: call `undo`, or use it as a context manager."""

    def __init__(self) -> None:
        self._active = True
        METAL_KERNEL.hold(metal_kernel)

    def undo(self) -> None:
        """End this installation; calling again does nothing. Kernels made meanwhile stay what they are."""
        if self._active:
            self._active = False
            METAL_KERNEL.release()

    def __enter__(self) -> Installation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def install() -> Installation:
    """Replace ``mx.fast.metal_kernel`` by `zmlx.metal_kernel` in this process.

    Libraries that make their kernels afterwards run them on CUDA and on the CPU too; on Metal nothing changes, since
    the call is handed on to MLX. Kernels made before keep MLX's function, and a module that did
    ``from mlx.core.fast import metal_kernel`` keeps the function that it found there. Used as a context manager, the
    replacement ends with the block; of several installations, the last one that ends takes it away.

    Libraries that make their kernels only if ``mx.metal.is_available()`` need `pretend_metal`.

    Examples
    --------
    >>> zmlx.install()                       # for the rest of the process
    >>> with zmlx.install():                 # or for a block
    ...     from mlx_lm.models import bitlinear_layers
    """
    return Installation()


@contextlib.contextmanager
def pretend_metal(*packages: str) -> Iterator[None]:
    """Answer yes, inside a ``with`` block, to code that asks whether it is on Metal.

    Inside the block, besides what `install` does:

    * ``mx.metal.is_available()`` is True;
    * ``mx.default_device()`` says that it is a GPU: it equals ``mx.gpu`` and its ``type`` and text say so. It still
      *is* the default device, and MLX takes it as that: a stream made on it, or an array computed on it, is on the
      CPU where there is no GPU.

    Nothing else changes: not where anything runs, not what MLX itself or zmlx see, not ``mx.gpu``, ``mx.device_info``
    or MLX's other functions. Code that goes on to use what only Metal has (its memory figures, a capture, a GPU
    stream) fails there as it would outside of the block. Kernels that are made inside the block keep working after
    it. On a Mac whose default device is the GPU, all answers are what they were.

    Parameters
    ----------
    packages
        The modules that get these answers, each with its submodules: ``pretend_metal("mlx_lm.models")``. None
        given means all, except MLX's own modules and zmlx.

    Examples
    --------
    >>> with zmlx.pretend_metal():
    ...     from mlx_lm.models.gated_delta import gated_delta_kernel
    """
    with install():
        _is_available.hold(_pretended_is_available)
        _default_device.hold(_pretended_default_device)
        with lock:
            _pretences.append(packages)
        try:
            yield
        finally:
            with lock:
                _pretences.remove(packages)
            _default_device.release()
            _is_available.release()


#: The packages of each `pretend_metal` block that is open; an empty tuple stands for all.
_pretences: list[tuple[str, ...]] = []


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _is_told(frame: FrameType) -> bool:
    """Whether the code that runs in ``frame`` gets the pretended answer."""
    module = str(frame.f_globals.get("__name__", ""))
    if _within(module, _TRUTHFUL):
        return False
    return any(not packages or _within(module, packages) for packages in _pretences)


# A module that took these functions by `from mlx.core import …` inside a block keeps them: outside of all
# blocks they say what MLX says.
def _pretended_is_available() -> bool:
    return _is_told(sys._getframe(1)) or bool(_is_available.native())


def _pretended_default_device() -> mx.Device:
    device: mx.Device = _default_device.native()
    return _gpu_in_name(device) if _is_told(sys._getframe(1)) else device


def _gpu_in_name(device: mx.Device) -> mx.Device:
    """The same device to MLX, a GPU to Python code that compares or prints it."""
    import mlx.core as mx

    if device == mx.gpu:
        return device
    pretended: mx.Device = _device_class()(device.type, 0)
    return pretended


@lru_cache
def _device_class() -> Any:
    import mlx.core as mx

    class PretendedGpu(mx.Device):
        def __eq__(self, other: object) -> bool:
            if _is_told(sys._getframe(1)):
                return bool(mx.Device(mx.gpu, 0) == other)
            return bool(super().__eq__(other))

        def __ne__(self, other: object) -> bool:
            if _is_told(sys._getframe(1)):
                return bool(mx.Device(mx.gpu, 0) != other)
            return bool(super().__ne__(other))

        def __hash__(self) -> int:
            return super().__hash__()

        def __repr__(self) -> str:
            return repr(mx.Device(mx.gpu, 0)) if _is_told(sys._getframe(1)) else super().__repr__()

        @property
        def type(self) -> Any:
            return mx.DeviceType.gpu if _is_told(sys._getframe(1)) else mx.DeviceType.cpu

    return PretendedGpu
