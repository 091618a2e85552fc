"""A kernel's body from what it does with one row; the loops are written with what `_msl` has.

`each_row`
    A team of W threads goes through the rows.
`run_of_rows`
    For a gradient that also adds up over rows: a threadgroup goes through its run.
"""

from __future__ import annotations

from collections.abc import Sequence

_EACH_ROW = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  threadgroup float scratch[ZMLX_SCRATCH];
  zmlx_team<W> team{scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, 0};
  const uint rows = x_shape[0], length = x_shape[1];
  const bool full = length >= K * W * N && length % N == 0 && ALIGNED;
  const uint together = threads_per_threadgroup.x / W;
  const uint start = thread_index_in_threadgroup % W * N;
  for (uint first = threadgroup_position_in_grid.x * together; first < rows;
       first += threadgroups_per_grid.x * together) {
    const uint row = first + thread_index_in_threadgroup / W;
    const bool inside = row < rows;  // other threads take part in the reductions, with some row
    auto in = x + size_t(inside ? row : first) * length;
    // What may be read of it. As a number that differs from row to row, it has no place in registers between rows.
    const uint reach = inside ? length : 0;
"""


_RUN_OF_ROWS = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  using weights = zmlx_chunk<U, N, PACKED>;
  using sums = zmlx_chunk<float, N, PACKED>;
  threadgroup float scratch[ZMLX_SCRATCH];
  zmlx_team<W> team{scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, 0};
  const uint rows = x_shape[0], length = x_shape[1], reach = length;
  const uint start = thread_index_in_threadgroup * N;
  const bool full = length == K * W * N && chunk::aligned(x) && chunk::aligned(g) && chunk::aligned(dx);
  const bool whole = full && weights::aligned(WEIGHT);
  const uint run = (rows + threadgroups_per_grid.x - 1) / threadgroups_per_grid.x;
  const uint begin = threadgroup_position_in_grid.x * run, end = min(begin + run, rows);

  zmlx_raw<U, N, PACKED> w[K];
  zmlx_hold<U, N, K, W, PACKED, WHOLE>(w, WEIGHT, start, reach, whole, 0.0f);
  ZMLX_TOTALS
  zmlx_raw<T, N, PACKED> held[K], cotangent[K];
  zmlx_hold<T, N, K, W, PACKED, WHOLE>(held, x + size_t(begin) * length, start, reach, full, 0.0f);
  zmlx_hold<T, N, K, W, PACKED, WHOLE>(cotangent, g + size_t(begin) * length, start, reach, full, 0.0f);
  for (uint row = begin; row < end; ++row) {
    // The next row is on its way while this one is computed.
    zmlx_raw<T, N, PACKED> next[K], next_cotangent[K];
    const uint following = min(row + 1, end - 1);
    zmlx_hold<T, N, K, W, PACKED, WHOLE>(next, x + size_t(following) * length, start, reach, full, 0.0f);
    zmlx_hold<T, N, K, W, PACKED, WHOLE>(next_cotangent, g + size_t(following) * length, start, reach, full, 0.0f);
    auto out = dx + size_t(row) * length;
    ZMLX_ROW
    ZMLX_UNROLL for (int k = 0; k < K; ++k) {
      held[k] = next[k];
      cotangent[k] = next_cotangent[k];
    }
  }
"""


def run_of_rows(row: str, totals: Sequence[str], weight: str) -> str:
    """A body in which a threadgroup has a run of rows, and reads each but once: the weights' gradients are added up in
    registers, and leave for the threadgroup's line of ``partial`` at the end.

    ``row`` sees the row's values as ``held`` and its cotangents as ``cotangent``, K chunks of N a thread; those of
    ``weight`` as ``w``; and ``totals``, which it adds to. Every thread has a part of every row, or none of any.
    """
    declared = "".join(f"float {name}[K * N];\n  zmlx_fill<K * N>({name}, 0.0f);\n  " for name in totals)
    body = _RUN_OF_ROWS.replace("ZMLX_TOTALS", declared).replace("WEIGHT", weight).replace("ZMLX_ROW", row)
    stores = "".join(
        f"      sums::store(line + size_t({index}) * length + i, {name} + k * N, WHOLE ? N : length - i);\n"
        for index, name in enumerate(totals)
    )
    return (
        f"{body}"
        f"  auto line = partial + size_t(threadgroup_position_in_grid.x) * length * {len(totals)};\n"
        "  ZMLX_UNROLL for (int k = 0; k < K; ++k) {\n"
        "    const uint i = start + k * (W * N);\n"
        f"    if (WHOLE || i < length) {{\n{stores}    }}\n"
        "  }\n"
    )


def each_row(source: str, aligned: str) -> str:
    """A body that runs ``source`` for every row of ``x``. It sees the row as ``in``, its number as ``row``, its
    ``length``, where the thread's first chunk begins as ``start`` (the next is ``W * N`` on), its ``team``, and
    ``full``: whether all chunks are whole, there are as many as the threads hold, and they are aligned in memory,
    which ``aligned`` says of the arrays. Without it every access looks at what there is."""
    return f"{_EACH_ROW.replace('ALIGNED', aligned)}{source}  }}\n"
