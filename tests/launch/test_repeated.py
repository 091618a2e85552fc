"""A launch that comes again, on every back end: its inputs are those of the call, whatever else is different."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from zmlx.launch import MetalKernel, current_backend, metal_kernel, poisoned_outputs

SOURCE = """
  const uint i = thread_position_in_grid.x;
  if (i < uint(x_shape[0])) out[i] = x[i] * factor + x_shape[0];
"""


@pytest.fixture
def scale() -> MetalKernel:
    return metal_kernel("scale_again", ["x", "factor"], ["out"], SOURCE)


def launched(scale: MetalKernel, x: Any, factor: Any, **more: Any) -> Any:
    import mlx.core as mx

    (out,) = scale(
        inputs=[x, factor],
        output_shapes=[x.shape],
        output_dtypes=[mx.float32],
        grid=(x.shape[0], 1, 1),
        threadgroup=(32, 1, 1),
        **more,
    )
    return out


def given(number: int) -> Any:
    return np.random.default_rng(number).normal(size=100).astype(np.float32)


@pytest.mark.parametrize("times", [1, 2, 3, 7])
def test_inputs_are_those_of_the_call(mx_device: Any, scale: MetalKernel, times: int) -> None:
    import mlx.core as mx

    results = [launched(scale, mx.array(given(n)), float(n)) for n in range(times)]
    mx.eval(results)
    for n, result in enumerate(results):
        np.testing.assert_allclose(np.asarray(result), given(n) * n + 100, rtol=1e-6)


def test_a_chain_of_launches(mx_device: Any, scale: MetalKernel) -> None:
    import mlx.core as mx

    x = mx.array(given(0))
    wanted = given(0).astype(np.float64)
    for _ in range(6):
        x, wanted = launched(scale, x, 0.5), wanted * 0.5 + 100
    np.testing.assert_allclose(np.asarray(x), wanted, rtol=1e-6)


def test_layouts_dtypes_and_lengths_take_turns(mx_device: Any, scale: MetalKernel) -> None:
    import mlx.core as mx

    wide = mx.array(given(1)).reshape(50, 2)
    for _ in range(4):
        for x in (wide[:, 0], wide[:, 1].astype(mx.float16), wide[::-1, 1], wide.reshape(-1), mx.ones((50,))):
            found = np.asarray(launched(scale, x, 2))
            np.testing.assert_allclose(found, np.asarray(x.astype(mx.float32)) * 2 + x.shape[0], rtol=1e-3)


def test_streams_fills_and_poison_between(mx_device: Any, scale: MetalKernel) -> None:
    import mlx.core as mx

    x = mx.array(given(2))
    found = [launched(scale, x, 2.0) for _ in range(3)]
    with mx.stream(mx.new_stream(mx.default_device())):
        found += [launched(scale, x, 2.0) for _ in range(3)]
    found += [launched(scale, x, 2.0, stream=mx.default_device()), launched(scale, x, 2.0, init_value=3.0)]
    with poisoned_outputs():
        found += [launched(scale, x, 2.0) for _ in range(2)]
    found.append(launched(scale, x, 2.0))
    for result in found:
        np.testing.assert_allclose(np.asarray(result), given(2) * 2 + 100, rtol=1e-6)


def test_transformations_between(mx_device: Any) -> None:
    """The operation of a kernel with a gradient, between calls: traced, followed and mapped."""
    import mlx.core as mx

    from zmlx.kernels.activations import silu

    x = mx.array(given(3)).reshape(10, 10)
    first = np.asarray(silu(x))
    for _ in range(3):
        np.testing.assert_array_equal(np.asarray(silu(x)), first)
        np.testing.assert_allclose(np.asarray(mx.compile(lambda x: silu(x) + 0)(x)), first, rtol=1e-6)
        if current_backend() == "cpu":  # MLX maps no custom kernel of a GPU
            np.testing.assert_allclose(np.asarray(mx.vmap(silu)(x)), first, rtol=1e-6)
        value, gradient = mx.value_and_grad(lambda x: silu(x).sum())(x)
        assert value.item() == pytest.approx(first.sum(), rel=1e-5)
        sigmoid = 1 / (1 + np.exp(-np.asarray(x, np.float64)))
        wanted = sigmoid * (1 + np.asarray(x) * (1 - sigmoid))
        np.testing.assert_allclose(np.asarray(gradient), wanted, rtol=1e-4, atol=1e-6)


def test_threads_launch_side_by_side(mx_device: Any, scale: MetalKernel) -> None:
    import mlx.core as mx

    device = mx.default_device()

    def work(number: int) -> list[Any]:
        mx.set_default_device(device)
        results = [launched(scale, mx.array(given(number)), float(k)) for k in range(8)]
        mx.eval(results)
        return [np.asarray(result) for result in results]

    with ThreadPoolExecutor(4) as pool:
        for number, results in enumerate(pool.map(work, range(8))):
            for k, result in enumerate(results):
                np.testing.assert_allclose(result, given(number) * k + 100, rtol=1e-6)
