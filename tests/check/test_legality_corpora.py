"""No kernel of the catalogue and of the language table is refused, but for the rows that no Mac compiles."""

from __future__ import annotations

import pytest
from language.row import kernels
from language.table import ROWS
from test_cuda_compile import KERNEL_OPS

from zmlx.check.legality.front_end import available
from zmlx.check.legality.judge import judge
from zmlx.launch import recording
from zmlx.testing.launches import recorded_launches

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.skipif(not available(), reason="there is no libclang; pip install '.[lint]'"),
]

#: Rows by their feature, with what Metal does not have in them.
NOT_METAL = {
    "of 8 and 16 bit integers, `bool`, 64 bits": "a simdgroup reduction of a 64-bit integer",
    "a float sum and maximum": "a float atomic in threadgroup memory",
}


@pytest.mark.parametrize(("op", "dtype"), KERNEL_OPS, ids=[f"{op}-{dtype}" for op, dtype in KERNEL_OPS])
def test_catalogue(op, dtype):
    # What is launched depends on the back end: on CUDA chunks are packed, also of inputs that are small.
    for signature in {record.signature for record in recorded_launches(op, dtype, "metal")}:
        judgement = judge(signature)
        assert [str(f) for f in judgement.findings] == []
        assert not judgement.unclear


@pytest.mark.parametrize("section", sorted({row.section for row in ROWS}))
def test_language_table(section):
    for kernel in kernels(row for row in ROWS if row.section == section):
        with recording("metal") as records:
            kernel.launch()
        expected = [NOT_METAL[row.feature] for row in kernel.rows if row.feature in NOT_METAL]
        for record in records:
            found = judge(record.signature).findings
            assert [f.message.partition(",")[0].partition(" (")[0] for f in found] == expected
