"""The result of a golden comparison, as plain data that the terminal and `zmlx.testing.report` show."""

from __future__ import annotations

import datetime
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from zmlx._compat import BACKENDS
from zmlx._text import count
from zmlx.testing.case_names import split_case
from zmlx.testing.golden.file import GoldenFile

LIVE = "live"
ORACLE = "oracle"

Progress = Callable[[int, int, str], None]
"""Called with the number of cases done, their total, and the name of the next."""

#: Upper bounds, in ULPs, of the bins that errors are counted in; one more bin has what is beyond.
BINS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 16.0)


def count_in_bins(distances: Iterable[float]) -> tuple[int, ...]:
    """How many distances are in each bin of `BINS`, and beyond."""
    counts = [0] * (len(BINS) + 1)
    for distance in distances:
        counts[bisect_left(BINS, distance)] += 1
    return tuple(counts)


@dataclass(frozen=True)
class Worst:
    """The element that is farthest off.

    Attributes
    ----------
    index : tuple of int
        Where it is; of a complex array with 0 or 1, for its real or imaginary part, behind.
    actual, desired : float or int
        What was computed there, and what it is measured by.
    inputs : tuple of (str, str)
        Name and text of each argument of the call, as far as it goes into the element; empty if they are not known.
    """

    index: tuple[int, ...]
    actual: float
    desired: float
    inputs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class CaseResult:
    """Two sets of values of one case.

    Attributes
    ----------
    subject : str
        Whose values: a back end for its recorded file, or "live".
    against : str
        Compared with what: "oracle", or a back end for its recorded file.
    case, op, dtype : str
        "transformer.swiglu/float16/small", and the first two parts of it.
    max_ulp, rms : float
        Distance in ULPs of the output dtype.
    count : int
        Number of elements.
    identical : bool
        Bit for bit the same (against the oracle: its correctly rounded value).
    ok : bool
        Within the tolerance.
    share : float or None
        How much of its tolerance the element takes that takes most of it; None where that is not known.
    bins : tuple of int
        Number of elements by distance, as `count_in_bins` has them; empty where only figures are known.
    worst : Worst or None
        None if there is no element, or only figures are known.
    stock : bool
        Whether it is an operation of MLX itself and no kernel.
    part : str
        "" for the result of the call, "gradient of x" for that of an argument.
    """

    subject: str
    against: str
    case: str
    op: str
    dtype: str
    max_ulp: float
    rms: float
    count: int
    identical: bool
    ok: bool
    share: float | None = None
    bins: tuple[int, ...] = ()
    worst: Worst | None = None
    stock: bool = False
    part: str = ""


@dataclass(frozen=True)
class Finding:
    """Something wrong.

    Attributes
    ----------
    kind : str
        One of file, nothing, missing, extra, stale input, stale source, dtype, shape, values, error figure, fallback,
        ratchet.
    subject, case : str
        Whose values, and of which case; of several cases with the same trouble the first. Both may be empty.
    message : str
        What is wrong and what to do.
    cases : int
        How many cases have the trouble.
    """

    kind: str
    subject: str
    case: str
    message: str
    cases: int = 1

    @property
    def op(self) -> str:
        """The operation, or "" for a finding on a file."""
        return split_case(self.case).op


@dataclass(frozen=True)
class Pending:
    """Cases that a recorded file lacks, for no one with its hardware has recorded them yet: no failure.

    Attributes
    ----------
    backend : str
        Whose file it is; never one that is available here.
    cases : tuple of str
        In order of their names.
    until : datetime.date or None
        From then on it is a failure; None for never.
    """

    backend: str
    cases: tuple[str, ...]
    until: datetime.date | None = None

    def message(self) -> str:
        """One sentence: how many, until when, which, what to do."""
        until = f"until {self.until}, " if self.until else ""
        return (
            f"{count(len(self.cases), 'case')} that no one with {self.backend} has recorded yet ({until}no failure): "
            f"{name_some(self.cases)}; on such a machine: python -m zmlx golden record --backend {self.backend}"
        )


def figure_text(value: float | None) -> str:
    """A number of ULPs for people: four digits, but none below a thousandth, which no result can show."""
    if value is None:
        return "None"
    return "below 0.001" if 0 < value < 0.001 else f"{value:.4g}"


def name_some(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@dataclass(frozen=True)
class PairSummary:
    """All cases of one pair: how many, how many identical, and the worst."""

    subject: str
    against: str
    cases: int
    identical: int
    worst: CaseResult
    gradients: bool = False


@dataclass(frozen=True)
class About:
    """What a report says of an operation besides its numbers.

    Attributes
    ----------
    source : str
        Where the formula comes from.
    file : str
        The file that the kernel is in; "" for operations of MLX.
    tolerances : mapping of str to str
        By dtype, with the reason where it is looser than the default.
    """

    source: str
    file: str = ""
    tolerances: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What `zmlx.testing.golden.run.compare_live` and `compare_recorded` return.

    Attributes
    ----------
    live_backend : str
        The back end that ran; empty if nothing was run.
    files : mapping
        The recorded files that could be used, by back end.
    environment : mapping
        Of the live run.
    results : tuple of CaseResult
        Every pair of values that was compared.
    findings : tuple of Finding
        Everything that is wrong.
    pending : tuple of Pending
        What nobody with the hardware has recorded yet.
    notes : tuple of str
        What could not be checked here, and why.
    about : mapping of str to About
        What is known of each operation; empty where the table of operations could not be loaded.
    """

    live_backend: str
    files: Mapping[str, GoldenFile]
    environment: Mapping[str, str]
    results: tuple[CaseResult, ...]
    findings: tuple[Finding, ...]
    pending: tuple[Pending, ...] = ()
    notes: tuple[str, ...] = ()
    about: Mapping[str, About] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing is wrong, and something was compared."""
        return not self.findings and any(result.count for result in self.results)

    @property
    def damaged(self) -> tuple[str, ...]:
        """The back ends whose file is there and cannot be used: none of what was not recorded."""
        troubled = {finding.subject for finding in self.findings if finding.kind == "file"}
        return tuple(name for name in BACKENDS if name in troubled)

    @property
    def judged(self) -> bool:
        """Whether results were held to tolerances; not where the table of operations could not be loaded."""
        return bool(self.about) or not self.notes

    @property
    def reference(self) -> str:
        """ "metal" once metal.json is there, else "oracle"."""
        return "metal" if "metal" in self.files else ORACLE

    def label(self, subject: str) -> str:
        """How a subject is called in tables."""
        if subject == LIVE:
            return f"live {self.live_backend}"
        return subject if subject == ORACLE else f"{subject}.json"

    def pairs(self) -> tuple[PairSummary, ...]:
        """One summary for each pair that was compared, in the order of comparison, live ones first."""
        groups: dict[tuple[str, str, bool], list[CaseResult]] = {}
        for result in self.results:
            groups.setdefault((result.subject, result.against, bool(result.part)), []).append(result)
        made = [
            PairSummary(
                subject,
                against,
                len(group),
                sum(r.identical for r in group),
                max(group, key=lambda r: r.max_ulp),
                gradients,
            )
            for (subject, against, gradients), group in groups.items()
        ]
        return tuple(sorted(made, key=lambda pair: pair.subject != LIVE))

    def reference_note(self) -> str:
        """One line on what everything is measured by."""
        if self.reference == "metal":
            return "reference: metal.json, and the float64 oracle for each file's own error"
        why = (
            "for metal.json is damaged" if "metal" in self.damaged else "until a Mac has recorded metal.json"
        )
        return f"reference: the float64 oracle, {why}"
