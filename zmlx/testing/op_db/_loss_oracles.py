"""What losses are in float64, with their gradients, from the formulas of their sources."""

from __future__ import annotations

from typing import Any

import numpy as np

from zmlx.testing.op_db._row_ops import total
from zmlx.testing.op_db._shared import Float64Array, quiet
from zmlx.testing.op_db.softmax import softmax


def _log_softmax(x: Float64Array) -> Float64Array:
    with quiet():
        shifted = x - np.max(x, axis=-1, keepdims=True, initial=-np.inf)
        return np.asarray(shifted - np.log(total(np.exp(shifted))))


def _logsumexp(x: Float64Array) -> Float64Array:
    with quiet():
        top = np.max(x, axis=-1, keepdims=True, initial=-np.inf)
        return np.asarray(top + np.log(total(np.exp(x - top))))


def _targets(labels: Any, classes: int, label_smoothing: float) -> Float64Array:
    """The distribution that each row is compared with."""
    hot = (np.arange(classes) == np.asarray(labels)[..., None]) * (1 - label_smoothing)
    return np.asarray(hot + label_smoothing / max(classes, 1))


def cross_entropy(
    logits: Float64Array,
    labels: Any,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Float64Array:
    with quiet():
        targets = _targets(labels, logits.shape[-1], label_smoothing)
        terms = np.where(targets > 0, -targets * _log_softmax(logits), 0.0)
        # A NaN of the logits shows, whatever its class.
        loss = np.sum(terms, axis=-1) + 0 * _log_softmax(logits).max(axis=-1, initial=-np.inf)
        if z_loss:
            loss = loss + z_loss * _logsumexp(logits)[..., 0] ** 2
        return np.where(np.asarray(labels) == ignore_index, 0.0, loss)


def cross_entropy_vjp(
    logits: Float64Array,
    labels: Any,
    cotangent: Float64Array,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> tuple[Float64Array]:
    with quiet():
        share = softmax(logits) * (1 + 2 * z_loss * _logsumexp(logits) if z_loss else 1)
        d = share - _targets(labels, logits.shape[-1], label_smoothing)
        counts = (np.asarray(labels) != ignore_index)[..., None]
        return (np.where(counts, np.asarray(cotangent)[..., None] * d, 0.0),)


def kl(x: Float64Array, target: Float64Array) -> Float64Array:
    q = softmax(target)
    with quiet():
        terms = np.where(q == 0, 0.0, q * (_log_softmax(target) - _log_softmax(x)))
        return np.asarray(np.sum(terms, axis=-1) + 0 * softmax(x).sum(axis=-1))


def kl_vjp(
    x: Float64Array, target: Float64Array, cotangent: Float64Array
) -> tuple[Float64Array, Float64Array]:
    q = softmax(target)
    c = np.asarray(cotangent)[..., None]
    with quiet():
        excess = np.where(q == 0, 0.0, _log_softmax(target) - _log_softmax(x))
        return c * (softmax(x) - q), c * q * (excess - kl(x, target)[..., None])


def _js_terms(x: Float64Array, target: Float64Array) -> tuple[Float64Array, ...]:
    """Both distributions, and log(p / m) and log(q / m)."""
    p, q = softmax(x), softmax(target)
    with quiet():
        log_m = np.log((p + q) / 2)
        return (
            p,
            q,
            np.where(p == 0, 0.0, _log_softmax(x) - log_m),
            np.where(q == 0, 0.0, _log_softmax(target) - log_m),
        )


def js(x: Float64Array, target: Float64Array) -> Float64Array:
    p, q, of_p, of_q = _js_terms(x, target)
    with quiet():
        return np.asarray(0.5 * np.sum(p * of_p + q * of_q, axis=-1))


def js_vjp(x: Float64Array, target: Float64Array, cotangent: Float64Array) -> tuple[Float64Array, ...]:
    p, q, of_p, of_q = _js_terms(x, target)
    c = 0.5 * np.asarray(cotangent)[..., None]
    with quiet():
        return c * p * (of_p - total(p * of_p)), c * q * (of_q - total(q * of_q))


def _counting(labels: Any, ignore_index: int) -> int:
    return max(int(np.sum(np.asarray(labels) != ignore_index)), 1)


def linear_cross_entropy(
    hidden: Float64Array, weight: Float64Array, labels: Any, *, chunk: int | None = None, **numbers: Any
) -> Float64Array:
    losses = cross_entropy(hidden @ weight.T, labels, **numbers)
    return np.asarray(np.sum(losses) / _counting(labels, numbers.get("ignore_index", -100)))


def linear_cross_entropy_vjp(
    hidden: Float64Array,
    weight: Float64Array,
    labels: Any,
    cotangent: Float64Array,
    *,
    chunk: int | None = None,
    **numbers: Any,
) -> tuple[Float64Array, Float64Array]:
    each = np.full(np.shape(labels), cotangent / _counting(labels, numbers.get("ignore_index", -100)))
    (d,) = cross_entropy_vjp(hidden @ weight.T, labels, each, **numbers)
    flat = d.reshape(-1, weight.shape[0])
    return d @ weight, flat.T @ hidden.reshape(-1, hidden.shape[-1])
