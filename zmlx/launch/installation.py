"""Standing in for MLX's own functions, so that libraries run unmodified on machines without Metal.

=====================  =====================================================================================
`install`              ``mx.fast.metal_kernel`` is `zmlx.metal_kernel`: kernels made from then on run on
                       Metal, CUDA and the CPU
`pretend_metal`        the same, for a ``with`` block, in which ``mx.metal.is_available()`` and
                       ``mx.default_device() == mx.gpu`` also hold, and ``mx.gpu`` is a name of the CPU where
                       there is no GPU: for libraries that ask before they make or call a kernel
=====================  =====================================================================================

Both are process-wide, may be nested and may overlap: MLX has its own functions back when the last one ends.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from zmlx.launch import gpu_by_name, pretence
from zmlx.launch.kernel import metal_kernel
from zmlx.launch.replacement import METAL_IS_AVAILABLE, METAL_KERNEL, Replacement

if TYPE_CHECKING:
    import mlx.core as mx

_default_device = Replacement("mlx.core", "default_device")


class Installation:
    """What `install` returns: call `undo`, or use it as a context manager.

    Parameters
    ----------
    packages
        Who is told that this is Metal, as `pretend_metal` has it: an empty tuple stands for all. None: nobody is.
    """

    def __init__(self, packages: tuple[str, ...] | None = None) -> None:
        self._active = True
        self._packages = packages
        METAL_KERNEL.hold(metal_kernel)
        if packages is not None:
            for replacement, ours in _pretended():
                replacement.hold(ours)
            pretence.begin(packages)

    def undo(self) -> None:
        """End this installation; calling again does nothing. Kernels made meanwhile stay what they are."""
        if not self._active:
            return
        self._active = False
        if self._packages is not None:
            pretence.end(self._packages)
            for replacement, _ in _pretended():
                replacement.release()
        METAL_KERNEL.release()

    def __enter__(self) -> Installation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def install(*, pretend_metal: bool = False) -> Installation:
    """Replace ``mx.fast.metal_kernel`` by `zmlx.metal_kernel` in this process.

    Libraries that make their kernels afterwards run them on CUDA and on the CPU too; on Metal nothing changes, since
    the call is handed on to MLX. Kernels made before keep MLX's function, and a module that did
    ``from mlx.core.fast import metal_kernel`` keeps the function that it found there. Used as a context manager, the
    replacement ends with the block; of several installations, the last one that ends takes it away.

    Parameters
    ----------
    pretend_metal
        Also answer, as long as it lasts, as `pretend_metal` does: for libraries that make or call their kernels only if
        ``mx.metal.is_available()``, or that ask for ``mx.gpu`` by name.

    Examples
    --------
    >>> zmlx.install()                       # for the rest of the process
    >>> with zmlx.install():                 # or for a block
    ...     from mlx_lm.models import bitlinear_layers
    """
    return Installation(() if pretend_metal else None)


@contextlib.contextmanager
def pretend_metal(*packages: str) -> Iterator[None]:
    """Answer yes, inside a ``with`` block, to code that asks whether it is on Metal.

    Inside the block, besides what `install` does:

    * ``mx.metal.is_available()`` is True;
    * ``mx.default_device()`` says that it is a GPU: it equals ``mx.gpu`` and its ``type`` and text say so. It still
      *is* the default device, and MLX takes it as that: a stream made on it, or an array computed on it, is on the
      CPU where there is no GPU;
    * where there is no GPU, the CPU answers to its name: ``stream=mx.gpu`` (of MLX's functions and of kernels),
      ``mx.set_default_device(mx.gpu)``, ``mx.new_stream(mx.gpu)``, ``mx.stream(mx.gpu)``, ``mx.is_available(mx.gpu)``,
      likewise with ``mx.Device(mx.gpu)``;
    * ``mx.device_info()`` and ``mx.metal.device_info()`` have Metal's figures too: ``memory_size``,
      ``max_recommended_working_set_size`` and ``max_buffer_length``, in bytes, of this machine's memory.

    Nothing else changes: not where anything runs, not what MLX itself or zmlx see, not ``mx.gpu``. Methods of arrays
    (``x.sum(stream=mx.gpu)``) and what only Metal has, such as a capture, fail there as they would outside of the
    block. Kernels that are made inside the block keep working after it. On a Mac whose default device is the GPU, all
    answers are what they were.

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
    with Installation(packages):
        yield


def _pretended() -> Iterator[tuple[Replacement, Callable[..., Any]]]:
    """What is replaced while anybody is told, each with what takes its place."""
    yield METAL_IS_AVAILABLE, _pretended_is_available
    yield _default_device, _pretended_default_device
    yield from gpu_by_name.replacements()


# A module that took these functions by `from mlx.core import …` inside a block keeps them: outside of all
# blocks they say what MLX says.
def _pretended_is_available() -> bool:
    return pretence.is_told(sys._getframe(1)) or bool(METAL_IS_AVAILABLE.native())


def _pretended_default_device() -> mx.Device:
    device: mx.Device = _default_device.native()
    return _gpu_in_name(device) if pretence.is_told(sys._getframe(1)) else device


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
            if pretence.is_told(sys._getframe(1)):
                return bool(mx.Device(mx.gpu, 0) == other)
            return bool(super().__eq__(other))

        def __ne__(self, other: object) -> bool:
            if pretence.is_told(sys._getframe(1)):
                return bool(mx.Device(mx.gpu, 0) != other)
            return bool(super().__ne__(other))

        def __hash__(self) -> int:
            return super().__hash__()

        def __repr__(self) -> str:
            return repr(mx.Device(mx.gpu, 0)) if pretence.is_told(sys._getframe(1)) else super().__repr__()

        @property
        def type(self) -> Any:
            return mx.DeviceType.gpu if pretence.is_told(sys._getframe(1)) else mx.DeviceType.cpu

    return PretendedGpu
