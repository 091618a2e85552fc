"""`zmlx.elementwise`: what a user declares, gets, and is told; broadcasting in place; gradients by formula."""

from __future__ import annotations

import numpy as np
import pytest

import zmlx
from zmlx.kernels import _broadcast
from zmlx.launch import current_backend, watch

pytestmark = pytest.mark.usefixtures("mx_device")


@pytest.fixture(scope="module")
def gated():
    return zmlx.elementwise(
        "h = min(gate + shift, limit); h * sigmoid(h) * up",
        name="gated",
        inputs=("gate", "up", "shift"),
        scalars={"limit": 1.5},
    )


def _plain(mx, gate, up, shift, limit=1.5):
    h = mx.minimum(gate + shift, limit)
    return h * mx.sigmoid(h) * up


SHAPES = {
    "equal": ((3, 4, 5), (3, 4, 5), (3, 4, 5)),
    "bias": ((3, 4, 5), (3, 4, 5), (5,)),
    "column": ((3, 4, 5), (3, 4, 1), (3, 4, 5)),
    "leading": ((3, 4, 5), (3, 1, 1), (3, 1, 1)),
    "number": ((3, 4, 5), (), (1, 1)),
    "bias_and_column": ((3, 4, 5), (3, 4, 1), (5,)),
    "crossed": ((4, 1), (1, 5), (1,)),
    "middle": ((3, 4, 5), (3, 1, 5), (4, 1)),
    "ones": ((1, 1), (1,), ()),
    "empty": ((3, 0, 5), (5,), (1, 1, 5)),
    "one_row": ((1, 5), (5,), (1, 1)),
}


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_arrays_broadcast(gated, shapes):
    """Values, gradients and their shapes are those of MLX's operations."""
    import mlx.core as mx

    arrays = [
        mx.array(np.random.default_rng(n).normal(size=shape).astype(np.float32))
        for n, shape in enumerate(shapes)
    ]
    expected = _plain(mx, *arrays)
    actual = gated(*arrays)
    assert actual.shape == expected.shape
    assert mx.allclose(actual, expected, rtol=1e-5, atol=1e-6)
    cotangent = mx.sin(mx.arange(expected.size)).reshape(expected.shape)
    wanted = mx.vjp(lambda *a: _plain(mx, *a), arrays, [cotangent])[1]
    for slope, truth in zip(mx.vjp(gated, arrays, [cotangent])[1], wanted, strict=True):
        assert slope.shape == truth.shape
        assert mx.allclose(slope, truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shapes", "rows", "columns", "seen"),
    [
        (((3, 4, 5), (3, 4, 5)), 1, 60, ((1, 60), (1, 60))),
        (((3, 4, 5), (1, 1, 5)), 12, 5, ((12, 5), (1, 5))),
        (((3, 4, 5), (3, 4, 1)), 12, 5, ((12, 5), (12, 1))),
        (((3, 4, 5), (3, 1, 1)), 3, 20, ((3, 20), (3, 1))),
        (((3, 4, 5), (1, 1, 1)), 1, 60, ((1, 60), (1, 1))),
        (((4, 1), (1, 5)), 4, 5, ((4, 1), (1, 5))),
        (((3, 4, 5), (3, 1, 5)), 3, 20, ((3, 20), (3, 20))),
        (((1, 5), (1, 5)), 1, 5, ((1, 5), (1, 5))),
        (((1, 1), (1, 1)), 1, 1, ((1, 1), (1, 1))),
        (((2**17, 2**15),), 2**1, 2**31, ((2, 2**31),)),
    ],
)
def test_arrays_are_seen_in_place(shapes, rows, columns, seen):
    plan = _broadcast.broadcast(shapes)
    if shapes == ((2**17, 2**15),):
        # Cut at an axis, and nowhere else.
        assert (plan.rows, plan.columns) == (2**17, 2**15)
        return
    assert (plan.rows, plan.columns) == (rows, columns)
    assert tuple((view.rows, view.columns) for view in plan.views) == seen
    assert [view.repeated for view in plan.views] == [False, shapes[-1] == (3, 1, 5)][: len(shapes)]


def test_a_scalar_is_an_argument(gated):
    """Another value launches the kernel that is there."""
    import mlx.core as mx

    from zmlx.launch import watch

    x = mx.linspace(-3, 3, 12)
    with watch() as launches:
        for limit in (0.5, 1.0, 2.0):
            assert mx.allclose(gated(x, x, x, limit=limit), _plain(mx, x, x, x, limit), rtol=1e-5, atol=1e-6)
    assert len(launches) == 3
    assert len({record.signature.metal_text() for record in launches}) == 1


def test_several_results():
    import mlx.core as mx

    polar = zmlx.elementwise("r = sqrt(x * x + y * y); c = x / r", results=("c", "r"))
    x, y = mx.linspace(1, 2, 6), mx.linspace(-1, 3, 6)
    c, r = polar(x, y)
    length = mx.sqrt(x * x + y * y)
    assert mx.allclose(r, length)
    assert mx.allclose(c, x / length)
    slopes = mx.vjp(polar, [x, y], [mx.ones(6), x])[1]
    wanted = mx.vjp(
        lambda x, y: x / mx.sqrt(x * x + y * y) + mx.stop_gradient(x) * mx.sqrt(x * x + y * y),
        [x, y],
        [mx.ones(6)],
    )[1]
    assert all(mx.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(slopes, wanted, strict=True))


def test_a_gradient_by_formula():
    """What is given counts, though it be another than the derived one; the rest is derived."""
    import mlx.core as mx

    step = zmlx.elementwise("h = x * w; 1 if h > 0 else 0 * h", grad={"x": "dy * w * max(0, 1 - abs(h))"})
    x, w = mx.linspace(-0.9, 0.9, 7), mx.full(7, 0.5)
    by_x, by_w = mx.vjp(step, [x, w], [mx.ones(7)])[1]
    assert mx.allclose(by_x, 0.5 * (1 - mx.abs(0.5 * x)))
    assert mx.array_equal(by_w, mx.zeros(7))
    # Its own derivative, too.
    second = mx.grad(lambda x: mx.grad(lambda x: step(x, w).sum())(x).sum())(x)
    assert mx.allclose(second, -0.25 * mx.sign(x), atol=1e-6)


@pytest.mark.parametrize(
    ("formula", "options", "gradients"),
    [
        ("x + y", {}, []),
        ("x + 2 * y", {}, [1]),
        ("x - y", {"grad": {"y": "dy"}}, []),
        ("a = x + y; b = x * y", {"results": ("a", "b")}, [2]),
    ],
)
@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4))], ids=str)
def test_a_gradient_that_is_the_results_own_is_passed_on(formula, options, gradients, shapes):
    """The kernel of the gradients computes the others, and is not there where there are none."""
    import mlx.core as mx

    def plain(x, y):
        a, b = x + y, x * y
        return {"x + y": a, "x + 2 * y": x + 2 * y, "x - y": x + y}.get(formula, (a, b))

    function = zmlx.elementwise(formula, inputs=("x", "y"), **options)
    arrays = [mx.random.normal(shape) for shape in shapes]
    results = plain(*arrays)
    cotangents = [mx.random.normal(r.shape) for r in (results if isinstance(results, tuple) else [results])]
    with watch() as launches:
        actual = mx.vjp(function, arrays, cotangents)[1]
        mx.eval(actual)
    kernels = [launch for launch in launches if launch.kernel.name == "zmlx_elementwise_vjp"]
    assert [len(launch.kernel.output_names) for launch in kernels] == gradients
    for found, expected in zip(actual, mx.vjp(plain, arrays, cotangents)[1], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_inputs_without_gradient():
    import mlx.core as mx

    product = zmlx.elementwise("x * y", differentiable=("y",))
    x = mx.array([2.0, 3.0])
    by_x, by_y = mx.vjp(product, [x, x], [mx.ones(2)])[1]
    assert mx.array_equal(by_x, mx.zeros(2))
    assert mx.array_equal(by_y, x)


def test_transformations(gated):
    """vmap over any of the arrays, jvp, compile, and the gradients under them."""
    import mlx.core as mx

    random = np.random.default_rng(7)
    gate, up = (mx.array(random.normal(size=(4, 3, 5)).astype(np.float32)) for _ in range(2))
    shift = mx.array(random.normal(size=(5,)).astype(np.float32))

    def plain(*arrays):
        return _plain(mx, *arrays)

    def slopes(function):
        return lambda *arrays: mx.grad(lambda *a: mx.sin(function(*a)).sum(), argnums=(0, 1, 2))(*arrays)

    mapped = (((0, 0, None), (gate, up, shift)), ((1, None, None), (gate, up[:, 0], shift)))
    # On a GPU MLX meets its CustomKernel before it looks at the rule.
    for axes, arrays in mapped if current_backend() == "cpu" else ():
        for f, p in ((gated, plain), (slopes(gated), slopes(plain))):
            actual, expected = mx.vmap(f, in_axes=axes)(*arrays), mx.vmap(p, in_axes=axes)(*arrays)
            pairs = zip(actual, expected, strict=True) if isinstance(actual, tuple) else [(actual, expected)]
            assert all(a.shape == e.shape and mx.allclose(a, e, rtol=1e-4, atol=1e-5) for a, e in pairs)
    arrays, tangents = [gate, up, shift], [up, gate, shift]
    assert mx.allclose(
        mx.jvp(gated, arrays, tangents)[1][0], mx.jvp(plain, arrays, tangents)[1][0], atol=1e-5
    )
    assert mx.allclose(mx.compile(gated)(*arrays), plain(*arrays), atol=1e-5)


def _said(call, kind):
    with pytest.raises(kind) as raised:
        call()
    return str(raised.value)


def test_what_a_declaration_must_be():
    make = zmlx.elementwise
    for call, message in (
        (
            lambda: make("2 + 3"),
            "[elementwise] Expected a formula with an array in it, got '2 + 3'. Name an input in it.",
        ),
        (
            lambda: make("x", inputs=("x", "x")),
            "[elementwise] Expected each name of inputs and scalars once, got 'x' again. Leave it out.",
        ),
        (
            lambda: make("x", name="f", scalars=("a",)),
            "[f] Expected the formula to use the scalar 'a', got 'x'. Leave it out of `scalars`.",
        ),
        (
            lambda: make("x * y", differentiable=("z",)),
            "[elementwise] Expected `grad` and `differentiable` to name inputs, which are x, y; got 'z'.",
        ),
        (
            lambda: make("y = x", results=("y", "y")),
            "[elementwise] Expected each name of results once, got 'y' again. Leave it out.",
        ),
        (
            lambda: make("x", inputs=("x", "inf")),
            (
                "[elementwise] Expected names of inputs and scalars other than inf, nan, which formulas know; got "
                "'inf'. Rename it."
            ),
        ),
        (
            lambda: make("x", name="f(x)"),
            (
                "[elementwise] Expected `name` to be letters, digits and underscores, which kernels' names are made "
                "of, got 'f(x)'."
            ),
        ),
        (
            lambda: make("x * dy"),
            (
                "[elementwise] Expected no input, scalar or line called 'dy': in `grad` it is the gradient of the "
                "result. Rename it."
            ),
        ),
        (
            lambda: make("x * x", grad={"x": "dy * z"}),
            "[elementwise, grad of x] Expected one of the names dy, x, got 'z' in 'z'. The formula: 'dy * z'.",
        ),
    ):
        assert _said(call, ValueError) == message


def test_names_are_no_text():
    """Its letters would pass for names."""
    for argument in ("inputs", "results", "scalars", "differentiable"):
        assert _said(lambda given={argument: "xy"}: zmlx.elementwise("x * y", **given), TypeError) == (
            f"[elementwise] Expected `{argument}` to be a sequence of names, got the text 'xy'. Pass ('xy',)."
        )


def test_a_scalar_of_the_gradient_alone():
    import mlx.core as mx

    passed = zmlx.elementwise("x", scalars={"slope": 2.0}, grad={"x": "dy * slope"})
    assert mx.array_equal(mx.grad(lambda x: passed(x, slope=3).sum())(mx.ones(4)), mx.full(4, 3.0))


def test_long_rows_and_views(gated):
    """Rows that no thread holds, and arrays whose elements lie apart."""
    import mlx.core as mx

    wide = mx.sin(mx.arange(6 * 40004)).reshape(6, 40004)
    for gate in (wide, wide[::2, ::-1], wide.reshape(40004, 6).transpose(), wide[:, 1:]):
        shift = wide[0, : gate.shape[1]]
        assert mx.allclose(gated(gate, gate, shift), _plain(mx, gate, gate, shift), rtol=1e-5, atol=1e-6)
        cotangent = mx.ones(gate.shape)
        slopes, wanted = (
            mx.vjp(f, [gate, gate, shift], [cotangent])[1] for f in (gated, lambda *a: _plain(mx, *a))
        )
        assert all(mx.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(slopes, wanted, strict=True))


def test_what_a_call_must_be(gated):
    import mlx.core as mx

    x = mx.ones((2, 3))
    for call, kind, message in (
        (
            lambda: gated(x, x),
            TypeError,
            "[gated] Expected 3 arrays (gate, up, shift), got 2. Pass them by position.",
        ),
        (
            lambda: gated(x, x, x, top=1),
            TypeError,
            "[gated] Expected keyword arguments among limit, got 'top'. Arrays are given by position: gate, up, shift.",
        ),
        (
            lambda: gated(x, x, x, limit="1"),
            TypeError,
            "[gated] Expected `limit` to be a number, got str. Pass a float.",
        ),
        (
            lambda: gated(x, x, x, limit=-(2**1024)),
            ValueError,
            "[gated] Expected `limit` to be in the range of float, got an integer of 1025 bits.",
        ),
        (
            lambda: zmlx.elementwise("a * x", name="f", scalars=("a",))(x),
            TypeError,
            "[f] Expected a number `a`, got none. Pass a=1.0.",
        ),
        (
            lambda: gated(x, x.astype(mx.float16), x),
            TypeError,
            (
                "[gated] Expected `up` to be float32 as `gate` is, got float16. Convert one of them first: "
                "up.astype(mx.float32)."
            ),
        ),
        (
            lambda: gated(x, x, mx.ones(2)),
            ValueError,
            (
                "[gated] Expected shapes that broadcast, got `gate` (2, 3), `up` (2, 3), `shift` (2,). Aligned at "
                "their last axes, extents must be equal or 1: reshape the arrays."
            ),
        ),
    ):
        assert _said(call, kind) == message


def test_it_tells_what_it_is(gated):
    assert repr(gated).startswith("<zmlx.elementwise gated(gate, up, shift, limit): 'h = min(")
    assert gated.__name__ == "gated"
