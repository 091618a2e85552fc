"""How a launch spreads rows over threads: one table a back end, instead of one kernel a back end.

=========  ======================  ==========================  ===================================
back end   threads to a row        values a thread moves       accesses
=========  ======================  ==========================  ===================================
cpu        1: no thread waits      16 to 64, for registers     left to the compiler's vectoriser
cuda       4 to 512, by length     16 bytes                    one of 16 bytes, where aligned
metal      4 to 512, by length     16 bytes                    left to the Metal compiler
=========  ======================  ==========================  ===================================

`override` makes a launch take the shape that it has on a GPU; that is how the GPU's code paths are tested on a CPU.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import mlx.core as mx

from zmlx.launch import MetalKernel, current_backend
from zmlx.launch.compiler import hastily

Triple = tuple[int, int, int]

_Sizes = ParamSpec("_Sizes")
_Plan = TypeVar("_Plan")

SIMD_WIDTH = 32
PACK_BYTES = 16
MAX_THREADS = 1024
#: Threads of a threadgroup whose rows are short, and of one that works elementwise.
GROUP_THREADS = 128
SPAN_THREADS = 128
#: More threadgroups than this loop over rows, so that grids stay below 2**31 threads.
MAX_GROUPS = 2**20
#: CUDA's limit on blocks along y.
MAX_GROUPS_Y = 65535

#: Rows whose weight gradients a threadgroup adds up at a time: few enough to be found in the cache again.
BLOCK_ROWS = 8
#: Partial sums of weight gradients, at most: enough threadgroups to fill a GPU, few enough to add up quickly.
#: The same on all back ends, which then round alike.
MAX_PARTIALS = 256
#: The same for rows that registers hold: so many threads in all have enough under way to fill the memory's pipes (on an
#: H100), in not too many runs, because each leaves a line of sums.
RUN_THREADS = 2**16
MAX_RUNS = 2048
#: The same for threads that have a chunk of each row, and so less under way: runs of short rows are many.
COLUMN_RUN_THREADS = 2**17
MAX_COLUMN_RUNS = 8192
#: Values of a row that a thread of such a gradient holds, at most; and the number of chunks that is best.
RUN_VALUES = 40
RUN_CHUNKS = 4

#: Chunks that a thread has, at least, of a row that more than a simdgroup shares by `simd_launch`.
WIDE_CHUNKS = 4

#: How a GPU spreads the chunks of a row, by the bytes of a value: (threads that share it, chunks that each of them
#: holds in registers), the first that holds all of it or the last. Several loads under way in a thread are what fills
#: the memory's pipes, and few threads have few barriers to wait at; but more than 32 values in a thread leave a
#: multiprocessor too few registers for threads that could work meanwhile. Few entries, because each is a variant of
#: every kernel that has to be compiled; not 1024 threads, because a kernel that needs many registers gets no
#: threadgroup of that size on Apple's GPUs.
TEAMS = {
    4: ((4, 1), (32, 1), (32, 4), (128, 4), (128, 8), (256, 8), (512, 8)),
    2: ((4, 1), (32, 1), (32, 4), (128, 4), (256, 4), (512, 4)),
}
#: The same for kernels that hold nothing: (the most chunks, threads).
WIDTHS = ((4, 4), (32, 32), (512, 128))
WIDEST = 512
#: Threads of a threadgroup that sums columns on a GPU: along the columns, and of one column.
COLUMNS = 8
COLUMN_WIDTH = 32


@dataclass(frozen=True)
class _Forced:
    """What `override` asks for."""

    width: int
    held: int
    packed: bool
    groups: int | None


_forced: ContextVar[_Forced | None] = ContextVar("zmlx_row_team", default=None)


@dataclass(frozen=True)
class Target:
    """What a back end wants.

    Attributes
    ----------
    cooperates
        Whether threads share a row.
    packed
        Whether a chunk moves in one access, where it is aligned.
    chunks
        Numbers of values in a chunk, by the bytes of a value, from which the row's length chooses; empty: as many as
        fill 16 bytes.
    flat
        The same of an elementwise kernel's array that is one row, whatever its length; 0: as of other rows.
    span
        Chunks that a thread of an elementwise kernel works on, one after the other.
    """

    cooperates: bool
    packed: bool
    chunks: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    flat: int = 0
    span: int = 1

    def chunk(self, length: int, itemsize: int) -> int:
        """The largest chunk that a row of ``length`` values of ``itemsize`` bytes fills, or the smallest one."""
        if not self.chunks:
            return PACK_BYTES // itemsize
        known = self.chunks[min(max(itemsize, min(self.chunks)), max(self.chunks))]
        return max((n for n in known if n <= length), default=known[0])


# On the CPU a chunk is a few vector registers. With 16 values g++ 12 unrolls the loops over a chunk before it
# vectorises them, and gives up on float16 and bfloat16; with 32 or 64 it vectorises all of them (measured, softmax of
# bfloat16 against 16 values: of rows of 24 to 48 in half of the time, of long ones in a third). More would only compute
# on more filling in short rows, and fewer sizes are fewer kernels to compile. Float32 has two: rows of less than 64
# take up to twice as long with 64, long ones' gradients a sixth longer with 16.
TARGETS = {
    "cpu": Target(cooperates=False, packed=False, chunks={2: (32,), 4: (16, 64)}, flat=64, span=16),
    "cuda": Target(cooperates=True, packed=True),
    "metal": Target(cooperates=True, packed=False),
}


@dataclass(frozen=True)
class Launch:
    """Template arguments ``N``, ``PACKED`` and ``W`` (or ``S``), and the shape of the launch."""

    template: tuple[tuple[str, int | bool], ...]
    grid: Triple
    threadgroup: Triple

    def run(
        self,
        kernel: MetalKernel,
        inputs: Sequence[mx.array | float],
        outputs: Sequence[tuple[Sequence[int], mx.Dtype]],
        **others: mx.Dtype | int,
    ) -> list[mx.array]:
        """Call ``kernel`` for ``outputs`` of these shapes and dtypes; ``others`` are template arguments too."""
        return kernel.launch(
            [x if isinstance(x, mx.array) else mx.array(x) for x in inputs],
            [tuple(shape) for shape, _ in outputs],
            [dtype for _, dtype in outputs],
            self.grid,
            self.threadgroup,
            [*others.items(), *self.template],
        )


def _kept(plan: Callable[_Sizes, _Plan]) -> Callable[_Sizes, _Plan]:
    """A planner that remembers its plans: of a back end, sizes and what `override` asks for there is one."""

    @lru_cache(maxsize=4096)
    def made(
        backend: str, forced: _Forced | None, sizes: tuple[Any, ...], options: tuple[tuple[str, Any], ...]
    ) -> _Plan:
        return plan(*sizes, **dict(options))

    @wraps(plan)
    def planner(*sizes: _Sizes.args, **options: _Sizes.kwargs) -> _Plan:
        return made(current_backend(), _forced.get(), sizes, tuple(options.items()))

    return planner


@contextlib.contextmanager
def override(width: int, held: int = 2, *, packed: bool = False, groups: int | None = None) -> Iterator[None]:
    """Launch as on a GPU, with ``width`` threads to a row, whatever back end and row length ask for.

    On the CPU such kernels are compiled hastily: none of them is what anybody runs there.

    Parameters
    ----------
    width
        A power of two up to 1024.
    held
        Chunks of a row that a thread holds in registers.
    packed
        Whether chunks move in one access as on CUDA, also where the back end does not ask for it. Not for Metal; on
        the CPU only for rows whose length is a multiple of a chunk's: g++ may take all of them for aligned.
    groups
        The most threadgroups along an axis, instead of the back ends' limits: more rows than they reach are looped
        over, as rows by the million are.

    Raises
    ------
    ValueError
        ``width`` is not such a number.
    """
    if width not in (1 << bit for bit in range(11)):
        raise ValueError(f"Expected `width` to be a power of two from 1 to {MAX_THREADS}, got {width!r}.")
    token = _forced.set(_Forced(width, held, packed, groups))
    try:
        with hastily():
            yield
    finally:
        _forced.reset(token)


def as_rows(x: mx.array) -> mx.array:
    """``x`` as (rows, length of the last axis)."""
    return x.reshape(x.size // x.shape[-1], x.shape[-1])


@_kept
def row_launch(rows: int, length: int, itemsize: int, *, arrays: int = 1) -> Launch:
    """For kernels that reduce rows and hold those of so many ``arrays`` in registers; ``K`` chunks of each."""
    target, forced = current_target()
    chunk = target.chunk(length, itemsize)
    if forced:
        width, held = forced.width, forced.held
    else:
        width, held = _team(ceil(length, chunk), itemsize, arrays) if target.cooperates else (1, 0)
    return teams_launch(rows, width, _holding(chunk, held, target, width, length))


def run_rows(
    kernel: MetalKernel,
    arrays: Sequence[mx.array],
    *others: mx.array | float,
    reduces: bool = False,
    **template: mx.Dtype,
) -> mx.array:
    """One launch of a kernel that reduces rows.

    Parameters
    ----------
    kernel
        Takes ``arrays`` as (rows, length), then ``others``, and gives one output.
    arrays
        All of one shape, (..., length), with at least one element; the first tells the output's dtype and ``T``.
    others
        Weights and numbers.
    reduces
        The output has one number for each row, and is of shape (...); otherwise it has the shape of ``arrays``.
    template
        More template arguments, by name.
    """
    x = arrays[0]
    rows = [as_rows(array) for array in arrays]
    count, length = rows[0].shape
    launch = row_launch(count, length, x.dtype.size, arrays=len(rows))
    shape = (count,) if reduces else (count, length)
    (out,) = launch.run(kernel, [*rows, *others], [(shape, x.dtype)], T=x.dtype, **template)
    return out.reshape(x.shape[:-1] if reduces else x.shape)


@_kept
def run_launch(rows: int, length: int, itemsize: int) -> Launch | None:
    """For kernels that also add up over rows, and hold a row: one threadgroup for each of `partials` runs.

    ``K`` chunks of a row are a thread's. None where threads do not share rows, or a row is longer than they hold.
    """
    target, forced = current_target()
    chunk = target.chunk(length, itemsize)
    if not target.cooperates:
        return None
    chunks = ceil(length, chunk)
    if forced:
        width, held = max(forced.width, SIMD_WIDTH), forced.held
    else:
        width, held = _run_team(chunks, RUN_VALUES // chunk)
    if (forced and forced.width == 1) or width * held < chunks or not held:
        return None
    template = _holding(chunk, held, target, width, length)
    return _of_teams(partials(rows, length, itemsize), width, template)


@_kept
def sums_launch(rows: int, length: int, itemsize: int, *, arrays: int = 2) -> Launch:
    """For kernels that also add up over rows of so many ``arrays``, and take rows of any length: `K` chunks are a
    thread's, the rest is read again. One threadgroup for each of `partials` runs."""
    target, forced = current_target()
    chunk = target.chunk(length, itemsize)
    width, held = 1, 0
    if forced:
        width, held = (max(forced.width, SIMD_WIDTH) if forced.width > 1 else 1), forced.held
    elif target.cooperates:
        width, held = _run_team(ceil(length, chunk), max(RUN_VALUES * 2 // (chunk * arrays), 1))
    template = _holding(chunk, held, target, width, length)
    return _of_teams(partials(rows, length, itemsize), width, template)


def _run_team(chunks: int, most: int) -> tuple[int, int]:
    """(threads of a row, chunks that each of them holds, up to ``most``): all of them whole, if possible."""
    widths = [1 << bit for bit in range(SIMD_WIDTH.bit_length() - 1, WIDEST.bit_length())]
    even = [(width, chunks // width) for width in widths if chunks % width == 0 and chunks // width <= most]
    if even:
        return min(even, key=lambda team: abs(math.log2(team[1] / RUN_CHUNKS)))
    width = next((width for width in widths if width * min(RUN_CHUNKS, most) >= chunks), WIDEST)
    return width, ceil(chunks, width) if ceil(chunks, width) <= most else 0


@_kept
def block_launch(rows: int, length: int, itemsize: int) -> Launch:
    """As `run_launch`, for rows of any length: one row at a time, and blocks of rows that are read again."""
    target, forced = current_target()
    chunk = target.chunk(length, itemsize)
    width = forced.width if forced else row_width(ceil(length, chunk)) if target.cooperates else 1
    width = max(width, SIMD_WIDTH) if width > 1 else 1
    template = (("N", chunk), ("PACKED", target.packed), ("W", width), ("BLOCK", BLOCK_ROWS))
    return _of_teams(partials(rows, length, itemsize), width, template)


@_kept
def simd_launch(
    rows: int,
    length: int,
    itemsize: int,
    *,
    groups: int = MAX_GROUPS,
    host_chunk: int = 0,
    widest: int = SIMD_WIDTH,
) -> Launch:
    """For kernels in which no more threads share a row than have a chunk of ``length`` values, up to a simdgroup.

    ``groups``: the most threadgroups, which then loop over rows. ``host_chunk``: as for `span_launch`. ``widest``: the
    most threads of a row that is so long that each of them has `WIDE_CHUNKS` chunks, about.
    """
    target, forced = current_target(host_chunk)
    chunk = target.chunk(length, itemsize)
    width = 1
    if forced:
        width = min(forced.width, widest)
    elif target.cooperates:
        chunks = ceil(length, chunk)
        most = min(max(power_of_two(chunks // WIDE_CHUNKS), SIMD_WIDTH), widest)
        width = min(max(power_of_two(chunks), 4), most)
    return teams_launch(rows, width, (("N", chunk), ("PACKED", target.packed), ("W", width)), groups)


def partials(rows: int, length: int, itemsize: int) -> int:
    """Into how many runs, of equal length but for the last, a sum over ``rows`` is cut. None of them is empty."""
    chunk = PACK_BYTES // itemsize
    width, held = _run_team(ceil(length, chunk), RUN_VALUES // chunk)
    return _runs(rows, min(RUN_THREADS // width, MAX_RUNS) if held else MAX_PARTIALS)


def column_runs(rows: int, length: int, itemsize: int) -> int:
    """The same for kernels whose threads have a chunk of each row of a run."""
    return _runs(
        rows, max(1, min(COLUMN_RUN_THREADS // ceil(length, PACK_BYTES // itemsize), MAX_COLUMN_RUNS))
    )


def _runs(rows: int, most: int) -> int:
    run = ceil(rows, min(most, ceil(rows, BLOCK_ROWS)))
    return ceil(rows, run)


@_kept
def column_launch(columns: int, chunk: int = 0) -> Launch:
    """For the sum of float32 columns; ``W`` threads share a ``chunk`` of them and meet in threadgroup memory."""
    target, _ = current_target()
    chunk = chunk or target.chunk(columns, 4)
    across, down = (COLUMNS, COLUMN_WIDTH) if target.cooperates else (1, 1)
    template = (("N", chunk), ("PACKED", target.packed), ("W", down), ("C", across))
    return Launch(template, (ceil(ceil(columns, chunk), across) * across, down, 1), (across, down, 1))


@_kept
def span_launch(rows: int, length: int, itemsize: int, *, host_chunk: int = 0) -> Launch:
    """For elementwise kernels on rows: threads along x share a row, threads along y take rows.

    ``host_chunk``: the values of a chunk where threads do not share rows, whatever the length.
    """
    target, forced = current_target(host_chunk)
    chunk = target.flat if target.flat and rows == 1 else target.chunk(length, itemsize)
    threads = ceil(length, chunk * target.span)
    across = min(forced.width if forced else SPAN_THREADS, power_of_two(threads))
    down = min(SPAN_THREADS // across or 1, power_of_two(rows))
    template = (("N", chunk), ("PACKED", target.packed), ("S", target.span))
    most = (forced and forced.groups) or MAX_GROUPS_Y
    return Launch(template, (threads, min(rows, most * down), 1), (across, down, 1))


@_kept
def run_span_launch(rows: int, length: int, itemsize: int) -> Launch:
    """As `span_launch`, for kernels that also add up over rows: a thread has a chunk of each row of a run, and there is
    a thread along y for each of `column_runs` runs."""
    target, forced = current_target()
    chunk = target.chunk(length, itemsize)
    threads, runs = ceil(length, chunk), column_runs(rows, length, itemsize)
    across = min(forced.width if forced else SPAN_THREADS, power_of_two(threads))
    down = min(SPAN_THREADS // across or 1, power_of_two(runs))
    template = (("N", chunk), ("PACKED", target.packed), ("S", 1))
    return Launch(template, (threads, runs, 1), (across, down, 1))


def current_target(host_chunk: int = 0) -> tuple[Target, _Forced | None]:
    """The entry for this launch's back end, and what `override` asks for."""
    target, forced = TARGETS[current_backend()], _forced.get()
    if host_chunk and target.chunks:
        target = replace(target, chunks=dict.fromkeys(target.chunks, (host_chunk,)), flat=host_chunk)
    if forced is not None:
        target = Target(cooperates=True, packed=target.packed or forced.packed)
    return target, forced


def _holding(
    chunk: int, held: int, target: Target, width: int, length: int
) -> tuple[tuple[str, int | bool], ...]:
    """``WHOLE``: what threads hold is a row, and no value of it is a filling."""
    whole = chunk * held * width == length
    return ("N", chunk), ("K", held), ("PACKED", target.packed), ("W", width), ("WHOLE", whole)


def teams_launch(
    teams: int, width: int, template: tuple[tuple[str, int | bool], ...], groups: int = MAX_GROUPS
) -> Launch:
    """For ``teams`` of ``width`` threads: those within a simdgroup share a threadgroup. There are ``groups``
    threadgroups at most, which then loop over teams."""
    forced = _forced.get()
    together = GROUP_THREADS // width if 1 < width <= SIMD_WIDTH else 1
    most = min((forced and forced.groups) or MAX_GROUPS, groups)
    return _of_teams(min(ceil(teams, together), most), width * together, template)


def _of_teams(groups: int, threads: int, template: tuple[tuple[str, int | bool], ...]) -> Launch:
    return Launch(template, (groups * threads, 1, 1), (threads, 1, 1))


def _team(chunks: int, itemsize: int, arrays: int) -> tuple[int, int]:
    """The entry of `TEAMS` for rows of so many chunks; ``arrays`` share what a thread holds. Of values of 16 bits that
    is two chunks at least: threads with one would meet too often for what they have to do between."""
    teams = [(width, max(held // arrays, min(held, 4 // itemsize))) for width, held in TEAMS[itemsize]]
    return next((team for team in teams if math.prod(team) >= chunks), teams[-1])


def row_width(chunks: int) -> int:
    return next((width for most, width in WIDTHS if chunks <= most), WIDEST)


def power_of_two(value: int) -> int:
    """The smallest power of two that is not less than ``value``."""
    return 1 << max(value - 1, 0).bit_length()


def ceil(value: int, divisor: int) -> int:
    return -(-value // divisor)
