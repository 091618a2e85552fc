"""Properties of sums."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("mx_device")


@pytest.mark.parametrize("length", [1, 15, 16, 17, 1023, 1024, 1025, 16 * 64 * 3 + 5])
def test_every_element_counts_once(length):
    """Powers of two below 2**24 add up exactly in any order."""
    import mlx.core as mx

    from zmlx.kernels.reductions import sum_lastdim

    row = np.ones(length, np.float32)
    assert sum_lastdim(mx.array(row)).item() == length
    for position in {0, length // 2, length - 1}:
        marked = row.copy()
        marked[position] = 2.0**20
        assert sum_lastdim(mx.array(marked)).item() == length - 1 + 2.0**20


def test_small_dtypes_are_added_in_float32():
    """1 + 2**-11, 2048 times over, would stay 2048 in float16, and 256 in bfloat16."""
    import mlx.core as mx

    from zmlx.kernels.reductions import sum_lastdim

    assert sum_lastdim(mx.ones(4096, mx.float16)).item() == 4096
    assert sum_lastdim(mx.ones(4096, mx.bfloat16)).item() == 4096


def test_long_sums_stay_accurate():
    import mlx.core as mx

    from zmlx.kernels.reductions import sum_lastdim

    row = np.random.default_rng(0).uniform(size=3_000_000).astype(np.float32)
    truth = row.astype(np.float64).sum()
    assert abs(sum_lastdim(mx.array(row)).item() - truth) < 2e-6 * truth


def test_nothing_sums_to_zero():
    import mlx.core as mx

    from zmlx.kernels.reductions import sum_lastdim

    assert sum_lastdim(mx.zeros((2, 3, 0))).tolist() == [[0.0] * 3] * 2
    assert mx.grad(lambda x: mx.sum(sum_lastdim(x)))(mx.zeros((2, 0))).shape == (2, 0)


def test_a_vector_sums_to_a_scalar():
    import mlx.core as mx

    from zmlx.kernels.reductions import sum_lastdim

    assert sum_lastdim(mx.arange(5).astype(mx.float32)).shape == ()
