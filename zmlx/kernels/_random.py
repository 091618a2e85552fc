"""Random numbers that depend on a seed and a place alone: the same bits on every back end, in every order.

Philox4x32-10 of Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (2011), section 5.3 and table 2: of four
words of 32 bits, the counter, and two, the key, it makes four words.
"""

from __future__ import annotations

import mlx.core as mx

from zmlx.launch.call import evaluate

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF

PHILOX = """
// Philox4x32-10.
METAL_FUNC uint4 zmlx_philox(uint4 counter, uint2 key) {
  uint a = counter.x, b = counter.y, c = counter.z, d = counter.w, k0 = key.x, k1 = key.y;
  for (int turn = 0; turn < 10; ++turn) {
    const uint high0 = mulhi(0xD2511F53u, a), low0 = 0xD2511F53u * a;
    const uint high1 = mulhi(0xCD9E8D57u, c), low1 = 0xCD9E8D57u * c;
    a = high1 ^ b ^ k0;
    b = low1;
    c = high0 ^ d ^ k1;
    d = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return uint4(a, b, c, d);
}

// In the middle of one of 2**23 equal parts of (0, 1): exact in float32, and neither 0 nor 1.
METAL_FUNC float zmlx_uniform(uint word) { return (static_cast<float>(word >> 9) + 0.5f) * 1.1920928955078125e-7f; }
"""

#: The numbers of a chunk: four columns of a row have one counter.
UNIFORMS = """
// The 24 highest bits, as a number from 0 to 1.
METAL_FUNC float zmlx_unit(uint word) { return float(word >> 8) * 0x1p-24f; }

template <int N>
METAL_FUNC void zmlx_uniforms(thread float* to, uint2 seed, uint row, uint column) {
  for (int j = 0; j < N; j += 4) {
    const uint4 words = zmlx_philox(uint4((column + j) / 4, row, 0, 0), seed);
    to[j] = zmlx_unit(words.x);
    to[j + 1] = zmlx_unit(words.y);
    to[j + 2] = zmlx_unit(words.z);
    to[j + 3] = zmlx_unit(words.w);
  }
}
"""


def philox(counter: tuple[mx.array, ...], key: mx.array) -> tuple[mx.array, ...]:
    """Philox4x32-10 in MLX operations: four arrays of uint32 from four, and a key of two words.

    The words that are multiplied lie in one array and the others in another, and the keys of all rounds are there
    before the first: then mx.compile finds the same few operations in each round, and compiles them once.
    """
    multiplied, others = (mx.stack(list(counter[first::2])).astype(mx.uint64) for first in (0, 1))
    each = (2, *[1] * (multiplied.ndim - 1))
    multipliers = mx.array(_MULTIPLIERS, mx.uint64).reshape(each)
    word, half = mx.array(_WORD, mx.uint64), mx.array(32, mx.uint64)
    turns = mx.arange(_ROUNDS, dtype=mx.uint64)[:, None]
    keys = (key.astype(mx.uint64) + turns * mx.array(_WEYL, mx.uint64)) & word
    for turn in range(_ROUNDS):
        products = multiplied * multipliers
        multiplied = (products >> half)[::-1] ^ others ^ keys[turn].reshape(each)
        others = (products & word)[::-1]
    words = (multiplied[0], others[0], multiplied[1], others[1])
    return tuple(value.astype(mx.uint32) for value in words)


def uniforms(seed: mx.array, row: mx.array, column: mx.array) -> mx.array:
    """The numbers that ``zmlx_uniforms`` has, for rows and columns that broadcast."""
    columns = column.astype(mx.uint32)
    rows, places = mx.broadcast_arrays(row.astype(mx.uint32), columns)
    zero = mx.zeros_like(rows)
    words = mx.stack(list(philox((places // 4, rows, zero, zero), seed)), axis=-1)
    chosen = mx.take_along_axis(words, (places % 4)[..., None], axis=-1)[..., 0]
    numbers = (chosen >> 8).astype(mx.float32) * 2.0**-24
    # While mx.compile traces, the seed has its value: the numbers are a constant, of which nothing is to be compiled.
    # Where the seed is traced too, they stay operations.
    evaluate([numbers])
    return numbers
