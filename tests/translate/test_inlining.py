"""Functions of the header in which threads meet, in the place of their calls: that they compute what a call does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from meeting import BARRIER, GROUP, THREADS, X, launch

from zmlx.metal.signature import KernelSource
from zmlx.metal.statements import Unclear
from zmlx.translate import pipeline

pytestmark = pytest.mark.cpu

PREFIX = "uint t = thread_position_in_threadgroup.x; uint i = thread_position_in_grid.x; int v = x[i];\n"
TOTAL = "int total(int v) { v += 1; return simd_sum(v); }\n"


@dataclass(frozen=True)
class Case:
    """A kernel, which reads ``x`` and writes ``out``, and what it writes."""

    header: str
    source: str
    expected: Any


def per_simdgroup(function: Any, x: Any = X) -> Any:
    groups = [x[k : k + GROUP] for k in range(0, THREADS, GROUP)]
    return np.concatenate([np.broadcast_to(function(g[k : k + 32]), len(g[k : k + 32]))
                           for g in groups for k in range(0, len(g), 32)])  # fmt: skip


def per_group(function: Any) -> Any:
    return np.concatenate(
        [np.broadcast_to(function(x), len(x)) for x in np.split(X, range(GROUP, THREADS, GROUP))]
    )


def pick(x: Any) -> Any:
    """The oracle of "returns in branches"."""
    t = np.arange(len(x))
    last = (x <= 20) & (t % 2 == 1) & (x != 3)
    early = np.where(t % 2 == 0, x * 2, np.where(x == 3, -3, x[last].sum()))
    return np.where(x > 20, (x > 20).sum(), early)


def conditions(x: Any) -> int:
    """The oracle of "in conditions", where lanes decide alike."""
    lanes = len(x)
    k = 1 if x.sum() + lanes > 400 else 2 if 2 * lanes > 50 else 4
    while (k + 1) * lanes < 200:
        k += 3
    j = lanes
    while (j + 1) * lanes < 3000:
        k += j % 2 == 0
        j += 9
    return k


def partial_units(threads: int) -> Any:
    """The elements of each simdgroup's 9 times the identity, of which a partial simdgroup has those of its lanes."""
    lanes = np.arange(threads) % 32
    row, column = (lanes >> 2 & 4) + (lanes >> 1 & 3), (lanes >> 1 & 4) + (lanes & 1) * 2
    found = np.zeros((2, 8, 8), np.int32)
    for k in range(2):
        found[np.arange(threads) // 32, row, column + k] = (row == column + k) * 9
    return found.ravel()[:threads]


S = per_simdgroup(np.sum)
N = per_simdgroup(len)
BLOCK_SUM = f"""
    int block_sum(int v, threadgroup int* shared, uint lane, uint group, uint groups) {{
        v = simd_sum(v);
        if (lane == 0) shared[group] = v;
        {BARRIER}
        int t = 0;
        for (uint i = 0; i < groups; ++i) t += shared[i];
        {BARRIER}
        return t;
    }}
"""

CASES = {
    "an argument that the function changes, by the name of the kernel's own": Case(
        TOTAL, "out[i] = total(v) * 2 + v;", (S + N) * 2 + X
    ),
    "calls within arguments, twice in an expression": Case(
        TOTAL, "out[i] = total(total(v) + 1) - total(1);", (S + N + 2) * N - 2 * N
    ),
    "a sum of a threadgroup, which names a variable as the kernel does": Case(
        BLOCK_SUM,
        "threadgroup int shared[8]; "
        "int a = block_sum(v, shared, thread_index_in_simdgroup, t / 32, (threads_per_threadgroup.x + 31) / 32), "
        "b = 1; out[i] = a + b; "
        "out[i] += block_sum(1, shared + 4, thread_index_in_simdgroup, t / 32, (threads_per_threadgroup.x + 31) / 32);",
        per_group(lambda x: x.sum() + 1 + len(x)),
    ),
    "template arguments that the compiler deduces": Case(
        "template <typename T, int N> T of(T v, thread const T (&w)[N], T k = T(2)) {"
        " T sum = 0; for (int i = 0; i < N; ++i) sum += w[i]; return simd_sum(v * sum) + k + N; }",
        "int w[3] = {1, 2, v}; out[i] = of(v, w); out[i] += of(v, w, 7); out[i] += int(of(float(v), (float[2]){1, 2}));"
        .replace("(float[2]){1, 2}", "q").replace("out[i] = of", "float q[2] = {1, 2}; out[i] = of", 1),
        2 * per_simdgroup(lambda x: (x * (3 + x)).sum()) + 2 + 3 + 7 + 3 + S * 3 + 2 + 2,
    ),
    "template arguments that are given": Case(
        "template <typename T, int N = 3> T scaled(T v) { constexpr int M = N * 2; using U = T; U u = v * M;"
        " return simd_max(u); }",
        "out[i] = scaled<int, 4>(v) + scaled<int>(v) + int(scaled<float, 1>(v));",
        per_simdgroup(np.max) * (8 + 6 + 2),
    ),
    "returns in branches": Case(
        "int pick(int v, uint t) { if (v > 20) return simd_sum(1); if (t % 2 == 0) { v = v * 2; return v; }"
        " else if (v == 3) { return -3; } else { return simd_sum(v); } }",
        "out[i] = pick(v, t);",
        per_simdgroup(lambda x: pick(x)),
    ),
    "a return in the middle, of nothing": Case(
        "void put(device int* out, uint i, int v) { if (v < 5) { out[i] = 0; return; } out[i] = simd_sum(v); }",
        "put(out, i, v);",
        np.where(X < 5, 0, per_simdgroup(lambda x: x[x >= 5].sum())),
    ),
    "references: a variable, an element, a member, through two functions": Case(
        "struct Pair { int a, b; };\n"
        "void add(thread int& to, int v) { to += simd_sum(v); }\n"
        "void twice(thread int& to, thread Pair& pair) { add(to, 1); pair.b += to; add(pair.a, to); }\n",
        "int a[2] = {v, v}; Pair pair = {1, 2}; for (int k = 0; k < 2; ++k) add(a[k], k + 1); "
        "twice(a[1], pair); add(v, v); out[i] = a[0] + a[1] * 3 + pair.a * 5 + pair.b * 7 + v;",
        (X + N) + (X + 3 * N) * 3 + (1 + S + 3 * N * N) * 5 + (2 + X + 3 * N) * 7 + X + S,
    ),
    "pointers to a variable of the thread": Case(
        "void add(thread int* to, const device int* x, uint i) { *to += simd_sum(x[i]); to += 1; *to = 5; }",
        "int a[2] = {1, 2}; add(a, x, i); out[i] = a[0] * 10 + a[1];",
        (1 + S) * 10 + 5,
    ),
    "in conditions: if, else if, while, for": Case(
        TOTAL,
        "int k = 0; if (total(v) > 400) k += 1; else if (total(1) > 50) k += 2; else if (v >= 0) k += 4;\n"
        "while (total(k) < 200) k += 3;\n"
        "for (int j = total(0); total(j) < 3000; j += 9) { if (j % 2) continue; k += 1; } out[i] = k;",
        per_simdgroup(lambda x: conditions(x)),
    ),
    "in branches of some threads": Case(
        TOTAL,
        "if (v % 3 == 0) out[i] = total(v); else { v -= 1; out[i] = -total(v); }",
        np.where(X % 3 == 0, per_simdgroup(lambda x: (x[x % 3 == 0] + 1).sum()),
                 -per_simdgroup(lambda x: x[x % 3 != 0].sum())),
    ),
    "functions that call functions, macros in them": Case(
        f"#define SUM(a) simd_sum(a)\n#define MEET() {BARRIER}\n"
        "int one(int v) { return SUM(v) + 1; }\n"
        "METAL_FUNC int two(const int v, threadgroup int (&s)[64], uint t) { s[t] = v; MEET() int w = s[t ^ 1];"
        " MEET() return one(w) + one(v); }",
        "threadgroup int s[64]; s[t] = 0; out[i] = two(v, s, t) + one(1);",
        S * 2 + N + 3,
    ),
    "a loop in the function, with an exit of its own": Case(
        "int turns(int v) { int n = 0; for (int k = 0; k < 40; ++k) { if (k >= v) break; n += simd_sum(1); }"
        " return n; }",
        "out[i] = turns(v);",
        per_simdgroup(lambda x: np.array([sum((x > k).sum() for k in range(n)) for n in x])),
    ),
    "matrices": Case(
        "template <typename M> void square(thread M& m) { simdgroup_multiply(m, m, m); }\n"
        "simdgroup_float8x8 unit(float d) { return simdgroup_float8x8(d); }\n",
        "threadgroup float s[128]; simdgroup_float8x8 m = unit(2.0f), z[2]; z[1] = m; square(z[1]); "
        "simdgroup_multiply_accumulate(m, z[1], m, simdgroup_float8x8(1.0f)); "
        f"simdgroup_store(m, s + t / 32 * 64, 8); {BARRIER} out[i] = int(s[t]);",
        per_group(lambda x: partial_units(len(x))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_both_ways_compute_the_same(name, meeting_path):
    case = CASES[name]
    out, paths = launch(PREFIX + case.source, case.header)
    assert paths == [meeting_path]
    np.testing.assert_array_equal(out, case.expected)


LEFT = [
    ("int f(int v) { return simd_sum(v); } float f(float v) { return simd_sum(v); }", "out[i] = f(v);",
     "threads meet in `f`, which is overloaded"),
    ("namespace ours { int f(int v) { return simd_sum(v); } }", "out[i] = ours::f(v);",
     "threads meet in `f`, which is not called plainly"),
    ("namespace ours { int f(int v) { return simd_sum(v); } } using namespace ours;", "out[i] = f(v);",
     "threads meet in `f`, in a namespace"),
    ("int f(int v) { return simd_sum(v); } struct S { static int f(int v) { return simd_max(v); } };",
     "out[i] = S::f(v);", "threads meet in `f`, which is not called plainly"),
    ("struct S { int f(int v) { return simd_sum(v); } };", "S s; out[i] = s.f(v);", "threads meet in `f`"),
    (TOTAL, "out[i] = v > 3 ? total(v) : 0;",
     "threads meet in `total`, which is called only if another value allows it, or behind a comma"),
    (TOTAL, "int a = 1, b = total(a); out[i] = b;",
     "threads meet in `total`, which is called only if another value allows it, or behind a comma"),
    (TOTAL, "int a = v; a = 2, a = total(a); out[i] = a;",
     "threads meet in `total`, which is called only if another value allows it, or behind a comma"),
    (TOTAL, "for (int k = 0; k < 3; k += total(1)) out[i] = k;",
     "threads meet in `total`, called in the step of a loop"),
    (TOTAL, "int k = 0; do { ++k; } while (k < total(0)); out[i] = k;",
     "threads meet in `total`, called in a loop's condition"),
    (TOTAL, "switch (v) { case 1: out[i] = total(v); }", "threads meet in `total`, called in a `switch`"),
    (TOTAL, "auto g = total; out[i] = g(v);", "threads meet in `total`, which is not called plainly"),
    ("int f(int v) { return v > 0 ? f(v - simd_min(v)) : 0; }", "out[i] = f(v);",
     "threads meet in `f`, which is called only if another value allows it, or behind a comma"),
    ("int f(int v) { int w = f(simd_max(v)); return w; }", "out[i] = f(v);",
     "threads meet in `f`, which calls itself or is called too often"),
    ("int f(int v) { for (int k = 0; k < 9; ++k) if (simd_any(v > k)) return k; return v; }", "out[i] = f(v);",
     "threads meet in `f`, which has a `return` out of a loop"),
    ("int f(int v) { if (v > 3) { if (v > 9) return 1; v = simd_sum(v); } return v; }", "out[i] = f(v);",
     "threads meet in `f`, which has a `return` out of the middle of a branch"),
    ("void g(int v) { simd_sum(v); } void f(int v) { return g(v); }", "f(v);",
     "threads meet in `g`, which returns nothing, in an expression"),
    ("auto f(int v) { if (v > 3) return 1; return simd_sum(v); }", "out[i] = f(v);",
     "threads meet in `f`, which returns `auto` in several places"),
    ("thread int& f(thread int& v) { v = simd_sum(v); return v; }", "out[i] = f(v);",
     "threads meet in `f`, which returns a reference or has attributes"),
    ("void f(thread int& v) { v = simd_sum(v); }", "int a[2] = {1, 2}; f(a[simd_max(v) & 1]); out[i] = a[0];",
     "threads meet in a function that has `v` by reference"),
    ("void f(thread int& v, thread int& k) { k = simd_max(k); v = k; }", "int a[64], k = 1; f(a[k], k); out[i] = a[1];",
     "threads meet in a function that has `v` by reference"),
    ("constant int k = 3; int f(int v) { return simd_sum(v + k); }", "int k = 1; out[i] = f(k);",
     "threads meet in `f`, to which `k` is not what it is in the kernel"),
    ("#define AND_V(a) (a + v)\nint f(int v) { return simd_sum(AND_V(1)); }", "out[i] = f(3);",
     "threads meet in `f`, which hides `v` in the macro `AND_V`"),
    ("int f(int v) { return simd_sum(v) + __LINE__; }", "out[i] = f(v);",
     "threads meet in `f`, which has a `__LINE__`"),
    ("int f(int v) { struct S { int v; }; return simd_sum(v); }", "out[i] = f(v);",
     "threads meet in `f`, which defines types"),
    ("int f(int v) { threadgroup int s[32]; s[simd_max(v)] = v; return s[0]; }", "out[i] = f(v);",
     "threads meet in `f`, which has threadgroup memory of its own"),
    ("template <typename... A> int f(A... a) { return simd_sum(1); }", "out[i] = f(v);",
     "threads meet in `f`, a template of an unknown form"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "source", "reason"), LEFT)
def test_what_is_left_to_fibers(header, source, reason):
    kernel = KernelSource("left_alone", ("x",), ("out",), PREFIX + source, header)
    with pytest.raises(Unclear) as error:
        pipeline.run(kernel, "host-regions")
    assert str(error.value) == reason


def test_a_template_argument_that_hides_a_constant_of_the_header():
    """In the place of the call, the constant's name would mean the argument."""
    header = "constant int SCALE = 10; int scaled(int v) { return simd_sum(v) * SCALE; }"
    out, paths = launch(PREFIX + "out[i] = scaled(v) + SCALE;", header, [("SCALE", 3)])
    np.testing.assert_array_equal(out, S * 10 + 3)
    assert paths == ["fibers"]


def test_lines_are_those_of_the_calls():
    """A function of many lines stands in the line of its call; what follows stays where it was."""
    loop = "\n  #pragma unroll\n  for (int k = 0; k < 2; ++k)\n    v += 1;"
    header = f"int total(int v) {{\n  // a comment{loop}\n  return simd_sum(v);\n}}"
    kernel = KernelSource("lines", ("x",), ("out",), "int v = total(\n  x[0]\n);\nout[0] = v;", header)
    text = pipeline.run(kernel, "host-regions").body
    assert "#line 1\nint zmlx_i1_v = " in text
    assert "#line 4\nout[0]" in text
