"""What every pass promises, proved between passes; on in the tests (``ZMLX_VERIFY_PASSES=1``), off otherwise.

=====================================  =====================================================================
a pass leaves                          so that
=====================================  =====================================================================
as many lines as there were            compilers, debuggers and the checker speak of the author's lines
each word that it keeps in its line
brackets as balanced as they were      a mistake of the author's is told as the author's
in what is written anew, ``#line``     the same, where statements had to move (regions.py); only that they name lines
                                       which there are is proved
=====================================  =====================================================================
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from zmlx.metal.structure import Source
from zmlx.metal.tokens import punctuation, tokenize
from zmlx.translate.unit import Unit

#: Set to 1: a broken promise is a `PassError`.
VERIFY_VARIABLE = "ZMLX_VERIFY_PASSES"

_OFF = ("", "0")
_PAIRS = (("(", ")"), ("[", "]"), ("{", "}"))
_MARKER = re.compile(r"#line (\d+)")


class PassError(AssertionError):
    """A pass broke a promise: a mistake of zmlx's own, whatever the kernel is."""


@dataclass(frozen=True)
class Promises:
    """What must hold after a pass as it held before, by part."""

    texts: dict[str, str]
    lines: dict[str, int]
    balance: dict[str, tuple[int, ...]]


def is_on() -> bool:
    """Whether somebody asked for proofs."""
    return os.environ.get(VERIFY_VARIABLE, "") not in _OFF


def promises(unit: Unit) -> Promises | None:
    """What the next pass has to keep; None if nobody asked."""
    return _promises(unit.texts()) if is_on() else None


def _promises(texts: Mapping[str, str]) -> Promises:
    return Promises(
        dict(texts),
        {part: text.count("\n") for part, text in texts.items()},
        {part: _balance(text) for part, text in texts.items()},
    )


def check(
    before: Promises | None, unit: Unit, step: str, moves_lines: bool = False, moves_brackets: bool = False
) -> Promises | None:
    """Prove that a pass kept its promises.

    Returns
    -------
    Promises or None
        What the pass after it has to keep: as `promises` would say now.

    Raises
    ------
    PassError
        It did not; the message names the pass, the kernel and the line.
    """
    if before is None:
        return None
    texts = unit.texts()
    after = _promises(texts)
    for part, text in texts.items():
        where = f"the pass {step!r}, in the {part} of {unit.kernel.name!r}"
        if moves_lines and part == "source":
            _check_markers(text, before.lines[part], where)
            wanted: tuple[int, ...] = (0,) * len(_PAIRS)
        else:
            _check_lines(after.lines[part], before.lines[part], where)
            wanted = before.balance[part]
        balance = after.balance[part]
        if balance != wanted and not moves_brackets:
            raise PassError(f"{where}: expected brackets left open {wanted} for () [] {{}}, got {balance}")
    for source in unit.program.sources:
        # What is as it was has its words where they were.
        same = texts[source.part] == before.texts[source.part]
        if not same and not (moves_lines and source.part == "source"):
            _check_origins(source, f"the pass {step!r}, in the {source.part} of {unit.kernel.name!r}")
    return after


def _check_lines(got: int, wanted: int, where: str) -> None:
    if got != wanted:
        raise PassError(f"{where}: expected {wanted + 1} lines, got {got + 1}")


def _check_origins(source: Source, where: str) -> None:
    line = 1
    for token in source.tokens:
        if token.before:
            line += token.before.count("\n")
        if line != token.line and token.is_code and token.text:
            raise PassError(f"{where}: {token.text!r} of line {token.line} stands in line {line}")
        line += token.text.count("\n")
        if token.after:
            line += token.after.count("\n")


def _check_markers(text: str, last: int, where: str) -> None:
    # By tokens: a comment may hold the like.
    tokens = tokenize(text)
    rest = ("".join(t.text for t in tokens[i : i + 3]) for i, t in enumerate(tokens) if t.kind == "directive")
    lines = [int(found[1]) for found in map(_MARKER.match, rest) if found]
    wrong = next((line for line in lines if not 1 <= line <= last + 1), None)
    if wrong is not None:
        raise PassError(f"{where}: expected #line from 1 to {last + 1}, got {wrong}")


@lru_cache(maxsize=64)  # most passes leave a text as it is
def _balance(text: str) -> tuple[int, ...]:
    counts = Counter(punctuation(text))
    return tuple(counts[opener] - counts[closer] for opener, closer in _PAIRS)
