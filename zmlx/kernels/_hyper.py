"""Hyper-connections: Sinkhorn's normalisation of small matrices, and the mixing of parallel streams by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import mlx.core as mx

from zmlx.kernels import _rows
from zmlx.kernels._autodiff import Outputs, differentiable, value_reference
from zmlx.kernels._msl import CHUNKS, ROWS
from zmlx.launch import metal_kernel

MAX_STREAMS = 8
#: Threads that work on matrices: each has a place for the sums of its iterations.
THREADS = 2**14
GROUP = 64

# A thread has a matrix to itself. The first thing that is divided by is a column's sum, so that what a column is
# multiplied by does not matter: its largest exponential is one.
_MATRIX = """
  constexpr int SIZE = NN * NN;
  const uint matrices = x_shape[0];
  for (uint matrix = thread_position_in_grid.x; matrix < matrices; matrix += threads_per_grid.x) {
    auto in = x + size_t(matrix) * SIZE;
    float a[SIZE];
    for (int c = 0; c < NN; ++c) {
      float top = -INFINITY;
      for (int r = 0; r < NN; ++r) {
        const float v = static_cast<float>(in[r * NN + c]);
        top = v > top ? v : top;
      }
      for (int r = 0; r < NN; ++r) a[r * NN + c] = exp(static_cast<float>(in[r * NN + c]) - top);
    }
BODY
  }
"""

_SINKHORN = _MATRIX.replace(
    "BODY",
    """
    for (uint turn = 0; turn < iterations; ++turn) {
      for (int c = 0; c < NN; ++c) {
        float sum = 0.0f;
        for (int r = 0; r < NN; ++r) sum += a[r * NN + c];
        for (int r = 0; r < NN; ++r) a[r * NN + c] /= sum;
      }
      for (int r = 0; r < NN; ++r) {
        float sum = 0.0f;
        for (int c = 0; c < NN; ++c) sum += a[r * NN + c];
        for (int c = 0; c < NN; ++c) a[r * NN + c] /= sum;
      }
    }
    auto out = y + size_t(matrix) * SIZE;
    for (int i = 0; i < SIZE; ++i) out[i] = static_cast<T>(a[i]);
""",
)

# y = a / sum(a) has the gradient da = (dy - sum(dy * y)) / sum(a), and a = y * sum(a): with the sums of all iterations
# kept, the way back needs no matrix of them.
_SINKHORN_VJP = _MATRIX.replace(
    "BODY",
    """
    const size_t stride = threads_per_grid.x;
    auto kept = sums + thread_position_in_grid.x;  // the threads' sums lie beside each other
    float first[SIZE], d[SIZE];
    for (int i = 0; i < SIZE; ++i) first[i] = a[i];
    for (uint turn = 0; turn < iterations; ++turn) {
      for (int c = 0; c < NN; ++c) {
        float sum = 0.0f;
        for (int r = 0; r < NN; ++r) sum += a[r * NN + c];
        for (int r = 0; r < NN; ++r) a[r * NN + c] /= sum;
        kept[(turn * 2 * NN + c) * stride] = sum;
      }
      for (int r = 0; r < NN; ++r) {
        float sum = 0.0f;
        for (int c = 0; c < NN; ++c) sum += a[r * NN + c];
        for (int c = 0; c < NN; ++c) a[r * NN + c] /= sum;
        kept[(turn * 2 * NN + NN + r) * stride] = sum;
      }
    }
    for (int i = 0; i < SIZE; ++i) d[i] = static_cast<float>(g[size_t(matrix) * SIZE + i]);
    for (uint turn = iterations; turn-- > 0;) {
      for (int r = 0; r < NN; ++r) {
        const float sum = kept[(turn * 2 * NN + NN + r) * stride];
        float along = 0.0f;
        for (int c = 0; c < NN; ++c) along = fma(d[r * NN + c], a[r * NN + c], along);
        for (int c = 0; c < NN; ++c) {
          d[r * NN + c] = (d[r * NN + c] - along) / sum;
          a[r * NN + c] *= sum;
        }
      }
      for (int c = 0; c < NN; ++c) {
        const float sum = kept[(turn * 2 * NN + c) * stride];
        float along = 0.0f;
        for (int r = 0; r < NN; ++r) along = fma(d[r * NN + c], a[r * NN + c], along);
        for (int r = 0; r < NN; ++r) {
          d[r * NN + c] = (d[r * NN + c] - along) / sum;
          a[r * NN + c] *= sum;
        }
      }
    }
    auto out = dx + size_t(matrix) * SIZE;
    for (int i = 0; i < SIZE; ++i) out[i] = static_cast<T>(d[i] * first[i]);
""",
)

# Each stream is read once, and adds to all results.
_MIX = f"""
  constexpr int MOST = {MAX_STREAMS};
  using chunk = zmlx_chunk<T, N, PACKED>;
  const uint tokens = x_shape[0], streams = x_shape[1], length = x_shape[2], results = weights_shape[1];
  for (uint token = thread_position_in_grid.y; token < tokens; token += threads_per_grid.y) {{
    auto w = weights + size_t(token) * results * streams;
    for (uint s = 0; s < S; ++s) {{
      const uint i = (thread_position_in_grid.x * S + s) * N;
      if (i >= length) break;
      const uint count = min(uint(N), length - i);
      float total[MOST * N], v[N];
      for (int j = 0; j < MOST * N; ++j) total[j] = 0.0f;
      for (uint from = 0; from < streams; ++from) {{
        const size_t read = size_t(token) * streams + from;
        chunk::load(v, x + size_t(read) * length + i, count, 0.0f);
        for (int to = 0; to < MOST; ++to)
          if (uint(to) < results) {{
            const float share = static_cast<float>(w[to * streams + from]);
            for (int j = 0; j < N; ++j) total[to * N + j] = fma(share, v[j], total[to * N + j]);
          }}
      }}
      for (int to = 0; to < MOST; ++to)
        if (uint(to) < results) {{
          const size_t written = size_t(token) * results + to;
          chunk::store(y + size_t(written) * length + i, total + to * N, count);
        }}
    }}
  }}
"""

# The gradient of a weight is the product of a result's cotangent and a stream.
_WEIGHTS = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  threadgroup float scratch[ZMLX_SCRATCH];
  zmlx_team<W> team{scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, 0};
  const uint tokens = x_shape[0], length = x_shape[2];
  const uint together = threads_per_threadgroup.x / W, start = thread_index_in_threadgroup % W * N;
  for (uint first = threadgroup_position_in_grid.x * together; first < tokens;
       first += threadgroups_per_grid.x * together) {
    const uint mine = first + thread_index_in_threadgroup / W;
    const bool inside = mine < tokens;  // other threads take part in the reductions, with some token
    const size_t token = inside ? mine : first;
    float total[TO * FROM], run[TO * FROM], v[N], d[TO * N];
    for (int j = 0; j < TO * FROM; ++j) total[j] = run[j] = 0.0f;
    uint turn = 0;
    for (uint i = start; i < length; i += W * N) {
      const uint count = min(uint(N), length - i);
      for (int to = 0; to < TO; ++to) chunk::load(d + to * N, g + size_t(token * TO + to) * length + i, count, 0.0f);
      for (int from = 0; from < FROM; ++from) {
        chunk::load(v, x + size_t(token * FROM + from) * length + i, count, 0.0f);
        for (int to = 0; to < TO; ++to) {
          float part[N];
          for (int j = 0; j < N; ++j) part[j] = d[to * N + j] * v[j];
          run[to * FROM + from] += zmlx_sum<N>(part);
        }
      }
      if (++turn % 16 == 0)  // so many times fewer roundings of the size of the total
        for (int j = 0; j < TO * FROM; ++j) {
          total[j] += run[j];
          run[j] = 0.0f;
        }
    }
    for (int j = 0; j < TO * FROM; ++j) total[j] += run[j];
    team.template sums<TO * FROM>(total);
    if (inside && start == 0)
      for (int j = 0; j < TO * FROM; ++j) dw[token * (TO * FROM) + j] = static_cast<U>(total[j]);
  }
"""


def balanced(x: mx.array, iterations: int) -> mx.array:
    """Sinkhorn's iterations in MLX operations."""
    x32 = x.astype(mx.float32)
    a = mx.exp(x32 - mx.stop_gradient(mx.max(x32, axis=-2, keepdims=True)))
    for _ in range(iterations):
        a = a / mx.sum(a, axis=-2, keepdims=True)
        a = a / mx.sum(a, axis=-1, keepdims=True)
    return a.astype(x.dtype)


def _matrices(x: mx.array) -> mx.array:
    return x.reshape(-1, *x.shape[-2:])


@lru_cache(maxsize=64)
def sinkhorn_with(iterations: int) -> Callable[[mx.array], mx.array]:
    """Sinkhorn's iterations over matrices (..., n, n)."""

    def reference(x: mx.array) -> mx.array:
        return balanced(x, iterations)

    def reference_vjp(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        x, g, _ = inputs
        sums = mx.zeros((iterations, 2 * x.shape[-1], min(x.shape[0], THREADS)), mx.float32)
        return [mx.vjp(reference, [x], [g])[1][0], sums]

    forward_kernel = metal_kernel(
        "zmlx_sinkhorn",
        ["x", "iterations"],
        ["y"],
        _SINKHORN,
        reference=lambda inputs, template: [reference(inputs[0])],
    )
    backward_kernel = metal_kernel(
        "zmlx_sinkhorn_vjp",
        ["x", "g", "iterations"],
        ["dx", "sums"],
        _SINKHORN_VJP,
        reference=reference_vjp,
    )

    def launch(x: mx.array) -> tuple[_rows.Launch, int]:
        threads = min(x.shape[0], THREADS)
        return _rows.Launch((("NN", x.shape[-1]),), (threads, 1, 1), (min(threads, GROUP), 1, 1)), threads

    def forward(x: mx.array) -> mx.array:
        rows = _matrices(x)
        inputs: list[mx.array | float] = [rows, iterations]
        outputs = [(rows.shape, x.dtype)]
        return launch(rows)[0].run(forward_kernel, inputs, outputs, T=x.dtype)[0].reshape(x.shape)

    def backward(cotangent: mx.array, x: mx.array) -> Outputs:
        rows = _matrices(x)
        shape, threads = launch(rows)
        outputs = [(rows.shape, x.dtype), ((iterations, 2 * x.shape[-1], threads), mx.float32)]
        inputs: list[mx.array | float] = [rows, _matrices(cotangent), iterations]
        return (shape.run(backward_kernel, inputs, outputs, T=x.dtype)[0].reshape(x.shape),)

    return differentiable(forward, backward, reference)


def _mixed(x: mx.array, weights: mx.array) -> mx.array:
    """In MLX operations; as a sum and not as a product of matrices, which TF32 would round."""
    x32, w = x.astype(mx.float32), weights.astype(mx.float32)
    return mx.sum(w[..., None] * x32[..., None, :, :], axis=-2).astype(x.dtype)


def _reference_weights(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    x, g = (array.astype(mx.float32) for array in inputs)
    return [mx.sum(g[..., None, :] * x[..., None, :, :], axis=-1).astype(template["U"])]


_MIX_KERNEL = metal_kernel(
    "zmlx_hyper_connection_mix", ["x", "weights"], ["y"], _MIX, CHUNKS, reference=value_reference(_mixed)
)
_WEIGHTS_KERNEL = metal_kernel(
    "zmlx_hyper_connection_weights",
    ["x", "g"],
    ["dw"],
    _WEIGHTS,
    CHUNKS + ROWS,
    reference=_reference_weights,
)


def _mix(x: mx.array, weights: mx.array) -> mx.array:
    rows = _matrices(x)
    shape = (rows.shape[0], weights.shape[-2], x.shape[-1])
    launch = _rows.span_launch(rows.shape[0], x.shape[-1], x.dtype.size)
    y = launch.run(_MIX_KERNEL, [rows, _matrices(weights)], [(shape, x.dtype)], T=x.dtype)[0]
    return y.reshape(*x.shape[:-2], *shape[1:])


def _mix_backward(cotangent: mx.array, x: mx.array, weights: mx.array) -> Outputs:
    rows, matrices = _matrices(x), _matrices(weights)
    launch = _rows.simd_launch(rows.shape[0], x.shape[-1], x.dtype.size)
    dw = launch.run(
        _WEIGHTS_KERNEL,
        [rows, _matrices(cotangent)],
        [(matrices.shape, weights.dtype)],
        T=x.dtype,
        U=weights.dtype,
        TO=weights.shape[-2],
        FROM=weights.shape[-1],
    )[0]
    return _mix(cotangent, mx.swapaxes(weights, -1, -2)), dw.reshape(weights.shape)


mix = differentiable(_mix, _mix_backward, _mixed, row_arguments=2)
