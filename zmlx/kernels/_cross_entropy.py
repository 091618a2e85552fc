"""The cross-entropy of rows as kernels: for itself, and with its gradient for the loss of a linear layer."""

from __future__ import annotations

import mlx.core as mx

from zmlx.kernels._row_kernel import row_kernel

# All terms are of the logits less their maximum, so that large logits do not cancel. Factors of zero leave out infinite
# terms.
_CROSS_ENTROPY = """
    top = peak(logits)
    picked = at(logits, label) - top
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
SOFTMAX_CROSS_ENTROPY = row_kernel(
    _CROSS_ENTROPY,
    inputs=("logits",),
    per_row=("label",),
    scalars=_SCALARS,
    grad=f"{_GRADIENT}; d_logits = 0.0 if label == ignore_index else g * (share - target)",
    differentiable=("logits",),
    name="softmax_cross_entropy",
)
# The loss, and its gradient by the logits: what a chunk of `fused_linear_cross_entropy` needs.
LOSS_AND_GRADIENT = row_kernel(
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
