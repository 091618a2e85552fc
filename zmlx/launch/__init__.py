"""One kernel definition, three launchers.

A call of a `metal_kernel` becomes a `Signature` (signature.py); the launcher of the call's back end (metal.py,
cuda.py, host.py) takes it from there. Nothing here knows of the kernels in `zmlx.kernels`.
"""

from zmlx.launch.checker import checked
from zmlx.launch.errors import (
    CompilerNotFoundError,
    KernelCompileError,
    KernelError,
    KernelRuntimeError,
    NvrtcNotFoundError,
    TranslationError,
)
from zmlx.launch.findings import Finding, KernelCheckError
from zmlx.launch.installation import install, pretend_metal
from zmlx.launch.kernel import MetalKernel, current_backend, metal_kernel
from zmlx.launch.records import (
    LaunchKey,
    LaunchRecord,
    launch_counts,
    poisoned_outputs,
    recording,
    reset_launch_counts,
    watch,
)
from zmlx.launch.signature import KernelSource, Signature
from zmlx.launch.translate import translate

__all__ = [
    "CompilerNotFoundError",
    "Finding",
    "KernelCheckError",
    "KernelCompileError",
    "KernelError",
    "KernelRuntimeError",
    "KernelSource",
    "LaunchKey",
    "LaunchRecord",
    "MetalKernel",
    "NvrtcNotFoundError",
    "Signature",
    "TranslationError",
    "checked",
    "current_backend",
    "install",
    "launch_counts",
    "metal_kernel",
    "poisoned_outputs",
    "pretend_metal",
    "recording",
    "reset_launch_counts",
    "translate",
    "watch",
]
