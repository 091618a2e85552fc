"""Whether a session ran every test of the suite: only then is a value that no test registered a stale one."""

from __future__ import annotations

from pathlib import Path

import pytest

#: Options by which pytest leaves out what it never collects, or runs nothing: the attribute, its name, what it does.
_NARROWING = (
    ("lf", "--last-failed", "runs only the tests that failed last"),
    ("ignore", "--ignore", "leaves files out"),
    ("ignore_glob", "--ignore-glob", "leaves files out"),
    ("collectonly", "--collect-only", "runs no test"),
    ("setuponly", "--setup-only", "runs no test"),
    ("setupplan", "--setup-plan", "runs no test"),
    ("pyargs", "--pyargs", "collects packages, not the suite"),
)
#: Settings that say where tests are; overridden, the suite is another one.
_PLACES = ("testpaths", "python_files", "python_classes", "python_functions", "norecursedirs")


def why_partial(config: pytest.Config) -> str:
    """Why a session cannot have run the whole suite, by its command line; "" if it can.

    The suite is what ``testpaths`` names, or the root folder where there is none.
    """
    for attribute, name, effect in _NARROWING:
        if getattr(config.option, attribute, None):
            return f"{name} {effect}"
    for setting in config.option.override_ini or ():
        name = setting.partition("=")[0].strip()
        if name in _PLACES:
            return f"--override-ini changes {name}, and with it the suite"
    given = config.args
    for argument in given:
        if "::" in argument:
            return f"{argument} names only a part of the suite; name no tests"
    here = config.invocation_params.dir
    places = [(here / argument).resolve() for argument in given]
    for wanted in _suite(config):
        if not any(wanted.is_relative_to(place) for place in places):
            shown = ", ".join(given)
            return (
                f"only {shown} was collected, and {_shown(wanted, config)} belongs to the suite; run pytest in "
                f"{config.rootpath} without paths"
            )
    return ""


def _suite(config: pytest.Config) -> list[Path]:
    root = config.rootpath
    folder = config.inipath.parent if config.inipath is not None else root
    found = [path for pattern in config.getini("testpaths") for path in sorted(folder.glob(pattern))]
    return [path.resolve() for path in found] or [root.resolve()]


def _shown(path: Path, config: pytest.Config) -> str:
    root = config.rootpath.resolve()
    if path == root:
        return "all of the root folder"
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


class Attendance:
    """The tests that were collected and those that ran to their end, however they ended."""

    def __init__(self) -> None:
        self.collected: set[str] = set()
        self.ran: set[str] = set()

    def missing(self, collected: int) -> str:
        """Why not all of ``collected`` tests ran; "" if they did."""
        left = collected - len(self.ran)
        return f"{left} of {collected} tests that were collected did not run" if left > 0 else ""
