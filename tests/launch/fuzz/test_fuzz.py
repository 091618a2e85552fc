"""Random kernels agree with NumPy on the default device.

``ZMLX_FUZZ_EXAMPLES=2000`` runs more of them.
"""

from __future__ import annotations

import os

import numpy as np
from hypothesis import HealthCheck, given, note, settings

from fuzz.grammar import Kernel, kernels

EXAMPLES = int(os.environ.get("ZMLX_FUZZ_EXAMPLES", "15"))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(kernels())
def test_kernels_agree_with_numpy(kernel: Kernel) -> None:
    note(str(kernel))
    actual, expected = kernel.launch(), kernel.expected()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)
