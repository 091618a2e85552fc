"""What a golden comparison checks; `zmlx.testing.golden.run` says what against what.

The ratchet holds a live error to twice the recorded one, in ``max_ulp`` and in ``rms``. A recorded figure
below the floor counts as the floor: on the device that recorded 0.5 ULP (what correct rounding alone may
give; its RMS is 0.29), so that a result that was exact by luck may become correctly rounded, and on another
device 2 ULP, for other vector widths add in another order. Operations of MLX itself are held to the figures
of the MLX that recorded only: another version is another implementation, which the tolerance judges.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx import _compat
from zmlx.testing._formats import FLOAT_FORMATS, round_to
from zmlx.testing.golden.case import STOCK_SOURCE, GoldenCase
from zmlx.testing.golden.catalogue import Catalogue, Expectation, measure
from zmlx.testing.golden.comparison import (
    LIVE,
    ORACLE,
    CaseResult,
    Finding,
    Pending,
    Progress,
    figure_text,
    name_some,
)
from zmlx.testing.golden.detail import details
from zmlx.testing.golden.directory import load_files
from zmlx.testing.golden.file import GoldenError, GoldenFile
from zmlx.testing.tolerance import Agreement, Tolerance, compare

RATCHET = 2.0
FLOOR_SAME_DEVICE = {"max_ulp": 0.5, "rms": 0.29}
FLOOR_OTHER_DEVICE = {"max_ulp": 2.0, "rms": 2.0}

#: What a comparison without MLX leaves out.
NO_MLX = (
    "MLX does not import here: values were compared with the oracle and with each other, and not whether they were "
    "recorded from today's kernel sources"
)

_RECORD = "python -m zmlx golden record"


@dataclass(frozen=True)
class Deadline:
    """When a case that a recorded file lacks is a failure: at once for a back end that is available here, else from
    `until` on, else never.

    Attributes
    ----------
    at_hand : collection of str
        Back ends that can record here.
    until : datetime.date or None
        The day from which a missing case of any back end is a failure.
    today : datetime.date
        The day that it is.
    """

    at_hand: Collection[str] = ()
    until: datetime.date | None = None
    today: datetime.date = field(default_factory=datetime.date.today)

    @classmethod
    def here(cls, until: datetime.date | None, *more: str) -> Deadline:
        """With the back ends of this machine, and `more`."""
        available = (name for name, state in _compat.availability().items() if state.available)
        return cls(frozenset((*available, *more)), until)

    @property
    def is_past(self) -> bool:
        """Whether nothing is pending any more."""
        return self.until is not None and self.today >= self.until


class Checker:
    """Collects results and findings of one comparison."""

    def __init__(self, catalogue: Catalogue, deadline: Deadline | None = None) -> None:
        self.catalogue = catalogue
        self.deadline = deadline or Deadline()
        self.results: list[CaseResult] = []
        self.findings: list[Finding] = []
        self.pending: list[Pending] = []
        self.notes: list[str] = []

    def fail(self, kind: str, message: str, subject: str = "", case: str = "", cases: int = 1) -> None:
        """Keep a finding."""
        self.findings.append(Finding(kind, subject, case, message, cases))

    def load_directory(self, directory: Path) -> dict[str, GoldenFile]:
        """The usable golden files of a directory by back end; each other is a finding, and so is none."""
        files, findings = load_files(directory)
        self.findings += findings
        return files

    def judge(
        self,
        names: tuple[str, str],
        expected: Expectation,
        actual: GoldenCase,
        desired: NDArray[Any],
        tolerance: Tolerance,
    ) -> None:
        """Compare the values of one case and keep the result; `names` are those of the two sides."""
        subject, against = names
        values = actual.array()
        title = f"{subject} against {against}: {expected.name}"
        verdict = compare(values, desired, actual.dtype, tolerance, name=title)
        if verdict.stats is None:
            self.fail("shape", verdict.message, subject, expected.name)
            return
        sample = expected.sample if against == ORACLE else None
        result = result_of(names, expected, actual.dtype, verdict, values, desired)
        known = details(values, desired, actual.dtype, tolerance, expected.op, sample)
        self.results.append(replace(result, **known))
        if not verdict.ok:
            self.fail("values", verdict.message, subject, expected.name)

    def check_file(self, golden: GoldenFile) -> None:
        """Complete, current and true; needs no hardware."""
        backend, file = golden.backend, f"{golden.backend}.json"
        expectations = self.catalogue.on(backend)
        self._check_missing(backend, sorted(expectations.keys() - golden.cases.keys()))
        self._fail_cases(
            "extra", "has, and op_db has not, the", backend, golden.cases.keys() - expectations.keys()
        )
        sources = self._knows_sources()
        stale_inputs, stale_sources = [], []
        for name, expected in expectations.items():
            case = golden.cases.get(name)
            if case is None:
                continue
            if case.input_hash != expected.input_hash:
                stale_inputs.append(name)
            elif sources and case.source_hash != expected.source_hash(backend):
                stale_sources.append(name)
            elif self._has_form(backend, expected, case):
                self.judge((backend, ORACLE), expected, case, expected.oracle, expected.tolerance)
                self._check_recorded_error(file, case, self.results[-1])
        self._fail_stale("other inputs", backend, stale_inputs)
        self._fail_stale("another kernel source", backend, stale_sources)

    def _knows_sources(self) -> bool:
        """Whether a kernel's source can be had here: a call makes it, from MLX's arrays."""
        try:
            _compat.import_mx()
        except ImportError:
            if NO_MLX not in self.notes:
                self.notes.append(NO_MLX)
            return False
        return True

    def _check_missing(self, backend: str, missing: Sequence[str]) -> None:
        deadline = self.deadline
        if missing and backend not in deadline.at_hand and not deadline.is_past:
            self.pending.append(Pending(backend, tuple(missing), deadline.until))
            return
        late = f"(pending until {deadline.until}, which has come) " if backend not in deadline.at_hand else ""
        self._fail_cases("missing", f"{late}lacks", backend, missing)

    def _fail_cases(self, kind: str, what: str, backend: str, names: Iterable[str]) -> None:
        """One finding for all cases of a file that have the same trouble: it is cured for all at once."""
        ordered = sorted(names)
        if ordered:
            message = (
                f"{backend}.json {what} {_cases(ordered)}; record it again: {_RECORD} --backend {backend}"
            )
            self.fail(kind, message, backend, ordered[0], len(ordered))

    def _fail_stale(self, what: str, backend: str, names: Iterable[str]) -> None:
        """One finding for each operation: what was changed is its file."""
        by_op: dict[str, list[str]] = {}
        for name in sorted(names):
            by_op.setdefault(name.partition("/")[0], []).append(name)
        for op, ordered in by_op.items():
            message = (
                f"{backend}.json was recorded from {what} than today's: {_cases(ordered)}; did you mean to change it? "
                f"If so, record it again: {_RECORD} --backend {backend} --kernel {op}"
            )
            kind = "stale input" if "input" in what else "stale source"
            self.fail(kind, message, backend, ordered[0], len(ordered))

    def _has_form(self, subject: str, expected: Expectation, case: GoldenCase) -> bool:
        dtype, shape = expected.out_dtype, expected.oracle.shape
        name = expected.name
        if case.dtype != dtype:
            self.fail("dtype", f"{subject}: {name} is {case.dtype}, expected {dtype}.", subject, name)
            return False
        if case.shape != shape:
            self.fail("shape", f"{subject}: {name} has shape {case.shape}, expected {shape}.", subject, name)
            return False
        return True

    def _check_recorded_error(self, file: str, case: GoldenCase, result: CaseResult) -> None:
        for figure in ("max_ulp", "rms"):
            recorded, real = getattr(case, figure), getattr(result, figure)
            # 1 %: figures are stored with four digits, and the oracle's last bit depends on the C library.
            if recorded is None or not np.isclose(recorded, real, rtol=0.01, atol=0.01):
                self.fail(
                    "error figure",
                    f"{file}: {result.case} says its {figure} is {figure_text(recorded)}, but its values have "
                    f"{figure_text(real)}; "
                    "the file was edited. Restore it from version control.",
                    result.subject,
                    result.case,
                )

    def check_pairs(self, files: Mapping[str, GoldenFile]) -> None:
        """Every two recorded files against each other: drift between back ends, without hardware."""
        ordered = [files[name] for name in _compat.BACKENDS if name in files]
        for i, reference in enumerate(ordered):
            for other in ordered[i + 1 :]:
                self.check_pair(other.backend, other.cases, reference)

    def check_pair(self, subject: str, values: Mapping[str, GoldenCase], reference: GoldenFile) -> None:
        """The cases that both have; what one lacks, `check_file` reports."""
        for name, expected in self.catalogue.on(reference.backend).items():
            mine, theirs = values.get(name), reference.cases.get(name)
            if mine is None or theirs is None or mine.input_hash != theirs.input_hash:
                continue
            if mine.dtype == theirs.dtype and mine.shape == theirs.shape:
                names = (subject, reference.backend)
                self.judge(names, expected, mine, theirs.array(), expected.pair_tolerance)

    def check_live(self, backend: str, progress: Progress | None) -> dict[str, GoldenCase]:
        """Run every case here and judge it by the oracle."""
        live: dict[str, GoldenCase] = {}
        expectations = self.catalogue.on(backend)
        for done, (name, expected) in enumerate(expectations.items()):
            if progress is not None:
                progress(done, len(expectations), name)
            try:
                case = measure(expected, backend).case
            except GoldenError as error:
                self.fail("fallback", str(error), LIVE, name)
                continue
            if self._has_form(LIVE, expected, case):
                self.judge((LIVE, ORACLE), expected, case, expected.oracle, expected.tolerance)
                live[name] = case
        return live

    def check_ratchet(
        self, live: Mapping[str, GoldenCase], recorded: GoldenFile, environment: Mapping[str, str]
    ) -> None:
        """The error must not have grown beyond twice what this back end recorded."""

        for name, case in live.items():
            before = recorded.cases.get(name)
            if before is None or before.input_hash != case.input_hash:
                continue
            then = recorded.environment_of(name)

            def same(*facts: str, then: Mapping[str, str] = then) -> bool:
                return all(environment.get(fact) == then.get(fact) for fact in facts)

            floors = FLOOR_SAME_DEVICE if same("device", "architecture") else FLOOR_OTHER_DEVICE
            if case.source_hash == STOCK_SOURCE and not same("mlx"):
                continue
            for figure, floor in floors.items():
                was, now = getattr(before, figure), getattr(case, figure)
                if was is not None and now > RATCHET * max(was, floor):
                    self.fail(
                        "ratchet",
                        f"{name}: the error ({figure}) grew from {was:.4g} to {now:.4g} ULP, more than twice "
                        f"what {recorded.backend}.json has.",
                        LIVE,
                        name,
                    )


def _cases(ordered: Sequence[str]) -> str:
    return f"{'case' if len(ordered) == 1 else f'{len(ordered)} cases'} {name_some(ordered)}"


def result_of(
    names: tuple[str, str],
    expected: Expectation,
    dtype: str,
    verdict: Agreement,
    values: NDArray[Any],
    desired: NDArray[Any],
) -> CaseResult:
    """A verdict as a result; it must have measured something."""
    assert verdict.stats is not None
    rounded = round_to(desired, dtype) if dtype in FLOAT_FORMATS else desired
    return CaseResult(
        subject=names[0],
        against=names[1],
        case=expected.name,
        op=expected.op.name,
        dtype=expected.dtype,
        max_ulp=verdict.stats.max_ulp,
        rms=verdict.stats.rms,
        count=verdict.stats.count,
        identical=_identical(values, rounded),
        ok=verdict.ok,
        stock=not expected.op.kernel,
    )


def _identical(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Bit for bit, but for the payloads of NaNs."""
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    signs = (np.signbit(a) == np.signbit(b)) | np.isnan(a)
    return bool(np.array_equal(a, b, equal_nan=True) and np.all(signs))
