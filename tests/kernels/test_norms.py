"""What op_db cannot say of norms: weights of another dtype, and rows that ask for care."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from zmlx.testing.opinfo import DEFAULT_DTYPES

pytestmark = pytest.mark.usefixtures("mx_device")

MIXED = [(x, w) for x in DEFAULT_DTYPES for w in DEFAULT_DTYPES if x != w]


def _normal(shape, seed):
    import mlx.core as mx

    return mx.array(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize(("x_dtype", "weight_dtype"), MIXED)
def test_weights_of_another_dtype(x_dtype, weight_dtype, assert_allclose_cross_backend):
    """The result has x's dtype, each gradient that of its array; the weights lose nothing on the way."""
    import mlx.core as mx

    from zmlx.kernels.norms import rmsnorm

    x = _normal((5, 19), 0).astype(getattr(mx, x_dtype))
    weight = _normal(19, 1).astype(getattr(mx, weight_dtype))
    g = _normal((5, 19), 2).astype(x.dtype)
    (y,), (dx, dweight) = mx.vjp(rmsnorm, [x, weight], [g])
    assert (y.dtype, dx.dtype, dweight.dtype) == (x.dtype, x.dtype, weight.dtype)
    wide = [a.astype(mx.float32) for a in (x, weight, g)]
    (y32,), (dx32, dweight32) = mx.vjp(rmsnorm, wide[:2], wide[2:])
    # Not to the bit: on a GPU a thread moves 16 bytes at a time, so that float16 rows add up in another order.
    for small, exact in ((y, y32), (dx, dx32), (dweight, dweight32)):
        assert_allclose_cross_backend(small, exact.astype(small.dtype), rtol=1e-5, atol=1e-5)


def test_gamma_and_beta_of_different_dtypes():
    import mlx.core as mx

    from zmlx.kernels.norms import layernorm

    x, gamma, beta, g = _normal((3, 10), 0), _normal(10, 1), _normal(10, 2), _normal((3, 10), 3)
    gamma, beta = gamma.astype(mx.bfloat16), beta.astype(mx.float16)
    (y,), (_, dgamma, dbeta) = mx.vjp(layernorm, [x, gamma, beta], [g])
    assert (dgamma.dtype, dbeta.dtype) == (mx.bfloat16, mx.float16)
    assert mx.array_equal(y, layernorm(x, gamma.astype(mx.float32), beta.astype(mx.float32)))


@pytest.mark.parametrize("name", ["rmsnorm", "layernorm"])
def test_eps(name):
    """eps is inside the root, its default is the documented one, and zero is allowed."""
    import mlx.core as mx

    from zmlx.kernels import norms

    function, default = {"rmsnorm": (norms.rmsnorm, 1e-6), "layernorm": (norms.layernorm, 1e-5)}[name]
    x = mx.array([[1e-3, -1e-3, 1e-3, -1e-3]])
    weights = (mx.ones(4),) if name == "rmsnorm" else (mx.ones(4), mx.zeros(4))
    for eps in (0, 1e-6, 1.0):
        expected = 1e-3 / np.sqrt(1e-6 + eps)
        assert np.allclose(np.abs(np.asarray(function(x, *weights, eps=eps))), expected, rtol=1e-6)
    assert mx.array_equal(function(x, *weights), function(x, *weights, eps=default))


@pytest.mark.cpu
@pytest.mark.parametrize("eps", [0.0, 1e-6, 1.0])
@pytest.mark.parametrize("name", ["rmsnorm", "layernorm"])
def test_eps_of_the_references(name, eps, mx_device):
    """Forward mode goes by the reference: along x itself, with y = x / sqrt(m + eps) and m the mean square of x, the
    derivative is y * eps / (m + eps)."""
    import mlx.core as mx

    from zmlx.kernels import norms

    x = mx.array([[1e-3, -1e-3, 1e-3, -1e-3]])
    weights = (mx.ones(4),) if name == "rmsnorm" else (mx.ones(4), mx.zeros(4))
    _, (slope,) = mx.jvp(lambda x: getattr(norms, name)(x, *weights, eps=eps), [x], [x])
    y = np.asarray(x) / np.sqrt(1e-6 + eps)
    assert np.allclose(np.asarray(slope), y * eps / (1e-6 + eps), rtol=1e-4, atol=1e-6)


def test_layernorm_of_a_row_far_from_zero():
    """Subtracting the rounded mean alone leaves an error of up to half a ULP of the mean: 0.03 at 1e6."""
    import mlx.core as mx

    from zmlx.kernels.norms import layernorm

    rows = np.random.default_rng(0).normal(loc=1e6, size=(4, 333)).astype(np.float32)
    actual = np.asarray(layernorm(mx.array(rows), mx.ones(333), mx.zeros(333)))
    wide = rows.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True)
    truth = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    assert np.abs(actual - truth).max() < 2e-6


@pytest.mark.parametrize("width", [None, 8, 64])
def test_layernorm_of_neighbouring_floats(width, assert_allclose_cross_backend):
    """Their mean is no float: the variance around the rounded one is twice the variance, backward too."""
    import mlx.core as mx

    from zmlx.kernels import _rows, norms
    from zmlx.testing.op_db import op_db

    op = next(op for op in op_db if op.name == "norms.layernorm")
    rng = np.random.default_rng(3)
    row = np.where(np.arange(32) % 2, 1e6, 1e6 + 0.0625)
    arrays = [
        np.stack([row, row[::-1]]),
        *rng.normal(size=(2, 32)).astype(np.float32),
        rng.normal(size=(2, 32)),
    ]
    masters = [np.asarray(a, np.float32).astype(np.float64) for a in arrays]
    x, gamma, beta, g = (mx.array(a.astype(np.float32)) for a in masters)
    with contextlib.nullcontext() if width is None else _rows.override(width):
        (y,), gradients = mx.vjp(norms.layernorm, [x, gamma, beta], [g])
        mx.eval(y, gradients)
    assert op.oracle_vjp is not None
    for actual, truth in zip(
        (y, *gradients), (op.oracle(*masters[:3]), *op.oracle_vjp(*masters)), strict=True
    ):
        scale = float(np.abs(truth).max())
        assert_allclose_cross_backend(actual, np.asarray(truth, np.float32), rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.tools
@pytest.mark.cpu
@pytest.mark.parametrize("name", ["rmsnorm", "layernorm"])
@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("held", [0, 2])
def test_rows_of_a_block_wait_for_each_other(name, width, held, monkeypatch):
    """Under the checker, which sees a missing barrier also where the schedule hides it: what the rows of a block leave
    for the weights' gradients is complete before it is read, and read before the next block's rows come."""
    import mlx.core as mx

    import zmlx
    from zmlx.kernels import _rows, norms
    from zmlx.launch import watch

    monkeypatch.setattr(_rows, "MAX_PARTIALS", 1)  # one threadgroup goes through all blocks
    rows = 2 * _rows.BLOCK_ROWS + 1
    weights = [_normal(24, 1 + i) for i in range({"rmsnorm": 1, "layernorm": 2}[name])]
    with _rows.override(width, held), zmlx.checked(), watch() as launches:
        mx.eval(mx.vjp(getattr(norms, name), [_normal((rows, 24), 0), *weights], [_normal((rows, 24), 3)])[1])
    assert {r.path for r in launches if r.kernel.name == f"zmlx_{name}_vjp"} == {"checked"}


def test_constant_rows_are_their_shift():
    import mlx.core as mx

    from zmlx.kernels.norms import layernorm

    y = layernorm(mx.full((3, 77), 0.1), mx.ones(77), mx.full((77,), 0.5))
    assert np.allclose(np.asarray(y), 0.5, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 8, 9, 256 * 8, 256 * 8 + 1, 5000])
def test_weight_gradients_count_every_row_once(rows):
    """With rows of one number, x / |x|, and cotangents of one, dweight is the number of rows."""
    import mlx.core as mx

    from zmlx.kernels.norms import rmsnorm

    gradient = mx.grad(lambda w: mx.sum(rmsnorm(mx.full((rows, 3), 2.0), w, eps=0.0)))(mx.ones(3))
    assert gradient.tolist() == [rows] * 3


def test_eps_is_no_reason_to_compile_again():
    import mlx.core as mx

    from zmlx.kernels import norms
    from zmlx.launch import recording

    with recording("metal") as launches:
        for eps in (1e-6, 1e-5, 1e-3):
            norms.rmsnorm(mx.ones((2, 8)), mx.ones(8), eps=eps)
    assert len({record.signature for record in launches}) == 1


@pytest.mark.parametrize("value", [1e5, 1e9, -1e12])
def test_layernorm_of_huge_constants_is_finite(value):
    """Rounding must not make the variance negative."""
    import mlx.core as mx

    from zmlx.kernels.norms import layernorm

    x = mx.full((2, 101), value)
    gradients = mx.grad(lambda *a: mx.sum(layernorm(*a)), argnums=(0, 1, 2))(x, mx.ones(101), mx.zeros(101))
    assert all(mx.all(mx.isfinite(a)).item() for a in (layernorm(x, mx.ones(101), mx.zeros(101)), *gradients))
