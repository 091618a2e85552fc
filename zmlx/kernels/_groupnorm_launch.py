"""How a launch spreads groups of channels over threads: parts of groups, as `_groupnorm` cuts them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import mlx.core as mx

from zmlx.kernels import _rows

#: Values of a group, from which on it is cut into parts: fewer are found in the cache again.
DIVIDED = 2**14
#: The same where a GPU has so many groups, about two for each of its multiprocessors: the parts' moments take a launch
#: more, after which nothing is in the cache.
DIVIDED_OF_MANY = 2**18
MANY_GROUPS = 2**8
#: Threads that share a part of a group, at most.
PART_THREADS = 128
#: Threads in all that have the places of x among them: those that a GPU runs at a time, or enough for a CPU's cores.
ALL_THREADS = 2**17
HOST_PARTS = 2**8
#: Places of a thread, at least: each leaves a line of sums for the gradients of the weights.
LEAST_PLACES = 16
HOST_PLACES = 64
#: Bytes of a group that a thread of a GPU holds, at most: half of the registers that 512 threads can have. And how many
#: threads hold a group together.
HELD_BYTES = 256
HOLDING = (32, 64, 128, 256, 512)
#: Chunks at a place that are one thread's, where there is more than one: as many as come.
ALL_CHUNKS = 4096


@dataclass(frozen=True)
class Parts:
    """A launch, and what the kernels and their callers need to know of the parts.

    Attributes
    ----------
    launch
        For the kernels that work on parts.
    run
        Places of a part.
    parts
        Of each group.
    lines
        Of sums over a run of places.
    columns
        Chunks of all channels at one place.
    held
        Whether registers have room for a group: the launch is one of the kernels that hold it.
    """

    launch: _rows.Launch
    run: int
    parts: int
    lines: int
    columns: int
    held: bool

    def weights_launch(self) -> _rows.Launch:
        """For the sum of the lines, in chunks of the same size."""
        same = dict(self.launch.template)
        launch = _rows.column_launch(self.columns * same["N"], same["N"])
        template = dict(launch.template) | {"PACKED": same["PACKED"]}
        return replace(launch, template=tuple(template.items()))


def is_divided(x: mx.array, groups: int) -> bool:
    """Whether the groups of ``x``, of shape (batch, places, channels), have several parts."""
    values = x.shape[1] * x.shape[2] // groups
    many = _rows.current_target()[0].cooperates and x.shape[0] * groups >= MANY_GROUPS
    return values > (DIVIDED_OF_MANY if many else DIVIDED)


def parts_launch(x: mx.array, groups: int, *, divided: bool = True, gradient: bool = False) -> Parts:
    """For ``x`` of shape (batch, places, channels). Without ``divided`` a group is one part, which threads may hold;
    for the ``gradient`` they may hold that of the cotangent as well."""
    target, forced = _rows.current_target()
    batch, places, channels = x.shape
    width = channels // groups
    chunk = target.chunk(width, x.dtype.size)
    if target.cooperates:  # chunks of which none ends early, and each is where an access of its size may be
        chunk = math.gcd(chunk, width)
    chunks, held = _rows.ceil(width, chunk), 0
    if not target.cooperates:
        across, down, span = 1, 1, ALL_CHUNKS
        run = max(HOST_PLACES, _rows.ceil(places * batch * groups, HOST_PARTS)) if divided else places
    elif divided:
        most = forced.width if forced else PART_THREADS
        across, span = min(_rows.power_of_two(chunks), most), 1
        threads = batch * groups * _rows.ceil(chunks, across) * across
        each = max(LEAST_PLACES, _rows.ceil(places * threads, ALL_THREADS))
        down = min(most // across, max(_rows.power_of_two(_rows.ceil(places, each)), 2 // across))
        run = each * down
    else:
        nbytes = max(chunk * x.dtype.size, 4) * (2 if gradient else 1)  # a chunk has a register of its own
        threads = forced.width if forced else _width(places, chunks, nbytes)
        across = min(_rows.power_of_two(chunks), threads)
        down, span, run = threads // across, 1 if chunks <= across else ALL_CHUNKS, places
        held = _held(places, chunks, nbytes, threads)
    run = _rows.ceil(places, _rows.ceil(places, run))
    runs, pieces = _rows.ceil(places, run), _rows.ceil(chunks, across * span)
    packed = target.packed and chunk > 1
    template = {"N": chunk, "PACKED": packed, "W": across * down, "A": across, "S": span}
    if held:
        template["K"] = held
    launch = _rows.teams_launch(batch * groups * runs * pieces, across * down, tuple(template.items()))
    return Parts(launch, run, runs * pieces, batch * runs, groups * chunks, bool(held))


def _width(places: int, chunks: int, nbytes: int) -> int:
    """How many threads share a group: as few as hold it, which then have much under way (measured on an H100: of 8192
    and 32768 values 256 threads take 0.56 to 0.97 of the time of 512, where both hold them)."""
    holding = (width for width in HOLDING if _held(places, chunks, nbytes, width))
    return _rows.row_width(places * chunks) if places * chunks <= HOLDING[0] else next(holding, _rows.WIDEST)


def _held(places: int, chunks: int, nbytes: int, width: int) -> int:
    """How many of the ``chunks`` at all ``places`` each of so many threads holds; 0 where these are too many.
    ``nbytes``: of a chunk, in all arrays."""
    across = _rows.power_of_two(chunks)
    held = _rows.power_of_two(_rows.ceil(places * across, width))
    return held if across <= width and held * nbytes <= HELD_BYTES else 0
