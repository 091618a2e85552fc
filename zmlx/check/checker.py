"""Checked launches: ``with zmlx.checked() as check``, or ``ZMLX_CHECK=1`` for a whole process.

While a check is active, every launch of a `metal_kernel` runs on the CPU under the checker, whatever the stream or
device of the call, and its outputs are what that run computed.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zmlx.check.findings import Finding, KernelCheckError, render, summarize
from zmlx.check.suppressions import Suppressions, load_suppressions
from zmlx.launch.hook import current, intercepting, set_process_interceptor

if TYPE_CHECKING:
    import mlx.core as mx

    from zmlx.launch.call import Call
    from zmlx.launch.origin import Origin
    from zmlx.metal.signature import Signature

#: Set to 1: every launch of the process is checked, and a finding is an error.
CHECK_VARIABLE = "ZMLX_CHECK"
#: The suppression file of such a process.
SUPPRESSIONS_VARIABLE = "ZMLX_CHECK_SUPPRESSIONS"

#: The orders in which a launch is run again when the first run found nothing.
SCHEDULES = ("one simdgroup at a time", "reversed", "random")

_OFF = ("", "0", "false", "no")


class UncheckedWarning(UserWarning):
    """Part of a launch was not checked; the text says what."""


class Checking:
    """What `checked` gives: the findings of the launches made meanwhile.

    Attributes
    ----------
    findings
        One `Finding` for each distinct one, in the order in which they were found; ``count`` says how often.
    launches, accesses
        Checked launches, and the memory accesses in them.
    notes
        What was not checked, and why.
    """

    #: What launch records call this way of running (`zmlx.launch.hook.Interceptor`).
    path = "checked"
    #: Whether it also hears of what the checks of inner blocks find, as that of a whole script must: the script may
    #: swallow their errors.
    hears_inner = False
    #: The check that hears of what this one finds.
    outer: Checking | None = None

    def __init__(
        self,
        raise_on_finding: bool = True,
        schedules: tuple[str, ...] = SCHEDULES,
        time_limit: float = 60.0,
        memory_limit: int = 4 << 30,
        suppressions: Suppressions | None = None,
        max_findings: int = 1000,
        arithmetic: bool = False,
    ) -> None:
        self.suppressions = suppressions or Suppressions()
        self.raise_on_finding = raise_on_finding
        self.schedules = schedules
        self.time_limit = time_limit
        self.memory_limit = memory_limit
        self.max_findings = max_findings
        self.arithmetic = arithmetic
        self._lock = threading.RLock()
        self.findings: list[Finding] = []
        self.dropped = 0
        self.launches = 0
        self.accesses = 0
        self.notes: list[str] = []
        self._known: dict[Any, int] = {}
        self._compared: set[Any] = set()

    def launch(self, signature: Signature, call: Call, origin: Origin | None = None) -> list[mx.array]:
        """Run a call under the checker; `metal_kernel` calls this. ``origin`` is where the kernel was made.

        Raises
        ------
        KernelCheckError
            There are findings, and ``raise_on_finding`` is set.
        """
        from zmlx.check import groups
        from zmlx.check import run as checked_run
        from zmlx.check.legality.judge import static_findings
        from zmlx.launch.translations import meeting

        self._count(launches=1)
        meets = any(meeting(signature.kernel))
        self._take(signature, groups.clamped(signature, call.grid, call.threadgroup, meets), origin)
        refused, notes = static_findings(signature, call.threadgroup)
        self._add_notes(notes)
        self._take(signature, refused, origin)
        limits = checked_run.Limits(self.time_limit, self.memory_limit, self.arithmetic)
        result = checked_run.launch(signature, call, limits, self._schedules(signature, call))
        self._count(accesses=result.accesses, dropped=result.dropped)
        for note in self._add_notes(result.notes):
            if checked_run.BOUNDS_ONLY in note or checked_run.SAMPLED in note:
                warnings.warn(note, UncheckedWarning, stacklevel=2)
        # What the run finds of a line that Metal refuses as it stands is the same once more.
        said = {(f.part, f.line) for f in refused}
        found = [f for f in result.findings if f.kind != "metal-lint" or (f.part, f.line) not in said]
        self._take(signature, found, origin)
        return result.outputs

    def _count(self, launches: int = 0, accesses: int = 0, dropped: int = 0) -> None:
        """Add to what was seen, here and in the check that hears of this one."""
        with self._lock:
            self.launches += launches
            self.accesses += accesses
            self.dropped += dropped
        if self.outer is not None:
            self.outer._count(launches, accesses)

    def _add_notes(self, notes: Sequence[str]) -> list[str]:
        """Keep the notes that are new, and return them."""
        with self._lock:
            added = [note for note in dict.fromkeys(notes) if note not in self.notes]
            self.notes += added
        return added

    def _take(self, signature: Signature, findings: list[Finding], origin: Origin | None) -> None:
        """Note findings that are not suppressed, and raise if that is asked for."""
        from zmlx.check.origins import with_files

        with self._lock:
            kept = with_files(self.suppressions.keep(findings), signature.kernel, origin)
            self._note(kept)
        if kept and self.raise_on_finding:
            raise KernelCheckError(_error_text(signature, kept), kept)

    def _schedules(self, signature: Signature, call: Call) -> tuple[str, ...]:
        """Other orders are tried once for each shape of launch, where threads can see each other's progress."""
        from zmlx.launch.translations import meeting

        key = (signature, call.grid, call.threadgroup)
        with self._lock:
            if key in self._compared:
                return ()
            self._compared.add(key)
        kernel = signature.kernel
        meets = any(meeting(kernel)) or kernel.atomic_outputs
        return self.schedules if meets or "atomic" in kernel.source + kernel.header else ()

    def _note(self, findings: list[Finding]) -> None:
        if self.outer is not None:
            self.outer._note(findings)
        for finding in findings:
            key = finding.identity
            index = self._known.get(key)
            if index is not None:
                known = self.findings[index]
                self.findings[index] = replace(known, count=known.count + finding.count)
            elif len(self.findings) < self.max_findings:
                self._known[key] = len(self.findings)
                self.findings.append(finding)
            else:
                self.dropped += 1

    def report(self, colour: bool = False) -> str:
        """All findings as text, and a line that counts them."""
        parts = [render(self.findings, colour)] if self.findings else []
        more = f" (and {self.dropped} that are not listed)" if self.dropped else ""
        parts += self.notes
        parts.append(
            f"zmlx checked {self.launches} launches, {self.accesses} memory accesses: "
            f"{summarize(self.findings)}{more}"
        )
        return "\n\n".join(parts)

    def to_json(self) -> str:
        """The findings as JSON."""
        return json.dumps(
            {
                "launches": self.launches,
                "accesses": self.accesses,
                "dropped": self.dropped,
                "notes": self.notes,
                "findings": [finding.to_dict() for finding in self.findings],
            },
            indent=2,
        )

    def to_sarif(self) -> str:
        """The findings as SARIF 2.1.0."""
        from zmlx.check.sarif import to_sarif

        return to_sarif(self.findings)


def _error_text(signature: Signature, findings: list[Finding]) -> str:
    return f"[metal_kernel] The checker has {summarize(findings)} in {signature.kernel.name!r}.\n\n{render(findings)}"


@contextlib.contextmanager
def checked(
    raise_on_finding: bool = True,
    *,
    schedules: tuple[str, ...] = SCHEDULES,
    time_limit: float = 60.0,
    memory_limit: int = 4 << 30,
    suppressions: str | os.PathLike[str] | None = None,
    arithmetic: bool = False,
) -> Iterator[Checking]:
    """Run the launches of a ``with`` block under the checker.

    Parameters
    ----------
    raise_on_finding
        Raise `KernelCheckError` from the launch; otherwise only collect.
    schedules
        The other orders of threads to run in when nothing was found; ``()`` for none.
    time_limit
        Seconds that one launch may take.
    memory_limit
        Bytes of shadow memory that one launch may take for its outputs; an output for which there is not enough is
        checked against its bounds only, and ``notes`` says so.
    suppressions
        A file that names findings which are known and meant; see `zmlx.check.suppressions`.
    arithmetic
        Report arithmetic that Metal leaves undefined too (numbers beyond the integer they are converted to, signed
        overflow, shifts by more than the bits there are), and NaN in outputs of inputs that are all finite.

    Raises
    ------
    KernelCheckError
        From a launch with findings, and at the end of the block if an entry of the suppressions was not needed;
        neither with ``raise_on_finding=False``.
    ValueError
        An unknown schedule, or a suppression file that cannot be read.

    Examples
    --------
    >>> with zmlx.checked(raise_on_finding=False) as check:
    ...     y = my_op(x)
    >>> for finding in check.findings:
    ...     print(finding)
    """
    unknown = [s for s in schedules if s not in (*SCHEDULES, "lockstep")]
    if unknown:
        raise ValueError(f"schedules: expected some of {', '.join(map(repr, SCHEDULES))}; got {unknown[0]!r}")
    known = load_suppressions(suppressions) if suppressions is not None else None
    check = Checking(raise_on_finding, schedules, time_limit, memory_limit, known, arithmetic=arithmetic)
    above = current()
    if isinstance(above, Checking):
        check.outer = above if above.hears_inner else above.outer
    with intercepting(check):
        yield check
    unneeded = check.suppressions.unneeded()
    if unneeded and raise_on_finding:
        raise KernelCheckError("\n".join(unneeded))


@lru_cache
def check_of_process() -> Checking | None:
    """The check that ``$ZMLX_CHECK`` asks for, the same at every call; None if it asks for none."""
    if os.environ.get(CHECK_VARIABLE, "").lower() in _OFF:
        return None
    path = os.environ.get(SUPPRESSIONS_VARIABLE)
    return Checking(suppressions=load_suppressions(path) if path else None)


def watch_process() -> None:
    """Check all launches of this process, if ``$ZMLX_CHECK`` asks for it when the first one comes."""
    set_process_interceptor(check_of_process)
