"""Properties of softmax."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("mx_device")


def test_rows_sum_to_one():
    import mlx.core as mx

    from zmlx.kernels.softmax import softmax_lastdim

    rows = np.random.default_rng(0).normal(scale=5, size=(20, 333)).astype(np.float32)
    sums = np.asarray(softmax_lastdim(mx.array(rows))).astype(np.float64).sum(axis=1)
    assert np.abs(sums - 1).max() < 1e-6


def test_a_shift_changes_nothing():
    """A shift by a power of two keeps the numbers exact, so the result is the same to the bit."""
    import mlx.core as mx

    from zmlx.kernels.softmax import softmax_lastdim

    rows = mx.array(np.random.default_rng(0).integers(-30, 30, size=(4, 50)).astype(np.float32))
    assert mx.array_equal(softmax_lastdim(rows), softmax_lastdim(rows + 1024))
    assert mx.array_equal(softmax_lastdim(rows), softmax_lastdim(rows - 2.0**20))


def test_a_mask_of_minus_infinity_is_exactly_zero():
    import mlx.core as mx

    from zmlx.kernels.softmax import softmax_lastdim

    rows = mx.random.normal((3, 70), key=mx.random.key(0))
    mask = mx.arange(70) % 3 == 1
    masked = softmax_lastdim(mx.where(mask, -mx.inf, rows))
    assert mx.all(mx.where(mask, masked == 0, masked > 0)).item()
    gradient = mx.grad(lambda x: mx.sum(mx.sin(softmax_lastdim(mx.where(mask, -mx.inf, x)))))(rows)
    assert mx.all(mx.where(mask, gradient == 0, mx.isfinite(gradient))).item()


def test_gradients_of_rows_sum_to_zero():
    import mlx.core as mx

    from zmlx.kernels.softmax import softmax_lastdim

    x = mx.random.normal((6, 40), key=mx.random.key(0))
    gradient = mx.grad(lambda x: mx.sum(mx.sin(3 * softmax_lastdim(x))))(x)
    assert mx.max(mx.abs(mx.sum(gradient, axis=-1))).item() < 1e-6


def test_bfloat16_gradients_do_not_go_through_rounded_results():
    """With a rounded y, g - sum(g * y) would be off by 2**-9 of g: here that is more than the result."""
    import mlx.core as mx

    from zmlx.kernels.softmax import softmax_lastdim

    x = mx.random.normal((8, 64), key=mx.random.key(0)).astype(mx.bfloat16)
    g = (100 + mx.random.normal((8, 64), key=mx.random.key(1))).astype(mx.bfloat16)
    (actual,) = mx.vjp(softmax_lastdim, [x], [g])[1]
    (exact,) = mx.vjp(softmax_lastdim, [x.astype(mx.float32)], [g.astype(mx.float32)])[1]
    # Another GPU may add in another order: float32 sums near 100, then one rounding to bfloat16.
    got, wanted = (np.array(a.astype(mx.float32), dtype=np.float64) for a in (actual, exact))
    bound = np.abs(wanted) * 2.0**-8 + 64 * 100 * 2.0**-24
    assert np.all(np.abs(got - wanted) <= bound)
