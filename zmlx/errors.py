"""What can go wrong between a Metal source and its result."""

from __future__ import annotations


class KernelError(RuntimeError):
    """Base of the errors below."""


class ArgumentTypeError(TypeError, ValueError):
    """An argument of ``metal_kernel`` or of a launch has the wrong type. It is both: MLX raises TypeError for most of
    these, and ValueError is what is wrong with arguments here."""


class TranslationError(KernelError):
    """The source uses something that cannot be carried to this back end; the message names it and its line."""


class KernelCompileError(KernelError):
    """The compiler refused the kernel. ``log`` is the compiler's whole output, the message its first errors
    against the lines of the author's own source."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class KernelRuntimeError(KernelError):
    """The kernel was stopped while it ran."""


class CompilerNotFoundError(KernelError):
    """There is no C++ compiler on this machine."""


class NvrtcNotFoundError(KernelError):
    """NVIDIA's run-time compiler is not installed."""
