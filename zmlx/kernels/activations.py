"""Functions of one array, element by element: each is a formula, from which its kernels are made."""

# The functions here are formulas and docstrings, without bodies.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

import mlx.core as mx

from zmlx.kernels._from_formula import from_formula

__all__ = [
    "elu",
    "exp",
    "gelu_erf",
    "gelu_tanh",
    "log",
    "mish",
    "relu",
    "relu2",
    "sigmoid",
    "silu",
    "softplus",
    "tanh",
]

# 0.5 * (1 + tanh(z)) is sigmoid(2 z), which does not cancel for negative z. Past +-12 the sigmoid is 0 or 1 to the last
# bit, while the cube would go on to overflow.
GELU_TANH = "c = clip({0}, -12, 12); {0} * sigmoid(1.5957691216057308 * c * (1 + 0.044715 * c * c))"


@from_formula("exp(x)")
def exp(x: mx.array) -> mx.array:
    """The exponential, ``exp(x)``."""


@from_formula("log(x)")
def log(x: mx.array) -> mx.array:
    """The natural logarithm, ``log(x)``: minus infinity of zero, NaN of negative numbers."""


# (1 - y) (1 + y) cancels where y is near one.
@from_formula("tanh(x)", grad={"x": "e = exp(-2 * abs(x)); dy * 4 * e / square(1 + e)"})
def tanh(x: mx.array) -> mx.array:
    """The hyperbolic tangent, ``tanh(x)``."""


@from_formula("sigmoid(x)", grad={"x": "e = exp(-abs(x)); dy * e / square(1 + e)"})
def sigmoid(x: mx.array) -> mx.array:
    """The logistic function, ``1 / (1 + exp(-x))``."""


@from_formula("relu(x)")
def relu(x: mx.array) -> mx.array:
    """The rectifier, ``max(x, 0)``. Its gradient at zero is zero."""


@from_formula("square(relu(x))")
def relu2(x: mx.array) -> mx.array:
    """The squared rectifier, ``max(x, 0)**2``.

    So et al., Primer (arXiv:2109.08668), section 3.
    """


@from_formula("x * sigmoid(x)")
def silu(x: mx.array) -> mx.array:
    """The sigmoid linear unit, ``x / (1 + exp(-x))``.

    Elfwing, Uchibe and Doya (arXiv:1702.03118), equation 5. Minus infinity gives NaN, as the formula does.
    """


@from_formula(GELU_TANH.format("x"))
def gelu_tanh(x: mx.array) -> mx.array:
    """GELU in its approximation ``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3)))``.

    Hendrycks and Gimpel, Gaussian Error Linear Units (arXiv:1606.08415), section 2. Minus infinity gives NaN, as the
    formula does.
    """


@from_formula("x * normal_cdf(x)")
def gelu_erf(x: mx.array) -> mx.array:
    """GELU itself, ``x * Phi(x)``, Phi the normal distribution's integral.

    Hendrycks and Gimpel, Gaussian Error Linear Units (arXiv:1606.08415), section 2. It is exact also where ``1 + erf``
    would cancel. Minus infinity gives NaN, as the formula does.
    """


@from_formula("softplus(x)", grad={"x": "dy * sigmoid(x)"})
def softplus(x: mx.array) -> mx.array:
    """The smooth rectifier, ``log(1 + exp(x))``, for large numbers too.

    Dugas et al. 2000, Incorporating Second-Order Functional Knowledge for Better Option Pricing, equation 3.
    """


# tanh(log(1 + u)) is n / (n + 2) with n = u (u + 2), and one to the last bit from x = 20 on.
@from_formula(
    "c = min(x, 20); u = exp(c); n = u * (u + 2); x * (n / (n + 2))",
    grad={"x": "dy * (n / (n + 2) + 4 * c * u * (1 + u) / square(n + 2))"},
)
def mish(x: mx.array) -> mx.array:
    """Mish, ``x * tanh(log(1 + exp(x)))``.

    Misra, Mish: A Self Regularized Non-Monotonic Activation Function (arXiv:1908.08681), equation 1. Minus infinity
    gives NaN, as the formula does.
    """


@from_formula(
    "x if x > 0 else alpha * expm1(min(x, 0))",
    grad={"x": "dy if x > 0 else dy * alpha * exp(min(x, 0))"},
)
def elu(x: mx.array, alpha: float = 1.0) -> mx.array:
    """The exponential linear unit, ``x`` where it is positive, else ``alpha * (exp(x) - 1)``.

    Clevert, Unterthiner and Hochreiter (arXiv:1511.07289), equation 16.
    """
