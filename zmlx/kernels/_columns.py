"""The sum over rows, with which weights' gradients end."""

from __future__ import annotations

import mlx.core as mx

from zmlx.kernels import _rows
from zmlx.kernels._autodiff import value_reference
from zmlx.kernels._msl import CHUNKS
from zmlx.launch import metal_kernel

# W threads share N columns: each takes every W-th row, and the first joins what they have. C threads are side by side.
_COLUMN_SUM = """
  using chunk = zmlx_chunk<float, N, PACKED>;
  threadgroup float shared[W * C * N];
  const uint rows = x_shape[0], columns = x_shape[1];
  const uint i = thread_position_in_grid.x * N;
  const uint count = i < columns ? min(uint(N), columns - i) : 0;
  const uint part = thread_position_in_threadgroup.y;
  threadgroup float* mine = shared + (part * C + thread_position_in_threadgroup.x) * N;
  float v[N], total[N];
  for (int j = 0; j < N; ++j) total[j] = 0.0f;
  _Pragma("unroll 8") for (uint row = part; count > 0 && row < rows; row += W) {
    chunk::load(v, x + size_t(row) * columns + i, count, 0.0f);
    for (int j = 0; j < N; ++j) total[j] += v[j];
  }
  for (int j = 0; j < N; ++j) mine[j] = total[j];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (part == 0) {
    for (uint other = 1; other < W; ++other)
      for (int j = 0; j < N; ++j) total[j] += mine[other * C * N + j];
    chunk::store(y + i, total, count);
  }
"""

_KERNEL = metal_kernel(
    "zmlx_column_sum",
    ["x"],
    ["y"],
    _COLUMN_SUM,
    CHUNKS,
    reference=value_reference(lambda x: mx.sum(x, axis=0)),
)


def column_sum(x: mx.array) -> mx.array:
    """The sums of the columns of a float32 array of shape (rows, columns), always added in the same order."""
    launch = _rows.column_launch(x.shape[1])
    return launch.run(_KERNEL, [x], [(x.shape[1:], mx.float32)])[0]


def in_first_line(total: mx.array, lines: int) -> mx.array:
    """A sum as so many lines of partial sums, for the references of kernels that leave them: all in the first line."""
    # MLX 0.30 has no vmap for mx.pad.
    return mx.concatenate([total[None], mx.zeros((lines - 1, *total.shape), total.dtype)])
