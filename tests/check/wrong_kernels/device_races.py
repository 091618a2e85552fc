"""Races in device memory, within and between threadgroups: irregular updates, flags, locks, worklists, and scopes."""

from __future__ import annotations

from wrong_kernels.case import Case

DEVICE_RACES = (
    Case(
        "push_without_atomics",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            device atomic_int* a = (device atomic_int*)out;
            out[i * 5 % 32] += int(x[i]); //!
        """,
        repair=(
            (
                "out[i * 5 % 32] += int(x[i]);",
                "atomic_fetch_add_explicit(a + i * 5 % 32, int(x[i]), memory_order_relaxed);",
            ),
        ),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "test_then_write_maximum",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            device atomic_int* a = (device atomic_int*)out;
            if (out[i % 8] < int(x[i])) //!
              out[i % 8] = int(x[i]); //!
        """,
        repair=(
            (
                "if (out[i % 8] < int(x[i])) //!\n  out[i % 8] = int(x[i]);",
                "atomic_fetch_max_explicit(a + i % 8, int(x[i]), memory_order_relaxed);",
            ),
        ),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "stencil_in_place",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            out[i] = out[(i + 1) % 128] + 1; //!
        """,
        repair=(("out[(i + 1) % 128]", "int(x[(i + 1) % 128])"),),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "worklist_counter",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            device atomic_int* a = (device atomic_int*)out;
            int at = out[127]; //!
            out[127] = at + 1; //!
            if (i == 500) out[at] = 1;
        """,
        repair=(
            (
                "int at = out[127]; //!\nout[127] = at + 1;",
                "int at = atomic_fetch_add_explicit(a + 127, 1, memory_order_relaxed);",
            ),
        ),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "counter_read_plainly",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            device atomic_int* a = (device atomic_int*)out;
            atomic_fetch_add_explicit(a, 1, memory_order_relaxed); //!
            if (i == 127) out[1] = out[0] > 0; //!
        """,
        repair=(("out[0] > 0", "atomic_load_explicit(a, memory_order_relaxed) > 0"),),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
        says="one of the two accesses is atomic",
    ),
    Case(
        "flag_without_atomics",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            device atomic_int* a = (device atomic_int*)out;
            if (i == 0) out[1] = 1; //!
            if (i == 127) out[2] = out[1] < 2; //!
        """,
        repair=(
            ("out[1] = 1", "atomic_store_explicit(a + 1, 1, memory_order_relaxed)"),
            ("out[1] < 2", "atomic_load_explicit(a + 1, memory_order_relaxed) < 2"),
        ),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "relaxed_flag_for_plain_data",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            device atomic_int* a = (device atomic_int*)out;
            if (i == 0) {
              out[0] = 7; //!
              atomic_store_explicit(a + 1, 1, memory_order_relaxed);
            }
            if (i == 127 && atomic_load_explicit(a + 1, memory_order_relaxed)) out[2] = out[0] > 1000; //!
        """,
        repair=(
            ("out[0] = 7", "atomic_store_explicit(a, 7, memory_order_relaxed)"),
            ("out[0] > 1000", "atomic_load_explicit(a, memory_order_relaxed) * 0"),
        ),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
        says="threadgroup",
    ),
    Case(
        "lock_of_relaxed_atomics",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            device atomic_int* a = (device atomic_int*)out;
            while (atomic_exchange_explicit(a + 1, 1, memory_order_relaxed) == 1) {}
            out[0] += 1; //!
            atomic_store_explicit(a + 1, 0, memory_order_relaxed);
        """,
        repair=(("out[0] += 1;", "atomic_fetch_add_explicit(a, 1, memory_order_relaxed);"),),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "barrier_as_grid_barrier",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            out[i] = int(x[i]); //!
            threadgroup_barrier(mem_flags::mem_device);
            out[128 + i] = out[127 - i]; //!
        """,
        repair=(("127 - i", "i / 64 * 64 + 63 - i % 64"),),
        threads=128,
        group=64,
        inputs=128,
        outputs=256,
        output_dtype="int32",
        init_value=0,
        array="out",
        says="no barrier reaches from one threadgroup to another",
    ),
    Case(
        "last_group_sums_up",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            device atomic_int* a = (device atomic_int*)out;
            uint g = threadgroup_position_in_grid.x;
            if (i % 64 == 0) {
              out[g] = int(g) + 1; //!
              if (atomic_fetch_add_explicit(a + 4, 1, memory_order_relaxed) == 1) out[5] = out[0] + out[1]; //!
            }
        """,
        repair=(
            ("out[g] = int(g) + 1", "atomic_store_explicit(a + g, int(g) + 1, memory_order_relaxed)"),
            ("out[0] + out[1]", "3"),
        ),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "reset_while_others_count",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            device atomic_int* a = (device atomic_int*)out;
            if (i == 64) out[0] = 0; //!
            atomic_fetch_add_explicit(a, 1, memory_order_relaxed); //!
        """,
        repair=(("if (i == 64) out[0] = 0;", ""),),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "total_read_behind_a_barrier",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            device atomic_int* a = (device atomic_int*)out;
            atomic_fetch_add_explicit(a, 1, memory_order_relaxed); //!
            threadgroup_barrier(mem_flags::mem_device);
            if (i == 64) out[1] = out[0] > 1000; //!
            if (i == 0) out[2] = out[0] > 1000; //!
        """,
        repair=(
            ("out[1] = out[0] > 1000", "out[1] = atomic_load_explicit(a, memory_order_relaxed) > 1000"),
            ("out[2] = out[0] > 1000", "out[2] = atomic_load_explicit(a, memory_order_relaxed) > 1000"),
        ),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "path_compression",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            out[i] = out[(out[i] + 1) % 128]; //!
        """,
        repair=(("out[(out[i] + 1) % 128]", "int(x[i])"),),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "conditional_vertex",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            device atomic_int* a = (device atomic_int*)out;
            if (x[i] > 50) out[0] = int(x[i]); //!
        """,
        repair=(("out[0] = int(x[i])", "atomic_fetch_max_explicit(a, int(x[i]), memory_order_relaxed)"),),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "conditional_edge",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            device atomic_int* a = (device atomic_int*)out;
            for (uint k = 0; k < 3; ++k)
              if (x[(i * 7 + k) % 128] > x[i]) out[k] += 1; //!
        """,
        repair=(("out[k] += 1", "atomic_fetch_add_explicit(a + k, 1, memory_order_relaxed)"),),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "overlapping_tiles",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            uint g = threadgroup_position_in_grid.x;
            out[g * 63 + i % 64] = int(x[i]); //!
        """,
        repair=(("g * 63", "g * 64"),),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "colliding_permutation",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            out[i * 2 % 128] = int(x[i]); //!
        """,
        repair=(("i * 2 % 128", "i * 3 % 128"),),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "fast_path_without_atomic_load",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            device atomic_int* a = (device atomic_int*)out;
            if (out[0] < int(x[i])) //!
              atomic_fetch_max_explicit(a, int(x[i]), memory_order_relaxed); //!
        """,
        repair=(("if (out[0] <", "if (atomic_load_explicit(a, memory_order_relaxed) <"),),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "bits_of_one_word",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            device atomic_int* a = (device atomic_int*)out;
            out[i / 32] |= 1 << (i % 32); //!
        """,
        repair=(
            (
                "out[i / 32] |= 1 << (i % 32);",
                "atomic_fetch_or_explicit(a + i / 32, 1 << (i % 32), memory_order_relaxed);",
            ),
        ),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "exchange_and_plain_write",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            device atomic_int* a = (device atomic_int*)out;
            atomic_exchange_explicit(a, 1, memory_order_relaxed); //!
            if (i == 100) out[0] = 1; //!
        """,
        repair=(("out[0] = 1", "atomic_store_explicit(a, 1, memory_order_relaxed)"),),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "scratch_with_the_wrong_flag",
        "memory-order",
        """
            uint i = thread_position_in_grid.x;
            out[i] = int(x[i]); //!
            threadgroup_barrier(mem_flags::mem_threadgroup); //!
            out[128 + i] = out[i ^ 63]; //!
        """,
        repair=(("mem_threadgroup", "mem_device"),),
        threads=128,
        group=64,
        inputs=128,
        outputs=256,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
    Case(
        "shift_in_place",
        "data-race",
        """
            uint i = thread_position_in_grid.x;
            if (i < 127) out[i] = out[i + 1] + int(x[i]); //!
        """,
        repair=(("out[i + 1]", "0"),),
        threads=128,
        group=64,
        inputs=128,
        outputs=128,
        output_dtype="int32",
        init_value=0,
        array="out",
    ),
)
