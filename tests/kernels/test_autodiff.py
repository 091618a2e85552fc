"""Transformations that no entry of op_db can speak for: forward mode, second derivatives, mapped weights."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("mx_device")


def _functions():
    """Name -> (function of arrays, arguments): every kernel, and MLX operations that compute the same."""
    import mlx.core as mx

    from zmlx.kernels import norms, reductions, softmax, transformer

    def halves(x):
        return mx.split(x, 2, axis=-1)

    def swiglu(x):
        a, b = halves(x)
        return a * mx.sigmoid(a) * b

    def geglu(x):
        a, b = halves(x)
        return 0.5 * a * (1 + mx.erf(a / 2**0.5)) * b

    def geglu_tanh(x):
        a, b = halves(x)
        return 0.5 * a * (1 + mx.tanh((2 / np.pi) ** 0.5 * (a + 0.044715 * a * a * a))) * b

    def rmsnorm(x, w):
        return x * mx.rsqrt(mx.mean(x * x, axis=-1, keepdims=True) + 1e-6) * w

    def layernorm(x, w, b):
        return (x - mx.mean(x, -1, keepdims=True)) * mx.rsqrt(mx.var(x, -1, keepdims=True) + 1e-5) * w + b

    rng = np.random.default_rng(7)
    x, w, b = (mx.array(rng.normal(size=s).astype(np.float32)) for s in ((3, 8), (8,), (8,)))
    return {
        "swiglu": (transformer.swiglu, swiglu, (x,)),
        "geglu": (transformer.geglu, geglu, (x,)),
        "geglu_tanh": (lambda x: transformer.geglu(x, "tanh"), geglu_tanh, (x,)),
        "rmsnorm": (norms.rmsnorm, rmsnorm, (x, w)),
        "layernorm": (norms.layernorm, layernorm, (x, w, b)),
        "softmax": (softmax.softmax_lastdim, lambda x: mx.softmax(x, axis=-1), (x,)),
        "sum": (reductions.sum_lastdim, lambda x: mx.sum(x, axis=-1), (x,)),
    }


@pytest.fixture
def on_the_cpu(mx_device):
    """Forward mode and vmap are for the CPU: on a GPU, MLX finds its CustomKernel in the graph, which has neither."""
    import mlx.core as mx

    with mx.stream(mx.cpu):
        yield


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["swiglu", "rmsnorm"])
def test_a_gpu_has_forward_mode_by_our_rule_and_no_vmap(name, assert_allclose_cross_backend):
    """Once MLX has a vmap of custom kernels, this fails, and the fixture above can go."""
    import mlx.core as mx

    function, plain, arguments = _functions()[name]
    tangents = [mx.ones_like(a) for a in arguments]
    _, (actual,) = mx.jvp(function, list(arguments), tangents)
    _, (expected,) = mx.jvp(plain, list(arguments), tangents)
    assert_allclose_cross_backend(actual, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="Not implemented for CustomKernel"):
        mx.vmap(lambda x: function(x, *arguments[1:]))(mx.stack([arguments[0]] * 2))


NAMES = ("swiglu", "geglu", "geglu_tanh", "rmsnorm", "layernorm", "softmax", "sum")


@pytest.mark.usefixtures("on_the_cpu")
@pytest.mark.parametrize("name", NAMES)
def test_forward_mode(name, assert_allclose_cross_backend):
    import mlx.core as mx

    function, plain, arguments = _functions()[name]
    tangents = [mx.cos(3 * a) for a in arguments]
    _, (actual,) = mx.jvp(function, list(arguments), tangents)
    _, (expected,) = mx.jvp(plain, list(arguments), tangents)
    assert_allclose_cross_backend(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("on_the_cpu")
@pytest.mark.parametrize("name", NAMES)
def test_forward_mode_in_one_argument(name, assert_allclose_cross_backend):
    """Arguments without a tangent of their own stay constant."""
    import mlx.core as mx

    function, plain, (x, *rest) = _functions()[name]
    tangent = [mx.cos(3 * x)]
    _, (actual,) = mx.jvp(lambda x: function(x, *rest), [x], tangent)
    _, (expected,) = mx.jvp(lambda x: plain(x, *rest), [x], tangent)
    assert_allclose_cross_backend(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives(name, assert_allclose_cross_backend):
    import mlx.core as mx

    function, plain, arguments = _functions()[name]

    def second(f):
        def slope(*a):
            first = mx.grad(lambda *b: mx.sum(mx.sin(f(*b))), argnums=tuple(range(len(a))))(*a)
            return sum(mx.sum(mx.square(g)) for g in first)

        return mx.grad(slope, argnums=tuple(range(len(arguments))))(*arguments)

    for actual, expected in zip(second(function), second(plain), strict=True):
        assert_allclose_cross_backend(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("on_the_cpu")
@pytest.mark.parametrize("name", NAMES)
def test_forward_over_reverse(name, assert_allclose_cross_backend):
    import mlx.core as mx

    function, plain, (x, *rest) = _functions()[name]

    def directional(f):
        gradient = mx.grad(lambda x: mx.sum(mx.sin(f(x, *rest))))
        return mx.jvp(gradient, [x], [mx.cos(3 * x)])[1][0]

    assert_allclose_cross_backend(directional(function), directional(plain), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("on_the_cpu")
@pytest.mark.parametrize(("name", "weights"), [("rmsnorm", 1), ("layernorm", 2)])
@pytest.mark.parametrize("x_axis", [None, 0, 1, 2])
def test_mapped_weights(name, weights, x_axis):
    """Weights of their own for every entry: one launch an entry, the same numbers as a loop."""
    import mlx.core as mx

    function, _, (x, *rest) = _functions()[name]
    stacked = [mx.stack([w, -w, 2 * w]) for w in rest]
    inputs = x if x_axis is None else mx.stack([x, x + 1, 3 * x], axis=x_axis)
    axes = (x_axis, *[0] * weights)
    actual = mx.vmap(function, in_axes=axes)(inputs, *stacked)
    entries = [x] * 3 if x_axis is None else [x, x + 1, 3 * x]
    expected = mx.stack([function(e, *(w[i] for w in stacked)) for i, e in enumerate(entries)])
    assert mx.array_equal(actual, expected)


@pytest.mark.usefixtures("on_the_cpu")
def test_unmapped_cotangent():
    """In vmap of a vjp the cotangent may be the same for all entries."""
    import mlx.core as mx

    from zmlx.kernels.softmax import softmax_lastdim

    x = mx.random.normal((4, 3, 6), key=mx.random.key(0))
    g = mx.random.normal((3, 6), key=mx.random.key(1))

    def gradient(x):
        return mx.vjp(softmax_lastdim, [x], [g])[1][0]

    assert mx.array_equal(mx.vmap(gradient)(x), mx.stack([gradient(entry) for entry in x]))


@pytest.mark.usefixtures("on_the_cpu")
def test_nested_vmap():
    import mlx.core as mx

    from zmlx.kernels.transformer import swiglu

    x = mx.random.normal((2, 3, 4, 6), key=mx.random.key(0))
    assert mx.array_equal(mx.vmap(mx.vmap(swiglu, in_axes=1))(x), swiglu(x).swapaxes(1, 2))


@pytest.mark.usefixtures("on_the_cpu")
def test_vmap_of_single_rows():
    """Rows themselves: the function sees a vector, the launch all of them."""
    import mlx.core as mx

    from zmlx.kernels.reductions import sum_lastdim
    from zmlx.launch import watch

    x = mx.random.normal((5, 9), key=mx.random.key(0))
    with watch() as launches:
        mapped = mx.vmap(sum_lastdim)(x)
    assert mx.array_equal(mapped, sum_lastdim(x))
    # What is traced on the way to the rule is left out of MLX's graph.
    assert sum(record.path not in ("reference", "lazy") for record in launches) == 1


def test_weights_without_gradient_of_their_own():
    """Asking for x's gradient alone works, and so does asking for a weight's."""
    import mlx.core as mx

    function, _, (x, w, b) = _functions()["layernorm"]
    both = mx.grad(lambda *a: mx.sum(mx.sin(function(*a))), argnums=(0, 1, 2))(x, w, b)
    for position in range(3):
        alone = mx.grad(lambda *a: mx.sum(mx.sin(function(*a))), argnums=position)(x, w, b)
        assert mx.array_equal(alone, both[position])


@pytest.mark.usefixtures("on_the_cpu")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_references_keep_the_dtype(name, dtype):
    """What stands in for the kernels under transformations has their dtypes, and computes in float32 too."""
    import mlx.core as mx

    function, _, arguments = _functions()[name]
    small = [a.astype(getattr(mx, dtype)) for a in arguments]
    (value,), (tangent,) = mx.jvp(function, small, [mx.ones_like(a) for a in small])
    assert value.dtype == tangent.dtype == small[0].dtype


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "of_cotangent"), [("bfloat16", "float32"), ("float32", "float16")])
def test_a_cotangent_takes_the_dtype_of_the_result(name, dtype, of_cotangent):
    """The backward kernels move x and the cotangent by one dtype: one of another dtype is rounded first."""
    import mlx.core as mx

    from zmlx.launch import watch

    function, _, arguments = _functions()[name]
    small = [a.astype(getattr(mx, dtype)) for a in arguments]
    y = function(*small)
    g = mx.random.normal(y.shape, key=mx.random.key(5)).astype(getattr(mx, of_cotangent))
    with watch() as launches:
        given = mx.vjp(function, small, [g])[1]
        mx.eval(given)
    rounded = mx.vjp(function, small, [g.astype(y.dtype)])[1]
    assert all(mx.array_equal(a, b) for a, b in zip(given, rounded, strict=True))
    assert [a.dtype for a in given] == [a.dtype for a in small]
    backward = [r.signature for r in launches if r.kernel.name.endswith("_vjp")]
    assert len({signature.inputs[0].dtype for signature in backward}) == len(backward) == int(name != "sum")
    assert all(signature.inputs[0].dtype == signature.inputs[1].dtype for signature in backward)
