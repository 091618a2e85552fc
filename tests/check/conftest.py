"""Fixtures for tests of the checker."""

from __future__ import annotations

import pytest

from zmlx.launch import compiler


@pytest.fixture(scope="session")
def compiler_kind():
    """``gcc`` or ``clang``; skips where there is no compiler."""
    try:
        return compiler.find_compiler().kind
    except compiler.CompilerNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _compiles(compiler_kind):
    """Every test here compiles something."""


@pytest.fixture
def collect():
    """``collect(case)``: the check of a case whose findings are collected."""
    import zmlx

    def run(case, **options):
        with zmlx.checked(raise_on_finding=False, **options) as check:
            case.run()
        return check

    return run
