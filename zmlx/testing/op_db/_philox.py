"""Philox4x32-10 in NumPy: Salmon, Moraes, Dror and Shaw 2011, Parallel Random Numbers, section 3.3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmlx.testing.op_db._shared import Float64Array

_LOW = np.uint64(0xFFFFFFFF)


def philox(counter: Sequence[Any], key: Sequence[int]) -> NDArray[np.uint64]:
    """The four words (the last axis) for counters, four arrays of words that broadcast, and a key of two words."""
    c = [np.asarray(word, np.uint64) for word in counter]
    k = [int(word) for word in key]
    for _ in range(10):
        x, z = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [
            (z >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]),
            z & _LOW,
            (x >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]),
            x & _LOW,
        ]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return np.stack(np.broadcast_arrays(*c), axis=-1)


def uniform(words: NDArray[np.uint64]) -> Float64Array:
    """The middle of one of 2**23 equal parts of (0, 1) for each word."""
    return ((words >> np.uint64(9)).astype(np.float64) + 0.5) * 2.0**-23
