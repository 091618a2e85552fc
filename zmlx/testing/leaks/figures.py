"""What this process holds at a moment."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from zmlx import _compat
from zmlx.launch.cache import entries_built

_PROC = Path("/proc/self")


def _active_memory() -> int:
    return int(_compat.import_mx().get_active_memory())


def _rss() -> int:
    statm = _PROC / "statm"
    if statm.exists():
        return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    # macOS has no file that says it.
    found = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True
    )
    return int(found.stdout) * 1024


def _threads() -> int:
    tasks = _PROC / "task"
    return len(os.listdir(tasks)) if tasks.exists() else threading.active_count()


#: By name of `zmlx.testing.leak_figures.HELD`.
READERS: Mapping[str, Callable[[], int]] = {
    "active_memory": _active_memory,
    "rss": _rss,
    "file_handles": lambda: len(os.listdir("/dev/fd")),
    "threads": _threads,
    "blocks": sys.getallocatedblocks,
    "cache_entries": entries_built,
}


@cache
def _trim() -> Callable[[int], int] | None:
    """glibc's malloc_trim, where there is one: what is free is given back to the system, and RSS is what is used."""
    function: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return function


def take_figures() -> dict[str, int]:
    """What is held now, once everything that can be given back is."""
    mx = _compat.import_mx()
    mx.synchronize()
    gc.collect()
    mx.clear_cache()
    trim = _trim()
    if trim is not None:
        trim(0)
    return {name: read() for name, read in READERS.items()}
