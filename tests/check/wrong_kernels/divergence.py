"""Barriers that not all threads reach."""

from __future__ import annotations

from wrong_kernels.case import Case

DIVERGENCE = (
    Case(
        "in_a_branch",
        "barrier-divergence",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i];
            if (i < 32) {
              threadgroup_barrier(mem_flags::mem_threadgroup); //!
            }
            out[i] = s[i];
        """,
        repair=(
            (
                "if (i < 32) {\n  threadgroup_barrier(mem_flags::mem_threadgroup); //!\n}",
                "threadgroup_barrier(mem_flags::mem_threadgroup);",
            ),
        ),
        says="32 threads of the threadgroup have returned",
    ),
    Case(
        "after_early_return",
        "barrier-divergence",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            out[i] = x[i];
            if (i >= 50) return;
            s[i] = x[i];
            threadgroup_barrier(mem_flags::mem_threadgroup); //!
            out[i] = s[i];
        """,
        repair=(("if (i >= 50) return;\n", ""),),
        says="14 threads",
    ),
    Case(
        "different_barriers",
        "barrier-divergence",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i];
            if (i < 32) {
              threadgroup_barrier(mem_flags::mem_threadgroup); //!
            } else {
              threadgroup_barrier(mem_flags::mem_threadgroup); //!
            }
            out[i] = s[i];
        """,
        repair=(("i < 32", "x[0] > 0"),),
        says="different barriers",
    ),
    Case(
        "uneven_loop",
        "barrier-divergence",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i];
            for (uint k = 0; k < 1 + i / 32; ++k)
              threadgroup_barrier(mem_flags::mem_threadgroup); //!
            out[i] = s[i];
        """,
        repair=(("1 + i / 32", "2"),),
    ),
    Case(
        "simdgroup_barrier_in_branch",
        "barrier-divergence",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i];
            if (i % 32 < 7)
              simdgroup_barrier(mem_flags::mem_threadgroup); //!
            out[i] = s[i];
        """,
        repair=(("if (i % 32 < 7)\n", ""),),
        says="only 7 lanes",
    ),
    Case(
        "in_a_function",
        "barrier-divergence",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i];
            if (i < 10) wait();
            out[i] = s[i];
        """,
        repair=(("if (i < 10) ", ""),),
        header="""
            inline void wait() {
              threadgroup_barrier(mem_flags::mem_threadgroup); //!
            }
        """,
    ),
)
