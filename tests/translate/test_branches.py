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


@pytest.mark.parametrize(
    ("header", "certain"),
    [
        ("#ifdef MINE\n{}\n#endif\n", False),
        ("#define NEWER (__METAL_VERSION__ >= 400)\n#if NEWER\n{}\n#endif\n", False),
        ("#if MINE\n#else\n{}\n#endif\n", False),
        ("#if 0\n#elif MINE\n{}\n#endif\n", False),
        ("#if defined(MINE)\n#if 1\n{}\n#endif\n#endif\n", False),
        ("#ifndef MINE_H\n#define MINE_H\n{}\n#endif\n", True),
        ("#if 1\n{}\n#endif\n", True),
        ("#ifdef MINE\n#endif\n{}\n", True),
        ("#if 0\n#else\n{}\n#endif\n", True),
        ("{}\n", True),
    ],
)
def test_what_may_not_be_there_is_left_to_the_compiler(header, certain):
    for what in (
        "texture2d<float> t;",
        "#include <metal_tensor>",
        '#include "mine.h"',
        "float f(float half);",
    ):
        kernel = KernelSource("k", ("x",), ("out",), "out[0] = x[0];", header.format(what))
        if certain:
            with pytest.raises(
                TranslationError, match=f"header line {header[: header.index('{')].count(chr(10)) + 1}"
            ):
                translate(kernel, "host")
            continue
        text = translate(kernel, "host").header
        assert text.count("\n") == kernel.header.count("\n")
        assert ("#error `#include" in text) == what.startswith("#include")


def test_the_compiler_tells_of_an_include_that_is_there_after_all():
    import mlx.core as mx

    import zmlx

    header = "#define MINE 1\n#if MINE\n#include <metal_tensor>\n#endif\n"
    kernel = zmlx.metal_kernel("includes", [], ["out"], "out[0] = 1;", header)
    arguments = {
        "output_shapes": [(1,)],
        "output_dtypes": [mx.int32],
        "grid": (1, 1, 1),
        "threadgroup": (1, 1, 1),
    }
    with pytest.raises(
        zmlx.KernelCompileError, match=r"header line 3: #error `#include <metal_tensor>`: Metal's tensors"
    ):
        kernel(inputs=[], **arguments, stream=mx.cpu)


@pytest.mark.parametrize(
    ("condition", "answer"),
    [
        ("__has_include(<metal_stdlib>)", "1"),
        ("__has_include( <metal_math> )", "1"),
        ("MINE && !__has_include(<metal_tensor>)", "MINE && !0"),
        ('__has_include("mine.h") || __has_include(<vector>)', "0 || 0"),
        ("defined(__has_include)", "defined(__has_include)"),
    ],
)
def test_which_headers_there_are(condition, answer):
    assert live(f"#if {condition}\n#endif") == f"#if {answer}\n#endif"
