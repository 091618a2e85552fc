"""Functions of the header in which threads meet, in the place of their calls: that they compute what a call does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import zmlx
from zmlx.launch import watch
from zmlx.metal.signature import KernelSource
from zmlx.metal.statements import Unclear
from zmlx.translate import pipeline

pytestmark = pytest.mark.cpu

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
PREFIX = "uint t = thread_position_in_threadgroup.x; uint i = thread_position_in_grid.x; int v = x[i];\n"
#: The grid of all kernels here: two whole threadgroups and one of 24 threads.
THREADS, GROUP = 152, 64
X = np.arange(THREADS, dtype=np.int32) * 7 % 31
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
    return np.concatenate([np.broadcast_to(function(x), len(x)) for x in np.split(X, range(GROUP, THREADS, GROUP))])


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
        "int turns(int v) { int n = 0; for (int k = 0; k < 40; ++k) { if (k >= v) break; n += simd_sum(1); } return n; }",
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


def launch(header: str, source: str) -> tuple[Any, list[str]]:
    import mlx.core as mx

    kernel = zmlx.metal_kernel("inlined", ["x"], ["out"], PREFIX + source, header)
    with watch() as launches:
        (out,) = kernel(
            inputs=[mx.array(X)],
            output_shapes=[(THREADS,)],
            output_dtypes=[mx.int32],
            grid=(THREADS, 1, 1),
            threadgroup=(GROUP, 1, 1),
            stream=mx.cpu,
        )
    return np.array(out), [record.path for record in launches]


@pytest.mark.parametrize("name", CASES)
def test_both_ways_compute_the_same(name, meeting_path):
    case = CASES[name]
    out, paths = launch(case.header, case.source)
    assert paths == [meeting_path]
    print(out)
    np.testing.assert_array_equal(out, case.expected)
