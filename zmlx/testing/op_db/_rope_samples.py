"""Tokens, heads and positions on which the rotary position embeddings are tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from zmlx.testing.op_db._rope_oracles import Integers
from zmlx.testing.op_db._shared import SPECIAL, Float64Array
from zmlx.testing.opinfo import SampleInput, SampleRng


def _special(rng: SampleRng) -> Float64Array:
    """Tokens of ordinary numbers with one special one each."""
    x = rng.normal((2, SPECIAL.size, 6))
    x[0, :, 1] = SPECIAL
    x[1, :, 4] = SPECIAL
    return x


def _integers(*rows: Any) -> Integers:
    return np.array(rows, np.int32)


def rope_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    def x(name: str, *shape: int) -> Float64Array:
        return rng(name).normal(shape)

    yield SampleInput("small", (x("small", 2, 3, 5, 16),))
    yield SampleInput("interleaved", (x("interleaved", 2, 6, 5, 16),), {"interleaved": True, "offset": 3})
    yield SampleInput("single", (np.array([[0.75, -0.5]]),), {"offset": 2})
    yield SampleInput("part_of_a_row", (x("part_of_a_row", 3, 5, 7, 20),), {"dims": 10, "scale": 0.25})
    yield SampleInput(
        "odd_rows", (x("odd_rows", 2, 3, 4, 7),), {"dims": 4, "interleaved": True, "base": 500.0}
    )
    yield SampleInput("long_rows", (x("long_rows", 2, 3, 2100),), {"offset": -7})
    yield SampleInput("many_tokens", (x("many_tokens", 700, 6),), {"base": 100.0})
    # What a product in float32 gets wrong in the second digit.
    far = _integers([2**20, 0, 2**20 - 1, 12345, -(2**20)], [2**22 + 1, 5, -(2**22), 777777, 1])
    yield SampleInput("far", (x("far", 2, 4, 5, 32), far))
    # The last pair does not turn.
    freqs = np.array([1.0, 7.25, 3.5, 90.0, 400.0, np.inf])
    yield SampleInput("freqs", (x("freqs", 2, 3, 12), _integers([0, 5, 2**20], [1, 2, 3]), freqs))
    yield SampleInput("far_interleaved", (x("far_interleaved", 4, 5, 12), far[0]), {"interleaved": True})
    yield SampleInput("special", (_special(rng("special")),))
    yield SampleInput("no_tokens", (np.zeros((2, 0, 8)),))


def rope_qk_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    def sample(name: str, q_heads: int, k_heads: int, *shape: int, **kwargs: Any) -> SampleInput:
        batch, tokens, length = shape
        sizes = ((batch, heads, tokens, length) for heads in (q_heads, k_heads))
        q, k = (rng(f"{name}/{array}").normal(size) for array, size in zip("qk", sizes, strict=True))
        return SampleInput(name, (q, k), kwargs)

    yield sample("small", 6, 2, 2, 5, 16)
    yield sample("interleaved", 4, 1, 2, 3, 16, interleaved=True, offset=3)
    yield sample("single", 1, 1, 1, 1, 2, offset=2)
    yield sample("odd_heads", 7, 5, 1, 3, 20, dims=10, scale=0.25)
    yield sample("odd_rows", 9, 3, 2, 4, 7, dims=6, interleaved=True, base=500.0)
    yield sample("long_rows", 2, 1, 1, 3, 1030, offset=-7)
    far = sample("far", 2, 1, 2, 3, 32)
    yield SampleInput("far", (*far.args, _integers([2**20, 5, 2**20 - 1], [12345, 0, -(2**20)])))
    yield SampleInput(
        "special", (_special(rng("special"))[:, None], rng("special/k").normal((2, 3, SPECIAL.size, 6)))
    )
    yield sample("no_tokens", 4, 2, 2, 0, 8)
    yield sample("no_keys", 4, 0, 2, 3, 8)


#: Of 8 pairs, as samples of M-RoPE have them.
_SECTIONS = (2, 3, 3)


def mrope_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    def sample(name: str, shape: tuple[int, ...], places: tuple[int, ...], **kwargs: Any) -> SampleInput:
        positions = rng(f"{name}/positions").integers(places, 0, 200).astype(np.int32)
        return SampleInput(name, (rng(name).normal(shape), positions), {"sections": _SECTIONS, **kwargs})

    yield sample("small", (2, 4, 5, 16), (3, 5))
    yield sample("interleaved", (2, 6, 5, 16), (3, 2, 5), interleaved=True)
    yield sample("single", (1, 2), (3, 1), sections=(0, 1, 0))
    yield sample("odd_rows", (2, 7, 23), (3, 2, 7), dims=16, base=1e6, scale=0.5)
    yield sample("two_sections", (2, 5, 4, 18), (3, 4), sections=(4, 5, 0))
    yield sample("long_rows", (2, 2052), (3, 2), sections=(256, 384, 386))
    yield sample("many_tokens", (300, 16), (3, 300))
    yield SampleInput(
        "far",
        (rng("far").normal((2, 4, 16)), _integers([2**20, 1, 0, 7], [5, 2**20 - 1, 3, 0], [0, 1, 2**20, 4])),
        {"sections": _SECTIONS},
    )
    special = _special(rng("special"))
    places = rng("special/positions").integers((3, SPECIAL.size), 0, 200).astype(np.int32)
    yield SampleInput("special", (special, places), {"sections": (1, 1, 1)})
    yield sample("no_heads", (2, 0, 5, 16), (3, 5))


def qk_norm_rope_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    def weights(name: str, length: int) -> tuple[Float64Array, ...]:
        return tuple(rng(f"{name}/{w}").normal(length, scale=0.3, loc=1.0) for w in ("q_weight", "k_weight"))

    for sample in rope_qk_samples(rng):
        q, k, *positions = sample.args
        if sample.name == "special":
            moderate = np.abs(SPECIAL) != 1e30  # its square is beyond float32, as the kernel's docs say
            q, k = q[:, :, moderate], k[:, :, moderate]
        # A row of two numbers has no gradient but rounding errors without eps.
        eps = {"eps": 0.25} if sample.name == "single" else {}
        args = (q, k, *weights(sample.name, q.shape[-1]), *positions)
        yield SampleInput(sample.name, args, {**sample.kwargs, **eps})


def _cached(
    rng: Callable[[str], SampleRng],
    name: str,
    new: tuple[int, ...],
    cache: tuple[int, int],
    lengths: tuple[int, int],
    *others: Integers,
    **kwargs: Any,
) -> SampleInput:
    """``new``: sequences, heads and tokens; ``cache``: pages, and tokens of one; ``lengths``: of keys and of values."""
    pages, slots = cache
    shapes = [(*new, length) for length in lengths] + [(pages, new[1], slots, length) for length in lengths]
    arrays = (rng(f"{name}/{i}").normal(shape) for i, shape in enumerate(shapes))
    return SampleInput(name, (*arrays, *others), kwargs)


def _special_values(sample: SampleInput, rng: SampleRng) -> SampleInput:
    """The sample with special values among those of all its arrays of floats."""
    args = []
    for array in sample.args:
        planted = np.array(array)
        if planted.dtype.kind == "f":
            places = rng.integers((SPECIAL.size,), 0, planted.size)
            planted.reshape(-1)[places] = SPECIAL
        args.append(planted)
    return replace(sample, args=tuple(args))


def cache_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    """As `rope.rope_cache_update` takes them."""
    yield _cached(rng, "small", (2, 3, 4), (2, 11), (16, 12), offset=5)
    yield _cached(rng, "interleaved", (2, 5, 3), (2, 7), (16, 16), interleaved=True)
    yield _cached(rng, "single", (1, 1, 1), (1, 1), (2, 1))
    yield _cached(rng, "odd_rows", (3, 6, 2), (3, 9), (23, 31), dims=10, scale=0.5, offset=7)
    yield _cached(rng, "long_rows", (1, 2, 1), (1, 3), (1030, 700), offset=2)
    yield _cached(rng, "many_places", (1, 1, 5), (1, 500), (8, 6), offset=300)
    yield _special_values(_cached(rng, "special", (2, 5, 4), (2, 9), (6, 10), offset=3), rng("special"))
    yield _cached(rng, "no_tokens", (2, 3, 0), (2, 5), (8, 8))


def paged_samples(rng: Callable[[str], SampleRng]) -> Iterator[SampleInput]:
    """As `rope.rope_paged_cache_update` takes them."""
    table = _integers([4, 0, 2], [1, 5, 3])
    yield _cached(rng, "small", (2, 3, 5), (6, 4), (16, 12), table, offset=2)
    yield _cached(rng, "interleaved", (2, 5, 3), (6, 2), (16, 16), table, interleaved=True)
    yield _cached(rng, "single", (1, 1, 1), (1, 1), (2, 1), _integers([0]))
    yield _cached(rng, "odd_rows", (2, 6, 4), (6, 3), (23, 31), table, dims=10, scale=0.5, offset=1)
    # Pages that are not there, places beyond the table, and a page of two sequences.
    yield _cached(rng, "left_out", (2, 2, 9), (3, 4), (8, 6), _integers([1, -1], [2, 1]), offset=3)
    yield _cached(rng, "long_rows", (1, 2, 1), (2, 2), (1030, 700), _integers([1]), offset=1)
    special = _cached(rng, "special", (2, 5, 4), (6, 3), (6, 10), table, offset=2)
    yield _special_values(special, rng("special"))
    yield _cached(rng, "no_tokens", (2, 3, 0), (6, 5), (8, 8), table)
