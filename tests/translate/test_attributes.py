"""Attributes and qualifiers that only Metal's compiler reads."""

from __future__ import annotations

import pytest

from zmlx.metal.signature import KernelSource
from zmlx.translate import translate

pytestmark = pytest.mark.cpu


@pytest.mark.parametrize(
    ("metal", "cpp"),
    [
        ("float f(threadgroup float* s [[threadgroup(0)]], uint l);", "float f( float* s , uint l);"),
        ("float f(uint i [[thread_position_in_grid]]);", "float f(uint i );"),
        ("float f(device float* x [[buffer(0)]], uint a[2]);", "float f( float* x , uint a[2]);"),
        ("[[max_total_threads_per_threadgroup(64)]] void f();", " void f();"),
        ("[[nodiscard]] float f();", "[[nodiscard]] float f();"),
        ("[[clang::noinline]] void f();", "[[clang::noinline]] void f();"),
        ("coherent(device) device float* p;", "  float* p;"),
        ("#define COHERENT coherent(device)", "#define COHERENT "),
        ("float a[2][2]; float b = a[[](int i) { return i; }(0)][1];", None),
    ],
)
def test_what_goes_and_what_stays(metal, cpp):
    header = translate(KernelSource("k", ("x",), ("out",), "", f"{metal}\n"), "host").header
    assert header == f"{metal if cpp is None else cpp}\n"
