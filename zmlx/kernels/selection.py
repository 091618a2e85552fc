"""The largest values of a row."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import mlx.core as mx

from zmlx.kernels import _rows
from zmlx.kernels._choice import Chosen, choosing
from zmlx.kernels._msl import CHUNKS, ROWS
from zmlx.kernels._ranking import RANKING, check_picks, ranked_places
from zmlx.kernels._row_loops import each_row
from zmlx.launch import MetalKernel, metal_kernel

__all__ = ["topk"]

_FORWARD = each_row(
    """
    ZMLX_HOLD(held, in, start, full, 0.0f)
    const uint picks = k_picks;
    ZMLX_FIRST(last, own, v[j], true)
    for (uint r = 0; r < picks; ++r) {
      ZMLX_NEXT(last, own, v[j], true)
      if (inside && start == 0) {
        y[size_t(row) * picks + r] = in[last.place];
        places[size_t(row) * picks + r] = last.place;
      }
    }
""",
    aligned="chunk::aligned(x)",
)

# Zeros, but for the places that were picked.
_BACKWARD = """
  using chunk = zmlx_chunk<T, N, PACKED>;
  const uint rows = g_shape[0], picks = g_shape[1], length = row_length;
  const uint begin = thread_position_in_grid.x * (N * S);
  const uint end = min(begin + N * S, length);
  const bool whole = PACKED && length % N == 0 && chunk::aligned(dx);
  for (uint row = thread_position_in_grid.y; row < rows; row += threads_per_grid.y) {
    auto cotangent = g + size_t(row) * picks;
    auto picked = places + size_t(row) * picks;
    auto out = dx + size_t(row) * length;
    float v[N];
    ZMLX_SPAN(begin, end, whole, {
      for (int j = 0; j < N; ++j) v[j] = 0.0f;
      for (uint r = 0; r < picks; ++r) {
        const uint place = picked[r] - i;
        if (place < count)
          for (int j = 0; j < N; ++j) v[j] = uint(j) == place ? static_cast<float>(cotangent[r]) : v[j];
      }
      chunk::store(out + i, v, count, sure);
    })
  }
"""


def topk(x: mx.array, k: int) -> tuple[mx.array, mx.array]:
    """The ``k`` largest values of each row (the last axis), largest first, and where they are.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    k
        How many, from 1 to 64 and at most D.

    Returns
    -------
    values : mx.array
        Shape (..., k), of ``x``'s dtype: the values as they are in ``x``.
    indices : mx.array
        Shape (..., k), uint32: ``values == take_along_axis(x, indices, -1)``.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes, or ``k`` is not an integer.
    ValueError
        ``x`` is 0-d, D is more than 2**24, or ``k`` is out of its range.

    Notes
    -----
    The order is that of a stable sort, as in Knuth, The Art of Computer Programming, volume 3, chapter 5: of equal
    values the one with the lowest index comes first, on every back end. Zeros of both signs are equal. NaN counts as
    larger than everything, as in ``numpy.sort``. The gradient goes to the values that were picked.
    """
    check_picks("topk", x, k)
    if x.size == 0:
        return mx.zeros((*x.shape[:-1], k), x.dtype), mx.zeros((*x.shape[:-1], k), mx.uint32)
    return _topk(k)(x)


def _at(x: mx.array, places: mx.array) -> mx.array:
    return mx.take_along_axis(x, places, axis=-1)


def _reference(x: mx.array, k: int) -> list[mx.array]:
    places = ranked_places(x, k)
    return [_at(x, places), places]


def _reference_gradient(g: mx.array, places: mx.array, length: int) -> mx.array:
    zeros = mx.zeros((g.shape[0], length), g.dtype)
    return mx.put_along_axis(zeros, places, g, axis=-1)


@cache
def _topk(k: int) -> Callable[[mx.array], Chosen]:
    forward_kernel = metal_kernel(
        "zmlx_topk",
        ["x", "k_picks"],
        ["y", "places"],
        _FORWARD,
        CHUNKS + ROWS + RANKING,
        reference=lambda inputs, template: _reference(inputs[0], k),
    )

    def forward(x: mx.array) -> Chosen:
        rows = _rows.as_rows(x)
        shape = (rows.shape[0], k)
        launch = _rows.row_launch(rows.shape[0], rows.shape[1], x.dtype.size)
        outputs = [(shape, x.dtype), (shape, mx.uint32)]
        values, places = launch.run(forward_kernel, [rows, k], outputs, T=x.dtype)
        return values.reshape(*x.shape[:-1], k), places.reshape(*x.shape[:-1], k)

    def backward(cotangent: mx.array, x: mx.array, places: mx.array) -> mx.array:
        return _spread(cotangent, x, places, k)

    return choosing(forward, backward, _at)


@cache
def _spreading(length: int) -> MetalKernel:
    return metal_kernel(
        "zmlx_topk_vjp",
        ["g", "places", "row_length"],
        ["dx"],
        _BACKWARD,
        CHUNKS,
        reference=lambda inputs, template: [_reference_gradient(inputs[0], inputs[1], length)],
    )


def _spread(cotangent: mx.array, x: mx.array, places: mx.array, k: int) -> mx.array:
    """Zeros like ``x`` with the cotangents at their places."""
    length = x.shape[-1]
    rows = x.size // length
    launch = _rows.span_launch(rows, length, x.dtype.size)
    inputs: list[mx.array | float] = [cotangent.reshape(rows, k), places.reshape(rows, k), length]
    return launch.run(_spreading(length), inputs, [((rows, length), x.dtype)], T=x.dtype)[0].reshape(x.shape)
