"""Random kernels agree with NumPy on the default device.

The same few in every run, so that a failure comes of the change at hand and their compiled code is in the cache;
``ZMLX_FUZZ_EXAMPLES=2000`` runs others, and as many.
"""

from __future__ import annotations

import os
import random
import re
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, note, settings
from hypothesis.errors import NoSuchExample

from fuzz.grammar import Kernel, kernels
from zmlx.errors import NvrtcNotFoundError
from zmlx.launch import cuda, recording
from zmlx.launch.nvrtc import find_nvrtc

ASKED = os.environ.get("ZMLX_FUZZ_EXAMPLES")
EXAMPLES = int(ASKED or "15")
COMMON = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=not ASKED)


@settings(COMMON, max_examples=EXAMPLES)
@given(kernels())
def test_kernels_agree_with_numpy(kernel: Kernel) -> None:
    check(kernel)


@settings(COMMON, max_examples=EXAMPLES)
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


@pytest.mark.tools
@pytest.mark.cpu
@settings(COMMON, max_examples=min(EXAMPLES // 5, 40))
@given(kernels())
def test_cuda_text_compiles(kernel: Kernel) -> None:
    """For an H100, where there is an NVRTC."""
    try:
        find_nvrtc()
    except NvrtcNotFoundError:
        return
    note(str(kernel))
    with recording("cuda") as calls:
        kernel.launch()
    assert cuda.compile_cubin(calls[0].signature, "sm_90")[:4] == b"\x7fELF"


#: What would be wrong in a back end, as a change of the source: a pattern, and what to put in its place.
FAULTS = {
    "barriers do nothing": (r"(metal::)?threadgroup_barrier\(FLAGS\);|SYNC\(\);|meet\(\);", ""),
    "threads that return go on": (r"return; }", "}"),
    "loops run once more": (r"% 4u; \+\+", "% 4u + 1u; ++"),
    "atomics take turns": (r"atomic_fetch_(?:add|sub)_explicit", "atomic_exchange_explicit"),
    "all simd sums are zero": (r"simd_sum\(", "0 * simd_sum("),
}
#: How often the search begins anew, and after how many kernels. Hypothesis varies what it has drawn: from some
#: beginnings it takes hundreds of kernels until one tells, from most a few.
BEGINNINGS, KERNELS_EACH = 25, 20
#: The beginning that is tried first, where it is not 0: from there one of three kernels tells.
SOONEST = {"loops run once more": 1, "atomics take turns": 1}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_shows(fault: str, backend: str) -> None:
    """Kernels that are found soon would tell. On a GPU it may happen that a missing barrier shows in none of them."""
    if backend != "cpu":
        pytest.skip("what a wrong kernel does on a GPU is not known")
    pattern, replacement = FAULTS[fault]

    def shows(kernel: Kernel) -> bool:
        wrong = replace(kernel, source=re.sub(pattern, replacement, kernel.source))
        if wrong.source == kernel.source:
            return False
        actual, expected = wrong.launch(), kernel.expected()
        return any(not np.array_equal(actual[name], expected[name]) for name in expected)

    options = settings(
        max_examples=KERNELS_EACH,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for seed in sorted(range(BEGINNINGS), key=lambda seed: seed != SOONEST.get(fault, 0)):
        with suppress(NoSuchExample):
            find(kernels(), shows, settings=options, random=random.Random(seed))
            return
    pytest.fail(f"{fault}: none of {BEGINNINGS * KERNELS_EACH} kernels tells")
