"""Mixtures of experts: which experts a token goes to, its way there and back."""

from __future__ import annotations

import math

import mlx.core as mx

from zmlx.kernels import _check, _routers
from zmlx.kernels._ranking import check_integer, check_picks

__all__ = ["router_topk", "sigmoid_router"]


def router_topk(logits: mx.array, k: int, renormalize: bool = True) -> tuple[mx.array, mx.array]:
    """The ``k`` experts of the largest probabilities ``p = softmax(logits)``, and the weights of their outputs.

    Parameters
    ----------
    logits
        Shape (..., E), one for each expert, float32, float16 or bfloat16, in any memory layout.
    k
        How many experts a token has, from 1 to 64 and at most E.
    renormalize
        Whether the weights are ``p`` divided by the sum over the chosen experts, or ``p`` as it is.

    Returns
    -------
    weights : mx.array
        Shape (..., k), of ``logits``' dtype, largest first; computed in float32, gradient included.
    indices : mx.array
        Shape (..., k), uint32: the experts. Of equal logits the lowest index comes first.

    Raises
    ------
    TypeError
        ``logits`` is not an MLX array of one of these dtypes, or ``k`` is not an integer.
    ValueError
        ``logits`` is 0-d, E is more than 2**24, or ``k`` is out of its range.

    Notes
    -----
    Shazeer et al., Outrageously Large Neural Networks (arXiv:1701.06538), equations 3 to 5, with the renormalised
    weights of Mixtral (arXiv:2401.04088), section 2.1. The gradient takes the choice as it was. NaN counts as the
    largest logit, and makes the weights of its row NaN.
    """
    check_picks("router_topk", logits, k, name="logits")
    if logits.size == 0:
        return _none(logits, k)
    return _routers.softmax_router(k, bool(renormalize))(logits)


def sigmoid_router(
    logits: mx.array,
    bias: mx.array,
    k: int,
    groups: int = 1,
    best_groups: int = 1,
    renormalize: bool = True,
    scaling: float = 1.0,
) -> tuple[mx.array, mx.array]:
    """The ``k`` experts of the largest ``sigmoid(logits) + bias`` in the best groups, weighted without the bias.

    The experts are in ``groups`` of neighbours. The number of a group is the sum of its two largest
    ``sigmoid(logits) + bias``, and the ``best_groups`` of the largest numbers are chosen from.

    Parameters
    ----------
    logits
        Shape (..., E), one for each expert, float32, float16 or bfloat16, in any memory layout.
    bias
        Shape (E,), of any of these dtypes: the correction that balances the experts. It has no gradient.
    k
        How many experts a token has, from 1 to 64 and at most as many as the best groups have.
    groups
        From 1 to 32; E is a multiple of it, and a group has two experts at least unless all are chosen from.
    best_groups
        From 1 to ``groups``.
    renormalize
        Whether the weights are divided by their sum (and 1e-20).
    scaling
        A finite factor of the weights.

    Returns
    -------
    weights : mx.array
        Shape (..., k), of ``logits``' dtype: ``sigmoid(logits)`` of the chosen experts, renormalised and scaled.
    indices : mx.array
        Shape (..., k), uint32: the experts, by ``sigmoid(logits) + bias``; of equal ones the lowest index first.

    Raises
    ------
    TypeError
        ``logits`` or ``bias`` is not an MLX array of one of these dtypes, or a count is not an integer.
    ValueError
        ``logits`` is 0-d, ``bias`` does not have shape (E,), or a number is out of its range.

    Notes
    -----
    DeepSeek-AI, DeepSeek-V3 Technical Report (arXiv:2412.19437), equations 13 to 16, with the groups of section 2.1.2
    and of its published code. The gradient takes the choice as it was.
    """
    check_picks("sigmoid_router", logits, k, name="logits")
    _check_bias(logits, bias)
    _check_groups(logits.shape[-1], k, groups, best_groups)
    if isinstance(scaling, bool) or not isinstance(scaling, (int, float)):
        raise TypeError(
            f"[sigmoid_router] Expected `scaling` to be a number, got {type(scaling).__name__}. Pass a float."
        )
    if not math.isfinite(scaling):
        raise ValueError(f"[sigmoid_router] Expected `scaling` to be finite, got {scaling!r}.")
    if logits.size == 0:
        return _none(logits, k)
    route = _routers.sigmoid_router(k, groups, best_groups, bool(renormalize), float(scaling))
    return route(logits, bias)


def _none(logits: mx.array, k: int) -> tuple[mx.array, mx.array]:
    shape = (*logits.shape[:-1], k)
    return mx.zeros(shape, logits.dtype), mx.zeros(shape, mx.uint32)


def _check_bias(logits: mx.array, bias: mx.array) -> None:
    _check.check_rows("sigmoid_router", bias, "bias")
    expected = (logits.shape[-1],)
    if tuple(bias.shape) != expected:
        raise ValueError(
            f"[sigmoid_router] Expected `bias` to have shape {expected}, one number for each expert of `logits` "
            f"(shape {tuple(logits.shape)}), got {tuple(bias.shape)}."
        )


def _check_groups(experts: int, k: int, groups: int, best_groups: int) -> None:
    check_integer("sigmoid_router", "groups", groups)
    check_integer("sigmoid_router", "best_groups", best_groups)
    if not 1 <= groups <= _routers.MOST_GROUPS or experts % groups:
        raise ValueError(
            f"[sigmoid_router] Expected `groups` to be from 1 to {_routers.MOST_GROUPS}, and {experts} experts to be a "
            f"multiple of it, got {groups}."
        )
    if not 1 <= best_groups <= groups:
        raise ValueError(
            f"[sigmoid_router] Expected `best_groups` to be from 1 to {groups}, which is `groups`, got {best_groups}."
        )
    size = experts // groups
    if best_groups < groups and size < 2:
        raise ValueError(
            f"[sigmoid_router] Expected groups of two experts at least, whose two best preferences are added up, got "
            f"{groups} groups of {size}. Choose from all: best_groups={groups}."
        )
    if k > best_groups * size:
        raise ValueError(
            f"[sigmoid_router] Expected `k` to be at most {best_groups * size}, the experts of {best_groups} groups, "
            f"got {k}."
        )
