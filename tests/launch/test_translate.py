from __future__ import annotations

import pytest

from zmlx.launch.errors import TranslationError
from zmlx.launch.signature import KernelSource
from zmlx.launch.translate import translate

pytestmark = pytest.mark.cpu


def body(source: str, target: str = "host", header: str = "") -> str:
    return translate(KernelSource("k", ("x",), ("out",), source, header), target).body


def squeeze(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("metal", "cpp"),
    [
        ("device float* p = out;", "float* p = out;"),
        ("const device float4* p = (const device float4*)x;", "const float4* p = (const float4*)x;"),
        ("thread float& r = a;", "float& r = a;"),
        ("constant float* w = t;", "const float* w = t;"),
        ("const constant float* w = t;", "const float* w = t;"),
        ("constant const float* w = t;", "const float* w = t;"),
        ("auto q = (threadgroup float*)s;", "auto q = ( float*)s;"),
        ("threadgroup float* q = s;", "float* q = s;"),
        ("f<threadgroup float*>(q);", "f< float*>(q);"),
        ("out[i] = 1.0 + 2.5e-3 + .5 + 3. + 1e4;", "out[i] = 1.0f + 2.5e-3f + .5f + 3.f + 1e4f;"),
        ("out[i] = 1.0f + 2.0F + 1u + 0x10 + 0xEp1;", "out[i] = 1.0f + 2.0F + 1u + 0x10 + 0xEp1;"),
        ("half h = 1.0h + 2H;", "half h = half(1.0f) + 2H;"),
        ("v.xy = w.zw;", "v.swizzle_ref(metal::swz<0, 1>()) = w.swizzle(metal::swz<2, 3>());"),
        ("v.rgb += 1;", "v.swizzle_ref(metal::swz<0, 1, 2>()) += 1;"),
        ("float a = v.x + v.w;", "float a = v.x + v.w;"),
        ("bool b = v.xy == w.xy;", "bool b = v.swizzle(metal::swz<0, 1>()) == w.swizzle(metal::swz<0, 1>());"),
        ("// device threadgroup 1.0", "// device threadgroup 1.0"),
        ("mem_flags f = mem_flags::mem_device;", "mem_flags f = mem_flags::mem_device;"),
    ],
)
def test_tokens(metal, cpp):
    assert squeeze(body(metal)) == squeeze(cpp)


@pytest.mark.parametrize(
    ("metal", "host", "cuda"),
    [
        (
            "threadgroup float s[32];",
            "float (&s)[32] = zmlx_group.slot<float[32]>(__COUNTER__);",
            "__shared__ float s[32];",
        ),
        (
            "threadgroup T a[N][M + 1], b[2];",
            "T (&a)[N][M + 1] = zmlx_group.slot<T[N][M + 1]>(__COUNTER__); "
            "T (&b)[2] = zmlx_group.slot<T[2]>(__COUNTER__);",
            "__shared__ T a[N][M + 1], b[2];",
        ),
        ("threadgroup int n;", "int& n = zmlx_group.slot<int>(__COUNTER__);", "__shared__ int n;"),
        (
            "threadgroup vec<float, 4> q[8];",
            "vec<float, 4> (&q)[8] = zmlx_group.slot<vec<float, 4>[8]>(__COUNTER__);",
            "__shared__ vec<float, 4> q[8];",
        ),
        (
            "threadgroup metal::float4 q;",
            "metal::float4& q = zmlx_group.slot<metal::float4>(__COUNTER__);",
            "__shared__ metal::float4 q;",
        ),
        (
            "threadgroup unsigned int u[4];",
            "unsigned int (&u)[4] = zmlx_group.slot<unsigned int[4]>(__COUNTER__);",
            "__shared__ unsigned int u[4];",
        ),
    ],
)
def test_threadgroup_storage(metal, host, cuda):
    assert squeeze(body(metal)) == squeeze(host)
    assert squeeze(body(metal, "cuda")) == squeeze(cuda)


def test_line_numbers_survive():
    source = "threadgroup\n  float s[\n  32];\n\nint last = 1;"
    for target in ("host", "cuda"):
        assert body(source, target).split("\n")[4] == "int last = 1;"


def test_macros_of_the_header_are_translated():
    header = "#define SHARED(n) threadgroup float n[8]; \\\n  n[0] = 1.0;\n"
    kernel = KernelSource("k", ("x",), ("out",), "SHARED(s)", header)
    assert "slot<float[8]>" in translate(kernel, "host").header
    assert "n[0] = 1.0f" in translate(kernel, "host").header


def test_a_member_that_looks_like_a_swizzle_is_left_alone():
    header = "struct Pair { float2 xy; float2 zw, ab; };"
    assert body("p.xy = q.ab;", header=header) == "p.xy = q.ab;"


def test_metal_includes_go_and_others_are_refused():
    kernel = KernelSource("k", ("x",), ("out",), "", "#include <metal_stdlib>\nusing namespace metal;\n")
    assert translate(kernel, "host").header == "\nusing namespace metal;\n"
    with pytest.raises(TranslationError) as error:
        translate(KernelSource("k", ("x",), ("out",), "", '\n#include "mlx/backend/metal/kernels/steel/gemm.h"\n'), "host")
    assert str(error.value) == (
        "[metal_kernel] 'k', header line 2: `#include \"mlx/backend/metal/kernels/steel/gemm.h\"` cannot be followed "
        "here; put what it declares into the kernel's header. The kernel can run on Metal only."
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("\n\ndouble d = 1.0;", "'k', source line 3: `double`: Metal has no double; use float"),
        ("texture2d<float> t;", "source line 1: `texture2d`: textures exist only on Metal"),
        ("threadgroup float s[2] = {0, 0};", "line 1: `threadgroup` variable `s` cannot have an initialiser in Metal"),
    ],
)
def test_refusals_name_construct_and_line(source, message):
    with pytest.raises(TranslationError) as error:
        body(source)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("source", "barrier", "simd"),
    [
        ("out[0] = exp(x[0]);", False, False),
        ("threadgroup_barrier(mem_flags::mem_threadgroup);", True, False),
        ("out[0] = simd_sum(x[0]);", False, True),
        ("out[0] = metal::quad_broadcast(x[0], 1);", False, True),
        ("simdgroup_barrier(mem_flags::mem_none);", False, True),
        ("// threadgroup_barrier(mem_flags::mem_none); simd_sum(1)", False, False),
        ("out[0] = simdgroup_index_in_threadgroup;", False, False),
    ],
)
def test_what_makes_threads_meet(source, barrier, simd):
    translation = translate(KernelSource("k", ("x",), ("out",), source), "host")
    assert (translation.uses_barrier, translation.uses_simd) == (barrier, simd)
    assert translation.uses_sync == (barrier or simd)
