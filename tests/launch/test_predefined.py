"""Macros that Metal's compiler defines by itself: kernels take the branch that they take on a Mac."""

from __future__ import annotations

import pytest

import zmlx
from zmlx.errors import NvrtcNotFoundError
from zmlx.launch import cuda, recording

pytestmark = pytest.mark.cpu

#: In the body, with and without a threadgroup's barrier (which makes it run as fibers), and in the header.
PLACES = {
    "body": ("", "int v = 0;\n#if {0}\nv = 1;\n#endif\nout[thread_position_in_grid.x] = v;"),
    "meeting": (
        "",
        (
            "int v = 0;\n#if {0}\nv = 1;\n#endif\nthreadgroup_barrier(mem_flags::mem_none);\n"
            "out[thread_position_in_grid.x] = v;"
        ),
    ),
    "header": (
        "#if {0}\n#define VALUE 1\n#else\n#define VALUE 0\n#endif\n",
        "threadgroup_barrier(mem_flags::mem_none);\nout[thread_position_in_grid.x] = VALUE;",
    ),
}
#: A condition, and the math modes in which it holds.
ALL = ("safe", "relaxed", "fast")
CONDITIONS = {
    "defined(__METAL__)": ALL,
    "__METAL__ == 1": ALL,
    "__METAL_VERSION__ >= 310": ALL,
    "__METAL_VERSION__ >= 400": (),
    "defined(__METAL_MACOS__) || defined(__METAL_IOS__)": (),  # of the languages before Metal 3
    "defined(__HAVE_SIMDGROUP_MATRIX__) && __HAVE_COHERENT__": ALL,
    "defined(__HAVE_TENSOR__)": (),
    "defined(__clang__) && !__has_feature(cxx_exceptions)": ALL,
    "__has_feature(cxx_rvalue_references) && __has_extension(cxx_generic_lambdas)": ALL,
    "__has_feature(cxx_rtti) || __has_extension(address_sanitizer)": (),
    "defined(__CUDACC__) || defined(__CUDA_ARCH__) || defined(__linux__) || defined(__x86_64__)": (),
    "__has_include(<metal_stdlib>) && __has_include(<simd/simd.h>)": ALL,
    "__has_include(<metal_tensor>) || __has_include(<cstdint>) || __has_include(<cuda_fp16.h>)": (),
    "defined(__HAVE_BFLOAT__)": ALL,
    "defined(__FAST_MATH__)": ("fast",),
}


def launch(place, condition, mode):
    import mlx.core as mx

    header, source = (text.format(condition) for text in PLACES[place])
    kernel = zmlx.metal_kernel("asks", [], ["out"], source, header, compile_options={"math_mode": mode})
    (out,) = kernel(
        inputs=[],
        output_shapes=[(4,)],
        output_dtypes=[mx.int32],
        grid=(4, 1, 1),
        threadgroup=(4, 1, 1),
        stream=mx.cpu,
    )
    return out.tolist()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_branch_that_metal_takes(place, condition):
    for mode in ("safe", "fast"):
        assert launch(place, condition, mode) == [int(mode in CONDITIONS[condition])] * 4


def test_relaxed_is_not_fast():
    assert launch("body", "defined(__FAST_MATH__)", "relaxed") == [0] * 4


def test_checked_launches_take_the_same_branch():
    with zmlx.checked():
        assert launch("body", "defined(__METAL__) && defined(__FAST_MATH__)", "fast") == [1] * 4


@pytest.mark.parametrize("mode", ["safe", "fast"])
def test_cuda_takes_the_same_branch(mode):
    import mlx.core as mx

    holds = " && ".join(f"({c})" if mode in modes else f"!({c})" for c, modes in CONDITIONS.items())
    kernel = zmlx.metal_kernel(
        "asks",
        [],
        ["out"],
        "out[0] = 1;",
        f"#if !({holds})\n#error another branch\n#endif\n",
        compile_options={"math_mode": mode},
    )
    with recording("cuda") as launches:
        kernel(
            inputs=[], output_shapes=[(1,)], output_dtypes=[mx.int32], grid=(1, 1, 1), threadgroup=(1, 1, 1)
        )
    try:
        assert cuda.compile_cubin(launches[0].signature, "sm_90")
    except NvrtcNotFoundError:
        pytest.skip("there is no NVRTC here")
