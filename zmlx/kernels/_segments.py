"""Rows on their way to other rows, in Metal and in MLX operations: what gathers and scatters are made of.

A scatter is a gather too: whoever owns a row of the result adds up what goes there, in the order in which that came. No
atomics, so a sum does not depend on who is first. An index out of range names no row.
"""

from __future__ import annotations

import mlx.core as mx

from zmlx.kernels import _rows
from zmlx.kernels._msl import CHUNKS, ROWS
from zmlx.kernels._row_loops import each_row
from zmlx.launch import metal_kernel


def _span(rows: str, aligned: str, row: str) -> str:
    """The body of an elementwise kernel in which threads take ``rows`` of x, with ``row`` for each of their chunks."""
    return f"""
  using chunk = zmlx_chunk<T, N, PACKED>;
  const uint rows = {rows}, length = x_shape[1], sources = x_shape[0];
  const uint begin = thread_position_in_grid.x * (N * S);
  const uint end = min(begin + N * S, length);
  const bool whole = PACKED && length % N == 0 && {aligned};
  for (uint row = thread_position_in_grid.y; row < rows; row += threads_per_grid.y) {{
    auto out = y + size_t(row) * length;
    float total[N], v[N];
    {row}
  }}
"""


# Row r is row indices[r] / share of x.
_TAKE = _span(
    "indices_shape[0]",
    "chunk::aligned(x) && chunk::aligned(y)",
    """
    const uint source = indices[row] / uint(share);
    const bool there = indices[row] >= 0 && source < sources;
    auto in = x + size_t(there ? source : 0u) * length;
    ZMLX_SPAN(begin, end, whole, {
      for (int j = 0; j < N; ++j) v[j] = 0.0f;
      if (there) chunk::load(v, in + i, count, 0.0f, sure);
      chunk::store(out + i, v, count, sure);
    })
""",
)

# The same, added to another array.
_TAKE_AND_ADD = _span(
    "indices_shape[0]",
    "chunk::aligned(x) && chunk::aligned(base) && chunk::aligned(y)",
    """
    const uint source = indices[row];
    const bool there = indices[row] >= 0 && source < sources;
    auto in = x + size_t(there ? source : 0u) * length;
    auto from = base + size_t(row) * length;
    ZMLX_SPAN(begin, end, whole, {
      chunk::load(total, from + i, count, 0.0f, sure);
      if (there) {
        chunk::load(v, in + i, count, 0.0f, sure);
        for (int j = 0; j < N; ++j) total[j] += v[j];
      }
      chunk::store(out + i, total, count, sure);
    })
""",
)

# Row r is the sum of so many rows of x, each with its weight.
_WEIGHTED = _span(
    "positions_shape[0]",
    "chunk::aligned(x) && chunk::aligned(y)",
    """
    const uint parts = positions_shape[1];
    auto places = positions + size_t(row) * parts;
    auto factors = weights + size_t(row) * parts;
    ZMLX_SPAN(begin, end, whole, {
      for (int j = 0; j < N; ++j) total[j] = 0.0f;
      for (uint part = 0; part < parts; ++part) {
        const uint source = places[part];
        if (source < sources) {
          const float factor = static_cast<float>(factors[part]);
          chunk::load(v, x + size_t(source) * length + i, count, 0.0f, sure);
          for (int j = 0; j < N; ++j) total[j] = fma(factor, v[j], total[j]);
        }
      }
      chunk::store(out + i, total, count, sure);
    })
""",
)

# Row r of `base`, and the rows of x that belong to it: those whose `keys`, in order, are from r * sources on. Where a
# thread has one chunk, that of the base is on its way meanwhile.
_SEGMENTS = _span(
    "base_shape[0]",
    "chunk::aligned(x) && chunk::aligned(base) && chunk::aligned(y)",
    """
    auto from = base + size_t(row) * length;
    zmlx_raw<T, N, PACKED> held;
    if (S == 1) held = chunk::raw(from + begin, end - begin, 0.0f, whole);
    const ulong least = ulong(row) * sources;
    const uint first = zmlx_first_of(keys, sources, least);
    ZMLX_SPAN(begin, end, whole, {
      if (S == 1)
        for (int j = 0; j < N; ++j) total[j] = held.at(j);
      else
        chunk::load(total, from + i, count, 0.0f, sure);
      for (uint part = first; part < sources && keys[part] - least < sources; ++part) {
        chunk::load(v, x + size_t(keys[part] - least) * length + i, count, 0.0f, sure);
        for (int j = 0; j < N; ++j) total[j] += v[j];
      }
      chunk::store(out + i, total, count, sure);
    })
""",
)

# Row p of x is the part `order[p]` of all tokens' parts: its gradient, and that of the part's weight.
_WEIGHTED_BACKWARD = each_row(
    """
    const uint parts = weights_shape[1], part_number = order[inside ? row : first];
    const bool there = part_number < uint(weights_shape[0]) * parts;
    const float factor = there ? static_cast<float>(weights[part_number]) : 0.0f;
    auto cotangent = g + size_t(there ? part_number / parts : 0u) * length;
    ZMLX_HOLD(held, in, start, full, 0.0f)
    ZMLX_HOLD(cotangents, cotangent, start, full, 0.0f)
    // Added to the total a few at a time: so many times fewer roundings of its size.
    float part[N], total[N];
    uint added = 0;
    zmlx_fill<N>(part, 0.0f);
    zmlx_fill<N>(total, 0.0f);
    ZMLX_VALUES(0.0f, false, {
      ZMLX_BESIDE(c, cotangents, cotangent, 0.0f)
      for (int j = 0; j < N; ++j) part[j] = fma(v[j], c[j], part[j]);
      if (++added % 16 == 0) {
        for (int j = 0; j < N; ++j) total[j] += part[j];
        zmlx_fill<N>(part, 0.0f);
      }
    })
    for (int j = 0; j < N; ++j) total[j] += part[j];
    const float product = team.sum(zmlx_sum<N>(total));
    if (!inside) continue;
    if (start == 0 && there) dweights[part_number] = static_cast<U>(product);
    auto out = dx + size_t(row) * length;
    ZMLX_RESULTS(0.0f, {
      ZMLX_BESIDE(c, cotangents, cotangent, 0.0f)
      for (int j = 0; j < N; ++j) v[j] = there ? factor * c[j] : 0.0f;
    })
""",
    aligned="chunk::aligned(x) && chunk::aligned(g) && chunk::aligned(dx)",
)

_SEARCH = """
// The first of `count` numbers in order that is not less than `wanted`.
template <typename P>
METAL_FUNC uint zmlx_first_of(P numbers, uint count, ulong wanted) {
  uint low = 0, high = count;
  while (low < high) {
    const uint middle = low + (high - low) / 2;
    const bool before = numbers[middle] < wanted;
    low = before ? middle + 1 : low;
    high = before ? high : middle;
  }
  return low;
}
"""


def taken(x: mx.array, indices: mx.array, share: mx.array | int = 1) -> mx.array:
    """``x[indices // share]`` in MLX operations, and zeros where there is no such row."""
    sources = x.shape[0]
    rows = indices.astype(mx.int64)
    there = (rows >= 0) & (rows // share < sources)
    # A row of zeros more, and no mx.where: in MLX 0.30 the tangents of one that broadcasts have another shape.
    more = mx.concatenate([x, mx.zeros((1, x.shape[1]), x.dtype)])
    return mx.take(more, mx.where(there, rows // share, sources), axis=0)


def weighted_sum(x: mx.array, positions: mx.array, weights: mx.array) -> mx.array:
    """``sum(weights * x[positions])`` over the last axis of both, in MLX operations."""
    found = taken(x, positions.reshape(-1)).reshape(*positions.shape, x.shape[1])
    return mx.sum(found.astype(mx.float32) * weights.astype(mx.float32)[..., None], axis=1).astype(x.dtype)


def _add_segments(inputs: list[mx.array]) -> list[mx.array]:
    base, x, keys = inputs
    count, sources = base.shape[0], x.shape[0]
    order, owners = keys % sources, keys // sources
    # What belongs to no row is added to one more.
    places = mx.minimum(owners.astype(mx.int64), count)
    sums = mx.concatenate([base, mx.zeros_like(base[:1])]).astype(mx.float32)
    return [sums.at[places].add(mx.take(x, order, axis=0).astype(mx.float32))[:count].astype(base.dtype)]


_TAKE_KERNEL = metal_kernel(
    "zmlx_take_rows",
    ["x", "indices", "share"],
    ["y"],
    _TAKE,
    CHUNKS,
    reference=lambda inputs, template: [taken(*inputs)],
)
_TAKE_AND_ADD_KERNEL = metal_kernel(
    "zmlx_gather_add",
    ["base", "x", "indices"],
    ["y"],
    _TAKE_AND_ADD,
    CHUNKS,
    reference=lambda inputs, template: [gathered(*inputs)],
)
_WEIGHTED_KERNEL = metal_kernel(
    "zmlx_combine",
    ["x", "positions", "weights"],
    ["y"],
    _WEIGHTED,
    CHUNKS,
    reference=lambda inputs, template: [weighted_sum(*inputs)],
)
_WEIGHTED_BACKWARD_KERNEL = metal_kernel(
    "zmlx_combine_vjp",
    ["x", "g", "weights", "order"],
    ["dx", "dweights"],
    _WEIGHTED_BACKWARD,
    CHUNKS + ROWS,
    reference=lambda inputs, template: _weighted_gradients(*inputs),
)
_SEGMENTS_KERNEL = metal_kernel(
    "zmlx_scatter_add",
    ["base", "x", "keys"],
    ["y"],
    _SEGMENTS,
    CHUNKS + _SEARCH,
    reference=lambda inputs, template: _add_segments(inputs),
)


def gathered(base: mx.array, x: mx.array, indices: mx.array) -> mx.array:
    """``base + x[indices]``, rows of matrices, in MLX operations."""
    return (base.astype(mx.float32) + taken(x, indices).astype(mx.float32)).astype(base.dtype)


def _weighted_gradients(x: mx.array, g: mx.array, weights: mx.array, order: mx.array) -> list[mx.array]:
    positions = mx.argsort(order).reshape(weights.shape)
    return mx.vjp(lambda x, w: weighted_sum(x, positions, w), [x, weights], [g])[1]


def take_rows(x: mx.array, indices: mx.array, share: int = 1) -> mx.array:
    """``x[indices // share]``, rows of a matrix, by a kernel; zeros where there is no such row."""
    shape = (indices.shape[0], x.shape[1])
    launch = _rows.span_launch(shape[0], shape[1], x.dtype.size)
    return launch.run(_TAKE_KERNEL, [x, indices, share], [(shape, x.dtype)], T=x.dtype)[0]


def gather_rows(base: mx.array, x: mx.array, indices: mx.array) -> mx.array:
    """``base + x[indices]``, rows of matrices of one dtype, by a kernel."""
    launch = _rows.span_launch(base.shape[0], base.shape[1], x.dtype.size)
    return launch.run(_TAKE_AND_ADD_KERNEL, [base, x, indices], [(base.shape, x.dtype)], T=x.dtype)[0]


def combine_rows(x: mx.array, positions: mx.array, weights: mx.array) -> mx.array:
    """``sum(weights[:, j] * x[positions[:, j]])`` over j, by a kernel."""
    shape = (positions.shape[0], x.shape[1])
    launch = _rows.span_launch(shape[0], shape[1], x.dtype.size)
    inputs = [x, positions, weights]
    return launch.run(_WEIGHTED_KERNEL, inputs, [(shape, x.dtype)], T=x.dtype)[0]


def combine_gradients(
    cotangent: mx.array, x: mx.array, weights: mx.array, order: mx.array
) -> tuple[mx.array, mx.array]:
    """The gradients of ``x`` and ``weights`` of `combine_rows`; ``order`` is the inverse of its positions."""
    launch = _rows.row_launch(x.shape[0], x.shape[1], x.dtype.size, arrays=2)
    inputs, outputs = [x, cotangent, weights, order], [(x.shape, x.dtype), (weights.shape, weights.dtype)]
    dx, dweights = launch.run(_WEIGHTED_BACKWARD_KERNEL, inputs, outputs, T=x.dtype, U=weights.dtype)
    return dx, dweights


def scatter_rows(base: mx.array, x: mx.array, indices: mx.array) -> mx.array:
    """``base``, and each row of ``x`` added to that of its index (int32), by a kernel."""
    launch = _rows.span_launch(base.shape[0], base.shape[1], x.dtype.size)
    inputs = [base, x, _keys(indices, base.shape[0])]
    return launch.run(_SEGMENTS_KERNEL, inputs, [(base.shape, x.dtype)], T=x.dtype)[0]


def _keys(indices: mx.array, rows: int) -> mx.array:
    """``index * count + place`` of each of ``count`` indices, in order: by the index, equal ones as they came, those of
    no row at the end. MLX sorts keys that differ, so it need not be stable."""
    count = indices.shape[0]
    owners = mx.minimum(indices.view(mx.uint32), rows)  # a negative one is large
    if (rows + 1) * count >= 2**32:
        owners = owners.astype(mx.uint64)
    return mx.sort(owners * count + mx.arange(count, dtype=owners.dtype))
