"""Sums, products, biases and gates, element by element in one pass: each is a formula, of which kernels are made."""

# The functions here are formulas and docstrings, without bodies.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

import mlx.core as mx

from zmlx.kernels._from_formula import from_formula
from zmlx.kernels.activations import GELU_TANH

__all__ = [
    "add",
    "add_bias",
    "bias_geglu",
    "bias_gelu_tanh",
    "bias_silu",
    "bias_swiglu",
    "clamped_swiglu",
    "geglu2",
    "mul",
    "relu2_glu",
    "silu_mul",
    "swiglu2",
]


@from_formula("a + b")
def add(a: mx.array, b: mx.array) -> mx.array:
    """The sum, ``a + b``."""


@from_formula("a * b")
def mul(a: mx.array, b: mx.array) -> mx.array:
    """The product, ``a * b``."""


@from_formula("x + bias")
def add_bias(x: mx.array, bias: mx.array) -> mx.array:
    """A bias added to each row, ``x + bias``."""


@from_formula(f"z = x + bias; {GELU_TANH.format('z')}")
def bias_gelu_tanh(x: mx.array, bias: mx.array) -> mx.array:
    """A bias, then GELU in its approximation: ``0.5 z (1 + tanh(sqrt(2 / pi) (z + 0.044715 z**3)))``, ``z = x + bias``.

    Hendrycks and Gimpel, Gaussian Error Linear Units (arXiv:1606.08415), section 2.
    """


@from_formula("z = x + bias; z * sigmoid(z)")
def bias_silu(x: mx.array, bias: mx.array) -> mx.array:
    """A bias, then the sigmoid linear unit: ``z / (1 + exp(-z))``, ``z = x + bias``.

    Elfwing, Uchibe and Doya (arXiv:1702.03118), equation 5.
    """


@from_formula("gate * sigmoid(gate) * up")
def silu_mul(gate: mx.array, up: mx.array) -> mx.array:
    """The gated product ``silu(gate) * up`` with ``silu(a) = a / (1 + exp(-a))``.

    Shazeer, GLU Variants Improve Transformer (arXiv:2002.05202), equation 6. The same as `swiglu2`.
    """


@from_formula("gate * sigmoid(gate) * up")
def swiglu2(gate: mx.array, up: mx.array) -> mx.array:
    """SwiGLU of two arrays, ``silu(gate) * up`` with ``silu(a) = a / (1 + exp(-a))``.

    Shazeer, GLU Variants Improve Transformer (arXiv:2002.05202), equation 6. `zmlx.kernels.transformer.swiglu` has both
    halves in one array.
    """


@from_formula("gate * normal_cdf(gate) * up")
def geglu2(gate: mx.array, up: mx.array) -> mx.array:
    """GEGLU of two arrays, ``gelu(gate) * up`` with ``gelu(a) = a * Phi(a)``, no approximation.

    Shazeer, GLU Variants Improve Transformer (arXiv:2002.05202), equation 6. `zmlx.kernels.transformer.geglu` has both
    halves in one array.
    """


@from_formula("a = gate + gate_bias; a * sigmoid(a) * (up + up_bias)")
def bias_swiglu(gate: mx.array, up: mx.array, gate_bias: mx.array, up_bias: mx.array) -> mx.array:
    """SwiGLU with the biases of its projections, ``silu(gate + gate_bias) * (up + up_bias)``.

    Shazeer, GLU Variants Improve Transformer (arXiv:2002.05202), equation 5.
    """


@from_formula("a = gate + gate_bias; a * normal_cdf(a) * (up + up_bias)")
def bias_geglu(gate: mx.array, up: mx.array, gate_bias: mx.array, up_bias: mx.array) -> mx.array:
    """GEGLU with the biases of its projections, ``gelu(gate + gate_bias) * (up + up_bias)``, ``gelu(a) = a * Phi(a)``.

    Shazeer, GLU Variants Improve Transformer (arXiv:2002.05202), equation 5.
    """


@from_formula("square(relu(gate)) * up")
def relu2_glu(gate: mx.array, up: mx.array) -> mx.array:
    """The gated product ``max(gate, 0)**2 * up``.

    Shazeer, GLU Variants Improve Transformer (arXiv:2002.05202), with the activation of So et al., Primer
    (arXiv:2109.08668), section 3.
    """


@from_formula("g = min(gate, limit); g * sigmoid(alpha * g) * (clip(up, -limit, limit) + 1)")
def clamped_swiglu(gate: mx.array, up: mx.array, limit: float = 7.0, alpha: float = 1.702) -> mx.array:
    """SwiGLU with limits: ``g * sigmoid(alpha * g) * (u + 1)``, ``g = min(gate, limit)``, ``u`` in ``-limit..limit``.

    OpenAI, gpt-oss-120b & gpt-oss-20b Model Card (arXiv:2508.10925), section 2.2, and the code of its release. What
    lies on a limit or beyond has no gradient.
    """
