"""How many examples: Hypothesis' profiles, ``dev`` and ``thorough`` beside its own ``ci``.

Hypothesis is imported when a profile is asked for, and need not be there otherwise.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import pytest

VARIABLE = "ZMLX_HYPOTHESIS_PROFILE"
DEFAULT = "dev"

#: What a profile sets. Those of dev are the same in every run, so that it fails only for what has changed.
PROFILES: dict[str, dict[str, Any]] = {
    "dev": {"max_examples": 8, "derandomize": True, "database": None},
    "ci": {"max_examples": 100, "derandomize": True, "database": None},
    "thorough": {"max_examples": 1000},
}


def available() -> bool:
    """Whether Hypothesis is installed."""
    return importlib.util.find_spec("hypothesis") is not None


def register() -> None:
    """Make the profiles known to Hypothesis; one that is known already stays as it is."""
    from hypothesis import settings

    for name, values in PROFILES.items():
        if not _is_known(name):
            settings.register_profile(name, parent=settings.get_profile("default"), **values)


def _is_known(name: str) -> bool:
    from hypothesis import settings
    from hypothesis.errors import InvalidArgument

    try:
        settings.get_profile(name)
    except InvalidArgument:
        return False
    return True


def option(config: pytest.Config) -> str | None:
    """What ``--hypothesis-profile`` gave, an option of Hypothesis' own plugin."""
    given: str | None = config.getoption("--hypothesis-profile", None)
    return given


def configure(config: pytest.Config) -> None:
    """Make the profiles known where somebody asks for one; importing Hypothesis takes a while.

    Raises
    ------
    pytest.UsageError
        The environment variable names no profile.
    """
    if (option(config) or os.environ.get(VARIABLE)) and available():
        chosen(config)


def chosen(config: pytest.Config) -> str:
    """The profile's name: of ``--hypothesis-profile``, the environment variable, what else was loaded, or "dev".

    Raises
    ------
    pytest.UsageError
        The environment variable names no profile.
    """
    from hypothesis import settings

    register()
    named = os.environ.get(VARIABLE)
    if named and not _is_known(named):
        raise pytest.UsageError(
            f"{VARIABLE}: expected {', '.join(PROFILES)}, or a profile that a conftest.py registers, got {named!r}."
        )
    # With --hypothesis-verbosity the loaded one has another name, and is made from what was asked for.
    loaded = str(settings.get_current_profile_name())
    if option(config):
        return loaded
    return named or (loaded if loaded != "default" else DEFAULT)


def examples(profile: str) -> int:
    """How many examples a profile that is known asks for."""
    from hypothesis import settings

    return int(settings.get_profile(profile).max_examples)
