"""Mixtures of experts, beyond what is generated: the way there and back, order, and derivatives of second order."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("mx_device")


@pytest.fixture
def routed():
    """Tokens, and the weights and indices of their experts."""
    import mlx.core as mx

    from zmlx.kernels.moe import router_topk

    rng = np.random.default_rng(5)
    tokens = mx.array(rng.normal(size=(37, 24)).astype(np.float32))
    weights, indices = router_topk(mx.array(rng.normal(size=(37, 8)).astype(np.float32)), 3)
    return tokens, weights, indices


def test_experts_that_scale_are_there_and_back(routed) -> None:
    """A token's output is the sum of its experts', whichever order these work in."""
    import mlx.core as mx

    from zmlx.kernels.moe import combine, dispatch, expert_order

    tokens, weights, indices = routed
    order, positions, offsets = expert_order(indices, 8)
    moved = dispatch(tokens, order, positions)
    places = mx.arange(order.size, dtype=mx.uint32)[:, None]
    expert = mx.sum((places >= offsets[None, 1:]).astype(mx.int32), axis=1)
    back = combine(moved * (expert + 1)[:, None], weights, order, positions)
    factors = mx.sum(weights * (indices + 1), axis=-1, keepdims=True)
    assert mx.allclose(back, tokens * factors, rtol=1e-5, atol=1e-5)


def test_experts_have_their_slots_in_order(routed) -> None:
    from zmlx.kernels.moe import expert_order

    indices = np.asarray(routed[2]).reshape(-1)
    order, positions, offsets = map(np.asarray, expert_order(routed[2], 8))
    assert offsets[0] == 0
    assert offsets[-1] == indices.size
    for expert in range(8):
        mine = order[offsets[expert] : offsets[expert + 1]]
        assert mine.tolist() == np.flatnonzero(indices == expert).tolist()
    assert np.array_equal(order[positions.reshape(-1)], np.arange(indices.size))


def test_more_slots_than_one_block() -> None:
    import mlx.core as mx

    from zmlx.kernels import _experts
    from zmlx.kernels.moe import expert_order

    indices = np.random.default_rng(6).integers(0, 5, 3 * _experts.BLOCK + 1).astype(np.uint32)
    order = expert_order(mx.array(indices), 5)[0]
    assert np.array_equal(np.asarray(order), np.argsort(indices, kind="stable"))


def test_rows_longer_than_16_bits_count() -> None:
    import mlx.core as mx

    from zmlx.kernels.moe import combine, router_topk, sigmoid_router
    from zmlx.kernels.sampling import categorical, filter_logits
    from zmlx.kernels.selection import topk

    length = 70_001
    x = mx.stack([mx.arange(length), -mx.arange(length)]).astype(mx.float32)
    last = [[length - 1, length - 2], [0, 1]]
    assert topk(x, 2)[1].tolist() == last
    assert router_topk(x, 2)[1].tolist() == last
    assert sigmoid_router(x / length, x[0] * 0, 2)[1].tolist() == last
    assert mx.argmax(filter_logits(x, top_k=1), axis=-1).tolist() == [length - 1, 0]
    assert mx.sum(filter_logits(x, top_k=9) > -mx.inf, axis=-1).tolist() == [9, 9]
    assert categorical(100 * x, 1).tolist() == [length - 1, 0]

    order, positions, weights = mx.array([1, 0]), mx.array([[1, 0]]), mx.array([[2.0, 3.0]])
    assert mx.array_equal(combine(x, weights, order, positions), (2 * x[1] + 3 * x[0])[None])
    slopes = mx.grad(lambda x: mx.sum(combine(x, weights, order, positions)))(x)
    assert mx.array_equal(slopes, mx.broadcast_to(mx.array([[3.0], [2.0]]), x.shape))


def test_an_index_beyond_32_bits_of_sign_is_out_of_range() -> None:
    import mlx.core as mx

    from zmlx.kernels.moe import gather_add, scatter_add

    x, y = mx.zeros((3, 4)), mx.ones((3, 4))
    indices = mx.array([0, 2**31, 2**32 - 1], dtype=mx.uint32)
    assert gather_add(x, y, indices).sum(axis=1).tolist() == [4.0, 0.0, 0.0]
    assert scatter_add(x, y, indices).sum(axis=1).tolist() == [4.0, 0.0, 0.0]


def test_a_scatter_adds_in_order() -> None:
    """1 + 2**-24 + 2**-24 is 1 from the left, and more from the right."""
    import mlx.core as mx

    from zmlx.kernels.moe import scatter_add

    tiny = 2.0**-24
    zeros = mx.zeros((1, 1))
    rising = mx.array([[tiny], [tiny], [1.0]])
    indices = mx.zeros((3,), mx.int32)
    assert scatter_add(zeros, rising, indices).item() == 1 + 2 * tiny
    assert scatter_add(zeros, rising[::-1], indices).item() == 1.0


def test_a_scatter_whose_keys_need_64_bits() -> None:
    import mlx.core as mx

    from zmlx.kernels.moe import scatter_add

    rng = np.random.default_rng(3)
    rows, count = 2**17, 2**15
    y = rng.integers(0, 100, (count, 1)).astype(np.float32)
    indices = rng.integers(-rows, rows, count).astype(np.int32)
    indices[:3] = rows - 1
    desired = np.ones((rows, 1), np.float32)
    there = indices >= 0
    np.add.at(desired, indices[there], y[there])
    found = scatter_add(mx.ones((rows, 1)), mx.array(y), mx.array(indices))
    np.testing.assert_array_equal(np.array(found), desired)


@pytest.mark.parametrize("renormalize", [True, False])
def test_second_derivatives_of_a_router(renormalize: bool) -> None:
    """By differences of the first ones."""
    import mlx.core as mx

    from zmlx.kernels.moe import router_topk

    x = mx.array([[0.3, -0.2, 1.1, 0.7, -1.0]])

    def loss(x: mx.array) -> mx.array:
        return mx.sum(router_topk(x, 2, renormalize)[0] ** 2 * mx.array([1.0, 3.0]))

    first = mx.grad(loss)
    direction = mx.array([[1.0, -1.0, 0.5, 2.0, 0.0]])
    second = mx.grad(lambda x: mx.sum(first(x) * direction))(x)
    step = 1e-2
    difference = (first(x + step * direction) - first(x - step * direction)) / (2 * step)
    assert mx.allclose(second, difference, atol=1e-3)


def test_a_mixture_is_trained_with_its_router() -> None:
    """The places of slots are integers: nothing that comes from them has a gradient."""
    import mlx.core as mx

    from zmlx.kernels.moe import combine, dispatch, expert_order, router_topk

    rng = np.random.default_rng(7)
    tokens = mx.array(rng.normal(size=(11, 6)).astype(np.float32))
    router = mx.array(rng.normal(size=(6, 4)).astype(np.float32))

    def mixture(tokens: mx.array, router: mx.array) -> mx.array:
        weights, indices = router_topk(tokens @ router, 2)
        order, positions, _ = expert_order(indices, 4)
        return mx.sum(combine(mx.tanh(dispatch(tokens, order, positions)), weights, order, positions) ** 2)

    def wanted(tokens: mx.array, router: mx.array) -> mx.array:
        probabilities = mx.softmax(tokens @ router, axis=-1)
        chosen = mx.stop_gradient(mx.argsort(-probabilities, axis=-1)[:, :2])
        weights = mx.take_along_axis(probabilities, chosen, axis=-1)
        weights = weights / mx.sum(weights, axis=-1, keepdims=True)
        return mx.sum(mx.sum(mx.tanh(tokens)[:, None] * weights[..., None], axis=1) ** 2)

    for found, desired in zip(
        mx.grad(mixture, argnums=(0, 1))(tokens, router),
        mx.grad(wanted, argnums=(0, 1))(tokens, router),
        strict=True,
    ):
        assert mx.allclose(found, desired, rtol=1e-4, atol=1e-5)


@pytest.mark.cpu
def test_forward_mode_follows_the_choice() -> None:
    import mlx.core as mx

    from zmlx.kernels.moe import combine, gather_add, scatter_add
    from zmlx.kernels.selection import topk

    with mx.stream(mx.cpu):
        x, direction = mx.array([[1.0, 3.0, 2.0]]), mx.array([[10.0, 20.0, 30.0]])
        assert mx.jvp(lambda x: topk(x, 2)[0], [x], [direction])[1][0].tolist() == [[20.0, 30.0]]
        rows, places = mx.ones((2, 2)), mx.array([1, 1])
        added = mx.jvp(lambda y: gather_add(rows, y, places), [rows], [mx.array([[1.0, 2.0], [3.0, 4.0]])])
        assert added[1][0].tolist() == [[3.0, 4.0], [3.0, 4.0]]
        added = mx.jvp(lambda y: scatter_add(rows, y, places), [rows], [mx.array([[1.0, 2.0], [3.0, 4.0]])])
        assert added[1][0].tolist() == [[0.0, 0.0], [4.0, 6.0]]
        order, positions = mx.array([1, 0]), mx.array([[1, 0]])
        weights = mx.array([[2.0, 5.0]])
        moved = mx.jvp(
            lambda x: combine(x, weights, order, positions), [rows], [mx.array([[1.0, 0], [0, 1.0]])]
        )
        assert moved[1][0].tolist() == [[5.0, 2.0]]
