"""Steps of optimizers: what no generated test shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def _arrays(count: int) -> list[Any]:
    import mlx.core as mx

    made = [mx.random.normal((5, 33), key=mx.random.key(i)) for i in range(count)]
    return [*made[:3], *(mx.abs(v) for v in made[3:])]


def _numpy(arrays: Any) -> list[Any]:
    import mlx.core as mx

    return [np.asarray(a.astype(mx.float32)) for a in arrays]


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_step_and_rate_may_be_arrays(step: int, mx_device: Any) -> None:
    import mlx.core as mx

    from zmlx.kernels.optimizers import adamw_step, lion_step

    arrays = _arrays(4)
    by_number = _numpy(adamw_step(*arrays, step, 1e-3))
    by_array = _numpy(adamw_step(*arrays, mx.array(step), mx.array(1e-3)))
    for array, number in zip(by_array, by_number, strict=True):
        np.testing.assert_allclose(array, number, rtol=2e-6, atol=1e-7)
    lion = _numpy(lion_step(*arrays[:3], mx.array(1e-3)))
    for array, number in zip(lion, _numpy(lion_step(*arrays[:3], 1e-3)), strict=True):
        np.testing.assert_allclose(array, number, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_no_memory_and_an_array_as_step(momentum: float, mx_device: Any) -> None:
    """With betas of zero there is no bias to correct, and no logarithm to take."""
    import mlx.core as mx

    from zmlx.kernels.optimizers import adamw_step

    arrays = _arrays(4)
    first = _numpy(adamw_step(*arrays, mx.array(3), 1e-2, betas=(momentum, 0.0)))
    for array, number in zip(first, _numpy(adamw_step(*arrays, 3, 1e-2, betas=(momentum, 0.0))), strict=True):
        np.testing.assert_allclose(array, number, rtol=2e-6, atol=1e-7)


def test_parameters_of_16_bits_with_moments_of_32(mx_device: Any) -> None:
    import mlx.core as mx

    from zmlx.kernels.optimizers import adamw_step

    p, g, m, v = _arrays(4)
    short = p.astype(mx.bfloat16), g.astype(mx.float16)
    results = adamw_step(*short, m, v, 2, 1e-3)
    assert [r.dtype for r in results] == [mx.bfloat16, mx.float32, mx.float32]
    wide = adamw_step(short[0].astype(mx.float32), short[1].astype(mx.float32), m, v, 2, 1e-3)
    assert np.array_equal(_numpy([wide[0].astype(mx.bfloat16)])[0], _numpy([results[0]])[0])
    for result, same in zip(_numpy(results[1:]), _numpy(wide[1:]), strict=True):
        assert np.array_equal(result, same)


@pytest.mark.cpu
def test_a_step_has_the_gradient_of_its_formula(mx_device: Any) -> None:
    import mlx.core as mx

    from zmlx.kernels.optimizers import adamw_step

    p, g, m, v = _arrays(4)
    slope = mx.grad(lambda p: mx.sum(adamw_step(p, g, m, v, 3, 0.5, weight_decay=0.25)[0]))(p)
    np.testing.assert_allclose(np.asarray(slope), 1 - 0.5 * 0.25, rtol=1e-6)
