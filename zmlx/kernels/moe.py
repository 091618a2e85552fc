"""Mixtures of experts: which experts a token goes to, its way there and back."""

from __future__ import annotations

import mlx.core as mx

from zmlx.kernels import _check, _check_numbers, _experts, _routers, _segments
from zmlx.kernels._choice import placing
from zmlx.kernels._places import check_indices, check_order, check_rows_of, int32
from zmlx.kernels._ranking import check_picks

__all__ = [
    "combine",
    "dispatch",
    "expert_order",
    "gather_add",
    "router_topk",
    "scatter_add",
    "sigmoid_router",
]

#: Each has a thread that looks at all slots.
MOST_EXPERTS = 65535


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
    _routers.check_bias(logits, bias)
    _routers.check_groups(logits.shape[-1], k, groups, best_groups)
    _check_numbers.check_finite("sigmoid_router", scaling, "scaling")
    if logits.size == 0:
        return _none(logits, k)
    route = _routers.sigmoid_router(k, groups, best_groups, bool(renormalize), float(scaling))
    return route(logits, bias)


def expert_order(indices: mx.array, experts: int) -> tuple[mx.array, mx.array, mx.array]:
    """The slots of tokens, (token, choice) one after the other, in the order of their experts.

    Parameters
    ----------
    indices
        The experts of the tokens, int32 or uint32, of any shape such as (tokens, k): what the routers return. An index
        out of range is no expert's: its slot comes after all others.
    experts
        How many there are, from 1 to 65535.

    Returns
    -------
    order : mx.array
        Shape (indices.size,), uint32: which slot is at each place. Slots of one expert keep their order.
    positions : mx.array
        Of ``indices``' shape, uint32: at which place each slot is, the inverse of ``order``.
    offsets : mx.array
        Shape (experts + 1,), uint32: the places of expert e begin at ``offsets[e]`` and end before ``offsets[e + 1]``.

    Raises
    ------
    TypeError
        ``indices`` is not an MLX array of int32 or uint32, or ``experts`` is not an integer.
    ValueError
        ``experts`` is out of its range.

    Notes
    -----
    A counting sort, Knuth, The Art of Computer Programming, volume 3, section 5.2, as Gale et al., MegaBlocks
    (arXiv:2211.15841), section 5.1, use it. Stable and without atomics: the same in every run and on every back end.
    """
    places = check_indices("expert_order", indices)
    _check_numbers.check_integer("expert_order", experts, "experts")
    if not 1 <= experts <= MOST_EXPERTS:
        raise ValueError(
            f"[expert_order] Expected `experts` to be from 1 to {MOST_EXPERTS}, got {experts}. Pass their number."
        )
    if indices.size == 0:
        nothing = mx.zeros(indices.shape, mx.uint32)
        return nothing.reshape(0), nothing, mx.zeros((experts + 1,), mx.uint32)
    return _experts.expert_order(experts)(places)


def dispatch(x: mx.array, order: mx.array, positions: mx.array) -> mx.array:
    """The tokens in the order of their experts, each as often as it has experts: ``x[order // k]``.

    Parameters
    ----------
    x
        Shape (..., D), one row a token, float32, float16 or bfloat16, in any memory layout.
    order, positions
        Of `expert_order`, shapes (tokens * k,) and (..., k), int32 or uint32: each the inverse of the other.

    Returns
    -------
    mx.array
        Shape (tokens * k, D), of ``x``'s dtype.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes, or the others are no arrays of int32 or uint32.
    ValueError
        Shapes that do not belong together.

    Notes
    -----
    Gale et al., MegaBlocks (arXiv:2211.15841), section 5.1. A token's gradient is the sum of those of its copies.
    """
    _check.check_rows("dispatch", x)
    places = check_order("dispatch", order, positions, tuple(x.shape[:-1]), "the tokens of `x`")
    if x.size == 0:
        return mx.zeros((order.size, x.shape[-1]), x.dtype)
    rows = x.reshape(-1, x.shape[-1])
    return _dispatch(rows, places, int32(positions).reshape(rows.shape[0], -1))


def combine(x: mx.array, weights: mx.array, order: mx.array, positions: mx.array) -> mx.array:
    """The outputs of experts back at their tokens: ``sum(weights[..., j] * x[positions[..., j]])`` over j.

    Parameters
    ----------
    x
        Shape (tokens * k, D), in the order of experts, float32, float16 or bfloat16, in any memory layout.
    weights
        Shape (..., k), of any of these dtypes: what the routers return.
    order, positions
        Of `expert_order`, shapes (tokens * k,) and (..., k), int32 or uint32: each the inverse of the other.

    Returns
    -------
    mx.array
        Shape (..., D), of ``x``'s dtype; added up in float32, in the order of the choices.

    Raises
    ------
    TypeError
        ``x`` or ``weights`` is not an MLX array of one of these dtypes, or the others are no arrays of int32 or uint32.
    ValueError
        Shapes that do not belong together.

    Notes
    -----
    Shazeer et al., Outrageously Large Neural Networks (arXiv:1701.06538), equation 1. What is at a position out of
    range is left out. The gradients of both come from one kernel, which reads each row once.
    """
    _check.check_rows("combine", x)
    _check.check_rows("combine", weights, "weights")
    if x.ndim != 2:
        raise ValueError(
            f"[combine] Expected `x` to have two dimensions, (tokens * k, D), got shape {tuple(x.shape)}."
        )
    places = check_order("combine", order, positions, tuple(weights.shape[:-1]), "the tokens of `weights`")
    if tuple(positions.shape) != tuple(weights.shape) or x.shape[0] != order.size:
        raise ValueError(
            f"[combine] Expected `weights` to have the shape of `positions`, {tuple(positions.shape)}, and `x` a row "
            f"for each of {order.size} slots, got shapes {tuple(weights.shape)} and {tuple(x.shape)}."
        )
    shape = (*weights.shape[:-1], x.shape[1])
    if x.size == 0:
        return mx.zeros(shape, x.dtype)
    k = weights.shape[-1]
    return _combine(x, weights.reshape(-1, k), places, int32(positions).reshape(-1, k)).reshape(shape)


def gather_add(x: mx.array, y: mx.array, indices: mx.array) -> mx.array:
    """``x + y[indices]``: to each row the row of another array.

    Parameters
    ----------
    x
        Shape (..., D), float32, float16 or bfloat16, in any memory layout.
    y
        Shape (M, D), of ``x``'s dtype.
    indices
        Shape (...), int32 or uint32. An index out of range, also a negative one, adds nothing.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; added in float32.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes, ``y`` is not one of the same dtype, or ``indices`` is no array
        of int32 or uint32.
    ValueError
        Shapes that do not belong together.

    Notes
    -----
    Blelloch, Vector Models for Data-Parallel Computing (1990), section 3.1. The gradient of ``y`` is a `scatter_add`.
    """
    _check.check_rows("gather_add", x)
    check_rows_of("gather_add", x, y, "y", two="y")
    places = check_indices("gather_add", indices, tuple(x.shape[:-1]), "x")
    if x.size == 0 or y.size == 0:
        return mx.array(x)
    return _gather_add(x.reshape(-1, x.shape[-1]), y, places.reshape(-1)).reshape(x.shape)


def scatter_add(x: mx.array, y: mx.array, indices: mx.array) -> mx.array:
    """``x``, and each row of ``y`` added to the row of ``x`` that its index names.

    Parameters
    ----------
    x
        Shape (M, D), float32, float16 or bfloat16, in any memory layout.
    y
        Shape (..., D), of ``x``'s dtype.
    indices
        Shape (...), int32 or uint32. What has an index out of range, also a negative one, is left out.

    Returns
    -------
    mx.array
        Of ``x``'s shape and dtype; added up in float32, in the order of ``y``.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of one of these dtypes, ``y`` is not one of the same dtype, or ``indices`` is no array
        of int32 or uint32.
    ValueError
        Shapes that do not belong together.

    Notes
    -----
    Blelloch, Vector Models for Data-Parallel Computing (1990), section 3.1. The indices are sorted first, and whoever
    owns a row of ``x`` finds its segment by bisection: no atomics, the same bits in every run. The gradient of ``y`` is
    a gather.
    """
    _check.check_rows("scatter_add", x)
    check_rows_of("scatter_add", x, y, "y", two="x")
    places = check_indices("scatter_add", indices, tuple(y.shape[:-1]), "y")
    if x.size == 0 or y.size == 0:
        return mx.array(x)
    return _scatter_add(x, y.reshape(-1, y.shape[-1]), places.reshape(-1))


def _dispatched(x: mx.array, order: mx.array, positions: mx.array) -> mx.array:
    return _segments.taken(x, order, positions.shape[1])


def _dispatch_gradient(g: mx.array, x: mx.array, order: mx.array, positions: mx.array) -> tuple[mx.array]:
    return (_segments.combine_rows(g, positions, mx.ones(positions.shape, mx.float32)),)


def _combine_gradient(
    g: mx.array, x: mx.array, weights: mx.array, order: mx.array, positions: mx.array
) -> tuple[mx.array, mx.array]:
    return _segments.combine_gradients(g, x, weights, order)


def _gather_add_gradient(
    g: mx.array, x: mx.array, y: mx.array, indices: mx.array
) -> tuple[mx.array, mx.array]:
    return g, _segments.scatter_rows(mx.zeros_like(y), g, indices)


def _scatter_add_gradient(
    g: mx.array, x: mx.array, y: mx.array, indices: mx.array
) -> tuple[mx.array, mx.array]:
    return g, _segments.take_rows(g, indices)


def _scattered(x: mx.array, y: mx.array, indices: mx.array) -> mx.array:
    # What belongs to no row is added to one more.
    wide = indices.astype(mx.int64)
    places = mx.where((wide >= 0) & (wide < x.shape[0]), wide, x.shape[0])
    longer = mx.concatenate([x.astype(mx.float32), mx.zeros((1, x.shape[1]))])
    return longer.at[places].add(y.astype(mx.float32))[: x.shape[0]].astype(x.dtype)


_dispatch = placing(
    lambda x, order, positions: _segments.take_rows(x, order, positions.shape[1]),
    _dispatch_gradient,
    _dispatched,
    integers=2,
    linear=True,
)
_combine = placing(
    lambda x, weights, order, positions: _segments.combine_rows(x, positions, weights),
    _combine_gradient,
    lambda x, weights, order, positions: _segments.weighted_sum(x, positions, weights),
    integers=2,
)
_gather_add = placing(
    _segments.gather_rows, _gather_add_gradient, _segments.gathered, integers=1, linear=True
)
_scatter_add = placing(_segments.scatter_rows, _scatter_add_gradient, _scattered, integers=1, linear=True)


def _none(logits: mx.array, k: int) -> tuple[mx.array, mx.array]:
    shape = (*logits.shape[:-1], k)
    return mx.zeros(shape, logits.dtype), mx.zeros(shape, mx.uint32)
