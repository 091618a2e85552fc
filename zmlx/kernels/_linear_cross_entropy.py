"""The cross-entropy of a linear layer in chunks of rows: never are all of its logits there."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NoReturn, cast

import mlx.core as mx

from zmlx.kernels._autodiff import per_entry
from zmlx.kernels._cross_entropy import LOSS_AND_GRADIENT
from zmlx.launch import current_backend
from zmlx.launch.call import evaluate
from zmlx.launch.lazy import numpy


@lru_cache(maxsize=64)
def in_chunks(chunk: int, numbers: tuple[tuple[str, float], ...]) -> Callable[..., Any]:
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
    losses, d = LOSS_AND_GRADIENT.launched(some @ weight.T, targets, **numbers)
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
