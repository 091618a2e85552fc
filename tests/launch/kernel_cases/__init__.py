"""Small kernels that each show one thing of the language, with what NumPy says they compute.

`test_kernel_cases.py` runs them on the CPU and `test_cuda.py` on an NVIDIA GPU; `test_cuda_compile.py` compiles
them for every architecture. Values are chosen so that results are exact wherever the order of additions is not
itself what is tested.
"""

from __future__ import annotations

from kernel_cases.arguments import argument_cases
from kernel_cases.atomics import atomic_cases
from kernel_cases.case import Case
from kernel_cases.positions import position_cases
from kernel_cases.simdgroups import simd_cases
from kernel_cases.threadgroups import threadgroup_cases
from kernel_cases.types import type_cases

CASES: tuple[Case, ...] = (
    *position_cases(),
    *threadgroup_cases(),
    *simd_cases(),
    *atomic_cases(),
    *type_cases(),
    *argument_cases(),
)

__all__ = ["CASES", "Case"]
