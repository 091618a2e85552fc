"""Short convolutions and hyper-connections: what no generated test shows."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("taps", [1, 2, 4, 8])
def test_steps_give_what_the_whole_gives(taps: int, activation: Any, mx_device: Any) -> None:
    import mlx.core as mx

    from zmlx.kernels.mixing import causal_conv1d, causal_conv1d_step

    x = mx.random.normal((2, 11, 19), key=mx.random.key(1))
    weight = mx.random.normal((19, taps), key=mx.random.key(2))
    bias = mx.random.normal((19,), key=mx.random.key(3))
    state, steps = mx.zeros((2, taps - 1, 19)), []
    for t in range(x.shape[1]):
        y, state = causal_conv1d_step(x[:, t], state, weight, bias, activation)
        steps.append(y)
    whole = causal_conv1d(x, weight, bias, activation)
    np.testing.assert_allclose(np.asarray(mx.stack(steps, 1)), np.asarray(whole), rtol=2e-6, atol=2e-6)


def test_weights_and_bias_of_other_dtypes(mx_device: Any) -> None:
    import mlx.core as mx

    from zmlx.kernels.mixing import causal_conv1d

    x = mx.random.normal((2, 5, 19), key=mx.random.key(1))
    weight = mx.random.normal((19, 3), key=mx.random.key(2)).astype(mx.float16)
    bias = mx.random.normal((19,), key=mx.random.key(3)).astype(mx.bfloat16)
    mixed = causal_conv1d(x, weight, bias)
    wide = causal_conv1d(x, weight.astype(mx.float32), bias.astype(mx.float32))
    assert np.array_equal(np.asarray(mixed), np.asarray(wide))
    gradients = mx.grad(lambda *a: mx.sum(causal_conv1d(*a)), argnums=(0, 1, 2))(x, weight, bias)
    assert [d.dtype for d in gradients] == [mx.float32, mx.float16, mx.bfloat16]


def test_sinkhorn_is_doubly_stochastic(mx_device: Any) -> None:
    import mlx.core as mx

    from zmlx.kernels.mixing import sinkhorn

    matrices = np.asarray(sinkhorn(mx.random.normal((9, 4, 4), key=mx.random.key(4)), 50))
    np.testing.assert_allclose(matrices.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(matrices.sum(-2), 1, rtol=1e-4)


@pytest.mark.parametrize("threads", [1, 3])
def test_sinkhorn_of_more_matrices_than_threads(threads: int, mx_device: Any, monkeypatch: Any) -> None:
    """A thread that has several matrices keeps the sums of one at a time."""
    import mlx.core as mx

    from zmlx.kernels import _hyper
    from zmlx.kernels.mixing import sinkhorn

    logits = mx.random.normal((7, 3, 3), key=mx.random.key(5))
    cotangent = mx.random.normal((7, 3, 3), key=mx.random.key(6))
    desired = mx.vjp(lambda x: sinkhorn(x, 6), [logits], [cotangent])
    mx.eval(desired)
    monkeypatch.setattr(_hyper, "THREADS", threads)
    actual = mx.vjp(lambda x: sinkhorn(x, 6), [logits], [cotangent])
    for a, d in zip(actual, desired, strict=True):
        assert np.array_equal(np.asarray(a[0]), np.asarray(d[0]))


@pytest.mark.cpu
@pytest.mark.parametrize(("streams", "length"), [(4, 1024), (3, 1030), (8, 520)])
def test_simdgroups_that_share_a_token_meet(streams: int, length: int, mx_device: Any) -> None:
    import mlx.core as mx

    from zmlx.kernels import _rows
    from zmlx.kernels.mixing import hyper_connection_mix

    shapes = (5, streams, length), (5, streams, streams), (5, streams, length)
    x, weights, cotangent = (mx.random.normal(s, key=mx.random.key(n)) for n, s in enumerate(shapes))
    made = []
    for context in (contextlib.nullcontext(), _rows.override(128)):
        with context:
            made.append(mx.vjp(hyper_connection_mix, [x, weights], [cotangent])[1])
            mx.eval(made)
    for desired, actual in zip(*made, strict=True):
        np.testing.assert_allclose(np.asarray(actual), np.asarray(desired), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("taps", [2, 4, 8])
@pytest.mark.parametrize("time", [1, 5, 32, 33, 70, 131])
def test_runs_of_time_meet(time: int, taps: int, mx_device: Any) -> None:
    """Threads have runs of time, and read some rows of their neighbours."""
    import mlx.core as mx

    from zmlx.kernels._causal_conv import convolved
    from zmlx.kernels.mixing import causal_conv1d

    x = mx.random.normal((2, time, 19), key=mx.random.key(1))
    weight = mx.random.normal((19, taps), key=mx.random.key(2))
    bias = mx.random.normal((19,), key=mx.random.key(3))
    cotangent = mx.random.normal(x.shape, key=mx.random.key(4))
    actual = mx.vjp(causal_conv1d, [x, weight, bias], [cotangent])
    desired = mx.vjp(convolved, [x, weight, bias], [cotangent])
    for a, d in zip([*actual[0], *actual[1]], [*desired[0], *desired[1]], strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(d), rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("time", [3, 40])
def test_rows_before_the_beginning_do_not_count(time: int, mx_device: Any) -> None:
    """Infinity times a row that is not there is nothing, and not NaN."""
    import mlx.core as mx

    from zmlx.kernels.mixing import causal_conv1d

    x, weight = mx.ones((1, time, 19)), np.ones((19, 4), np.float32)
    weight[:, 0] = np.inf
    finite = np.arange(time) < 3
    assert np.array_equal(np.isfinite(np.asarray(causal_conv1d(x, mx.array(weight)))[0, :, 0]), finite)
    # So are gradients beyond the end: of the last row, infinite, there is a product with one only.
    ends = np.ones((1, time, 19), np.float32)
    ends[0, -1] = np.inf
    given = [mx.array(ends), mx.ones((19, 4))]
    dweight = np.asarray(mx.vjp(causal_conv1d, given, [mx.ones(x.shape)])[1][1])
    assert np.array_equal(np.isfinite(dweight[0]), [True, True, True, False])
    assert not np.isnan(dweight).any()
    dx = np.asarray(mx.vjp(causal_conv1d, [x, mx.array(weight)], [mx.ones(x.shape)])[1][0])
    assert np.array_equal(np.isfinite(dx[0, :, 0]), np.arange(time) >= time - 3)
