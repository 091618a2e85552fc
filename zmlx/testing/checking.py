"""``pytest --zmlx-check``: every launch of the suite under the checker; a finding fails its test.

=============================================  ============================================================
a launch                                       its findings
=============================================  ============================================================
in a test's setup, call or teardown            fail that phase, fixtures of every scope included; if it fails
                                               anyway, they are a section of its report
while a module is collected                    an error of collection
while a conftest is imported                   fail the session
in a test that is expected to fail (xfail,     fail the session, unless ``--zmlx-check-allow-xfail`` is given
not strict) or was skipped
=============================================  ============================================================

A session in which no launch was checked fails, unless ``--zmlx-check-allow-nothing`` is given: also one whose kernels
ran by their `reference` only. The plugin registers these hooks only if the option is given.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from zmlx.check.checker import Checking
from zmlx.check.suppressions import Suppressions, load_suppressions
from zmlx.launch.hook import intercepting

_WIRE = "zmlx-check"
_SECTION = "zmlx check"
_REPORTS: pytest.StashKey[list[str]] = pytest.StashKey()
_CONFTESTS: pytest.StashKey[Checking] = pytest.StashKey()


def _load(config: pytest.Config) -> Suppressions:
    path = getattr(config.known_args_namespace, "zmlx_check_suppressions", None)
    try:
        return load_suppressions(path) if path else Suppressions()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


@contextmanager
def watching_conftests(config: pytest.Config) -> Iterator[None]:
    """Check the launches made while conftest files are imported, for `CheckHooks` to report."""
    arithmetic = bool(getattr(config.known_args_namespace, "zmlx_check_arithmetic", False))
    check = Checking(raise_on_finding=False, suppressions=_load(config), arithmetic=arithmetic)
    config.stash[_CONFTESTS] = check
    with intercepting(check):
        yield


class CheckHooks:
    """One `Checking` for each phase of each test; suppressions are shared, so that unneeded ones show at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self.option = config.option
        conftests = config.stash.get(_CONFTESTS, None)
        self.suppressions = conftests.suppressions if conftests is not None else _load(config)
        self.is_worker = hasattr(config, "workerinput")
        self.strict_xfail = bool(config.getini("xfail_strict"))
        self.launches = self.accesses = self.findings = 0
        self.notes: list[str] = []
        self.hidden: list[str] = []
        self.errors: list[str] = []
        self.failures: list[str] = []
        if conftests is not None:
            self._count(conftests)
            if conftests.findings:
                self.errors.append(f"while a conftest was imported:\n{conftests.report()}")

    def _new_check(self) -> Checking:
        return Checking(
            raise_on_finding=False,
            suppressions=self.suppressions,
            arithmetic=bool(self.option.zmlx_check_arithmetic),
        )

    def _count(self, check: Checking) -> None:
        self.launches += check.launches
        self.accesses += check.accesses
        self.findings += len(check.findings)
        self.notes += [note for note in check.notes if note not in self.notes]

    def _checked(self, item: pytest.Item) -> Generator[None, Any, Any]:
        check = self._new_check()
        try:
            with intercepting(check):
                result = yield
        except BaseException:
            # The phase fails, or is skipped, by itself: the findings go into its report.
            if check.findings:
                item.stash.setdefault(_REPORTS, []).append(check.report())
            raise
        finally:
            self._count(check)
        if check.findings:
            item.stash.setdefault(_REPORTS, []).append("")
            pytest.fail(check.report(), pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        return (yield from self._checked(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        return (yield from self._checked(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        return (yield from self._checked(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        texts = item.stash.get(_REPORTS, [])
        item.stash[_REPORTS] = []
        report.sections += [(_SECTION, text) for text in texts if text]
        if texts and not report.failed and not self._is_strict(item):
            self.hidden.append(item.nodeid)
        return report

    def _is_strict(self, item: pytest.Item) -> bool:
        """Whether a test is demanded to fail: then its findings are what it is there to show."""
        marks = list(item.iter_markers("xfail"))
        return any(mark.kwargs.get("strict", self.strict_xfail) for mark in marks)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        check = self._new_check()
        with intercepting(check):
            report = yield
        self._count(check)
        if check.findings:
            if report.passed:
                report.outcome = "failed"
                report.longrepr = check.report()
                report.result = []
            else:
                report.sections.append((_SECTION, check.report()))
                if report.skipped:
                    self.hidden.append(collector.nodeid)
        return report

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        text = getattr(node, "workeroutput", {}).get(_WIRE)
        if text is None:
            return  # the session's hooks make that a failure
        wire = json.loads(text)
        self.launches += wire["launches"]
        self.accesses += wire["accesses"]
        self.findings += wire["findings"]
        self.suppressions.used.update(wire["used"])
        for known, more in ((self.notes, "notes"), (self.hidden, "hidden"), (self.errors, "errors")):
            known += [line for line in wire[more] if line not in known]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.is_worker:
            session.config.workeroutput[_WIRE] = json.dumps(  # type: ignore[attr-defined]
                {
                    "launches": self.launches,
                    "accesses": self.accesses,
                    "findings": self.findings,
                    "used": sorted(self.suppressions.used),
                    "notes": self.notes,
                    "hidden": self.hidden,
                    "errors": self.errors,
                }
            )
            return
        self.failures += self.errors
        self.failures += self.suppressions.unneeded()
        if self.hidden and not self.option.zmlx_check_allow_xfail:
            self.failures.append(
                f"findings in {len(self.hidden)} tests that did not fail by them, being skipped or expected to fail: "
                f"{', '.join(self.hidden)}. Mend the kernel, mark the test strict=True, or allow it with "
                "--zmlx-check-allow-xfail"
            )
        shows_only = self.option.collectonly or self.option.setuponly or self.option.setupplan
        if not self.launches and not self.option.zmlx_check_allow_nothing and not shows_only:
            self.failures.append(
                "nothing was checked: no Metal kernel was launched (a kernel that runs by its reference only is not "
                "checked). If that is meant, allow it with --zmlx-check-allow-nothing"
            )
        if self.failures and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.is_worker:
            return
        terminalreporter.section(_SECTION)
        terminalreporter.line(
            f"{self.launches} launches and {self.accesses} memory accesses checked: {self.findings} findings"
        )
        for note in self.notes:
            terminalreporter.line(note)
        for line in self.failures:
            terminalreporter.line(f"ERROR: {line}", red=True, bold=True)
