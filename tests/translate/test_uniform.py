"""Which variables have one value for the whole threadgroup."""

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


def test_what_is_the_same_for_all_threads_is_there_once():
    text = text_of(f"int first = x[threadgroup_position_in_grid.x]; {BARRIER} out[i] = first;")
    assert "zmlx::Each<" not in text
    assert text.index("int first") < text.index("zmlx_group.each")


def test_what_a_thread_decides_alone_is_not_the_same_for_all():
    text = text_of(f"int n = 0; if (t > 3) {{ n = 1; }} {BARRIER} out[i] = n;")
    assert "zmlx::Each<int>" in text


def test_a_loop_of_the_group_turns_once_for_all_threads():
    text = text_of(f"for (uint k = 0; k < 3; ++k) {{ {BARRIER} out[i] += x[k]; }}")
    assert text.count("for (uint k = 0; k < 3; ++k) {") == 1
    assert "zmlx::Lanes" not in text
