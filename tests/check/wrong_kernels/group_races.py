"""Races in threadgroup memory: reductions, scans, histograms and flags, and barriers of too small a scope."""

from __future__ import annotations

from wrong_kernels.case import Case

GROUP_RACES = (
    Case(
        "reduction_result_read_early",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[2];
            float v = simd_sum(x[i]);
            if (i % 32 == 0) s[i / 32] = v; //!
            out[i] = s[0] + s[1]; //!
        """,
        repair=(("//!\nout", "\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nout"),),
        array="s",
    ),
    Case(
        # As in MLX's scan before mlx#2591: the next block's sums come while some still read the last one's.
        "scan_of_several_blocks",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float sums[2];
            float before = 0;
            for (uint at = i; at < 256; at += 64) {
              float inclusive = simd_prefix_inclusive_sum(x[at]);
              if (i % 32 == 31) sums[i / 32] = inclusive; //!
              threadgroup_barrier(mem_flags::mem_threadgroup);
              float2 block = float2(sums[0], sums[1]); //!
              out[at] = before + inclusive + (i < 32 ? 0.0f : block.x);
              before += block.x + block.y;
            }
        """,
        repair=(
            ("if (i % 32", "threadgroup_barrier(mem_flags::mem_threadgroup);\nif (i % 32"),
            ("//!\n  threadgroup", "\n  threadgroup"),
        ),
        inputs=256,
        outputs=256,
        array="sums",
    ),
    Case(
        "histogram_without_atomics",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup int s[8];
            if (i < 8) s[i] = 0;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            s[i % 8] += int(x[i]); //!
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = float(s[i % 8]);
        """,
        repair=(
            (
                "s[i % 8] += int(x[i]);",
                "atomic_fetch_add_explicit((threadgroup atomic_int*)(s + i % 8), int(x[i]), memory_order_relaxed);",
            ),
        ),
        array="s",
    ),
    Case(
        "barrier_of_a_simdgroup",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i]; //!
            simdgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = s[i ^ 32]; //!
        """,
        repair=(("simdgroup_barrier", "threadgroup_barrier"),),
        array="s",
    ),
    Case(
        "jacobi_in_place",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint k = 0; k < 3; ++k) {
              s[i] = 0.5f * (s[(i + 1) % 64] + s[(i + 63) % 64]); //!
              threadgroup_barrier(mem_flags::mem_threadgroup);
            }
            out[i] = s[i];
        """,
        repair=(
            (
                "s[i] = 0.5f * (s[(i + 1) % 64] + s[(i + 63) % 64]);",
                (
                    "float v = 0.5f * (s[(i + 1) % 64] + s[(i + 63) % 64]);\n"
                    "  threadgroup_barrier(mem_flags::mem_threadgroup);\n  s[i] = v;"
                ),
            ),
        ),
        array="s",
    ),
    Case(
        "scan_with_one_barrier",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint k = 1; k < 64; k *= 2) {
              float v = i >= k ? s[i - k] : 0; //!
              s[i] += v; //!
              threadgroup_barrier(mem_flags::mem_threadgroup);
            }
            out[i] = s[i];
        """,
        repair=(("s[i - k] : 0; //!", "s[i - k] : 0;\n  threadgroup_barrier(mem_flags::mem_threadgroup);"),),
        array="s",
    ),
    Case(
        "flag_polled_without_barrier",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s;
            if (i == 0) s = 0;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (x[i] == 40) s = 1; //!
            out[i] = s; //!
        """,
        repair=(("s = 1; //!", "s = 1;\nthreadgroup_barrier(mem_flags::mem_threadgroup);"),),
        array="s",
    ),
    Case(
        "test_and_set",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup int s;
            if (i == 0) s = 0;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (s == 0) //!
              s = int(i) + 1; //!
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = float(s > 0);
        """,
        repair=(("if (s == 0) //!\n  s = int(i) + 1;", "if (i == 5)\n  s = int(i) + 1;"),),
        array="s",
    ),
    Case(
        "counter_reset_without_barrier",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup atomic_int s;
            if (i == 0) atomic_store_explicit(&s, 0, memory_order_relaxed);
            threadgroup_barrier(mem_flags::mem_threadgroup);
            atomic_fetch_add_explicit(&s, 1, memory_order_relaxed); //!
            if (i == 63) *(threadgroup int*)&s = 64; //!
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = float(atomic_load_explicit(&s, memory_order_relaxed) > 0);
        """,
        repair=(
            (
                "(&s, 1, memory_order_relaxed); //!",
                "(&s, 1, memory_order_relaxed);\nthreadgroup_barrier(mem_flags::mem_threadgroup);",
            ),
        ),
        array="s",
    ),
    Case(
        "broadcast_through_memory_reused",
        "data-race",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s;
            float sum = 0;
            for (uint k = 0; k < 2; ++k) {
              if (i == k * 40) s = x[i] + k; //!
              threadgroup_barrier(mem_flags::mem_threadgroup);
              sum += s; //!
            }
            out[i] = sum;
        """,
        repair=(("sum += s;", "sum += s;\n  threadgroup_barrier(mem_flags::mem_threadgroup);"),),
        array="s",
    ),
)
