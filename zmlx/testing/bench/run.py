"""``python -m zmlx bench``: how fast the kernels are, against MLX's own operations and the memory's bandwidth.

Everything that is compared takes turns in one process (`zmlx.testing.bench.timing`). Numbers are for reading: nothing
fails for being slow, only for raising or for computing something else than it should.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zmlx import _compat
from zmlx.testing.bench.bandwidth import WAYS
from zmlx.testing.bench.engine import ENGINE, EngineCase
from zmlx.testing.bench.measurement import (
    PLANS,
    Measurement,
    Plan,
    Versus,
    WrongResultError,
    launched_path,
    mlx_stopwatch,
    quick,
)
from zmlx.testing.bench.rivals import bench_sample, list_rivals
from zmlx.testing.bench.timing import race
from zmlx.testing.environment import describe_environment
from zmlx.testing.golden.catalogue import working_on
from zmlx.testing.golden.comparison import Progress
from zmlx.testing.opinfo import OpInfo, SampleInput
from zmlx.testing.selection import matches, resolve
from zmlx.testing.tolerance import as_float64, compare

#: Rows of a result that are compared with the oracle, spread over all of it.
CHECKED_ROWS = 16

#: How far a rival's results may be from the oracle's, root mean square over root mean square. MLX may round more
#: often than the kernels do, down to sums in bfloat16: this is enough to tell that it computes the same thing.
SAME_FORMULA = 0.05


class BenchError(ValueError):
    """The selection makes no sense: no such benchmark or dtype. The message lists what there is."""


@dataclass(frozen=True)
class Benchmark:
    """What `bench` measured, on which plan and where."""

    backend: str
    environment: Mapping[str, str]
    plan: Plan
    measurements: tuple[Measurement, ...]

    @property
    def failures(self) -> tuple[Measurement, ...]:
        """What raised, or computed something else than it should."""
        return tuple(m for m in self.measurements if m.failure)

    @property
    def exit_code(self) -> int:
        """0 if something was measured and nothing failed, else 1."""
        return 0 if self.measurements and not self.failures else 1


@dataclass(frozen=True)
class _Case:
    """One step of a run: `name` is for people, ``measure(backend, plan)`` yields its lines."""

    name: str
    dtype: str
    measure: Callable[[str, Plan], Iterator[Measurement]]


def select(
    ops: Iterable[OpInfo],
    engine: Iterable[EngineCase],
    backend: str,
    kernel: str = "*",
    dtype: str | None = None,
) -> list[_Case]:
    """The benchmarks that a selection means: catalogue kernels that have rivals, then the engine's.

    Parameters
    ----------
    ops, engine
        What there is.
    backend : str
        "metal", "cuda" or "cpu".
    kernel : str
        A shell pattern for the name, with or without its family: "swiglu", "norms.*", "engine.*".
    dtype : str, optional
        One dtype instead of all. The engine's benchmarks are in float32.

    Raises
    ------
    BenchError
        Nothing matches; the message lists what there is.
    """
    every: list[_Case] = []
    for op in ops:
        if op.rivals is not None:
            every += [_Case(op.name, of, _kernel_case(op, of)) for of in op.dtypes_on(backend)]
    every += [_Case(case.name, "float32", case.measure) for case in engine]
    named = [case for case in every if matches(case.name, kernel)]
    if not named:
        known = ", ".join(dict.fromkeys(case.name for case in every))
        raise BenchError(f"No benchmark matches {kernel!r}. Known: {known}.")
    found = [case for case in named if dtype in (None, case.dtype)]
    if not found:
        known = ", ".join(dict.fromkeys(case.dtype for case in named))
        raise BenchError(
            f"No benchmark that matches {kernel!r} has dtype {dtype!r} on {backend}; they have {known}."
        )
    return found


def _kernel_case(op: OpInfo, dtype: str) -> Callable[[str, Plan], Iterator[Measurement]]:
    return lambda backend, plan: iter([measure_kernel(op, dtype, backend, plan)])


def measure_kernel(op: OpInfo, dtype: str, backend: str, plan: Plan) -> Measurement:
    """Check one kernel in one dtype and time it against its rivals and the copy of as many bytes.

    Raises
    ------
    WrongResultError
        The kernel is not within its tolerance of the oracle, a rival computes something else, or no kernel ran.
    """
    assert op.rivals is not None
    assert op.bytes_moved is not None
    mx = _compat.import_mx()
    name = f"{op.name}/{dtype}"
    arguments = _arguments(op.rivals.shapes(plan.rows, plan.columns), dtype)
    moved = op.bytes_moved(bench_sample(op.rivals, plan.rows, plan.columns), dtype)
    rivals = list_rivals(op.rivals, mx, dtype)
    calls: dict[str, Callable[..., Any]] = {"ours": op.op, **{rival.name: rival.call for rival in rivals}}
    path = launched_path(lambda: op.op(*arguments), backend, name)
    _check(op, dtype, arguments, calls)
    batch, read = plan.batch(moved), sum(a.nbytes for a in arguments)
    inputs = [arguments, *([a + 0 for a in arguments] for _ in range(plan.copies(read) - 1))]
    mx.eval(inputs)
    stopwatches = {
        which: mlx_stopwatch(_in_turn(call, inputs), batch, plan.lazy) for which, call in calls.items()
    }
    half = math.ceil(moved / 2)  # a copy reads as many bytes as it writes
    with contextlib.ExitStack() as stack:
        copies = {
            f"copy {which}": stack.enter_context(way(half, plan.copies(half), batch))
            for which, way in WAYS[backend].items()
        }
        timings = race({**stopwatches, **copies}, plan.rounds, plan.seconds)
    own = timings["ours"]
    versus = tuple(
        Versus(r.column, r.name, timings[r.name], timings[r.name].times_slower_than(own)) for r in rivals
    )
    copy = min((timings[which] for which in copies), key=lambda timing: timing.median)
    return Measurement(op.name, dtype, path, own, moved, "GB/s", copy.times_slower_than(own), versus)


def _arguments(shapes: Iterable[tuple[int, ...]], dtype: str) -> list[Any]:
    """Random arrays, made on the device: the masters of a `SampleInput` would take gigabytes here."""
    mx = _compat.import_mx()
    mx.random.seed(0)
    arrays = [mx.random.normal(shape, getattr(mx, dtype)) for shape in shapes]
    mx.eval(arrays)
    return arrays


def _in_turn(call: Callable[..., Any], inputs: list[list[Any]]) -> Callable[[], Any]:
    """`call` without arguments: each time on the next of the inputs."""
    ring = itertools.cycle(inputs)
    return lambda: call(*next(ring))


def _some(array: Any, rows: int) -> Any:
    """`CHECKED_ROWS` of the rows of an array, from all over it, as an array of its own."""
    return _compat.import_mx().contiguous(array[:: max(1, rows // CHECKED_ROWS)])


def _check(op: OpInfo, dtype: str, arguments: list[Any], calls: Mapping[str, Callable[..., Any]]) -> None:
    """WrongResultError unless some rows of the results are what the oracle says, "ours" within its tolerance."""
    rows = arguments[0].shape[0]
    picked = [as_float64(_some(a, rows)) if a.ndim > 1 else as_float64(a) for a in arguments]
    (truth,) = op.expected(SampleInput("bench", tuple(picked)))
    name = f"{op.name}/{dtype}"
    for which, call in calls.items():
        result = _some(call(*arguments), rows)
        if which == "ours":
            verdict = compare(result, truth, op.out_dtype(dtype), op.tolerance(dtype), name=name)
            if not verdict.ok:
                more = f"`python -m zmlx verify --kernel {op.name} --dtype {dtype}` tells more."
                raise WrongResultError(f"{verdict.message}\n  {more}")
            continue
        got = as_float64(result)
        if got.shape != np.shape(truth):
            raise WrongResultError(f"{name}: {which} should give shape {np.shape(truth)}, got {got.shape}.")
        error = float(np.sqrt(np.mean((got - truth) ** 2) / np.mean(np.square(truth))))
        if not error <= SAME_FORMULA:
            raise WrongResultError(
                f"{name}: {which} differs from the oracle by {error:.2g} of the root mean square; at most "
                f"{SAME_FORMULA:g} was expected. Does op_db give the kernel a rival that computes something else?"
            )


def bench(
    backend: str | None = None,
    kernel: str = "*",
    dtype: str | None = None,
    *,
    small: bool = False,
    ops: Iterable[OpInfo] | None = None,
    engine: Iterable[EngineCase] = ENGINE,
    progress: Progress | None = None,
) -> Benchmark:
    """Measure on one back end of this machine.

    Parameters
    ----------
    backend : str, optional
        "metal", "cuda" or "cpu"; that of :func:`zmlx._compat.detect_backend` unless given.
    kernel, dtype : str
        See `select`.
    small : bool
        On small arrays and in few rounds, to see whether everything runs.
    ops, engine : iterable
        Instead of op_db and `ENGINE`.
    progress : callable, optional
        Called as ``progress(done, total, case)`` before each case.

    Raises
    ------
    ImportError
        MLX does not import.
    zmlx._compat.BackendUnavailableError
        The back end is not available here.
    BenchError
        Nothing matches `kernel` and `dtype`.
    """
    mx = _compat.import_mx()
    name, ops = resolve(backend, ops)
    cases = select(ops, engine, name, kernel, dtype)
    plan = quick(PLANS[name]) if small else PLANS[name]
    lines: list[Measurement] = []
    with working_on(name):
        environment = describe_environment(name)
        if name == "cpu":
            from zmlx.launch.host import num_threads

            environment["threads"] = str(num_threads())
        for done, case in enumerate(cases):
            if progress is not None:
                progress(done, len(cases), f"{case.name}/{case.dtype}")
            try:
                for line in case.measure(name, plan):
                    lines.append(line)
            except WrongResultError as error:
                lines.append(Measurement(case.name, case.dtype, failure=str(error)))
            except Exception as error:  # noqa: BLE001 - a case that raises has failed; the others run
                failure = f"{case.name}/{case.dtype}: {type(error).__name__}: {error}"
                lines.append(Measurement(case.name, case.dtype, failure=failure))
            mx.clear_cache()  # what one case leaves behind is not the next one's memory
    return Benchmark(name, environment, plan, tuple(lines))
