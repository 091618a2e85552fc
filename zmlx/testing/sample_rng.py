"""Random numbers of samples, the same everywhere and for ever: golden files have hashes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from zmlx.testing._formats import Float64Array

_EVEN_PIECES = np.uint64(0x0000FFFF0000FFFF)


class SampleRng:
    """Random inputs that are the same on every platform and with every NumPy.

    Only the raw stream of the bit generator is used, which NumPy promises to keep, and exact arithmetic on
    it: ``Generator.standard_normal`` promises neither, and a different last bit would make every recorded
    golden value stale.
    """

    def __init__(self, seed: str) -> None:
        digest = hashlib.sha256(seed.encode()).digest()
        self._bits = np.random.PCG64(int.from_bytes(digest[:16], "little"))

    def _raw(self, count: int) -> NDArray[np.uint64]:
        return np.asarray(self._bits.random_raw(count), dtype=np.uint64)

    def uniform(self, shape: int | tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Float64Array:
        """Uniform on [low, high)."""
        unit = (self._raw(int(np.prod(shape))) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return np.asarray(low + (high - low) * unit).reshape(shape)

    def normal(self, shape: int | tuple[int, ...], scale: float = 1.0, loc: float = 0.0) -> Float64Array:
        """Bell-shaped with standard deviation `scale`: the sum of eight uniforms, within 4.9 * scale."""
        count = int(np.prod(shape))
        # Each word has four uniforms of 16 bits, which are added in place: integers, so that the sum is exact.
        words = self._raw(2 * count)
        pairs = (words & _EVEN_PIECES) + ((words >> np.uint64(16)) & _EVEN_PIECES)
        fours = (pairs & np.uint64(0xFFFFFFFF)) + (pairs >> np.uint64(32))
        centred = ((fours[::2] + fours[1::2]).astype(np.float64) + 4.0) * 2.0**-16 - 4.0
        return np.asarray(loc + scale * 1.5**0.5 * centred).reshape(shape)

    def integers(self, shape: int | tuple[int, ...], low: int, high: int) -> NDArray[np.int32]:
        """Integers in [low, high), as int32."""
        return np.floor(self.uniform(shape, low, high)).astype(np.int32)


def case_rng(op_name: str) -> Callable[[str], SampleRng]:
    """What an OpInfo's `samples` is called with: ``rng("small")`` is a fresh generator seeded by the names
    of op and sample, so that a new sample does not change the values of the others."""
    return lambda sample_name: SampleRng(f"{op_name}/{sample_name}")
