"""``pytest --zmlx-check``: every launch of the suite under the checker; a finding fails its test.

The plugin registers these hooks only if the option is given.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from zmlx.check.checker import Checking
from zmlx.check.suppressions import Suppressions, load_suppressions
from zmlx.launch.hook import intercepting

_WIRE = "zmlx-check"


class CheckHooks:
    """One `Checking` for each test; the suppressions are shared, so that unneeded ones show at the end."""

    def __init__(self, config: pytest.Config) -> None:
        path = config.getoption("zmlx_check_suppressions")
        try:
            self.suppressions = load_suppressions(path) if path else Suppressions()
        except ValueError as error:
            raise pytest.UsageError(str(error)) from error
        self.arithmetic = bool(config.getoption("zmlx_check_arithmetic"))
        self.is_worker = hasattr(config, "workerinput")
        self.launches = self.accesses = self.findings = 0
        self.unneeded: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        check = Checking(
            raise_on_finding=False,
            suppressions=self.suppressions,
            arithmetic=self.arithmetic,
        )
        with intercepting(check):
            result = yield
        self.launches += check.launches
        self.accesses += check.accesses
        self.findings += len(check.findings)
        if check.findings:
            pytest.fail(check.report(), pytrace=False)
        return result

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        wire = getattr(node, "workeroutput", {}).get(_WIRE)
        if wire is not None:
            self.launches += wire["launches"]
            self.accesses += wire["accesses"]
            self.findings += wire["findings"]
            self.suppressions.used.update(wire["used"])

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.is_worker:
            session.config.workeroutput[_WIRE] = {  # type: ignore[attr-defined]
                "launches": self.launches,
                "accesses": self.accesses,
                "findings": self.findings,
                "used": sorted(self.suppressions.used),
            }
            return
        self.unneeded = self.suppressions.unneeded()
        if self.unneeded and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.is_worker:
            return
        terminalreporter.section("zmlx check")
        terminalreporter.line(
            f"{self.launches} launches and {self.accesses} memory accesses checked: {self.findings} findings"
        )
        for line in self.unneeded:
            terminalreporter.line(f"ERROR: {line}", red=True, bold=True)
