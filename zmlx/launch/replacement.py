"""Functions of MLX that others stand in for, and what they were before."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

#: Held while replacements, and what depends on them, change.
lock = threading.Lock()


class Replacement:
    """A function of MLX and what takes its place while somebody holds the replacement."""

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name
        self._ours: Callable[..., Any] | None = None
        self._native: Callable[..., Any] | None = None
        self._holders = 0

    @property
    def native(self) -> Callable[..., Any]:
        """The function as it was before it was replaced."""
        if self._native is not None:
            return self._native
        function: Callable[..., Any] = getattr(importlib.import_module(self._module), self._name)
        return function

    def hold(self, ours: Callable[..., Any]) -> None:
        """Put ``ours``, which is the same at every call, in the function's place, unless it is there already."""
        with lock:
            module = importlib.import_module(self._module)
            self._ours = ours
            if self._holders == 0 and getattr(module, self._name) is not ours:
                self._native = getattr(module, self._name)
                setattr(module, self._name, ours)
            self._holders += 1

    def release(self) -> None:
        """Let go; the last to do so puts MLX's own function back."""
        with lock:
            module = importlib.import_module(self._module)
            self._holders -= 1
            # If somebody else has put a function of theirs over ours meanwhile, taking it away is not for us.
            if self._holders == 0 and getattr(module, self._name) is self._ours:
                setattr(module, self._name, self._native)


#: ``mx.fast.metal_kernel``, which `zmlx.install` replaces; the Metal launcher wants MLX's own in any case.
METAL_KERNEL = Replacement("mlx.core.fast", "metal_kernel")

#: ``mx.metal.is_available``, which `zmlx.pretend_metal` replaces.
METAL_IS_AVAILABLE = Replacement("mlx.core.metal", "is_available")


def native_metal_kernel() -> Any:
    """``mx.fast.metal_kernel`` as it was before `zmlx.install`, whether or not it is replaced now."""
    return METAL_KERNEL.native
