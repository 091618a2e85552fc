"""The result of a golden comparison, as plain data that the terminal and `zmlx.testing.report` show."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from zmlx.testing.golden.file import GoldenFile

LIVE = "live"
ORACLE = "oracle"

#: Kinds of findings that are about one case: all cases of an operation have the same cause, as a rule.
BY_OPERATION = frozenset({"values", "ratchet", "fallback", "shape", "dtype"})

Progress = Callable[[int, int, str], None]
"""Called with the number of cases done, their total, and the name of the next."""


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


@dataclass(frozen=True)
class Finding:
    """Something wrong.

    `kind` is one of file, nothing, missing, extra, stale input, stale source, dtype, shape, values, error
    figure, fallback, ratchet.
    """

    kind: str
    subject: str
    case: str
    message: str


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
        count = f"{len(self.cases)} {'case' if len(self.cases) == 1 else 'cases'}"
        until = f"until {self.until}, " if self.until else ""
        return (
            f"{count} that no one with {self.backend} has recorded yet ({until}no failure): {name_some(self.cases)}; "
            f"on such a machine: python -m zmlx golden record --backend {self.backend}"
        )


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
        What could not be compared here, and is no failure.
    """

    live_backend: str
    files: Mapping[str, GoldenFile]
    environment: Mapping[str, str]
    results: tuple[CaseResult, ...]
    findings: tuple[Finding, ...]
    pending: tuple[Pending, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Nothing is wrong, and something was compared."""
        return not self.findings and any(result.count for result in self.results)

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
        groups: dict[tuple[str, str], list[CaseResult]] = {}
        for result in self.results:
            groups.setdefault((result.subject, result.against), []).append(result)
        made = [
            PairSummary(
                subject,
                against,
                len(group),
                sum(r.identical for r in group),
                max(group, key=lambda r: r.max_ulp),
            )
            for (subject, against), group in groups.items()
        ]
        return tuple(sorted(made, key=lambda pair: pair.subject != LIVE))

    def remarks(self) -> list[str]:
        """What is no failure and must be known: what was left out, and what waits for hardware."""
        return [
            *(f"note: {note}" for note in self.notes),
            *(f"pending: {pending.message()}" for pending in self.pending),
        ]

    def failures(self) -> list[str]:
        """What is wrong: first what concerns whole files, then each operation with its worst case and how many more
        findings of the kind there are, the operation with the largest error first."""
        worst = {(r.subject, r.case): r.max_ulp for r in sorted(self.results, key=lambda r: r.max_ulp)}
        groups: dict[tuple[str, str, str], list[Finding]] = {}
        for finding in self.findings:
            operation = finding.case.split("/")[0] if finding.kind in BY_OPERATION else finding.message
            groups.setdefault((finding.kind, finding.subject, operation), []).append(finding)
        sizes = {
            key: max(worst.get((f.subject, f.case), 0.0) for f in found)
            if key[0] in BY_OPERATION
            else float("inf")
            for key, found in groups.items()
        }
        lines = []
        for key in sorted(groups, key=lambda key: -sizes[key]):
            first, *more = sorted(groups[key], key=lambda f: -worst.get((f.subject, f.case), 0.0))
            lines.append(f"FAIL {first.kind}: {first.message}")
            if more:
                others = name_some(list(dict.fromkeys(f.case for f in more)))
                findings = "another finding" if len(more) == 1 else f"{len(more)} more findings"
                lines.append(f"     and {findings} of this kind on {key[2]}: {others}")
        return lines

    def reference_note(self) -> str:
        """One line on what everything is measured by."""
        if self.reference == "metal":
            return "reference: metal.json, and the float64 oracle for each file's own error"
        return "reference: the float64 oracle, until a Mac has recorded metal.json"

    def summary_lines(self) -> list[str]:
        """The comparison for a terminal: a line for each pair, then what is wrong, then the verdict."""
        lines = [self.reference_note()]
        rows = [("compared", "cases", "identical", "max ULP", "worst case")]
        rows += [
            (
                f"{self.label(p.subject)} with {self.label(p.against)}",
                str(p.cases),
                str(p.identical),
                f"{p.worst.max_ulp:.3g}",
                p.worst.case,
            )
            for p in self.pairs()
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        for row in rows:
            name, *figures, case = row
            padded = [text.rjust(width) for text, width in zip(figures, widths[1:4], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *padded, case]))
        lines += [*self.remarks(), *self.failures()]
        if self.ok:
            waiting = sum(len(pending.cases) for pending in self.pending)
            lines.append(
                f"golden values agree: {len(self.results)} comparisons, nothing outside its tolerance"
                + (f"; {waiting} cases pending" if waiting else "")
            )
        elif self.findings:
            count = len(self.findings)
            lines.append(f"golden values do not agree: {count} {'finding' if count == 1 else 'findings'}")
        else:
            lines.append("nothing was compared, which is a failure: op_db has no golden case here")
        return lines
