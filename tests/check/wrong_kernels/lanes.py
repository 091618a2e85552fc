"""Simd operations that read from lanes that are not there, or that Metal does not have."""

from __future__ import annotations

from wrong_kernels.case import Case

LANES = (
    Case(
        "shuffle_in_a_branch",
        "inactive-lane",
        """
            uint i = thread_position_in_threadgroup.x;
            float v = x[i];
            if (i < 8) v = simd_shuffle(v, 20); //!
            out[i] = v;
        """,
        repair=(
            ("if (i < 8) v = simd_shuffle(v, 20);", "float w = simd_shuffle(v, 20);\nif (i < 8) v = w;"),
        ),
        threads=32,
        group=32,
        outputs=32,
        says="lane 20, which is not active here",
    ),
    Case(
        "shuffle_past_the_last_thread",
        "inactive-lane",
        """
            uint i = thread_position_in_threadgroup.x;
            float v = x[i];
            out[i] = v + simd_shuffle_xor(v, 16); //!
        """,
        repair=(("simd_shuffle_xor(v, 16)", "simd_shuffle_xor(v, 1)"),),
        threads=24,
        group=24,
        outputs=24,
        says="the simdgroup has 24 threads",
    ),
    Case(
        "broadcast_after_return",
        "inactive-lane",
        """
            uint i = thread_position_in_threadgroup.x;
            out[i] = x[i];
            if (i >= 16) return;
            out[i] = simd_broadcast(x[i], 31); //!
        """,
        repair=(("31", "15"),),
        threads=32,
        group=32,
        outputs=32,
        says="lane 31",
    ),
    Case(
        "quad_shuffle_past_the_quad",
        "inactive-lane",
        """
            uint i = thread_position_in_threadgroup.x;
            out[i] = quad_shuffle(x[i], i % 8); //!
        """,
        repair=(("i % 8", "i % 4"),),
        threads=32,
        group=32,
        outputs=32,
        says="outside of its simdgroup or quadgroup",
    ),
    Case(
        "shuffle_lane_40",
        "inactive-lane",
        """
            uint i = thread_position_in_threadgroup.x;
            out[i] = simd_shuffle(x[i], i + 8); //!
        """,
        repair=(("i + 8", "(i + 8) % 32"),),
        threads=32,
        group=32,
        outputs=32,
        says="outside of its simdgroup",
    ),
    Case(
        "broadcast_lane_differs",
        "metal-lint",
        """
            uint i = thread_position_in_threadgroup.x;
            out[i] = simd_broadcast(x[i], i / 4); //!
        """,
        repair=(("simd_broadcast", "simd_shuffle"),),
        threads=32,
        group=32,
        outputs=32,
        says="must be the same in all lanes",
    ),
    Case(
        "quad_broadcast_lane_differs",
        "metal-lint",
        """
            uint i = thread_position_in_threadgroup.x;
            out[i] = quad_broadcast(x[i], i % 4); //!
        """,
        repair=(("i % 4", "i / 4 % 4"),),
        threads=32,
        group=32,
        outputs=32,
        says="must be the same in all lanes",
    ),
    Case(
        "simd_max_64_bits",
        "metal-lint",
        """
            uint i = thread_position_in_threadgroup.x;
            out[i] = float(simd_max(ulong(x[i]))); //!
        """,
        repair=(("ulong", "uint"),),
        threads=32,
        group=32,
        outputs=32,
        says="integers of 64 bits",
    ),
    Case(
        "simd_prefix_64_bits",
        "metal-lint",
        """
            uint i = thread_position_in_threadgroup.x;
            out[i] = float(simd_prefix_inclusive_sum(long(x[i]))); //!
        """,
        repair=(("long", "int"),),
        threads=32,
        group=32,
        outputs=32,
        says="integers of 64 bits",
    ),
)
