"""Findings for people: one group for each operation, the worst first, with the file to look at and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby

from zmlx._text import count
from zmlx.testing.golden.comparison import LIVE, Comparison, Finding

_FEW = 2
_OF_A_FILE = ("file", "nothing", "missing", "extra")
"""Kinds that are not an operation's."""
_GRADIENT = ", gradient of "
"""What the message on a gradient has behind the case's name."""
_BY_A_CHANGE = ("stale input", "stale source", "values", "ratchet")
"""Kinds that a change of the kernel causes."""


@dataclass(frozen=True)
class Group:
    """The findings on one operation.

    Attributes
    ----------
    op, file : str
        The operation and the file that its kernel is in; both empty for findings that are no operation's.
    findings : tuple of Finding
        At least one, in the order of the checks.
    max_ulp : float
        The largest error among results outside their tolerance; 0 if there is none.
    worst : str
        The message of the case that has it, or "".
    worst_case : str
        Its name.
    live : str
        How the values of this machine are called.
    """

    op: str
    file: str
    findings: tuple[Finding, ...]
    max_ulp: float = 0.0
    worst: str = ""
    worst_case: str = ""
    live: str = ""

    @property
    def headline(self) -> str:
        """Which operation, in which file, how many findings, how bad."""
        where = f" ({self.file})" if self.file else ""
        worst = f", worst {self.max_ulp:.3g} ULP" if self.max_ulp else ""
        return f"{self.op}{where}: {count(len(self.findings), 'finding')}{worst}"

    def lines(self) -> list[str]:
        """What is wrong, a line for each kind where there are many, and the worst element."""
        lines = []
        for kind, some in groupby(sorted(self.findings, key=lambda f: f.kind), key=lambda f: f.kind):
            of_kind = list(some)
            summary = _SUMMARIES.get(kind)
            # A value outside its tolerance is told by its worst element, below.
            if summary is not None and (kind != "ratchet" or len(of_kind) > _FEW):
                lines.append(f"{kind}: {summary(of_kind, self.live)}")
                continue
            lines += [f"{kind}: {finding.message}" for finding in of_kind[:_FEW]]
            if len(of_kind) > _FEW:
                lines.append(f"{kind}: {count(len(of_kind) - _FEW, 'more finding')} of this kind")
        if self.worst:
            lines += self.worst.splitlines()
        return lines

    def advice(self) -> list[str]:
        """What to ask oneself, and what to do."""
        if not any(finding.kind in _BY_A_CHANGE for finding in self.findings):
            return []
        what = self.file or "it"
        backends = sorted({f.subject for f in self.findings if f.kind.startswith("stale")})
        on = f", on {' and on '.join(backends)}" if backends else ""
        lines = [
            f"Did you mean to change {what}? If not, undo the change.",
            f"If you did, record it again{on}: python -m zmlx golden record --kernel {self.op}",
        ]
        if self.worst_case:
            lines.append(f"More: python -m zmlx golden compare --explain {self.worst_case}")
        return lines


def _files(findings: list[Finding]) -> str:
    return " and ".join(dict.fromkeys(f"{f.subject}.json" for f in findings))


def _against(findings: list[Finding], live: str) -> str:
    """ "12 comparisons of live cpu against oracle; …": from the messages, which begin with the two sides."""
    sides: dict[str, int] = {}
    for finding in findings:
        pair = finding.message.partition(":")[0].replace(f"{LIVE} ", f"{live} ", 1)
        if _GRADIENT in finding.message.partition("\n")[0]:
            pair += " (gradients)"
        sides[pair] = sides.get(pair, 0) + 1
    return "; ".join(f"{count(number, 'comparison')} of {pair}" for pair, number in sides.items())


_SUMMARIES: dict[str, Callable[[list[Finding], str], str]] = {
    "stale input": lambda found, _: f"other inputs than those of {_files(found)}",
    "stale source": lambda found, _: f"another kernel source than that of {_files(found)}",
    "values": lambda found, live: f"outside the tolerance in {_against(found, live)}",
    "ratchet": lambda found, _: (
        f"the error is more than twice the recorded one in {count(len({f.case for f in found}), 'case')}"
    ),
}


def group_findings(comparison: Comparison) -> tuple[Group, ...]:
    """All findings of a comparison: first those that are no operation's, then the operations, the worst first."""
    by_op: dict[str, list[Finding]] = {}
    for finding in comparison.findings:
        op = "" if finding.kind in _OF_A_FILE else finding.op
        by_op.setdefault(op, []).append(finding)
    live = f"live {comparison.live_backend}" if comparison.live_backend else LIVE
    groups = []
    for op, findings in by_op.items():
        bad = [r for r in comparison.results if r.op == op and not r.ok]
        worst = max(bad, key=lambda r: r.max_ulp, default=None)
        said = [f.message for f in findings if worst and f.kind == "values" and f.case == worst.case]
        if worst is not None:
            # A case has several messages: the values', and those of its gradients.
            said.sort(key=lambda message, part=worst.part: not _is_about(message, part))  # type: ignore[misc]
        about = comparison.about.get(op)
        groups.append(
            Group(
                op,
                about.file if about else "",
                tuple(findings),
                worst.max_ulp if worst else 0.0,
                said[0] if said else "",
                worst.case if worst else "",
                live,
            )
        )
    return tuple(sorted(groups, key=lambda g: (g.op != "", -g.max_ulp, g.op)))


def _is_about(message: str, part: str) -> bool:
    first = message.partition("\n")[0]
    return part in first if part else _GRADIENT not in first


def finding_lines(groups: Iterable[Group]) -> list[str]:
    """All groups for a terminal."""
    lines: list[str] = []
    for group in groups:
        if not group.op:
            lines += [f"FAIL {finding.kind}: {finding.message}" for finding in group.findings]
            continue
        lines.append(f"FAIL {group.headline}")
        lines += [f"  {line}" for line in (*group.lines(), *group.advice())]
    return lines
