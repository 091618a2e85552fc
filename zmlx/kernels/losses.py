"""Losses over the last axis, one value a row; and the cross-entropy of a linear layer, without all of its logits."""

from __future__ import annotations

import math
from typing import cast

import mlx.core as mx

from zmlx.kernels import _check, _check_numbers
from zmlx.kernels._cross_entropy import SOFTMAX_CROSS_ENTROPY
from zmlx.kernels._linear_cross_entropy import in_chunks
from zmlx.kernels._row_kernel import row_kernel

__all__ = ["fused_linear_cross_entropy", "js_div", "kl_div", "softmax_cross_entropy"]


def softmax_cross_entropy(
    logits: mx.array,
    labels: mx.array,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> mx.array:
    """``logsumexp(logits) - logits[label]`` of each row, with smoothed labels and a penalty of large logits.

    With s the smoothing, z the penalty and lse = logsumexp(logits):
    ``lse - (1 - s) * logits[label] - s * mean(logits) + z * lse**2``.

    Parameters
    ----------
    logits
        Shape (..., V), float32, float16 or bfloat16, in any memory layout.
    labels
        Integers of shape (...), from 0 to V - 1.
    ignore_index
        The label of rows whose loss, and gradient, is zero.
    label_smoothing
        The share of the target that all V classes have alike, from 0 to 1.
    z_loss
        The factor of ``lse**2``; zero or more.

    Returns
    -------
    mx.array
        Shape (...), of ``logits``'s dtype; computed in float32, gradient included. NaN for a label that is neither a
        class nor ``ignore_index``.

    Raises
    ------
    TypeError
        ``logits`` is not an MLX array of one of these dtypes, ``labels`` none of integers, or a number is none.
    ValueError
        ``logits`` is 0-d, ``labels`` has another shape, or a number is out of its range.

    Notes
    -----
    Szegedy et al., Rethinking the Inception Architecture (arXiv:1512.00567), section 7; the penalty is that of PaLM
    (arXiv:2204.02311), section 5. V is at most 2**24.
    """
    numbers = _numbers("softmax_cross_entropy", logits, labels, ignore_index, label_smoothing, z_loss)
    return cast("mx.array", SOFTMAX_CROSS_ENTROPY(logits, labels, **numbers))


def _numbers(
    function: str,
    logits: mx.array,
    labels: mx.array,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    name: str = "logits",
) -> dict[str, float]:
    """The scalars of a cross-entropy, whose arguments are what they have to be."""
    _check.check_rows(function, logits, name)
    _check.check_labels(function, labels, logits, name)
    _check_numbers.check_integer(function, ignore_index, "ignore_index")
    return {
        "ignore_index": ignore_index,
        "label_smoothing": _check_numbers.check_share(function, label_smoothing, "label_smoothing"),
        "z_loss": _check_numbers.check_positive(function, z_loss, "z_loss"),
    }


# Where a probability is zero its term is, and its gradient, whatever the other distribution has there.
_KL = row_kernel(
    """a = peak(x); b = peak(target)
       w = exp(target - b)
       of_x = sum(exp(x - a)); of_target = sum(w)
       y = sum(w * (target - b - (x - a) if w > 0 else 0.0)) / of_target + log(of_x) - log(of_target)""",
    inputs=("x", "target"),
    name="kl_div",
)
# The gradients by way of m cancel: what is left of each is its own term less the term's share of the sum.
_JS = row_kernel(
    """a = peak(x); b = peak(target)
       log_p = x - a - log(sum(exp(x - a))); log_q = target - b - log(sum(exp(target - b)))
       p = exp(log_p); q = exp(log_q)
       log_m = log(max(p + q, 1e-38)) - log_2
       of_p = p * (log_p - log_m if p > 0 else 0.0)
       of_q = q * (log_q - log_m if q > 0 else 0.0)
       y = 0.5 * (sum(of_p) + sum(of_q))""",
    inputs=("x", "target"),
    scalars={"log_2": math.log(2)},
    grad="""d_x = 0.5 * g * (of_p - p * sum(of_p))
            d_target = 0.5 * g * (of_q - q * sum(of_q))""",
    name="js_div",
)


def kl_div(x: mx.array, target: mx.array) -> mx.array:
    """``sum(q * (log(q) - log(p)))`` of each row, with p = softmax(x) and q = softmax(target).

    Parameters
    ----------
    x, target
        Logits (or logarithms of probabilities, whose softmax they are) of shape (..., D), float32, float16 or bfloat16,
        in any memory layout; ``target`` may have a shape that broadcasts to that of ``x``.

    Returns
    -------
    mx.array
        Shape (...), of ``x``'s dtype; computed in float32, gradients of both included.

    Raises
    ------
    TypeError
        An array is not an MLX array of one of these dtypes.
    ValueError
        ``x`` is 0-d, or ``target`` does not broadcast to its shape.

    Notes
    -----
    Kullback and Leibler, On Information and Sufficiency (1951), equation 2.4. Logits rather than logarithms of
    probabilities, so that a student's and a teacher's outputs are read once, as they are.
    """
    return cast("mx.array", _KL(x, target))


def js_div(x: mx.array, target: mx.array) -> mx.array:
    """``(KL(p, m) + KL(q, m)) / 2`` of each row, with p = softmax(x), q = softmax(target) and m = (p + q) / 2.

    Parameters
    ----------
    x, target
        Logits (or logarithms of probabilities, whose softmax they are) of shape (..., D), float32, float16 or bfloat16,
        in any memory layout; ``target`` may have a shape that broadcasts to that of ``x``.

    Returns
    -------
    mx.array
        Shape (...), of ``x``'s dtype, from 0 to log(2); computed in float32, gradients of both included.

    Raises
    ------
    TypeError
        An array is not an MLX array of one of these dtypes.
    ValueError
        ``x`` is 0-d, or ``target`` does not broadcast to its shape.

    Notes
    -----
    Lin, Divergence Measures Based on the Shannon Entropy (1991), equation 4.1 with equal weights. Where both
    probabilities are below 1e-38 their share, and its gradient, is zero.
    """
    return cast("mx.array", _JS(x, target))


def fused_linear_cross_entropy(
    hidden: mx.array,
    weight: mx.array,
    labels: mx.array,
    *,
    chunk: int | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> mx.array:
    """The mean of ``softmax_cross_entropy(hidden @ weight.T, labels)`` over the rows that count.

    The logits of all rows are never there: a chunk of rows at a time has its logits, their loss and gradient, and what
    that adds to the gradients of ``hidden`` and ``weight``, which are done with the forward pass.

    Parameters
    ----------
    hidden
        Shape (..., H), float32, float16 or bfloat16, in any memory layout.
    weight
        Shape (V, H), of ``hidden``'s dtype.
    labels
        Integers of shape (...), from 0 to V - 1.
    chunk
        Rows of a chunk. None: as many as make its logits as large as ``hidden``.
    ignore_index, label_smoothing, z_loss
        As `softmax_cross_entropy` has them.

    Returns
    -------
    mx.array
        0-d, float32. Zero where no row counts; NaN where a label is neither a class nor ``ignore_index``.

    Raises
    ------
    TypeError
        ``hidden`` is not an MLX array of one of these dtypes, ``weight`` not of the same, ``labels`` none of integers,
        or a number is none.
    ValueError
        A shape does not fit, or a number is out of its range.
    NotImplementedError
        A second derivative is taken: the gradients are numbers by then.

    Notes
    -----
    The order is that of Hsu et al., Liger Kernel (arXiv:2410.10989), section 3.2. Products of matrices are MLX's own,
    those of a chunk in ``hidden``'s dtype; over chunks the gradient of ``weight`` is added up in float32.

    On the CPU, of 4096 rows of 512 and V = 32000 in float32, the most memory beyond the arguments was 164 MB with
    gradients and 148 MB without, against 1070 and 500 MB of ``softmax_cross_entropy(hidden @ weight.T, labels)``.
    """
    function = "fused_linear_cross_entropy"
    numbers = _numbers(function, hidden, labels, ignore_index, label_smoothing, z_loss, "hidden")
    _check.check_matrix_of(function, weight, hidden, "weight", "hidden")
    if chunk is not None:
        _check_numbers.check_count(function, chunk, "chunk")
    if not hidden.size or not weight.size:
        return mx.zeros(())
    rows = labels.size
    if chunk is None:
        chunk = 1 << max(math.ceil(rows * hidden.shape[-1] / weight.shape[0]) - 1, 0).bit_length()
    fused = in_chunks(chunk, tuple(numbers.items()))
    return cast("mx.array", fused(hidden, weight, labels)[0])
