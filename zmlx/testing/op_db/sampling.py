"""Drawing a token from logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx.testing.op_db._philox import philox, uniform
from zmlx.testing.op_db._shared import (
    ITEMSIZE,
    Float64Array,
    as_on_a_gpu,
    kernel,
    ones,
    quiet,
    rejected_arrays,
)
from zmlx.testing.op_db.selection import stable_order, with_more
from zmlx.testing.opinfo import ErrorInput, OpInfo, SampleInput, SampleRng
from zmlx.testing.rivals import Argument, Rivals

Rng = Callable[[str], SampleRng]


def _filter(x: Float64Array, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> Float64Array:
    """Sorted rows are cut after their first values, as the papers have it; what equals the last stays with it."""
    if x.size == 0:
        return x.copy()
    length, order, missing = x.shape[-1], stable_order(x), np.isnan(x)

    def sorted_at(place: Any) -> Float64Array:
        return np.take_along_axis(x, np.take_along_axis(order, place, axis=-1), axis=-1)

    with quiet():
        e = np.exp(x - np.max(np.where(missing, -np.inf, x), axis=-1, keepdims=True))
    last = length if top_k == 0 else min(top_k, length)
    stays = missing | (x >= sorted_at(np.full((*x.shape[:-1], 1), last - 1)))
    if top_p < 1:
        chances = np.where(stays, e, 0)
        sums = np.cumsum(np.take_along_axis(chances, order, axis=-1), axis=-1)
        cut = np.sum(sums < top_p * sums[..., -1:], axis=-1, keepdims=True)
        unknown = np.isnan(chances).any(axis=-1, keepdims=True)
        stays &= unknown | (x >= sorted_at(np.minimum(cut, length - 1)))
    if min_p > 0:
        stays &= ~(e < min_p)
    return np.where(stays, x, -np.inf)


def _kept(result: Float64Array, cotangent: Float64Array) -> tuple[Float64Array]:
    return (np.where(result == -np.inf, 0.0, cotangent),)


def _filter_vjp(x: Float64Array, cotangent: Float64Array, **limits: Any) -> tuple[Float64Array]:
    return _kept(_filter(x, **limits), cotangent)


_ALL = {"top_k": 12, "top_p": 0.8, "min_p": 0.05}


def _filter_samples(rng: Rng) -> Iterator[SampleInput]:
    yield SampleInput("small", (rng("small").normal((4, 32), scale=2.0),), _ALL)
    yield SampleInput("top_k", (rng("top_k").normal((5, 40)),), {"top_k": 7})
    yield SampleInput("top_p", (rng("top_p").normal((5, 40)),), {"top_p": 0.6})
    yield SampleInput("min_p", (rng("min_p").normal((5, 40)),), {"min_p": 0.2})
    yield SampleInput("all_stay", (rng("all_stay").normal((3, 9)),), {"top_k": 20})
    yield SampleInput("single", (np.array([0.75]),), {"top_k": 1, "top_p": 0.5, "min_p": 0.5})
    yield SampleInput("odd", (rng("odd").normal((3, 5, 7), scale=3.0),), {"top_k": 3, "top_p": 0.9})
    yield SampleInput(
        "long_rows", (rng("long_rows").normal((2, 4099), scale=3.0),), {"top_k": 70, "top_p": 0.7}
    )
    yield SampleInput("ties", (rng("ties").integers((6, 40), -3, 3).astype(np.float64),), {"top_k": 4})
    yield SampleInput("special", (_special(rng("special")),), {"top_k": 4, "top_p": 0.75})
    yield SampleInput("no_rows", (np.zeros((0, 8)),), {"top_k": 2})
    yield SampleInput("no_columns", (np.zeros((3, 0)),), {"top_k": 2})


def _special(rng: SampleRng) -> Float64Array:
    """NaN, plus infinity, minus infinities among numbers; a row of minus infinities."""
    rows = rng.normal((4, 9))
    rows[0, 3], rows[1, 5] = np.nan, np.inf
    rows[2, 1:8] = -np.inf
    rows[3] = -np.inf
    return rows


def _bits(mask: NDArray[np.int32], length: int) -> NDArray[np.bool_]:
    words = mask.astype(np.int64)[..., None] >> np.arange(32) & 1
    flat = words.reshape(*mask.shape[:-1], 32 * mask.shape[-1])[..., :length]
    return np.asarray(flat != 0)


def _bitmask(x: Float64Array, mask: NDArray[np.int32]) -> Float64Array:
    return np.where(_bits(mask, x.shape[-1]), x, -np.inf)


def _bitmask_vjp(x: Float64Array, mask: NDArray[np.int32], cotangent: Float64Array) -> tuple[Float64Array]:
    return _kept(_bitmask(x, mask), cotangent)


def _bitmask_samples(rng: Rng) -> Iterator[SampleInput]:
    shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = (
        ("small", (4, 40), (4, 2)),
        ("one_mask", (5, 64), (2,)),
        ("single", (1,), (1,)),
        ("odd", (3, 5, 33), (3, 5, 2)),
        ("longer_mask", (3, 20), (3, 4)),
        ("long_rows", (2, 4099), (2, 129)),
        ("many_rows", (301, 7), (301, 1)),
        ("no_rows", (0, 8), (0, 1)),
        ("no_columns", (3, 0), (3, 1)),
    )
    for name, shape, words in shapes:
        numbers = rng(name)
        yield SampleInput(name, (numbers.normal(shape), numbers.integers(words, -(2**31), 2**31)))
    numbers = rng("special")
    yield SampleInput("special", (_special(numbers), numbers.integers((4, 1), -(2**31), 2**31)))


def _categorical(x: Float64Array, seed: int, offset: int = 0, temperature: float = 1.0) -> NDArray[np.uint32]:
    rows = x.reshape(int(np.prod(x.shape[:-1])), x.shape[-1])
    place, row = np.arange(-(-rows.shape[1] // 4))[None, :], np.arange(rows.shape[0])[:, None]
    counter = (place, row, offset % 2**32, offset // 2**32)
    words = philox(counter, (seed % 2**32, seed // 2**32)).reshape(len(rows), 4 * place.size)[
        :, : rows.shape[1]
    ]
    noisy = rows / temperature - np.log(-np.log(uniform(words)))
    return stable_order(noisy)[:, 0].astype(np.uint32).reshape(x.shape[:-1])


def _categorical_samples(rng: Rng) -> Iterator[SampleInput]:
    cool = {"offset": 2**33 + 7, "temperature": 0.5}
    yield SampleInput("small", (rng("small").normal((8, 32)), 1))
    yield SampleInput("small_cool", (rng("small_cool").normal((8, 32)), 2**40 + 3), cool)
    yield SampleInput("single", (np.array([0.75]), 5))
    yield SampleInput("odd", (rng("odd").normal((3, 5, 7)), 6))
    yield SampleInput("level", (np.zeros((40, 6)), 7))
    yield SampleInput("long_rows", (rng("long_rows").normal((3, 4099)), 8))
    yield SampleInput("many_rows", (rng("many_rows").normal((301, 5)), 9))
    yield SampleInput("special", (_special(rng("special")), 10))
    yield SampleInput("no_rows", (np.zeros((0, 8)), 11))


def _refused(
    function: str, name: str, message: str, exception: type[Exception] = ValueError, **given: Any
) -> ErrorInput:
    arguments = (1,) if function == "categorical" and "seed" not in given else ()
    return ErrorInput(name, lambda: (ones(2, 8), *arguments), exception, f"[{function}] {message}", given)


def _refused_mask(name: str, shape: tuple[int, ...], came: str) -> ErrorInput:
    return ErrorInput(
        name,
        lambda: (ones(2, 40), ones(*shape, dtype="int32")),
        ValueError,
        "[apply_token_bitmask] Expected `mask` to have shape (2, 2) or (2,), a bit for each token of `logits` "
        f"(shape (2, 40)), or more words, got {came}.",
    )


def _masked_formula(mx: Any, x: Any, mask: Any) -> Any:
    bits = (mask[..., None] >> mx.arange(32)) & 1
    return mx.where(bits.reshape(mask.shape[0], -1)[:, : x.shape[1]] != 0, x, mx.array(-mx.inf, x.dtype))


OPS = (
    OpInfo(
        name="sampling.filter_logits",
        op=kernel("sampling", "filter_logits"),
        kernels=("zmlx_filter_logits",),
        grad_kernels=("zmlx_mask_vjp",),
        gpu_shape=as_on_a_gpu,
        oracle=_filter,
        oracle_vjp=_filter_vjp,
        differentiable=(0,),
        samples=_filter_samples,
        source="Fan, Lewis and Dauphin 2018 (arXiv:1805.04833), section 5; Holtzman et al. 2019 (arXiv:1904.09751), "
        "section 3.1; Nguyen et al. 2024 (arXiv:2407.01082), section 3",
        golden_samples=("small", "top_k", "single", "special"),
        error_inputs=(
            *rejected_arrays("filter_logits", name="logits"),
            _refused(
                "filter_logits",
                "negative_k",
                "Expected `top_k` to be a count from 0, which leaves all, to 2**31 - 1, got -1.",
                top_k=-1,
            ),
            _refused(
                "filter_logits", "no_p", "Expected `top_p` to be above 0 and at most 1, got 0.0.", top_p=0.0
            ),
            _refused("filter_logits", "more_p", "Expected `min_p` to be from 0 to 1, got 1.5.", min_p=1.5),
            _refused(
                "filter_logits",
                "text",
                "Expected `top_p` to be a number, got str. Pass a float.",
                TypeError,
                top_p="1",
            ),
        ),
        bytes_moved=lambda sample, dtype: 2 * int(sample.args[0].size) * ITEMSIZE[dtype],
    ),
    OpInfo(
        name="sampling.apply_token_bitmask",
        op=kernel("sampling", "apply_token_bitmask"),
        kernels=("zmlx_token_bitmask",),
        grad_kernels=("zmlx_token_bitmask_vjp",),
        gpu_shape=as_on_a_gpu,
        oracle=_bitmask,
        oracle_vjp=_bitmask_vjp,
        differentiable=(0,),
        samples=_bitmask_samples,
        source="Dong et al. 2024, XGrammar (arXiv:2411.15100): apply_token_bitmask_inplace",
        golden_samples=("small", "one_mask", "single", "special"),
        error_inputs=(
            *with_more(rejected_arrays("apply_token_bitmask", name="logits"), None),
            _refused_mask("mask_short", (2, 1), "(2, 1)"),
            _refused_mask("mask_rows", (3, 2), "(3, 2)"),
            ErrorInput(
                "mask_bool",
                lambda: (ones(2, 8), ones(2, 8, dtype="bool_")),
                TypeError,
                "[apply_token_bitmask] Expected `mask` to be int32 or uint32, with a bit for each token, got bool. "
                "Pack it first, 32 tokens a word.",
            ),
            ErrorInput(
                "mask_not_mlx",
                lambda: (ones(2, 8), np.ones((2, 1), np.int32)),
                TypeError,
                "[apply_token_bitmask] Expected `mask` to be an mlx.core.array, got ndarray. Convert it first: "
                "mx.array(mask).",
            ),
        ),
        bytes_moved=lambda sample, dtype: int(
            2 * sample.args[0].size * ITEMSIZE[dtype] + 4 * sample.args[1].size
        ),
        rivals=Rivals(
            shapes=lambda rows, columns: (
                (rows, columns),
                Argument((rows, -(-columns // 32)), "int32", (-(2**30), 2**30)),
            ),
            formula=_masked_formula,
        ),
    ),
    OpInfo(
        name="sampling.categorical",
        op=kernel("sampling", "categorical"),
        kernels=("zmlx_categorical",),
        gpu_shape=as_on_a_gpu,
        oracle=_categorical,
        samples=_categorical_samples,
        source="Gumbel 1954, as in Maddison, Tarlow and Minka 2014 (arXiv:1411.0030), section 2; Salmon et al. 2011, "
        "Parallel Random Numbers: As Easy as 1, 2, 3, section 3.3",
        out_dtype=lambda dtype: "uint32",
        golden_samples=("small", "small_cool", "single", "odd"),
        error_inputs=(
            *with_more(rejected_arrays("categorical", name="logits"), 1),
            _refused(
                "categorical",
                "seed_text",
                "Expected `seed` to be an integer, got str. Pass an int.",
                TypeError,
                seed="1",
            ),
            _refused(
                "categorical", "seed_negative", "Expected `seed` to be from 0 to 2**64 - 1, got -1.", seed=-1
            ),
            _refused(
                "categorical",
                "offset_large",
                f"Expected `offset` to be from 0 to 2**64 - 1, got {2**64}.",
                offset=2**64,
            ),
            _refused(
                "categorical",
                "frozen",
                "Expected `temperature` to be above 0 and finite, got 0.0. For the largest logit use mx.argmax.",
                temperature=0.0,
            ),
            ErrorInput(
                "seed_shape",
                lambda: (ones(2, 8), ones(3, dtype="uint32")),
                ValueError,
                "[categorical] Expected `seed` to be an integer or a key of shape (2,) and dtype uint32, got "
                "shape (3,) and uint32. Make one: mx.random.key(seed).",
            ),
            ErrorInput(
                "nothing_to_draw",
                lambda: (ones(2, 0), 1),
                ValueError,
                "[categorical] Expected rows with one logit at least to draw from, got shape (2, 0).",
            ),
        ),
        bytes_moved=lambda sample, dtype: int(sample.args[0].size) * ITEMSIZE[dtype],
    ),
)
