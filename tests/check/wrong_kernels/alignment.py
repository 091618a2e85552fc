"""Accesses at addresses that their type does not allow."""

from __future__ import annotations

from wrong_kernels.case import Case

ALIGNMENT = (
    Case(
        "float4_rows_of_5",
        "misaligned",
        """
            uint i = thread_position_in_grid.x;
            float4 v = *(const device float4*)(x + i * 5); //!
            out[i] = v.x + v.w;
        """,
        repair=(("(const device float4*)", "(const device packed_float4*)"),),
        threads=8,
        group=8,
        inputs=40,
        outputs=8,
        array="x",
        says="a multiple of 16",
    ),
    Case(
        "half4_rows_of_5",
        "misaligned",
        """
            uint i = thread_position_in_grid.x;
            half4 v = *(const device half4*)(x + i * 5); //!
            out[i] = float(v.x + v.w);
        """,
        repair=(("i * 5", "i * 4"),),
        threads=8,
        group=8,
        inputs=40,
        outputs=8,
        input_dtype="float16",
        array="x",
        says="a multiple of 8",
    ),
    Case(
        "word_of_bytes",
        "misaligned",
        """
            uint i = thread_position_in_grid.x;
            out[i] = *(const device uint*)(x + i); //!
        """,
        repair=(("x + i", "x + i * 4"),),
        threads=8,
        group=8,
        outputs=8,
        input_dtype="uint8",
        output_dtype="uint32",
        array="x",
        says="a multiple of 4",
    ),
    Case(
        "float4_store",
        "misaligned",
        """
            uint i = thread_position_in_grid.x;
            if (i < 7) *(device float4*)(out + 4 * i + 1) = float4(x[i]); //!
        """,
        repair=(("4 * i + 1", "4 * i"),),
        threads=8,
        group=8,
        outputs=32,
        init_value=0,
        array="out",
    ),
    Case(
        "threadgroup_float4",
        "misaligned",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i];
            s[i + 32] = 0;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            out[i] = ((threadgroup float4*)(s + i))->w; //!
        """,
        repair=(("(s + i)", "(s + i / 4 * 4)"),),
        threads=32,
        group=32,
        outputs=32,
        array="s",
    ),
    Case(
        "atomic_at_a_byte",
        "misaligned",
        """
            uint i = thread_position_in_grid.x;
            if (i == 0)
              atomic_fetch_add_explicit((device atomic_uint*)((device uchar*)out + 1), 1u, memory_order_relaxed); //!
        """,
        repair=(("out + 1", "out + 4"),),
        threads=8,
        group=8,
        outputs=8,
        output_dtype="uint32",
        init_value=0,
        array="out",
    ),
    Case(
        "float2_at_odd_index",
        "misaligned",
        """
            uint i = thread_position_in_grid.x;
            float2 v = *(const device float2*)(x + 2 * i + 1); //!
            out[i] = v.x + v.y;
        """,
        repair=(("2 * i + 1", "2 * i"),),
        threads=8,
        group=8,
        outputs=8,
        array="x",
        says="a multiple of 8",
    ),
)
