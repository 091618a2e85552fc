"""Every small wrong kernel is caught, with the right kind and lines; its repaired twin is without a finding."""

from __future__ import annotations

import pytest
from wrong_kernels import CASES

pytestmark = pytest.mark.cpu


def test_there_are_enough_cases():
    assert len(CASES) >= 108
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_wrong_kernel_is_caught(case, collect, compiler_kind):
    check = collect(case, **({"arithmetic": True} if case.arithmetic else {}))
    kinds = {finding.kind for finding in check.findings}
    # What Metal refuses, the type check may have said before the kernel ran.
    typed = case.kind == "metal-lint" and kinds == {"not-metal"}
    assert typed or kinds == {case.kind}, check.report()
    finding = check.findings[0]
    assert finding.kernel == case.name
    assert typed or case.says in check.report()
    if compiler_kind == "clang" and case.gcc_only_line:
        return
    assert finding.array == case.array
    places = {
        (a.place.part, a.place.line) for f in check.findings for a in f.accesses if a.place.line is not None
    }
    assert places == case.marked, check.report()
    for found in check.findings:
        if found.line is not None:
            assert found.source_line == found.place.text != ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_repaired_kernel_is_clean(case, collect):
    check = collect(case.repaired(), **({"arithmetic": True} if case.arithmetic else {}))
    assert not check.findings, check.report()
    assert check.launches == 1
    assert check.accesses > 0
