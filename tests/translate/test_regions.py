"""Kernels whose threads meet, as loops over the threads: what is taken apart, and that it computes the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from meeting import BARRIER, GROUP, THREADS, X, launch

import zmlx
from zmlx.metal.signature import KernelSource
from zmlx.metal.statements import Unclear
from zmlx.translate import pipeline

pytestmark = pytest.mark.cpu

PREFIX = """
    uint t = thread_position_in_threadgroup.x;
    uint i = thread_position_in_grid.x;
    uint lane = thread_index_in_simdgroup;
"""


@dataclass(frozen=True)
class Case:
    """A kernel, which reads ``x`` and writes ``out``, and what it writes."""

    source: str
    expected: Any
    header: str = ""


def groups() -> list[Any]:
    """``x`` of each threadgroup."""
    return [X[k : k + GROUP] for k in range(0, THREADS, GROUP)]


def per_group(function: Any) -> Any:
    return np.concatenate([function(x) for x in groups()])


def per_simdgroup(function: Any) -> Any:
    return np.concatenate([function(g[k : k + 32]) for g in groups() for k in range(0, len(g), 32)])


def all_same(x: Any, value: Any) -> Any:
    return np.full(len(x), value, np.int32)


def index(x: Any) -> Any:
    return np.arange(len(x), dtype=np.int32)


def chain(x: Any) -> Any:
    k = index(x)
    v = np.where((k ^ 1) < len(x), x[np.minimum(k ^ 1, len(x) - 1)], x)
    down = np.where(k + 2 < len(x), v[np.minimum(k + 2, len(x) - 1)], v)
    return (v + down * 10).astype(np.int32)


def fill_up(x: Any, delta: int) -> Any:
    """What the first lanes get: the filling of the last ones, or their own where there are none."""
    source = index(x) + 32 - delta
    return 100 + np.where(source < len(x), source, index(x))


def loop_turns(lanes: int, lane: int) -> int:
    return sum(max(lanes - k - 1, 0) for k in range(0, lane, 8))


def break_and_continue(lanes: int) -> Any:
    value, there = np.zeros(lanes, np.int32), np.ones(lanes, bool)
    for k in range(6):
        turn = there & (np.arange(lanes) != k)
        if k == 4:
            left = turn & (np.arange(lanes) > 20)
            there &= ~left
            turn &= ~left
        value[turn] += k * turn.sum()
    return value


CASES = {
    "a variable that lives across a barrier": Case(
        f"""
        threadgroup int s[64];
        int mine = x[i] * 3;
        s[t] = mine;
        {BARRIER}
        out[i] = mine + s[threads_per_threadgroup.x - 1 - t];
        """,
        per_group(lambda x: x * 3 + (x * 3)[::-1]),
    ),
    "a tree of barriers in a loop of the group": Case(
        f"""
        threadgroup int s[128];
        s[t] = x[i];
        s[t + 64] = 0;
        {BARRIER}
        for (uint k = 32; k > 0; k /= 2) {{
            if (t < k && t + k < threads_per_threadgroup.x) s[t] += s[t + k];
            {BARRIER}
        }}
        out[i] = s[0];
        """,
        per_group(lambda x: all_same(x, x.sum())),
    ),
    "an array and a pointer into it": Case(
        f"""
        threadgroup int s[64];
        int mine[3] = {{x[i], 2, 3}};
        thread int* p = mine + 1;
        *p = x[i] + 1;
        s[t] = mine[1];
        {BARRIER}
        mine[2] += s[0];
        {BARRIER}
        out[i] = mine[0] + mine[1] * 2 + mine[2] * 3;
        """,
        per_group(lambda x: x + (x + 1) * 2 + (3 + x[0] + 1) * 3),
    ),
    "a variable that is known by its address": Case(
        f"""
        int v = x[i];
        add_one(&v);
        {BARRIER}
        add_one(&v);
        meet();
        out[i] = v;
        """,
        X + 2,
        header=f"void add_one(thread int* p) {{ *p += 1; }}\nvoid meet() {{ {BARRIER} }}",
    ),
    "a variable that a function changes by reference": Case(
        f"""
        int n = 0;
        add_one(n);
        {BARRIER}
        for (int k = 0; k < n; ++k) out[i] = x[i] + k;
        """,
        X,
        header="void add_one(thread int& p) { p += 1; }",
    ),
    "a structure with functions that change it": Case(
        f"""
        Sum sum;
        sum.start();
        sum.add(x[i]);
        {BARRIER}
        sum.add(1);
        {BARRIER}
        out[i] = sum.value;
        """,
        X + 1,
        header="struct Sum { int value; void start() { value = 0; } void add(int n) { value += n; } };",
    ),
    "a pointer that outlives the name of what it points to": Case(
        f"""
        int a = x[i], b[2] = {{x[i] * 2, x[i] * 3}};
        thread int* p = &a;
        thread int* q = b;
        {BARRIER}
        *p += q[1];
        {BARRIER}
        out[i] = *p;
        """,
        X * 4,
    ),
    "loads of the group in a loop that all threads have left": Case(
        f"""
        out[i] = 0;
        for (uint k = 0; k < (threadgroup_position_in_grid.x == 1 ? 4u : 1u); ++k) {{
            int first = x[k < 2 ? k : k << 30];
            if (k == 1 && t < 99) return;
            {BARRIER}
            out[i] += first;
        }}
        """,
        np.full(THREADS, X[0]),
    ),
    "auto": Case(
        f"""
        threadgroup int s[64];
        auto p = x + i;
        auto value = *p;
        auto next = value + 1;
        s[t] = next;
        {BARRIER}
        out[i] = s[t ^ 1] + next + *p;
        """,
        per_group(lambda x: (x + 1)[index(x) ^ 1] + x + 1 + x),
    ),
    "parameters that are changed": Case(
        f"""
        x += threadgroup_position_in_grid.x * threads_per_grid.x / threads_per_grid.x * 64;
        out += i;
        {BARRIER}
        *out = x[t];
        {BARRIER}
        *out += 1;
        """,
        X + 1,
    ),
    "the value of a group in a branch": Case(
        f"""
        uint n = threadgroup_position_in_grid.x;
        int v = x[i];
        if (n == 1) {{
            {BARRIER}
            v += 100;
        }} else if (n == 2) {{
            v += 200;
            {BARRIER}
        }}
        out[i] = v;
        """,
        X + np.repeat([0, 100, 200], [64, 64, 24]),
    ),
    "a return of whole groups": Case(
        f"""
        out[i] = 1;
        if (threadgroup_position_in_grid.x == 1) return;
        {BARRIER}
        out[i] = x[i];
        """,
        np.where(np.arange(THREADS) // GROUP == 1, 1, X),
    ),
    "a return of some threads": Case(
        f"""
        threadgroup int s[64];
        out[i] = -1;
        s[t] = 0;
        {BARRIER}
        if (t % 3 == 1) return;
        s[t] = x[i];
        {BARRIER}
        out[i] = s[t] + s[(t + 1) % threads_per_threadgroup.x];
        """,
        per_group(
            lambda x: np.where(
                index(x) % 3 == 1, -1, x + np.roll(np.where(index(x) % 3 == 1, 0, x), -1)
            )
        ),
    ),
    "a return of all threads of a group": Case(
        f"""
        out[i] = 3;
        if (i >= 64 && i < 128) return;
        {BARRIER}
        out[i] = x[threadgroup_position_in_grid.x == 1 ? 1u << 30 : 0] + x[i];
        """,
        np.where(np.arange(THREADS) // GROUP == 1, 3, X + X[0]),
    ),
    "a sum of a simdgroup": Case("out[i] = simd_sum(x[i]) + simd_max(x[i]) * 1000;",
        per_simdgroup(lambda x: all_same(x, x.sum() + x.max() * 1000))),
    "an operation in another's arguments": Case(
        "out[i] = simd_sum(simd_max(x[i]) + 1);", per_simdgroup(lambda x: all_same(x, (x.max() + 1) * len(x)))
    ),
    "operations of several declarators": Case(
        "int a = simd_sum(x[i]), b = simd_max(x[i]), c[2] = {simd_min(x[i]), 1}; out[i] = a + b * 100 + c[0] * c[1];",
        per_simdgroup(lambda x: all_same(x, x.sum() + x.max() * 100 + x.min())),
    ),
    "operations in a chain": Case(
        """
        int v = simd_shuffle_xor(x[i], 1);
        v += metal::simd_shuffle_down(v, 2) * 10;
        int w = v;
        w = simd_prefix_exclusive_sum(w);
        out[i] = w;
        """,
        per_simdgroup(lambda x: np.cumsum(chain(x)) - chain(x)),
    ),
    "shuffles that fill": Case(
        """
        int v = simd_shuffle_and_fill_up(x[i], 100 + int(lane), 3);
        int w = simd_shuffle_and_fill_down(x[i], 200 + int(lane), 2, 8);
        out[i] = v * 1000 + w;
        """,
        per_simdgroup(
            lambda x: np.where(index(x) >= 3, np.roll(x, 3), fill_up(x, 3)) * 1000
            + np.where(index(x) % 8 + 2 < 8, np.roll(x, -2), 200 + index(x) - 6)
        ),
    ),
    "an operation in a condition": Case(
        "if (simd_any(x[i] == 30)) out[i] = 1; else out[i] = simd_min(x[i]);",
        per_simdgroup(lambda x: all_same(x, 1 if (x == 30).any() else x.min())),
    ),
    "an operation of some lanes": Case(
        """
        int v = 0;
        if (lane % 3 == 0) {
            v = simd_sum(x[i]);
            if (lane == 3) v += 1;
            v = simd_max(v);
        } else {
            v = -simd_sum(1);
        }
        out[i] = v;
        """,
        per_simdgroup(
            lambda x: np.where(
                index(x) % 3 == 0, x[index(x) % 3 == 0].sum() + 1, -(index(x) % 3 != 0).sum()
            ).astype(np.int32)
        ),
    ),
    "lanes that leave a loop one after the other": Case(
        """
        int v = 0;
        for (uint k = 0; k < lane; k += 8) {
            v += simd_sum(1);
        }
        out[i] = v;
        """,
        per_simdgroup(lambda x: np.array([loop_turns(len(x), n) for n in range(len(x))], np.int32)),
    ),
    "break and continue of some lanes": Case(
        """
        int v = 0;
        for (int k = 0; k < 6; ++k) {
            if (int(lane) == k) continue;
            if (k == 4 && lane > 20) break;
            v += simd_sum(k);
        }
        out[i] = v;
        """,
        per_simdgroup(lambda x: break_and_continue(len(x))),
    ),
    "break of a whole group": Case(
        f"""
        int v = 0;
        for (uint k = 0; k < 9; ++k) {{
            {BARRIER}
            if (k == threadgroup_position_in_grid.x + 1) break;
            v += 1;
        }}
        out[i] = v;
        """,
        np.repeat([1, 2, 3], [64, 64, 24]),
    ),
    "a counter that some threads change": Case(
        f"""
        uint n = 2;
        if (t == 5) n = 4;
        {BARRIER}
        for (uint k = 0; k < n; ++k) out[i] = k;
        """,
        per_group(lambda x: np.where(index(x) == 5, 3, 1)),
    ),
    "one name for several variables": Case(
        f"""
        int v = x[i];
        for (int k = 0; k < 2; ++k) {{
            int v = k + 1;
            {BARRIER}
            out[i] = v;
        }}
        {{
            int v = 5;
            {BARRIER}
            out[i] += v;
        }}
        out[i] += v;
        """,
        X + 7,
    ),
    "a value of the group that hides another": Case(
        f"""
        uint n = 3;
        {BARRIER}
        {{
            out[i] = n;
            {BARRIER}
            uint n = 4;
            out[i] += n;
        }}
        out[i] += n;
        """,
        np.full(THREADS, 10),
    ),
    "macros": Case(
        f"""
        #define SYNC {BARRIER}
        #define TWICE(a) ((a) * 2)
        #define BUMP(a) a += 1
        #define MEET {BARRIER[:-1]}
        int v = TWICE(x[i]);
        int n = 1;
        SYNC
        BUMP(v);
        MEET;
        BUMP(n);
        SYNC
        out[i] = v + n;
        """,
        X * 2 + 3,
    ),
    "macros in which threads meet": Case(
        """
        threadgroup int s[64];
        int v = x[i];
        uint last = threads_per_threadgroup.x - 1;
        REVERSE(v, s)
        SYNC();
        REVERSE(v, s)
        out[i] = v + LARGEST(x[i]);
        """,
        per_group(lambda x: x + np.concatenate([all_same(p, p.max()) for p in (x[:32], x[32:]) if len(p)])),
        header=f"""
            #define SYNC() {BARRIER[:-1]}
            #define LARGEST(a) simd_max(a)
            #define REVERSE(value, shared) \\
                do {{ \\
                    shared[t] = value; \\
                    SYNC(); \\
                    value = shared[last - t]; \\
                    SYNC(); \\
                }} while (0);
        """,
    ),
    "a function of the library with a second result": Case(
        f"""
        float whole = 0;
        float part = modf(float(x[i]) + 0.5f, whole);
        {BARRIER}
        out[i] = int(whole) * 10 + int(part * 4);
        """,
        X * 10 + 2,
    ),
    "do and while": Case(
        f"""
        uint k = 0;
        int v = x[i], w = 1;
        do {{ {BARRIER} v += 1; k += 1; }} while (k < 3);
        k = 0;
        while (k < 2) {{ w *= 2; {BARRIER} k += 1; }}
        out[i] = v + w;
        """,
        X + 7,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_both_ways_compute_the_same(name, meeting_path):
    case = CASES[name]
    out, paths = launch(PREFIX + case.source, case.header)
    np.testing.assert_array_equal(out, case.expected)
    assert paths == [meeting_path]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("out[i] = TOTAL(sum, x[i]);", "threads meet in `TOTAL`"),
        ("out[i] = made(x[i]);", "threads meet in `made`"),
        ("if (t < 8) threadgroup_barrier(mem_flags::mem_none);", "a barrier that only some threads reach"),
        ("for (uint k = 0; k < t; ++k) { threadgroup_barrier(mem_flags::mem_none); }",
         "a barrier that only some threads reach"),
        ("int v = (threadgroup_barrier(mem_flags::mem_none), 1);", "a barrier that is not a statement of its own"),
        ("out[i] = t < 8 && simd_any(x[i] > 3);",
         "a simd operation that is evaluated only if another value allows it"),
        ("out[i] = t < 8 ? simd_sum(x[i]) : 0;",
         "a simd operation that is evaluated only if another value allows it"),
        ("int a = x[i], b = simd_sum(a); out[i] = b;", "a simd operation behind a comma"),
        ("int a = 1; int b = a++, c = simd_sum(a + b); out[i] = c;", "a simd operation behind a comma"),
        ("int a = 1, b; a = 2, b = simd_sum(a); out[i] = b;", "a simd operation behind a comma"),
        ("int a = 1; int b = (a = 2, simd_sum(a)); out[i] = b;", "a simd operation behind a comma"),
        ("uint n = 3; reinterpret_cast<thread uint&>(n) = t; out[i] = simd_sum(n);", "a cast to a reference"),
        ("auto twice = [&](int v) { return v * 2; }; out[i] = simd_sum(twice(1));", "a lambda"),
        ("int v = 1; thread int& r = v; simdgroup_barrier(mem_flags::mem_none); r = 2; out[i] = v;",
         "the reference `r` lives across a barrier"),
        ("do { out[i] = simd_sum(1); t += 1; } while (t < 4);", "`do` that some threads leave before others"),
        ("switch (x[i]) { case 1: out[i] = simd_sum(1); }", "a simd operation in a statement of an unknown kind"),
        ("simdgroup_float8x8 m; while (simdgroup_load(m, x), x[0]) { simdgroup_barrier(mem_flags::mem_none); }",
         "`simdgroup_load` in a condition"),
        ("simdgroup_float8x8 m; int k = (simdgroup_load(m, x), 1);",
         "`simdgroup_load` that is not a statement of its own"),
        ("using M = simdgroup_float8x8; M m(1.0f); out[i] = simd_sum(1);", "`using` of `simdgroup_float8x8`"),
        ("LEAVE out[i] = simd_sum(1);", "the macro `LEAVE` leaves"),
        ("#if 1\nout[i] = simd_sum(1);\n#endif\n", "`#if` in the body"),
        ("thread_index_in_simdgroup += 1; out[i] = simd_sum(1);", "`thread_index_in_simdgroup` is assigned to"),
    ],
)  # fmt: skip
def test_what_is_left_to_fibers(source, reason):
    header = """
        #define TOTAL(op, v) simd_##op(v)
        #define LEAVE if (x[0] > 99) return;
        #define MAKE() int made(int v) { return simd_sum(v); } int other(int v) { return v; }
        MAKE()
    """
    kernel = KernelSource("left_alone", ("x",), ("out",), PREFIX + source, header)
    with pytest.raises(Unclear) as error:
        pipeline.run(kernel, "host-regions")
    assert str(error.value) == reason


def test_a_kernel_that_does_not_compile_is_told_by_its_own_lines():
    """The loops are the launcher's business: what the compiler says is about the text that the author wrote."""
    import mlx.core as mx

    kernel = zmlx.metal_kernel("wrong", ["x"], ["out"], "int v = simd_sum(1);\nout[0] = v + missing;")
    with pytest.raises(zmlx.KernelCompileError) as error:
        kernel(
            inputs=[mx.array(X)],
            output_shapes=[(1,)],
            output_dtypes=[mx.int32],
            grid=(32, 1, 1),
            threadgroup=(32, 1, 1),
            stream=mx.cpu,
        )
    assert "source line 2: " in str(error.value)
    assert "out[0] = v + missing;" in str(error.value)


def test_attributes_are_those_that_the_source_mentions():
    """A macro of the header may name others, which Metal does not know there."""
    import mlx.core as mx

    header = "#define LANE simd_sum(thread_index_in_simdgroup)"
    kernel = zmlx.metal_kernel("hidden", [], ["out"], "out[0] = LANE;", header)
    with pytest.raises(zmlx.KernelCompileError, match="thread_index_in_simdgroup"):
        kernel(
            inputs=[],
            output_shapes=[(1,)],
            output_dtypes=[mx.int32],
            grid=(32, 1, 1),
            threadgroup=(32, 1, 1),
            stream=mx.cpu,
        )


def test_a_simdgroup_at_a_time():
    """Without a threadgroup barrier, the simdgroups of a group run one after the other, also the partial one."""
    import mlx.core as mx

    source = "out[thread_position_in_grid.x] = simd_sum(1) * 100 + simdgroup_index_in_threadgroup;"
    kernel = zmlx.metal_kernel("one_at_a_time", [], ["out"], source)
    (out,) = kernel(
        inputs=[],
        output_shapes=[(100,)],
        output_dtypes=[mx.int32],
        grid=(100, 1, 1),
        threadgroup=(100, 1, 1),
        stream=mx.cpu,
    )
    expected = [3200] * 32 + [3201] * 32 + [3202] * 32 + [403] * 4
    np.testing.assert_array_equal(np.array(out), expected)
