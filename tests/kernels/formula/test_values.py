"""What formulas compute: as Metal, as MLX operations, and their gradients, against float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zmlx.kernels._formula import adjoints, constant, parse, variable
from zmlx.kernels._formula.functions import FUNCTIONS, MACROS, ZERO
from zmlx.kernels._formula.metal import literal, statements
from zmlx.kernels._formula.nodes import Extent, apply, ordered
from zmlx.testing.tolerance import ulp_distance

pytestmark = pytest.mark.usefixtures("mx_device")

X = np.array([-3.1, -1.25, -0.7, -0.3, -1e-3, 1e-4, 0.2, 0.34, 0.36, 0.49, 0.51, 0.9, 1.6, 2.4, 4.0])
Y = np.array([0.7, -0.2, 1.1, 0.3, -1.0, 0.4, 0.9, -1.3, 2.2, 0.8, 0.6, -0.5, 1.9, 0.1, 3.0])

_erf = np.vectorize(math.erf)

#: Formula -> the same in float64, for x and y.
FORMULAS = {
    "exp(x)": lambda x, y: np.exp(x),
    "expm1(x)": lambda x, y: np.expm1(x),
    "log(abs(x))": lambda x, y: np.log(np.abs(x)),
    "log1p(x * x)": lambda x, y: np.log1p(x * x),
    "sqrt(abs(x))": lambda x, y: np.sqrt(np.abs(x)),
    "rsqrt(abs(x))": lambda x, y: 1 / np.sqrt(np.abs(x)),
    "sin(x) * cos(y)": lambda x, y: np.sin(x) * np.cos(y),
    "tanh(x)": lambda x, y: np.tanh(x),
    "sigmoid(x)": lambda x, y: 1 / (1 + np.exp(-x)),
    "erf(x)": lambda x, y: _erf(x),
    "normal_cdf(x)": lambda x, y: 0.5 * (1 + _erf(x / math.sqrt(2))),
    "normal_density(x)": lambda x, y: np.exp(-x * x / 2),
    "sign(x) * y": lambda x, y: np.sign(x) * y,
    "max(x, y) - min(x, 2 * y)": lambda x, y: np.maximum(x, y) - np.minimum(x, 2 * y),
    "where(x > y, x * y, x - y)": lambda x, y: np.where(x > y, x * y, x - y),
    "x if 0 < x <= 2 or not y > 0 else y": lambda x, y: np.where((x > 0) & (x <= 2) | (y <= 0), x, y),
    "x if x >= 0 and y < 1 and y != 3 else y": lambda x, y: np.where((x >= 0) & (y < 1) & (y != 3), x, y),
    "y if x == 4 else -x": lambda x, y: np.where(x == 4, y, -x),
    "abs(x) ** y": lambda x, y: np.abs(x) ** y,
    "x / (y - 5)": lambda x, y: x / (y - 5),
    "relu(x) + silu(y)": lambda x, y: np.maximum(x, 0) + y / (1 + np.exp(-y)),
    "softplus(x) + square(y)": lambda x, y: np.logaddexp(0, x) + y * y,
    "clip(x, -1, 2.5) * y": lambda x, y: np.clip(x, -1, 2.5) * y,
}


#: So many results a kernel has at most: Metal's limit on buffers, with the gradient's shapes.
TOGETHER = 8
GROUPS = [list(FORMULAS)[start : start + TOGETHER] for start in range(0, len(FORMULAS), TOGETHER)]


def _made(texts):
    """Formulas as one function, whose kernels are compiled once."""
    from zmlx.kernels._elementwise import elementwise

    lines = {f"r{number}": text for number, text in enumerate(texts)}
    text = "; ".join(f"{name} = {text}" for name, text in lines.items())
    return elementwise(text, inputs=("x", "y"), results=tuple(lines))


@pytest.mark.parametrize("texts", GROUPS, ids=range(len(GROUPS)))
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_kernels_and_operations_compute_it(texts, dtype):
    import mlx.core as mx

    arrays = [mx.array(a.astype(np.float32)).astype(getattr(mx, dtype)) for a in (X, Y)]
    wide = [np.asarray(a.astype(mx.float32)).astype(np.float64) for a in arrays]
    eps = {"float32": 2e-6, "float16": 1e-3}[dtype]
    made = _made(texts)
    for call, least in ((made, eps / 100), (mx.compile(made), eps)):
        for text, actual in zip(texts, call(*arrays), strict=True):
            assert np.allclose(np.asarray(actual), FORMULAS[text](*wide), rtol=eps, atol=least), text


@pytest.mark.parametrize("texts", GROUPS, ids=range(len(GROUPS)))
def test_gradients_are_slopes(texts):
    """Against central differences in float64."""
    import mlx.core as mx

    made, step = _made(texts), 1e-6
    arrays = [mx.array(a.astype(np.float32)) for a in (X, Y)]
    x, y = (np.asarray(a).astype(np.float64) for a in arrays)
    for number, text in enumerate(texts):
        formula = FORMULAS[text]
        truth = (
            (formula(x + step, y) - formula(x - step, y)) / (2 * step),
            (formula(x, y + step) - formula(x, y - step)) / (2 * step),
        )
        cotangents = [mx.full(X.size, float(place == number)) for place in range(len(texts))]
        smooth = ~(np.isclose(x, 4) & ("== 4" in text))
        for actual, slope in zip(mx.vjp(made, arrays, cotangents)[1], truth, strict=True):
            assert np.allclose(np.asarray(actual)[smooth], slope[smooth], rtol=1e-4, atol=1e-5), text


def test_all_functions_are_tried():
    """What a formula may call, but for what it is not told apart by a number: detach."""
    tried = " ".join(FORMULAS)
    named = {name for name, function in FUNCTIONS.items() if function.doc} | set(MACROS)
    assert {name for name in named if f"{name}(" not in tried} == {"detach"}


def test_what_is_detached_has_no_gradient():
    x = variable("x")
    (node,) = parse("x * detach(exp(x))").results.values()
    (gradient,) = adjoints({node: variable("dy")}, [x])
    assert gradient is apply("multiply", variable("dy"), apply("detach", apply("exp", x)))


def test_no_gradient_is_zero_itself():
    (node,) = parse("x + 1").results.values()
    assert adjoints({node: variable("dy")}, [variable("other")]) == [ZERO]


def test_a_value_of_the_row_collects_what_its_elements_have():
    """Factors that all elements share leave the sum."""
    x, mean, dy = variable("x"), variable("mean", Extent.ROW), variable("dy")
    by_x, by_mean = adjoints({apply("multiply", x, mean): dy}, [x, mean])
    assert by_x is apply("multiply", dy, mean)
    assert by_mean is apply("row_sum", apply("multiply", dy, x))
    (scaled,) = adjoints({apply("multiply", mean, constant(3)): apply("multiply", dy, mean)}, [mean])
    assert "row_sum(dy)" in repr(scaled)


def test_a_text_does_not_tell_when_its_nodes_were_made():
    """It is the key of what was compiled, in every process."""

    def text(first):
        parse(first)
        (node,) = parse("exp(p) * sin(q) + exp(p)").results.values()
        return statements([node], {variable("p"): "p", variable("q"): "q"})[0]

    assert text("sin(q) * 2 + exp(p)") == text("exp(p) + 17")
    assert text("p") == (
        "    const float z2 = zmlx_exp<T>(p);\n"
        "    const float z3 = sin(q);\n"
        "    const float z4 = (z2 * z3);\n"
        "    const float z5 = (z4 + z2);\n"
    )


def test_what_is_known_is_not_computed_again():
    (node,) = parse("h = exp(u); h * u").results.values()
    exp = apply("exp", variable("u"))
    assert ordered([node], {exp: "e", variable("u"): "u"}) == [node]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0f"),
        (0.1, "0.1f"),
        (-2.5, "(-2.5f)"),
        (-0.0, "(-0.0f)"),
        (1e30, "1e+30f"),
        (math.inf, "INFINITY"),
        (-math.inf, "(-INFINITY)"),
        (math.nan, "NAN"),
    ],
)
def test_numbers_read_back(value, text):
    assert literal(value).replace("(-0f)", "(-0.0f)") == text


def test_small_numbers_keep_their_digits():
    """Where the plain formula would cancel; in 16 bits as in 32."""
    import mlx.core as mx

    from zmlx.kernels._elementwise import elementwise

    functions = {"expm1": np.expm1, "log1p": np.log1p, "tanh": np.tanh, "erf": _erf}
    call = elementwise(
        "; ".join(f"r_{name} = {name}(x)" for name in functions), results=[f"r_{n}" for n in functions]
    )
    x = np.concatenate([10.0 ** -np.arange(1, 8), -(10.0 ** -np.arange(1, 8)), np.linspace(-0.6, 0.6, 101)])
    for dtype, most in (("float32", 4), ("float16", 1)):
        given = mx.array(x.astype(np.float32)).astype(getattr(mx, dtype))
        wide = np.asarray(given.astype(mx.float32)).astype(np.float64)
        for (name, function), actual in zip(functions.items(), call(given), strict=True):
            assert ulp_distance(np.asarray(actual), function(wide), dtype).max() <= most, (name, dtype)
