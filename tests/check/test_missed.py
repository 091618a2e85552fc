"""What docs/checker.md lists as missed by design: wrong kernels without a finding. What is found leaves the list."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from wrong_kernels.case import Case

import zmlx

pytestmark = pytest.mark.cpu

ORDER = "memory_order_relaxed"

#: Rows of the page, each with a kernel; what notes and findings there are is said beside.
MISSED = {
    "messages through relaxed atomics only": Case(
        "messages",
        "",
        f"""
        device atomic_int* a = (device atomic_int*)out;
        uint i = thread_position_in_grid.x;
        if (i == 0) {{
          atomic_store_explicit(a + 0, 42, {ORDER});
          atomic_store_explicit(a + 1, 1, {ORDER});
        }}
        if (i == 64 && atomic_load_explicit(a + 1, {ORDER}) == 1 && atomic_load_explicit(a + 0, {ORDER}) != 42)
          atomic_store_explicit(a + 2, 1, {ORDER});
        """,
        (),
        threads=128,
        outputs=3,
        output_dtype="int32",
        init_value=0,
    ),
    "a wrong fence beside a right one": Case(
        "fences",
        "",
        f"""
        device atomic_int* a = (device atomic_int*)out;
        device int* data = (device int*)out;
        uint i = thread_position_in_grid.x;
        if (i == 0) {{
          data[0] = 42;
          atomic_thread_fence(mem_flags::mem_threadgroup, memory_order_seq_cst, thread_scope_threadgroup);
          atomic_store_explicit(a + 1, 1, {ORDER});
        }}
        if (i == 64 && atomic_load_explicit(a + 1, {ORDER}) == 1) {{
          atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
          if (data[0] != 42) data[2] = 1;
        }}
        """,
        (),
        threads=128,
        outputs=3,
        output_dtype="int32",
        init_value=0,
    ),
    "threads that write the same value": Case("same", "", "out[0] = x[0];", (), outputs=1),
    "a race on a way through the code that these inputs do not take": Case(
        "not_taken",
        "",
        "uint i = thread_position_in_grid.x;\nif (x[0] < 0) out[0] = x[i];\nout[i] = x[i];",
        (),
    ),
    "a bug of bounds that stays inside of its array": Case(
        "inside",
        "",
        "uint i = thread_position_in_grid.x;\nout[i] = x[(i + 1) % 64];",
        (),
    ),
}


@pytest.mark.parametrize("row", MISSED)
def test_there_is_no_finding(row, collect):
    assert collect(MISSED[row]).findings == []


def test_the_same_value_is_a_note(collect):
    check = collect(MISSED["threads that write the same value"])
    assert any("same" in note for note in check.notes), check.notes


def test_a_lock_that_a_later_threadgroup_holds_is_stopped():
    case = Case(
        "lock",
        "stopped",
        f"""
        device atomic_int* a = (device atomic_int*)out;
        uint g = threadgroup_position_in_grid.x;
        if (g == 0) while (atomic_load_explicit(a, {ORDER}) == 0) {{}}
        else atomic_store_explicit(a, 1, {ORDER});
        """,
        (),
        threads=2,
        group=1,
        outputs=1,
        output_dtype="int32",
        init_value=0,
    )
    with zmlx.checked(raise_on_finding=False, time_limit=0.5) as check:
        case.run()
    assert [f.kind for f in check.findings] == ["stopped"]


def test_the_page_lists_these():
    page = (Path(__file__).parents[2] / "docs" / "checker.md").read_text(encoding="utf-8")
    table = page.partition("Missed, by design")[2].partition("## ")[0]
    rows = [row for row in re.findall(r"^\| ([^|]+) \|", table, re.M) if row.strip("- ")]
    named = [*MISSED, "a lock that a threadgroup needs while a later one holds it"]
    assert len(rows) == len(named)
    assert all(row.startswith(name) for row, name in zip(rows, named, strict=True))
