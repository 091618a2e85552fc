"""Barriers whose flags do not cover what goes through them."""

from __future__ import annotations

from wrong_kernels.case import Case

MEMORY_ORDER = (
    Case(
        "mem_none",
        "memory-order",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i]; //!
            threadgroup_barrier(mem_flags::mem_none); //!
            out[i] = s[63 - i]; //!
        """,
        repair=(("mem_none", "mem_threadgroup"),),
        array="s",
        says="without mem_flags::mem_threadgroup",
    ),
    Case(
        "wrong_flag",
        "memory-order",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i]; //!
            threadgroup_barrier(mem_flags::mem_device); //!
            out[i] = s[63 - i]; //!
        """,
        repair=(("mem_device", "mem_threadgroup"),),
        array="s",
    ),
    Case(
        "device_data",
        "memory-order",
        """
            uint i = thread_position_in_grid.x;
            out[i] = x[i]; //!
            threadgroup_barrier(mem_flags::mem_threadgroup); //!
            out[64 + i] = out[63 - i]; //!
        """,
        repair=(("mem_threadgroup", "mem_device"),),
        outputs=128,
        array="out",
        says="without mem_flags::mem_device",
    ),
    Case(
        "simdgroup_mem_none",
        "memory-order",
        """
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[32];
            s[i] = x[i]; //!
            simdgroup_barrier(mem_flags::mem_none); //!
            out[i] = s[i ^ 1]; //!
        """,
        repair=(("mem_none", "mem_threadgroup"),),
        threads=32,
        group=32,
        outputs=32,
        array="s",
        says="simdgroup_barrier",
    ),
    Case(
        "in_a_macro",
        "memory-order",
        """
            #define SYNC threadgroup_barrier(mem_flags::mem_none)
            uint i = thread_position_in_threadgroup.x;
            threadgroup float s[64];
            s[i] = x[i]; //!
            SYNC; //!
            out[i] = s[63 - i]; //!
        """,
        repair=(("mem_none", "mem_threadgroup"),),
        array="s",
    ),
)
