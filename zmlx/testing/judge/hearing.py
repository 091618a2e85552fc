"""One candidate judged: questions asked, launches run, answers weighed. All comparing and timing is done here."""

from __future__ import annotations

import json
import math
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zmlx.testing.judge.arrays import Raw
from zmlx.testing.judge.evidence import Answer, Earlier, weigh
from zmlx.testing.judge.launches import Replay
from zmlx.testing.judge.plan import Case, Question, draw, slots
from zmlx.testing.judge.process import START_LIMIT, Child
from zmlx.testing.judge.transport import EndOfMessages, Message, OutOfTime, ProtocolError
from zmlx.testing.judge.verdict import Verdict
from zmlx.testing.opinfo import OpInfo

#: Kernel launches that one call may make.
MAX_LAUNCHES = 64
#: Seconds that compiling a kernel, plain and under the checker, may take beside running it.
COMPILE_LIMIT = 120.0
#: Reasons after which no more is asked: each call would have its kernels compiled anew.
ENDING = {"depends-on-values", "kernel-failed"}
_NO_MEMORY = re.compile(r"MemoryError|bad_alloc|[Uu]nable to allocate|\[malloc", re.I)


@dataclass(frozen=True)
class Limits:
    """What a candidate may take: seconds for a call (the judge's own launches not counted), and megabytes of memory."""

    seconds: float = 20.0
    megabytes: int = 2048


class _Over(Exception):
    """The candidate cannot be asked any more."""


@dataclass
class _Hearing:
    op: OpInfo
    limits: Limits
    verdict: Verdict
    worker: Child
    replayer: Child
    #: Results so far, for telling a stale one.
    seen: list[Earlier] = field(default_factory=list)
    #: Bytes of outputs of the launches of the present call.
    taken: int = 0

    def refuse(self, code: str, case: str, message: str) -> _Over:
        self.verdict.refuse(code, case, message)
        return _Over()

    def from_worker(self, seconds: float, where: str) -> Message:
        try:
            return self.worker.receive(seconds, self.limits.megabytes << 20)
        except OutOfTime:
            message = f"no answer after {self.limits.seconds:g} s"
            raise self.refuse("out-of-time", where, message) from None
        except EndOfMessages:
            raise self.refuse("ended-early", where, f"its process {self.worker.status()}") from None
        except ProtocolError as error:
            raise self.refuse("broke-protocol", where, str(error)) from None

    def to_worker(
        self, kind: str, fields: dict[str, Any], arrays: tuple[Raw, ...] | list[Raw], where: str
    ) -> None:
        try:
            self.worker.send(kind, fields, arrays, self.limits.seconds)
        except (OutOfTime, BrokenPipeError):
            message = f"its process does not read, and {self.worker.status()}"
            raise self.refuse("ended-early", where, message) from None

    def begin(self, candidate: Path, function: str) -> None:
        self.replayer.send("setup", {"time": self.limits.seconds})
        fields = {
            "candidate": str(candidate),
            "function": function,
            "memory": self.limits.megabytes,
            "judged": True,
        }
        where = "loading it"
        self.to_worker("setup", fields, [], where)
        self.from_worker(START_LIMIT, where)
        self.verdict.looked_at = dict(self.replayer.receive(START_LIMIT).fields)
        answer = self.from_worker(self.limits.seconds, where)
        for name, what in (("legality", "no libclang: legality"), ("nvrtc", "no NVRTC: the CUDA text")):
            if not self.verdict.looked_at[name]:
                self.verdict.notes.append(f"{what} was not judged")
        if answer.kind == "launch":
            raise self.refuse("broke-protocol", where, "it launches a kernel while it is imported")
        if answer.kind != "ready":
            raise self.raised(answer, where, "did-not-load")

    def raised(self, answer: Message, where: str, code: str = "raised") -> _Over:
        kind, text = str(answer.fields.get("type")), str(answer.fields.get("error"))
        if _NO_MEMORY.search(f"{kind}: {text}"):
            return self.refuse("out-of-memory", where, f"{kind}: {text} (limit: {self.limits.megabytes} MB)")
        self.verdict.refuse(code, where, f"{kind}: {text}")
        return _Over()

    def replay(self, message: Message, where: str) -> Replay | None:
        """Run a launch; None if it cannot be run."""
        names = message.fields.get("input_names")
        if not isinstance(names, list) or len(names) != len(message.arrays):
            raise self.refuse(
                "broke-protocol", where, "a launch without an array for each of its input names"
            )
        self.taken += _bytes_of(message.fields.get("output_shapes"))
        if self.taken > self.limits.megabytes << 20:
            what = f"launches with {self.taken >> 20} MB of outputs in one call, at 8 bytes an element"
            raise self.refuse("out-of-memory", where, f"{what} (limit: {self.limits.megabytes} MB)")
        try:
            self.replayer.send("launch", message.fields, message.arrays)
            answer = self.replayer.receive(self.limits.seconds + COMPILE_LIMIT)
        except (EndOfMessages, BrokenPipeError):
            message_ = f"the kernel's process {self.replayer.status()}"
            raise self.refuse("kernel-failed", where, message_) from None
        except OutOfTime:
            raise self.refuse("out-of-time", where, "a kernel does not end") from None
        self.verdict.launches += 1
        if answer.kind != "outputs":
            self.verdict.refuse("kernel-failed", where, str(answer.fields["error"]))
            self.to_worker("failed", answer.fields, [], where)
            return None
        for code, key in (("checker", "findings"), ("cuda", "refusals")):
            if answer.fields[key]:
                self.verdict.refuse(code, where, "\n".join(answer.fields[key])[:4000])
        if answer.fields["stopped"]:
            # Whatever comes next would take the whole limit again.
            raise self.refuse("out-of-time", where, "a kernel does not end")
        self.to_worker("outputs", {}, answer.arrays, where)
        return Replay(message.fields, message.arrays, answer.arrays)

    def ask(self, case: Case, question: Question) -> Answer | None:
        """One call; None if it raised."""
        arrays = question.arrays(case.dtype)
        nonce = secrets.token_hex(8)
        where = case.name
        fields = {
            "nonce": nonce,
            "reuse": question.reuse,
            "layout": case.layout,
            "slots": slots(question.sample.args),
            "kwargs": dict(question.sample.kwargs),
        }
        self.to_worker("call", fields, arrays, where)
        self.verdict.calls += 1
        launches: list[Replay] = []
        self.taken = 0
        left = self.limits.seconds
        while True:
            began = time.monotonic()
            message = self.from_worker(max(0.0, left), where)
            left -= time.monotonic() - began
            if message.kind == "launch":
                if len(launches) >= MAX_LAUNCHES:
                    raise self.refuse(
                        "broke-protocol", where, f"more than {MAX_LAUNCHES} launches in one call"
                    )
                done = self.replay(message, where)
                launches += [done] if done is not None else []
                continue
            if message.fields.get("nonce") != nonce:
                raise self.refuse("broke-protocol", where, "an answer to a question that was not asked")
            if message.kind == "raised":
                if "kernel-failed" not in self.verdict.codes:
                    over = self.raised(message, where)
                    if "out-of-memory" in self.verdict.codes:
                        raise over
                return None
            count = message.fields.get("results")
            if (
                message.kind != "result"
                or type(count) is not int
                or count + len(arrays) != len(message.arrays)
            ):
                raise self.refuse("broke-protocol", where, f"expected a result, got {message.kind!r}")
            return Answer(message.arrays[:count], message.arrays[count:], message.fields, tuple(launches))

    def hear(self, case: Case) -> None:
        self.verdict.cases += 1
        answers = []
        for question in case.questions:
            answer = self.ask(case, question)
            if answer is None:
                return
            answers.append(answer)
        weigh(self.verdict, self.op, case, answers, self.seen)
        for question, answer in zip(case.questions, answers, strict=True):
            self.seen += zip(answer.results, question.expected, strict=False)


def _bytes_of(shapes: Any) -> int:
    """The most that arrays of these shapes take; 0 where these are none, which launching them will say."""
    try:
        return sum(8 * math.prod(map(int, shape)) for shape in shapes)
    except (TypeError, ValueError):
        return 0


def judge(
    candidate: Path,
    op: OpInfo,
    *,
    function: str | None = None,
    seeds: int = 1,
    limits: Limits | None = None,
    paths: tuple[Path, ...] = (),
    against: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Verdict:
    """Judge a function that nobody trusts yet.

    Parameters
    ----------
    candidate : pathlib.Path
        A Python file. It runs in a process of its own.
    op : OpInfo
        What it is to compute. Its oracle's answers stay in this process.
    function : str, optional
        The function in the file; the operation's last name unless given.
    seeds : int
        How many hidden shapes are drawn for each dtype, 1 or more.
    limits : Limits, optional
        Of time and memory.
    paths : sequence of pathlib.Path
        Folders that the candidate may import from.
    against : str, optional
        "package.module:NAME", the table that `op` is of: also time an accepted candidate against its operation, in a
        process like the candidate's.
    progress : callable, optional
        Called as ``progress(done, total, name)`` before each case.

    Raises
    ------
    ValueError
        There is no such file, `seeds` is less than 1, or an argument of the operation is no array, number, string,
        None or list of them.
    """
    if not candidate.is_file() or candidate.suffix != ".py":
        raise ValueError(f"{candidate}: expected a Python file (*.py) with the candidate.")
    if seeds < 1:
        raise ValueError(f"--seeds: expected 1 or more, got {seeds}.")
    limits = limits or Limits()
    name = function or op.name.rpartition(".")[2]
    began = time.monotonic()
    verdict = Verdict(str(candidate), op.name)
    mark = secrets.token_hex(16)
    room = Path(tempfile.mkdtemp(prefix="zmlx-judge-"))
    try:
        for part in ("worker", "replayer"):
            (room / part).mkdir()
        from zmlx.launch.cache import cache_dir

        # The kernels' process keeps compiled kernels where this one does, and the candidate's has a cache of its own.
        replayer = Child(
            "zmlx.testing.judge.replayer",
            room / "replayer",
            f"{mark}-r",
            {"ZMLX_CACHE_DIR": str(cache_dir())},
        )
        own = {"ZMLX_CACHE_DIR": str(room / "worker" / "cache")}
        worker = Child("zmlx.testing.judge.worker", room / "worker", f"{mark}-w", own, paths)
        try:
            hearing = _Hearing(op, limits, verdict, worker, replayer)
            _hear_all(hearing, candidate.resolve(), name, seeds, progress)
        finally:
            _end(verdict, worker, replayer)
    finally:
        shutil.rmtree(room, ignore_errors=True)
    if against is not None and verdict.accepted:
        from zmlx.testing.judge.timing import time_both

        time_both(verdict, op, (candidate.resolve(), name), against, limits.megabytes, paths)
    verdict.seconds = time.monotonic() - began
    return verdict


def _hear_all(
    hearing: _Hearing,
    candidate: Path,
    function: str,
    seeds: int,
    progress: Callable[[int, int, str], None] | None,
) -> None:
    # Drawn before the candidate runs, and from a secret that never leaves this process.
    skipped: list[str] = []
    cases = list(draw(hearing.op, seeds, secrets.token_hex(16), skipped))
    for question in (question for case in cases for question in case.questions):
        _check_arguments(hearing.op, question)
    if skipped:
        what = "; ".join(skipped)
        hearing.verdict.notes.append(
            f"not asked, for the table's own operation does not get it right: {what}"
        )
    asked = [case for case in cases if case.is_hidden and case.has_elements]
    try:
        hearing.begin(candidate, function)
        for done, case in enumerate(cases):
            if progress is not None:
                progress(done, len(cases), case.name)
            hearing.hear(case)
            if ENDING.intersection(hearing.verdict.codes):
                break
    except _Over:
        hearing.worker.kill()
    missing = set(hearing.op.dtypes_on("cpu")) - {case.dtype for case in asked}
    if missing:
        hearing.verdict.refuse(
            "nothing-judged",
            ", ".join(sorted(missing)),
            f"{hearing.op.name}: the table's own operation does not agree with its oracle on any hidden shape",
        )


def _check_arguments(op: OpInfo, question: Question) -> None:
    try:
        json.dumps([slots(question.sample.args), dict(question.sample.kwargs)])
    except TypeError as error:
        raise ValueError(
            f"{op.name}, sample {question.sample.name}: expected arrays, numbers, strings, None, or lists of them as "
            f"arguments, which can go to another process: {error}."
        ) from error


def _end(verdict: Verdict, worker: Child, replayer: Child) -> None:
    verdict.printed = worker.printed()
    left = worker.close()
    if left:
        verdict.refuse("left-processes", "the end", f"{len(left)} of them, ended now")
    replayer.close()
