"""The Metal text that all row kernels have: passes over a row, and how bodies begin."""

from __future__ import annotations

#: Beside `zmlx.kernels._msl.ROWS`: passes over a row of which several arrays are read. The body of a pass sees where a
#: chunk begins, `i`; how many of its values are the row's, `count`; whether the row's held part has it, as number `k`,
#: in `kept`; and whether access to it is `sure`.
PASSES = """
#define ZMLX_KEPT (K > 0 ? K : 1)
#define ZMLX_PASS(...)                                                   \\
  {                                                                      \\
    if (full) {                                                          \\
      ZMLX_PASS_READ(true, N, __VA_ARGS__)                               \\
    } else {                                                             \\
      ZMLX_PASS_READ(false, WHOLE ? uint(N) : i < reach ? reach - i : 0, __VA_ARGS__) \\
    }                                                                    \\
    ZMLX_PASS_REST(__VA_ARGS__)                                          \\
  }
// There twice: where all chunks are whole nothing is asked of a value.
#define ZMLX_PASS_READ(sure_, count_, ...)                               \\
  ZMLX_UNROLL for (int k = 0; k < K; ++k) {                              \\
    constexpr bool kept = true, sure = sure_;                            \\
    const uint i = start + k * (W * N);                                  \\
    const uint count = count_;                                           \\
    __VA_ARGS__                                                          \\
  }
#define ZMLX_PASS_REST(...)                                              \\
  constexpr bool kept = false, sure = false;                             \\
  constexpr int k = 0;                                                   \\
  if (!WHOLE) ZMLX_CHUNKS(start + K * W * N, length, W * N, { __VA_ARGS__ })

// The last pass, whose body stores.
#define ZMLX_LAST_PASS(...)                                              \\
  {                                                                      \\
    if (full) {                                                          \\
      ZMLX_PASS_HELD(true, N, __VA_ARGS__)                               \\
    } else {                                                             \\
      ZMLX_PASS_HELD(false, WHOLE ? uint(N) : length - i, __VA_ARGS__)   \\
    }                                                                    \\
    ZMLX_PASS_REST(__VA_ARGS__)                                          \\
  }
#define ZMLX_PASS_HELD(sure_, count_, ...)                               \\
  ZMLX_UNROLL for (int k = 0; k < K; ++k) {                              \\
    constexpr bool kept = true, sure = sure_;                            \\
    const uint i = start + k * (W * N);                                  \\
    if (WHOLE || sure || i < length) {                                   \\
      const uint count = count_;                                         \\
      __VA_ARGS__                                                        \\
    }                                                                    \\
  }

// In the body of a pass: an array's chunk as float, of which ZMLX_HOLD_ROW holds as much as there is, or of which none
// is held.
#define ZMLX_HOLD_ROW(type, held, in)                                    \\
  zmlx_raw<type, N, PACKED> held[ZMLX_KEPT];                             \\
  zmlx_hold<type, N, K, W, PACKED, WHOLE>(held, in, start, reach, full, 0.0f);
#define ZMLX_HELD(type, c, held, in)                                     \\
  float c[N];                                                            \\
  if (kept)                                                              \\
    for (int j = 0; j < N; ++j) c[j] = held[k].at(j);                    \\
  else                                                                   \\
    zmlx_chunk<type, N, PACKED>::load(c, in + i, count, 0.0f);
#define ZMLX_READ(type, c, in)                                           \\
  float c[N];                                                            \\
  zmlx_chunk<type, N, PACKED>::load(c, in + i, count, 0.0f, sure);
"""

BEGIN = """
  threadgroup float scratch[ZMLX_SCRATCH];
  zmlx_team<W> team{scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, 0};
  const uint rows = FIRST_shape[0], length = FIRST_shape[1];
  const float extent = float(length);
  const bool full = length >= K * W * N && length % N == 0ALIGNED;
"""

EACH_ROW = """
  const uint together = threads_per_threadgroup.x / W;
  const uint start = thread_index_in_threadgroup % W * N;
  for (uint first = threadgroup_position_in_grid.x * together; first < rows;
       first += threadgroups_per_grid.x * together) {
    const uint mine = first + thread_index_in_threadgroup / W;
    const bool inside = mine < rows;  // other threads take part in the meetings, with some row
    const uint row = inside ? mine : first;
    // What may be read of it. As a number that differs from row to row, it has no place in registers between rows.
    const uint reach = inside ? length : 0;
"""

RUN_OF_ROWS = """
  const uint start = thread_index_in_threadgroup * N;
  const uint reach = length;
  const uint run = (rows + threadgroups_per_grid.x - 1) / threadgroups_per_grid.x;
  const uint begin = threadgroup_position_in_grid.x * run, end = min(begin + run, rows);
"""
