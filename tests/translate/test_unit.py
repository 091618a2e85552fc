"""What a translation says of its kernel."""

from __future__ import annotations

import pytest

from zmlx.metal.signature import KernelSource
from zmlx.translate import translate

pytestmark = pytest.mark.cpu


@pytest.mark.parametrize(
    ("source", "barrier", "simd"),
    [
        ("out[0] = exp(x[0]);", False, False),
        ("threadgroup_barrier(mem_flags::mem_threadgroup);", True, False),
        ("out[0] = simd_sum(x[0]);", False, True),
        ("out[0] = metal::quad_broadcast(x[0], 1);", False, True),
        ("simdgroup_barrier(mem_flags::mem_none);", False, True),
        ("simdgroup_float8x8 a;", False, True),
        ("// threadgroup_barrier(mem_flags::mem_none); simd_sum(1)", False, False),
        ("out[0] = simdgroup_index_in_threadgroup;", False, False),
        ("uint simd_lane = 3, quad_id = simd_lane;", False, False),
    ],
)
def test_what_makes_threads_meet(source, barrier, simd):
    translation = translate(KernelSource("k", ("x",), ("out",), source), "host")
    assert (translation.uses_barrier, translation.uses_simd) == (barrier, simd)
    assert translation.uses_sync == (barrier or simd)


def test_functions_of_the_header_count_only_if_they_are_reached():
    header = "float total(float x) { return simd_sum(x); }\n"
    assert translate(KernelSource("k", ("x",), ("out",), "out[0] = total(x[0]);", header), "host").uses_simd
    assert not translate(KernelSource("k", ("x",), ("out",), "out[0] = x[0];", header), "host").uses_sync


@pytest.mark.parametrize(
    ("header", "source", "barrier", "simd"),
    [
        ("#define MEET(x) threadgroup_barrier(mem_flags::mem_none); x", "out[0] = 1;", False, False),
        ("#define MEET(x) simd_sum(x)\n#define OUTER(x) MEET(x)", "out[0] = 1;", False, False),
        ("#define MEET(x) simd_sum(x)\n#define OUTER(x) MEET(x)", "out[0] = OUTER(x[0]);", False, True),
        ("#define MEET(x) simd_##x", "out[0] = 1;", False, False),
        ("#define MEET(op, x) simd_##op(x)", "out[0] = MEET(sum, x[0]);", False, True),
        ("", "#define MEET simd_sum\nout[0] = 1;", False, False),
        ("", "#define MEET simd_sum\nout[0] = MEET(x[0]);", False, True),
        ("#if A\n#define S simd_sum\n#else\n#define S\n#endif", "out[0] = S(x[0]);", False, True),
        ("#define S simd_sum\nfloat f(float x) { return S(x); }", "out[0] = x[0];", False, False),
        ("#define S simd_sum\nfloat f(float x) { return S(x); }", "out[0] = f(x[0]);", False, True),
        ("#define F f\nfloat f(float x) { return simd_sum(x); }", "out[0] = F(x[0]);", False, True),
        ("template <typename T> T f(T x) { return simd_sum(x); }", "out[0] = x[0];", False, False),
        ("struct A { float f(float x) { return simd_sum(x); } };", "out[0] = x[0];", False, False),
        ("struct A { float f(float x) { return simd_sum(x); } };", "A a; out[0] = a.f(x[0]);", False, True),
    ],
)
def test_macros_and_functions_count_only_if_they_are_reached(header, source, barrier, simd):
    translation = translate(KernelSource("k", ("x",), ("out",), source, f"{header}\n"), "host")
    assert (translation.uses_barrier, translation.uses_simd) == (barrier, simd)
