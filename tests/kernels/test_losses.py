"""Losses, beyond what is generated: the memory of the cross-entropy of a linear layer, and its chunks."""

from __future__ import annotations

import gc

import pytest

pytestmark = pytest.mark.usefixtures("mx_device")


def _layer(rows=512, width=16, classes=8192):
    import mlx.core as mx

    keys = mx.random.split(mx.random.key(0), 3)
    hidden, weight = (
        mx.random.normal((rows, width), key=keys[0]),
        mx.random.normal((classes, width), key=keys[1]),
    )
    labels = mx.random.randint(0, classes, (rows,), key=keys[2])
    mx.eval(hidden, weight, labels)
    return hidden, weight / 8, labels


def _peak(function, *arrays):
    """How much memory is taken at most, beyond what was taken before; and what came out."""
    import mlx.core as mx

    mx.eval(arrays)
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    made = function(*arrays)
    mx.eval(made)
    return mx.get_peak_memory() - before, made


@pytest.mark.parametrize("gradients", [False, True], ids=["loss", "gradients"])
def test_the_logits_of_all_rows_are_never_there(gradients, backend):
    """With gradients, too, although MLX keeps what it follows: below half of what all logits alone take."""
    import mlx.core as mx

    from zmlx.kernels import losses

    if backend != "cpu":
        pytest.skip("a GPU's queue keeps small arrays until it has worked through a batch of launches")
    hidden, weight, labels = _layer()

    def fused(hidden, weight):
        return losses.fused_linear_cross_entropy(hidden, weight, labels)

    def plain(hidden, weight):
        return mx.mean(losses.softmax_cross_entropy(hidden @ weight.T, labels))

    def measured(function):
        call = mx.value_and_grad(function, argnums=(0, 1)) if gradients else function
        return _peak(call, hidden, weight)

    least, made = measured(fused)
    most, truth = measured(plain)
    logits = 4 * labels.size * weight.shape[0]
    assert most >= logits
    assert least < logits / 2 <= most / 2
    if gradients:
        (made, by_made), (truth, by_truth) = made, truth
        for slope, wanted in zip(by_made, by_truth, strict=True):
            assert mx.allclose(slope, wanted, rtol=1e-4, atol=1e-6)
    assert mx.allclose(made, truth, rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 32, 100, None])
def test_chunks_change_nothing(chunk):
    import mlx.core as mx

    from zmlx.kernels import losses

    hidden, weight, labels = _layer(33, 8, 50)
    labels = mx.where(mx.arange(33) % 5 == 2, -100, labels)

    def slopes(chunk):
        def loss(hidden, weight):
            return losses.fused_linear_cross_entropy(hidden, weight, labels, chunk=chunk, z_loss=0.01)

        return mx.value_and_grad(loss, argnums=(0, 1))

    value, gradients = slopes(chunk)(hidden, weight)
    whole, wanted = slopes(64)(hidden, weight)
    assert mx.allclose(value, whole, rtol=1e-6)
    assert all(mx.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(gradients, wanted, strict=True))
    assert mx.all(gradients[0][2::5] == 0).item()


def test_compiled_chunks():
    """Under mx.compile there is nothing to evaluate on the CPU; the numbers are the same."""
    import mlx.core as mx

    from zmlx.kernels import losses

    hidden, weight, labels = _layer(33, 8, 50)

    def slopes(hidden, weight):
        return mx.grad(
            lambda *arrays: losses.fused_linear_cross_entropy(*arrays, labels, chunk=16), argnums=(0, 1)
        )(hidden, weight)

    compiled, wanted = mx.compile(slopes)(hidden, weight), slopes(hidden, weight)
    assert all(mx.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(compiled, wanted, strict=True))


def test_a_second_derivative_is_refused():
    import mlx.core as mx

    from zmlx.kernels import losses

    hidden, weight, labels = _layer(3, 4, 5)

    def slope(hidden):
        return mx.grad(lambda h: losses.fused_linear_cross_entropy(h, weight, labels))(hidden).sum()

    with pytest.raises(
        NotImplementedError, match=r"Expected first derivatives only: .* take softmax_cross_entropy"
    ):
        mx.grad(slope)(hidden)


def test_a_label_that_is_no_class_is_seen():
    """NaN, in the row whose label it is; and no row is one that counts where all are ignored."""
    import mlx.core as mx

    from zmlx.kernels import losses

    logits = mx.array([[0.0, 1.0], [2.0, 3.0]])
    seen = losses.softmax_cross_entropy(logits, mx.array([2, 1]))
    assert mx.isnan(seen).tolist() == [True, False]
    assert losses.fused_linear_cross_entropy(logits, mx.eye(2), mx.array([-100, -100])).item() == 0
    assert mx.isnan(losses.fused_linear_cross_entropy(logits, mx.eye(2), mx.array([-1, 1]))).item()
