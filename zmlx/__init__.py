"""zmlx: one MLX kernel, written once as Metal, runs on Metal, CUDA and CPU; a nox matrix proves that they agree.

>>> import zmlx
>>> kernel = zmlx.metal_kernel(name="twice", input_names=["x"], output_names=["out"],
...                            source="uint i = thread_position_in_grid.x; out[i] = x[i] + x[i];")

Names load what they need when they are first used: ``import zmlx`` imports neither MLX nor NumPy.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from zmlx._version import __version__

if TYPE_CHECKING:
    from zmlx import kernels as kernels
    from zmlx._compat import detect_backend as detect_backend
    from zmlx.check import Finding as Finding
    from zmlx.check import KernelCheckError as KernelCheckError
    from zmlx.check import checked as checked
    from zmlx.kernels._elementwise import elementwise as elementwise
    from zmlx.kernels._row_kernel import row_kernel as row_kernel
    from zmlx.launch import KernelCompileError as KernelCompileError
    from zmlx.launch import install as install
    from zmlx.launch import metal_kernel as metal_kernel
    from zmlx.launch import metal_library as metal_library
    from zmlx.launch import pretend_metal as pretend_metal
    from zmlx.sessions.project import nox_sessions as nox_sessions

#: Where each public name lives; an empty attribute is the module itself.
_HOMES = {
    "Finding": ("zmlx.check", "Finding"),
    "KernelCheckError": ("zmlx.check", "KernelCheckError"),
    "KernelCompileError": ("zmlx.launch", "KernelCompileError"),
    "checked": ("zmlx.check", "checked"),
    "detect_backend": ("zmlx._compat", "detect_backend"),
    "elementwise": ("zmlx.kernels._elementwise", "elementwise"),
    "install": ("zmlx.launch", "install"),
    "kernels": ("zmlx.kernels", ""),
    "metal_kernel": ("zmlx.launch", "metal_kernel"),
    "metal_library": ("zmlx.launch", "metal_library"),
    "nox_sessions": ("zmlx.sessions.project", "nox_sessions"),
    "pretend_metal": ("zmlx.launch", "pretend_metal"),
    "row_kernel": ("zmlx.kernels._row_kernel", "row_kernel"),
}

__all__ = [
    "Finding",
    "KernelCheckError",
    "KernelCompileError",
    "__version__",
    "checked",
    "detect_backend",
    "elementwise",
    "install",
    "kernels",
    "metal_kernel",
    "metal_library",
    "nox_sessions",
    "pretend_metal",
    "row_kernel",
]


if os.environ.get("ZMLX_CHECK"):
    # The launchers do not know of the checker: what knows of both puts it in place. It imports neither MLX nor NumPy.
    importlib.import_module("zmlx.check.checker").watch_process()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zmlx' has no attribute {name!r}; it has {', '.join(__all__)}")
    module, attribute = _HOMES[name]
    loaded = importlib.import_module(module)
    value = getattr(loaded, attribute) if attribute else loaded
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
