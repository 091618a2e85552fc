"""A candidate against the operation of the table: batches of calls in two like processes, in turns.

The clock is this process's; theirs could have been replaced. Times are shown and are no part of the verdict, but a
result that is wrong outside of the judge's own launches is.
"""

from __future__ import annotations

import random
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from zmlx.testing.judge.plan import Case, draw, slots
from zmlx.testing.judge.process import START_LIMIT, Child
from zmlx.testing.judge.transport import EndOfMessages, Message, OutOfTime, ProtocolError
from zmlx.testing.judge.verdict import Timing, Verdict
from zmlx.testing.opinfo import OpInfo
from zmlx.testing.tolerance import compare

ROUNDS = 9
#: Seconds that a batch takes at least: a message costs far less.
BATCH = 0.02
MAX_BATCH = 10_000
LIMIT = 60.0


class _Failed(RuntimeError):
    """A process did not do what it was asked for."""


def _expect(child: Child, kind: str, limit: float = LIMIT) -> Message:
    try:
        message = child.receive(limit)
    except (EndOfMessages, OutOfTime, ProtocolError) as error:
        raise _Failed(f"{error}; its process {child.status()}") from error
    if message.kind != kind:
        raise _Failed(f"expected {kind!r}, got {message.kind!r}: {message.fields.get('error', '')}")
    return message


def _batch(child: Child, count: int) -> float:
    began = time.monotonic()
    child.send("batch", {"nonce": "", "count": count})
    _expect(child, "done")
    return (time.monotonic() - began) / count


def time_both(
    verdict: Verdict,
    op: OpInfo,
    candidate: tuple[Path, str],
    table: str,
    megabytes: int,
    paths: tuple[Path, ...] = (),
) -> None:
    """Put a `Timing` into `verdict`, or a note that says why there is none.

    Parameters
    ----------
    verdict : Verdict
        Of the candidate, which was accepted.
    op : OpInfo
        The operation.
    candidate : tuple of (pathlib.Path, str)
        The file and the function in it.
    table : str
        "package.module:NAME", where the other process finds `op`.
    megabytes : int
        The memory limit of each process.
    paths : sequence of pathlib.Path
        Folders that both import from.
    """
    cases = list(draw(op, 2, secrets.token_hex(16)))
    case = max(
        (c for c in cases if c.layout == "row" and c.has_elements),
        key=lambda c: (c.dtype == "float32", sum(e.size for e in c.questions[0].expected)),
    )
    room = Path(tempfile.mkdtemp(prefix="zmlx-judge-"))
    children: list[Child] = []
    try:
        for part, (path, name) in {"candidate": map(str, candidate), "incumbent": (table, op.name)}.items():
            (room / part).mkdir()
            own = {"ZMLX_CACHE_DIR": str(room / part / "cache")}
            # The table's module may lie anywhere that this process imports from.
            more = paths if part == "candidate" else tuple(Path(entry) for entry in sys.path if entry)
            child = Child("zmlx.testing.judge.worker", room / part, secrets.token_hex(16), own, more)
            children.append(child)
            fields = {"candidate": path, "function": name, "memory": megabytes, "judged": False}
            child.send("setup", fields)
            _expect(child, "started", START_LIMIT)
            _expect(child, "ready")
            _ask(child, case)
        agreement = _first(children[0], case, op)
        _first(children[1], case, op)
        if agreement:
            verdict.refuse("wrong-values", f"timing, {case.name}", agreement)
            return
        count = _calibrated(children)
        times: list[list[float]] = [[], []]
        for _ in range(ROUNDS):
            for index in random.sample((0, 1), 2):
                times[index].append(_batch(children[index], count))
        medians = [statistics.median(t) for t in times]
        verdict.timing = Timing(medians[0], medians[1], ROUNDS, case.name)
    except (_Failed, BrokenPipeError) as error:
        verdict.notes.append(f"not timed: {error}")
    finally:
        for child in children:
            child.kill()
            child.close()
        shutil.rmtree(room, ignore_errors=True)


def _ask(child: Child, case: Case) -> None:
    question = case.questions[0]
    fields: dict[str, Any] = {
        "nonce": "",
        "reuse": False,
        "layout": "row",
        "slots": slots(question.sample.args),
        "kwargs": dict(question.sample.kwargs),
    }
    child.send("call", fields, question.arrays(case.dtype))


def _first(child: Child, case: Case, op: OpInfo) -> str:
    """Take the answer to the first call, which compiles; what is wrong with it, or nothing."""
    message = _expect(child, "result")
    question = case.questions[0]
    for place, (result, expected) in enumerate(zip(message.arrays, question.expected, strict=False)):
        tolerance = op.tolerance(case.dtype, result=place)
        agreement = compare(result.values, expected, result.dtype, tolerance, name=op.name)
        if not agreement:
            return f"run without the judge's launches: {agreement.message}"
    return ""


def _calibrated(children: list[Child]) -> int:
    count = 1
    while count < MAX_BATCH and min(count * _batch(child, count) for child in children) < BATCH:
        count *= 2
    return count
