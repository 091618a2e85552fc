"""Lanes meet in a simd operation exactly where structured control flow brings them together."""

from __future__ import annotations

import numpy as np
import pytest

import zmlx
from zmlx.launch import current_backend
from zmlx.metal.signature import KernelSource
from zmlx.translate import translate

LANES = np.arange(32)


def run(source: str, header: str = "") -> np.ndarray:
    import mlx.core as mx

    kernel = zmlx.metal_kernel(
        "converge",
        [],
        ["out"],
        f"uint t = thread_position_in_grid.x; int v = 0;\n{source}\nout[t] = v;",
        header,
    )
    call = {"inputs": [], "output_shapes": [(32,)], "output_dtypes": [mx.int32]}
    return np.array(kernel(**call, grid=(32, 1, 1), threadgroup=(32, 1, 1))[0])


def meetings(*masks: np.ndarray) -> np.ndarray:
    """What ``v = v * 37 + simd_sum(1)`` leaves when the lanes of each mask in turn meet."""
    v = np.zeros(32, np.int64)
    for mask in masks:
        v = np.where(mask, v * 37 + mask.sum(), v)
    return v.astype(np.int32)


EVERY = LANES >= 0
ODD = LANES % 2 == 1
STEP = "v = v * 37 + simd_sum(1);"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("v = t < 10 ? simd_sum(1) : simd_sum(2);", np.where(LANES < 10, 10, 44)),
        ("v = simd_sum(t < 16 ? simd_sum(1) : 1);", np.full(32, 16 * 16 + 16)),
        (f"if (t < 10) {{ {STEP} }} else {{ {STEP} }} {STEP}", meetings(LANES < 10, LANES >= 10, EVERY)),
        (f"if (t < 10) {STEP} {STEP}", meetings(LANES < 10, EVERY)),
        (
            f"for (int i = 0; i < 3; ++i) {{ if (i == 0 && t % 2 == 1) continue; {STEP} }}",
            meetings(~ODD, EVERY, EVERY),
        ),
        (
            f"for (int i = 0; i < 4; ++i) {{ if (i == 2 && t % 2 == 1) break; {STEP} }} {STEP}",
            meetings(EVERY, EVERY, ~ODD, ~ODD, EVERY),
        ),
        (f"for (uint i = 0; i < t % 3; ++i) {STEP}", meetings(LANES % 3 > 0, LANES % 3 > 1)),
        (f"uint i = 0; while (i++ < t % 3) {{ {STEP} }} {STEP}", meetings(LANES % 3 > 0, LANES % 3 > 1, EVERY)),
        (f"uint i = 0; do {{ {STEP} }} while (++i < t % 3); {STEP}", meetings(EVERY, LANES % 3 > 1, EVERY)),
        ("uint i = 0; while (simd_any(i < t)) { ++i; v += i < t; }", np.maximum(LANES - 1, 0)),
        ("for (uint i = 0; simd_sum(1) > 8 && i < t; ++i) v = i + 1;", np.minimum(LANES, 24)),
        (f"for (;;) {{ if (v > 1000) break; {STEP} }}", meetings(EVERY, EVERY)),
        (
            f"for (int i = 0; i < 2; ++i) for (uint j = 0; j < 1 + (t + i) % 2; ++j) {STEP}",
            meetings(EVERY, ODD, EVERY, ~ODD),
        ),
        (
            f"switch (t % 3) {{ case 0: {STEP} break; case 1: {STEP} default: {STEP} }} {STEP}",
            meetings(LANES % 3 == 0, LANES % 3 == 1, LANES % 3 > 0, EVERY),
        ),
        (f"if (t >= 20) {{ out[t] = 5; return; }} {STEP}", np.where(LANES < 20, meetings(LANES < 20), 5)),
        (
            "v = t % 2 == 1 && simd_sum(1) == 16 ? simd_sum(1) : -simd_sum(1);",
            np.where(ODD, 16, -16),
        ),
        (
            "if (t < 8) if (t < 4) v = simd_sum(1); else v = 2 * simd_sum(1);",
            np.where(LANES < 4, 4, np.where(LANES < 8, 8, 0)),
        ),
    ],
)  # fmt: skip
def test_diverged_lanes(source, expected):
    np.testing.assert_array_equal(run(source), expected)


@pytest.mark.parametrize(
    "header",
    [
        "int total(int x) { return simd_sum(x); }",
        "int inner(int x) { return simd_sum(x); }\nint total(int x) { return inner(x); }",
        "template <typename T> T total(T x) { return simd_sum(x); }",
        "#define total(x) simd_sum(x)",
        "#define total simd_sum",
        "#define make(op, x) simd_##op(x)\n#define total(x) make(sum, x)",
        "#define paste(a, b) a##b\n#define name(a) paste(simd_, a)\n#define total(x) name(sum)(x)",
        "#define define(op) int all_##op(int x) { return simd_##op(x); }\ndefine(sum)\n#define total all_sum",
        "int all_sum(int x) { return simd_sum(x); }\n#define make(op, x) all_##op(x)\n#define total(x) make(sum, x)",
        "struct Op { int run(int x) thread const { return simd_sum(x); } };\n#define total(x) Op().run(x)",
        "namespace mine { int total(int x) { return metal::simd_sum(x); } }\nusing mine::total;",
        (
            "inline void add(thread int& sum, int x) { sum += simd_sum(x); }\n"
            "int total(int x) { int s = 0; add(s, x); return s; }"
        ),
    ],
)
def test_functions_called_from_several_branches(header):
    source = """
        if (t < 10) v = total(1); else v = 100 * total(1);
        v += 10000 * (t % 2 == 1 ? total(1) : total(2) + total(3));
    """
    expected = np.where(LANES < 10, 10, 2200) + 10000 * np.where(ODD, 16, 80)
    np.testing.assert_array_equal(run(source, header), expected)


OPERATOR = "struct Op { int v; int operator()(int x) const { return simd_sum(x); } };"


@pytest.mark.parametrize(
    ("header", "call"),
    [
        (OPERATOR, "op(1)"),
        (OPERATOR + "\ntemplate <typename F> int apply(F f, int x) { return f(x); }", "apply(op, 1)"),
        ("struct Op { int v; };\nint operator+(Op a, Op b) { return simd_sum(1); }", "(op + op)"),
        ("struct Op { int v; operator int() const { return simd_sum(1); } };", "int(op)"),
        ("struct Op { int v; Op(int x) { v = simd_sum(x); } Op() {} };", "Op(1).v"),
        ("struct Op { int v; Op(int x) : v(simd_sum(x)) {} Op() {} };", "Op(1).v"),
        ("struct Op { int v; Op(int x) : v(simd_sum(x)) {} Op() {} };\n#define MADE(x) Op(x).v", "MADE(1)"),
    ],
)
@pytest.mark.parametrize(
    "source",
    [
        "if (t < 10) v = {}; else v = 100 * {};",
        "if (t < 10) {{ v = {}; }} else {{ v = 100 * {}; }}",
        "switch (t < 10) {{ case 0: {{ v = 100 * {1}; break; }} default: {{ v = {0}; }} }}",
        "for (int k = 0; k < 2; ++k) {{ if (t < 10) {{ if (k == 1) continue; v = {}; }} else if (k) v = 100 * {}; }}",
    ],
)
def test_operators_and_constructors_in_branches(source, header, call):
    expected = np.where(LANES < 10, 10, 2200)
    np.testing.assert_array_equal(run("Op op{};" + source.format(call, call), header), expected)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("if (t < 10) v = op(1); v = v * 100 + op(1);", np.where(LANES < 10, 1032, 32)),
        ("if (t < 10) { v = op(1); v += op(1); } v = v * 100 + op(1);", np.where(LANES < 10, 2032, 32)),
        (
            "for (uint k = 0; k < t % 3; ++k) v += op(1); v = v * 100 + op(1);",
            ((LANES % 3 > 0) * 21 + (LANES % 3 > 1) * 10) * 100 + 32,
        ),
        (
            "int a[2] = {op(1), 2}; { v = a[0]; } if (t > 9) { out[t] = v; return; } v += 100 * op(1);",
            np.where(LANES > 9, 32, 1032),
        ),
        (
            "auto f = [&](int x) { if (x > 20) return op(1); return 100 * op(1); }; v = f(t);",
            np.where(LANES > 20, 11, 2100),
        ),
    ],
)
def test_operators_in_program_order(source, expected):
    np.testing.assert_array_equal(run(f"Op op{{}}; {source}", OPERATOR), expected)


def test_constants_are_no_calls():
    header = OPERATOR + "\nconstexpr int four() { return 4; }"
    source = "int a[four()] = {1, 2, 3}; if (t < 10) v = Op{1}(a[0]); else v = Op{1}(a[1]);"
    np.testing.assert_array_equal(run(source, header), np.where(LANES < 10, 10, 44))


@pytest.mark.parametrize(
    "body",
    [
        "return (*op).run(x);",
        "if (x > 5) (*op).run(x); return op->run(x);",
        "if (x > 5) return 3; else return (*op).run(x);",
        "return Op().run(x);",
        "return Op{2}.run(x);",
        "do (*op).run(x); while (false); Op ops[2] = {}; return ops[1].run(x);",
    ],
)
def test_calls_behind_words_and_temporaries(body):
    header = (
        "struct Op { int v = 0; Op() {} Op(int) {} int run(int x) const { return simd_sum(x); } };\n"
        f"int total(int x) {{ Op local; thread Op* op = &local; {body} }}"
    )
    source = "if (t < 10) v = total(1); else v = 100 * total(1);"
    np.testing.assert_array_equal(run(source, header), np.where(LANES < 10, 10, 2200))


def test_a_lambda_in_braces():
    source = (
        "auto total{[&](int x) { return simd_sum(x); }}; if (t < 10) v = total(1); else v = 100 * total(1);"
    )
    np.testing.assert_array_equal(run(source), np.where(LANES < 10, 10, 2200))


def test_a_pasted_name_in_a_loop():
    source = "for (uint i = 0; i < t % 3; ++i) v = v * 37 + ALL(sum, 1);"
    expected = meetings(LANES % 3 > 0, LANES % 3 > 1)
    np.testing.assert_array_equal(run(source, "#define ALL(op, x) simd_##op(x)"), expected)


def test_lambdas():
    source = (
        "auto total = [&](int x) { return simd_sum(x); }; if (t < 10) v = total(1); else v = 100 * total(1);"
    )
    np.testing.assert_array_equal(run(source), np.where(LANES < 10, 10, 2200))


def test_loops_in_functions_called_in_loops():
    if current_backend() != "cpu":
        pytest.skip("where lanes meet in a function that diverged loops call is the GPU compiler's choice")
    header = """
        int rounds(uint n) {
            int v = 0;
            for (uint i = 0; i < n; ++i) { if (i == 1) continue; v += simd_sum(1); }
            return v;
        }
    """
    source = (
        "for (uint k = 0; k < 2; ++k) { if (k == 0 && t < 8) continue; v = v * 100 + rounds(1 + t % 3 + k); }"
    )
    expected = np.zeros(32, np.int64)
    for k in range(2):
        active = (LANES >= 8) | (k > 0)
        total = np.zeros(32, np.int64)
        for i in (0, 2, 3):
            now = active & (i < 1 + LANES % 3 + k)
            total += np.where(now, now.sum(), 0)
        expected = np.where(active, expected * 100 + total, expected)
    np.testing.assert_array_equal(run(source, header), expected)


def squeeze(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.cpu
def test_only_the_host_needs_marks():
    kernel = KernelSource("k", ("x",), ("out",), "for (int i = 0; i < 4; ++i) out[i] = simd_sum(x[i]);")
    assert translate(kernel, "cuda").body == kernel.source
    assert squeeze(translate(kernel, "host").body) == (
        "for (::zmlx::Loop zmlx_loop_0(__COUNTER__); zmlx_loop_0.once();) "
        "for (int i = 0; zmlx_loop_0.next() && (i < 4); ++i) "
        "out[i] ->* zmlx_into = simd_sum(x[i], ::zmlx::Site(__COUNTER__));"
    )


@pytest.mark.cpu
def test_code_in_which_no_lanes_meet_is_left_alone():
    header = "float f(float x) { for (int i = 0; i < 3; ++i) x *= 2; return x; }\n"
    kernel = KernelSource("k", ("x",), ("out",), "for (;;) { f(1); break; } simd_sum(1);", header)
    translation = translate(kernel, "host")
    assert translation.header == header
    assert "Loop" not in translation.body
    assert "call" not in translation.body
