"""Normalisation of rows, with weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import mlx.core as mx

from zmlx.kernels import _check, _rows
from zmlx.kernels._autodiff import Outputs, differentiable, value_reference
from zmlx.kernels._columns import column_sum
from zmlx.kernels._msl import CHUNKS, ROWS, each_row
from zmlx.launch import MetalKernel, metal_kernel

__all__ = ["layernorm", "rmsnorm"]

_RMSNORM = each_row(
    """
    using weights = zmlx_chunk<U, N, PACKED>;
    const float added = eps;  // read here: behind the meeting it would be waited for
    ZMLX_HOLD(held, in, start, 0.0f)

    float part[N];
    zmlx_fill<N>(part, 0.0f);
    ZMLX_VALUES(0.0f, {
      for (int j = 0; j < N; ++j) part[j] = fma(v[j], v[j], part[j]);
    })
    const float scale = rsqrt(team.sum(zmlx_sum<N>(part)) / length + added);

    if (!inside) continue;
    auto out = y + size_t(row) * length;
    ZMLX_RESULTS(0.0f, {
      float w[N];
      weights::load(w, weight + i, count, 0.0f, sure);
      for (int j = 0; j < N; ++j) v[j] = v[j] * scale * w[j];
    })
""",
    aligned="chunk::aligned(x) && chunk::aligned(y) && zmlx_chunk<U, N, PACKED>::aligned(weight)",
)

# The rounded mean of a row far from zero is off by more than the row's small differences can bear. The mean
# of what is left after subtracting it, `off`, is what it lacks (Chan, Golub and LeVeque 1983, corrected
# two-pass algorithm).
_LAYERNORM = each_row(
    """
    using gammas = zmlx_chunk<U, N, PACKED>;
    using betas = zmlx_chunk<V, N, PACKED>;
    const float added = eps;
    ZMLX_HOLD(held, in, start, 0.0f)

    float part[N], rest[N];
    zmlx_fill<N>(part, 0.0f);
    ZMLX_VALUES(0.0f, {
      for (int j = 0; j < N; ++j) part[j] += v[j];
    })
    const float mean = team.sum(zmlx_sum<N>(part)) / length;

    zmlx_refill<N, K, W>(held, start, length, mean);
    zmlx_fill<N>(part, 0.0f);
    zmlx_fill<N>(rest, 0.0f);
    ZMLX_VALUES(mean, {
      for (int j = 0; j < N; ++j) {
        const float centred = v[j] - mean;
        part[j] = fma(centred, centred, part[j]);
        rest[j] += centred;
        if (kept) v[j] = centred;
      }
    })
    float moments[2] = {zmlx_sum<N>(rest), zmlx_sum<N>(part)};
    team.template sums<2>(moments);
    const float off = moments[0] / length;
    const float scale = rsqrt(max(moments[1] / length - off * off, 0.0f) + added);

    if (!inside) continue;
    auto out = y + size_t(row) * length;
    ZMLX_RESULTS(mean, {
      float w[N], b[N];
      gammas::load(w, gamma + i, count, 0.0f, sure);
      betas::load(b, beta + i, count, 0.0f, sure);
      for (int j = 0; j < N; ++j) {
        const float centred = kept ? v[j] : v[j] - mean;
        v[j] = fma((centred - off) * scale, w[j], b[j]);
      }
    })
""",
    aligned="chunk::aligned(x) && chunk::aligned(y) && zmlx_chunk<U, N, PACKED>::aligned(gamma) && "
    "zmlx_chunk<V, N, PACKED>::aligned(beta)",
)

# The kernels below also add up over rows. A threadgroup has a run of rows of its own and goes through it in
# blocks: the gradients of x first, row by row; then it reads the block once more, by columns and from the
# cache, and adds its share of the weights' gradients to its line of `partial`. No atomics, so the order of
# the additions is fixed.

# With xhat = x * scale:  dx      = scale * (g * weight - xhat * mean(g * weight * xhat))
#                         dweight = sum over rows of g * xhat
_RMSNORM_VJP = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  using weights = zmlx_chunk<U, N, PACKED>;
  using sums = zmlx_chunk<float, N, PACKED>;
  threadgroup float scratch[ZMLX_SCRATCH];
  threadgroup float scales[BLOCK];
  zmlx_team<W> team{scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, 0};
  const uint rows = x_shape[0], length = x_shape[1];
  const uint start = thread_index_in_threadgroup * N;
  const uint run = (rows + threadgroups_per_grid.x - 1) / threadgroups_per_grid.x;
  const uint begin = threadgroup_position_in_grid.x * run, end = min(begin + run, rows);
  for (uint block = begin; block < end; block += BLOCK) {
    const uint count_rows = min(uint(BLOCK), end - block);
    float v[N], c[N], w[N], part[N], weighted[N];
    for (uint k = 0; k < count_rows; ++k) {
      auto in = x + size_t(block + k) * length;
      auto cotangent = g + size_t(block + k) * length;
      auto out = dx + size_t(block + k) * length;

      zmlx_fill<N>(part, 0.0f);
      zmlx_fill<N>(weighted, 0.0f);
      ZMLX_CHUNKS(start, length, W * N, {
        chunk::load(v, in + i, count, 0.0f);
        chunk::load(c, cotangent + i, count, 0.0f);
        weights::load(w, weight + i, count, 0.0f);
        for (int j = 0; j < N; ++j) {
          part[j] = fma(v[j], v[j], part[j]);
          weighted[j] = fma(c[j] * w[j], v[j], weighted[j]);
        }
      })
      const float scale = rsqrt(team.sum(zmlx_sum<N>(part)) / length + eps);
      const float back = scale * scale * (team.sum(zmlx_sum<N>(weighted)) / length);
      if (start == 0) scales[k] = scale;

      ZMLX_CHUNKS(start, length, W * N, {
        chunk::load(v, in + i, count, 0.0f);
        chunk::load(c, cotangent + i, count, 0.0f);
        weights::load(w, weight + i, count, 0.0f);
        for (int j = 0; j < N; ++j) v[j] = scale * (c[j] * w[j] - v[j] * back);
        chunk::store(out + i, v, count);
      })
    }

    threadgroup_barrier(mem_flags::mem_threadgroup);  // all of the block's `scales` are there
    auto line = partial + size_t(threadgroup_position_in_grid.x) * length;
    ZMLX_CHUNKS(start, length, W * N, {
      zmlx_fill<N>(part, 0.0f);
      if (block > begin) sums::load(part, line + i, count, 0.0f);
      for (uint k = 0; k < count_rows; ++k) {
        chunk::load(v, x + size_t(block + k) * length + i, count, 0.0f);
        chunk::load(c, g + size_t(block + k) * length + i, count, 0.0f);
        for (int j = 0; j < N; ++j) part[j] = fma(c[j], v[j] * scales[k], part[j]);
      }
      sums::store(line + i, part, count);
    })
    threadgroup_barrier(mem_flags::mem_threadgroup);  // all have read them
  }
"""

# With xhat = (x - mean) * scale:  dx     = scale * (g * gamma - mean(g * gamma) - xhat * mean(g * gamma * xhat))
#                                  dgamma = sum over rows of g * xhat
#                                  dbeta  = sum over rows of g
_LAYERNORM_VJP = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  using weights = zmlx_chunk<U, N, PACKED>;
  using sums = zmlx_chunk<float, N, PACKED>;
  threadgroup float scratch[ZMLX_SCRATCH];
  threadgroup float means[BLOCK], offs[BLOCK], scales[BLOCK];
  zmlx_team<W> team{scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, 0};
  const uint rows = x_shape[0], length = x_shape[1];
  const uint start = thread_index_in_threadgroup * N;
  const uint run = (rows + threadgroups_per_grid.x - 1) / threadgroups_per_grid.x;
  const uint begin = threadgroup_position_in_grid.x * run, end = min(begin + run, rows);
  for (uint block = begin; block < end; block += BLOCK) {
    const uint count_rows = min(uint(BLOCK), end - block);
    float v[N], c[N], w[N], part[N], rest[N], weighted[N], plain[N];
    for (uint k = 0; k < count_rows; ++k) {
      auto in = x + size_t(block + k) * length;
      auto cotangent = g + size_t(block + k) * length;
      auto out = dx + size_t(block + k) * length;

      zmlx_fill<N>(part, 0.0f);
      ZMLX_CHUNKS(start, length, W * N, {
        chunk::load(v, in + i, count, 0.0f);
        for (int j = 0; j < N; ++j) part[j] += v[j];
      })
      const float mean = team.sum(zmlx_sum<N>(part)) / length;

      zmlx_fill<N>(part, 0.0f);
      zmlx_fill<N>(rest, 0.0f);
      zmlx_fill<N>(weighted, 0.0f);
      zmlx_fill<N>(plain, 0.0f);
      ZMLX_CHUNKS(start, length, W * N, {
        chunk::load(v, in + i, count, mean);
        chunk::load(c, cotangent + i, count, 0.0f);
        weights::load(w, gamma + i, count, 0.0f);
        for (int j = 0; j < N; ++j) {
          const float centred = v[j] - mean;
          part[j] = fma(centred, centred, part[j]);
          rest[j] += centred;
          plain[j] = fma(c[j], w[j], plain[j]);
          weighted[j] = fma(c[j] * w[j], centred, weighted[j]);
        }
      })
      const float off = team.sum(zmlx_sum<N>(rest)) / length;
      const float scale = rsqrt(max(team.sum(zmlx_sum<N>(part)) / length - off * off, 0.0f) + eps);
      const float shift = team.sum(zmlx_sum<N>(plain)) / length;
      const float back = scale * scale * (team.sum(zmlx_sum<N>(weighted)) / length - off * shift);
      if (start == 0) {
        means[k] = mean;
        offs[k] = off;
        scales[k] = scale;
      }

      ZMLX_CHUNKS(start, length, W * N, {
        chunk::load(v, in + i, count, mean);
        chunk::load(c, cotangent + i, count, 0.0f);
        weights::load(w, gamma + i, count, 0.0f);
        for (int j = 0; j < N; ++j) v[j] = scale * (c[j] * w[j] - shift - (v[j] - mean - off) * back);
        chunk::store(out + i, v, count);
      })
    }

    threadgroup_barrier(mem_flags::mem_threadgroup);  // what the block's rows left here is complete
    auto line = partial + size_t(threadgroup_position_in_grid.x) * 2 * length;
    ZMLX_CHUNKS(start, length, W * N, {
      zmlx_fill<N>(weighted, 0.0f);
      zmlx_fill<N>(plain, 0.0f);
      if (block > begin) {
        sums::load(weighted, line + i, count, 0.0f);
        sums::load(plain, line + length + i, count, 0.0f);
      }
      for (uint k = 0; k < count_rows; ++k) {
        chunk::load(v, x + size_t(block + k) * length + i, count, 0.0f);
        chunk::load(c, g + size_t(block + k) * length + i, count, 0.0f);
        for (int j = 0; j < N; ++j) {
          weighted[j] = fma(c[j], (v[j] - means[k] - offs[k]) * scales[k], weighted[j]);
          plain[j] += c[j];
        }
      }
      sums::store(line + i, weighted, count);
      sums::store(line + length + i, plain, count);
    })
    threadgroup_barrier(mem_flags::mem_threadgroup);  // all have read them
  }
"""

_HEADER = CHUNKS + ROWS


def rmsnorm(x: mx.array, weight: mx.array, eps: float = 1e-6) -> mx.array:
    """``x / sqrt(mean(x**2) + eps) * weight``, the mean taken over the last axis.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    weight
        Shape (D,), of any of these dtypes.
    eps
        Added to the mean square; zero or more.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32.

    Raises
    ------
    TypeError
        ``x`` or ``weight`` is not an MLX array of one of these dtypes, or ``eps`` is not a number.
    ValueError
        ``x`` is 0-d, ``weight`` does not have shape (D,), or ``eps`` is negative or not finite.

    Notes
    -----
    Zhang and Sennrich, Root Mean Square Layer Normalization (arXiv:1910.07467), equation 4, with eps as in LLaMA.
    Squares overflow beyond 1.8e19, where float32 rows come out as zeros.
    """
    _check.check_rows("rmsnorm", x)
    _check.check_weight("rmsnorm", weight, x, "weight")
    eps = _check.check_eps("rmsnorm", eps)
    if x.size == 0:
        return mx.zeros(x.shape, x.dtype)
    return _rmsnorm(eps)(x, weight)


def layernorm(x: mx.array, gamma: mx.array, beta: mx.array, eps: float = 1e-5) -> mx.array:
    """``(x - mean) / sqrt(var + eps) * gamma + beta``, mean and variance taken over the last axis.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    gamma, beta
        Shape (D,), of any of these dtypes.
    eps
        Added to the variance; zero or more.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32.

    Raises
    ------
    TypeError
        ``x``, ``gamma`` or ``beta`` is not an MLX array of one of these dtypes, or ``eps`` is not a number.
    ValueError
        ``x`` is 0-d, a weight does not have shape (D,), or ``eps`` is negative or not finite.

    Notes
    -----
    Ba, Kiros and Hinton, Layer Normalization (arXiv:1607.06450), equation 4. The variance (of the population) is the
    mean square of the centred row, computed after the mean: it does not cancel for rows far from zero.
    """
    _check.check_rows("layernorm", x)
    _check.check_weight("layernorm", gamma, x, "gamma")
    _check.check_weight("layernorm", beta, x, "beta")
    eps = _check.check_eps("layernorm", eps)
    if x.size == 0:
        return mx.zeros(x.shape, x.dtype)
    return _layernorm(eps)(x, gamma, beta)


def _rmsnorm_reference(x: mx.array, weight: mx.array, eps: mx.array | float) -> mx.array:
    x32 = x.astype(mx.float32)
    scale = mx.rsqrt(mx.mean(mx.square(x32), axis=-1, keepdims=True) + eps)
    return (x32 * scale * weight.astype(mx.float32)).astype(x.dtype)


def _layernorm_reference(x: mx.array, gamma: mx.array, beta: mx.array, eps: mx.array | float) -> mx.array:
    x32 = x.astype(mx.float32)
    centred = x32 - mx.mean(x32, axis=-1, keepdims=True)
    scale = mx.rsqrt(mx.mean(mx.square(centred), axis=-1, keepdims=True) + eps)
    return (centred * scale * gamma.astype(mx.float32) + beta.astype(mx.float32)).astype(x.dtype)


def _reference_rmsnorm_vjp(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    x, g, weight, eps = inputs
    dx, dweight = mx.vjp(lambda x, w: _rmsnorm_reference(x, w, eps), [x, weight.astype(mx.float32)], [g])[1]
    return [dx, _one_partial(dweight, x.shape[0])]


def _reference_layernorm_vjp(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    x, g, gamma, eps = inputs
    weights = [gamma.astype(mx.float32), mx.zeros(gamma.shape, mx.float32)]
    dx, dgamma, dbeta = mx.vjp(lambda x, a, b: _layernorm_reference(x, a, b, eps), [x, *weights], [g])[1]
    return [dx, _one_partial(mx.concatenate([dgamma, dbeta]), x.shape[0])]


def _one_partial(total: mx.array, rows: int) -> mx.array:
    """A whole sum in the shape of the kernels' partial ones: all of it in the first line."""
    # MLX 0.30 has no vmap for mx.pad.
    rest = mx.zeros((_rows.partials(rows) - 1, *total.shape), total.dtype)
    return mx.concatenate([total[None], rest])


_RMSNORM_KERNEL = metal_kernel(
    "zmlx_rmsnorm",
    ["x", "weight", "eps"],
    ["y"],
    _RMSNORM,
    _HEADER,
    reference=value_reference(_rmsnorm_reference),
)
_RMSNORM_VJP_KERNEL = metal_kernel(
    "zmlx_rmsnorm_vjp",
    ["x", "g", "weight", "eps"],
    ["dx", "partial"],
    _RMSNORM_VJP,
    _HEADER,
    reference=_reference_rmsnorm_vjp,
)
_LAYERNORM_KERNEL = metal_kernel(
    "zmlx_layernorm",
    ["x", "gamma", "beta", "eps"],
    ["y"],
    _LAYERNORM,
    _HEADER,
    reference=value_reference(_layernorm_reference),
)
_LAYERNORM_VJP_KERNEL = metal_kernel(
    "zmlx_layernorm_vjp",
    ["x", "g", "gamma", "eps"],
    ["dx", "partial"],
    _LAYERNORM_VJP,
    _HEADER,
    reference=_reference_layernorm_vjp,
)


@lru_cache(maxsize=64)
def _rmsnorm(eps: float) -> Callable[[mx.array, mx.array], mx.array]:
    def forward(x: mx.array, weight: mx.array) -> mx.array:
        rows = _rows.as_rows(x)
        launch = _rows.row_launch(rows.shape[0], rows.shape[1], x.dtype.size)
        outputs = launch.run(
            _RMSNORM_KERNEL, [rows, weight, eps], [(rows.shape, x.dtype)], T=x.dtype, U=weight.dtype
        )
        return outputs[0].reshape(x.shape)

    def backward(cotangent: mx.array, x: mx.array, weight: mx.array) -> Outputs:
        dx, partial = _row_and_weight_gradients(_RMSNORM_VJP_KERNEL, cotangent, x, weight, eps, 1)
        return dx, column_sum(partial).astype(weight.dtype)

    return differentiable(forward, backward, lambda x, weight: _rmsnorm_reference(x, weight, eps))


@lru_cache(maxsize=64)
def _layernorm(eps: float) -> Callable[[mx.array, mx.array, mx.array], mx.array]:
    def forward(x: mx.array, gamma: mx.array, beta: mx.array) -> mx.array:
        rows = _rows.as_rows(x)
        launch = _rows.row_launch(rows.shape[0], rows.shape[1], x.dtype.size)
        outputs = launch.run(
            _LAYERNORM_KERNEL,
            [rows, gamma, beta, eps],
            [(rows.shape, x.dtype)],
            T=x.dtype,
            U=gamma.dtype,
            V=beta.dtype,
        )
        return outputs[0].reshape(x.shape)

    def backward(cotangent: mx.array, x: mx.array, gamma: mx.array, beta: mx.array) -> Outputs:
        dx, partial = _row_and_weight_gradients(_LAYERNORM_VJP_KERNEL, cotangent, x, gamma, eps, 2)
        dgamma, dbeta = mx.split(column_sum(partial), 2)
        return dx, dgamma.astype(gamma.dtype), dbeta.astype(beta.dtype)

    return differentiable(forward, backward, lambda x, gamma, beta: _layernorm_reference(x, gamma, beta, eps))


def _row_and_weight_gradients(
    kernel: MetalKernel, cotangent: mx.array, x: mx.array, weight: mx.array, eps: float, sums: int
) -> tuple[mx.array, mx.array]:
    """The gradient of ``x``, and partial sums of the weights' gradients: (partials, ``sums`` * D) in float32."""
    rows = _rows.as_rows(x)
    count, length = rows.shape
    launch = _rows.block_launch(count, length, x.dtype.size)
    dx, partial = launch.run(
        kernel,
        [rows, cotangent.reshape(rows.shape), weight, eps],
        [(rows.shape, x.dtype), ((_rows.partials(count), sums * length), mx.float32)],
        T=x.dtype,
        U=weight.dtype,
    )
    return dx.reshape(x.shape), partial
