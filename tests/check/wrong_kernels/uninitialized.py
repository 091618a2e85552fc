"""Memory that is read before it is written, and outputs that are not."""

from __future__ import annotations

from wrong_kernels.case import Case

UNINITIALIZED = (
    Case(
        "part_of_array",
        "uninitialized",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            if (i < 60) s[i] = x[i];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = s[63 - i]; //!
        """,
        repair=(("if (i < 60) s[i] = x[i];", "s[i] = i < 60 ? x[i] : 0;"),),
        array="s",
        says="s[63] before any thread",
    ),
    Case(
        "idle_slots",
        "uninitialized",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[32];
            float v = simd_sum(x[i]);
            if (i % 32 == 0) s[i / 32] = v;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = simd_sum(s[i % 32]); //!
        """,
        repair=(("simd_sum(s[i % 32])", "simd_sum(i % 32 < 2 ? s[i % 32] : 0.0f)"),),
        array="s",
    ),
    Case(
        "only_first_group",
        "uninitialized",
        """
            uint i = thread_position_in_grid.x;
            threadgroup float base;
            if (i == 0) base = x[0];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = x[i] + base; //!
        """,
        repair=(("i == 0", "i % 32 == 0"),),
        group=32,
        array="base",
    ),
    Case(
        "tail_of_output",
        "uninitialized",
        """
            uint i = thread_position_in_grid.x;
            if (i != 7) out[i] = x[i]; //!
        """,
        repair=(("if (i != 7) ", ""),),
        array="out",
        says="1 of 64 elements of the output out are never written; the first is out[7]",
    ),
    Case(
        "returns_before_writing",
        "uninitialized",
        """
            uint i = thread_position_in_grid.x;
            if (i % 3 == 0) return;
            out[i] = x[i]; //!
        """,
        repair=(("return;", "{ out[i] = 0; return; }"),),
        array="out",
        says="22 of 64",
    ),
    Case(
        "adds_to_output",
        "uninitialized",
        """
            uint i = thread_position_in_grid.x;
            out[i] += x[i]; //!
        """,
        repair=(("+=", "="),),
        array="out",
        says="init_value is not set",
    ),
    Case(
        "atomic_without_init",
        "uninitialized",
        """
            uint i = thread_position_in_grid.x;
            atomic_fetch_add_explicit(&out[i], 1.0f, memory_order_relaxed); //!
        """,
        repair=(("atomic_fetch_add_explicit(&out[i], 1.0f", "atomic_store_explicit(&out[i], 1.0f"),),
        atomic=True,
        array="out",
    ),
    Case(
        "unset_variable",
        "uninitialized",
        """
            uint i = thread_position_in_grid.x;
            float v;
            out[i] = x[i] + v; //!
        """,
        repair=(("float v;", "float v = 0;"),),
        array="v",
        says="the variable v",
    ),
)
