"""What was launched: counts that prove a kernel ran, records to look at, and launches that only leave a record."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from zmlx.metal.signature import KernelSource, Signature

Triple = tuple[int, int, int]


def launched_group(grid: Triple, threadgroup: Triple) -> Triple:
    """Metal launches groups no larger than the grid."""
    return min(grid[0], threadgroup[0]), min(grid[1], threadgroup[1]), min(grid[2], threadgroup[2])


def threads_of(extent: Triple) -> int:
    """How many threads a grid or a threadgroup has."""
    return extent[0] * extent[1] * extent[2]


class LaunchKey(NamedTuple):
    """What launches are counted by.

    ``path`` is ``"metal"``, ``"cuda"``, ``"loop"``, ``"regions"`` or ``"fibers"`` (the ways of the host, see
    host.py), ``"checked"``, ``"lazy"`` where a traced launch became part of MLX's graph, which may run it any number of
    times, or ``"reference"`` where tracing made MLX operations stand in for the kernel.
    """

    kernel: str
    backend: str
    path: str


@dataclass(frozen=True)
class LaunchRecord:
    """One launch. ``path`` is empty for a launch that was only recorded."""

    kernel: KernelSource
    signature: Signature
    backend: str
    path: str
    grid: Triple
    threadgroup: Triple


@dataclass
class _State:
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # by the fields of a LaunchKey
    forgotten: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # before the counts were reset
    watchers: list[list[LaunchRecord]] = field(default_factory=list)
    recording: str | None = None
    poison: bool = False


_state = _State()
_lock = threading.Lock()


def launch_counts() -> dict[LaunchKey, int]:
    """How often each kernel has been launched in this process, by back end and path."""
    with _lock:
        return {LaunchKey(*key): count for key, count in _state.counts.items()}


def reset_launch_counts() -> None:
    """Forget all launches counted so far."""
    with _lock:
        _state.forgotten += _state.counts
        _state.counts.clear()


def launches_in_all() -> Counter[tuple[str, str, str]]:
    """How often since the process began, by the fields of a `LaunchKey`: also what was forgotten since."""
    with _lock:
        return _state.forgotten + _state.counts


def note_launch(signature: Signature, backend: str, path: str, grid: Triple, threadgroup: Triple) -> None:
    """Count a launch and hand it to those who watch, as a `LaunchRecord` of these."""
    kernel = signature.kernel
    with _lock:
        if path:
            _state.counts[kernel.name, backend, path] += 1
        if _state.watchers:
            record = LaunchRecord(kernel, signature, backend, path, grid, threadgroup)
            for watcher in _state.watchers:
                watcher.append(record)


@contextlib.contextmanager
def watch() -> Iterator[list[LaunchRecord]]:
    """Collect the launches made inside the block, which run as usual."""
    seen: list[LaunchRecord] = []
    with _lock:
        _state.watchers.append(seen)
    try:
        yield seen
    finally:
        with _lock:
            # By identity: two watchers that saw the same launches are equal lists.
            _state.watchers = [w for w in _state.watchers if w is not seen]


@contextlib.contextmanager
def recording(backend: str) -> Iterator[list[LaunchRecord]]:
    """Record launches as if for ``backend`` ("metal", "cuda" or "cpu") without running any; outputs are zeros.

    This is how the Metal and CUDA texts of a call are had on a machine without that GPU.
    """
    before = _state.recording
    with watch() as seen:
        _state.recording = backend
        try:
            yield seen
        finally:
            _state.recording = before


def recorded_backend() -> str | None:
    """The back end that launches are being recorded for, if they are."""
    return _state.recording


@contextlib.contextmanager
def poisoned_outputs() -> Iterator[None]:
    """Fill outputs without an ``init_value`` with NaN (integers: a large value, booleans: true) before each launch.

    An element that the kernel forgets to write then shows, instead of being whatever the memory held.
    """
    before = _state.poison
    _state.poison = True
    try:
        yield
    finally:
        _state.poison = before


def undisturbed() -> bool:
    """Whether launches run as they are called: none is only recorded, and no output is filled first."""
    return _state.recording is None and not _state.poison


def poisoning() -> bool:
    """Whether launches are to fill their outputs first."""
    return _state.poison
