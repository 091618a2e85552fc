"""``python -m zmlx bench``: how fast the kernels are, against MLX's own operations and the memory's bandwidth.

Everything that is compared takes turns in one process (`zmlx.testing.bench.timing`). Numbers are for reading: nothing
fails for being slow, only for raising or for computing something else than it should.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from zmlx import _compat
from zmlx.testing.bench.contest import BACKWARD, FORWARD, measure_gradient, measure_kernel
from zmlx.testing.bench.engine import ENGINE, EngineCase
from zmlx.testing.bench.measurement import PLANS, Measurement, Plan, WrongResultError, quick
from zmlx.testing.bench.peers import peer_notes
from zmlx.testing.environment import describe_environment
from zmlx.testing.golden.catalogue import working_on
from zmlx.testing.golden.comparison import Progress
from zmlx.testing.opinfo import OpInfo
from zmlx.testing.selection import matches, resolve


class BenchError(ValueError):
    """The selection makes no sense: no such benchmark or dtype. The message lists what there is."""


@dataclass(frozen=True)
class Benchmark:
    """What `bench` measured, on which plan and where; `kernel` and `dtype` are what was selected,
    `peers` has a line on each of those that could not be timed, `missing` says how many of the selected benchmarks
    have not been reached."""

    backend: str
    environment: Mapping[str, str]
    plan: Plan
    measurements: tuple[Measurement, ...]
    kernel: str = "*"
    dtype: str | None = None
    peers: tuple[str, ...] = ()
    missing: int = 0

    @property
    def failures(self) -> tuple[Measurement, ...]:
        """What raised, or computed something else than it should."""
        return tuple(m for m in self.measurements if m.failure)

    @property
    def exit_code(self) -> int:
        """0 if all was measured and nothing failed, else 1."""
        return 0 if self.measurements and not self.failures and not self.missing else 1


@dataclass(frozen=True)
class _Case:
    """One step of a run: `name` is for people, ``measure(backend, plan)`` yields its lines."""

    name: str
    dtype: str
    measure: Callable[[str, Plan], Iterator[Measurement]]
    direction: str = ""


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
            for of in op.dtypes_on(backend):
                every += _kernel_cases(op, of)
    every += [_Case(case.name, "float32", case.measure) for case in engine]
    named = [case for case in every if matches(case.name, kernel)]
    if not named:
        known = ", ".join(dict.fromkeys(case.name for case in every))
        without = [op.name for op in ops if op.rivals is None and matches(op.name, kernel)]
        advice = f" {', '.join(without)} has none: give its OpInfo `rivals`." if without else ""
        raise BenchError(f"No benchmark matches {kernel!r}.{advice} Known: {known}.")
    found = [case for case in named if dtype in (None, case.dtype)]
    if not found:
        known = ", ".join(dict.fromkeys(case.dtype for case in named))
        raise BenchError(
            f"No benchmark that matches {kernel!r} has dtype {dtype!r} on {backend}; they have {known}."
        )
    return found


def _kernel_cases(op: OpInfo, dtype: str) -> list[_Case]:
    """Forward, and backward where the entry names kernels for it: a gradient without is MLX's."""
    directions = {
        FORWARD: measure_kernel,
        **({BACKWARD: measure_gradient} if op.grad_kernels and op.differentiable else {}),
    }

    def case(direction: str, measure: Callable[[OpInfo, str, str, Plan], Measurement]) -> _Case:
        return _Case(
            op.name, dtype, lambda backend, plan: iter([measure(op, dtype, backend, plan)]), direction
        )

    return [case(direction, measure) for direction, measure in directions.items()]


def bench(
    backend: str | None = None,
    kernel: str = "*",
    dtype: str | None = None,
    *,
    small: bool = False,
    seconds: float | None = None,
    ops: Iterable[OpInfo] | None = None,
    engine: Iterable[EngineCase] = ENGINE,
    progress: Progress | None = None,
    keep: Callable[[Benchmark], object] | None = None,
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
    seconds : float, optional
        For the rounds of each benchmark, at least, instead of the plan's: more of them leave less noise.
    ops, engine : iterable
        Instead of op_db and `ENGINE`.
    progress : callable, optional
        Called as ``progress(done, total, case)`` before each case.
    keep : callable, optional
        Called after each case with all that was measured so far: a run takes long, and may be stopped.

    Raises
    ------
    ImportError
        MLX does not import.
    zmlx._compat.BackendUnavailableError
        The back end is not available here.
    BenchError
        Nothing matches `kernel` and `dtype`, or `seconds` is negative.
    """
    if seconds is not None and not seconds >= 0:
        raise BenchError(f"--seconds: expected 0 or more, got {seconds:g}.")
    mx = _compat.import_mx()
    name, ops = resolve(backend, ops)
    cases = select(ops, engine, name, kernel, dtype)
    plan = quick(PLANS[name]) if small else PLANS[name]
    if seconds is not None:
        plan = replace(plan, seconds=seconds)
    measured = {case.name for case in cases}
    peers = [peer for op in ops if op.name in measured and op.rivals for peer in op.rivals.peers]
    notes = peer_notes(peers, name)
    lines: list[Measurement] = []
    with working_on(name):
        environment = describe_environment(name)
        if name == "cpu":
            from zmlx.launch.host import num_threads

            environment["threads"] = str(num_threads())
        found = Benchmark(name, environment, plan, (), kernel, dtype, notes, len(cases))
        for done, case in enumerate(cases):
            if progress is not None:
                progress(done, len(cases), f"{case.name}/{case.dtype} {case.direction}".rstrip())
            try:
                for line in case.measure(name, plan):
                    lines.append(line)
            except WrongResultError as error:
                lines.append(Measurement(case.name, case.dtype, failure=str(error), direction=case.direction))
            except Exception as error:  # noqa: BLE001 - a case that raises has failed; the others run
                failure = f"{case.name}/{case.dtype}: {type(error).__name__}: {error}"
                lines.append(Measurement(case.name, case.dtype, failure=failure, direction=case.direction))
            mx.clear_cache()  # what one case leaves behind is not the next one's memory
            found = replace(found, measurements=tuple(lines), missing=len(cases) - done - 1)
            if keep is not None:
                keep(found)
    return found
