"""Bits: eight booleans of a row to a byte, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import mlx.core as mx

from zmlx.kernels import _check, _check_numbers, _rows
from zmlx.kernels._autodiff import mapped_rows
from zmlx.launch import metal_kernel

__all__ = ["pack_bits", "unpack_bits"]

BitOrder = Literal["little", "big"]
_ORDERS = ("little", "big")
_BITS = 8

# Eight booleans are the bytes of a word. The product moves byte j to bit j of the uppermost byte, or to bit 7 - j;
# no two partial products meet, so nothing is carried.
_HEADER = """
template <bool PACKED>
struct zmlx_bits {
  template <typename P>
  static METAL_FUNC bool aligned(P, uint) {
    return true;
  }
  // `count` booleans as the bytes of a word, and zeros for the others.
  template <typename P>
  static METAL_FUNC ulong load(P from, uint count, bool) {
    ulong word = 0;
    if (count >= 8)
      for (uint j = 0; j < 8; ++j) word |= ulong(from[j] ? 1 : 0) << (8 * j);
    else
      for (uint j = 0; j < count; ++j) word |= ulong(from[j] ? 1 : 0) << (8 * j);
    return word;
  }
  static METAL_FUNC void store(device bool* to, ulong word, uint count, bool) {
    if (count >= 8)
      for (uint j = 0; j < 8; ++j) to[j] = ((word >> (8 * j)) & 1) != 0;
    else
      for (uint j = 0; j < count; ++j) to[j] = ((word >> (8 * j)) & 1) != 0;
  }
};

// For CUDA: a word moves in one access. Not for Metal, whose pointers have address spaces.
template <>
struct zmlx_bits<true> {
  template <typename P>
  static METAL_FUNC bool aligned(P at, uint length) {
    return length % 8 == 0 && reinterpret_cast<size_t>(at) % 8 == 0;
  }
  template <typename P>
  static METAL_FUNC ulong load(P from, uint count, bool whole) {
    return whole ? *reinterpret_cast<const device ulong*>(from) : zmlx_bits<false>::load(from, count, false);
  }
  static METAL_FUNC void store(device bool* to, ulong word, uint count, bool whole) {
    if (whole)
      *reinterpret_cast<device ulong*>(to) = word;
    else
      zmlx_bits<false>::store(to, word, count, false);
  }
};
"""

_PACK = """
  using words = zmlx_bits<PACKED>;
  const uint rows = x_shape[0], length = x_shape[1], bytes = (length + 7) / 8;
  const ulong turn = big ? 0x8040201008040201ul : 0x0102040810204080ul;
  const bool whole = words::aligned(x, length);
  const uint begin = thread_position_in_grid.x * (N / 8 * S), end = min(begin + N / 8 * S, bytes);
  for (uint row = thread_position_in_grid.y; row < rows; row += threads_per_grid.y) {
    auto from = x + size_t(row) * length;
    auto to = y + size_t(row) * bytes;
    for (uint i = begin; i < end; ++i)
      to[i] = uchar((words::load(from + i * 8, length - i * 8, whole) * turn) >> 56);
  }
"""

# The product repeats the byte eight times, and each copy keeps its bit, which the addition carries to its uppermost.
_UNPACK = """
  using words = zmlx_bits<PACKED>;
  const uint rows = x_shape[0], bytes = x_shape[1], length = size;
  const ulong chosen = big ? 0x0102040810204080ul : 0x8040201008040201ul;
  const bool whole = words::aligned(y, length);
  const uint given = min(bytes, (length + 7) / 8);
  const uint begin = thread_position_in_grid.x * (N / 8 * S), end = min(begin + N / 8 * S, (length + 7) / 8);
  for (uint row = thread_position_in_grid.y; row < rows; row += threads_per_grid.y) {
    auto from = x + size_t(row) * bytes;
    auto to = y + size_t(row) * length;
    for (uint i = begin; i < end; ++i) {
      const ulong byte = i < given ? from[i] : 0;
      const ulong bits = (byte * 0x0101010101010101ul) & chosen;
      const ulong set = ((((bits & 0x7f7f7f7f7f7f7f7ful) + 0x7f7f7f7f7f7f7f7ful) | bits) >> 7) & 0x0101010101010101ul;
      words::store(to + i * 8, set, length - i * 8, whole);
    }
  }
"""


def pack_bits(x: mx.array, bitorder: BitOrder = "little") -> mx.array:
    """Eight booleans of the last axis to a byte: ``y[i] = sum over j of x[8 i + j] << j``.

    Parameters
    ----------
    x
        Shape (..., D), bool, in any memory layout.
    bitorder
        ``"little"``: the first of eight is the lowest bit. ``"big"``: it is the uppermost, as `numpy.packbits` has it
        unless told otherwise.

    Returns
    -------
    mx.array
        Shape (..., ceil(D / 8)), uint8; bits beyond D are zero.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of bool.
    ValueError
        ``x`` is 0-d, or ``bitorder`` is unknown.

    Notes
    -----
    numpy.packbits with ``axis=-1``.
    """
    _check_bytes("pack_bits", x, mx.bool_, "x != 0")
    _check_numbers.check_choice("pack_bits", bitorder, "bitorder", _ORDERS)
    shape = (*x.shape[:-1], -(-x.shape[-1] // _BITS))
    if x.size == 0:
        return mx.zeros(shape, mx.uint8)
    return _packer(bitorder)(x)


def unpack_bits(x: mx.array, count: int | None = None, bitorder: BitOrder = "little") -> mx.array:
    """The bits of the last axis: ``y[8 i + j] = (x[i] >> j) & 1``.

    Parameters
    ----------
    x
        Shape (..., B), uint8, in any memory layout.
    count
        How many bits of a row to give, zeros beyond its own; all 8 B of them unless given.
    bitorder
        As `pack_bits` takes it.

    Returns
    -------
    mx.array
        Shape (..., count), bool.

    Raises
    ------
    TypeError
        ``x`` is not an MLX array of uint8, or ``count`` is no integer.
    ValueError
        ``x`` is 0-d, ``count`` is negative, or ``bitorder`` is unknown.

    Notes
    -----
    numpy.unpackbits with ``axis=-1``, which gives the bits as uint8.
    """
    _check_bytes("unpack_bits", x, mx.uint8, "x.astype(mx.uint8)")
    _check_numbers.check_choice("unpack_bits", bitorder, "bitorder", _ORDERS)
    if count is None:
        count = _BITS * x.shape[-1]
    count = _check_numbers.check_integer("unpack_bits", count, "count", 0, 2**31 - 1)
    if x.size == 0 or count == 0:
        return mx.zeros((*x.shape[:-1], count), mx.bool_)
    return _unpacker(bitorder, count)(x)


def _check_bytes(function: str, x: mx.array, dtype: mx.Dtype, conversion: str) -> None:
    if _check.check_mlx(function, x, "x").dtype != dtype:
        raise TypeError(
            f"[{function}] Expected `x` to be {str(dtype).rpartition('.')[2]}, got {_check.dtype_name(x)}. "
            f"Convert it first: {conversion}."
        )
    _check.check_axis(function, x, "x")


def _weights(bitorder: BitOrder) -> mx.array:
    """The value of each bit of a byte."""
    values = [1 << bit for bit in range(_BITS)]
    return mx.array(values if bitorder == "little" else values[::-1], mx.uint8)


@lru_cache(maxsize=len(_ORDERS))
def _packer(bitorder: BitOrder) -> Callable[[mx.array], mx.array]:
    def reference(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        x = inputs[0]
        missing = mx.zeros((x.shape[0], -x.shape[1] % _BITS), mx.bool_)
        bits = mx.concatenate([x, missing], axis=-1).reshape(x.shape[0], -1, _BITS)
        return [mx.sum(bits * _weights(bitorder), axis=-1).astype(mx.uint8)]

    kernel = metal_kernel("zmlx_pack_bits", ["x", "big"], ["y"], _PACK, _HEADER, reference=reference)

    def pack(x: mx.array) -> mx.array:
        rows = _rows.as_rows(x)
        count, length = rows.shape
        shape = (count, -(-length // _BITS))
        launch = _rows.span_launch(count, length, 1)
        y = launch.run(kernel, [rows, int(bitorder == "big")], [(shape, mx.uint8)])[0]
        return y.reshape(*x.shape[:-1], shape[1])

    return mapped_rows(pack)


# A function for each count, because the reference has to know the shape; the kernel is one.
@lru_cache(maxsize=64)
def _unpacker(bitorder: BitOrder, count: int) -> Callable[[mx.array], mx.array]:
    def reference(inputs: list[mx.array], template: Mapping[str, Any]) -> Sequence[mx.array]:
        x = inputs[0]
        bits = ((x[..., None] & _weights(bitorder)) != 0).reshape(x.shape[0], -1)[:, :count]
        missing = mx.zeros((x.shape[0], count - bits.shape[1]), mx.bool_)
        return [mx.concatenate([bits, missing], axis=-1)]

    kernel = metal_kernel(
        "zmlx_unpack_bits", ["x", "size", "big"], ["y"], _UNPACK, _HEADER, reference=reference
    )

    def unpack(x: mx.array) -> mx.array:
        rows = _rows.as_rows(x)
        launch = _rows.span_launch(rows.shape[0], count, 1)
        inputs: list[mx.array | float] = [rows, count, int(bitorder == "big")]
        y = launch.run(kernel, inputs, [((rows.shape[0], count), mx.bool_)])[0]
        return y.reshape(*x.shape[:-1], count)

    return mapped_rows(unpack)
