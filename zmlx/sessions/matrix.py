"""What the sessions run, for zmlx and for anyone's project: a `Matrix` says what they install."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nox

from zmlx.sessions import host
from zmlx.sessions.environment import (
    add_step_summary,
    in_host_python,
    install,
    missing,
    prove,
    python,
    usage_errors,
    without,
)

REPORT_DIR = "build/report"
BENCH_DIR = "build/bench"
BENCH_CMP_DIR = "build/bench-cmp"
EVIDENCE_DIR = "build/evidence"


@dataclass(frozen=True)
class Matrix:
    """A project's sessions.

    Attributes
    ----------
    root : pathlib.Path
        The project's folder.
    requirements : callable
        From the extras of zmlx that a session needs ("cpu", …) to what pip installs, zmlx and the project included.
    """

    root: Path
    requirements: Callable[[tuple[str, ...]], Sequence[str]]

    def set_up(
        self,
        session: nox.Session,
        backend: str,
        *more: str,
        extras: tuple[str, ...] = (),
        alone: Sequence[str] = (),
    ) -> None:
        """Install zmlx with the back end's MLX and prove that MLX computes on it; skip where it is missing.

        What is in ``alone`` is installed without what it depends on.
        """
        try:
            wheel = host.find_wheel(backend, host.this_host())
        except host.MissingBackend as reason:
            missing(session, str(reason))
        else:
            wanted = (*((wheel.extra,) if wheel.extra else ()), *extras)
            install(session, self.root, *self.requirements(wanted), *more, alone=alone)
            prove(session, backend)

    def choose(self, session: nox.Session) -> tuple[str, list[str]]:
        """The back end of ``-- --backend NAME``, else this machine's best, and the other arguments."""
        with usage_errors(session):
            return host.choose_backend(session.posargs, host.this_host())
        raise AssertionError("session.error() returned")

    def pytest(
        self,
        session: nox.Session,
        backend: str,
        posargs: Sequence[str],
        *arguments: str,
        parallel: bool = True,
    ) -> None:
        """Run pytest on a back end. ``--backend`` also makes it fail if no test executed."""
        gpus = host.visible_gpus(host.this_host().driver) if backend == "cuda" else []
        count = host.count_workers(host.SUITES[backend], len(gpus))
        workers = host.xdist_arguments(posargs, count, gpus) if parallel else []
        if workers and in_host_python(session) and importlib.util.find_spec("xdist") is None:
            session.log("pytest-xdist is not installed in this Python: the tests run one after the other")
            workers = []
        # A Python that is not ours may hold plugins that are not either; pytest-benchmark, for one, warns about xdist
        # in every session, and warnings are errors here. Where it is missing, this says nothing.
        foreign = ["-p", "no:benchmark"] if in_host_python(session) else []
        python(session, "-m", "pytest", f"--backend={backend}", *foreign, *workers, *arguments, *posargs)

    def suite(self, session: nox.Session, backend: str, markers: str = "") -> None:
        """The test suite on one back end, or those of its tests that a marker expression names."""
        self.set_up(session, backend)
        chosen = " and ".join(f"({part})" for part in (host.SUITES[backend].markers, markers) if part)
        self.pytest(session, backend, session.posargs, *(["-m", chosen] if chosen else []))

    def golden_gen(self, session: nox.Session) -> None:
        """Record the golden values of one back end."""
        backend, posargs = self.choose(session)
        self.set_up(session, backend)
        arguments = without(posargs, "--require-backend")
        python(session, "-m", "zmlx", "golden", "record", "--backend", backend, *arguments)

    def golden_cmp(self, session: nox.Session, *, tests: Sequence[str] = ()) -> None:
        """Compare live values with recorded ones and write the report; then run what is marked golden in `tests`."""
        backend, posargs = self.choose(session)
        with usage_errors(session):
            golden_dir, posargs = host.take_option(posargs, "--golden-dir")
        self.set_up(session, backend)
        place = ["--golden-dir", golden_dir] if golden_dir else []
        compare = ("-m", "zmlx", "golden", "compare", "--backend", backend, "--report-dir", REPORT_DIR)
        more = [] if tests else without(posargs, "--require-backend")
        try:
            python(session, *compare, *place, *more)
        finally:
            add_step_summary(self.root / REPORT_DIR)
        if tests:
            self.pytest(session, backend, posargs, "-m", "golden", *tests, *place, parallel=False)

    def bench(self, session: nox.Session, directory: str = BENCH_DIR, peers: Sequence[str] = ()) -> None:
        """Time the kernels and write the tables; ``-- --peers`` installs `peers`, where there are any to time."""
        backend, posargs = self.choose(session)
        wanted = peers if "--peers" in posargs and backend == "cuda" else ()
        self.set_up(session, backend, *wanted)
        arguments = without(posargs, "--require-backend", "--peers")
        place = ["--output-dir", directory]
        try:
            python(session, "-m", "zmlx", "bench", "--backend", backend, *place, *arguments)
        finally:
            add_step_summary(self.root / directory)

    def bench_cmp(self, session: nox.Session, directory: str = BENCH_CMP_DIR) -> None:
        """Compare two benchmarks. Nothing is installed: it needs the Python that nox runs in, and zmlx's folder."""
        page = f"{directory}/comparison.md"
        arguments = without(session.posargs, "--require-backend")
        try:
            python(session, "-m", "zmlx", "bench-cmp", "--markdown", page, *arguments)
        finally:
            add_step_summary(self.root / directory)

    def leaks(self, session: nox.Session) -> None:
        """Launch kernels very often and write what the process held."""
        backend, posargs = self.choose(session)
        self.set_up(session, backend)
        arguments = without(posargs, "--require-backend")
        place = ["--output-dir", EVIDENCE_DIR]
        python(session, "-m", "zmlx", "leaks", "--backend", backend, *place, *arguments)
