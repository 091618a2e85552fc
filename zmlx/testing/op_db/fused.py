"""Sums, products, biases and gates in one pass, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from zmlx.testing.op_db._elementwise import Slopes, entry, gelu_erf, gelu_tanh, relu2, silu
from zmlx.testing.op_db._shared import Float64Array, ones
from zmlx.testing.opinfo import ErrorInput, SampleInput

_Activation = Callable[[Float64Array], tuple[Float64Array, Float64Array]]


# Oracles: the value, then its derivative by each argument -----------------------------------------------------------


def _add(a: Float64Array, b: Float64Array) -> tuple[Float64Array, ...]:
    one = np.ones_like(a + b)
    return a + b, one, one


def _mul(a: Float64Array, b: Float64Array) -> tuple[Float64Array, ...]:
    return a * b, b, a


def _biased(activation: _Activation) -> Slopes:
    def slopes(x: Float64Array, bias: Float64Array) -> tuple[Float64Array, ...]:
        value, slope = activation(x + bias)
        return value, slope, slope

    return slopes


def _gated(activation: _Activation) -> Slopes:
    def slopes(gate: Float64Array, up: Float64Array) -> tuple[Float64Array, ...]:
        value, slope = activation(gate)
        return value * up, slope * up, value

    return slopes


def _gated_with_biases(activation: _Activation) -> Slopes:
    def slopes(gate: Any, up: Any, gate_bias: Any, up_bias: Any) -> tuple[Float64Array, ...]:
        value, by_gate, by_up = _gated(activation)(gate + gate_bias, up + up_bias)
        return value, by_gate, by_up, by_gate, by_up

    return slopes


def _relu2_glu(gate: Float64Array, up: Float64Array) -> tuple[Float64Array, ...]:
    """Below zero the gate passes nothing on, not even NaN from an infinite ``up``."""
    value, _ = relu2(gate)
    return value * up, np.where(gate > 0, 2 * gate * up, 0), value


def _clamped(
    gate: Float64Array, up: Float64Array, limit: float = 7.0, alpha: float = 1.702
) -> tuple[Float64Array, ...]:
    g, u = np.minimum(gate, limit), np.clip(up, -limit, limit)
    s = 1 / (1 + np.exp(-alpha * g))
    by_gate = np.where(gate < limit, (s + alpha * g * (s * (1 - s))) * (u + 1), 0)
    inside = np.abs(up) < limit
    return g * s * (u + 1), by_gate, np.where(inside, g * s, 0)


# What they are timed against ----------------------------------------------------------------------------------------


def _gelu(mx: Any, x: Any) -> Any:
    return 0.5 * x * (1 + mx.erf(x * math.sqrt(0.5)))


def _gelu_tanh(mx: Any, x: Any) -> Any:
    return 0.5 * x * (1 + mx.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _silu(mx: Any, x: Any) -> Any:
    return x * mx.sigmoid(x)


def _clamped_formula(mx: Any, gate: Any, up: Any) -> Any:
    g = mx.minimum(gate, 7.0)
    return g * mx.sigmoid(1.702 * g) * (mx.clip(up, -7.0, 7.0) + 1)


_GLU = "Shazeer 2020, GLU Variants Improve Transformer (arXiv:2002.05202), equation {}"
_PAIR = (
    SampleInput("column", (np.linspace(-2.0, 2.0, 5)[:, None], np.linspace(-1.0, 3.0, 35).reshape(5, 7))),
    SampleInput("number", (np.linspace(-2.0, 2.0, 12).reshape(3, 4), np.array([0.75]))),
    SampleInput("crossed", (np.linspace(-2.0, 2.0, 4)[:, None], np.linspace(-1.0, 3.0, 6)[None])),
    SampleInput(
        "in_between",
        (np.linspace(-2.0, 2.0, 24).reshape(2, 3, 4), np.linspace(-1.0, 3.0, 8).reshape(2, 1, 4)),
    ),
)
_CLAMPS = {"limit": 1.5, "alpha": 1.0}

OPS = (
    entry(
        "fused",
        "add",
        "a b",
        _add,
        "The definition of the sum; mlx.core.add",
        lambda mx, a, b: a + b,
        flops=1,
        own_name="mx.add",
        own=lambda mx, a, b: mx.add(a, b),
        torch=lambda torch, a, b: a + b,
        others=_PAIR,
        grad_kernels=(),
    ),
    entry(
        "fused",
        "mul",
        "a b",
        _mul,
        "The definition of the product; mlx.core.multiply",
        lambda mx, a, b: a * b,
        flops=1,
        own_name="mx.multiply",
        own=lambda mx, a, b: mx.multiply(a, b),
        torch=lambda torch, a, b: a * b,
        others=_PAIR,
        golden=("small", "single", "special", "column", "crossed"),
    ),
    entry(
        "fused",
        "add_bias",
        "x bias",
        _add,
        "The definition of an affine layer's bias; mlx.nn.Linear",
        lambda mx, x, bias: x + bias,
        flops=1,
        torch=lambda torch, x, bias: x + bias,
        grad_kernels=(),  # where there are more rows than one, zmlx_column_sum
    ),
    entry(
        "fused",
        "bias_gelu_tanh",
        "x bias",
        _biased(gelu_tanh),
        "Hendrycks and Gimpel 2016, Gaussian Error Linear Units (arXiv:1606.08415), section 2, of x + bias",
        lambda mx, x, bias: _gelu_tanh(mx, x + bias),
        flops=21,
        torch=lambda torch, x, bias: torch.nn.functional.gelu(x + bias, approximate="tanh"),
    ),
    entry(
        "fused",
        "bias_silu",
        "x bias",
        _biased(silu),
        "Elfwing, Uchibe and Doya 2017 (arXiv:1702.03118), equation 5, of x + bias",
        lambda mx, x, bias: _silu(mx, x + bias),
        flops=14,
        torch=lambda torch, x, bias: torch.nn.functional.silu(x + bias),
    ),
    *(
        entry(
            "fused",
            name,
            "gate up",
            _gated(silu),
            _GLU.format(6),
            lambda mx, gate, up: _silu(mx, gate) * up,
            flops=14,
            torch=lambda torch, gate, up: torch.nn.functional.silu(gate) * up,
        )
        for name in ("silu_mul", "swiglu2")
    ),
    entry(
        "fused",
        "geglu2",
        "gate up",
        _gated(gelu_erf),
        _GLU.format(6),
        lambda mx, gate, up: _gelu(mx, gate) * up,
        flops=31,
        torch=lambda torch, gate, up: torch.nn.functional.gelu(gate) * up,
    ),
    entry(
        "fused",
        "bias_swiglu",
        "gate up gate_bias up_bias",
        _gated_with_biases(silu),
        _GLU.format(5),
        lambda mx, gate, up, gate_bias, up_bias: _silu(mx, gate + gate_bias) * (up + up_bias),
        flops=16,
        torch=lambda torch, gate, up, b, c: torch.nn.functional.silu(gate + b) * (up + c),
    ),
    entry(
        "fused",
        "bias_geglu",
        "gate up gate_bias up_bias",
        _gated_with_biases(gelu_erf),
        _GLU.format(5),
        lambda mx, gate, up, gate_bias, up_bias: _gelu(mx, gate + gate_bias) * (up + up_bias),
        flops=33,
        torch=lambda torch, gate, up, b, c: torch.nn.functional.gelu(gate + b) * (up + c),
    ),
    entry(
        "fused",
        "relu2_glu",
        "gate up",
        _relu2_glu,
        f"{_GLU.format(6)}, with the activation of So et al. 2021, Primer (arXiv:2109.08668), section 3",
        lambda mx, gate, up: mx.square(mx.maximum(gate, 0)) * up,
        flops=3,
        torch=lambda torch, gate, up: torch.square(torch.relu(gate)) * up,
    ),
    entry(
        "fused",
        "clamped_swiglu",
        "gate up",
        _clamped,
        "OpenAI 2025, gpt-oss model card (arXiv:2508.10925), section 2.2, and the code of its release",
        _clamped_formula,
        flops=18,
        others=(SampleInput("limits", (np.linspace(-3.0, 3.0, 30), np.linspace(2.9, -2.9, 30)), _CLAMPS),),
        golden=("small", "single", "special", "limits"),
        errors=(
            ErrorInput(
                "limit_text",
                lambda: (ones(8), ones(8)),
                TypeError,
                "[clamped_swiglu] Expected `limit` to be a number, got str. Pass a float.",
                kwargs={"limit": "seven"},
            ),
        ),
    ),
)
