"""What a benchmark measures and how long it takes to: plans by back end, and the numbers that come out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from zmlx import _compat
from zmlx.testing.bench.timing import Stopwatch, Timing, marginal


@dataclass(frozen=True)
class Plan:
    """How much to measure on a back end.

    Attributes
    ----------
    rows, columns : int
        Shape of the results of catalogue kernels; sums have one number a row. On the CPU they are no larger than
        what malloc hands out again without asking the system for new pages, which takes longer than the kernels.
    distinct : int
        Bytes of inputs, at least, that launches go through before they read the same ones again: more than the
        caches hold.
    traffic : int
        Bytes that the launches of one timing move together, at least. A GPU is given many launches at once, so
        that what the host does before the first and after the last counts for little.
    lazy : bool
        Whether the clock starts after the launches have been put into MLX's graph. On the CPU zmlx's kernels
        run when they are called, so there it starts before.
    lead : int
        Bytes that a GPU is given to move before the launches of a timing, so that it is busy while MLX takes them in;
        see `mlx_stopwatch`.
    rounds, seconds : int, float
        See `zmlx.testing.bench.timing.race`.
    norm_rows : int
        Rows, of 1024 numbers, of the RMSNorm that measures barriers.
    launches, compiles : int
        Rounds of the launch overhead and of the compile times.
    """

    rows: int
    columns: int
    distinct: int
    traffic: int
    lazy: bool
    lead: int
    rounds: int
    seconds: float
    norm_rows: int
    launches: int
    compiles: int

    def batch(self, moved: int) -> int:
        """How many launches that move so many bytes make one timing."""
        return max(1, math.ceil(self.traffic / moved))

    def copies(self, nbytes: int) -> int:
        """How many arrays, or sets of arrays, of so many bytes launches read in turn."""
        return max(1, math.ceil(self.distinct / nbytes))


PLANS: Mapping[str, Plan] = {
    "cpu": Plan(2048, 2048, 256 << 20, 0, False, 0, 11, 0.5, 256, 300, 3),
    "cuda": Plan(16384, 4096, 2 << 30, 4 << 30, True, 4 << 30, 20, 0.5, 65536, 300, 5),
    "metal": Plan(8192, 4096, 1 << 30, 2 << 30, True, 1 << 30, 20, 0.5, 32768, 300, 5),
}


def quick(plan: Plan) -> Plan:
    """The same, as small as it can be: whether everything runs, not how fast it is."""
    small = replace(plan, rows=256, columns=512, distinct=0, traffic=0, lead=0, norm_rows=256)
    return replace(small, rounds=3, seconds=0.0, launches=20, compiles=1)


@dataclass(frozen=True)
class Versus:
    """Something else that was timed in turn with a kernel.

    Attributes
    ----------
    column : str
        The column of the table in which it stands (`zmlx.testing.bench.rivals`).
    name : str
        What it is called.
    timing : Timing
        Its own.
    ratio : float
        How many times longer than the kernel it took: above 1 the kernel is faster.
    """

    column: str
    name: str
    timing: Timing
    ratio: float


#: What an amount of work is divided by for its rate.
UNITS = {"GB/s": 1e9, "Mel/s": 1e6}


@dataclass(frozen=True)
class Measurement:
    """One line of the table.

    Attributes
    ----------
    name, dtype : str
        What was measured.
    path : str
        The way its launches took, from the launch records, or what else ran.
    timing : Timing or None
        Of one launch; None if it failed.
    work, unit : float, str
        Bytes or elements of a launch, and the unit of the rate that they make (`UNITS`); 0 and "" if none.
    of_copy : float or None
        The copy's time divided by the kernel's, for as many bytes: 1 is all that the memory can do.
    versus : tuple of Versus
        What took turns with it.
    failure : str
        Why there is no timing, or "".
    direction : str
        "forward" or "backward" for a kernel of the table, "" for the engine.
    of_copy_spread : float
        Half of the distance between the quartiles of that ratio over the rounds, as a fraction of it.
    shapes : tuple of tuple of int
        Of the arguments; empty for the engine.
    """

    name: str
    dtype: str = ""
    path: str = ""
    timing: Timing | None = None
    work: float = 0.0
    unit: str = ""
    of_copy: float | None = None
    versus: tuple[Versus, ...] = ()
    failure: str = ""
    direction: str = ""
    of_copy_spread: float = 0.0
    shapes: tuple[tuple[int, ...], ...] = ()

    @property
    def rate(self) -> float | None:
        """Work in a second, in `unit`, of the median launch."""
        if self.timing is None or not self.unit:
            return None
        return self.work / self.timing.median / UNITS[self.unit]

    def best(self, column: str) -> Versus | None:
        """The fastest of those in a column; None if there is none."""
        return min((v for v in self.versus if v.column == column), key=lambda v: v.ratio, default=None)


class WrongResultError(RuntimeError):
    """What was to be timed computes something else; the message says what was expected and what came."""


#: Bytes of the array that a lead is made of: more than the caches hold.
LEAD_BYTES = 256 << 20


def mlx_stopwatch(call: Callable[[], Any], batch: int = 1, lazy: bool = False, lead: int = 0) -> Stopwatch:
    """A stopwatch for a call that returns MLX arrays: the seconds of one call, of `batch` evaluated together.

    Parameters
    ----------
    call : callable
        What is timed.
    batch : int
        How many calls make one timing.
    lazy : bool
        Without the time that the calls themselves take; see `Plan`.
    lead : int
        Bytes, at least, that MLX is given to move immediately before, and then a call's time is `marginal`. A GPU
        begins with the first launches only when MLX has put a good number of them into its graph, and would wait for
        that time in each timing, as it does not in a program that goes on. Needs `lazy`.

    Raises
    ------
    ValueError
        A `lead` without `lazy`: the calls' own time would be hidden behind it.
    """
    if lead and not lazy:
        raise ValueError(f"mlx_stopwatch: expected lazy=True with a lead, got lead={lead} without.")
    mx = _compat.import_mx()
    source = mx.zeros(LEAD_BYTES // 4) if lead else None

    def led() -> Any:
        moved = source
        for _ in range(math.ceil(lead / (2 * LEAD_BYTES))):
            moved = mx.negative(moved)
        return moved

    def run(count: int) -> float:
        mx.synchronize()
        begin = time.perf_counter()
        outputs = [call() for _ in range(count)]
        if lazy:
            begin = time.perf_counter()
        if lead:
            mx.async_eval(led())
        mx.eval(outputs)
        mx.synchronize()
        return time.perf_counter() - begin

    return marginal(run, batch) if lead else lambda: run(batch) / batch


def launched_path(call: Callable[[], Any], backend: str, name: str) -> str:
    """Run a call and say on which path its kernels ran.

    Raises
    ------
    WrongResultError
        None ran on the back end.
    """
    from zmlx.launch import watch

    mx = _compat.import_mx()
    with watch() as launches:
        mx.eval(call())
    ran = [launch.path for launch in launches if launch.backend == backend and launch.path != "reference"]
    if not ran:
        seen = sorted({f"{launch.backend}/{launch.path}" for launch in launches}) or ["no launch"]
        raise WrongResultError(
            f"{name}: no kernel ran on {backend} ({', '.join(seen)}); a fallback took its place. "
            f"`python -m zmlx doctor` says what works here."
        )
    return "+".join(dict.fromkeys(ran))
