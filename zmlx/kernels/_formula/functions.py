"""What a formula may call: one table, in which a function has its Metal text, its MLX operation and its gradient.

Also the sums, products and so on from which gradients are made: they leave out what adds zero or multiplies by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from zmlx.kernels._formula.nodes import PICKED, Extent, Node, apply, constant, is_constant, variable

#: The gradient of each argument from (arguments, the function's value, the value's gradient); None: there is none.
Rule = Callable[[tuple[Node, ...], Node, Node], tuple[Node | None, ...]]


@dataclass(frozen=True)
class Function:
    """An entry of the table.

    Attributes
    ----------
    metal
        The text, with ``{0}``, ``{1}`` for the arguments, which are names or numbers; ``T`` is the dtype.
    mlx
        ``mlx(mx, *arguments)`` of float32 arrays.
    rule
        Its gradient.
    parameters
        How many arguments it takes.
    truth
        Whether it is true or false: an argument of ``where`` only.
    doc
        What it is, for the table of the docs; "" for what is written as an operator, or inside only.
    """

    metal: str
    mlx: Callable[..., Any]
    rule: Rule
    parameters: int = 1
    truth: bool = False
    doc: str = ""


def add(a: Node, b: Node) -> Node:
    """Of two products the factors that both begin with leave the sum: a gradient's term of infinity and its opposite
    would otherwise be NaN where the slope is a number."""
    if is_constant(a, 0.0):
        return b
    if is_constant(b, 0.0):
        return a
    for shared, of_a in _beginnings(a):
        for other, of_b in _beginnings(b):
            if shared is other and not is_constant(shared) and (of_a is not ONE or of_b is not ONE):
                return multiply(shared, apply("add", of_a, of_b))
    return apply("add", a, b)


def _beginnings(node: Node) -> Iterator[tuple[Node, Node]]:
    """What a product begins with, and what follows, from the whole of it to its first factor."""
    rest = ONE
    while True:
        yield node, rest
        if node.function != "multiply":
            return
        node, last = node.arguments
        rest = multiply(last, rest)


def subtract(a: Node, b: Node) -> Node:
    if is_constant(a, 0.0):
        return negative(b)
    return a if is_constant(b, 0.0) else apply("subtract", a, b)


def multiply(a: Node, b: Node) -> Node:
    for one, other in ((a, b), (b, a)):
        if is_constant(one, 0.0):
            return one
        if is_constant(one, 1.0):
            return other
        if is_constant(one, -1.0):
            return negative(other)
    if is_constant(a) and is_constant(b):
        return constant(float(a.value) * float(b.value))
    return apply("multiply", a, b)


def divide(a: Node, b: Node) -> Node:
    if is_constant(a, 0.0) or is_constant(b, 1.0):
        return a
    # By a power of two it is the same; by other numbers it is not, to the last bit.
    if is_constant(b) and float(b.value) != 0 and abs(math.frexp(float(b.value))[0]) == 0.5:
        return multiply(a, constant(1 / float(b.value)))
    return apply("divide", a, b)


def negative(a: Node) -> Node:
    if is_constant(a):
        return constant(-float(a.value))
    return a.arguments[0] if a.function == "negative" else apply("negative", a)


def where(condition: Node, a: Node, b: Node) -> Node:
    return a if a is b else apply("where", condition, a, b)


def square(a: Node) -> Node:
    return multiply(a, a)


def row_sum(a: Node) -> Node:
    """The sum over the row; factors that all its elements share leave the sum."""
    varying, shared = _factors(a)
    return multiply(shared, variable_length() if varying is None else apply("row_sum", varying))


def _factors(a: Node) -> tuple[Node | None, Node]:
    """A product as what varies from element to element (None: nothing does), and what does not."""
    if a.extent < Extent.ELEMENT:
        return None, a
    if a.function == "negative":
        varying, shared = _factors(a.arguments[0])
        return varying, negative(shared)
    if a.function == "multiply":
        (left, of_left), (right, of_right) = map(_factors, a.arguments)
        both = multiply(left, right) if left and right else left or right
        return both, multiply(of_left, of_right)
    if a.function == "divide" and a.arguments[1].extent < Extent.ELEMENT:
        varying, shared = _factors(a.arguments[0])
        return varying, divide(shared, a.arguments[1])
    return a, ONE


def variable_length() -> Node:
    """The number of elements in a row."""
    return variable("length", Extent.UNIFORM)


def uniform(seed: Node) -> Node:
    """A number from 0 to 1 that depends on the seed and the element's place alone."""
    return apply("uniform", seed, variable("row", Extent.ROW), column_index())


def picked(x: Node, place: Node) -> Node:
    """The element of a row whose `column_index` is ``place``; NaN where there is none."""
    return apply(PICKED, x, place, column_index())


def column_index() -> Node:
    """Which of its row's elements it is."""
    return variable("column", Extent.ELEMENT)


ZERO, ONE, TWO = constant(0.0), constant(1.0), constant(2.0)
#: 1 / sqrt(2 pi), and 2 / sqrt(pi).
DENSITY, SLOPE_OF_ERF = constant(1 / math.sqrt(2 * math.pi)), constant(2 / math.sqrt(math.pi))


def _none(count: int) -> Rule:
    return lambda a, y, dy: (None,) * count


def _power(a: tuple[Node, ...], y: Node, dy: Node) -> tuple[Node | None, ...]:
    x, n = a
    by_x = multiply(dy, multiply(n, apply("power", x, subtract(n, ONE))))
    return by_x, None if is_constant(n) else multiply(dy, multiply(y, apply("log", x)))


def _extremum(a: tuple[Node, ...], y: Node, dy: Node) -> tuple[Node, ...]:
    """Divided among the elements that are equal to it."""
    (x,) = a
    here = apply("equal", x, y)
    count = row_sum(where(here, ONE, ZERO))
    return (where(here, divide(dy, count), ZERO),)


def not_a_number(mx: Any) -> Any:
    """NaN as an array. mx.compile of MLX 0.30 writes the constant as `nan`, which is a function in C++."""
    return mx.array(math.inf) - mx.array(math.inf)


def _peak(mx: Any, a: Any) -> Any:
    numbers = mx.where(a == a, a, -math.inf)
    return mx.stop_gradient(mx.max(numbers, axis=-1, keepdims=True))


def _picked_of(mx: Any, x: Any, place: Any, column: Any) -> Any:
    here = column == place
    found = mx.sum(mx.where(here, x, 0.0), axis=-1, keepdims=True)
    return mx.where(mx.any(here, axis=-1, keepdims=True), found, not_a_number(mx))


def _uniform_of(seed: Any, row: Any, column: Any) -> Any:
    from zmlx.kernels._random import uniforms

    return uniforms(seed, row, column)


def _comparison(sign: str, name: str) -> Function:
    return Function(
        f"({{0}} {sign} {{1}})", lambda mx, a, b: getattr(mx, name)(a, b), _none(2), 2, truth=True
    )


FUNCTIONS: dict[str, Function] = {
    "add": Function("({0} + {1})", lambda mx, a, b: a + b, lambda a, y, dy: (dy, dy), 2),
    "subtract": Function("({0} - {1})", lambda mx, a, b: a - b, lambda a, y, dy: (dy, negative(dy)), 2),
    "multiply": Function(
        "({0} * {1})", lambda mx, a, b: a * b, lambda a, y, dy: (multiply(dy, a[1]), multiply(dy, a[0])), 2
    ),
    "divide": Function(
        "zmlx_ratio<T>({0}, {1})",
        lambda mx, a, b: a / b,
        lambda a, y, dy: (divide(dy, a[1]), negative(divide(multiply(dy, y), a[1]))),
        2,
    ),
    "negative": Function("(-{0})", lambda mx, a: -a, lambda a, y, dy: (negative(dy),)),
    "power": Function("zmlx_pow<T>({0}, {1})", lambda mx, a, b: mx.power(a, b), _power, 2),
    "less": _comparison("<", "less"),
    "less_equal": _comparison("<=", "less_equal"),
    "greater": _comparison(">", "greater"),
    "greater_equal": _comparison(">=", "greater_equal"),
    "equal": _comparison("==", "equal"),
    "not_equal": _comparison("!=", "not_equal"),
    "both": Function("({0} && {1})", lambda mx, a, b: mx.logical_and(a, b), _none(2), 2, truth=True),
    "either": Function("({0} || {1})", lambda mx, a, b: mx.logical_or(a, b), _none(2), 2, truth=True),
    "opposite": Function("(!{0})", lambda mx, a: mx.logical_not(a), _none(1), truth=True),
    "where": Function(
        "({0} ? {1} : {2})",
        lambda mx, c, a, b: mx.where(c, a, b),
        lambda a, y, dy: (None, where(a[0], dy, ZERO), where(a[0], ZERO, dy)),
        3,
        doc="``where(condition, a, b)``: a where the condition holds, else b",
    ),
    "exp": Function(
        "zmlx_exp<T>({0})",
        lambda mx, a: mx.exp(a),
        lambda a, y, dy: (multiply(dy, y),),
        doc="the exponential",
    ),
    "expm1": Function(
        "zmlx_expm1<T>({0})",
        lambda mx, a: mx.expm1(a),
        # y + 1 cancels where y is near -1.
        lambda a, y, dy: (multiply(dy, apply("exp", a[0])),),
        doc="``exp(x) - 1``, exact near zero",
    ),
    "log": Function(
        "zmlx_log<T>({0})",
        lambda mx, a: mx.log(a),
        lambda a, y, dy: (divide(dy, a[0]),),
        doc="the natural logarithm",
    ),
    "log1p": Function(
        "zmlx_log1p<T>({0})",
        lambda mx, a: mx.log1p(a),
        lambda a, y, dy: (divide(dy, add(ONE, a[0])),),
        doc="``log(1 + x)``, exact near zero",
    ),
    "sqrt": Function(
        "sqrt({0})",
        lambda mx, a: mx.sqrt(a),
        lambda a, y, dy: (divide(multiply(dy, constant(0.5)), y),),
        doc="the square root",
    ),
    "rsqrt": Function(
        "rsqrt({0})",
        lambda mx, a: mx.rsqrt(a),
        lambda a, y, dy: (multiply(multiply(dy, constant(-0.5)), multiply(y, square(y))),),
        doc="``1 / sqrt(x)``",
    ),
    "sin": Function(
        "sin({0})",
        lambda mx, a: mx.sin(a),
        lambda a, y, dy: (multiply(dy, apply("cos", a[0])),),
        doc="the sine",
    ),
    "cos": Function(
        "cos({0})",
        lambda mx, a: mx.cos(a),
        lambda a, y, dy: (negative(multiply(dy, apply("sin", a[0]))),),
        doc="the cosine",
    ),
    "tanh": Function(
        "zmlx_tanh<T>({0})",
        lambda mx, a: mx.tanh(a),
        # 1 - y * y cancels where y is near one: (1 - y) (1 + y) does not make it worse.
        lambda a, y, dy: (multiply(dy, multiply(subtract(ONE, y), add(ONE, y))),),
        doc="the hyperbolic tangent",
    ),
    "sigmoid": Function(
        "zmlx_sigmoid<T>({0})",
        lambda mx, a: mx.sigmoid(a),
        lambda a, y, dy: (multiply(dy, multiply(y, subtract(ONE, y))),),
        doc="``1 / (1 + exp(-x))``",
    ),
    "erf": Function(
        "zmlx_erf<T>({0})",
        lambda mx, a: mx.erf(a),
        lambda a, y, dy: (multiply(dy, multiply(SLOPE_OF_ERF, apply("exp", negative(square(a[0]))))),),
        doc="the error function",
    ),
    "normal_cdf": Function(
        "zmlx_normal_at<T>({0}).integral",
        lambda mx, a: 0.5 * (1 + mx.erf(a * math.sqrt(0.5))),
        lambda a, y, dy: (multiply(dy, multiply(DENSITY, apply("normal_density", a[0]))),),
        doc="the normal distribution's integral up to x, to full relative precision in its tail",
    ),
    "normal_density": Function(
        "zmlx_normal_at<T>({0}).density",
        lambda mx, a: mx.exp(-0.5 * a * a),
        lambda a, y, dy: (negative(multiply(dy, multiply(a[0], y))),),
        doc="``exp(-x * x / 2)``",
    ),
    "abs": Function(
        "fabs({0})",
        lambda mx, a: mx.abs(a),
        lambda a, y, dy: (multiply(dy, apply("sign", a[0])),),
        doc="the magnitude",
    ),
    "sign": Function("zmlx_sign({0})", lambda mx, a: mx.sign(a), _none(1), doc="-1, 0 or 1; NaN of NaN"),
    "max": Function(
        "zmlx_greater({0}, {1})",
        lambda mx, a, b: mx.maximum(a, b),
        lambda a, y, dy: (
            where(apply("greater", a[0], a[1]), dy, ZERO),
            where(apply("greater", a[0], a[1]), ZERO, dy),
        ),
        2,
        doc="``max(a, b)``: the greater, NaN if one is; of equal ones the second has the gradient",
    ),
    "min": Function(
        "zmlx_lesser({0}, {1})",
        lambda mx, a, b: mx.minimum(a, b),
        lambda a, y, dy: (
            where(apply("less", a[0], a[1]), dy, ZERO),
            where(apply("less", a[0], a[1]), ZERO, dy),
        ),
        2,
        doc="``min(a, b)``: the lesser, NaN if one is; of equal ones the second has the gradient",
    ),
    "detach": Function(
        "{0}",
        lambda mx, a: mx.stop_gradient(a),
        _none(1),
        doc="x, which gradients take for a constant",
    ),
    "row_sum": Function("", lambda mx, a: mx.sum(a, axis=-1, keepdims=True), lambda a, y, dy: (dy,)),
    "row_max": Function("", lambda mx, a: mx.max(a, axis=-1, keepdims=True), _extremum),
    "row_min": Function("", lambda mx, a: mx.min(a, axis=-1, keepdims=True), _extremum),
    "row_peak": Function("", lambda mx, a: _peak(mx, a), _none(1)),
    PICKED: Function(
        "({1} >= 0.0f && {1} < extent && floor({1}) == {1} ? static_cast<float>({0}[uint({1})]) : NAN)",
        _picked_of,
        lambda a, y, dy: (where(apply("equal", a[2], a[1]), dy, ZERO), None, None),
        3,
    ),
    "uniform": Function("", lambda mx, seed, row, column: _uniform_of(seed, row, column), _none(3), 3),
}

#: What an empty row is reduced to.
OF_NOTHING = {
    "row_sum": 0.0,
    "row_max": -math.inf,
    "row_min": math.inf,
    "row_peak": -math.inf,
    PICKED: math.nan,
}

#: Functions that the kernel of a row has for a whole chunk at a time -> what it calls.
CHUNK_FUNCTIONS = {"uniform": "zmlx_uniforms"}

#: Functions that are written in the language itself.
MACROS: dict[str, Callable[..., Node]] = {
    "square": square,
    "relu": lambda x: apply("max", x, ZERO),
    "silu": lambda x: multiply(x, apply("sigmoid", x)),
    "softplus": lambda x: add(apply("max", x, ZERO), apply("log1p", apply("exp", negative(apply("abs", x))))),
    "clip": lambda x, low, high: apply("min", apply("max", x, low), high),
}

#: What they are, for the table of the docs.
MACRO_DOCS = {
    "square": "``x * x``",
    "relu": "``max(x, 0)``",
    "silu": "``x * sigmoid(x)``",
    "softplus": "``log(1 + exp(x))``, for large numbers too",
    "clip": "``clip(x, low, high)``: x, or the limit that it is beyond",
}

#: The same over a row, in `zmlx.row_kernel`. Some are functions of an element with another number of arguments.
ROW_MACROS: dict[str, Callable[..., Node]] = {
    "sum": row_sum,
    "mean": lambda x: divide(row_sum(x), variable_length()),
    "max": lambda x: apply("row_max", x),
    "min": lambda x: apply("row_min", x),
    "peak": lambda x: apply("row_peak", x),
    "at": picked,
    "uniform": uniform,
}

#: Names that are numbers.
NUMBERS = {"inf": math.inf, "nan": math.nan}
