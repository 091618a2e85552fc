"""Reductions over the last axis."""

from __future__ import annotations

import mlx.core as mx

from zmlx.kernels import _check, _rows
from zmlx.kernels._autodiff import differentiable, value_reference
from zmlx.kernels._msl import CHUNKS, ROWS, each_row
from zmlx.launch import metal_kernel

__all__ = ["sum_lastdim"]

# Sums of 16 chunks, or of the K that are read at once, are added to the total at a time: so many times fewer
# roundings of the size of the total, and what is rounded more often is smaller.
_FORWARD = each_row(
    """
    constexpr uint RUN = K > 0 ? K : 16;
    float part[N], total[N];
    zmlx_fill<N>(total, 0.0f);
    for (uint run = start; run < length; run += RUN * W * N) {
      zmlx_fill<N>(part, 0.0f);
      if (K > 0) {
        ZMLX_HOLD(held, in, run, full && run - start + K * W * N <= length, 0.0f)
        ZMLX_UNROLL for (int k = 0; k < K; ++k)
          for (int j = 0; j < N; ++j) part[j] += held[k].at(j);
      } else {
        float v[N];
        const uint end = min(run + RUN * W * N, length);
        ZMLX_CHUNKS(run, end, W * N, {
          chunk::load(v, in + i, count, 0.0f);
          for (int j = 0; j < N; ++j) part[j] += v[j];
        })
      }
      for (int j = 0; j < N; ++j) total[j] += part[j];
    }
    const float sum = team.sum(zmlx_sum<N>(total));
    if (inside && start == 0) y[row] = static_cast<T>(sum);
""",
    aligned="chunk::aligned(x)",
)


def sum_lastdim(x: mx.array) -> mx.array:
    """The sum over the last axis.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.

    Returns
    -------
    mx.array
        Shape (...), of ``x``'s dtype; added up in float32. Zeros where D is 0.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes.
    ValueError
        ``x`` is 0-d.

    Notes
    -----
    The gradient is the cotangent, repeated along the row, and needs no kernel. The order of the additions depends on
    the row's length and the back end alone, so runs repeat bit for bit.
    """
    _check.check_rows("sum_lastdim", x)
    if x.size == 0:
        return mx.zeros(x.shape[:-1], x.dtype)
    result: mx.array = _sum(x)
    return result


def _reference(x: mx.array) -> mx.array:
    return mx.sum(x.astype(mx.float32), axis=-1).astype(x.dtype)


_FORWARD_KERNEL = metal_kernel(
    "zmlx_sum", ["x"], ["y"], _FORWARD, CHUNKS + ROWS, reference=value_reference(_reference)
)


def _forward(x: mx.array) -> mx.array:
    return _rows.run_rows(_FORWARD_KERNEL, [x], reduces=True)


def _backward(cotangent: mx.array, x: mx.array) -> tuple[mx.array]:
    return (mx.broadcast_to(cotangent[..., None], x.shape),)


_sum = differentiable(_forward, _backward, _reference)
