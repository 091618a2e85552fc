"""What docs/checker.md says is missed, by design: a kernel with each of these faults, on which there is no finding.

When one of these fails because the fault is found, its row goes from the table, and it becomes a wrong kernel.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from wrong_kernels.case import Case

pytestmark = pytest.mark.cpu

DOCS = Path(__file__).parents[2] / "docs" / "checker.md"

#: Rows of the table by how they begin, with kernels that have the fault.
MISSED = {
    "messages through relaxed atomics only": Case(
        "message_out_of_order",
        "",
        """
            device atomic_int* a = (device atomic_int*)out;
            uint group = threadgroup_position_in_grid.x, t = thread_position_in_threadgroup.x;
            if (group == 0 && t == 0) {
              atomic_store_explicit(a, 42, memory_order_relaxed);
              atomic_store_explicit(a + 1, 1, memory_order_relaxed);
            }
            if (group == 1 && t == 0) {
              int ready = atomic_load_explicit(a + 1, memory_order_relaxed);
              int data = atomic_load_explicit(a, memory_order_relaxed);
              atomic_store_explicit(a + 2, ready == 1 && data != 42, memory_order_relaxed);
            }
        """,
        repair=(),
        threads=128,
        outputs=3,
        output_dtype="int32",
        init_value=0,
    ),
    "a wrong fence beside a right one": Case(
        "fence_of_other_memory",
        "",
        """
            device atomic_int* a = (device atomic_int*)out;
            uint group = threadgroup_position_in_grid.x, t = thread_position_in_threadgroup.x;
            if (group == 0 && t == 0) {
              out[0] = 42;
              atomic_thread_fence(mem_flags::mem_threadgroup, memory_order_seq_cst, thread_scope_device);
              atomic_store_explicit(a + 1, 1, memory_order_relaxed);
            }
            if (group == 1 && t == 0) {
              int ready = atomic_load_explicit(a + 1, memory_order_relaxed);
              atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
              out[2] = ready == 1 && out[0] != 42;
            }
        """,
        repair=(),
        threads=128,
        outputs=3,
        output_dtype="int32",
        init_value=0,
    ),
    "threads that write the same value": Case(
        "all_write_the_same", "", "out[0] = 7.0f;", repair=(), outputs=1
    ),
    "a race on a way through the code": Case(
        "race_for_negative_inputs",
        "",
        """
            uint i = thread_position_in_grid.x;
            out[i] = x[i];
            if (x[i] < 0) out[0] += x[i];
        """,
        repair=(),
    ),
    "a bug of bounds that stays inside": Case(
        "shifted_by_one",
        "",
        "uint i = thread_position_in_grid.x; out[i] = x[min(i + 1, 63u)];",
        repair=(),
    ),
}
_LOCK = Case(
    "lock_of_a_later_group",
    "stopped",
    """
        device atomic_int* lock = (device atomic_int*)out;
        uint group = threadgroup_position_in_grid.x, t = thread_position_in_threadgroup.x;
        if (group == 0 && t == 0) while (atomic_load_explicit(lock, memory_order_relaxed) != 0) {}
        if (group == 1 && t == 0) atomic_store_explicit(lock, 0, memory_order_relaxed);
    """,
    repair=(),
    threads=128,
    outputs=1,
    output_dtype="int32",
    init_value=1,
)
STOPPED = "a lock that a threadgroup needs"


def test_each_row_of_the_table_has_a_kernel():
    table = DOCS.read_text(encoding="utf-8").partition("Missed, by design")[2].partition("\n## ")[0]
    rows = [row for row in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE) if row.strip("-")]
    assert len(rows) == len(MISSED) + 1
    assert all(sum(row.startswith(begin) for begin in (*MISSED, STOPPED)) == 1 for row in rows), rows


@pytest.mark.parametrize("row", MISSED)
def test_there_is_no_finding(row, collect):
    check = collect(MISSED[row])
    assert not check.findings, check.report()
    assert check.launches == 1
    assert check.accesses > 0


def test_a_lock_of_a_later_threadgroup_stops_the_launch(collect):
    check = collect(_LOCK, time_limit=1)
    assert {finding.kind for finding in check.findings} == {"stopped"}, check.report()
