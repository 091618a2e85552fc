"""Data races within a threadgroup, and simple ones in device memory."""

from __future__ import annotations

from wrong_kernels.case import Case

RACES = (
    Case(
        "no_barrier",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i]; //!
            out[i] = s[63 - i]; //!
        """,
        repair=(("\nout", "\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nout"),),
        array="s",
        says="nothing orders them",
    ),
    Case(
        "overwritten_while_read",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            uint g = i / 32;
            if (i % 32 == 0) s[g] = x[i];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            float a = s[i % 2]; //!
            if (i % 32 == 0) s[g] = a + 1; //!
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = s[g];
        """,
        repair=(("//!\nif", "//!\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nif"),),
        array="s",
    ),
    Case(
        "tree_without_barrier",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint k = 32; k > 0; k /= 2) {
              if (i < k) s[i] += s[i + k]; //!
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = s[0];
        """,
        repair=(("//!\n}", "//!\n  threadgroup_barrier(mem_flags::mem_threadgroup);\n}"),),
        array="s",
    ),
    Case(
        "lockstep",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[32];
            s[i] = x[i]; //!
            out[i] = s[i ^ 1]; //!
        """,
        repair=(("\nout", "\nsimdgroup_barrier(mem_flags::mem_threadgroup);\nout"),),
        threads=32,
        group=32,
        outputs=32,
        array="s",
        says="lockstep",
    ),
    Case(
        "simd_operation_between",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[32];
            s[i] = x[i]; //!
            float t = simd_sum(x[i]);
            out[i] = s[i ^ 1] + t; //!
        """,
        repair=(("\nout", "\nsimdgroup_barrier(mem_flags::mem_threadgroup);\nout"),),
        threads=32,
        group=32,
        outputs=32,
        array="s",
        says="the simd operation between the two orders no memory",
    ),
    Case(
        "device_memory",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            out[i] = x[i]; //!
            out[64 + i] = out[63 - i]; //!
        """,
        repair=(("\nout[64", "\nthreadgroup_barrier(mem_flags::mem_device);\nout[64"),),
        outputs=128,
        array="out",
        says="mem_device",
    ),
    Case(
        "across_threadgroups",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            out[i % 64] = x[i]; //!
        """,
        repair=(("out[i % 64]", "if (i < 64) out[i]"),),
        threads=128,
        inputs=128,
        array="out",
        says="threads of two threadgroups",
    ),
    Case(
        "counting_without_atomics",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            out[uint(x[i]) % 8] += 1; //!
        """,
        repair=(
            (
                "out[uint(x[i]) % 8] += 1;",
                "if (i == 0) for (uint k = 0; k < 64; ++k) out[uint(x[k]) % 8] += 1;",
            ),
        ),
        outputs=8,
        init_value=0,
        array="out",
    ),
    Case(
        "two_threads_one_element",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            out[i / 2] = x[i]; //!
        """,
        repair=(("out[i / 2]", "if (i % 2 == 0) out[i / 2]"),),
        outputs=32,
        array="out",
        says="two threads write out[0]",
    ),
    Case(
        "atomic_and_plain",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup atomic_int c;
            if (i == 0) atomic_store_explicit(&c, 0, memory_order_relaxed);
            threadgroup_barrier(mem_flags::mem_threadgroup);
            atomic_fetch_add_explicit(&c, 1, memory_order_relaxed); //!
            out[i] = *(threadgroup int*)&c; //!
        """,
        repair=(("\nout", "\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nout"),),
        array="c",
        says="one of the two accesses is atomic",
    ),
    Case(
        "scalar_broadcast",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float total;
            if (i == 40) total = x[0]; //!
            out[i] = total; //!
        """,
        repair=(("\nout", "\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nout"),),
        array="total",
    ),
    Case(
        "last_writer_wins",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float last;
            last = x[i]; //!
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = last;
        """,
        repair=(("last = x[i];", "if (i == 63) last = x[i];"),),
        array="last",
        says="two threads write last",
    ),
    Case(
        "reused_buffer",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            for (uint k = 0; k < 2; ++k) {
              s[i] = x[i] + k; //!
              threadgroup_barrier(mem_flags::mem_threadgroup);
              out[i + 64 * k] = s[63 - i]; //!
            }
        """,
        repair=(("//!\n}", "//!\n  threadgroup_barrier(mem_flags::mem_threadgroup);\n}"),),
        outputs=128,
        array="s",
    ),
    Case(
        "half_words",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup half s[64];
            s[i] = half(x[i]); //!
            out[i] = float(s[i ^ 32]); //!
        """,
        repair=(("\nout", "\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nout"),),
        array="s",
    ),
)
