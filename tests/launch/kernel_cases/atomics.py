"""Atomics in device and threadgroup memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kernel_cases.case import Case, Input, rng


def atomic_cases() -> Iterator[Case]:
    n = 5000
    values = rng("atomic").integers(-1000, 1000, n)
    for dtype in ("int32", "uint32", "float32", "float16", "bfloat16", "int64", "uint64", "uint8"):
        floating = "float" in dtype
        small = dtype in ("float16", "bfloat16", "uint8")
        x = np.abs(values) if dtype[0] == "u" else values
        x = x[:100] % 3 if small else x
        numpy_dtype = "float32" if dtype == "bfloat16" else dtype
        x = x.astype(numpy_dtype)
        total = x.astype(np.float64).sum().item() if floating else sum(x.tolist())
        lines = ["add(out, 0)", "sub(out, 1)", "min(out, 2)", "max(out, 3)"]
        expected = [total, -total, min(x.min().item(), 0), max(x.max().item(), 0)]
        if not floating:
            lines += ["or(out, 4)", "xor(out, 5)"]
            expected += [np.bitwise_or.reduce(x).item(), np.bitwise_xor.reduce(x).item()]
        body = "".join(
            f"atomic_fetch_{line.split('(')[0]}_explicit(&out[{line[-2]}], x[i], memory_order_relaxed);\n"
            for line in lines
        )
        wanted = np.array(expected).astype(numpy_dtype)
        yield Case(
            f"atomic_outputs_{dtype}",
            "uint i = thread_position_in_grid.x;\n" + body,
            (wanted,),
            {"x": Input(x, dtype)},
            dtypes=(dtype,),
            grid=(len(x), 1, 1),
            threadgroup=(128, 1, 1),
            init_value=0,
            atomic_outputs=True,
        )
    yield Case(
        "tickets",
        "uint i = thread_position_in_grid.x; out1[out_ticket] = i;".replace(
            "out1[out_ticket] = i;",
            "int t = atomic_fetch_add_explicit((device atomic_int*)out, 1, memory_order_relaxed); out1[t] = 1;",
        ),
        (np.array([n], np.int32), np.ones(n, np.int32)),
        grid=(n, 1, 1),
        threadgroup=(100, 1, 1),
        init_value=0,
    )
    x = rng("histogram").integers(0, 10, n).astype(np.uint32)
    yield Case(
        "histogram_in_threadgroup_memory",
        """
        threadgroup atomic_uint bins[10];
        uint i = thread_position_in_grid.x, t = thread_index_in_threadgroup;
        if (t < 10) atomic_store_explicit(&bins[t], 0u, memory_order_relaxed);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        atomic_fetch_add_explicit(&bins[x[i]], 1u, memory_order_relaxed);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (t < 10) {
            uint count = atomic_load_explicit(&bins[t], memory_order_relaxed);
            atomic_fetch_add_explicit(&out[t], count, memory_order_relaxed);
        }
        """,
        (np.bincount(x, minlength=10).astype(np.uint32),),
        {"x": x},
        grid=(n, 1, 1),
        threadgroup=(250, 1, 1),
        init_value=0,
        atomic_outputs=True,
    )
    y = rng("cas").standard_normal(n).astype(np.float32)
    yield Case(
        "largest_by_compare_exchange",
        """
        float mine = x[thread_position_in_grid.x];
        float seen = atomic_load_explicit(&out[0], memory_order_relaxed);
        while (mine > seen && !atomic_compare_exchange_weak_explicit(
                   &out[0], &seen, mine, memory_order_relaxed, memory_order_relaxed)) {
        }
        """,
        (np.array([y.max()]),),
        {"x": y},
        grid=(n, 1, 1),
        threadgroup=(256, 1, 1),
        init_value=-1e30,
        atomic_outputs=True,
    )
    yield Case(
        "exchange_passes_values_on",
        """
        threadgroup atomic_int slot;
        int t = thread_index_in_threadgroup;
        if (t == 0) atomic_store_explicit(&slot, 1000, memory_order_relaxed);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        int before = atomic_exchange_explicit(&slot, t, memory_order_relaxed);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        int left = atomic_load_explicit(&slot, memory_order_relaxed);
        atomic_fetch_add_explicit(&out[0], before, memory_order_relaxed);
        if (t == 0) atomic_fetch_add_explicit(&out[0], left, memory_order_relaxed);
        """,
        (np.array([1000 + np.arange(64).sum()], np.int32),),
        grid=(64, 1, 1),
        threadgroup=(64, 1, 1),
        init_value=0,
        atomic_outputs=True,
    )
