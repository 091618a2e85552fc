"""Which angles a rotary position embedding has: its frequencies and positions, from what callers give, checked."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import mlx.core as mx

from zmlx.kernels import _check, _check_numbers
from zmlx.kernels._rope_msl import FREQUENCIES
from zmlx.launch import metal_kernel

BASE = 10000.0
#: Positions are signed 32-bit numbers.
LIMIT = 2**31

Sections = tuple[int, int, int]


@dataclass(frozen=True)
class Angles:
    """Positions, of shape (sections, sequences, tokens), and frequencies, of shape (2, pairs).

    Attributes
    ----------
    positions
        int32. An axis of 1 stands for all sections or sequences; one position for the first of tokens that follow it.
    words
        uint32: the frequency of each pair in turns, times 2**64, as its low and its high words.
    """

    positions: mx.array
    words: mx.array


@dataclass(frozen=True)
class Places:
    """The arguments that tell where tokens are, as callers give them."""

    offset: int | mx.array = 0
    positions: mx.array | None = None


def check_dims(function: str, x: mx.array, dims: int | None, name: str = "x") -> int:
    """The number of leading elements to rotate: even, from 2 to the last extent, which is the default."""
    length = x.shape[-1]
    chosen = length if dims is None else dims
    _check_numbers.check_integer(function, chosen, "dims")
    if chosen % 2 or not 0 <= chosen <= length or (dims is not None and chosen == 0):
        what = (
            "the last dimension of"
            if dims is None
            else "`dims` to be an even number from 2 to the last extent of"
        )
        raise ValueError(
            f"[{function}] Expected {what} `{name}` (shape {tuple(x.shape)})"
            f"{' to be even, since pairs are rotated' if dims is None else ''}, got {chosen}. "
            "Give `dims`, how many leading elements of a row are rotated: an even number."
        )
    return chosen


def frequencies(
    function: str, dims: int, base: float | None, scale: float, freqs: mx.array | None
) -> mx.array:
    """The frequencies of ``dims // 2`` pairs, as `Angles` has them."""
    scale = _check_numbers.check_finite(function, scale, "scale")
    if freqs is None:
        base = _check_numbers.check_finite(function, BASE if base is None else base, "base")
        if base <= 0:
            raise ValueError(f"[{function}] Expected `base` to be positive, got {base!r}.")
        return _of_base(dims, base, scale)
    if base is not None:
        raise ValueError(
            f"[{function}] Expected one of `base` and `freqs`, got both. "
            "Leave `base` out: `freqs` tells all frequencies."
        )
    given: object = freqs
    if not isinstance(given, mx.array) or given.dtype not in _check.DTYPES:
        kind = _check.dtype_name(given) if isinstance(given, mx.array) else type(given).__name__
        raise TypeError(
            f"[{function}] Expected `freqs` to be an mlx.core.array of float32, float16 or bfloat16, got {kind}. "
            "Convert it first: mx.array(freqs, mx.float32)."
        )
    if tuple(freqs.shape) != (dims // 2,):
        raise ValueError(
            f"[{function}] Expected `freqs` to have shape ({dims // 2},), one number for each pair that is rotated, "
            f"got {tuple(freqs.shape)}."
        )
    turn = scale / (2 * math.pi)
    high = _float32(turn)
    return _from_freqs(mx.stop_gradient(freqs).astype(mx.float32), high, turn - high)


@lru_cache(maxsize=64)
def _of_base(dims: int, base: float, scale: float) -> mx.array:
    turns = [scale * base ** (-2 * pair / dims) / (2 * math.pi) for pair in range(dims // 2)]
    fixed = [int((turn % 1.0) * 2**64) % 2**64 for turn in turns]
    return mx.array([[f % 2**32 for f in fixed], [f >> 32 for f in fixed]], dtype=mx.uint32)


def _float32(value: float) -> float:
    """The nearest number of float32."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _reference_frequencies(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
    freqs, high, low = (mx.array(a).astype(mx.float64, stream=mx.cpu) for a in inputs)
    turns = mx.divide(mx.add(high, low, stream=mx.cpu), freqs, stream=mx.cpu)
    parts = []
    for _ in range(2):
        turns = mx.subtract(turns, mx.floor(turns, stream=mx.cpu), stream=mx.cpu)
        turns = mx.multiply(turns, mx.array(2.0**32), stream=mx.cpu)
        parts.append(mx.floor(turns, stream=mx.cpu).astype(mx.uint32, stream=mx.cpu))
    return [mx.stack(parts[::-1], stream=mx.cpu)]


_FREQUENCIES_KERNEL = metal_kernel(
    "zmlx_rope_frequencies",
    ["freqs", "turn_high", "turn_low"],
    ["words"],
    FREQUENCIES,
    reference=_reference_frequencies,
)


def _from_freqs(freqs: mx.array, high: float, low: float) -> mx.array:
    if freqs.size == 0:
        return mx.zeros((2, 0), mx.uint32)
    return _FREQUENCIES_KERNEL(
        inputs=[freqs, high, low],
        output_shapes=[(2, freqs.size)],
        output_dtypes=[mx.uint32],
        grid=(freqs.size, 1, 1),
        threadgroup=(min(freqs.size, 128), 1, 1),
    )[0]


def placed(function: str, places: Places, sequences: int, tokens: int) -> mx.array:
    """Positions as `Angles` has them, of so many sequences and tokens."""
    offset, positions = places.offset, places.positions
    if positions is not None:
        if isinstance(offset, mx.array) or offset != 0:
            raise ValueError(
                f"[{function}] Expected one of `offset` and `positions`, got both. Add the offset to the positions."
            )
        return _sequence_positions(function, positions, sequences, tokens)
    if isinstance(offset, mx.array):
        _check.check_integers(function, offset, "offset")
        if tuple(offset.shape) not in {(), (1,), (sequences,)}:
            raise ValueError(
                f"[{function}] Expected `offset` to have shape () or ({sequences},), one for each sequence, "
                f"got {tuple(offset.shape)}."
            )
        return offset.astype(mx.int32).reshape(1, -1, 1)
    if isinstance(offset, bool) or not isinstance(offset, int):
        raise TypeError(
            f"[{function}] Expected `offset` to be an integer or an mlx.core.array of integers, "
            f"got {type(offset).__name__}."
        )
    if not -LIMIT <= offset <= LIMIT - tokens:
        raise ValueError(
            f"[{function}] Expected positions to be between -2**31 and 2**31, got {tokens} from {offset} on."
        )
    return mx.array([offset], mx.int32).reshape(1, 1, 1)


def _sequence_positions(function: str, positions: mx.array, sequences: int, tokens: int) -> mx.array:
    _check.check_integers(function, positions, "positions")
    shapes = {(tokens,), (1, tokens), (sequences, tokens)}
    if tuple(positions.shape) not in shapes:
        raise ValueError(
            f"[{function}] Expected `positions` to have shape ({tokens},) or ({sequences}, {tokens}), "
            f"one for each token, got {tuple(positions.shape)}. For the first position of each sequence give `offset`."
        )
    return positions.astype(mx.int32).reshape(1, -1, tokens)


def section_positions(function: str, positions: mx.array, sequences: int, tokens: int) -> mx.array:
    """Positions as `Angles` has them, from three for each token."""
    _check.check_integers(function, positions, "positions")
    if tuple(positions.shape) not in {(3, tokens), (3, 1, tokens), (3, sequences, tokens)}:
        raise ValueError(
            f"[{function}] Expected `positions` to have shape (3, {tokens}) or (3, {sequences}, {tokens}): temporal, "
            f"height and width of each token, got {tuple(positions.shape)}."
        )
    return positions.astype(mx.int32).reshape(3, -1, tokens)


def check_sections(function: str, sections: Sequence[int], pairs: int) -> tuple[int, int]:
    """Where the second and the third of three sections of ``pairs`` pairs begin."""
    sizes = tuple(sections)
    given: tuple[object, ...] = sizes
    whole = len(given) == 3 and all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in given)
    if not whole or sum(sizes) != pairs:
        raise ValueError(
            f"[{function}] Expected `sections` to be three numbers of pairs, {pairs} together "
            f"(half of what is rotated), got {sections!r}."
        )
    return sizes[0], sizes[0] + sizes[1]
