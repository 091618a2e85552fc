"""`zmlx.row_kernel` as a user has it: values and gradients beside MLX's operations, transformations, and messages."""

from __future__ import annotations

import math

import numpy as np
import pytest

import zmlx
from zmlx.launch import current_backend

pytestmark = pytest.mark.usefixtures("mx_device")


def _array(shape, seed, dtype="float32"):
    import mlx.core as mx

    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return mx.array(values).astype(getattr(mx, dtype))


def _close(actual, expected, tolerance=1e-4):
    import mlx.core as mx

    assert actual.shape == expected.shape
    actual, expected = actual.astype(mx.float32), expected.astype(mx.float32)
    return bool(mx.allclose(actual, expected, rtol=tolerance, atol=tolerance, equal_nan=True))


@pytest.fixture(scope="module")
def shares():
    """One of everything: two inputs, a weight, a value for each row, a scalar."""
    return zmlx.row_kernel(
        "e = exp(min(x, limit) * t - y); e / sum(e) * w",
        inputs=("x", "y"),
        weights=("w",),
        per_row=("t",),
        scalars={"limit": 1.5},
        name="shares",
    )


def _shares(x, y, w, t, limit=1.5):
    import mlx.core as mx

    x, y, w, t = (array.astype(mx.float32) for array in (x, y, w, t))
    e = mx.exp(mx.minimum(x, limit) * t[..., None] - y)
    return e / mx.sum(e, axis=-1, keepdims=True) * w


@pytest.mark.parametrize("traced", [False, True], ids=["called", "compiled"])
def test_a_peak_passes_over_nan_and_is_a_constant_to_gradients(traced):
    import mlx.core as mx

    peaks = zmlx.row_kernel("top = peak(x); y = top * sum(x if x > 0 else 0.0)", name="peaks")
    x = mx.array([[1.0, math.nan, 3.0, -2.0], [math.nan] * 4, [-5.0, -4.0, -math.inf, -9.0]])
    call = mx.compile(peaks) if traced else peaks
    assert call(x).tolist()[::2] == [12.0, -0.0]
    assert math.isnan(call(x).tolist()[1])  # the peak is minus infinity, the sum nothing
    _, (gradient,) = mx.vjp(call, [x], [mx.ones((3,))])
    assert gradient.tolist()[0] == [3.0, 0.0, 3.0, 0.0]


@pytest.mark.parametrize("traced", [False, True], ids=["called", "compiled"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_one_element_of_a_row(dtype, traced):
    import mlx.core as mx

    pick = zmlx.row_kernel(
        "y = at(x, place) * at(w, 1) + mean(x); z = x * at(x, 2)",
        weights=("w",),
        per_row=("place",),
        results=("y", "z"),
        name="pick",
    )
    x = mx.arange(20, dtype=mx.float32).reshape(5, 4).astype(getattr(mx, dtype))
    w = mx.array([1.0, 3.0, 1.0, 1.0])
    place = mx.array([0, 3, -1, 4, 1])
    call = mx.compile(pick) if traced else pick
    y, z = call(x, w, place)
    assert y.tolist()[:2] == [0.0 * 3 + 1.5, 7.0 * 3 + 5.5]
    assert [math.isnan(value) for value in y.tolist()] == [False, False, True, True, False]
    assert z.tolist() == (x * x[:, 2:3]).tolist()
    ones, zeros = mx.ones(y.shape, y.dtype), mx.zeros(z.shape, z.dtype)
    _, (by_x, by_w) = mx.vjp(lambda x, w: call(x, w, place), [x, w], [ones, zeros])
    assert by_x.tolist()[:2] == [[3.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 3.25]]
    assert by_x.tolist()[2] == [0.25] * 4  # no element has that place
    assert math.isnan(by_w.tolist()[1])


def test_an_element_has_a_whole_number_for_its_place():
    import mlx.core as mx

    pick = zmlx.row_kernel("y = at(x, place)", per_row=("place",), name="pick")
    x = mx.array([[1.0, 2.0, 3.0]] * 6)
    found = pick(x, mx.array([0.0, 1.5, 2.0, -0.0, math.inf, math.nan])).tolist()
    assert found[0] == found[3] == 1.0
    assert found[2] == 3.0
    assert [math.isnan(value) for value in found] == [False, True, False, False, True, True]
    for call in (pick, mx.compile(pick)):
        assert math.isnan(call(mx.zeros((1, 0)), mx.zeros((1,))).item())


#: Of x, y and t; the weight has x's last extent.
SHAPES = {
    "equal": ((3, 4, 5), (3, 4, 5), (3, 4)),
    "leading_axes_fewer": ((3, 4, 5), (4, 5), (4,)),
    "middle": ((3, 4, 5), (3, 1, 5), (3, 1)),
    "one_row": ((3, 4, 5), (5,), (1,)),
    "column": ((3, 4, 5), (3, 4, 1), (1, 1)),
    "numbers": ((3, 4, 5), (), ()),
    "both_ends": ((2, 3, 4, 5), (3, 1, 5), (1, 4)),
    "vector": ((5,), (5,), ()),
    "many_rows": ((300, 7), (7,), (300,)),
    "long": ((2, 70001), (70001,), (2,)),
    "single": ((1, 1), (1,), (1,)),
    "no_rows": ((0, 5), (5,), (0,)),
    "empty_rows": ((3, 0), (3, 0), (3,)),
}


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtypes", [("float32",) * 4, ("float16", "float32", "bfloat16", "float16")])
def test_values_and_gradients(shares, shapes, dtypes):
    """Shapes and dtypes too: the result has those of the first array, each gradient those of its own."""
    import mlx.core as mx

    x, y, t = shapes
    arrays = [_array(s, n, d) for n, (s, d) in enumerate(zip((x, y, x[-1:], t), dtypes, strict=True))]
    tolerance = 1e-4 if dtypes[0] == "float32" else 2e-2
    actual, expected = shares(*arrays), _shares(*arrays)
    assert actual.dtype == arrays[0].dtype
    assert _close(actual, expected, tolerance)
    cotangent = mx.sin(mx.arange(expected.size)).reshape(expected.shape)
    slopes = mx.vjp(shares, arrays, [cotangent.astype(actual.dtype)])[1]
    wanted = mx.vjp(_shares, arrays, [cotangent])[1]
    for slope, truth, array in zip(slopes, wanted, arrays, strict=True):
        assert slope.dtype == array.dtype
        assert _close(slope, truth, tolerance)


def test_gradients_are_finite_differences(shares):
    """In float64, from the formula itself: nothing of MLX's differentiation is in it."""
    import mlx.core as mx

    arrays = [np.random.default_rng(n).normal(size=s) for n, s in enumerate([(2, 5), (5,), (5,), (2,)])]
    cotangent = np.sin(np.arange(10)).reshape(2, 5)

    def weighted(x, y, w, t):
        e = np.exp(np.minimum(x, 1.5) * t[:, None] - y)
        return float((e / e.sum(-1, keepdims=True) * w * cotangent).sum())

    def slope(position, index):
        values = []
        for step in (1e-6, -1e-6):
            moved = [array.copy() for array in arrays]
            moved[position][index] += step
            values.append(weighted(*moved))
        return (values[0] - values[1]) / 2e-6

    given = [mx.array(array.astype(np.float32)) for array in arrays]
    kernel = zmlx.row_kernel(
        "e = exp(min(x, 1.5) * t - y); e / sum(e) * w", inputs=("x", "y"), weights=("w",), per_row=("t",)
    )
    found = mx.vjp(kernel, given, [mx.array(cotangent.astype(np.float32))])[1]
    for position, (gradient, array) in enumerate(zip(found, arrays, strict=True)):
        wanted = [slope(position, index) for index in np.ndindex(array.shape)]
        np.testing.assert_allclose(np.array(gradient).ravel(), wanted, rtol=1e-4, atol=1e-5)


def test_a_second_derivative_and_a_tangent(shares):
    import mlx.core as mx

    arrays = [_array(s, n) for n, s in enumerate([(3, 5), (3, 5), (5,), (3,)])]

    def squared_slopes(function):
        return lambda x: mx.square(mx.grad(lambda x: mx.sin(function(x, *arrays[1:])).sum())(x)).sum()

    actual, expected = (mx.grad(squared_slopes(f))(arrays[0]) for f in (shares, _shares))
    assert _close(actual, expected, 1e-3)
    (tangent,), (truth,) = (mx.jvp(f, arrays, arrays)[1] for f in (shares, _shares))
    assert _close(tangent, truth)


def test_views_and_compile(shares):
    import mlx.core as mx

    wide = _array((5, 4, 6), 0)
    for x in (wide.transpose(2, 1, 0), wide[::2, ::-1, 1:], mx.broadcast_to(wide[:1], (3, 4, 6))):
        arrays = [x, x, _array(2 * x.shape[-1], 1)[::2], _array(x.shape[:-1][::-1], 2).transpose()]
        assert _close(shares(*arrays), _shares(*arrays))
        assert _close(mx.compile(shares)(*arrays), _shares(*arrays))


MAPPED = (
    (0, 0, None, 0),
    (1, None, None, None),
    (None, 0, None, None),
    (None, None, None, 0),
    (None, None, 0, None),
    (0, 0, 0, 0),
)


@pytest.mark.cpu
@pytest.mark.parametrize("axes", MAPPED)
def test_vmap(shares, axes):
    """Of values and of gradients, over any of the arrays; MLX refuses it of custom kernels on a GPU."""
    import mlx.core as mx

    shapes = ((6, 5), (6, 5), (5,), (6,))
    arrays = [
        _array(s if axis is None else (*s[:axis], 4, *s[axis:]), n)
        for n, (s, axis) in enumerate(zip(shapes, axes, strict=True))
    ]

    def slopes(function):
        return lambda *a: mx.grad(lambda *b: mx.sin(function(*b)).sum(), argnums=(0, 1, 2, 3))(*a)

    mapped = mx.vmap(shares, in_axes=axes)
    if current_backend() != "cpu":
        with pytest.raises(ValueError, match="Not implemented for CustomKernel"):
            mapped(*arrays)
        return
    assert _close(mapped(*arrays), mx.vmap(_shares, in_axes=axes)(*arrays))
    found, wanted = (mx.vmap(slopes(f), in_axes=axes)(*arrays) for f in (shares, _shares))
    assert all(_close(a, b) for a, b in zip(found, wanted, strict=True))


def test_results_of_elements_and_of_rows():
    import mlx.core as mx

    kernel = zmlx.row_kernel(
        "m = mean(x); v = mean((x - m) ** 2); y = (x - m) / sqrt(v + 1e-5)",
        results=("y", "m", "v"),
        dtypes={"v": mx.float32},
    )

    def plain(x):
        x = x.astype(mx.float32)
        m, v = mx.mean(x, axis=-1), mx.var(x, axis=-1)
        return (x - m[..., None]) / mx.sqrt(v[..., None] + 1e-5), m, v

    x = _array((4, 6, 5), 0)
    assert all(_close(a, b) for a, b in zip(kernel(x), plain(x), strict=True))
    cotangents = [_array((4, 6, 5), 1), _array((4, 6), 2), _array((4, 6), 3)]
    assert _close(*(mx.vjp(f, [x], cotangents)[1][0] for f in (kernel, plain)))
    assert [result.dtype for result in kernel(x.astype(mx.float16))] == [mx.float16, mx.float16, mx.float32]
    if current_backend() == "cpu":
        mapped = (mx.vmap(f, in_axes=1)(x) for f in (kernel, plain))
        assert all(_close(a, b) for a, b in zip(*mapped, strict=True))


@pytest.mark.parametrize(
    ("formula", "of_nothing"),
    [("sum(x)", 0.0), ("max(x)", -math.inf), ("min(x)", math.inf), ("mean(x)", math.nan), ("length", 0.0)],
)
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (2, 0, 3), (0,)])
def test_arrays_without_elements(formula, of_nothing, shape):
    import mlx.core as mx

    kernel = zmlx.row_kernel(formula)
    x = mx.zeros(shape)
    assert _close(kernel(x), mx.full(shape[:-1], of_nothing))
    assert mx.vjp(kernel, [x], [mx.ones(shape[:-1])])[1][0].shape == shape


def test_places_conditions_and_constants():
    import mlx.core as mx

    x = _array((3, 7), 0)
    first = zmlx.row_kernel("x if column < length / 2 else 0 * detach(x)")
    mask = mx.arange(7) < 3.5
    assert _close(first(x), mx.where(mask, x, 0))
    assert _close(mx.grad(lambda x: first(x).sum())(x), mx.broadcast_to(mask.astype(mx.float32), (3, 7)))
    masked = zmlx.row_kernel("sum(x if m > 0 else 0)", inputs=("x", "m"))
    assert _close(masked(x, x > 0), mx.sum(mx.maximum(x, 0), axis=-1))
    by_row = zmlx.row_kernel("x * t", per_row=("t",))
    assert _close(by_row(x, mx.array([1, 2, 3])), x * mx.array([[1.0], [2.0], [3.0]]))


def test_scalars_are_arguments(shares):
    """Another value launches the kernel that is there; names alone have no default."""
    import mlx.core as mx

    from zmlx.launch import watch

    arrays = [_array(s, n) for n, s in enumerate([(3, 5), (3, 5), (5,), (3,)])]
    with watch() as launches:
        for limit in (-0.5, 0, math.inf):
            assert _close(shares(*arrays, limit=limit), _shares(*arrays, limit=limit))
    assert len(launches) == 3
    assert len({record.signature.metal_text() for record in launches}) == 1
    scaled = zmlx.row_kernel("x * a", scalars=("a",))
    assert mx.array_equal(scaled(mx.ones((2, 2)), a=3), mx.full((2, 2), 3.0))


def test_random_numbers_are_of_seed_row_and_column():
    import mlx.core as mx

    drop = zmlx.row_kernel("x if uniform(seed) > 0.5 else 0", scalars=("seed",))
    x = mx.ones((40, 50))
    kept = drop(x, seed=2**63 + 5)
    assert mx.array_equal(kept, drop(x, seed=2**63 + 5))
    assert not mx.array_equal(kept, drop(x, seed=5))
    assert 800 < kept.sum().item() < 1200
    # Fewer rows have the same numbers, and so has the gradient.
    assert mx.array_equal(kept[:3], drop(x[:3], seed=2**63 + 5))
    assert mx.array_equal(mx.grad(lambda x: drop(x, seed=2**63 + 5).sum())(x), kept)


@pytest.mark.parametrize("formula", ["x * w", "y = x * w"])
def test_a_gradient_by_formula(formula):
    """What is given counts, though it be another than the derived one; the result needs no name for it."""
    import mlx.core as mx

    kernel = zmlx.row_kernel(
        formula, weights=("w",), scalars={"a": 2.0}, grad="h = a * g * w; d_x = h; d_w = h * x"
    )
    x, w = _array((3, 5), 0), _array((5,), 1)
    by_x, by_w = mx.vjp(lambda x, w: kernel(x, w, a=3.0), [x, w], [mx.ones((3, 5))])[1]
    assert _close(by_x, mx.broadcast_to(3 * w, (3, 5)))
    assert _close(by_w, 3 * mx.sum(w * x, axis=0))


def test_arrays_without_gradient():
    import mlx.core as mx

    kernel = zmlx.row_kernel("x * w", weights=("w",), differentiable=("w",))
    x, w = _array((3, 5), 0), _array((5,), 1)
    by_x, by_w = mx.vjp(kernel, [x, w], [mx.ones((3, 5))])[1]
    assert mx.array_equal(by_x, mx.zeros((3, 5)))
    assert _close(by_w, mx.sum(x, axis=0))


DECLARATIONS = {
    "no_input": (
        lambda make: make("2", inputs=()),
        ValueError,
        "[row_kernel] Expected `inputs` to name one array at least, which gives the shape; got none.",
    ),
    "letters": (
        lambda make: make("ab", inputs="ab"),
        TypeError,
        "[row_kernel] Expected `inputs` to be a sequence of names, got the text 'ab'. Pass ('ab',).",
    ),
    "twice": (
        lambda make: make("x * x", weights=("x",)),
        ValueError,
        "[row_kernel] Expected each name of arguments once, got 'x' again. Leave it out.",
    ),
    "reserved": (
        lambda make: make("row", inputs=("row",)),
        ValueError,
        (
            "[row_kernel] Expected names of arguments other than column, inf, length, nan, row, which formulas know; "
            "got 'row'. Rename it."
        ),
    ),
    "keyword": (
        lambda make: make("x", inputs=("x", "class")),
        ValueError,
        (
            "[row_kernel] Expected identifiers, which are ASCII and no words of Python, as names of arguments; got "
            "'class'. Rename it."
        ),
    ),
    "name": (
        lambda make: make("x", name="a b"),
        ValueError,
        (
            "[row_kernel] Expected `name` to be letters, digits and underscores, which kernels' names are made of, "
            "got 'a b'."
        ),
    ),
    "at_of_an_expression": (
        lambda make: make("y = at(x + 1, t)", per_row=("t",)),
        ValueError,
        (
            "[row_kernel] Expected at() to have the name of an input or a weight first in 'at(x + 1, t)'. "
            "The formula: 'y = at(x + 1, t)'."
        ),
    ),
    "at_many_places": (
        lambda make: make("y = at(x, column)"),
        ValueError,
        (
            "[row_kernel] Expected at() to have one place for the whole row in 'at(x, column)'. "
            "The formula: 'y = at(x, column)'."
        ),
    ),
    "at_nowhere": (
        lambda make: make("y = at(x)"),
        ValueError,
        "[row_kernel] Expected at() to have 2 argument(s), got 1 in 'at(x)'. The formula: 'y = at(x)'.",
    ),
    "unused_scalar": (
        lambda make: make("x", scalars={"a": 1.0}),
        ValueError,
        "[row_kernel] Expected the formula to use the scalar 'a', got 'x'. Leave it out of `scalars`.",
    ),
    "default": (
        lambda make: make("a * x", scalars={"a": "1"}),
        TypeError,
        "[row_kernel] Expected `a` to be a number, got str. Pass a float.",
    ),
    "result_twice": (
        lambda make: make("y = x", results=("y", "y")),
        ValueError,
        "[row_kernel] Expected each name of results once, got 'y' again. Leave it out.",
    ),
    "differentiable": (
        lambda make: make("x", differentiable=("z",)),
        ValueError,
        "[row_kernel] Expected `differentiable` to name arrays, which are x; got 'z'.",
    ),
    "dtypes": (
        lambda make: make("y = x", dtypes={"z": None}),
        ValueError,
        "[row_kernel] Expected `dtypes` to name results, which are y; got 'z'.",
    ),
    "cotangent": (
        lambda make: make("y = x * g_y", inputs=("x", "g_y")),
        ValueError,
        (
            "[row_kernel] Expected no argument or line called 'g_y': in `grad` it is the gradient of the result. "
            "Rename it."
        ),
    ),
    "gradient_missing": (
        lambda make: make("x * w", weights=("w",), name="f", grad="d_x = g * w"),
        ValueError,
        "[f, grad] Expected a line that defines the result 'd_w'. The formula: 'd_x = g * w'.",
    ),
    "gradient_unknown": (
        lambda make: make("x * 2", name="f", grad="d_x = q"),
        ValueError,
        "[f, grad] Expected one of the names column, g, g_out, length, x, got 'q' in 'q'. The formula: 'd_x = q'.",
    ),
    "seed": (
        lambda make: make("x * uniform(3)"),
        ValueError,
        (
            "[row_kernel] Expected uniform() to have a scalar's name for its seed, got 3.0. "
            "The formula: 'x * uniform(3)'."
        ),
    ),
    "seed_default": (
        lambda make: make("x * uniform(s)", scalars={"s": 3}),
        ValueError,
        (
            "[row_kernel] Expected no default of the seed 's', got 3: calls with one seed have the same numbers. "
            "Pass None."
        ),
    ),
    "seed_as_number": (
        lambda make: make("x * uniform(s) + s", scalars=("s",)),
        ValueError,
        (
            "[row_kernel] Expected 's' in uniform() only, whose seed it is, got it as a number too. Declare another "
            "scalar. The formula: 'x * uniform(s) + s'."
        ),
    ),
}


@pytest.mark.parametrize(("call", "kind", "message"), DECLARATIONS.values(), ids=DECLARATIONS)
def test_what_a_declaration_must_be(call, kind, message):
    with pytest.raises(kind) as raised:
        call(zmlx.row_kernel)
    assert str(raised.value) == message


CALLS = {
    "count": (
        lambda f, x: f(x, x),
        TypeError,
        "[shares] Expected 4 arrays (x, y, w, t), got 2. Pass them by position.",
    ),
    "keyword": (
        lambda f, x: f(x, x, x[0], x[:, 0], top=1),
        TypeError,
        "[shares] Expected keyword arguments among limit, got 'top'. Arrays are given by position: x, y, w, t.",
    ),
    "number": (
        lambda f, x: f(x, x, x[0], x[:, 0], limit=True),
        TypeError,
        "[shares] Expected `limit` to be a number, got bool. Pass a float.",
    ),
    "huge": (
        lambda f, x: f(x, x, x[0], x[:, 0], limit=2**1024),
        ValueError,
        "[shares] Expected `limit` to be in the range of float, got an integer of 1025 bits.",
    ),
    "no_array": (
        lambda f, x: f([1.0], x, x[0], x[:, 0]),
        TypeError,
        "[shares] Expected `x` to be an mlx.core.array, got list. Convert it first: mx.array(x).",
    ),
    "number_of_dimensions": (
        lambda f, x: f(x[0, 0], x, x[0], x[:, 0]),
        ValueError,
        (
            "[shares] Expected `x` to have at least one dimension, got a 0-d array. For a single element pass "
            "x.reshape(1)."
        ),
    ),
    "beside": (
        lambda f, x: f(x, x[:, :2], x[0], x[:, 0]),
        ValueError,
        "[shares] Expected `y` to have shape (2, 3), that of `x`, or one that broadcasts to it; got (2, 2).",
    ),
    "weight": (
        lambda f, x: f(x, x, x, x[:, 0]),
        ValueError,
        (
            "[shares] Expected `w` to have shape (3,), one number for each element of a row of `x` (shape (2, 3)), "
            "got (2, 3)."
        ),
    ),
    "per_row": (
        lambda f, x: f(x, x, x[0], x[0]),
        ValueError,
        (
            "[shares] Expected `t` to have shape (2,), one value for each row of `x` (shape (2, 3)), or one that "
            "broadcasts to it; got (3,)."
        ),
    ),
}


@pytest.mark.parametrize(("call", "kind", "message"), CALLS.values(), ids=CALLS)
def test_what_a_call_must_be(shares, call, kind, message):
    import mlx.core as mx

    with pytest.raises(kind) as raised:
        call(shares, mx.ones((2, 3)))
    assert str(raised.value) == message


def test_what_a_seed_must_be():
    import mlx.core as mx

    drop = zmlx.row_kernel("x * uniform(seed)", scalars=("seed",), name="drop")
    for seed, came in ((None, "None"), (2**64, str(2**64)), (1.5, "1.5"), (True, "True")):
        with pytest.raises(TypeError) as raised:
            drop(mx.ones((2, 3)), seed=seed)
        assert str(raised.value) == (
            f"[drop] Expected `seed` to be an integer from 0 to 2**64 - 1, got {came}. "
            "Pass another one for each call that is to have other numbers."
        )


def test_columns_are_numbers_of_float32():
    import mlx.core as mx

    kernel = zmlx.row_kernel("sum(x * column)", name="moment")
    with pytest.raises(ValueError, match="Expected rows of at most") as raised:
        kernel(mx.broadcast_to(mx.array(1.0), (2**24 + 1,)))
    assert str(raised.value) == (
        "[moment] Expected rows of at most 2**24 elements, which float32 can number; `x` has shape (16777217,)."
    )


def test_it_tells_what_it_is(shares):
    assert repr(shares) == "<row_kernel shares: 'e = exp(min(x, limit) * t - y); e / sum(e) * w'>"
    assert shares.__name__ == "shares"
