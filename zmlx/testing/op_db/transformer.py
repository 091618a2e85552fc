"""Gated linear units."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from zmlx.testing.op_db._peers import liger, torch_compiled
from zmlx.testing.op_db._shared import (
    ITEMSIZE,
    SPECIAL,
    Float64Array,
    as_on_a_gpu,
    kernel,
    ones,
    quiet,
    rejected_arrays,
)
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleInput, SampleRng
from zmlx.testing.rivals import Call, Peer, Rivals

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _silu(a: Float64Array) -> tuple[Float64Array, Float64Array]:
    """x * sigmoid(x) and its derivative."""
    s = 1 / (1 + np.exp(-a))
    return a * s, s * (1 + a * (1 - s))


def _gelu(a: Float64Array) -> tuple[Float64Array, Float64Array]:
    """x * Phi(x) and its derivative, Phi(x) = erfc(-x / sqrt(2)) / 2."""
    integral = 0.5 * _erfc(-a / math.sqrt(2)).reshape(a.shape)
    density = np.exp(-0.5 * a * a) / math.sqrt(2 * math.pi)
    return a * integral, integral + a * density


def _gelu_tanh(a: Float64Array) -> tuple[Float64Array, Float64Array]:
    """0.5 x (1 + tanh(z)), z = sqrt(2 / pi) (x + 0.044715 x**3), and its derivative."""
    root = math.sqrt(2 / math.pi)
    t = np.tanh(root * (a + 0.044715 * a**3))
    inner = root * (1 + 3 * 0.044715 * a * a)
    return 0.5 * a * (1 + t), 0.5 * (1 + t) + 0.5 * a * (1 - t * t) * inner


_GELUS = {"none": _gelu, "tanh": _gelu_tanh}
_Activation = Callable[[Float64Array], tuple[Float64Array, Float64Array]]


def _glu(x: Float64Array, activation: _Activation) -> Float64Array:
    gate, value = np.split(x, 2, axis=-1)
    with quiet():
        return activation(gate)[0] * value


def _glu_vjp(x: Float64Array, cotangent: Float64Array, activation: _Activation) -> tuple[Float64Array]:
    gate, value = np.split(x, 2, axis=-1)
    with quiet():
        activated, slope = activation(gate)
        return (np.concatenate([cotangent * value * slope, cotangent * activated], axis=-1),)


def _swiglu(x: Float64Array) -> Float64Array:
    return _glu(x, _silu)


def _swiglu_vjp(x: Float64Array, cotangent: Float64Array) -> tuple[Float64Array]:
    return _glu_vjp(x, cotangent, _silu)


def _geglu(x: Float64Array, approximate: str = "none") -> Float64Array:
    return _glu(x, _GELUS[approximate])


def _geglu_vjp(x: Float64Array, cotangent: Float64Array, approximate: str = "none") -> tuple[Float64Array]:
    return _glu_vjp(x, cotangent, _GELUS[approximate])


def _special() -> Float64Array:
    """A row of special gates with ordinary values, then ordinary gates with special values."""
    ordinary = np.linspace(0.5, 2.0, SPECIAL.size)
    return np.concatenate([SPECIAL, ordinary, -ordinary, SPECIAL])[None]


def _samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    yield SampleInput("small", (rng("small").normal((4, 64)),))
    yield SampleInput("single", (np.array([0.75, -1.5]),))
    yield SampleInput("odd", (rng("odd").normal((3, 5, 14), scale=3.0),))
    yield SampleInput("long_rows", (rng("long_rows").normal((2, 2 * 4099), scale=2.0),))
    yield SampleInput("many_rows", (rng("many_rows").normal((301, 6)),))
    yield SampleInput("tails", (_tails(),))
    yield SampleInput("special", (_special(),))
    yield SampleInput("no_rows", (np.zeros((0, 8)),))
    yield SampleInput("no_columns", (np.zeros((3, 0)),))


def _tails() -> Float64Array:
    """Gates from end to end of where the activation is neither zero nor the identity, with a value of one."""
    gates = np.linspace(-30.0, 30.0, 241)
    return np.concatenate([gates, np.ones_like(gates)])


def _geglu_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    yield from _samples(rng)
    yield SampleInput("small_tanh", (rng("small").normal((4, 64)),), {"approximate": "tanh"})
    yield SampleInput("long_rows_tanh", (rng("long_rows").normal((2, 2 * 4099), scale=2.0),), _TANH)
    yield SampleInput("tails_tanh", (_tails(),), _TANH)
    yield SampleInput("special_tanh", (_special(),), _TANH)


_TANH = {"approximate": "tanh"}


def _odd(function: str) -> tuple[ErrorInput, ...]:
    return (
        ErrorInput(
            "odd_length",
            lambda: (ones(2, 3),),
            ValueError,
            f"[{function}] Expected the last dimension of `x` to be even, since it holds two halves of one size, "
            "got shape (2, 3). Concatenate gate and value along the last axis: "
            "mx.concatenate([gate, value], axis=-1).",
        ),
    )


def _bytes_moved(sample: SampleInput, dtype: str) -> int:
    """Both halves are read, one is written."""
    return int(sample.args[0].size) * 3 // 2 * ITEMSIZE[dtype]


def _flops(per_output: int) -> Callable[[SampleInput, str], int]:
    return lambda sample, dtype: int(sample.args[0].size) // 2 * per_output


def _rivals(activation: Call, torch_name: str, *peers: Peer) -> Rivals:
    """MLX has no operation for these: the formula stands for it."""

    def torch_formula(torch: Any, x: Any) -> Any:
        gate, value = x.chunk(2, -1)
        return getattr(torch.nn.functional, torch_name)(gate) * value

    def formula(mx: Any, x: Any) -> Any:
        gate, value = mx.split(x, 2, axis=-1)
        return activation(mx, gate) * value

    return Rivals(
        shapes=lambda rows, columns: ((rows, 2 * columns),),
        formula=formula,
        peers=(torch_compiled(torch_formula), *peers),
    )


def _entry(name: str, **fields: Any) -> OpInfo:
    return OpInfo(
        name=f"transformer.{name}",
        op=kernel("transformer", name),
        kernels=(f"zmlx_{name}*",),  # geglu has a kernel for each form
        grad_kernels=(f"zmlx_{name}*_vjp",),
        gpu_shape=as_on_a_gpu,
        differentiable=(0,),
        bytes_moved=_bytes_moved,
        **fields,
    )


OPS = (
    _entry(
        "swiglu",
        oracle=_swiglu,
        oracle_vjp=_swiglu_vjp,
        samples=_samples,
        source="Shazeer 2020, GLU Variants Improve Transformer (arXiv:2002.05202), equation 6",
        golden_samples=("small", "single", "odd", "special"),
        error_inputs=(*rejected_arrays("swiglu"), *_odd("swiglu")),
        flops=_flops(5),
        rivals=_rivals(
            lambda mx, a: a * mx.sigmoid(a), "silu", liger("swiglu", "LigerFusedGateUpSiLUMulFunction")
        ),
    ),
    _entry(
        "geglu",
        oracle=_geglu,
        oracle_vjp=_geglu_vjp,
        samples=_geglu_samples,
        source="Shazeer 2020 (arXiv:2002.05202), equation 6, with both forms of GELU of Hendrycks and Gimpel 2016 "
        "(arXiv:1606.08415)",
        golden_samples=("small", "single", "odd", "special", "small_tanh"),
        error_inputs=(
            *rejected_arrays("geglu"),
            *_odd("geglu"),
            ErrorInput(
                "unknown_approximation",
                lambda: (ones(2, 8),),
                ValueError,
                "[geglu] Expected `approximate` to be 'none' or 'tanh', got 'fast'.",
                kwargs={"approximate": "fast"},
            ),
        ),
        flops=_flops(27),
        # Liger has the form with tanh only.
        rivals=_rivals(lambda mx, a: 0.5 * a * (1 + mx.erf(a * math.sqrt(0.5))), "gelu"),
    ),
)
