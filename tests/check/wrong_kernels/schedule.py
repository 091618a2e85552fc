"""Outputs that depend on the order of threads."""

from __future__ import annotations

from wrong_kernels.case import Case

SCHEDULE = (
    Case(
        "ticket",
        "schedule-dependent",
        """
            uint i = thread_position_in_grid.x;
            int k = atomic_fetch_add_explicit(&out[64], 1, memory_order_relaxed);
            atomic_store_explicit(&out[i], k, memory_order_relaxed);
        """,
        repair=(("&out[i], k", "&out[i], k < 64"),),
        outputs=65,
        output_dtype="int32",
        init_value=0,
        atomic=True,
        array="out",
        says="depend on the order in which threads run",
    ),
    Case(
        "who_comes_last",
        "schedule-dependent",
        """
            uint i = thread_position_in_grid.x;
            atomic_exchange_explicit(&out[0], int(i), memory_order_relaxed);
        """,
        repair=(("atomic_exchange_explicit", "atomic_fetch_max_explicit"),),
        outputs=1,
        output_dtype="int32",
        init_value=0,
        atomic=True,
        array="out",
    ),
    Case(
        "order_of_atomics",
        "schedule-dependent",
        """
            uint i = thread_position_in_grid.x;
            if (atomic_fetch_add_explicit(&out[0], 1.0f, memory_order_relaxed) == 9.0f)
              atomic_store_explicit(&out[1], x[i], memory_order_relaxed);
        """,
        repair=(
            ("if (atomic_fetch_add_explicit(&out[0], 1.0f, memory_order_relaxed) == 9.0f)", "if (i == 9)"),
        ),
        outputs=2,
        init_value=0,
        atomic=True,
        array="out",
        says="out[1] is",
    ),
)
