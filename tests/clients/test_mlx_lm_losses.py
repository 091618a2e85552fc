"""mlx-lm's fused distillation losses, forward and backward, against the formulas in float64.

The kernels have a race (mlx-lm#1700): each simdgroup writes its sums over the maxima that others may still have to
read, since no barrier stands between. GPUs mostly come out right, and so does the CPU, where simdgroups take turns at
every simd operation: all have read before the first one writes. Run one after the other from barrier to barrier, which
Metal allows, losses come out wrong by 20 % and gradients by 70 %.
"""

from __future__ import annotations

import numpy as np
import pytest

import zmlx
from zmlx.testing.tolerance import as_float64, round_to

pytestmark = pytest.mark.cpu

#: Blocks of 4096 and what is left of them: none, all of a row, a part that divides into no vector.
CASES = [("float32", 5001), ("float32", 77), ("bfloat16", 4096), ("float16", 130)]

#: Float32 arithmetic with Metal's fast::exp and fast::log, which CUDA has as instructions of their own. The
#: gradients are differences of probabilities.
TOLERANCES = {
    "float32": {"rtol": 1e-4, "atol": 1e-6},
    "float16": {"rtol": 2e-3, "atol": 1e-6},
    "bfloat16": {"rtol": 8e-3, "atol": 1e-6},
}


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def kl(q, p, dtype):
    """KL(P | Q) of softmaxed logits, and its gradient with respect to q."""
    q, p = log_softmax(q), log_softmax(p)
    return (np.exp(p) * (p - q)).sum(axis=-1), np.exp(q) - np.exp(p)


def js(q, p, dtype):
    """Jensen-Shannon divergence of softmaxed logits, and its gradient with respect to q.

    The backward kernel is given KL(Q | M) in the dtype of the logits.
    """
    q, p = log_softmax(q), log_softmax(p)
    m = np.logaddexp(q, p) - np.log(2)
    of_q = (np.exp(q) * (q - m)).sum(axis=-1)
    of_p = (np.exp(p) * (p - m)).sum(axis=-1)
    return (of_q + of_p) / 2, np.exp(q) * (q - m - round_to(of_q, dtype)[..., None]) / 2


@pytest.mark.parametrize(("dtype", "vocabulary"), CASES)
@pytest.mark.parametrize("oracle", [kl, js])
def test_loss_and_its_gradient(mlx_lm, launches, check, oracle, dtype, vocabulary):
    import mlx.core as mx

    name = oracle.__name__
    loss = getattr(mlx_lm("tuner.losses"), f"{name}_div_loss")
    rng = np.random.default_rng(vocabulary)
    q, p, weights = (
        mx.array((rng.standard_normal(shape) * 2).astype(np.float32)).astype(getattr(mx, dtype))
        for shape in [(2, 3, vocabulary), (2, 3, vocabulary), (2, 3)]
    )

    def weighted(q):
        values = loss(q, p)
        return (values * weights).sum(), values

    with launches(f"{name}_forward", f"{name}_backward"), zmlx.pretend_metal("mlx_lm"):
        (_, values), gradient = mx.value_and_grad(weighted)(q)
        mx.eval(values, gradient)
    assert values.dtype == gradient.dtype == q.dtype
    expected, slope = oracle(as_float64(q), as_float64(p), dtype)
    check(f"{name}_forward", values, expected, **TOLERANCES[dtype])
    check(f"{name}_backward", gradient, slope * as_float64(weights)[..., None], **TOLERANCES[dtype])
