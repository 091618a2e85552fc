"""Putting `zmlx.metal_kernel` in the place of ``mx.fast.metal_kernel``, so that libraries run unmodified."""

from __future__ import annotations

from types import TracebackType
from typing import Any

_native: Any = None


def native_metal_kernel() -> Any:
    """``mx.fast.metal_kernel`` as MLX brought it, whether or not it is replaced now."""
    import mlx.core as mx

    return _native if _native is not None else mx.fast.metal_kernel


class Installation:
    """What `install` returns: call `undo`, or use it as a context manager."""

    def __init__(self, outer: bool) -> None:
        self._outer = outer

    def undo(self) -> None:
        """Give MLX its own function back. Kernels made meanwhile stay what they are; calling again does nothing."""
        global _native
        if self._outer and _native is not None:
            import mlx.core as mx

            mx.fast.metal_kernel = _native
            _native = None

    def __enter__(self) -> Installation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def install() -> Installation:
    """Replace ``mx.fast.metal_kernel`` by `zmlx.metal_kernel` in this process.

    Libraries that make their kernels afterwards run them on CUDA and on the CPU too; on Metal nothing changes, since
    the call is handed on to MLX. Kernels made before keep MLX's function. As a context manager the replacement ends
    with the block; nested installations end with the outermost.
    """
    global _native
    import mlx.core as mx

    from zmlx.launch.kernel import metal_kernel

    if _native is not None:
        return Installation(outer=False)
    _native = mx.fast.metal_kernel
    mx.fast.metal_kernel = metal_kernel
    return Installation(outer=True)
