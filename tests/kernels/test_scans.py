"""Gradients of products of rows that the threads of a team hold, of which one kernel reads each once."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from zmlx.kernels import _rows, scans
from zmlx.launch import watch


def _desired(x: np.ndarray[Any, Any], cotangent: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """In float64, from the definition: without a division, for there are zeros."""
    made = np.zeros(x.shape)
    for place in range(x.shape[1]):
        without = x.astype(np.float64)
        without[:, place] = 1
        made[:, place] = np.sum(np.cumprod(without, axis=1)[:, place:] * cotangent[:, place:], axis=1)
    return made


@pytest.mark.cpu
@pytest.mark.parametrize("missing", [0, 3])
@pytest.mark.parametrize("width", [8, 128, 512])
def test_held_rows(width: int, missing: int, mx_device: Any) -> None:
    rng = np.random.default_rng(width)
    shape = (17, 64) if width == 8 else (2, width * 8)
    shape = (shape[0], shape[1] - missing)
    x = rng.uniform(0.9, 1.1, shape).astype(np.float32)
    x[0, shape[1] // 2] = 0
    cotangent = rng.standard_normal(shape).astype(np.float32)
    with _rows.override(width), watch() as launches:
        (made,) = mx.vjp(scans.cumprod_lastdim, [mx.array(x)], [mx.array(cotangent)])[1]
        mx.eval(made)
    assert "zmlx_cumprod_held_vjp" in [launch.kernel.name for launch in launches]
    desired = _desired(x, cotangent)
    np.testing.assert_allclose(np.array(made), desired, rtol=0, atol=2e-6 * np.abs(desired).max())


@pytest.mark.cpu
def test_longer_rows_take_the_products_from_a_scan(mx_device: Any) -> None:
    x = np.linspace(0.9, 1.1, 65, dtype=np.float32)[None]
    with _rows.override(8), watch() as launches:
        (made,) = mx.vjp(scans.cumprod_lastdim, [mx.array(x)], [mx.ones((1, 65))])[1]
        mx.eval(made)
    assert [launch.kernel.name for launch in launches][1:] == ["zmlx_cumprod", "zmlx_cumprod_vjp"]
    np.testing.assert_allclose(np.array(made), _desired(x, np.ones((1, 65))), rtol=1e-5)
