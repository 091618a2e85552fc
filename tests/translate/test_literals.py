"""Number literals: what has no suffix is a float."""

from __future__ import annotations

import pytest

from zmlx.metal.signature import KernelSource
from zmlx.translate import translate

pytestmark = pytest.mark.cpu


def body(source: str, target: str = "host", header: str = "") -> str:
    return translate(KernelSource("k", ("x",), ("out",), source, header), target).body


@pytest.mark.parametrize(
    ("metal", "cpp"),
    [
        ("out[i] = 1.0 + 2.5e-3 + .5 + 3. + 1e4;", "out[i] = 1.0f + 2.5e-3f + .5f + 3.f + 1e4f;"),
        ("out[i] = 1.0f + 2.0F + 1u + 0x10 + 7l;", "out[i] = 1.0f + 2.0F + 1u + 0x10 + 7l;"),
        ("out[i] = 0x1p-3 + 0x1.8P+2 + 0x1p3f;", "out[i] = 0x1p-3f + 0x1.8P+2f + 0x1p3f;"),
        ("half h = 1.0h + .5H;", "half h = half(1.0f) + half(.5f);"),
        ("bfloat b = 1.5bf;", "bfloat b = bfloat(1.5f);"),
        ("out[i] = 1'000.5 + 0b101;", "out[i] = 1'000.5f + 0b101;"),
        ("// device threadgroup 1.0", "// device threadgroup 1.0"),
        ('static_assert(true, "device 1.0");', 'static_assert(true, "device 1.0");'),
    ],
)
def test_literals(metal, cpp):
    assert body(metal, "cuda") == cpp


def test_macros_of_the_header_are_translated_and_conditions_are_not():
    header = "#define HALF 0.5\n#if VERSION >= 1.5e1\n#endif\n#pragma unroll\n"
    translated = translate(KernelSource("k", ("x",), ("out",), "", header), "host").header
    assert translated == header.replace("0.5", "0.5f")
