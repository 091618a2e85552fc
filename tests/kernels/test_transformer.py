"""What op_db's tolerances are too wide to see in the gated linear units."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zmlx.testing.tolerance import ulp_distance

pytestmark = pytest.mark.usefixtures("mx_device")


def _gelu(gates, **kwargs):
    """gelu by way of geglu with values of one, as float32."""
    import mlx.core as mx

    from zmlx.kernels.transformer import geglu

    gates = np.asarray(gates, dtype=np.float32)
    return np.asarray(geglu(mx.array(np.concatenate([gates, np.ones_like(gates)])), **kwargs))


def test_gelu_keeps_its_digits_where_erf_cancels():
    """At -13 the plain formula, 0.5 a (1 + erf(a / sqrt(2))), has no correct digit left since -5."""
    gates = np.linspace(-13.0, 13.0, 4001).astype(np.float32)
    truth = [0.5 * a * math.erfc(-a / math.sqrt(2)) for a in gates.astype(np.float64)]
    assert ulp_distance(_gelu(gates), np.array(truth), "float32").max() < 8


def test_silu_keeps_its_digits():
    import mlx.core as mx

    from zmlx.kernels.transformer import swiglu

    gates = np.linspace(-80.0, 80.0, 4001).astype(np.float32)
    actual = np.asarray(swiglu(mx.array(np.concatenate([gates, np.ones_like(gates)]))))
    wide = gates.astype(np.float64)
    assert ulp_distance(actual, wide / (1 + np.exp(-wide)), "float32").max() < 4


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_of_numbers_beyond_all_reason(approximate):
    """Large gates pass or vanish; nothing overflows on the way, in the gradient either."""
    import mlx.core as mx

    from zmlx.kernels.transformer import geglu

    largest = float(np.finfo(np.float32).max)
    gates = np.array([largest, -largest, 1e20, -1e20, 15.0, -15.0], np.float32)
    assert np.array_equal(_gelu(gates, approximate=approximate), np.maximum(gates, 0))
    x = mx.array(np.concatenate([gates, np.ones_like(gates)]))
    slopes = np.asarray(mx.grad(lambda x: mx.sum(geglu(x, approximate)))(x))[: gates.size]
    assert np.array_equal(slopes, gates > 0)


def test_the_two_forms_of_gelu_differ():
    """Where the approximation is off by 1e-4 to 1e-3, as published, and no more."""
    gates = np.linspace(-4, 4, 801)
    apart = np.abs(_gelu(gates) - _gelu(gates, approximate="tanh")).max()
    assert 1e-4 < apart < 1e-3


def test_geglu_takes_approximate_by_position():
    import mlx.core as mx

    from zmlx.kernels.transformer import geglu

    x = mx.linspace(-2, 2, 8)
    assert mx.array_equal(geglu(x, "tanh"), geglu(x, approximate="tanh"))


def test_one_long_row_is_shared():
    """A single row goes to more than one thread, also on the CPU."""
    import mlx.core as mx

    from zmlx.kernels.transformer import swiglu
    from zmlx.launch import watch

    with watch() as launches:
        mx.eval(swiglu(mx.zeros((1, 2 * 100_000))))
    assert launches[0].grid[0] > 50
