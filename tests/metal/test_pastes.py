from __future__ import annotations

import pytest

from zmlx.metal.pastes import pasted_names
from zmlx.metal.signature import KernelSource
from zmlx.metal.structure import Program
from zmlx.translate import translate

pytestmark = pytest.mark.cpu


@pytest.mark.parametrize(
    ("header", "source", "made"),
    [
        ("#define F(op) simd_##op(1)", "F(sum); F(max);", {"simd_sum", "simd_max"}),
        ("#define F(a, b) a##_##b", "F(simd, sum)(1);", {"simd_sum"}),
        ("#define F(a, b) a##b\n#define G(a) F(simd_, a)", "G(sum)(1);", {"simd_sum"}),
        ("#define F(a, b) a##b\n#define G F(simd_, sum)", "G(1);", {"simd_sum"}),
        ("#define F(a) simd_##a", "F(x + 1); F();", {"simd_"}),
        ("#define F(a) simd_##a", "", set()),
        ("#define F(a) f_##a + g_##a", "F(x);", {"f_x", "g_x"}),
        ("#define F(a) G(a) f_##a\n#define G(a) F(a) g_##a", "F(x);", {"f_x", "g_x"}),
        ("#define F(a) #a", "F(x);", set()),
    ],
)
def test_names_that_macros_make(header, source, made):
    names = pasted_names(Program(header, source)).values()
    assert {name for found in names for name in found} == made


@pytest.mark.parametrize(
    ("source", "barrier", "simd"),
    [
        ("MAKE(threadgroup_, barrier)(mem_flags::mem_none);", True, False),
        ("MAKE(quad, _sum)(1);", False, True),
    ],
)
def test_what_is_pasted_decides_how_a_kernel_runs(source, barrier, simd):
    kernel = KernelSource("k", ("x",), ("out",), source, "#define MAKE(a, b) a##b")
    translation = translate(kernel, "host")
    assert (translation.uses_barrier, translation.uses_simd) == (barrier, simd)
