"""The type check of one signature, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from zmlx._text import count
from zmlx.check import lint
from zmlx.check.findings import Access, Finding
from zmlx.check.legality import front_end, rules
from zmlx.check.legality.sections import msl
from zmlx.check.legality.text import HEADER, SOURCE, written
from zmlx.check.symbolize import Place
from zmlx.launch.records import Triple
from zmlx.metal.signature import KernelSource, Signature
from zmlx.metal.tokens import tokenize
from zmlx.metal.words import ADDRESS_SPACES, reserved_names


@dataclass(frozen=True)
class Judgement:
    """``findings`` are what Metal refuses; ``unclear`` counts lines that the front end did not understand."""

    findings: tuple[Finding, ...] = ()
    unclear: int = 0


@lru_cache(maxsize=4096)
def judge(signature: Signature) -> Judgement:
    """What Metal's compiler would refuse of the function that MLX generates for a signature.

    Raises
    ------
    RuntimeError
        There is no libclang.
    """
    kernel = signature.kernel
    found: list[Finding] = []
    unclear: set[tuple[str, int]] = set()
    for part, text in (("header", kernel.header), ("source", kernel.source)):
        for word, line in _reserved(text):
            section = msl("4" if word in ADDRESS_SPACES else "2.1")
            message = f"a variable named `{word}`, which is a word of Metal ({section})"
            found.append(_finding(kernel, part, line, message, "give it another name."))
    for complaint in front_end.parse(written(signature)):
        verdict = rules.verdict(complaint)
        # What a failed constant makes of an array is no array of a variable length, and what an unknown type makes of
        # a variable is no int.
        doubtful = verdict and unclear and (verdict.of_int or "whose size is not" in verdict.message)
        if verdict is None or doubtful:
            if complaint.error:
                unclear.add((complaint.file, complaint.line))
            continue
        message = f"{verdict.message} ({verdict.paragraph})"
        finding = _finding(kernel, verdict.part, verdict.line, message, verdict.advice)
        if all((f.part, f.line) != (verdict.part, verdict.line) for f in found):
            found.append(finding)
    known = {(HEADER if f.part == "header" else SOURCE, f.line) for f in found}
    return Judgement(tuple(found), len(unclear - known))


@lru_cache(maxsize=256)
def _reserved(text: str) -> tuple[tuple[str, int], ...]:
    """Variables of a text that have the name of a word of Metal, and their lines."""
    return tuple((token.text, token.line) for token in reserved_names(tokenize(text)))


def static_findings(signature: Signature, threadgroup: Triple) -> tuple[list[Finding], list[str]]:
    """What Metal refuses of a call before it runs, by the rules of lint.py and by the type check; and notes.

    Where both have found something on a line, that of lint.py is kept: it says what to write instead.
    """
    found = lint.lint(signature, threadgroup)
    if not front_end.available():
        return found, [front_end.MISSING]
    judgement = judge(signature)
    lines = {(f.part, f.line) for f in found if f.line is not None}
    found += [f for f in judgement.findings if (f.part, f.line) not in lines]
    if not judgement.unclear:
        return found, []
    note = (
        f"{signature.kernel.name}: the type check for Metal did not understand "
        f"{count(judgement.unclear, 'line')}, and does not judge them."
    )
    return found, [note]


def _finding(kernel: KernelSource, part: str, line: int, message: str, advice: str) -> Finding:
    lines = (kernel.source if part == "source" else kernel.header).split("\n")
    text = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    return Finding("not-metal", kernel.name, message, advice, (Access("here", Place(part, line, text)),))
