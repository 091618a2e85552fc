"""Entry points in a header go, with what names them; what they are made of stays."""

from __future__ import annotations

import pytest

from zmlx.metal.signature import KernelSource
from zmlx.translate.pipeline import translate

pytestmark = pytest.mark.cpu

HELPER = "float half_of(float x) { return 0.5f * x; }"


def header(text: str) -> str:
    return translate(KernelSource("k", ("x",), ("out",), "out[0] = 0;", text), "host").header


@pytest.mark.parametrize(
    "entry",
    [
        "kernel void f(device float* x [[buffer(0)]]) { x[0] = half_of(x[0]); }",
        "[[kernel]] void f(device float* x) {}",
        "[[kernel, max_total_threads_per_threadgroup(64)]] void f(device float* x) { if (x) { } }",
        "template <typename T, int N = 4> [[kernel]] void f(device T* x) { x[N] = {}; }",
        'template [[host_name("f_float")]] [[kernel]] decltype(f<float>) f<float>;',
        "kernel void f(device float* x);",
        "vertex float4 f(uint i [[vertex_id]]) { return float4(i); }",
        "fragment half4 f() { return half4(0); }",
    ],
)
def test_an_entry_point_goes_and_leaves_what_is_around_it(entry: str) -> None:
    left = header(f"{HELPER}\n{entry}\nconstant int after = 1;\n")
    lines = [line.strip() for line in left.split("\n")]
    assert lines[0] == HELPER
    assert lines[1] == ""
    assert lines[2].endswith("int after = 1;")


def test_lines_within_an_entry_point_stay_lines() -> None:
    left = header("kernel void f(\n  device float* x)\n{\n#pragma unroll\n  x[0] = 1;\n}\nint g();\n")
    assert left.split("\n")[6].strip() == "int g();"


def test_entry_points_in_a_namespace_go() -> None:
    assert header("namespace a { kernel void f(device int* x) { *x = 1; } int g(); }").split() == (
        ["namespace", "a", "{", "int", "g();", "}"]
    )


def test_macros_that_make_entry_points_are_left_empty() -> None:
    text = (
        "#define make(name, T) \\\n  template [[host_name(name)]] [[kernel]] decltype(f<T>) f<T>;\n"
        'make("a", float) make("b", half)\n'
        "int g();"
    )
    left = header(text)
    assert "host_name" not in left
    assert "kernel" not in left
    assert left.split("\n")[3] == "int g();"


def test_names_that_only_look_like_it() -> None:
    assert "kernels.kernel" in header("struct S { int a; }; int f(S kernels) { return kernels.kernel; }")


def test_what_entry_points_use_does_not_count() -> None:
    """Threads of the kernel do not meet because those of another one do."""
    found = translate(
        KernelSource(
            "k", ("x",), ("out",), "out[0] = 0;",
            "kernel void f(device int* x) { threadgroup_barrier(mem_flags::mem_none); }",
        ),
        "host",
    )  # fmt: skip
    assert not found.uses_sync


@pytest.mark.parametrize("type", ["typedef decltype(f<float>) f_t;", "using f_t = decltype(f<float>);"])
def test_types_made_of_an_entry_point_go_with_it(type: str) -> None:
    left = header(
        f"{HELPER}\ntemplate <typename T> kernel void f(device T* x) {{}}\n{type}\n"
        'template [[host_name("g")]] kernel f_t f<float>;\nusing real = decltype(half_of(1.0f));\n'
    )
    assert [line.strip() for line in left.split("\n")][:5] == [
        HELPER,
        "",
        "",
        "",
        "using real = decltype(half_of(1.0f));",
    ]
