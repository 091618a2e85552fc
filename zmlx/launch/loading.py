"""Loading compiled kernels, also from a cache on a file system that must not hold programs (noexec)."""

from __future__ import annotations

import ctypes
import warnings
from functools import cache, lru_cache
from pathlib import Path

from zmlx.errors import KernelRuntimeError
from zmlx.launch.cache import CACHE_VARIABLE, cache_dir, copy_to_run


@cache
def loadable(file: Path) -> Path:
    """``file``, or a copy of it that can be loaded where ``file`` itself cannot, with a warning.

    Raises
    ------
    KernelRuntimeError
        Neither can be loaded; the message says why.
    """
    try:
        ctypes.CDLL(str(file))
    except OSError as error:
        try:
            copy = copy_to_run(file)
            ctypes.CDLL(str(copy))
        except OSError as second:
            raise KernelRuntimeError(
                f"[metal_kernel] A compiled kernel cannot be loaded: {error}. Nor can a copy of it: {second}. Set "
                f"{CACHE_VARIABLE} or TMPDIR to a folder from which programs may be run (mounted without noexec)."
            ) from error
        _warn(cache_dir(), str(error))
        return copy
    return file


@lru_cache
def _warn(folder: Path, reason: str) -> None:
    """Once for each reason."""
    warnings.warn(
        f"zmlx cannot load compiled kernels from its cache {str(folder)!r} ({reason}) and loads copies of them. Set "
        f"{CACHE_VARIABLE} to a folder from which programs may be run (mounted without noexec).",
        RuntimeWarning,
        stacklevel=2,
    )
