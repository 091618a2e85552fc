"""What Metal's compiler refuses is refused, and nothing else."""

from __future__ import annotations

import pytest
from legality_table import ACCEPTED, REFUSED, Program

from zmlx.check.legality.front_end import available
from zmlx.check.legality.judge import judge
from zmlx.metal.signature import ArrayType, KernelSource, Signature, make_signature

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.skipif(not available(), reason="there is no libclang; pip install 'zmlx[lint]'"),
]


def signature(program: Program) -> Signature:
    kernel = KernelSource(
        "k", ("w", "x", "z"), ("out",), program.source, program.header, atomic_outputs=program.atomic
    )
    inputs = [
        ArrayType("float32", 1, small=True),
        ArrayType("float32", 1),
        ArrayType("float32", 0, small=True),
    ]
    return make_signature(kernel, inputs, [program.dtype], program.template)


def test_the_table_is_large_and_half_of_it_is_refused():
    assert len(REFUSED) >= 60
    assert len(ACCEPTED) >= 60
    names = [p.name for p in REFUSED], [p.name for p in ACCEPTED]
    assert all(len(set(part)) == len(part) for part in names)


@pytest.mark.parametrize("program", REFUSED, ids=lambda p: p.name)
def test_refused(program):
    found = judge(signature(program)).findings
    assert found
    assert {f.kind for f in found} == {"not-metal"}
    assert all(f.line and f.advice and "__" not in f.message for f in found), [str(f) for f in found]


@pytest.mark.parametrize("program", ACCEPTED, ids=lambda p: p.name)
def test_accepted_and_understood(program):
    judgement = judge(signature(program))
    assert [str(f) for f in judgement.findings] == []
    assert not judgement.unclear
