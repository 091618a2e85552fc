"""Softmax over the last axis."""

from __future__ import annotations

import mlx.core as mx

from zmlx.kernels import _check, _rows
from zmlx.kernels._autodiff import differentiable, gradient_reference, value_reference
from zmlx.kernels._msl import CHUNKS, MATHS, ROWS, each_row
from zmlx.launch import metal_kernel

__all__ = ["softmax_lastdim"]

_HEADER = CHUNKS + ROWS + MATHS

# In the maximum NaN is passed over; it shows in the sum, to which the filling of a ragged chunk adds nothing.
_LARGEST = """
    float part[N];
    zmlx_fill<N>(part, -INFINITY);
    ZMLX_VALUES(-INFINITY, false, {
      for (int j = 0; j < N; ++j) part[j] = v[j] > part[j] ? v[j] : part[j];
    })
    const float top = team.largest(zmlx_largest<N>(part));
"""

# What is not held is read three times, the second and third time from the cache: maximum, sum, result.
_FORWARD = each_row(
    f"""
    ZMLX_HOLD(held, in, start, full, -INFINITY)
{_LARGEST}
    float powers[(K > 0 ? K : 1) * N];  // of what is held: computed once
    zmlx_fill<N>(part, 0.0f);
    ZMLX_VALUES(-INFINITY, false, {{
      for (int j = 0; j < N; ++j) {{
        const float e = zmlx_exp<T>(v[j] - top);
        part[j] += e;
        if (kept) powers[k * N + j] = e;
      }}
    }})
    const float scale = zmlx_ratio<T>(1.0f, team.sum(zmlx_sum<N>(part)));

    if (!inside) continue;
    auto out = y + size_t(row) * length;
    ZMLX_RESULTS(-INFINITY, {{
      for (int j = 0; j < N; ++j) v[j] = (kept ? powers[k * N + j] : zmlx_exp<T>(v[j] - top)) * scale;
    }})
""",
    aligned="chunk::aligned(x) && chunk::aligned(y)",
)

# dx = y * (g - sum(g * y)). y is computed again, in float32: the rounded result of the forward kernel would
# cost more accuracy than its exponentials cost time.
_BACKWARD = each_row(
    f"""
    auto cotangent = g + size_t(inside ? row : first) * length;
    ZMLX_HOLD(held, in, start, full, -INFINITY)
    ZMLX_HOLD(cotangents, cotangent, start, full, 0.0f)
{_LARGEST}
    float weighted[N];
    float powers[(K > 0 ? K : 1) * N];
    zmlx_fill<N>(part, 0.0f);
    zmlx_fill<N>(weighted, 0.0f);
    ZMLX_VALUES(-INFINITY, false, {{
      ZMLX_BESIDE(c, cotangents, cotangent, 0.0f)
      for (int j = 0; j < N; ++j) {{
        const float e = zmlx_exp<T>(v[j] - top);
        part[j] += e;
        weighted[j] = fma(c[j], e, weighted[j]);
        if (kept) powers[k * N + j] = e;
      }}
    }})
    float totals[2] = {{zmlx_sum<N>(part), zmlx_sum<N>(weighted)}};
    team.template sums<2>(totals);
    const float scale = zmlx_ratio<T>(1.0f, totals[0]);
    const float mean = scale * totals[1];

    if (!inside) continue;
    auto out = dx + size_t(row) * length;
    ZMLX_RESULTS(-INFINITY, {{
      ZMLX_BESIDE(c, cotangents, cotangent, 0.0f)
      for (int j = 0; j < N; ++j) v[j] = (kept ? powers[k * N + j] : zmlx_exp<T>(v[j] - top)) * scale * (c[j] - mean);
    }})
""",
    aligned="chunk::aligned(x) && chunk::aligned(g) && chunk::aligned(dx)",
)


def softmax_lastdim(x: mx.array) -> mx.array:
    """``exp(x - max(x)) / sum(exp(x - max(x)))`` over the last axis.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32, gradient included.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes.
    ValueError
        ``x`` is 0-d.

    Notes
    -----
    Goodfellow, Bengio and Courville, Deep Learning (2016), equations 4.1 and 6.33. A row with a NaN, with plus
    infinity or of minus infinities only is NaN throughout, as the formula has it.
    """
    _check.check_rows("softmax_lastdim", x)
    if x.size == 0:
        return mx.zeros(x.shape, x.dtype)
    result: mx.array = _softmax(x)
    return result


def _reference(x: mx.array) -> mx.array:
    x32 = x.astype(mx.float32)
    e = mx.exp(x32 - mx.stop_gradient(mx.max(x32, axis=-1, keepdims=True)))
    return (e / mx.sum(e, axis=-1, keepdims=True)).astype(x.dtype)


_FORWARD_KERNEL = metal_kernel(
    "zmlx_softmax", ["x"], ["y"], _FORWARD, _HEADER, reference=value_reference(_reference)
)
_BACKWARD_KERNEL = metal_kernel(
    "zmlx_softmax_vjp", ["x", "g"], ["dx"], _BACKWARD, _HEADER, reference=gradient_reference(_reference)
)


def _forward(x: mx.array) -> mx.array:
    return _rows.run_rows(_FORWARD_KERNEL, [x])


def _backward(cotangent: mx.array, x: mx.array) -> tuple[mx.array]:
    return (_rows.run_rows(_BACKWARD_KERNEL, [x, cotangent]),)


_softmax = differentiable(_forward, _backward, _reference)
