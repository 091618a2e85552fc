"""Recorded errors now against those of another revision: better, same, worse, new, gone. Needs no NumPy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zmlx._text import count
from zmlx.testing.case_names import split_case
from zmlx.testing.golden.case import GoldenCase
from zmlx.testing.golden.comparison import figure_text
from zmlx.testing.golden.file import GoldenFile

VERDICTS = ("better", "same", "worse", "new", "gone")

#: Figures are stored with four digits, and less than a hundredth of an ULP is nobody's concern.
_NEAR = {"rel_tol": 0.01, "abs_tol": 0.01}
#: As for the ratchet of live values: an error that has more than doubled, from half an ULP up.
_RATCHET, _FLOOR = 2.0, 0.5


@dataclass(frozen=True)
class Change:
    """One case of one back end, then and now.

    Attributes
    ----------
    backend, case : str
        Whose, and its name.
    verdict : str
        One of `VERDICTS`. A case from other inputs than then is new.
    before, after : float or None
        The recorded error in ULPs; None where there is none.
    reason : str
        What else is to be said.
    """

    backend: str
    case: str
    verdict: str
    before: float | None
    after: float | None
    reason: str = ""

    @property
    def op(self) -> str:
        """The operation."""
        return split_case(self.case).op

    @property
    def is_regression(self) -> bool:
        """Whether the error has more than doubled."""
        if self.verdict != "worse" or self.before is None or self.after is None:
            return False
        return self.after > _RATCHET * max(self.before, _FLOOR)


def compare_with(
    now: Mapping[str, GoldenFile], then: Mapping[str, GoldenFile], damaged: Iterable[str] = ()
) -> tuple[Change, ...]:
    """Every case of every back end that one of the two has, in order of back end and name; without those whose file is
    damaged now, of whose cases none is known to be gone."""
    changes = []
    for backend in sorted((now.keys() | then.keys()) - set(damaged)):
        old = then[backend].cases if backend in then else {}
        new = now[backend].cases if backend in now else {}
        changes += [
            _change(backend, name, old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys())
        ]
    return tuple(changes)


def _change(backend: str, name: str, old: GoldenCase | None, new: GoldenCase | None) -> Change:
    if new is None:
        return Change(backend, name, "gone", old.max_ulp if old else None, None)
    if old is None:
        return Change(backend, name, "new", None, new.max_ulp)
    if old.input_hash != new.input_hash or (old.dtype, old.shape) != (new.dtype, new.shape):
        return Change(backend, name, "new", old.max_ulp, new.max_ulp, "its inputs have changed")
    for figure in ("max_ulp", "rms"):
        was, now = getattr(old, figure), getattr(new, figure)
        if was is None or now is None or math.isclose(was, now, **_NEAR):
            continue
        reason = "" if figure == "max_ulp" else f"RMS {figure_text(was)}, now {figure_text(now)}"
        return Change(backend, name, "better" if now < was else "worse", old.max_ulp, new.max_ulp, reason)
    reason = "" if old.values == new.values else "other values, as exact as before"
    return Change(backend, name, "same", old.max_ulp, new.max_ulp, reason)


def tally(changes: Iterable[Change]) -> dict[str, dict[str, int]]:
    """By operation, how many cases have each verdict; in order of the names."""
    counts: dict[str, dict[str, int]] = {}
    for change in sorted(changes, key=lambda c: c.op):
        row = counts.setdefault(change.op, dict.fromkeys(VERDICTS, 0))
        row[change.verdict] += 1
    return counts


def change_text(change: Change) -> str:
    """One line on a case that has changed."""
    figures = [figure_text(value) for value in (change.before, change.after) if value is not None]
    said = [" -> ".join(figures) + " ULP" if figures else "", change.reason]
    if change.is_regression:
        said.append("more than twice")
    return f"{change.verdict}  {change.backend}  {change.case}: {', '.join(filter(None, said))}"


def against_lines(changes: Iterable[Change], revision: str, most: int = 40) -> list[str]:
    """A table by operation, then the cases that have changed, the worst first, for a terminal.

    Parameters
    ----------
    changes : iterable of Change
        From `compare_with`.
    revision : str
        How the other revision is called.
    most : int
        How many cases are listed.
    """
    every = list(changes)
    rows: list[tuple[str, ...]] = [("operation", *VERDICTS)]
    rows += [(op, *(str(n) if n else "-" for n in row.values())) for op, row in tally(every).items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [f"Against {revision} (cases, by their recorded error)"]
    for name, *numbers in rows:
        padded = [text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]))
    order = ("worse", "gone", "new", "better")
    moved = sorted(
        (c for c in every if c.verdict in order),
        key=lambda c: (order.index(c.verdict), -((c.after or 0) - (c.before or 0)), c.case, c.backend),
    )
    lines += [f"  {change_text(change)}" for change in moved[:most]]
    if len(moved) > most:
        lines.append(f"  and {count(len(moved) - most, 'more case')}")
    totals = {verdict: sum(c.verdict == verdict for c in every) for verdict in VERDICTS}
    lines.append(", ".join(f"{number} {verdict}" for verdict, number in totals.items()))
    return lines
