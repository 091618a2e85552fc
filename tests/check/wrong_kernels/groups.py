"""Threadgroups that are cut to the grid."""

from __future__ import annotations

from wrong_kernels.case import Case

GROUPS = (
    Case(
        "tile_of_the_group_asked_for",
        "threadgroup-clamped",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            for (uint k = i; k < 64; k += 64) s[k] = x[k];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = s[i];
        """,
        repair=(("k += 64", "k += threads_per_threadgroup.x"),),
        threads=48,
        group=64,
        outputs=48,
        says="48",
    ),
    Case(
        "stride_of_a_constant",
        "threadgroup-clamped",
        """
            uint i = thread_position_in_threadgroup.x;
            constexpr uint SIZE = 256;
            float sum = 0;
            for (uint k = i; k < 64; k += SIZE) sum += x[k];
            out[i] = simd_sum(sum);
        """,
        repair=(("SIZE = 256", "SIZE = 32"),),
        threads=32,
        group=256,
        outputs=32,
        says="MLX makes a threadgroup no larger than the grid",
    ),
)
