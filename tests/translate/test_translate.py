from __future__ import annotations

import pytest

from zmlx.errors import TranslationError
from zmlx.metal.signature import ArrayType, KernelSource, make_signature
from zmlx.translate import translate
from zmlx.translate.function import cpp_function

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
        "here; put what it declares into the kernel's header. The kernel can run on Metal only."
    )


REFUSED = [
    ("\n\ndouble d = 1.0;", "'k', source line 3: `double`: Metal has no double; use float"),
    ("texture2d<float> t;", "`texture2d`: textures exist only on Metal; pass an array instead"),
    ("texture1d_array<half> t;", "`texture1d_array`: textures exist only on Metal"),
    ("texture_buffer<float> t;", "`texture_buffer`: textures exist only on Metal"),
    ("metal::depth2d<float> t;", "`depth2d`: textures exist only on Metal"),
    ("constexpr sampler s(filter::linear);", "`sampler`: textures exist only on Metal"),
    ("float4x4 m;", "`float4x4`: matrices are not supported; use an array of vectors"),
    ("metal::half2x3 m;", "`half2x3`: matrices are not supported"),
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
        "os_log_default.log(1); os_log log;",
        "`os_log`: logging from kernels exists only on Metal; write to an output",
    ),
    (
        "tensor<device float, dextents<int, 2>> t;",
        "`tensor`: Metal's tensors exist only on Metal; use simdgroup_matrix",
    ),
    ("cooperative_tensor t;", "`cooperative_tensor`: Metal's tensors exist only on Metal"),
    ("goto end;", "`goto`: Metal has no goto"),
]


@pytest.mark.parametrize(
    ("source", "message"), REFUSED, ids=[source.split("\n")[-1][:24] for source, _ in REFUSED]
)
def test_what_exists_only_on_metal_is_refused(source, message):
    for target in ("host", "cuda"):
        with pytest.raises(TranslationError) as error:
            body(source, target)
        assert message in str(error.value)
        assert str(error.value).endswith("The kernel can run on Metal only.")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "\nkernel void f(device float* x) {}",
            "header line 2: `kernel`: a header cannot hold further kernels here",
        ),
        (
            "[[kernel]] void f(device float* x) {}",
            "header line 1: `kernel`: a header cannot hold further kernels",
        ),
        ("fragment float4 f() {}", "`fragment`: a header cannot hold further kernels"),
        ("vertex float4 f() {}", "`vertex`: a header cannot hold further kernels"),
        (
            "constant int n [[function_constant(0)]];",
            "`function_constant`: function constants exist only on Metal",
        ),
        (
            "namespace metal { float f(); }",
            "`namespace metal`: the library cannot be added to here; put the functions",
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
        body("", header=header)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "source",
    [
        "int kernel = 3, mesh = kernel;",
        "p.sampler = 1;",
        "mine::texture2d t;",
        "float tensor[3];",
        "x = fragment * 2;",
    ],
)
def test_names_that_only_look_like_it(source):
    assert body(source, "cuda") == source


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


def test_the_function_around_a_kernel():
    kernel = KernelSource(
        "scale",
        ("x", "by"),
        ("out",),
        "uint i = thread_position_in_grid.x;\nout[i] = x[i] * by + x_ndim;",
        "// header\n",
        atomic_outputs=True,
    )
    signature = make_signature(
        kernel,
        [ArrayType("float32", 2), ArrayType("int32", 0)],
        ["uint32"],
        [("T", "float"), ("N", 3), ("B", True)],
    )
    assert cpp_function(signature, "host-fibers", "run", "zmlx::Group& group") == (
        "namespace metal { namespace zmlx_kernel { namespace {\n"
        "\n"
        '#line 1 "scale header"\n'
        "// header\n"
        "\n"
        "template <typename T, int N, bool B>\n"
        "ZMLX_KERNEL void run(zmlx::Group& group, const float* x, const int& x_ndim, const int32_t& by, "
        "atomic<uint32_t>* out, uint3 thread_position_in_grid) {\n"
        '#line 1 "scale source"\n'
        "uint i = thread_position_in_grid.x;\nout[i] ->* zmlx_into = x[i] * by + x_ndim;\n"
        "}\n"
        "}}}  // namespace metal::zmlx_kernel\n"
    )
