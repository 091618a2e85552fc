"""``python -m zmlx verify``: every operation of op_db, forward and gradient, against its oracle.

The same samples and tolerances as the test suite's, without pytest and without a checkout: what a user runs
to see whether zmlx computes the right numbers on the machine at hand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from zmlx.testing.environment import describe_environment
from zmlx.testing.golden.catalogue import working_on
from zmlx.testing.golden.comparison import Progress
from zmlx.testing.gradients import run_gradients
from zmlx.testing.launches import not_launched
from zmlx.testing.opinfo import OpInfo, SampleInput, case_name
from zmlx.testing.selection import matches, resolve
from zmlx.testing.tolerance import Agreement, compare, dtype_name


class VerifyError(ValueError):
    """The selection makes no sense: no such operation or dtype. The message lists what there is."""


@dataclass(frozen=True)
class Failure:
    """One case that is wrong, and why."""

    case: str
    direction: str
    message: str


@dataclass(frozen=True)
class Row:
    """All samples of one operation in one dtype.

    ``forward`` and ``gradient`` are (largest, root mean square) errors in ULPs at the RMS of the result; ``gradient``
    is None for an operation without one. ``oracle_precision`` is that of the entry.
    """

    op: str
    dtype: str
    samples: int
    forward: tuple[float, float]
    gradient: tuple[float, float] | None
    failures: tuple[Failure, ...]
    oracle_precision: str = "float64"


@dataclass(frozen=True)
class Verification:
    """What `verify` found."""

    backend: str
    environment: Mapping[str, str]
    rows: tuple[Row, ...]

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Everything that is wrong."""
        return tuple(failure for row in self.rows for failure in row.failures)

    @property
    def ok(self) -> bool:
        """Something ran, and nothing is wrong."""
        return bool(self.rows) and not self.failures

    @property
    def exit_code(self) -> int:
        """0 if `ok`, else 1."""
        return 0 if self.ok else 1

    def text(self, width: int | None = None) -> str:
        """The table, then each failure with a command that reproduces it, then the verdict.

        Where the table is wider than `width`, columns are left out: the RMS errors first, then the counts.
        """
        about = self.environment
        heading = f"{self.backend}: {about['device']}, MLX {about['mlx']}, TF32 {about['tf32']}"
        head = ("operation", "dtype", "samples", "forward ULP@RMS", "rms", "gradient ULP@RMS", "rms", "")
        table = [head, *(_cells(row) for row in self.rows)]
        shown = next(
            (columns for columns in _LAYOUTS if width is None or _table_width(table, columns) <= width),
            _LAYOUTS[-1],
        )
        widths = [max(len(line[i]) for line in table) for i in range(len(head))]
        lines = [heading, ""]
        for line in table:
            cells = [line[i].ljust(widths[i]) if i in _LEFT else line[i].rjust(widths[i]) for i in shown]
            lines.append("  ".join(cells).rstrip())
        weak = [row.op for row in self.rows if row.oracle_precision != "float64"]
        if weak:
            names = ", ".join(dict.fromkeys(weak))
            lines += ["", f"oracle of MLX operations in float32, whose own rounding counts too: {names}"]
        for failure in self.failures:
            op, dtype, _ = failure.case.split("/")
            command = f"python -m zmlx verify --backend {self.backend} --kernel {op} --dtype {dtype}"
            lines += ["", f"FAIL {failure.direction}: {failure.message}", f"  to reproduce: {command}"]
        samples = sum(row.samples for row in self.rows)
        verdict = "all within tolerance of the oracle"
        if self.failures:
            verdict = _count(len(self.failures), "failure")
        operations = _count(len({row.op for row in self.rows}), "operation")
        lines += ["", f"{operations}, {_count(samples, 'case')}: {verdict}"]
        return "\n".join(lines)

    def to_json(self) -> str:
        """The same for programs. An infinite error stands as null, which JSON can hold."""
        body = {
            "ok": self.ok,
            "backend": self.backend,
            "environment": dict(self.environment),
            "rows": [asdict(row) for row in self.rows],
        }
        return json.dumps(_finite(body), indent=2, allow_nan=False)


#: Columns of the table that are shown: the first set that fits.
_LAYOUTS = ((0, 1, 2, 3, 4, 5, 6, 7), (0, 1, 2, 3, 5, 7), (0, 1, 3, 5, 7), (0, 1, 7))
_LEFT = (0, 1, 7)


def _table_width(table: Sequence[Sequence[str]], columns: Sequence[int]) -> int:
    return sum(max(len(line[i]) for line in table) for i in columns) + 2 * (len(columns) - 1)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cells(row: Row) -> tuple[str, ...]:
    def figures(pair: tuple[float, float] | None) -> tuple[str, str]:
        return ("-", "-") if pair is None else (f"{pair[0]:.3g}", f"{pair[1]:.3g}")

    verdict = "FAIL" if row.failures else "PASS"
    return (row.op, row.dtype, str(row.samples), *figures(row.forward), *figures(row.gradient), verdict)


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
        compare(output, truth, dtype_name(output), op.tolerance(dtype), name=case)
        for output, truth in zip(outputs, truths, strict=True)
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


def _verify_row(op: OpInfo, dtype: str, backend: str, begin: Callable[[str], None]) -> Row:
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
    return Row(op.name, dtype, len(samples), figures, gradient, tuple(failures), op.oracle_precision)


def verify(
    backend: str | None = None,
    kernel: str = "*",
    dtype: str | None = None,
    *,
    ops: Iterable[OpInfo] | None = None,
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
    progress : callable, optional
        Called as ``progress(done, total, case)`` before each case.

    Raises
    ------
    ImportError
        MLX does not import.
    zmlx._compat.BackendUnavailableError
        The back end is not available here.
    VerifyError
        Nothing matches `kernel` and `dtype`.
    """
    name, ops = resolve(backend, ops)
    pairs = select(ops, name, kernel, dtype)
    total, done = sum(len(op.sample_inputs()) for op, _ in pairs), 0

    def begin(case: str) -> None:
        nonlocal done
        if progress is not None:
            progress(done, total, case)
        done += 1

    with working_on(name):
        environment = describe_environment(name)
        rows = tuple(_verify_row(op, of, name, begin) for op, of in pairs)
    return Verification(name, environment, rows)
