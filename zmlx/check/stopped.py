"""The words for a checked launch that did not come to its end."""

from __future__ import annotations

from dataclasses import dataclass

from zmlx.check import layout, phrases
from zmlx.check.findings import Access, Finding
from zmlx.check.layout import Check
from zmlx.check.wording import Words
from zmlx.errors import KernelRuntimeError

#: ``Check.stopped``
SIGNALLED, TOO_LONG, TOO_MANY_VARIABLES, NO_MEMORY = 1, 2, 3, 4


@dataclass(frozen=True)
class Fault:
    """What a signal that a kernel raised is called."""

    message: str
    advice: str
    kind: str = "stopped"


#: By ``zmlx::Error``.
FAULTS = {
    2: Fault(
        "divided an integer by zero, or the smallest integer by -1, which Metal leaves undefined",
        "guard the division.",
    ),
    3: Fault("read or wrote memory that does not exist", phrases.BOUNDS, kind="out-of-bounds"),
    4: Fault(
        "overflowed a thread's stack of 192 KB",
        "recursion, or local arrays that are too large for any GPU, are the causes; use neither.",
    ),
    5: Fault(
        "ran into a trap: __builtin_trap(), or code that the compiler knows to be never reached",
        "look for what lets a thread come here: a failed assertion of the kernel's own, or a function that ends "
        "without a return.",
    ),
}


def word_stopped(check: Check, words: Words, groups: int, time_limit: float) -> list[Finding]:
    """The finding of a launch that was stopped or ended by a signal; none if it came to its end.

    ``groups`` is the number of threadgroups, ``time_limit`` what the launch was given, in seconds.

    Raises
    ------
    KernelRuntimeError
        It declares more threadgroup variables than the checker can follow, or ended in a way that has no words.
    """
    kernel = words.kernel
    if check.stopped == TOO_MANY_VARIABLES:
        raise KernelRuntimeError(
            f"[metal_kernel] Kernel {kernel!r} declares more than {layout.MAX_VARIABLES} threadgroup variables, "
            "which the checker cannot follow."
        )
    if not check.stopped and not check.outer.error:
        return []
    thread = words.thread(check.stopped_thread, check.stopped_group)
    last = Access("was running, and accessed memory here last", words.places.at(check.last_pc), thread)
    if words.places.at(check.stopped_pc).line is not None:
        last = Access("was running here", words.places.at(check.stopped_pc), thread)
    if check.stopped:
        message = f"did not end within {time_limit:g} s under the checker"
        if check.stopped == TOO_LONG:
            message = "synchronises too often in one launch for the checker: more than 2^31 times"
        advice = (
            "look for a loop whose condition never changes. If the kernel is only slow, check it with a smaller "
            "grid, or give checked() a larger time_limit."
        )
        accesses = (last, *words.waiting(list(check.waiting[: check.waiting_count]), check.stopped_group))
        done = f"{check.groups_done} of {groups} threadgroups were done."
        return [Finding("stopped", kernel, message, advice, accesses, notes=(done,))]
    fault = FAULTS.get(check.outer.error)
    if fault is None:
        raise KernelRuntimeError(
            f"[metal_kernel] Kernel {kernel!r} ended under the checker with error {check.outer.error}, which has no "
            "words: nothing after that was checked. Please report it with the kernel's source."
        )
    return [Finding(fault.kind, kernel, fault.message, fault.advice, (last,))]
