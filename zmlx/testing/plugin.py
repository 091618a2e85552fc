"""The pytest plugin: markers, skips, options, fixtures, terminal summary.

pytest loads it wherever zmlx is installed, so loading costs next to nothing: neither MLX nor NumPy is
imported by it. In a session that uses none of it, nothing changes but one header line.

=========================================  =============================================================
``--backend``, ``ZMLX_TEST_BACKEND``       the session works on that back end: MLX's default device
its back end is missing                    every test is skipped, and the reason says why
``--require-backend``                      a missing back end is an error: a usage error (exit status 4)
or ``ZMLX_REQUIRE_BACKEND=1``              for the session's own, a failing test for that of a marker
any of these, and no test executed         the session fails (exit status 1), and a line says so
``--golden-record``                        registered golden values are written if the session passes
``--golden-prune``                         recorded ones that no test registered any more are removed
=========================================  =============================================================

Under xdist the controller judges and writes, from what all workers report.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

from zmlx import _compat
from zmlx._version import __version__
from zmlx.testing import session as _session
from zmlx.testing.completeness import Attendance, why_partial
from zmlx.testing.environment import TF32_VARIABLE, describe_environment, device_facts
from zmlx.testing.fixtures import (
    assert_allclose_cross_backend,
    backend,
    golden_registry,
    has_gpu,
    is_cpu,
    is_cuda,
    is_metal,
    mx_device,
    record_error,
)
from zmlx.testing.markers import MARKERS
from zmlx.testing.reproduce import reproduce_command, session_options

# pytest finds a plugin's fixtures among the attributes of its module.
__all__ = [
    "assert_allclose_cross_backend",
    "backend",
    "golden_registry",
    "has_gpu",
    "is_cpu",
    "is_cuda",
    "is_metal",
    "mx_device",
    "record_error",
]

# The asserts of generated tests explain themselves as those of a test module do.
pytest.register_assert_rewrite("zmlx.testing.generated")

_MISSING: pytest.StashKey[str] = pytest.StashKey()
_WIRE = "zmlx"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("zmlx", "back ends of MLX (zmlx)")
    group.addoption(
        "--backend",
        dest="zmlx_backend",
        metavar="NAME",
        help="run on metal, cuda or cpu (default: $ZMLX_TEST_BACKEND, or MLX's default device)",
    )
    group.addoption(
        "--require-backend",
        dest="zmlx_require_backend",
        action="store_true",
        help="a missing back end is an error instead of a skip (also: ZMLX_REQUIRE_BACKEND=1)",
    )
    group.addoption(
        "--golden-dir",
        dest="zmlx_golden_dir",
        metavar="DIR",
        help="where recorded golden values are (default: golden_values in the root directory)",
    )
    group.addoption(
        "--golden-record",
        dest="zmlx_golden_record",
        action="store_true",
        help="write the values that tests registered with golden_registry, if the session passes",
    )
    group.addoption(
        "--golden-prune",
        dest="zmlx_golden_prune",
        action="store_true",
        help="remove recorded values that no test registered, if the whole suite ran and passed",
    )
    group.addoption(
        "--zmlx-check",
        dest="zmlx_check",
        action="store_true",
        help="run every Metal kernel under the checker, on the CPU; a finding fails its test",
    )
    group.addoption(
        "--zmlx-check-arithmetic",
        dest="zmlx_check_arithmetic",
        action="store_true",
        help="with --zmlx-check: undefined arithmetic, and NaN out of finite inputs, are findings too",
    )
    group.addoption(
        "--zmlx-check-suppressions",
        dest="zmlx_check_suppressions",
        metavar="FILE",
        help="findings that are known and meant; an entry that is not needed fails the session",
    )
    group.addoption(
        "--zmlx-check-allow-nothing",
        dest="zmlx_check_allow_nothing",
        action="store_true",
        help="a session in which --zmlx-check had no launch to check may pass",
    )
    group.addoption(
        "--zmlx-check-allow-xfail",
        dest="zmlx_check_allow_xfail",
        action="store_true",
        help="findings in tests that are expected to fail (xfail, not strict) may pass",
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, Any, Any]:
    """Launches while a conftest is imported are checked too, if this plugin is loaded by then."""
    if not getattr(early_config.known_args_namespace, "zmlx_check", False):
        return (yield)
    from zmlx.testing.checking import watching_conftests

    with watching_conftests(early_config):
        return (yield)


# First, so that --hypothesis-profile finds the profiles.
@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    from zmlx.testing.generated import profiles

    profiles.configure(config)
    for name, text in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {text}")
    state = _session.create(config)
    config.stash[_session.KEY] = state
    # With TF32 a float32 product keeps ten bits, on some GPUs only. MLX reads the variable at its first
    # matrix product; a value that the user has set stays.
    state.set_environment(TF32_VARIABLE, os.environ.get(TF32_VARIABLE, "0"))
    if state.requested is not None:
        # For subprocesses and for zmlx's own detection, which must agree with --backend.
        state.set_environment(_compat.TEST_BACKEND_VARIABLE, state.requested)
    config.pluginmanager.register(SessionHooks(config, state), "zmlx-session")
    if config.option.zmlx_check:
        from zmlx.testing.checking import CheckHooks

        config.pluginmanager.register(CheckHooks(config), "zmlx-check")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _session.KEY in config.stash:
        config.stash[_session.KEY].close()


class SessionHooks:
    """The hooks that need the session's state."""

    def __init__(self, config: pytest.Config, state: _session.Session) -> None:
        self.state = state
        self.is_worker = hasattr(config, "workerinput")
        self.executed = 0
        self.ran_loop = False
        self.attendance = Attendance()
        self.notes: list[str] = []
        self.failures: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        state = self.state
        if state.requested is not None and state.require and state.backend.name == "none":
            raise pytest.UsageError(
                f"{state.origin}: {state.requested} is not available here: {state.backend.problem}\n"
                "This is an error because of --require-backend (or ZMLX_REQUIRE_BACKEND); without it, the "
                "tests are skipped."
            )
        state.select_device()

    def pytest_report_header(self) -> str:
        found = self.state.backend
        head = f"zmlx: {__version__}"
        if found.name == "none":
            return f"{head}, no back end ({found.origin}): {found.problem.splitlines()[0]}"
        version = _compat.import_mx().__version__
        device = device_facts(found.name)["device"]
        if found.name == "cpu":
            device += self._without_compiler()
        return f"{head}, MLX {version}, back end {found.name} ({found.origin}), {device}"

    @staticmethod
    def _without_compiler() -> str:
        """What the header adds where no kernel can be compiled."""
        from zmlx.errors import CompilerNotFoundError
        from zmlx.launch.compiler import find_compiler

        try:
            find_compiler()
        except CompilerNotFoundError as error:
            return f"\nzmlx: {error}\nzmlx: the session ends at the first test that fails for want of it"
        return ""

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        self.attendance.collected.add(item.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:  # a file that skips itself has tests that nobody saw
            self.state.ledger.skipped.append(report.nodeid)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self.state.ledger.deselected += len(items)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        # Last, when -m and -k have taken out what nobody asked for.
        for item in items:
            names = {mark.name for mark in item.iter_markers()}
            reason = self.state.why_not_runnable(names)
            if reason is None:
                continue
            if self.state.require and self.state.lacks_hardware(names):
                item.stash[_MISSING] = reason
            else:
                item.add_marker(pytest.mark.skip(reason=reason))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, Any, Any]:
        # A wrapper, for xdist's own loop ends the chain of plain hooks.
        self.ran_loop = True
        before = _session.launches_in_all()
        try:
            return (yield)
        finally:
            self.state.ledger.launches += _session.launches_in_all() - before

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if _MISSING in item.stash:
            pytest.fail(f"{item.stash[_MISSING]} (an error because of --require-backend)", pytrace=False)
        self.state.select_device()  # the test before may have changed MLX's default

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.skipped and "golden_registry" in getattr(item, "fixturenames", ()):
            self.state.ledger.skipped.append(item.nodeid)
        if report.failed and "No C++ compiler" in str(report.longrepr) and self._without_compiler():
            item.session.shouldfail = (
                "no C++ compiler: see the head of this session; every other launch would fail too"
            )
        if report.failed and _uses_zmlx(item) and _MISSING not in item.stash:
            name = self.state.backend.name
            command = reproduce_command(
                item.nodeid, None if name == "none" else name, session_options(item.config)
            )
            report.sections.append(("to reproduce", command))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An expected failure has executed, though pytest reports it as skipped.
        if report.when == "call" and (not report.skipped or hasattr(report, "wasxfail")):
            self.executed += 1
        if report.when == "teardown":
            self.attendance.ran.add(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        wire = getattr(node, "workeroutput", {}).get(_WIRE)
        if wire is None:
            self.failures.append(f"worker {node.gateway.id} did not finish: its figures are missing here")
        else:
            self.state.ledger.merge_wire(wire)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        ledger = self.state.ledger
        ledger.collected = max(ledger.collected, len(self.attendance.collected))
        if self.is_worker:
            session.config.workeroutput[_WIRE] = self.state.ledger.to_wire()  # type: ignore[attr-defined]
            return
        self._demand_a_test(session)
        self.failures += self.state.ledger.conflicts
        passed = session.exitstatus == pytest.ExitCode.OK and not self.failures
        if self.state.golden_record and self.state.ledger.golden:
            self._persist_golden(passed=passed)
        if self.state.golden_prune or (self.state.golden_record and self.state.ledger.golden):
            self._find_stale(session.config, passed=passed)
        if self.failures and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _demand_a_test(self, session: pytest.Session) -> None:
        option = session.config.option
        shows_only = option.collectonly or option.setuponly or option.setupplan
        ended_well = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if self.state.strict and self.ran_loop and ended_well and not self.executed and not shows_only:
            asked = self.state.origin if self.state.requested is not None else "--require-backend"
            self.failures.append(
                f"no test executed ({asked}): everything was skipped, deselected or not collected; "
                "run with -rs to see the reasons"
            )

    def _persist_golden(self, *, passed: bool) -> None:
        from zmlx.testing.golden.file import GoldenError
        from zmlx.testing.golden.registry import persist

        here = self.state.backend.name
        for name, values in sorted(self.state.ledger.golden.items()):
            if name != here:
                self.notes.append(
                    f"{len(values)} golden values registered for {name} were not recorded: "
                    f"this session is on {here}"
                )
            elif not passed:
                self.notes.append(f"{len(values)} golden values were not recorded: the session did not pass")
            else:
                try:
                    path, changed = persist(self.state.golden_dir, name, values, describe_environment(name))
                except GoldenError as error:
                    self.failures.append(str(error))
                else:
                    self.notes.append(f"{path.name}: {changed} of {len(values)} golden values new or changed")

    def _why_not_stale(self, config: pytest.Config, *, passed: bool) -> str:
        """Why this session cannot say that a value is stale, or "": it must have run every test that may register."""
        ledger = self.state.ledger
        if self.state.backend.name == "none":
            return "the session has no back end"
        if not passed:
            return "the session did not pass"
        if ledger.deselected:
            return f"{ledger.deselected} tests were deselected, which may register them"
        if ledger.skipped:
            count, first = len(ledger.skipped), ledger.skipped[0]
            return f"{count} tests or files that may use golden_registry were skipped ({first})"
        return why_partial(config) or self.attendance.missing(ledger.collected)

    def _find_stale(self, config: pytest.Config, *, passed: bool) -> None:
        """Recorded values that no test registered: named, and removed if that is asked for."""
        from zmlx.testing.golden.file import GoldenError
        from zmlx.testing.golden.registry import prune, stale_names

        here, ledger, directory = self.state.backend.name, self.state.ledger, self.state.golden_dir
        why_not = self._why_not_stale(config, passed=passed)
        if why_not:
            if self.state.golden_prune:
                self.failures.append(f"--golden-prune: nothing was removed: {why_not}")
            return
        try:
            stale = stale_names(directory, here, ledger.golden.get(here, {}))
            if not stale:
                return
            shown = ", ".join(stale[:5]) + (f" and {len(stale) - 5} more" if len(stale) > 5 else "")
            if self.state.golden_prune:
                prune(directory, here, stale)
                self.notes.append(f"registered-{here}.json: {len(stale)} stale values removed: {shown}")
            else:
                self.notes.append(
                    f"registered-{here}.json: {len(stale)} values that no test registered: {shown}; "
                    "--golden-prune removes them"
                )
        except GoldenError as error:
            self.failures.append(str(error))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.is_worker:
            return
        lines = [*self.state.ledger.summary_lines(), *self.notes]
        if not lines and not self.failures:
            return
        terminalreporter.section("zmlx")
        for line in lines:
            terminalreporter.line(line)
        for line in self.failures:
            terminalreporter.line(f"ERROR: {line}", red=True, bold=True)


def _uses_zmlx(item: pytest.Item) -> bool:
    fixtures = set(getattr(item, "fixturenames", ()))
    return bool(fixtures.intersection(__all__)) or any(mark.name in MARKERS for mark in item.iter_markers())
