"""Losses over the last axis, one value a row; and the cross-entropy of a linear layer, without all of its logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NoReturn, cast

import mlx.core as mx

from zmlx.kernels import _check
from zmlx.kernels._autodiff import per_entry
from zmlx.kernels._row_kernel import row_kernel
from zmlx.launch import current_backend
from zmlx.launch.call import evaluate
from zmlx.launch.lazy import numpy

__all__ = ["fused_linear_cross_entropy", "js_div", "kl_div", "softmax_cross_entropy"]

# All terms are of the logits less their maximum, so that large logits do not cancel. Factors of zero leave out infinite
# terms.
_CROSS_ENTROPY = """
    top = detach(max(logits))
    picked = sum(logits - top if column == label else 0.0)
    e = exp(logits - top)
    total = sum(e)
    log_total = log(total)
    lse = log_total + top
    even = label_smoothing * mean(logits - top) if label_smoothing > 0 else 0.0
    far = z_loss * lse * lse if z_loss > 0 else 0.0
    loss = log_total - (1 - label_smoothing) * picked - even + far
    y = 0.0 if label == ignore_index else loss if label >= 0 and label < length else nan
"""
_GRADIENT = """
    share = e / total * (1 + 2 * z_loss * lse if z_loss > 0 else 1.0)
    target = label_smoothing / length + (1 - label_smoothing if column == label else 0.0)
"""
_SCALARS = {"ignore_index": -100, "label_smoothing": 0.0, "z_loss": 0.0}
_SOFTMAX_CROSS_ENTROPY = row_kernel(
    _CROSS_ENTROPY,
    inputs=("logits",),
    per_row=("label",),
    scalars=_SCALARS,
    grad=f"{_GRADIENT}; d_logits = 0.0 if label == ignore_index else g * (share - target)",
    differentiable=("logits",),
    name="softmax_cross_entropy",
)
# The loss, and its gradient by the logits: what a chunk of `fused_linear_cross_entropy` needs.
_LOSS_AND_GRADIENT = row_kernel(
    f"""{_CROSS_ENTROPY}
    {_GRADIENT}
    d = 0.0 if label == ignore_index else share - target""",
    inputs=("logits",),
    per_row=("label",),
    scalars=_SCALARS,
    results=("y", "d"),
    differentiable=(),
    dtypes={"y": mx.float32},
    name="fused_linear_cross_entropy",
)


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
    return cast("mx.array", _SOFTMAX_CROSS_ENTROPY(logits, labels, **numbers))


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
    _check.check_integer(function, ignore_index, "ignore_index")
    return {
        "ignore_index": ignore_index,
        "label_smoothing": _check.check_share(function, label_smoothing, "label_smoothing"),
        "z_loss": _check.check_positive(function, z_loss, "z_loss"),
    }


# Where a probability is zero its term is, and its gradient, whatever the other distribution has there.
_KL = row_kernel(
    """a = detach(max(x)); b = detach(max(target))
       w = exp(target - b)
       of_x = sum(exp(x - a)); of_target = sum(w)
       y = sum(w * (target - b - (x - a) if w > 0 else 0.0)) / of_target + log(of_x) - log(of_target)""",
    inputs=("x", "target"),
    name="kl_div",
)
_JS = row_kernel(
    """a = detach(max(x)); b = detach(max(target))
       log_p = x - a - log(sum(exp(x - a))); log_q = target - b - log(sum(exp(target - b)))
       p = exp(log_p); q = exp(log_q)
       log_m = log(max(p + q, 1e-38)) - log_2
       of_p = p * (log_p - log_m if p > 0 else 0.0)
       of_q = q * (log_q - log_m if q > 0 else 0.0)
       y = 0.5 * sum(of_p + of_q)""",
    inputs=("x", "target"),
    scalars={"log_2": math.log(2)},
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
        _check.check_count(function, chunk, "chunk")
    if not hidden.size or not weight.size:
        return mx.zeros(())
    rows = labels.size
    if chunk is None:
        chunk = 1 << max(math.ceil(rows * hidden.shape[-1] / weight.shape[0]) - 1, 0).bit_length()
    fused = _fused(chunk, tuple(numbers.items()))
    return cast("mx.array", fused(hidden, weight, labels)[0])


@lru_cache(maxsize=64)
def _fused(chunk: int, numbers: tuple[tuple[str, float], ...]) -> Callable[..., Any]:
    """A function of (hidden, weight, labels): the mean loss and the gradients of hidden and weight."""

    def forward(hidden: mx.array, weight: mx.array, labels: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        # MLX multiplies matrices in other layouts in other ways, which need not come to the same bits.
        arrays = (mx.contiguous(mx.stop_gradient(array)) for array in (hidden, weight, labels))
        return _chunks(*arrays, chunk=chunk, numbers=dict(numbers))

    function = mx.custom_function(forward)

    @function.vjp
    def vjp(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, mx.array, mx.array]:
        by_hidden, by_weight = (
            (cotangents[0] * _number(gradient)).astype(gradient.dtype) for gradient in outputs[1:]
        )
        return by_hidden, by_weight, mx.zeros_like(primals[2])

    def reference(hidden: mx.array, weight: mx.array, labels: mx.array) -> tuple[mx.array, ...]:
        def loss(hidden: mx.array, weight: mx.array) -> mx.array:
            return _plain(hidden, weight, labels, dict(numbers))

        (value,), gradients = mx.vjp(loss, [hidden, weight], [mx.array(1.0)])
        return value, *gradients

    per_entry(function, reference)
    return cast("Callable[..., Any]", function)


def _chunks(
    hidden: mx.array, weight: mx.array, labels: mx.array, *, chunk: int, numbers: dict[str, float]
) -> tuple[mx.array, mx.array, mx.array]:
    rows, targets = hidden.reshape(-1, hidden.shape[-1]), labels.reshape(-1)
    counted = mx.maximum(mx.sum(targets != int(numbers["ignore_index"])), 1).astype(mx.float32)
    at_once = current_backend() == "cpu" and evaluate([rows, weight, targets])
    total, by_rows, by_weight = (_at_once if at_once else _in_turn)(
        rows, weight, targets, counted, chunk, numbers
    )
    return (
        total / counted,
        by_rows.reshape(hidden.shape).astype(hidden.dtype),
        by_weight.astype(weight.dtype),
    )


def _of_chunk(
    some: mx.array, weight: mx.array, targets: mx.array, numbers: dict[str, float]
) -> tuple[mx.array, mx.array, mx.array]:
    """The sum of some rows' losses, and its gradients by those rows and by ``weight``, both float32."""
    losses, d = _LOSS_AND_GRADIENT.launched(some @ weight.T, targets, **numbers)
    return mx.sum(losses), (d @ weight).astype(mx.float32), (d.T @ some).astype(mx.float32)


def _at_once(
    rows: mx.array,
    weight: mx.array,
    targets: mx.array,
    counted: mx.array,
    chunk: int,
    numbers: dict[str, float],
) -> tuple[mx.array, mx.array, mx.array]:
    """Each chunk is computed before the next is begun.

    While MLX follows gradients it keeps what every array was computed from, evaluated or not: the logits of all chunks.
    So the sums are added up in memory that MLX's graph knows nothing of.
    """
    np = numpy()
    by_rows, by_weight = mx.zeros(rows.shape, mx.float32), mx.zeros(weight.shape, mx.float32)
    mx.eval(by_rows, by_weight)
    of_rows, of_weight = (np.asarray(memoryview(array)) for array in (by_rows, by_weight))  # type: ignore[arg-type]
    total, count = 0.0, counted.item()
    for begin in range(0, rows.shape[0], chunk):
        part = slice(begin, begin + chunk)
        loss, by_some, share = _of_chunk(rows[part], weight, targets[part], numbers)
        mx.eval(loss, by_some, share)
        total += float(loss.item())  # type: ignore[arg-type]
        np.divide(np.asarray(by_some), count, out=of_rows[part])
        np.add(of_weight, np.asarray(share), out=of_weight)
        del loss, by_some, share  # before the next chunk's are there
    np.divide(of_weight, count, out=of_weight)
    return mx.array(total), by_rows, by_weight


def _in_turn(
    rows: mx.array,
    weight: mx.array,
    targets: mx.array,
    counted: mx.array,
    chunk: int,
    numbers: dict[str, float],
) -> tuple[mx.array, mx.array, mx.array]:
    """The same as MLX's graph, in which one chunk waits for the other: otherwise all logits may come first."""
    total, by_weight = mx.zeros(()), mx.zeros(weight.shape, mx.float32)
    by_rows: list[mx.array] = []
    for begin in range(0, rows.shape[0], chunk):
        some = rows[begin : begin + chunk]
        if by_rows:
            (some,) = mx.depends([some], [by_weight, by_rows[-1]])
        loss, by_some, share = _of_chunk(some, weight, targets[begin : begin + chunk], numbers)
        total = total + loss
        by_rows.append(by_some)
        by_weight = by_weight + share
    return total, mx.concatenate(by_rows) / counted, by_weight / counted


def _plain(hidden: mx.array, weight: mx.array, labels: mx.array, numbers: dict[str, float]) -> mx.array:
    """The same in MLX operations, with all logits."""
    logits = hidden.astype(mx.float32) @ weight.astype(mx.float32).T
    lse = mx.logsumexp(logits, axis=-1)
    counts = labels != int(numbers["ignore_index"])
    places = mx.where(counts, labels, 0)[..., None]
    picked = mx.take_along_axis(logits, places, axis=-1)[..., 0]
    smoothing = numbers["label_smoothing"]
    losses = lse - (1 - smoothing) * picked - smoothing * mx.mean(logits, axis=-1)
    losses = mx.where(counts, losses + numbers["z_loss"] * mx.square(lse), 0.0)
    return mx.sum(losses) / mx.maximum(mx.sum(counts), 1).astype(mx.float32)


def _refused(*_: Any) -> NoReturn:
    raise NotImplementedError(
        "[fused_linear_cross_entropy] Expected first derivatives only: the gradients are computed with the loss, and "
        "are constants. For others take softmax_cross_entropy(hidden @ weight.T, labels)."
    )


#: The identity, of what cannot be differentiated.
_number = mx.custom_function(lambda gradient: gradient)
_number.vjp(_refused)
_number.jvp(_refused)
