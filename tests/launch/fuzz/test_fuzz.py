"""Random kernels agree with NumPy on the default device.

``ZMLX_FUZZ_EXAMPLES=2000`` runs more of them.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings

from fuzz.grammar import Kernel, kernels

EXAMPLES = int(os.environ.get("ZMLX_FUZZ_EXAMPLES", "15"))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(kernels())
def test_kernels_agree_with_numpy(kernel: Kernel) -> None:
    check(kernel)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(kernel=kernels())
def test_kernels_as_fibers_agree_with_numpy(backend: str, kernel: Kernel) -> None:
    """On the CPU most kernels whose threads meet run as loops; fibers, which run the others, can run them too."""
    from zmlx.launch import host

    if backend != "cpu":
        pytest.skip("fibers are a way of the CPU")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(host.FIBERS_VARIABLE, "1")
        host.forget_programs()
        check(kernel)
    host.forget_programs()


def check(kernel: Kernel) -> None:
    note(str(kernel))
    actual, expected = kernel.launch(), kernel.expected()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)
