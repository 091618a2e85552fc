"""Threadgroup memory and barriers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kernel_cases.case import LANES, Case, rng


def threadgroup_cases() -> Iterator[Case]:
    x = rng("threadgroup").integers(-50, 50, (7, 96)).astype(np.float32)
    yield Case(
        "reverse_in_a_group",
        """
        threadgroup float s[96];
        uint t = thread_position_in_threadgroup.x, g = threadgroup_position_in_grid.x;
        s[t] = x[g * 96 + t];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[g * 96 + t] = s[95 - t];
        """,
        (x[:, ::-1],),
        {"x": x},
        grid=(7 * 96, 1, 1),
        threadgroup=(96, 1, 1),
    )
    yield Case(
        "tree_in_threadgroup_memory",
        """
        threadgroup float s[128];
        uint t = thread_position_in_threadgroup.x, g = threadgroup_position_in_grid.x;
        s[t] = t < 96 ? x[g * 96 + t] : 0.0;
        for (uint step = 64; step > 0; step /= 2) {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (t < step) s[t] += s[t + step];
        }
        if (t == 0) out[g] = s[0];
        """,
        (x.sum(1),),
        {"x": x},
        grid=(7 * 128, 1, 1),
        threadgroup=(128, 1, 1),
    )
    yield Case(
        "transpose_tile",
        """
        threadgroup float tile[16][17];
        uint3 l = thread_position_in_threadgroup, g = threadgroup_position_in_grid;
        uint r = g.y * 16 + l.y, c = g.x * 16 + l.x;
        tile[l.y][l.x] = x[r * x_shape[1] + c];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[(g.x * 16 + l.y) * x_shape[0] + g.y * 16 + l.x] = tile[l.x][l.y];
        """,
        (np.arange(32 * 48, dtype=np.float32).reshape(32, 48).T,),
        {"x": np.arange(32 * 48, dtype=np.float32).reshape(32, 48)},
        grid=(48, 32, 1),
        threadgroup=(16, 16, 1),
    )
    yield Case(
        "return_before_a_barrier",
        """
        threadgroup int s[64];
        uint t = thread_position_in_threadgroup.x;
        if (t >= 40) return;
        s[t] = t;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[t] = s[39 - t];
        """,
        (np.arange(40, dtype=np.int32)[::-1],),
        grid=(64, 1, 1),
        threadgroup=(64, 1, 1),
    )
    yield Case(
        "barrier_in_a_partial_group",
        """
        threadgroup int s[64];
        uint t = thread_position_in_threadgroup.x, n = threads_per_threadgroup.x;
        s[t] = thread_position_in_grid.x;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[thread_position_in_grid.x] = s[n - 1 - t];
        """,
        (np.concatenate([np.arange(64)[::-1], np.arange(64, 100)[::-1]]).astype(np.int32),),
        grid=(100, 1, 1),
        threadgroup=(64, 1, 1),
    )
    yield Case(
        "several_group_variables",
        """
        struct Pair { int a; float b; };
        threadgroup Pair pairs[32];
        threadgroup int first, second[32];
        threadgroup half small[32];
        uint t = thread_index_in_threadgroup;
        if (t == 5) first = 7;
        pairs[t].a = t; pairs[t].b = t * 0.5; second[t] = t * t; small[t] = half(t);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint u = 31 - t;
        out[t] = first + pairs[u].a + pairs[u].b + second[u] + small[u];
        """,
        ((7 + 2.5 * LANES + LANES**2).astype(np.float32)[::-1],),
    )
    yield Case(
        "group_memory_passed_to_functions",
        """
        threadgroup float s[32];
        uint t = thread_index_in_threadgroup;
        s[t] = x[t];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[t] = total(s, t + 1) + FIRST_AFTER_SYNC(s);
        """,
        ((np.cumsum(LANES) + 0).astype(np.float32),),
        {"x": LANES.astype(np.float32)},
        header="""
        #define FIRST_AFTER_SYNC(a) (threadgroup_barrier(mem_flags::mem_threadgroup), a[0])
        float total(threadgroup const float* values, uint count) {
            float sum = 0;
            for (uint i = 0; i < count; ++i) sum += values[i];
            return sum;
        }
        """,
    )
