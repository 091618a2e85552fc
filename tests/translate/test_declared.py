"""Declarations that Metal refuses: refused with their line on every path, and what is like them is not."""

from __future__ import annotations

import pytest

from zmlx.errors import TranslationError
from zmlx.metal.signature import KernelSource
from zmlx.translate import pipeline

pytestmark = pytest.mark.cpu

BARRIER = "threadgroup_barrier(mem_flags::mem_none);"


def refusal(source, header=""):
    """What each pipeline says, which is the same for all."""
    kernel = KernelSource("k", ("x",), ("out",), source, header)
    said = set()
    for name in pipeline.PIPELINES:
        with pytest.raises(TranslationError) as error:
            pipeline.run(kernel, name)
        said.add(str(error.value))
    (message,) = said
    assert message.endswith("Metal refuses it too.")
    return message


@pytest.mark.parametrize(
    ("source", "name", "what"),
    [
        ("\nfloat out[2] = {1, 2};\nout[0] = x[0];", "out", "an output"),
        (f"\nfloat out = 2.0f; {BARRIER}", "out", "an output"),
        ("uint i = 0;\nfloat a, x = 3; out[0] = a + x;", "x", "an input"),
        ("\nthreadgroup float x[32];\nout[0] = x[0];", "x", "an input"),
        ("float s = simd_sum(x[0]);\nauto x = s; out[0] = x;", "x", "an input"),
        ("\nconst device float* x = out; out[1] = x[0];", "x", "an input"),
        (
            "\nuint3 thread_position_in_grid = uint3(0);\nout[0] = 1;",
            "thread_position_in_grid",
            "an attribute",
        ),
        ("for (int k = 0; k < 3; ++k) out[k] = 1;\nint out = 3;", "out", "an output"),
    ],
)
def test_a_parameter_is_declared_again(source, name, what):
    message = refusal(source)
    assert f"'k', source line 2: `{name}` is declared again: it is {what} of the kernel" in message
    assert "Give the variable another name" in message


@pytest.mark.parametrize(
    ("source", "header"),
    [
        (f"{{ float out[2] = {{1, 2}}; {BARRIER} }}", ""),
        ("for (uint x = 0; x < 4; ++x) out[x] = 1;", ""),
        ("if (true) { float x = 1; out[0] = x; } else { int out = 1; }", ""),
        ("out[0] = f(x[0]);", "float f(float x) { float out = x; return out; }"),
        ("struct P { float x, out; }; P p; p.x = 1; out[0] = p.x;", ""),
        ("uint i = thread_position_in_grid.x; out[i] = x[i];", ""),
        ("x += 1; out += 1; *out = *x;", ""),
        ("x * 2.0f; return;", ""),
        ("#ifdef MINE\nfloat x = 1;\n#endif\nout[0] = 1;", ""),
    ],
)
def test_what_hides_a_parameter_in_an_inner_scope_is_not_refused(source, header):
    pipeline.run(KernelSource("k", ("x",), ("out",), source, header), "host-fibers")


@pytest.mark.parametrize("word", ["half", "bfloat", "bool", "kernel", "device", "thread"])
def test_words_of_the_language(word):
    message = refusal(f"uint i = 0;\nint {word} = 1; out[i] = {word};")
    assert f"source line 2: `{word}` is a word of Metal, and names no variable" in message
    assert "header line 1" in refusal("out[0] = 1;", f"float f(float {word}) {{ return 1; }}\n")


@pytest.mark.parametrize("word", ["uint", "float2", "vec", "size_t", "packed_float3"])
def test_names_of_types_may_be_hidden(word):
    for name in pipeline.PIPELINES:
        pipeline.run(KernelSource("k", ("x",), ("out",), f"int {word} = 1; out[0] = {word};", ""), name)


@pytest.mark.parametrize(
    ("source", "header", "words"),
    [
        ("constant float t[4] = {1, 2, 4, 8};", "", "`constant` in front of the local variable `t`"),
        ("const constant int n = 3;", "", "`constant` in front of the local variable `n`"),
        (
            "if (x[0] > 0) {\n device float v = 1; }",
            "",
            "source line 2: `device` in front of the local variable `v`",
        ),
        (
            "out[0] = f();",
            "float f() {\n  constant float c = 1; return c; }",
            "header line 2: `constant` in front",
        ),
        (f"{BARRIER} constant float c = 1;", "", "or declare it in the header"),
        (
            "out[0] = f();",
            "float f() {\n  threadgroup float s[4]; return s[0]; }",
            "header line 2: the threadgroup variable `s` in a function that is no kernel",
        ),
    ],
)
def test_locals_with_an_address_space(source, header, words):
    assert words in refusal(source, header)


@pytest.mark.parametrize(
    ("source", "header"),
    [
        ("const constant float* p = x; const constant float& r = x[0]; device float* q = out;", ""),
        ("thread float v = 1; thread float* p = &v; threadgroup float s[4];", ""),
        ("static constant float t[2] = {1, 2};", ""),
        ("out[0] = t[0];", "constant float t[2] = {1, 2};\nstatic constant constexpr int n = 2;"),
        ("S<int> s;", "template <typename T> struct S { static constexpr constant T init = 1; };"),
        ("out[0] = n::c;", "namespace n { constant float c = 1; }"),
        ("const device float4* v = (const device float4*)x;", ""),
    ],
)
def test_address_spaces_where_they_belong(source, header):
    pipeline.run(KernelSource("k", ("x",), ("out",), source, header), "host-fibers")


@pytest.mark.parametrize("order", ["acquire", "release", "acq_rel", "seq_cst"])
def test_orders_of_atomics(order):
    message = refusal(f"device atomic_uint* a;\natomic_fetch_add_explicit(a, 1, memory_order_{order});")
    assert f"source line 2: `atomic_fetch_add_explicit` with `memory_order_{order}`" in message
    message = refusal(
        f"atomic_compare_exchange_weak_explicit(a, &e, 1, memory_order_relaxed, memory_order_{order});"
    )
    assert f"with `memory_order_{order}`: Metal's atomic operations take memory_order_relaxed only" in message
    macro = f"#define ADD(a) atomic_fetch_add_explicit(a, 1, memory_order_{order})\n"
    assert "header line 1" in refusal("ADD(a);", macro)


def test_fences_take_any_order():
    source = (
        "atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device); out[0] = 1;"
    )
    pipeline.run(KernelSource("k", ("x",), ("out",), source), "host-fibers")
