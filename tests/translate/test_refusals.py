"""What exists only on Metal: refused, with its line and what to do instead."""

from __future__ import annotations

import pytest

from zmlx.errors import TranslationError
from zmlx.metal.signature import KernelSource
from zmlx.translate import translate

pytestmark = pytest.mark.cpu


def body(source: str, target: str = "host", header: str = "") -> str:
    return translate(KernelSource("k", ("x",), ("out",), source, header), target).body


@pytest.mark.parametrize(
    "target", ["<metal_stdlib>", "<metal_math>", "<metal>", "<simd/simd.h>", "<metal_simdgroup_matrix>"]
)
def test_metal_includes_go(target):
    kernel = KernelSource("k", ("x",), ("out",), "", f"#include {target}\nusing namespace metal;\n")
    assert translate(kernel, "host").header == "\nusing namespace metal;\n"


def test_other_includes_are_refused():
    header = '\n#include "mlx/backend/metal/kernels/steel/gemm.h"\n'
    with pytest.raises(TranslationError) as error:
        translate(KernelSource("k", ("x",), ("out",), "", header), "host")
    assert str(error.value) == (
        "[metal_kernel] 'k', header line 2: `#include \"mlx/backend/metal/kernels/steel/gemm.h\"` cannot be followed "
        "here; name its folder in include_dirs=, or put what it declares into the kernel's header. The kernel can "
        "run on Metal only."
    )


REFUSED = [
    ("\n\ndouble d = 1.0;", "'k', source line 3: `double`: Metal has no double; use float"),
    ("texture2d<float> t;", "`texture2d`: textures exist only on Metal; pass an array instead"),
    ("texture1d_array<half> t;", "`texture1d_array`: textures exist only on Metal"),
    ("texture_buffer<float> t;", "`texture_buffer`: textures exist only on Metal"),
    ("metal::depth2d<float> t;", "`depth2d`: textures exist only on Metal"),
    ("constexpr sampler s(filter::linear);", "`sampler`: textures exist only on Metal"),
    ("imageblock<P> b;", "`imageblock`: imageblocks exist only in Metal's tile shaders"),
    ("threadgroup_imageblock P* b;", "`threadgroup_imageblock`: imageblocks exist only"),
    ("raytracing::ray r;", "`raytracing`: ray tracing exists only on Metal"),
    ("ray_data P& p = q;", "`ray_data`: ray tracing exists only on Metal"),
    ("acceleration_structure a;", "`acceleration_structure`: ray tracing exists only on Metal"),
    ("object_data P& p = q;", "`object_data`: mesh shading exists only on Metal"),
    ("mesh<V, P, 8, 8, topology::point> m;", "`mesh`: mesh shading exists only on Metal"),
    (
        "visible_function_table<int(int)> t;",
        "`visible_function_table`: function tables exist only on Metal; call",
    ),
    (
        "intersection_function_table<> t;",
        "`intersection_function_table`: function tables exist only on Metal",
    ),
    (
        "tensor<device float, dextents<int, 2>> t;",
        "`tensor`: Metal's tensors exist only on Metal; use simdgroup_matrix",
    ),
    ("cooperative_tensor t;", "`cooperative_tensor`: Metal's tensors exist only on Metal"),
    ("goto end;", "`goto`: Metal has no goto"),
    ("auto p = new float[3];", "`new`: Metal has no dynamic memory; declare an array of a fixed size"),
    ("throw 1;", "`throw`: Metal has no exceptions"),
    ("try { } catch (...) { }", "`try`: Metal has no exceptions"),
    ("auto q = dynamic_cast<B*>(p);", "`dynamic_cast`: Metal has no run-time types"),
    ("auto& t = typeid(x);", "`typeid`: Metal has no run-time types"),
    ("thread_local int n;", "`thread_local`: Metal has no thread_local"),
]


@pytest.mark.parametrize(
    ("source", "message"), REFUSED, ids=[source.split("\n")[-1][:24] for source, _ in REFUSED]
)
def test_what_exists_only_on_metal_is_refused(source, message):
    for target in ("host", "cuda"):
        with pytest.raises(TranslationError) as error:
            body(source, target)
        assert message in str(error.value)
        words = ("double", "goto", "new", "throw", "try", "dynamic_cast", "typeid", "thread_local")
        refused_there = any(f"`{word}`" in message for word in words)
        ending = "Metal refuses it too." if refused_there else "The kernel can run on Metal only."
        assert str(error.value).endswith(ending)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "constant int n [[function_constant(0)]]; int f() { return n; }\n#define M f()",
            "header line 1: `n`: function constants have no values here; give it with function_constants={'n': value}",
        ),
        ("#include <metal_tensor>\n", "`#include <metal_tensor>`: Metal's tensors exist only on Metal"),
        (
            "#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>\n",
            "`#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>`: Metal's tensors",
        ),
    ],
)
def test_headers_that_are_refused(header, message):
    with pytest.raises(TranslationError) as error:
        body("int m = M;", header=header)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "source",
    [
        "int mesh = 3;",
        "p.sampler = 1;",
        "mine::texture2d t;",
        "float tensor[3];",
        "x = fragment * 2;",
    ],
)
def test_names_that_only_look_like_it(source):
    assert body(source, "cuda") == source


def test_a_whole_kernel_as_source_is_told_what_to_paste():
    with pytest.raises(TranslationError, match="the body of its function only") as error:
        body("kernel void f(device float* x [[buffer(0)]]) { x[0] = 1; }")
    assert str(error.value).endswith("the function around it is generated. Metal refuses it too.")


@pytest.mark.parametrize("source", ["double d = 1.0;", "goto end;"])
def test_what_metal_refuses_too_does_not_run_on_metal(source):
    with pytest.raises(TranslationError) as error:
        body(source)
    assert str(error.value).endswith("Metal refuses it too.")
    assert "Metal only" not in str(error.value)
