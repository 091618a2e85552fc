"""The kernels of kernel_cases.py on the CPU."""

from __future__ import annotations

import pytest
from kernel_cases import CASES, Case

pytestmark = pytest.mark.cpu


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, meeting_path: str) -> None:
    import mlx.core as mx

    case.check(case.launch(stream=mx.cpu))


def test_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
