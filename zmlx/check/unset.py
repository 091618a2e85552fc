"""The words for a thread's own variables that are read before they have a value."""

from __future__ import annotations

import re
from collections.abc import Sequence

from zmlx.check.findings import Access, Finding
from zmlx.check.locals import Suspect, is_doubtful
from zmlx.check.symbolize import Places
from zmlx.metal.signature import KernelSource

#: ``<kernel> source:3:7: warning: 'v' is used uninitialized``, as g++ and clang say it.
_UNSET = re.compile(
    r"(?P<file>[^:]* (?:source|header)):(?P<line>\d+)(?::\d+)?: warning: "
    r".*?['\u2018](?P<name>[^'\u2019]+)['\u2019] (?P<how>may|is)\b"
)


def unset_variables(kernel: KernelSource, warnings: str, places: Places) -> list[Finding]:
    """The compiler's own findings: a thread's variables that are read before they have a value."""
    found = []
    for line in warnings.splitlines():
        match = _UNSET.search(line)
        # What only may be so is tried out: see locals.py.
        if match is None or is_doubtful(line) or not match["file"].startswith(kernel.name):
            continue
        place = places.named(match["file"], int(match["line"]))
        # The compiler names parts of an array that it has taken apart: held$0.
        name = match["name"].partition("$")[0]
        message = f"the variable {name} is read before it has a value"
        access = Access(f"reads {name}", place)
        finding = Finding(
            "uninitialized",
            kernel.name,
            message,
            "give it a value where it is declared.",
            (access,),
            name,
        )
        if finding not in found:
            found.append(finding)
    return found


def unset_local(kernel: KernelSource, suspects: Sequence[Suspect], places: Places, how: str) -> Finding:
    """A variable that was seen to be read before it has a value."""
    named = [s for s in suspects if not s.declared] or list(suspects)
    names = list(dict.fromkeys(s.name for s in named))
    which = (
        f"the variable {names[0]} is" if len(names) == 1 else f"one of the variables {', '.join(names)} is"
    )
    first = named[0]
    access = Access(
        f"declares {first.name} without a value" if first.declared else f"reads {first.name}",
        places.line(first.part, first.line),
    )
    return Finding(
        "uninitialized",
        kernel.name,
        f"{which} read before it has a value: {how}",
        "give it a value where it is declared, or read only what was written.",
        (access,),
        names[0] if len(names) == 1 else "",
    )
