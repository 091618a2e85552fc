"""Sampling, beyond what is generated: Philox's known answers, frequencies, and keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zmlx.testing.op_db._philox import philox, uniform

pytestmark = pytest.mark.usefixtures("mx_device")

#: Counter, key and words of the known-answer tests that Random123 comes with, philox4x32-10.
KNOWN_ANSWERS = (
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
)


def _words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(counter: str, key: str, answer: str) -> None:
    import mlx.core as mx

    import zmlx
    from zmlx.kernels._random import PHILOX

    source = """
      const uint4 words = zmlx_philox(uint4(c[0], c[1], c[2], c[3]), uint2(c[4], c[5]));
      for (int j = 0; j < 4; ++j) {
        y[j] = words[j];
        u[j] = zmlx_uniform(words[j]);
      }
    """
    kernel = zmlx.metal_kernel("philox", ["c"], ["y", "u"], source, PHILOX)
    given = mx.array(_words(counter) + _words(key), dtype=mx.uint32)
    words, numbers = kernel(
        inputs=[given],
        output_shapes=[(4,), (4,)],
        output_dtypes=[mx.uint32, mx.float32],
        grid=(1, 1, 1),
        threadgroup=(1, 1, 1),
    )
    twin = philox(_words(counter), _words(key))
    assert words.tolist() == _words(answer) == twin.tolist()
    assert np.array_equal(np.asarray(numbers), uniform(twin))


def test_uniform_numbers_are_neither_zero_nor_one() -> None:
    ends = uniform(np.array([0, 2**32 - 1], np.uint64))
    assert ends.tolist() == [2.0**-24, 1 - 2.0**-24]
    assert np.array_equal(ends.astype(np.float32), ends)


def test_tokens_are_as_frequent_as_they_are_probable() -> None:
    import mlx.core as mx

    from zmlx.kernels.sampling import categorical

    p, draws = np.array([0.5, 0.25, 0.125, 0.0625, 0.0625]), 20000
    logits = mx.broadcast_to(mx.log(mx.array(p.astype(np.float32))), (draws, p.size))
    counts = np.bincount(np.asarray(categorical(logits, 3)), minlength=p.size)
    # Five standard deviations.
    assert np.all(np.abs(counts - draws * p) < 5 * np.sqrt(draws * p * (1 - p)))


def test_seed_row_offset_and_place_all_matter() -> None:
    import mlx.core as mx

    from zmlx.kernels.sampling import categorical

    level = mx.zeros((64, 1000))
    first = categorical(level, 1)
    others = [categorical(level, 2), categorical(level, 1 + 2**32), categorical(level, 1, offset=1)]
    others += [categorical(level, 1, offset=2**32), categorical(level, 1)[::-1]]
    for other in others:
        assert int(mx.sum(other == first)) < 8
    assert bool(mx.all(categorical(level, 1) == first))


def test_a_key_of_mlx_is_its_two_words() -> None:
    import mlx.core as mx

    from zmlx.kernels.sampling import categorical

    logits = mx.zeros((16, 100))
    by_key = categorical(logits, mx.array([7, 3], dtype=mx.uint32))
    assert by_key.tolist() == categorical(logits, 7 + 3 * 2**32).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("width", [1, 8, 64])
def test_top_k_is_exact_whatever_the_bits(dtype: str, width: int) -> None:
    """Neighbouring numbers of the dtype, of both signs, are told apart by their last bits."""
    import mlx.core as mx

    from zmlx.kernels import _rows
    from zmlx.kernels.sampling import filter_logits

    words = np.arange(-40, 41)
    narrow = dtype != "float32"
    one = {"float32": 0x3F800000, "float16": 0x3C00, "bfloat16": 0x3F80}[dtype]
    unsigned: Any = np.uint16 if narrow else np.uint32
    high = (one + words).astype(unsigned)
    negative = high | unsigned(1 << (15 if narrow else 31))
    x = mx.array(np.concatenate([high, negative])).view(getattr(mx, dtype))
    order = np.argsort(-np.asarray(x.astype(mx.float32)), kind="stable")
    for k in (1, 2, 40, 81, 82, 100, 161):
        with _rows.override(width):
            left = filter_logits(x, top_k=k)
        stays = np.asarray((left != -mx.inf).astype(mx.int32))
        assert sorted(order[:k]) == np.flatnonzero(stays).tolist()


def test_a_gradient_of_second_order_is_a_mask_too() -> None:
    import mlx.core as mx

    from zmlx.kernels.sampling import filter_logits

    x = mx.array([3.0, 1.0, 2.0, 0.5])

    def curved(x: mx.array) -> mx.array:
        left = filter_logits(x, top_k=2)
        return mx.sum(mx.where(left == -mx.inf, 0.0, left) ** 3)

    slopes = mx.grad(lambda x: mx.sum(mx.grad(curved)(x)))(x)
    assert slopes.tolist() == [18.0, 0.0, 12.0, 0.0]
