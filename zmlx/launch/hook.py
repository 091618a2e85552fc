"""The hook by which another package takes launches over, as the checker does.

What takes a launch over is an `Interceptor`. `intercepting` puts one in place for a block, `set_process_interceptor`
for the whole process. Nothing in `zmlx.launch` knows which they are.

=========================================  =========================================================
a launch                                   goes to
=========================================  =========================================================
inside a block of its own thread or task   the innermost such block
in a thread that opened none               the block opened last, in whichever thread it is open
outside of all blocks                      the process's interceptor, if there is one
=========================================  =========================================================

The second line is for threads that a block starts, whose contexts begin empty: launches in them are part of the block.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.launch.call import Call
    from zmlx.launch.origin import Origin
    from zmlx.metal.signature import Signature


class Interceptor(Protocol):
    """Runs launches in the launchers' place. ``path`` is what launch records call its way of running them."""

    @property
    def path(self) -> str: ...

    def launch(self, signature: Signature, call: Call, origin: Origin | None) -> list[mx.array]:
        """Run a call whose inputs are evaluated on the CPU, and return its outputs."""
        ...


_lock = threading.Lock()
_own: ContextVar[Interceptor | None] = ContextVar("zmlx_interceptor", default=None)
_open: list[Interceptor] = []
_of_process: Callable[[], Interceptor | None] | None = None


@contextlib.contextmanager
def intercepting(interceptor: Interceptor) -> Iterator[None]:
    """Hand the launches of a ``with`` block to ``interceptor``."""
    token = _own.set(interceptor)
    with _lock:
        _open.append(interceptor)
    try:
        yield
    finally:
        with _lock:
            # The last that is the same: a block may be opened twice with one interceptor.
            index = next(i for i in reversed(range(len(_open))) if _open[i] is interceptor)
            del _open[index]
        _own.reset(token)


def set_process_interceptor(find: Callable[[], Interceptor | None] | None) -> None:
    """Ask ``find`` for the interceptor of launches outside of all blocks; None ends that."""
    global _of_process
    _of_process = find


def current() -> Interceptor | None:
    """The interceptor that launches go to now."""
    own = _own.get()
    if own is not None:
        return own
    opened = _open[-1:]  # in one step: other threads open and close blocks meanwhile
    if opened:
        return opened[0]
    return _of_process() if _of_process is not None else None
