"""pack_bits and unpack_bits: what no generated test shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zmlx.launch import current_backend


@pytest.mark.parametrize("bitorder", ["little", "big"])
@pytest.mark.parametrize("length", [1, 7, 8, 9, 64, 1003])
def test_one_undoes_the_other(bitorder: Any, length: int, mx_device: Any) -> None:
    import mlx.core as mx

    from zmlx.kernels.bits import pack_bits, unpack_bits

    flags = mx.random.uniform(shape=(3, length), key=mx.random.key(length)) < 0.5
    back = unpack_bits(pack_bits(flags, bitorder), length, bitorder)
    assert back.dtype == mx.bool_
    assert np.array_equal(np.asarray(back), np.asarray(flags))


@pytest.mark.cpu
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_pack_bits_is_mapped(axis: int, mx_device: Any) -> None:
    import mlx.core as mx

    from zmlx.kernels.bits import pack_bits

    flags = mx.random.uniform(shape=(3, 4, 11), key=mx.random.key(axis)) < 0.5
    mapping = mx.vmap(pack_bits, in_axes=axis)
    if current_backend() != "cpu":
        with pytest.raises(ValueError, match="Not implemented for CustomKernel"):
            mapping(flags)
        return
    mapped = mapping(flags)
    entries = [pack_bits(mx.take(flags, mx.array(i), axis=axis)) for i in range(flags.shape[axis])]
    assert np.array_equal(np.asarray(mapped), np.asarray(mx.stack(entries)))


@pytest.mark.cpu
def test_words_move_at_once_as_on_cuda(mx_device: Any) -> None:
    import mlx.core as mx

    from zmlx.kernels import _rows
    from zmlx.kernels.bits import pack_bits, unpack_bits

    flags = np.random.default_rng(1).random((5, 64)) < 0.5
    with _rows.override(8, packed=True):
        packed = pack_bits(mx.array(flags))
        unpacked = unpack_bits(packed)
    assert np.array_equal(np.asarray(packed), np.packbits(flags, axis=-1, bitorder="little"))
    assert np.array_equal(np.asarray(unpacked), flags)
