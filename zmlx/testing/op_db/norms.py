"""Normalisation of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from zmlx.testing.op_db._peers import liger, torch_compiled
from zmlx.testing.op_db._row_ops import (
    alike,
    mean,
    moved,
    operations,
    over_rows,
    row_samples,
    special_rows,
    vector,
)
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


def _rmsnorm(x: Float64Array, weight: Float64Array, eps: float = 1e-6) -> Float64Array:
    with quiet():
        return x / np.sqrt(mean(x * x) + eps) * weight


def _rmsnorm_vjp(
    x: Float64Array, weight: Float64Array, cotangent: Float64Array, eps: float = 1e-6
) -> tuple[Float64Array, Float64Array]:
    with quiet():
        scale = 1 / np.sqrt(mean(x * x) + eps)
        normal = x * scale
        weighted = cotangent * weight
        return scale * (weighted - normal * mean(weighted * normal)), over_rows(cotangent * normal)


def _layernorm(x: Float64Array, gamma: Float64Array, beta: Float64Array, eps: float = 1e-5) -> Float64Array:
    with quiet():
        centred = x - mean(x)
        return centred / np.sqrt(mean(centred * centred) + eps) * gamma + beta


def _layernorm_vjp(
    x: Float64Array, gamma: Float64Array, beta: Float64Array, cotangent: Float64Array, eps: float = 1e-5
) -> tuple[Float64Array, Float64Array, Float64Array]:
    with quiet():
        centred = x - mean(x)
        scale = 1 / np.sqrt(mean(centred * centred) + eps)
        normal = centred * scale
        weighted = cotangent * gamma
        dx = scale * (weighted - mean(weighted) - normal * mean(weighted * normal))
        return dx, over_rows(cotangent * normal), over_rows(cotangent)


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


def _no_weight(vjp: Callable[..., tuple[Float64Array, ...]], count: int) -> Callable[..., Any]:
    """The gradient of x where the weights are ones and zeros."""

    def call(x: Float64Array, cotangent: Float64Array, eps: float) -> tuple[Float64Array]:
        return (vjp(x, *_weights(x, count), cotangent, eps)[0],)

    return call


def _weights(x: Float64Array, count: int) -> tuple[Float64Array, ...]:
    return (np.ones(x.shape[-1]), np.zeros(x.shape[-1]))[:count]


def _residual(norm: Callable[..., Float64Array]) -> Callable[..., tuple[Float64Array, Float64Array]]:
    def call(x: Float64Array, residual: Float64Array, *weights: Any, **eps: float) -> Any:
        with quiet():
            return x + residual, norm(x + residual, *weights, **eps)

    return call


def _residual_vjp(vjp: Callable[..., tuple[Float64Array, ...]]) -> Callable[..., tuple[Float64Array, ...]]:
    """Of the sum's cotangent and that of the norm."""

    def call(x: Float64Array, residual: Float64Array, *rest: Any, **eps: float) -> tuple[Float64Array, ...]:
        *weights, (of_sum, of_norm) = rest
        with quiet():
            d, *others = vjp(x + residual, *weights, of_norm, **eps)
            return d + of_sum, d + of_sum, *others

    return call


def _silu(a: Float64Array) -> Float64Array:
    with quiet():
        return np.asarray(a / (1 + np.exp(-a)))


def _gated(x: Float64Array, gate: Float64Array, weight: Float64Array, eps: float = 1e-6) -> Float64Array:
    with quiet():
        return _rmsnorm(x, weight, eps) * _silu(gate)


def _gated_vjp(
    x: Float64Array, gate: Float64Array, weight: Float64Array, cotangent: Float64Array, eps: float = 1e-6
) -> tuple[Float64Array, Float64Array, Float64Array]:
    with quiet():
        dx, dweight = _rmsnorm_vjp(x, weight, cotangent * _silu(gate), eps)
        s = 1 / (1 + np.exp(-gate))
        return dx, cotangent * _rmsnorm(x, weight, eps) * (s + gate * s * (1 - s)), dweight


def _advantage(x: Float64Array, eps: float = 1e-4, *, ddof: int = 0) -> Float64Array:
    with quiet():
        centred = x - mean(x)
        spread = np.sum(centred**2, axis=-1, keepdims=True) / (x.shape[-1] - np.float64(ddof))
        return np.asarray(centred / (np.sqrt(spread) + eps))


def _moderate(rng: SampleRng) -> Float64Array:
    return special_rows(rng, moderate=True)


def _residual_special(rng: SampleRng) -> Float64Array:
    """Without infinities: those of a sum, and of what makes up its gradient, may cancel."""
    rows = _moderate(rng)
    return rows[np.all(np.isfinite(rows), axis=-1)]


#: As for the sample "single" of rmsnorm: eps shows.
_EPS = {"": {"eps": 1e-3}, "single": {"eps": 0.25}}

_RMSNORM = (
    "Zhang and Sennrich 2019, Root Mean Square Layer Normalization (arXiv:1910.07467), equation 4, with "
    "eps added to the mean square as in LLaMA"
)
_LAYERNORM = "Ba, Kiros and Hinton 2016, Layer Normalization (arXiv:1607.06450), equation 4"


def _norm(
    name: str, weights: int, weight_names: tuple[str, ...] = (), beside: int = 0, **fields: Any
) -> OpInfo:
    """An entry of a norm made of a formula, with what is common to all of them."""
    vectors = tuple(vector(1.0 - i) for i in range(weights))
    arrays = beside + weights
    common: dict[str, Any] = {
        "name": f"norms.{name}",
        "op": kernel("norms", name),
        "kernels": (f"zmlx_{name}",),
        "gpu_shape": as_on_a_gpu,
        "grad_kernels": (f"zmlx_{name}_vjp", *(("zmlx_column_sum",) if weights else ())),
        "differentiable": tuple(range(1 + arrays)),
        "samples": row_samples(*(alike() for _ in range(beside)), *vectors, special=_moderate, kwargs=_EPS),
        "axis_extents": {(0, -1): (2, 4200)},
        "golden_samples": ("small", "single", "odd"),
        "tolerances": CANCELLING,
        "grad_tolerances": CANCELLING,
        "error_inputs": (
            *rejected_arrays(name, weights=arrays),
            *(
                error
                for position, weight in enumerate(weight_names)
                for error in rejected_weight(name, weight, 1 + beside + position, weights=arrays)
            ),
            *rejected_eps(name, weights=arrays),
        ),
        "bytes_moved": moved(),
        "flops": operations(6),
    }
    return OpInfo(**{**common, **fields})


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
    _norm(
        "rms_norm_no_weight",
        0,
        oracle=lambda x, eps=1e-6: _rmsnorm(x, np.ones(x.shape[-1]), eps),
        oracle_vjp=lambda x, cotangent, eps=1e-6: _no_weight(_rmsnorm_vjp, 1)(x, cotangent, eps),
        source=_RMSNORM,
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns),),
            formula=lambda mx, x: x * mx.rsqrt(mx.mean(mx.square(x), axis=-1, keepdims=True) + 1e-6),
            own_name="mx.fast.rms_norm",
            own=lambda mx, x: mx.fast.rms_norm(x, None, 1e-6),
            peers=(
                torch_compiled(lambda torch, x: torch.nn.functional.rms_norm(x, x.shape[-1:], None, 1e-6)),
            ),
        ),
    ),
    _norm(
        "layer_norm_no_weight",
        0,
        oracle=lambda x, eps=1e-5: _layernorm(x, np.ones(x.shape[-1]), np.zeros(x.shape[-1]), eps),
        oracle_vjp=lambda x, cotangent, eps=1e-5: _no_weight(_layernorm_vjp, 2)(x, cotangent, eps),
        source=_LAYERNORM,
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns),),
            formula=lambda mx, x: _layernorm_formula(mx, x, 1.0, 0.0),
            own_name="mx.fast.layer_norm",
            own=lambda mx, x: mx.fast.layer_norm(x, None, None, 1e-5),
            peers=(torch_compiled(lambda torch, x: torch.nn.functional.layer_norm(x, x.shape[-1:])),),
        ),
    ),
    _norm(
        "rmsnorm_residual",
        1,
        ("weight",),
        1,
        oracle=_residual(_rmsnorm),
        oracle_vjp=_residual_vjp(_rmsnorm_vjp),
        samples=row_samples(alike(), vector(1.0), special=_residual_special, kwargs=_EPS),
        source=_RMSNORM,
        bytes_moved=moved(2),
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns), (rows, columns), (columns,)),
            formula=lambda mx, x, residual, weight: (
                x + residual,
                _rmsnorm_formula(mx, x + residual, weight),
            ),
        ),
    ),
    _norm(
        "layernorm_residual",
        2,
        ("gamma", "beta"),
        1,
        oracle=_residual(_layernorm),
        oracle_vjp=_residual_vjp(_layernorm_vjp),
        samples=row_samples(alike(), vector(1.0), vector(), special=_residual_special, kwargs=_EPS),
        source=_LAYERNORM,
        bytes_moved=moved(2),
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns), (rows, columns), (columns,), (columns,)),
            formula=lambda mx, x, residual, gamma, beta: (
                x + residual,
                _layernorm_formula(mx, x + residual, gamma, beta),
            ),
        ),
    ),
    _norm(
        "gated_rmsnorm",
        1,
        ("weight",),
        1,
        oracle=_gated,
        oracle_vjp=_gated_vjp,
        source="Yang, Kautz and Hatamizadeh 2024, Gated Delta Networks (arXiv:2412.06464), section 3.4",
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns), (rows, columns), (columns,)),
            formula=lambda mx, x, gate, weight: _rmsnorm_formula(mx, x, weight) * gate * mx.sigmoid(gate),
        ),
    ),
    _norm(
        "grpo_advantage_norm",
        0,
        oracle=_advantage,
        grad_kernels=(),
        differentiable=(),
        samples=row_samples(special=_moderate, kwargs={"odd": {"ddof": 1}}),
        source="Shao et al. 2024, DeepSeekMath (arXiv:2402.03300), section 4.1.2, with eps as in TRL",
        rivals=Rivals(
            shapes=lambda rows, columns: ((rows, columns),),
            formula=lambda mx, x: (
                (x - mx.mean(x, -1, keepdims=True)) / (mx.std(x, axis=-1, keepdims=True) + 1e-4)
            ),
        ),
    ),
)
