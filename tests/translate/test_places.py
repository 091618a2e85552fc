"""Where variables live from one loop over the threads to the next."""

from __future__ import annotations

import pytest

from zmlx.metal.signature import KernelSource
from zmlx.translate import pipeline

pytestmark = pytest.mark.cpu

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
PREFIX = """
    uint t = thread_position_in_threadgroup.x;
    uint i = thread_position_in_grid.x;
"""


def text_of(source: str) -> str:
    return pipeline.run(KernelSource("shown", ("x",), ("out",), PREFIX + source), "host-regions").body


def test_what_a_thread_can_work_out_has_no_place():
    text = text_of(f"uint j = i * 2 + 1; int v = x[i]; {BARRIER} out[i] = v + j;")
    assert text.count("zmlx::Each<") == 1
    assert text.count("uint j = i * 2 + 1;") == 2


def test_what_does_not_outlive_its_loop_has_no_place():
    text = text_of(f"threadgroup int s[64]; int v = x[i]; s[t] = v; {BARRIER} out[i] = s[63 - t];")
    assert "zmlx::Each<" not in text


def test_what_is_changed_goes_back_to_its_place():
    text = text_of(f"int v = x[i]; {BARRIER} v += 1; {BARRIER} out[i] = v;")
    place = text.partition("zmlx::Each<int> ")[2].partition(";")[0]
    assert f"auto v = {place}[zmlx_t];" in text
    assert text.count(f"{place}[zmlx_t] = v;") == 2
    assert f"const auto v = {place}[zmlx_t];" in text
