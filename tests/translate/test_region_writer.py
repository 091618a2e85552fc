"""The text of a kernel whose threads meet, as a function of the whole threadgroup."""

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


def test_every_statement_stands_behind_the_number_of_its_line():
    lines = text_of(f"int v = x[i];\n{BARRIER}\n\nout[i] =\n  v;").splitlines()
    assert lines[lines.index("#line 4") + 1] == "int v = zmlx_init<int>(x[i]);"
    assert lines[lines.index("#line 7") + 1 :][:2] == ["out[i] =", "  v;"]


def test_macros_are_written_out_in_the_line_of_their_call():
    text = text_of(
        f"#define MEET(a, b) {BARRIER} a = b;\nint v = 1;\nMEET(v,\n  x[i])\nout[i] = v;"
    ).splitlines()
    assert " ".join(text[text.index("#line 6") + 1].split()) == "v ->* zmlx_into = x[i];"
    assert text[text.index("#line 8") + 1] == "out[i] = v;"


def test_line_numbers_are_those_that_a_kernel_sees():
    import mlx.core as mx

    import zmlx

    kernel = zmlx.metal_kernel(
        "lines", [], ["out"], f"uint t = thread_position_in_threadgroup.x;\n{BARRIER}\n\nout[t] = __LINE__;"
    )
    group = (8, 1, 1)
    (out,) = kernel(
        inputs=[],
        output_shapes=[(8,)],
        output_dtypes=[mx.int32],
        grid=group,
        threadgroup=group,
        stream=mx.cpu,
    )
    assert out.tolist() == [4] * 8


@pytest.mark.parametrize(
    "source",
    [
        f"uint t = thread_position_in_threadgroup.x; uint a = t +\n__LINE__; {BARRIER}\nout[t] = a - t;",
        f"uint t = thread_position_in_threadgroup.x;\nauto a = t + __LINE__; {BARRIER}\nout[t] = a - t;",
        "uint t = thread_position_in_threadgroup.x;\nout[t] = simd_max(0\n + __LINE__) - 1;",
        (
            f"uint t = thread_position_in_threadgroup.x; out[t] = 0;\nfor (int k = 0; k < __LINE__; ++k) {{ {BARRIER}"
            " out[t] += 1; }"
        ),
    ],
)
def test_a_line_number_is_the_authors_wherever_it_stands(source):
    import mlx.core as mx

    import zmlx

    group = (8, 1, 1)
    (out,) = zmlx.metal_kernel("lines", [], ["out"], source)(
        inputs=[],
        output_shapes=[(8,)],
        output_dtypes=[mx.int32],
        grid=group,
        threadgroup=group,
        stream=mx.cpu,
    )
    assert out.tolist() == [2] * 8
