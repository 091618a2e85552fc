"""``python -m zmlx verify``: every operation of op_db, forward and gradient, against its oracle.

The same samples and tolerances as the test suite's, without pytest and without a checkout: what a user runs
to see whether zmlx computes the right numbers on the machine at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from zmlx.testing.changes import reorder_threads, repeat_runs
from zmlx.testing.environment import describe_environment
from zmlx.testing.golden.catalogue import working_on
from zmlx.testing.golden.comparison import Progress
from zmlx.testing.gradients import run_gradients
from zmlx.testing.launches import not_launched
from zmlx.testing.opinfo import OpInfo, SampleInput, case_name, part_name
from zmlx.testing.project import Project
from zmlx.testing.selection import matches, resolve
from zmlx.testing.tf32 import DTYPE, compare_tf32
from zmlx.testing.tolerance import Agreement, compare, dtype_name
from zmlx.testing.verification import Change, Failure, Row, Verification

__all__ = ["Change", "Failure", "Row", "Verification", "VerifyError", "select", "verify"]


class VerifyError(ValueError):
    """The selection makes no sense: no such operation or dtype. The message lists what there is."""


class _Tally:
    """The error of several arrays together, and what was wrong with them."""

    def __init__(self) -> None:
        self.max_ulp = 0.0
        self._squares = 0.0
        self._count = 0

    def add(self, verdict: Agreement) -> None:
        stats = verdict.stats
        if stats is not None and stats.count:
            max_ulp, rms = stats.typical
            self.max_ulp = max(self.max_ulp, max_ulp)
            self._squares += rms**2 * stats.count
            self._count += stats.count

    @property
    def figures(self) -> tuple[float, float]:
        return self.max_ulp, math.sqrt(self._squares / self._count) if self._count else 0.0


def select(
    ops: Iterable[OpInfo], backend: str, kernel: str = "*", dtype: str | None = None
) -> list[tuple[OpInfo, str]]:
    """The (operation, dtype) pairs that a selection means on a back end.

    Parameters
    ----------
    ops : iterable of OpInfo
        From op_db.
    backend : str
        "metal", "cuda" or "cpu".
    kernel : str
        A shell pattern for the name, with or without its family: "swiglu", "norms.*", "*norm".
    dtype : str, optional
        One dtype instead of all that an operation supports.

    Raises
    ------
    VerifyError
        Nothing matches; the message lists what there is.
    """
    every = list(ops)
    named = [op for op in every if matches(op.name, kernel)]
    if not named:
        raise VerifyError(f"No operation matches {kernel!r}. Known: {', '.join(op.name for op in every)}.")
    pairs = [(op, name) for op in named for name in op.dtypes_on(backend) if dtype in (None, name)]
    if not pairs:
        known = list(dict.fromkeys(name for op in named for name in op.dtypes_on(backend)))
        wanted = f"dtype {dtype!r}" if dtype else "any dtype"
        there = f"they support {', '.join(known)}" if known else "they support none there"
        raise VerifyError(f"No operation that matches {kernel!r} supports {wanted} on {backend}; {there}.")
    return pairs


def _forward(op: OpInfo, sample: SampleInput, dtype: str, backend: str) -> list[Agreement]:
    """One verdict for each output; a kernel that did not launch on the back end is a wrong result."""
    from zmlx.launch import watch

    case = case_name(op, dtype, sample)
    truths = op.expected(sample)
    with watch() as launches:
        outputs = op.run(sample, dtype)
    ran = any(launch.backend == backend and launch.path != "reference" for launch in launches)
    # Over an empty array there is nothing to launch for, even if the result has elements: sums of nothing.
    something = all(np.size(value) for value in (*sample.args, *truths))
    if op.kernel and not ran and something:
        return [Agreement(False, None, f"{case}: no kernel ran on {backend}; a fallback took its place.")]
    absent = not_launched(op.kernels, launches, backend) if something else []
    if absent:
        return [Agreement(False, None, f"{case}: {', '.join(absent)} was not launched on {backend}.")]
    if len(outputs) != len(truths):
        return [Agreement(False, None, f"{case}: {len(outputs)} outputs, the oracle has {len(truths)}.")]
    return [
        compare(
            output,
            truth,
            dtype_name(output),
            op.tolerance(dtype, result=i),
            name=f"{case}{part_name(i, len(truths))}",
        )
        for i, (output, truth) in enumerate(zip(outputs, truths, strict=True))
    ]


def _gradient(op: OpInfo, sample: SampleInput, dtype: str, backend: str) -> list[Agreement]:
    """One verdict for each differentiable argument."""
    case = case_name(op, dtype, sample)
    ran = run_gradients(op, sample, dtype, backend)
    if ran.absent:
        return [Agreement(False, None, f"{case}: {', '.join(ran.absent)} was not launched for the gradient.")]
    return [
        compare(
            gradient.value,
            gradient.truth,
            dtype_name(gradient.value),
            op.tolerance(dtype, grad=True),
            name=f"{case}, gradient of argument {gradient.position}",
        )
        for gradient in ran.each
    ]


@dataclass(frozen=True)
class _Asked:
    """What else each row is asked: how many runs, whether in other orders of threads, and TF32 for whose project."""

    runs: int = 1
    orders: bool = False
    project: Project | None = None


#: What runs are called, by the changes that an entry's `deterministic` says nothing of.
_PROMISED = {"repeats": "runs", "orders": "orders"}


def _changes(
    op: OpInfo, dtype: str, backend: str, asked: _Asked
) -> tuple[dict[str, Change], tuple[Failure, ...]]:
    """By attribute of a row, and what is wrong with them."""
    samples = [sample.cast(dtype) for sample in op.sample_inputs()]
    steps: dict[str, Callable[[], Change]] = {}
    if asked.runs > 1:
        steps["repeats"] = lambda: repeat_runs(op, samples, dtype, asked.runs)
    if asked.orders and op.kernel:
        steps["orders"] = lambda: reorder_threads(op, samples, dtype)
    project = asked.project
    if project is not None and op.multiplies_matrices and dtype == DTYPE:
        steps["tf32"] = lambda: compare_tf32(op, backend, project.root, project.tables)
    found: dict[str, Change] = {}
    failures = []
    for name, step in steps.items():
        message = ""
        try:
            found[name] = step()
        except Exception as error:  # noqa: BLE001 - a step that raises has failed; the others run
            message = f"{type(error).__name__}: {error}"
        else:
            if found[name].differing and name in _PROMISED and op.kernel and op.deterministic:
                message = (
                    f"expected the same bits, as `deterministic` says, got {found[name].text(_PROMISED[name])}. Where "
                    "sums are meant to depend on the order of threads, write deterministic=False."
                )
        if message:
            failures.append(Failure(f"{op.name}/{dtype}/all", name, f"{op.name}/{dtype}: {message}"))
    return found, tuple(failures)


def _verify_row(
    op: OpInfo, dtype: str, backend: str, begin: Callable[[str], None], asked: _Asked = _Asked()
) -> Row:
    tallies = {"forward": _Tally(), "gradient": _Tally()}
    failures: list[Failure] = []
    samples = op.sample_inputs()
    for sample in samples:
        rounded, case = sample.cast(dtype), case_name(op, dtype, sample)
        begin(case)
        steps: dict[str, Callable[[], list[Agreement]]]
        steps = {"forward": lambda rounded=rounded: _forward(op, rounded, dtype, backend)}  # type: ignore[misc]
        if op.differentiable:
            steps["gradient"] = lambda rounded=rounded: _gradient(op, rounded, dtype, backend)  # type: ignore[misc]
        for direction, step in steps.items():
            try:
                verdicts = step()
            except Exception as error:  # noqa: BLE001 - a case that raises has failed; the others run
                verdicts = [Agreement(False, None, f"{case}: {type(error).__name__}: {error}")]
            for verdict in verdicts:
                tallies[direction].add(verdict)
                if not verdict.ok:
                    failures.append(Failure(case, direction, verdict.message))
    gradient = tallies["gradient"].figures if op.differentiable else None
    figures = tallies["forward"].figures
    # Where numbers are wrong already, that they are the same in every run says nothing.
    changes, more = ({}, ()) if failures else _changes(op, dtype, backend, asked)
    every = (*failures, *more)
    return Row(op.name, dtype, len(samples), figures, gradient, every, op.oracle_precision, **changes)


def verify(
    backend: str | None = None,
    kernel: str = "*",
    dtype: str | None = None,
    *,
    ops: Iterable[OpInfo] | None = None,
    runs: int = 1,
    orders: bool = False,
    project: Project | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Run op_db on one back end of this machine.

    Parameters
    ----------
    backend : str, optional
        "metal", "cuda" or "cpu"; that of :func:`zmlx._compat.detect_backend` unless given.
    kernel, dtype : str
        See `select`.
    ops : iterable of OpInfo, optional
        Instead of op_db.
    runs : int
        How many runs of every sample must agree to the bit, where `deterministic` says so.
    orders : bool
        Whether kernels also run with their threads in other orders (`zmlx.testing.changes.reorder_threads`).
    project : Project, optional
        That of `ops`: operations that multiply matrices then also run with TF32, in processes of their own.
    progress : callable, optional
        Called as ``progress(done, total, case)`` before each case.

    Raises
    ------
    ImportError
        MLX does not import.
    zmlx._compat.BackendUnavailableError
        The back end is not available here.
    VerifyError
        Nothing matches `kernel` and `dtype`, or `runs` is not positive.
    """
    if runs < 1:
        raise VerifyError(f"--runs: expected 1 or more, got {runs}.")
    name, ops = resolve(backend, ops)
    asked = _Asked(runs, orders, project)
    pairs = select(ops, name, kernel, dtype)
    total, done = sum(len(op.sample_inputs()) for op, _ in pairs), 0

    def begin(case: str) -> None:
        nonlocal done
        if progress is not None:
            progress(done, total, case)
        done += 1

    with working_on(name):
        environment = describe_environment(name)
        rows = tuple(_verify_row(op, of, name, begin, asked) for op, of in pairs)
    return Verification(name, environment, rows)
