"""The one line that runs a failed test again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import pytest


def reproduce_command(nodeid: str, backend: str | None = None, extra: Sequence[str] = ()) -> str:
    """A shell command, to be run in the project's root, that runs one test as this session did.

    Parameters
    ----------
    nodeid : str
        pytest's id of the test: ``tests/test_ops.py::test_forward[transformer.swiglu-float16-small]``.
        Everything random in a generated case follows from it, so there is no seed to pass.
    backend : str, optional
        "metal", "cuda" or "cpu", for ``--backend``.
    extra : sequence of str
        More arguments for pytest.
    """
    words = ["python", "-m", "pytest", nodeid]
    if backend is not None:
        words += ["--backend", backend]
    return shlex.join([*words, *extra])


def session_options(config: pytest.Config) -> list[str]:
    """The options of a session that change what its tests do, for `reproduce_command`."""
    given: list[str] = []
    for option in ("--golden-dir", "--hypothesis-profile"):
        value = config.getoption(option, None)
        if value:
            given += [option, value]
    return given
