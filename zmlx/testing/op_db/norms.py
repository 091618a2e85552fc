"""Normalisation of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from zmlx.testing.op_db._peers import liger, torch_compiled
from zmlx.testing.op_db._shared import (
    CANCELLING,
    ITEMSIZE,
    SPECIAL,
    Float64Array,
    as_on_a_gpu,
    kernel,
    quiet,
    rejected_arrays,
    rejected_eps,
    rejected_weight,
    values,
)
from zmlx.testing.opinfo import OpInfo, SampleInput, SampleRng
from zmlx.testing.rivals import Rivals


def _mean(x: Float64Array) -> Float64Array:
    return np.asarray(np.sum(x, axis=-1, keepdims=True) / x.shape[-1])


def _over_rows(x: Float64Array) -> Float64Array:
    """The sum over all axes but the last."""
    return np.asarray(np.sum(x, axis=tuple(range(x.ndim - 1))))


def _rmsnorm(x: Float64Array, weight: Float64Array, eps: float = 1e-6) -> Float64Array:
    with quiet():
        return x / np.sqrt(_mean(x * x) + eps) * weight


def _rmsnorm_vjp(
    x: Float64Array, weight: Float64Array, cotangent: Float64Array, eps: float = 1e-6
) -> tuple[Float64Array, Float64Array]:
    with quiet():
        scale = 1 / np.sqrt(_mean(x * x) + eps)
        normal = x * scale
        weighted = cotangent * weight
        return scale * (weighted - normal * _mean(weighted * normal)), _over_rows(cotangent * normal)


def _layernorm(x: Float64Array, gamma: Float64Array, beta: Float64Array, eps: float = 1e-5) -> Float64Array:
    with quiet():
        centred = x - _mean(x)
        return centred / np.sqrt(_mean(centred * centred) + eps) * gamma + beta


def _layernorm_vjp(
    x: Float64Array, gamma: Float64Array, beta: Float64Array, cotangent: Float64Array, eps: float = 1e-5
) -> tuple[Float64Array, Float64Array, Float64Array]:
    with quiet():
        centred = x - _mean(x)
        scale = 1 / np.sqrt(_mean(centred * centred) + eps)
        normal = centred * scale
        weighted = cotangent * gamma
        dx = scale * (weighted - _mean(weighted) - normal * _mean(weighted * normal))
        return dx, _over_rows(cotangent * normal), _over_rows(cotangent)


def _special(rng: SampleRng) -> Float64Array:
    """Rows of ordinary numbers with one special one each, and a row of zeros."""
    moderate = np.abs(SPECIAL) != 1e30  # its square is beyond float32, as the kernels' docs say
    rows = rng.normal((SPECIAL[moderate].size + 1, 6))
    rows[:-1, 2] = SPECIAL[moderate]
    rows[-1] = 0.0
    return rows


def _samples(weights: int) -> Callable[[Callable[[str], SampleRng]], Iterator[SampleInput]]:
    """Samples for an x and that many weight vectors: gains around one, then shifts around zero."""

    def made(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
        def sample(name: str, x: Float64Array, **kwargs: float) -> SampleInput:
            around = rng(f"{name}_weights")
            vectors = (around.normal(x.shape[-1], scale=0.3, loc=1.0 - i) for i in range(weights))
            return SampleInput(name, (x, *vectors), kwargs)

        yield sample("small", rng("small").normal((4, 32)))
        # eps is not small here: without it a row of one number has no gradient but rounding errors.
        yield sample("single", np.array([0.75]), eps=0.25)
        yield sample("odd", rng("odd").normal((3, 5, 7), scale=2.0), eps=1e-3)
        yield sample("long_rows", rng("long_rows").normal((2, 4099)))
        yield sample("many_rows", rng("many_rows").normal((2100, 5)))
        yield sample("far_from_zero", rng("far_from_zero").normal((3, 96), scale=1.0, loc=2000.0))
        yield sample("tiny", rng("tiny").normal((3, 10), scale=1e-3))
        yield sample("special", _special(rng("special")))
        yield sample("no_rows", np.zeros((0, 8)))
        yield sample("no_columns", np.zeros((3, 0)))

    return made


def _bytes_moved(sample: SampleInput, dtype: str) -> int:
    """x and the weights are read, the result is written."""
    return (values(sample) + int(sample.args[0].size)) * ITEMSIZE[dtype]


def _rmsnorm_formula(mx: Any, x: Any, weight: Any) -> Any:
    return x * mx.rsqrt(mx.mean(mx.square(x), axis=-1, keepdims=True) + 1e-6) * weight


def _layernorm_formula(mx: Any, x: Any, gamma: Any, beta: Any) -> Any:
    centred = x - mx.mean(x, axis=-1, keepdims=True)
    return centred * mx.rsqrt(mx.mean(mx.square(centred), axis=-1, keepdims=True) + 1e-5) * gamma + beta


OPS = (
    OpInfo(
        name="norms.rmsnorm",
        op=kernel("norms", "rmsnorm"),
        kernels=("zmlx_rmsnorm",),
        gpu_shape=as_on_a_gpu,
        grad_kernels=("zmlx_rmsnorm_vjp", "zmlx_column_sum"),
        oracle=_rmsnorm,
        oracle_vjp=_rmsnorm_vjp,
        differentiable=(0, 1),
        samples=_samples(1),
        # As for the sample "single": with eps as it is, the gradient of a row of one number is what rounding leaves.
        axis_extents={(0, -1): (2, 4200)},
        source="Zhang and Sennrich 2019, Root Mean Square Layer Normalization (arXiv:1910.07467), equation 4, with "
        "eps added to the mean square as in LLaMA",
        golden_samples=("small", "single", "odd", "special"),
        error_inputs=(
            *rejected_arrays("rmsnorm", weights=1),
            *rejected_weight("rmsnorm", "weight", 1, weights=1),
            *rejected_eps("rmsnorm", weights=1),
        ),
        bytes_moved=_bytes_moved,
        flops=lambda sample, dtype: 4 * int(sample.args[0].size),
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns), (columns,)),
            formula=_rmsnorm_formula,
            own_name="mx.fast.rms_norm",
            own=lambda mx, x, weight: mx.fast.rms_norm(x, weight, 1e-6),
            peers=(
                torch_compiled(lambda torch, x, w: torch.nn.functional.rms_norm(x, w.shape, w, 1e-6)),
                # No offset of the weights, the casts of Llama, and dy is left as it is.
                liger("rms_norm", "LigerRMSNormFunction", 1e-6, 0.0, "llama", False),
            ),
        ),
    ),
    OpInfo(
        name="norms.layernorm",
        op=kernel("norms", "layernorm"),
        kernels=("zmlx_layernorm",),
        gpu_shape=as_on_a_gpu,
        grad_kernels=("zmlx_layernorm_vjp", "zmlx_column_sum"),
        oracle=_layernorm,
        oracle_vjp=_layernorm_vjp,
        differentiable=(0, 1, 2),
        samples=_samples(2),
        source="Ba, Kiros and Hinton 2016, Layer Normalization (arXiv:1607.06450), equation 4",
        tolerances=CANCELLING,
        golden_samples=("small", "single", "odd", "special"),
        error_inputs=(
            *rejected_arrays("layernorm", weights=2),
            *rejected_weight("layernorm", "gamma", 1, weights=2),
            *rejected_weight("layernorm", "beta", 2, weights=2),
            *rejected_eps("layernorm", weights=2),
        ),
        bytes_moved=_bytes_moved,
        flops=lambda sample, dtype: 8 * int(sample.args[0].size),
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns), (columns,), (columns,)),
            formula=_layernorm_formula,
            own_name="mx.fast.layer_norm",
            own=lambda mx, x, gamma, beta: mx.fast.layer_norm(x, gamma, beta, 1e-5),
            peers=(
                torch_compiled(lambda torch, x, g, b: torch.nn.functional.layer_norm(x, g.shape, g, b, 1e-5)),
                liger("layer_norm", "LigerLayerNormFunction", 1e-5),
            ),
        ),
    ),
)
