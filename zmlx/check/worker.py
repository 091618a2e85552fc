"""The thread in which checked launches run, so that Ctrl-C and a time limit can end them."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from functools import lru_cache

_one_at_a_time = threading.Lock()


def run_guarded(
    work: Callable[[], int], stop: Callable[[], None], time_limit: float, progress: Callable[[], str]
) -> int:
    """Run ``work`` in the worker thread and wait for it.

    After ``time_limit`` seconds, and when the wait is interrupted, ``stop`` makes it end. On a terminal, ``progress``
    is shown while it lasts.
    """
    with _one_at_a_time:
        return _wait(_executor(os.getpid()).submit(work), stop, time_limit, progress)


@lru_cache(maxsize=1)
def _executor(process: int) -> ThreadPoolExecutor:
    """The worker of this process: a fork has none of its parent's threads."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"zmlx-check-{process}")


def _wait(
    future: Future[int], stop: Callable[[], None], time_limit: float, progress: Callable[[], str]
) -> int:
    began = time.monotonic()
    shown = False
    try:
        while True:
            try:
                return future.result(timeout=0.1)
            except FutureTimeout:
                if future.done():
                    raise
            elapsed = time.monotonic() - began
            if elapsed > 3 and sys.stderr.isatty():
                shown = True
                sys.stderr.write(f"\r\033[Kzmlx: {progress()}, {elapsed:.0f} s")
                sys.stderr.flush()
            if elapsed > time_limit:
                stop()
    except BaseException:
        while not future.done():
            stop()
            time.sleep(0.01)
        raise
    finally:
        if shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
