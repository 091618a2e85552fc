"""Softmax over the last axis, and what it is made of."""

from __future__ import annotations

import math
from typing import cast

import mlx.core as mx

from zmlx.kernels import _check, _check_numbers, _rows
from zmlx.kernels._autodiff import differentiable, gradient_reference, value_reference
from zmlx.kernels._msl import CHUNKS, MATHS, ROWS
from zmlx.kernels._row_kernel import RowKernel, row_kernel
from zmlx.kernels._row_loops import each_row
from zmlx.launch import metal_kernel

__all__ = [
    "log_softmax",
    "logsumexp",
    "masked_softmax",
    "scale_mask_softmax",
    "sink_softmax",
    "softmax_lastdim",
]

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
    return cast("mx.array", _softmax(x))


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


_LOG_SOFTMAX = row_kernel(
    "top = peak(x); y = x - top - log(sum(exp(x - top)))",
    name="log_softmax",
)


def log_softmax(x: mx.array) -> mx.array:
    """``x - max(x) - log(sum(exp(x - max(x))))`` over the last axis.

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
    Goodfellow, Bengio and Courville, Deep Learning (2016), equation 6.30. A row with a NaN, with plus infinity or of
    minus infinities only is NaN throughout, as the formula has it.
    """
    return cast("mx.array", _LOG_SOFTMAX(x))


# The maximum is left out where subtracting it would make NaN of infinities.
_LOGSUMEXP = row_kernel(
    """top = peak(x)
       base = top if abs(top) < inf else 0.0
       y = base + log(sum(exp(x - base)))""",
    name="logsumexp",
)


def logsumexp(x: mx.array) -> mx.array:
    """``log(sum(exp(x)))`` over the last axis, without overflow.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.

    Returns
    -------
    mx.array
        Shape (...), of ``x``'s dtype; computed in float32, gradient included. Minus infinity where D is 0.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes.
    ValueError
        ``x`` is 0-d.

    Notes
    -----
    Blanchard, Higham and Higham, Accurately Computing the Log-Sum-Exp and Softmax Functions (2021), equation 3.8. Of
    minus infinities only it is minus infinity, with plus infinity it is that.
    """
    return cast("mx.array", _LOGSUMEXP(x))


# Where nothing is visible the row's maximum is minus infinity: what it makes of the others is not taken, nor is the
# gradient of it.
_MASKED_SOFTMAX = row_kernel(
    """top = peak(x if mask > 0 else -inf)
       e = exp(x - top if mask > 0 else -inf)
       total = sum(e)
       y = e * (0.0 if total == 0 else 1.0 / total)""",
    inputs=("x", "mask"),
    differentiable=("x",),
    name="masked_softmax",
)


def masked_softmax(x: mx.array, mask: mx.array) -> mx.array:
    """Softmax over those elements of the last axis at which the mask is true; zero at the others.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    mask
        Of bool, of ``x``'s shape or one that broadcasts to it.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32, gradient included. A row of which nothing is visible is zero.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes, or ``mask`` is not of bool.
    ValueError
        ``x`` is 0-d, or ``mask`` does not broadcast to its shape.

    Notes
    -----
    Vaswani et al., Attention Is All You Need (arXiv:1706.03762), section 3.2.3: masked elements are minus infinity
    in the softmax's input. Those that are not are as in `softmax_lastdim`.
    """
    _check.check_rows("masked_softmax", x)
    _check.check_bool("masked_softmax", mask, "mask")
    return cast("mx.array", _MASKED_SOFTMAX(x, mask))


def _scaled(biased: bool, banded: bool) -> RowKernel:
    logits = "z = x * scale + bias" if biased else "z = x * scale"
    visible = "column <= position and column > position - window" if banded else "column >= 0"
    return row_kernel(
        f"""{logits}
           top = peak(z if {visible} else -inf)
           e = exp(z - top if {visible} else -inf)
           total = sum(e)
           y = e * (0.0 if total == 0 else 1.0 / total)""",
        inputs=("x", "bias") if biased else ("x",),
        per_row=("position",) if banded else (),
        scalars={"scale": 1.0, **({"window": math.inf} if banded else {})},
        name="scale_mask_softmax",
    )


#: (with a bias, with a band) -> the kernel.
_SCALE_MASK_SOFTMAX = {
    (biased, banded): _scaled(biased, banded) for biased in (False, True) for banded in (False, True)
}


def scale_mask_softmax(
    x: mx.array,
    bias: mx.array | None = None,
    *,
    scale: float = 1.0,
    causal: bool = False,
    window: int | None = None,
) -> mx.array:
    """``softmax(x * scale + bias)`` over the keys that each query sees: the weights of attention.

    Parameters
    ----------
    x
        Shape (..., Q, K), float32, float16 or bfloat16, in any memory layout: scores of Q queries and K keys.
    bias
        Added to the scaled scores (a mask of zeros and minus infinities, or a bias of positions), of ``x``'s shape or
        one that broadcasts to it, of any of these dtypes.
    scale
        What scores are multiplied by.
    causal
        Whether query q sees the keys up to q + K - Q only: the last query sees all keys.
    window
        How many keys, the last of them its own, a query sees; implies ``causal``.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32, gradients of ``x`` and ``bias`` included. A query that sees no
        key has zeros.

    Raises
    ------
    TypeError
        An array is not an MLX array of one of these dtypes, or a number is none.
    ValueError
        ``x`` is 0-d, or 1-d and masked by position; ``bias`` does not broadcast; ``window`` is not positive.

    Notes
    -----
    Vaswani et al., Attention Is All You Need (arXiv:1706.03762), equation 1 and section 3.2.3; the window is that of
    Beltagy, Peters and Cohan, Longformer (arXiv:2004.05150), section 3.1, to one side as in Mistral 7B
    (arXiv:2310.06825). Where a bias makes all scores minus infinity the row is NaN, as the formula has it.
    """
    banded = causal or window is not None
    _check.check_rows("scale_mask_softmax", x)
    numbers: dict[str, float] = {"scale": scale}
    positions = []
    if banded:
        _check.check_matrix("scale_mask_softmax", x, "scores of queries and keys, which have positions")
        if window is not None:
            numbers["window"] = _check_numbers.check_count("scale_mask_softmax", window, "window")
        queries, keys = x.shape[-2:]
        positions.append(mx.arange(keys - queries, keys, dtype=mx.int32))
    biases = [] if bias is None else [bias]
    kernel = _SCALE_MASK_SOFTMAX[bias is not None, banded]
    return cast("mx.array", kernel(x, *biases, *positions, **numbers))


_SINK_SOFTMAX = row_kernel(
    """top = detach(max(peak(x), sink))
       e = exp(x - top)
       y = e / (sum(e) + exp(sink - top))""",
    per_row=("sink",),
    name="sink_softmax",
)


def sink_softmax(x: mx.array, sink: mx.array) -> mx.array:
    """``exp(x) / (sum(exp(x)) + exp(sink))`` over the last axis: softmax with one more logit, whose share is dropped.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    sink
        One logit a row: of shape (...), or one that broadcasts to it, such as (heads, 1) for scores of shape
        (batch, heads, Q, K).

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; computed in float32, gradients of ``x`` and ``sink`` included.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes, or ``sink`` none of real numbers.
    ValueError
        ``x`` is 0-d, or ``sink`` does not broadcast to ``x.shape[:-1]``.

    Notes
    -----
    Xiao et al., Efficient Streaming Language Models with Attention Sinks (arXiv:2309.17453), section 3.3, with a
    learned logit for each head as in gpt-oss (arXiv:2508.10925), section 2.3. The maximum that is subtracted is that of
    ``x`` and ``sink``.
    """
    return cast("mx.array", _SINK_SOFTMAX(x, sink))
