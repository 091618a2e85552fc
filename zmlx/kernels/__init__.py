"""The catalogue: kernels written once as Metal, each with its gradient, that run on Metal, CUDA and CPU.

In: MLX arrays of float32, float16 or bfloat16, in any memory layout. Out: MLX arrays, computed in float32 by launches
of `zmlx.metal_kernel`, with rules for ``mx.grad``, ``mx.jvp``, ``mx.vmap`` and ``mx.compile``. One module a family,
which is found here and imported when it is first used; what several share begins with ``_``. Must not know: how they
are tested, checked or timed (`zmlx.testing.op_db` does).
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

__all__: list[str] = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module 'zmlx.kernels' has no attribute {name!r}; it has {', '.join(__all__)}")
    return importlib.import_module(f"zmlx.kernels.{name}")
