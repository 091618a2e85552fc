"""The verdict: accepted or refused, why, and what was looked at."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = 1

#: What a candidate is refused for, and what that means.
REASONS = {
    "did-not-load": "its file raised, or has no such function",
    "raised": "a call raised",
    "ended-early": "its process ended before it had answered",
    "out-of-time": "a call took longer than the time limit",
    "out-of-memory": "a call needed more than the memory limit",
    "broke-protocol": "its process sent something else than launches and results",
    "no-kernel": "a result came without any kernel being launched",
    "not-from-kernel": "the result is not what the launched kernels wrote",
    "computed-outside": "a kernel was given an array that was computed outside of kernels",
    "depends-on-values": "the text, grid or template of a launch changes with the values of the inputs",
    "stale": "the result is that of an earlier call",
    "wrong-shape": "the result has another shape, or there are more or fewer of them",
    "wrong-dtype": "the result has another dtype",
    "wrong-values": "the result is outside of the tolerance of the oracle",
    "unwritten": "elements of an output were never written",
    "inputs-changed": "an input was written to",
    "environment-changed": "it changed environment variables or the working directory",
    "replaced": "it replaced functions of others, such as comparisons, timers or launch records",
    "left-processes": "it left processes running",
    "checker": "the checker or legality found a fault in a kernel",
    "kernel-failed": "a kernel could not be compiled or run",
    "cuda": "NVRTC refused a kernel's CUDA text",
    "nothing-judged": "no hidden shape could be asked in a dtype",
}


@dataclass(frozen=True)
class Reason:
    """One thing that a candidate is refused for: a key of `REASONS`, the case, and what was seen."""

    code: str
    case: str
    message: str


@dataclass(frozen=True)
class Timing:
    """Median seconds of one call of the candidate and of the table's own operation, in turns."""

    candidate: float
    incumbent: float
    rounds: int
    case: str

    @property
    def ratio(self) -> float:
        """How many times as fast as the incumbent the candidate is."""
        return self.incumbent / self.candidate


@dataclass
class Verdict:
    """What `zmlx.testing.judge.hearing.judge` found.

    Attributes
    ----------
    candidate, operation : str
        The file with the function, and the name of the OpInfo.
    reasons : list of Reason
        The first of each kind; none: accepted.
    cases, calls, launches : int
        Cases (a shape, dtype, layout and kind of values), calls in them, and launches that were run by the judge.
    looked_at : dict
        "legality" and "nvrtc": whether they were there.
    notes : list of str
        What was not judged, and why.
    """

    candidate: str
    operation: str
    reasons: list[Reason] = field(default_factory=list)
    cases: int = 0
    calls: int = 0
    launches: int = 0
    seconds: float = 0.0
    looked_at: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    printed: str = ""
    timing: Timing | None = None

    @property
    def accepted(self) -> bool:
        """No reason to refuse it."""
        return not self.reasons

    @property
    def exit_code(self) -> int:
        """0 if `accepted`, else 1."""
        return 0 if self.accepted else 1

    def refuse(self, code: str, case: str, message: str) -> None:
        """Add a reason, unless there is one of its kind.

        Raises
        ------
        KeyError
            `code` is none of `REASONS`.
        """
        REASONS[code]
        if code not in self.codes:
            self.reasons.append(Reason(code, case, message))

    @property
    def codes(self) -> list[str]:
        """The kinds of the reasons."""
        return [reason.code for reason in self.reasons]

    def text(self) -> str:
        """The verdict for people; its last line is the verdict."""
        counts = (
            f"{self.cases} cases, {self.calls} calls, {self.launches} kernel launches, {self.seconds:.1f} s"
        )
        lines = [f"{self.candidate} for {self.operation}: {counts}"]
        for reason in self.reasons:
            lines += ["", f"{reason.code}: {REASONS[reason.code]}", f"  in {reason.case}"]
            lines += [f"  {line}" for line in reason.message.splitlines()]
        if self.notes:
            lines += ["", *self.notes]
        if self.timing is not None:
            t = self.timing
            times = f"candidate {1e6 * t.candidate:.0f} us, incumbent {1e6 * t.incumbent:.0f} us, ratio {t.ratio:.2f}"
            lines += [
                "",
                f"median time of a call, {t.case}, {t.rounds} batches in turns (not part of the verdict):",
            ]
            lines.append(f"  {times}")
        if self.printed and not self.accepted:
            lines += ["", "its process printed, at the end:"]
            lines += [f"  | {line}" for line in self.printed.splitlines()]
        kinds = f"REFUSED: {', '.join(self.codes)}"
        return "\n".join([*lines, "", "ACCEPTED" if self.accepted else kinds])

    def to_json(self) -> str:
        """The same for programs: an object whose ``schema`` is `SCHEMA`."""
        body = {
            "schema": SCHEMA,
            "accepted": self.accepted,
            "candidate": self.candidate,
            "operation": self.operation,
            "reasons": [asdict(r) for r in self.reasons],
            "cases": self.cases,
            "calls": self.calls,
            "launches": self.launches,
            "seconds": round(self.seconds, 3),
            "looked_at": self.looked_at,
            "notes": self.notes,
            "printed": self.printed,
            "timing": None if self.timing is None else {**asdict(self.timing), "ratio": self.timing.ratio},
        }
        return json.dumps(body, indent=2, allow_nan=False)
