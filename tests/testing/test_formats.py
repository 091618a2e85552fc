"""Rounding, ULPs and shortest decimals, against NumPy and MLX where those know the format."""

import json
import math
import struct

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmlx.testing._formats import (
    FLOAT_FORMATS,
    float_format,
    is_float,
    round_one,
    round_to,
    shortest,
    ulp,
    ulp_at,
)

finite_floats = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@given(values=st.lists(st.floats(allow_nan=False), min_size=1, max_size=4))
def test_round_to_is_what_exact_arithmetic_gives(dtype, values):
    """Of several numbers at once too: whether there is a subnormal one among them decides how others are rounded."""
    expected = np.array([round_one(value, dtype) for value in values])
    np.testing.assert_array_equal(round_to(values, dtype).view(np.uint64), expected.view(np.uint64))


@given(value=st.floats(width=32, allow_nan=False))
def test_round_to_bfloat16_is_mlxs_conversion(value):
    with mx.stream(mx.cpu):
        expected = mx.array(np.float32(value)).astype(mx.bfloat16).astype(mx.float32).item()
    assert float(round_to(value, "bfloat16")) == expected


def test_round_to_rounds_once():
    # 1 + 2**-8 lies midway between two bfloat16 and goes to the even one; with the tiny rest it lies above.
    # By way of float32 the rest would be lost first, and the result would be 1.
    assert float(round_to(1 + 2**-8, "bfloat16")) == 1.0
    assert float(round_to(1 + 2**-8 + 2**-40, "bfloat16")) == 1 + 2**-7


def test_round_to_keeps_what_is_no_number():
    got = round_to([np.nan, np.inf, -np.inf, -0.0], "bfloat16")
    assert np.isnan(got[0])
    assert list(got[1:3]) == [np.inf, -np.inf]
    assert math.copysign(1, got[3]) == -1


@pytest.mark.parametrize(
    ("dtype", "largest"),
    [("float16", 65504.0), ("float32", 3.4028234663852886e38), ("bfloat16", 2.0**128 - 2.0**120)],
)
def test_round_to_overflows_half_a_step_past_the_largest(dtype, largest):
    half = float(ulp(largest, dtype)) / 2
    assert float_format(dtype).max == largest
    assert float(round_to(largest + half * 0.999, dtype)) == largest
    assert float(round_to(-(largest + half), dtype)) == -math.inf


@pytest.mark.parametrize(
    ("value", "dtype", "size"),
    [
        (1.0, "float32", 2.0**-23),
        (-1.5, "float16", 2.0**-10),
        (0.0, "float16", 2.0**-24),
        (1e-30, "float16", 2.0**-24),
        (1e30, "float16", 2.0**5),
        (3.0, "bfloat16", 2.0**-6),
        (math.inf, "bfloat16", 2.0**-133),
    ],
)
def test_ulp(value, dtype, size):
    assert float(ulp(value, dtype)) == size


@pytest.mark.parametrize("dtype", FLOAT_FORMATS)
@given(value=st.floats())
def test_ulp_of_an_array_is_that_of_its_numbers(dtype, value):
    assert ulp([value, -value], dtype).tolist() == [ulp_at(value, dtype)] * 2


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_the_least_number_that_rounds_to_infinity(dtype):
    least = float_format(dtype).rounds_to_infinity
    assert float(round_to(least, dtype)) == math.inf
    assert float(round_to(math.nextafter(least, 0), dtype)) == float_format(dtype).max
    assert float_format("float64").rounds_to_infinity == math.inf


@pytest.mark.parametrize("dtype", FLOAT_FORMATS)
@given(value=finite_floats)
def test_shortest_reads_back_as_the_same_number(dtype, value):
    exact = float(round_to(value, dtype))
    if not math.isfinite(exact):
        return
    text = json.dumps(shortest(exact, dtype))
    again = float(round_to(json.loads(text), dtype))
    assert struct.pack("d", again) == struct.pack("d", exact)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@given(value=finite_floats)
def test_no_shorter_decimal_reads_back(dtype, value):
    exact = float(round_to(value, dtype))
    if not math.isfinite(exact) or exact == 0:
        return
    mantissa = repr(shortest(exact, dtype)).split("e")[0]
    found = len(mantissa.replace(".", "").replace("-", "").strip("0"))
    if found > 1:
        shorter = float(f"{exact:.{found - 2}e}")
        assert float(round_to(shorter, dtype)) != exact


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        (float(np.float32(0.1)), "float32", "0.1"),
        (float(np.float16(0.1)), "float16", "0.1"),
        (0.10009765625, "bfloat16", "0.1"),
        (-0.0, "bfloat16", "-0.0"),
        (2.0**-133, "bfloat16", "9e-41"),
        (65504.0, "float16", "65500.0"),
    ],
)
def test_shortest_text(value, dtype, text):
    assert json.dumps(shortest(value, dtype)) == text


def test_shortest_refuses_a_number_of_another_format():
    with pytest.raises(ValueError, match=r"0\.1 is not a float16 number; round it with round_to first\."):
        shortest(0.1, "float16")


def test_unknown_dtypes_are_named_with_the_known():
    with pytest.raises(ValueError, match=r"No error measure for dtype 'complex64'\. Known: float64, float32"):
        is_float("complex64")
    with pytest.raises(ValueError, match=r"'int32' is not a floating-point dtype\. Known: float64"):
        float_format("int32")
