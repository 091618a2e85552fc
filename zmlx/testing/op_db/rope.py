"""Rotary position embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from zmlx.testing.op_db import _rope_errors as errors
from zmlx.testing.op_db import _rope_oracles as oracles
from zmlx.testing.op_db import _rope_samples as samples
from zmlx.testing.op_db._peers import torch_compiled
from zmlx.testing.op_db._shared import (
    CANCELLING,
    ITEMSIZE,
    as_on_a_gpu,
    kernel,
    ones,
    values,
)
from zmlx.testing.opinfo import OpInfo, SampleInput
from zmlx.testing.rivals import Rivals

_ROFORMER = "Su et al. 2021, RoFormer (arXiv:2104.09864), equation 34"


def _moved(sample: SampleInput, dtype: str) -> int:
    """What is rotated is read and written; positions and frequencies are a few bytes beside it."""
    return 2 * values(sample) * ITEMSIZE[dtype]


def _normed_moved(sample: SampleInput, dtype: str) -> int:
    """The same, and weights that are read."""
    weights = sum(int(weight.size) for weight in sample.args[2:4])
    return _moved(sample, dtype) - weights * ITEMSIZE[dtype]


def _bench_heads(rows: int, columns: int) -> tuple[int, int, int, int]:
    """(sequences, heads, errors.tokens, elements): a row is what the heads of a token have."""
    length = min(columns, 128)
    heads = max(columns // length, 1)
    return 1, heads, rows, length


def _formula_turned(mx: Any, x: Any) -> Any:
    half = x.shape[-1] // 2
    frequency = mx.exp(mx.arange(half) * (-np.log(10000.0) / half))
    angle = mx.arange(x.shape[-2])[:, None] * frequency
    c, s = mx.cos(angle), mx.sin(angle)
    a, b = x[..., :half], x[..., half:]
    return mx.concatenate([a * c - b * s, b * c + a * s], axis=-1).astype(x.dtype)


def _bench_normed(rows: int, columns: int) -> tuple[tuple[int, ...], ...]:
    heads = _bench_heads(rows, columns)
    return heads, heads, heads[-1:], heads[-1:]


def _formula_normed(mx: Any, x: Any, weight: Any) -> Any:
    return _formula_turned(mx, x * mx.rsqrt(mx.mean(x * x, axis=-1, keepdims=True) + 1e-6) * weight)


def _torch_turned(torch: Any, x: Any) -> Any:
    half = x.shape[-1] // 2
    frequency = 10000.0 ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(x.shape[-2], device=x.device)[:, None] * frequency
    c, s = torch.cos(angle), torch.sin(angle)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * c - b * s, b * c + a * s], dim=-1).to(x.dtype)


def _own_turned(mx: Any, x: Any) -> Any:
    return mx.fast.rope(x, x.shape[-1], traditional=False, base=10000.0, scale=1.0, offset=0)


def _cache_moved(sample: SampleInput, dtype: str) -> int:
    """The caches are written, and read but for the places of new tokens, which are read instead."""
    return 2 * sum(int(cache.size) for cache in sample.args[2:4]) * ITEMSIZE[dtype]


#: Extents at which new tokens mostly fit.
_FITTING = {(0, 2): (1, 3), (2, 2): (9, 40), (0, -1): (2, 64)}


OPS = (
    OpInfo(
        name="rope.rope",
        op=kernel("rope", "rope"),
        kernels=("zmlx_rope", "zmlx_rope*"),  # with `freqs`, one that makes frequencies of them runs before
        grad_kernels=("zmlx_rope",),
        gpu_shape=as_on_a_gpu,
        oracle=oracles.rope,
        oracle_vjp=oracles.rope_vjp,
        differentiable=(0,),
        samples=samples.rope_samples,
        axis_extents={(0, -1): (2, 300)},
        source=_ROFORMER,
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "interleaved", "part_of_a_row", "far_interleaved"),
        error_inputs=errors.ROPE_ERRORS,
        bytes_moved=_moved,
        flops=lambda sample, dtype: 3 * int(sample.args[0].size),
        rivals=Rivals(
            shapes=lambda rows, columns: (_bench_heads(rows, columns),),
            formula=_formula_turned,
            own_name="mx.fast.rope",
            own=_own_turned,
            peers=(torch_compiled(_torch_turned),),
            by_rows=False,
        ),
    ),
    OpInfo(
        name="rope.rope_qk",
        op=kernel("rope", "rope_qk"),
        oracle=oracles.rope_qk,
        oracle_vjp=oracles.rope_qk_vjp,
        kernels=("zmlx_rope_qk",),
        grad_kernels=("zmlx_rope_qk",),
        gpu_shape=as_on_a_gpu,
        differentiable=(0, 1),
        samples=samples.rope_qk_samples,
        axis_extents={(0, -1): (2, 300)},
        source=f"{_ROFORMER}; Ainslie et al. 2023, GQA (arXiv:2305.13245)",
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "interleaved", "odd_heads"),
        error_inputs=(
            *errors.rejected_beside("rope_qk", lambda q, k: (q, k)),
            *errors.rejected_angles("rope_qk", lambda: (ones(2, 3, 4, 8), ones(2, 1, 4, 8)), "q"),
            *errors.rejected_places("rope_qk", lambda: (ones(2, 3, 4, 8), ones(2, 1, 4, 8))),
        ),
        bytes_moved=_moved,
        flops=lambda sample, dtype: 3 * values(sample),
        rivals=Rivals(
            shapes=lambda rows, columns: (_bench_heads(rows, columns), _bench_heads(rows, columns)),
            formula=lambda mx, q, k: (_formula_turned(mx, q), _formula_turned(mx, k)),
            own_name="mx.fast.rope twice",
            own=lambda mx, q, k: (_own_turned(mx, q), _own_turned(mx, k)),
            by_rows=False,
        ),
    ),
    OpInfo(
        name="rope.mrope",
        op=kernel("rope", "mrope"),
        kernels=("zmlx_rope",),
        grad_kernels=("zmlx_rope",),
        gpu_shape=as_on_a_gpu,
        oracle=oracles.mrope,
        oracle_vjp=oracles.mrope_vjp,
        differentiable=(0,),
        samples=samples.mrope_samples,
        # Sections are of 8 pairs, and there are three of them.
        axis_extents={(0, -1): (16, 16), (1, 0): (3, 3)},
        source="Wang et al. 2024, Qwen2-VL (arXiv:2409.12191), section 2.1: M-RoPE, in sections of the pairs as in its "
        "published code",
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "interleaved", "odd_rows"),
        error_inputs=(
            *errors.SECTION_ERRORS,
            *errors.rejected_angles(
                "mrope", lambda: (*errors.tokens(), ones(3, 4, dtype="int32")), sections=(1, 1, 2)
            ),
        ),
        bytes_moved=_moved,
        flops=lambda sample, dtype: 3 * int(sample.args[0].size),
    ),
    OpInfo(
        name="rope.qk_norm_rope",
        op=kernel("rope", "qk_norm_rope"),
        oracle=oracles.qk_norm_rope,
        oracle_vjp=oracles.qk_norm_rope_vjp,
        kernels=("zmlx_qk_norm_rope",),
        grad_kernels=("zmlx_qk_norm_rope_vjp", "zmlx_column_sum"),
        gpu_shape=as_on_a_gpu,
        differentiable=(0, 1, 2, 3),
        samples=samples.qk_norm_rope_samples,
        # As for the sample "single": with eps as it is, the gradient of a short row is what rounding leaves.
        axis_extents={(0, -1): (6, 300)},
        source=f"Henry et al. 2020, Query-Key Normalization (arXiv:2010.04245), with Zhang and Sennrich 2019, RMSNorm "
        f"(arXiv:1910.07467), equation 4; {_ROFORMER}",
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "interleaved", "odd_heads"),
        error_inputs=(
            *errors.rejected_beside("qk_norm_rope", lambda q, k: (q, k, ones(8), ones(8))),
            *errors.REJECTED_WEIGHTS,
            *errors.rejected_angles(
                "qk_norm_rope", lambda: (ones(2, 3, 4, 8), ones(2, 1, 4, 8), ones(8), ones(8)), "q"
            ),
        ),
        bytes_moved=_normed_moved,
        flops=lambda sample, dtype: 7 * values(sample),
        rivals=Rivals(
            shapes=_bench_normed,
            formula=lambda mx, q, k, a, b: (_formula_normed(mx, q, a), _formula_normed(mx, k, b)),
            own_name="mx.fast.rms_norm and rope, twice",
            own=lambda mx, q, k, a, b: (
                _own_turned(mx, mx.fast.rms_norm(q, a, 1e-6)),
                _own_turned(mx, mx.fast.rms_norm(k, b, 1e-6)),
            ),
            by_rows=False,
        ),
    ),
    OpInfo(
        name="rope.rope_cache_update",
        op=kernel("rope", "rope_cache_update"),
        oracle=oracles.cache_update,
        oracle_vjp=oracles.cache_update_vjp,
        kernels=("zmlx_rope_cache_update",),
        grad_kernels=("zmlx_rope",),
        gpu_shape=as_on_a_gpu,
        differentiable=(0, 1, 2, 3),
        samples=samples.cache_samples,
        axis_extents=_FITTING,
        source=_ROFORMER,
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "interleaved", "single"),
        error_inputs=(
            *errors.CACHE_ERRORS,
            *errors.rejected_angles("rope_cache_update", errors.cached, "k"),
        ),
        bytes_moved=_cache_moved,
    ),
    OpInfo(
        name="rope.rope_paged_cache_update",
        op=kernel("rope", "rope_paged_cache_update"),
        oracle=oracles.paged_update,
        oracle_vjp=oracles.paged_update_vjp,
        kernels=("zmlx_rope_cache_update",),
        grad_kernels=("zmlx_rope",),
        gpu_shape=as_on_a_gpu,
        differentiable=(0, 1, 2, 3),
        samples=samples.paged_samples,
        axis_extents=_FITTING,
        source=f"Kwon et al. 2023, PagedAttention (arXiv:2309.06180), section 4.2; {_ROFORMER}",
        tolerances=CANCELLING,
        grad_tolerances=CANCELLING,
        golden_samples=("small", "interleaved", "single"),
        error_inputs=(
            *errors.PAGED_ERRORS,
            *errors.rejected_angles(
                "rope_paged_cache_update", lambda: (*errors.cached(), ones(2, 3, dtype="int32")), "k"
            ),
        ),
        bytes_moved=_cache_moved,
    ),
)
