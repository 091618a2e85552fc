"""Functions of one array, element by element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zmlx.testing.op_db._elementwise import entry, gelu_erf, gelu_tanh, relu2, sigmoid, silu
from zmlx.testing.op_db._shared import Float64Array, ones
from zmlx.testing.opinfo import ErrorInput, SampleInput

_Slopes = tuple[Float64Array, Float64Array]


def _exp(a: Float64Array) -> _Slopes:
    return np.exp(a), np.exp(a)


def _log(a: Float64Array) -> _Slopes:
    return np.log(a), 1 / a


def _tanh(a: Float64Array) -> _Slopes:
    """The derivative, 1 / cosh(a)**2, in a form that neither cancels nor overflows."""
    e = np.exp(-2 * np.abs(a))
    return np.tanh(a), 4 * e / (1 + e) ** 2


def _relu(a: Float64Array) -> _Slopes:
    return np.maximum(a, 0), np.where(a > 0, 1.0, 0.0)


def _softplus(a: Float64Array) -> _Slopes:
    return np.logaddexp(0, a), 1 / (1 + np.exp(-a))


def _mish(a: Float64Array) -> _Slopes:
    """a tanh(softplus(a)); the derivative's limit far above zero."""
    t = np.tanh(np.logaddexp(0, a))
    slope = t + a * ((1 - t * t) / (1 + np.exp(-a)))
    return a * t, np.where(a > 30, 1.0, slope)


def _elu(a: Float64Array, alpha: float = 1.0) -> _Slopes:
    below = np.minimum(a, 0)
    return np.where(a > 0, a, alpha * np.expm1(below)), np.where(a > 0, 1.0, alpha * np.exp(below))


def _gelu_tanh_formula(mx: Any, x: Any) -> Any:
    return 0.5 * x * (1 + mx.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


_DEFINITION = "The definition of the {}; mlx.core.{}"
_GELU = "Hendrycks and Gimpel 2016, Gaussian Error Linear Units (arXiv:1606.08415), section 2"

OPS = (
    entry(
        "activations",
        "exp",
        "x",
        _exp,
        _DEFINITION.format("exponential", "exp"),
        lambda mx, x: mx.exp(x),
        flops=10,
        own_name="mx.exp",
        own=lambda mx, x: mx.exp(x),
        torch=lambda torch, x: torch.exp(x),
    ),
    entry(
        "activations",
        "log",
        "x",
        _log,
        _DEFINITION.format("natural logarithm", "log"),
        lambda mx, x: mx.log(x),
        flops=10,
        own_name="mx.log",
        own=lambda mx, x: mx.log(x),
        torch=lambda torch, x: torch.log(x),
        to_domain=np.exp,
    ),
    entry(
        "activations",
        "tanh",
        "x",
        _tanh,
        _DEFINITION.format("hyperbolic tangent", "tanh"),
        lambda mx, x: mx.tanh(x),
        flops=12,
        own_name="mx.tanh",
        own=lambda mx, x: mx.tanh(x),
        torch=lambda torch, x: torch.tanh(x),
    ),
    entry(
        "activations",
        "sigmoid",
        "x",
        sigmoid,
        _DEFINITION.format("logistic function", "sigmoid"),
        lambda mx, x: mx.sigmoid(x),
        flops=12,
        own_name="mx.sigmoid",
        own=lambda mx, x: mx.sigmoid(x),
        torch=lambda torch, x: torch.sigmoid(x),
    ),
    entry(
        "activations",
        "relu",
        "x",
        _relu,
        "Nair and Hinton 2010, Rectified Linear Units Improve Restricted Boltzmann Machines, section 2",
        lambda mx, x: mx.maximum(x, 0),
        flops=1,
        torch=lambda torch, x: torch.relu(x),
    ),
    entry(
        "activations",
        "relu2",
        "x",
        relu2,
        "So et al. 2021, Primer (arXiv:2109.08668), section 3",
        lambda mx, x: mx.square(mx.maximum(x, 0)),
        flops=2,
        torch=lambda torch, x: torch.square(torch.relu(x)),
    ),
    entry(
        "activations",
        "silu",
        "x",
        silu,
        "Elfwing, Uchibe and Doya 2017, Sigmoid-Weighted Linear Units (arXiv:1702.03118), equation 5",
        lambda mx, x: x * mx.sigmoid(x),
        flops=13,
        torch=lambda torch, x: torch.nn.functional.silu(x),
    ),
    entry(
        "activations",
        "gelu_tanh",
        "x",
        gelu_tanh,
        f"{_GELU}, the approximation by tanh",
        _gelu_tanh_formula,
        flops=20,
        torch=lambda torch, x: torch.nn.functional.gelu(x, approximate="tanh"),
    ),
    entry(
        "activations",
        "gelu_erf",
        "x",
        gelu_erf,
        _GELU,
        lambda mx, x: 0.5 * x * (1 + mx.erf(x * math.sqrt(0.5))),
        flops=30,
        torch=lambda torch, x: torch.nn.functional.gelu(x),
    ),
    entry(
        "activations",
        "softplus",
        "x",
        _softplus,
        "Dugas et al. 2000, Incorporating Second-Order Functional Knowledge for Better Option Pricing, equation 3",
        lambda mx, x: mx.logaddexp(x, mx.array(0, x.dtype)),
        flops=22,
        torch=lambda torch, x: torch.nn.functional.softplus(x),
    ),
    entry(
        "activations",
        "mish",
        "x",
        _mish,
        "Misra 2019, Mish (arXiv:1908.08681), equation 1",
        lambda mx, x: x * mx.tanh(mx.logaddexp(x, mx.array(0, x.dtype))),
        flops=16,
        torch=lambda torch, x: torch.nn.functional.mish(x),
    ),
    entry(
        "activations",
        "elu",
        "x",
        _elu,
        "Clevert, Unterthiner and Hochreiter 2015, Exponential Linear Units (arXiv:1511.07289), equation 16",
        lambda mx, x: mx.where(x > 0, x, mx.exp(mx.minimum(x, 0)) - 1),
        flops=14,
        torch=lambda torch, x: torch.nn.functional.elu(x),
        others=(SampleInput("alpha", (np.linspace(-4.0, 2.0, 31),), {"alpha": 0.25}),),
        golden=("small", "single", "special", "alpha"),
        errors=(
            ErrorInput(
                "alpha_text",
                lambda: (ones(8),),
                TypeError,
                "[elu] Expected `alpha` to be a number, got str. Pass a float.",
                kwargs={"alpha": "one"},
            ),
        ),
    ),
)
