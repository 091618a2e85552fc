"""One run of pytest in a copy of the project, and what it says of the fault in it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zmlx.testing.mutants.mutant import Mutant
from zmlx.testing.mutants.plant import planted

State = Literal["noticed", "survived", "equivalent", "broken"]

#: pytest's exit statuses.
_ALL_PASSED, _SOME_FAILED = 0, 1

#: What a test raises if the fault is no kernel any more: it would be "noticed" by any test that runs it.
_STILLBORN = ("KernelCompileError", "TranslationError", "SyntaxError", "ImportError", "PassError")


@dataclass(frozen=True)
class Trial:
    """What became of a mutant.

    Attributes
    ----------
    mutant : Mutant
        The fault.
    state : str
        "noticed"; "survived"; "equivalent": survived, as declared; "broken": the trial proves nothing.
    by : str
        The test that failed, or why the trial is broken.
    seconds : float
        How long it took.
    """

    mutant: Mutant
    state: State
    by: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it is as it should be: noticed, or declared equivalent and not noticed."""
        return self.state == ("equivalent" if self.mutant.equivalent else "noticed")


@dataclass(frozen=True)
class Outcome:
    """How a run of pytest ended: its exit status (None: the time was up), and the first failure."""

    status: int | None
    test: str = ""
    message: str = ""
    tail: str = ""


def run_pytest(copy: Path, arguments: tuple[str, ...], backend: str, limit: float) -> Outcome:
    """Run tests in a copy of the project, up to the first failure."""
    results = copy.parent / "results.xml"
    command = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    more = (f"--backend={backend}", f"--junitxml={results}", *arguments)
    # The working directory comes first on the path of `python -m`; children find the copy by PYTHONPATH.
    path = os.pathsep.join(filter(None, (str(copy), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, *more],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return Outcome(None)
    test, message = first_failure(results) if results.is_file() else ("", "")
    return Outcome(
        done.returncode, test, message, "\n".join(done.stdout.splitlines()[-15:]) + done.stderr[-500:]
    )


def first_failure(results: Path) -> tuple[str, str]:
    """The name and the message of the first test of a JUnit file that failed; two empty strings if none did."""
    for case in ElementTree.parse(results).iter("testcase"):
        for kind in ("failure", "error"):
            failure = case.find(kind)
            if failure is not None:
                module = case.get("classname", "").rpartition(".")[2]
                return f"{module}::{case.get('name', '')}", failure.get("message", "")
    return "", ""


def judge(mutant: Mutant, outcome: Outcome, limit: float) -> tuple[State, str]:
    """What the end of the tests says of a mutant: a state, and by which test or why."""
    status = outcome.status
    if status is None:
        return "noticed", f"time limit of {limit:.0f} s"
    if status < 0:
        return "noticed", f"signal {-status}"
    if status == _ALL_PASSED:
        return ("equivalent", mutant.equivalent) if mutant.equivalent else ("survived", "")
    stillborn = next((name for name in _STILLBORN if name in outcome.message), None)
    if stillborn is not None:
        return "broken", f"{outcome.test}: {stillborn}, so it is no fault in a kernel that runs"
    if status == _SOME_FAILED and outcome.test:
        return "noticed", outcome.test
    return "broken", f"pytest ended with status {status} and no failed test:\n{outcome.tail}"


def try_mutant(root: Path, mutant: Mutant, backend: str, limit: float) -> Trial:
    """Plant a mutant in a copy of the project and run its tests there."""
    began = time.monotonic()
    with planted(root, mutant) as copy:
        outcome = run_pytest(copy, mutant.tests, backend, limit)
    state, by = judge(mutant, outcome, limit)
    return Trial(mutant, state, by, time.monotonic() - began)
