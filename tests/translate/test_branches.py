"""Branches of ``#if`` that Metal's compiler does not take, emptied."""

from __future__ import annotations

import pytest

from zmlx.errors import TranslationError
from zmlx.metal.signature import KernelSource
from zmlx.metal.structure import Program
from zmlx.translate import translate
from zmlx.translate.branches import live_texts

pytestmark = pytest.mark.cpu


def live(text: str) -> str:
    header, body = live_texts(Program("", text))
    assert header == ""
    return body


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("#if 0\na\n#endif\nb", "#if 0\n\n#endif\nb"),
        ("#if 0\na\n#else\nb\n#endif", "#if 0\n\n#else\nb\n#endif"),
        ("#if 1\na\n#else\nb\n#endif", "#if 1\na\n#else\n\n#endif"),
        ("#if 0\na\n#elif 1\nb\n#else\nc\n#endif", "#if 0\n\n#elif 1\nb\n#else\n\n#endif"),
        ("#if X\na\n#elif 0\nb\n#else\nc\n#endif", "#if X\na\n#elif 0\n\n#else\nc\n#endif"),
        ("#ifdef __METAL__\na\n#else\nb\n#endif", "#ifdef __METAL__\na\n#else\n\n#endif"),
        ("#ifndef __METAL__\na\n#endif", "#ifndef __METAL__\n\n#endif"),
        ("#if 0\n#if X\na\n#else\nb\n#endif\n#endif\nc", "#if 0\n#if X\n\n#else\n\n#endif\n#endif\nc"),
        ("#if 0\n#define A \\\n b\n/* c\n d */\n#endif", "#if 0\n\n\n\n\n#endif"),
        ("#define __HAVE_MINE__ 1\n#if __HAVE_MINE__\na\n#endif", None),
        ("#ifdef MINE\na\n#endif", None),
        ("#endif\n#else\na", None),
    ],
)
def test_what_is_left(text, left):
    found = live(text)
    assert [line.strip() for line in found.split("\n")] == [
        line.strip() for line in (text if left is None else left).split("\n")
    ]


def test_what_is_not_there_is_not_refused():
    header = "#if __METAL_VERSION__ >= 400\n#include <metal_tensor>\ntensor<float> f();\n#endif\n"
    assert (
        translate(KernelSource("k", ("x",), ("out",), "out[0] = x[0];", header), "cuda").body
        == "out[0] = x[0];"
    )
    with pytest.raises(TranslationError, match="header line 3: `tensor`"):
        translate(KernelSource("k", ("x",), ("out",), "", header.replace("400", "310")), "host")


def test_what_is_not_there_does_not_make_threads_meet():
    source = "#if __METAL_VERSION__ >= 400\nout[0] = simd_sum(1);\n#endif\n"
    assert not translate(KernelSource("k", ("x",), ("out",), source), "host").uses_sync
