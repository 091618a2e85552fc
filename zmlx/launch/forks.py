"""A process forked from one that has CUDA must not use it, which the driver forbids: it dies with signal 11.

Nor can it read MLX's arrays, which are memory of the driver, on any stream. So a launch there is an error that says so.
"""

from __future__ import annotations

import os
import sys

_ADVICE = (
    "[metal_kernel] This process was forked from one in which MLX has CUDA, and CUDA does not survive a fork: not even "
    "arrays on the CPU can be read. Start it anew instead: multiprocessing.get_context('spawn'), or subprocess."
)

_cuda_at_fork = False
_forked = False


def _before() -> None:
    global _cuda_at_fork
    mx = sys.modules.get("mlx.core")
    cuda = getattr(mx, "cuda", None)
    _cuda_at_fork = cuda is not None and bool(cuda.is_available())


def _in_child() -> None:
    global _forked
    _forked = _forked or _cuda_at_fork


def refuse_after_fork() -> None:
    """Raise where a launch would crash.

    Raises
    ------
    RuntimeError
        This is a forked process, and its parent had CUDA.
    """
    if _forked:
        raise RuntimeError(_ADVICE)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)
