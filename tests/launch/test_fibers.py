"""Fibers where there is no assembly for the processor: makecontext, _setjmp and _longjmp compute the same."""

from __future__ import annotations

import numpy as np
import pytest

from zmlx.launch import compiler, host
from zmlx.launch.kernel import MetalKernel
from zmlx.metal.signature import KernelSource

pytestmark = pytest.mark.cpu

REVERSE = KernelSource(
    "reverse",
    ("x",),
    ("out",),
    """
    threadgroup float s[100];
    uint t = thread_position_in_threadgroup.x;
    if (t >= 100) return;
    s[t] = x[thread_position_in_grid.x] + simd_sum(1.0);
    for (int round = 0; round < 5; ++round) threadgroup_barrier(mem_flags::mem_threadgroup);
    out[thread_position_in_grid.x] = s[99 - t];
    """,
)


@pytest.mark.parametrize("defines", [(), ("-DZMLX_PORTABLE_FIBERS",)], ids=["assembly", "portable"])
def test_both_kinds_of_fibers(defines, monkeypatch):
    import mlx.core as mx

    def load(signature, single, large):
        assert not single
        assert not large
        path = compiler.compile_host(signature, host.host_text(signature, single), defines)
        return host.load_library(signature, path, "fibers")

    monkeypatch.setattr(host, "load", load)
    x = np.arange(7 * 128, dtype=np.float32)
    (out,) = MetalKernel(REVERSE)(
        inputs=[mx.array(x)],
        output_shapes=[(7 * 128,)],
        output_dtypes=[mx.float32],
        grid=(7 * 128, 1, 1),
        threadgroup=(128, 1, 1),
        init_value=-1.0,
        stream=mx.cpu,
    )
    lanes = np.repeat([32.0, 32.0, 32.0, 4.0], [32, 32, 32, 4])
    expected = np.full((7, 128), -1.0)
    expected[:, :100] = (x.reshape(7, 128)[:, :100] + lanes)[:, ::-1]
    np.testing.assert_array_equal(np.array(out).reshape(7, 128), expected)
