"""Kernels of these tests are about what the translation does to a text: the compiler is not to make the best of it."""

from __future__ import annotations

import pytest

from zmlx.launch.compiler import hastily


@pytest.fixture(autouse=True)
def compiled_hastily():
    with hastily():
        yield
