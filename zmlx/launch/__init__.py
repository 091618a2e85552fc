"""The call of a kernel, and the three launchers.

In: the arguments of a `metal_kernel` call, checked once (call.py), and its `Signature`. Out: arrays, from the launcher
of the call's back end (metal.py, cuda.py, host.py), and a record of the launch. Another package may take launches over
through hook.py. Must not know: what an interceptor does with a launch, the catalogue, the tests.
"""

from zmlx.errors import (
    CompilerNotFoundError,
    KernelCompileError,
    KernelError,
    KernelRuntimeError,
    NvrtcNotFoundError,
    TranslationError,
)
from zmlx.launch.installation import install, pretend_metal
from zmlx.launch.kernel import MetalKernel, current_backend, metal_kernel
from zmlx.launch.library import LibraryKernel, MetalLibrary, metal_library
from zmlx.launch.records import (
    LaunchKey,
    LaunchRecord,
    launch_counts,
    poisoned_outputs,
    recording,
    reset_launch_counts,
    watch,
)
from zmlx.metal.signature import KernelSource, Signature
from zmlx.translate import translate

__all__ = [
    "CompilerNotFoundError",
    "KernelCompileError",
    "KernelError",
    "KernelRuntimeError",
    "KernelSource",
    "LaunchKey",
    "LaunchRecord",
    "LibraryKernel",
    "MetalKernel",
    "MetalLibrary",
    "NvrtcNotFoundError",
    "Signature",
    "TranslationError",
    "current_backend",
    "install",
    "launch_counts",
    "metal_kernel",
    "metal_library",
    "poisoned_outputs",
    "pretend_metal",
    "recording",
    "reset_launch_counts",
    "translate",
    "watch",
]
