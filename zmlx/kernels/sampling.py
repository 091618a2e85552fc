"""Drawing a token from logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import mlx.core as mx

from zmlx.kernels import _check, _check_numbers, _rows, _sampling
from zmlx.kernels._autodiff import _forward_mode, _stopped, _tuple, _vmap, differentiable, where_followed
from zmlx.kernels._msl import CHUNKS, ROWS
from zmlx.kernels._random import PHILOX
from zmlx.kernels._ranking import RANKING, check_length, ranked_places
from zmlx.launch import MetalKernel, metal_kernel

__all__ = ["apply_token_bitmask", "categorical", "filter_logits"]


def filter_logits(logits: mx.array, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> mx.array:
    """The logits of the likely tokens, and minus infinity for all others, without a sort.

    Parameters
    ----------
    logits
        Shape (..., V), float32, float16 or bfloat16, in any memory layout.
    top_k
        Leaves the ``top_k`` largest logits and all that are equal to the last of them; 0: all.
    top_p
        Of what ``top_k`` left, with ``p = softmax``: leaves the fewest of the largest logits whose ``p`` add up to
        ``top_p``, and all that are equal to the last of them. Above 0; 1: all.
    min_p
        Leaves those whose ``p`` is at least ``min_p`` times the largest; from 0, which leaves all, to 1.

    Returns
    -------
    mx.array
        Of ``logits``' shape and dtype. The gradient goes to what is left.

    Raises
    ------
    TypeError
        ``logits`` is not an MLX array of one of these dtypes, ``top_k`` is not an integer or the others are no numbers.
    ValueError
        ``logits`` is 0-d, V is more than 2**24, or a number is out of its range.

    Notes
    -----
    Fan, Lewis and Dauphin (arXiv:1805.04833), section 5; Holtzman et al. (arXiv:1904.09751), section 3.1; Nguyen et al.
    (arXiv:2407.01082), section 3. The thresholds are found on the ordered bits of the logits, two bits a pass, and are
    exact; the sum of ``p`` is one of float32. NaN counts as the largest logit; where a row has one, or plus infinity,
    its ``p`` are not numbers, and ``top_p`` leaves all.
    """
    check_length("filter_logits", logits, "logits")
    _check_numbers.check_integer("filter_logits", top_k, "top_k")
    if not 0 <= top_k < 2**31:
        raise ValueError(
            f"[filter_logits] Expected `top_k` to be a count from 0, which leaves all, to 2**31 - 1, got {top_k}."
        )
    _check_numbers.check_real("filter_logits", top_p, "top_p")
    _check_numbers.check_real("filter_logits", min_p, "min_p")
    if not 0 < top_p <= 1:
        raise ValueError(f"[filter_logits] Expected `top_p` to be above 0 and at most 1, got {top_p!r}.")
    if not 0 <= min_p <= 1:
        raise ValueError(f"[filter_logits] Expected `min_p` to be from 0 to 1, got {min_p!r}.")
    if logits.size == 0:
        return mx.array(logits)
    return _filter(top_k, float(top_p), float(min_p))(logits)


def apply_token_bitmask(logits: mx.array, mask: mx.array) -> mx.array:
    """The logits of the tokens that a grammar allows, and minus infinity for all others.

    Parameters
    ----------
    logits
        Shape (..., V), float32, float16 or bfloat16, in any memory layout.
    mask
        Shape (..., W), or (W,) for all rows, int32 or uint32, with 32 * W >= V: token t is allowed where bit ``t % 32``
        of word ``t // 32`` is set.

    Returns
    -------
    mx.array
        Of ``logits``' shape and dtype. The gradient goes to what is left.

    Raises
    ------
    TypeError
        ``logits`` is not an MLX array of one of these dtypes, or ``mask`` is not one of int32 or uint32.
    ValueError
        ``logits`` is 0-d, or ``mask`` has another shape.

    Notes
    -----
    The mask is that of Dong et al., XGrammar (arXiv:2411.15100), and of its ``apply_token_bitmask_inplace``.
    """
    _check.check_rows("apply_token_bitmask", logits, "logits")
    if _check.check_mlx("apply_token_bitmask", mask, "mask").dtype not in (mx.int32, mx.uint32):
        raise TypeError(
            "[apply_token_bitmask] Expected `mask` to be int32 or uint32, with a bit for each token, got "
            f"{_check.dtype_name(mask)}. Pack it first, 32 tokens a word."
        )
    leading = tuple(mask.shape[:-1])
    if (
        mask.ndim == 0
        or leading not in ((), tuple(logits.shape[:-1]))
        or 32 * mask.shape[-1] < logits.shape[-1]
    ):
        words = -(-logits.shape[-1] // 32)
        raise ValueError(
            f"[apply_token_bitmask] Expected `mask` to have shape {(*logits.shape[:-1], words)} or {(words,)}, a bit "
            f"for each token of `logits` (shape {tuple(logits.shape)}), or more words, got {tuple(mask.shape)}."
        )
    if logits.size == 0:
        return mx.array(logits)
    words_of_rows = mx.broadcast_to(mask, (*logits.shape[:-1], mask.shape[-1])) if leading else mask
    return cast("mx.array", _bitmask(logits, words_of_rows.astype(mx.uint32)))


def categorical(
    logits: mx.array, seed: int | mx.array, offset: int = 0, temperature: float = 1.0
) -> mx.array:
    """A token for each row, drawn with probabilities ``softmax(logits / temperature)``.

    Parameters
    ----------
    logits
        Shape (..., V), float32, float16 or bfloat16, in any memory layout.
    seed
        An integer from 0 to 2**64 - 1, or a key of `mx.random.key`.
    offset
        From 0 to 2**64 - 1: which draw it is, such as the number of the token in its text.
    temperature
        Above 0 and finite.

    Returns
    -------
    mx.array
        Shape (...), uint32.

    Raises
    ------
    TypeError
        ``logits`` is not an MLX array of one of these dtypes, or another argument is not what it should be.
    ValueError
        ``logits`` is 0-d or has rows without values or with more than 2**24, or a number is out of its range.

    Notes
    -----
    The largest of ``logits / temperature - log(-log(u))``: Gumbel, Statistical Theory of Extreme Values (1954), as
    Maddison, Tarlow and Minka (arXiv:1411.0030), section 2, have it. u comes from Philox4x32-10 (Salmon et al., SC
    2011) with the seed as key and a counter of (token // 4, row, offset): the same bits on every back end, whatever the
    threads. It has 23 of them, so the rarest token that can be drawn has a probability of about 1e-7. Under `mx.vmap`
    every entry draws with the same numbers. NaN counts as the largest.
    """
    check_length("categorical", logits, "logits")
    _check_numbers.check_integer("categorical", offset, "offset")
    if logits.shape[-1] == 0:
        raise ValueError(
            f"[categorical] Expected rows with one logit at least to draw from, got shape {tuple(logits.shape)}."
        )
    _check_word("offset", offset)
    _check_numbers.check_real("categorical", temperature, "temperature")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(
            f"[categorical] Expected `temperature` to be above 0 and finite, got {temperature!r}. For the largest "
            "logit use mx.argmax."
        )
    stream = mx.concatenate([_key(seed), _words(offset)])
    if logits.size == 0:
        return mx.zeros(logits.shape[:-1], mx.uint32)
    return _categorical(float(temperature))(logits, stream)


def _words(number: int) -> mx.array:
    return mx.array([number % 2**32, number // 2**32], dtype=mx.uint32)


def _key(seed: int | mx.array) -> mx.array:
    if isinstance(seed, mx.array):
        if seed.dtype != mx.uint32 or tuple(seed.shape) != (2,):
            raise ValueError(
                "[categorical] Expected `seed` to be an integer or a key of shape (2,) and dtype uint32, got shape "
                f"{tuple(seed.shape)} and {_check.dtype_name(seed)}. Make one: mx.random.key(seed)."
            )
        return seed
    _check_numbers.check_integer("categorical", seed, "seed")
    _check_word("seed", seed)
    return _words(seed)


def _check_word(name: str, value: int) -> None:
    if not 0 <= value < 2**64:
        raise ValueError(f"[categorical] Expected `{name}` to be from 0 to 2**64 - 1, got {value}.")


def _masked_gradient(cotangent: mx.array, result: mx.array) -> mx.array:
    rows = _rows.as_rows(result)
    launch = _rows.span_launch(rows.shape[0], rows.shape[1], result.dtype.size)
    inputs = [rows, cotangent.reshape(rows.shape)]
    return launch.run(_MASK_BACKWARD_KERNEL, inputs, [(rows.shape, result.dtype)], T=result.dtype)[0].reshape(
        result.shape
    )


def _left(result: mx.array, cotangent: mx.array) -> mx.array:
    return mx.where(result == -mx.inf, mx.zeros_like(cotangent), cotangent)


def _masking(forward: Callable[..., mx.array], row_arguments: int) -> Callable[..., mx.array]:
    """A function that takes logits out, with the rules of `zmlx.kernels._autodiff`; its gradient is a mask too."""
    function = mx.custom_function(_stopped(forward))
    gradient = mx.custom_function(_stopped(_masked_gradient))

    @function.vjp
    def function_vjp(primals: Any, cotangent: mx.array, output: mx.array) -> Any:
        found = gradient(cotangent.astype(output.dtype), output)
        others = _tuple(primals)[1:]
        return (found, *map(mx.zeros_like, others)) if isinstance(primals, tuple) else found

    @gradient.vjp
    def gradient_vjp(primals: Any, cotangent: mx.array, output: mx.array) -> Any:
        return gradient(cotangent.astype(output.dtype), primals[1]), mx.zeros_like(primals[1])

    @function.jvp
    def function_jvp(primals: Any, tangents: Any) -> Any:
        direction, x = _tuple(tangents)[0], _tuple(primals)[0]
        result = cast(mx.array, function(*_tuple(primals)))
        return _left(result, mx.zeros_like(x) if direction is None else direction)

    gradient.jvp(_forward_mode(lambda cotangent, result: _left(mx.stop_gradient(result), cotangent)))
    function.vmap(_vmap(function, row_arguments))
    gradient.vmap(_vmap(gradient, row_arguments=2))
    return where_followed(function, forward)


_MASK_BACKWARD_KERNEL = metal_kernel(
    "zmlx_mask_vjp",
    ["x", "g"],
    ["y"],
    _sampling.MASK_BACKWARD,
    CHUNKS,
    reference=lambda inputs, template: [_left(*inputs)],
)


def _filtered(x: mx.array, top_k: int, top_p: float, min_p: float) -> mx.array:
    x32 = x.astype(mx.float32)
    top = mx.max(mx.where(mx.isnan(x32), -mx.inf, x32), axis=-1, keepdims=True)
    e = mx.exp(x32 - top)
    # NaN is above all in the order of the kernel, and below none.
    ordered = mx.where(mx.isnan(x32), mx.inf, x32)
    falling = mx.take_along_axis(ordered, ranked_places(x, x.shape[-1]), axis=-1)
    stays = mx.ones(x.shape, mx.bool_)
    if 0 < top_k < x.shape[-1]:
        stays = ordered >= falling[..., top_k - 1 : top_k]
    if top_p < 1:
        weights = mx.where(stays, e, 0)
        sums = mx.cumsum(mx.take_along_axis(weights, ranked_places(x, x.shape[-1]), axis=-1), axis=-1)
        short = (sums < top_p * sums[..., -1:]).astype(mx.int32)
        last = mx.minimum(mx.sum(short, axis=-1, keepdims=True), x.shape[-1] - 1)
        unknown = mx.isnan(sums[..., -1:])
        stays = stays & (unknown | (ordered >= mx.take_along_axis(falling, last, axis=-1)))
    if min_p > 0:
        stays = stays & mx.logical_not(e < min_p)
    return mx.where(stays, x, mx.array(-mx.inf, x.dtype))


@lru_cache(maxsize=64)
def _filter(top_k: int, top_p: float, min_p: float) -> Callable[[mx.array], mx.array]:
    kernel = metal_kernel(
        "zmlx_filter_logits",
        ["x", "top_k", "top_p", "min_p"],
        ["y"],
        _sampling.FILTER,
        CHUNKS + ROWS + RANKING + _sampling.THRESHOLD,
        reference=lambda inputs, template: [_filtered(inputs[0], top_k, top_p, min_p)],
    )
    return _masking(lambda x: _rows.run_rows(kernel, [x], top_k, top_p, min_p), row_arguments=1)


def _allowed(x: mx.array, mask: mx.array) -> mx.array:
    """The kernel's result in MLX operations, with its gradient: none where the result is minus infinity."""
    words = mx.stop_gradient(mask)
    bits = (words[..., None] >> mx.arange(32, dtype=mx.uint32)) & 1
    bits = bits.reshape(*mask.shape[:-1], -1)[..., : x.shape[-1]]
    return mx.where((bits != 0) & (x != -mx.inf), x, mx.array(-mx.inf, x.dtype))


_BITMASK_KERNEL = metal_kernel(
    "zmlx_token_bitmask",
    ["x", "mask"],
    ["y"],
    _sampling.BITMASK,
    CHUNKS,
    reference=lambda inputs, template: [_allowed(*inputs)],
)
_BITMASK_BACKWARD_KERNEL = metal_kernel(
    "zmlx_token_bitmask_vjp",
    ["x", "mask", "g"],
    ["y"],
    _sampling.BITMASK_BACKWARD,
    CHUNKS,
    reference=lambda inputs, template: mx.vjp(_allowed, inputs[:2], inputs[2:])[1][:1],
)


def _run_masked(kernel: MetalKernel, x: mx.array, mask: mx.array, *others: mx.array) -> mx.array:
    rows = _rows.as_rows(x)
    launch = _rows.span_launch(rows.shape[0], rows.shape[1], x.dtype.size)
    inputs = [rows, mask.reshape(-1, mask.shape[-1]), *map(_rows.as_rows, others)]
    return launch.run(kernel, inputs, [(rows.shape, x.dtype)], T=x.dtype)[0].reshape(x.shape)


#: A mask for all rows is one for each entry too, so entries are launched one by one.
_bitmask = differentiable(
    lambda x, mask: _run_masked(_BITMASK_KERNEL, x, mask),
    lambda cotangent, x, mask: (
        _run_masked(_BITMASK_BACKWARD_KERNEL, x, mask, cotangent),
        mx.zeros_like(mask),
    ),
    _allowed,
    row_arguments=0,
)


def _noise(stream: mx.array, rows: int, length: int) -> mx.array:
    """The kernel's Gumbel noise, in MLX operations."""
    low, key = mx.array(0xFFFFFFFF, mx.uint64), [stream[0].astype(mx.uint64), stream[1].astype(mx.uint64)]
    place = mx.arange(-(-length // 4), dtype=mx.uint64)[None, :] + mx.zeros((rows, 1), mx.uint64)
    row = mx.arange(rows, dtype=mx.uint64)[:, None] + mx.zeros_like(place)
    c = [place, row, *(stream[n].astype(mx.uint64) + mx.zeros_like(place) for n in (2, 3))]
    for _ in range(10):
        x, z = c[0] * mx.array(0xD2511F53, mx.uint64), c[2] * mx.array(0xCD9E8D57, mx.uint64)
        c = [(z >> 32) ^ c[1] ^ key[0], z & low, (x >> 32) ^ c[3] ^ key[1], x & low]
        key = [(key[0] + 0x9E3779B9) & low, (key[1] + 0xBB67AE85) & low]
    words = mx.stack(c, axis=-1).reshape(rows, -1)[:, :length]
    u = ((words >> 9).astype(mx.float32) + 0.5) * 2.0**-23
    return -mx.log(-mx.log(u))


@lru_cache(maxsize=64)
def _categorical(temperature: float) -> Callable[[mx.array, mx.array], mx.array]:
    def reference(x: mx.array, stream: mx.array) -> mx.array:
        noisy = x.astype(mx.float32) / temperature + _noise(stream, *x.shape)
        return ranked_places(noisy, 1)[:, 0]

    kernel = metal_kernel(
        "zmlx_categorical",
        ["x", "stream", "temperature"],
        ["y"],
        _sampling.DRAW,
        CHUNKS + ROWS + RANKING + PHILOX,
        reference=lambda inputs, template: [reference(*inputs[:2])],
    )

    def run(x: mx.array, stream: mx.array) -> mx.array:
        rows = _rows.as_rows(x)
        launch = _rows.row_launch(rows.shape[0], rows.shape[1], x.dtype.size)
        outputs = [((rows.shape[0],), mx.uint32)]
        drawn = launch.run(kernel, [rows, stream, temperature], outputs, T=x.dtype)[0]
        return drawn.reshape(x.shape[:-1])

    function: Any = mx.custom_function(_stopped(run))
    function.vmap(_vmap(function, row_arguments=0))
    return where_followed(function, run)
