"""Images: what no generated test shows."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest


@pytest.mark.parametrize("align_corners", [False, True])
def test_a_grid_of_pixel_centres_is_the_image(align_corners: bool, mx_device: Any) -> None:
    import mlx.core as mx

    from zmlx.kernels.vision import grid_sample

    height, width = 5, 9
    x = mx.random.normal((2, height, width, 3), key=mx.random.key(1))
    rows, columns = np.arange(height), np.arange(width)
    if align_corners:
        v, u = 2 * rows / (height - 1) - 1, 2 * columns / (width - 1) - 1
    else:
        v, u = (2 * rows + 1) / height - 1, (2 * columns + 1) / width - 1
    grid = np.stack(np.broadcast_arrays(u[None, :], v[:, None]), axis=-1)
    points = mx.array(np.broadcast_to(grid, (2, *grid.shape)).astype(np.float32))
    sampled = grid_sample(x, points, align_corners)
    np.testing.assert_allclose(np.asarray(sampled), np.asarray(x), atol=5e-6)


def test_the_gradient_of_one_crowded_pixel_repeats(mx_device: Any) -> None:
    """Thousands of points add to four pixels, in the same order in every run."""
    import mlx.core as mx

    from zmlx.kernels.vision import grid_sample

    x = mx.random.normal((3, 3, 5), key=mx.random.key(1))
    grid = 0.3 * mx.random.uniform(shape=(40, 50, 2), key=mx.random.key(2))
    cotangent = mx.random.normal((40, 50, 5), key=mx.random.key(3))
    runs = [mx.vjp(lambda x: grid_sample(x, grid), [x], [cotangent])[1][0] for _ in range(3)]
    assert all(np.array_equal(np.asarray(run), np.asarray(runs[0])) for run in runs)
    assert float(mx.sum(mx.abs(runs[0]))) > 0


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_same_size_is_the_same_image(align_corners: bool, mx_device: Any) -> None:
    import mlx.core as mx

    from zmlx.kernels.vision import resize_bilinear

    x = mx.random.normal((2, 7, 11, 3), key=mx.random.key(1))
    assert np.array_equal(np.asarray(resize_bilinear(x, (7, 11), align_corners)), np.asarray(x))


def test_places_of_a_wide_image_are_exact(mx_device: Any) -> None:
    """Far to the right a place in float32 would be off by a part of a pixel."""
    import mlx.core as mx

    from zmlx.kernels.vision import resize_bilinear

    width, columns = 30_001, 32_768
    ramp = np.arange(width, dtype=np.float32) % 2
    resized = np.asarray(resize_bilinear(mx.array(ramp.reshape(1, width, 1)), (1, columns))).reshape(-1)
    places = np.maximum((np.arange(columns) + 0.5) * width / columns - 0.5, 0)
    before = np.minimum(np.floor(places).astype(int), width - 1)
    share = places - before
    desired = ramp[before] * (1 - share) + ramp[np.minimum(before + 1, width - 1)] * share
    np.testing.assert_allclose(resized, desired, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("as_on_a_gpu", [False, True])
@pytest.mark.parametrize("shape", [(1, 33, 4, 19), (2, 17, 5, 3), (1, 35, 9, 19), (3, 2, 8, 16)])
def test_pieces_of_an_image_meet(
    shape: tuple[int, ...], as_on_a_gpu: bool, dtype: str, mx_device: Any
) -> None:
    """Threads have some rows and columns, and read the borders of their neighbours, on a GPU before they need them."""
    import mlx.core as mx

    from zmlx.kernels._depthwise import convolved
    from zmlx.kernels._rows import override
    from zmlx.kernels.vision import depthwise_conv_3x3

    def drawn(key: int, shape: tuple[int, ...]) -> mx.array:
        return mx.random.normal(shape, key=mx.random.key(key)).astype(getattr(mx, dtype))

    x, weight, cotangent = drawn(1, shape), drawn(2, (shape[-1], 3, 3)), drawn(3, shape)
    with override(32) if as_on_a_gpu else nullcontext():
        actual = mx.vjp(depthwise_conv_3x3, [x, weight], [cotangent])
        mx.eval(actual)
    wide = [a.astype(mx.float32) for a in (x, weight, cotangent)]
    desired = mx.vjp(convolved, wide[:2], wide[2:])
    ulp = 2**-8 if dtype == "bfloat16" else 1e-5
    for a, d in zip([*actual[0], *actual[1]], [*desired[0], *desired[1]], strict=True):
        np.testing.assert_allclose(np.asarray(a.astype(mx.float32)), np.asarray(d), rtol=ulp, atol=1e-4)


@pytest.mark.parametrize("width", [4, 6])
def test_pixels_beyond_the_border_do_not_count(width: int, mx_device: Any) -> None:
    """Infinity times a pixel that is not there is nothing, and not NaN."""
    import mlx.core as mx

    from zmlx.kernels.vision import depthwise_conv_3x3

    x, weight = mx.ones((40, width, 19)), np.ones((19, 3, 3), np.float32)
    weight[:, 0, 0] = np.inf
    finite = np.zeros((40, width), bool)
    finite[0], finite[:, 0] = True, True
    y, gradients = mx.vjp(depthwise_conv_3x3, [x, mx.array(weight)], [x])
    assert np.array_equal(np.isfinite(np.asarray(y[0])[..., 0]), finite)
    assert np.array_equal(np.isfinite(np.asarray(gradients[0])[..., 0]), finite[::-1, ::-1])
    corner = np.ones(x.shape, np.float32)
    corner[0, 0] = np.inf
    dweight = np.asarray(mx.vjp(depthwise_conv_3x3, [mx.array(corner), mx.ones(weight.shape)], [x])[1][1])
    beside = np.ones((3, 3), bool)
    beside[:2, :2] = False  # taps with which a pixel reads the corner
    assert np.array_equal(np.isfinite(dweight[0]), beside)
    assert not np.isnan(dweight).any()
