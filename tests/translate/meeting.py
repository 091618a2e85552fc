"""Kernels whose threads meet, on one grid: what their tests launch."""

from __future__ import annotations

from typing import Any

import numpy as np

import zmlx
from zmlx.launch import watch

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
#: The grid of all kernels: two whole threadgroups and one of 24 threads.
THREADS, GROUP = 152, 64
X = np.arange(THREADS, dtype=np.int32) * 7 % 31


def launch(source: str, header: str = "", template: Any = None) -> tuple[Any, list[str]]:
    """What a kernel writes to ``out``, which has a number for each thread, from `X` as ``x``; and the ways it ran."""
    import mlx.core as mx

    kernel = zmlx.metal_kernel("meeting", ["x"], ["out"], source, header)
    with watch() as launches:
        (out,) = kernel(
            inputs=[mx.array(X)],
            template=template,
            output_shapes=[(THREADS,)],
            output_dtypes=[mx.int32],
            grid=(THREADS, 1, 1),
            threadgroup=(GROUP, 1, 1),
            stream=mx.cpu,
        )
    return np.array(out), [record.path for record in launches]
