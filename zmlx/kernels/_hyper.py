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

_STREAMS = """
// A chunk of each of COUNT streams, a stride apart. Where all are `sure`, their loads are under way before the first
// value is used.
template <typename T, int N, int COUNT, bool PACKED, typename P>
METAL_FUNC void zmlx_hold_streams(
    thread zmlx_raw<T, N, PACKED>* held, P in, size_t stride, uint count, bool sure) {
  using chunk = zmlx_chunk<T, N, PACKED>;
  if (sure)
    _Pragma("unroll") for (int c = 0; c < COUNT; ++c) held[c] = chunk::raw(in + c * stride, N, 0.0f, true);
  else
    _Pragma("unroll") for (int c = 0; c < COUNT; ++c) held[c] = chunk::raw(in + c * stride, count, 0.0f);
}

// ZMLX_SPAN for chunks that are a stride apart.
#define ZMLX_STRIDES(start, length, stride, whole, ...)  \\
  if (whole) {                                           \\
    constexpr bool sure = true;                          \\
    constexpr uint count = N;                            \\
    for (uint i = start; i < length; i += stride) {      \\
      __VA_ARGS__                                        \\
    }                                                    \\
  } else {                                               \\
    constexpr bool sure = false;                         \\
    ZMLX_CHUNKS(start, length, stride, __VA_ARGS__)      \\
  }
"""

# Each stream is read once, for all results.
_MIX = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  const uint tokens = x_shape[0], length = x_shape[2];
  const uint begin = thread_position_in_grid.x * (N * S), end = min(begin + N * S, length);
  const bool whole = PACKED && length % N == 0 && chunk::aligned(x) && chunk::aligned(y);
  for (uint token = thread_position_in_grid.y; token < tokens; token += threads_per_grid.y) {
    auto in = x + size_t(token) * FROM * length;
    auto out = y + size_t(token) * TO * length;
    float w[TO * FROM];
    for (int j = 0; j < TO * FROM; ++j) w[j] = static_cast<float>(weights[size_t(token) * (TO * FROM) + j]);
    ZMLX_SPAN(begin, end, whole, {
      zmlx_raw<T, N, PACKED> held[FROM];
      zmlx_hold_streams<T, N, FROM, PACKED>(held, in + i, length, count, sure);
      _Pragma("unroll") for (int to = 0; to < TO; ++to) {
        float total[N];
        for (int j = 0; j < N; ++j) total[j] = w[to * FROM] * held[0].at(j);
        _Pragma("unroll") for (int from = 1; from < FROM; ++from)
          for (int j = 0; j < N; ++j) total[j] = fma(w[to * FROM + from], held[from].at(j), total[j]);
        chunk::store(out + size_t(to) * length + i, total, count, sure);
      }
    })
  }
"""

# The gradient of a stream is the results' cotangents, mixed back; that of a weight is the product of a result's
# cotangent and a stream. W threads have a token.
_BACKWARD = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  threadgroup float scratch[ZMLX_SCRATCH];
  zmlx_team<W> team{scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, 0};
  const uint tokens = x_shape[0], length = x_shape[2];
  const uint together = threads_per_threadgroup.x / W, start = thread_index_in_threadgroup % W * N;
  const bool whole = PACKED && length % N == 0 && chunk::aligned(x) && chunk::aligned(g) && chunk::aligned(dx);
  for (uint first = threadgroup_position_in_grid.x * together; first < tokens;
       first += threadgroups_per_grid.x * together) {
    const uint mine = first + thread_index_in_threadgroup / W;
    const bool inside = mine < tokens;  // other threads take part in the reductions, with some token
    const uint token = inside ? mine : first;
    auto in = x + size_t(token) * FROM * length;
    auto cotangent = g + size_t(token) * TO * length;
    auto out = dx + size_t(token) * FROM * length;
    float w[TO * FROM], sum[TO * FROM], run[TO * FROM];
    for (int j = 0; j < TO * FROM; ++j) {
      w[j] = static_cast<float>(weights[size_t(token) * (TO * FROM) + j]);
      sum[j] = run[j] = 0.0f;
    }
    uint turn = 0;
    ZMLX_STRIDES(start, length, W * N, whole, {
      zmlx_raw<T, N, PACKED> v[FROM], d[TO];
      zmlx_hold_streams<T, N, FROM, PACKED>(v, in + i, length, count, sure);
      zmlx_hold_streams<T, N, TO, PACKED>(d, cotangent + i, length, count, sure);
      _Pragma("unroll") for (int from = 0; from < FROM; ++from) {
        float total[N];
        zmlx_fill<N>(total, 0.0f);
        _Pragma("unroll") for (int to = 0; to < TO; ++to) {
          float part[N];
          for (int j = 0; j < N; ++j) {
            part[j] = d[to].at(j) * v[from].at(j);
            total[j] = fma(w[to * FROM + from], d[to].at(j), total[j]);
          }
          run[to * FROM + from] += zmlx_sum<N>(part);
        }
        if (inside) chunk::store(out + size_t(from) * length + i, total, count, sure);
      }
      if (++turn % 16 == 0)  // so many times fewer roundings of the size of the sum
        for (int j = 0; j < TO * FROM; ++j) {
          sum[j] += run[j];
          run[j] = 0.0f;
        }
    })
    for (int j = 0; j < TO * FROM; ++j) sum[j] += run[j];
    team.template sums<TO * FROM>(sum);
    if (inside && start == 0)
      for (int j = 0; j < TO * FROM; ++j) dw[size_t(token) * (TO * FROM) + j] = static_cast<U>(sum[j]);
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


def _backward_reference(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    x, g, weights = inputs
    return mx.vjp(_mixed, [x, weights], [g])[1]


_MIX_KERNEL = metal_kernel(
    "zmlx_hyper_connection_mix",
    ["x", "weights"],
    ["y"],
    _MIX,
    CHUNKS + _STREAMS,
    reference=value_reference(_mixed),
)
_BACKWARD_KERNEL = metal_kernel(
    "zmlx_hyper_connection_mix_vjp",
    ["x", "g", "weights"],
    ["dx", "dw"],
    _BACKWARD,
    CHUNKS + ROWS + _STREAMS,
    reference=_backward_reference,
)


def _mix(x: mx.array, weights: mx.array) -> mx.array:
    rows, matrices = _matrices(x), _matrices(weights)
    count, results, streams = matrices.shape
    launch = _rows.span_launch(count, x.shape[-1], x.dtype.size)
    outputs = [((count, results, x.shape[-1]), x.dtype)]
    y = launch.run(_MIX_KERNEL, [rows, matrices], outputs, T=x.dtype, TO=results, FROM=streams)[0]
    return y.reshape(*x.shape[:-2], results, x.shape[-1])


def _mix_backward(cotangent: mx.array, x: mx.array, weights: mx.array) -> Outputs:
    rows, matrices = _matrices(x), _matrices(weights)
    # As many simdgroups of a token as there is room for their sums in ZMLX_SCRATCH: longer pieces of memory at a time.
    widest = 128 if matrices.shape[1] * matrices.shape[2] <= 32 else 64
    launch = _rows.simd_launch(rows.shape[0], x.shape[-1], x.dtype.size, widest=widest)
    dx, dw = launch.run(
        _BACKWARD_KERNEL,
        [rows, _matrices(cotangent), matrices],
        [(rows.shape, x.dtype), (matrices.shape, weights.dtype)],
        T=x.dtype,
        U=weights.dtype,
        TO=weights.shape[-2],
        FROM=weights.shape[-1],
    )
    return dx.reshape(x.shape), dw.reshape(weights.shape)


mix = differentiable(_mix, _mix_backward, _mixed, row_arguments=2)
