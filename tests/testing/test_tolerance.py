"""Error measures: what they count, and that `compare` fails when it should."""

import math

import mlx.core as mx
import numpy as np
import pytest

from zmlx.testing.tolerance import (
    DEFAULT_TOLERANCES,
    Tolerance,
    as_float64,
    coarser_dtype,
    compare,
    default_tolerance,
    dtype_name,
    error_stats,
    float_format,
    round_to,
    ulp,
    ulp_distance,
    widened_for,
)

DTYPES = ("float32", "float16", "bfloat16")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_rounded_oracle_is_within_half_an_ulp(dtype):
    truth = np.linspace(-7, 9, 1000) ** 3
    stats = error_stats(round_to(truth, dtype), truth, dtype)
    assert 0.4 < stats.max_ulp <= 0.5
    assert 0.2 < stats.rms < 0.35
    assert stats.count == 1000


@pytest.mark.parametrize(("dtype", "eps"), [("float32", 2**-23), ("float16", 2**-10), ("bfloat16", 2**-7)])
def test_distance_counts_steps_of_the_dtype(dtype, eps):
    assert ulp_distance([1 + 3 * eps, 1 - eps], [1.0, 1.0], dtype).tolist() == [3.0, 1.0]


def test_distance_of_what_is_no_number():
    nan, inf = math.nan, math.inf
    actual = [nan, inf, -inf, nan, 1.0, inf, 1.0, -0.0]
    desired = [nan, inf, -inf, 1.0, nan, -inf, inf, 0.0]
    assert ulp_distance(actual, desired, "float32").tolist() == [0, 0, 0, inf, inf, inf, inf, 0]


def test_an_oracle_past_the_end_of_the_dtype_is_infinite_there():
    # 65520 and more is infinite in float16.
    got = ulp_distance([math.inf, 65504.0, math.inf, -math.inf], [1e6, 70000.0, 65500.0, 65500.0], "float16")
    assert got.tolist() == [0.0, math.inf, math.inf, math.inf]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_infinities_equal_only_infinities_of_the_same_sign(dtype, sign):
    largest = float_format(dtype).max
    nearly = largest - float(ulp(largest, dtype)[()])
    for finite in (largest, nearly, 0.0):
        assert not compare([sign * math.inf], [sign * finite], dtype)
        assert not compare([sign * finite], [sign * math.inf], dtype)
    assert compare([sign * math.inf], [sign * math.inf], dtype)
    assert not compare([sign * math.inf], [-sign * math.inf], dtype)
    if dtype != "float64":
        assert not compare([sign * largest], [sign * 1e300], dtype)
        assert compare([sign * math.inf], [sign * 1e300], dtype)


def test_messages_tell_near_values_apart():
    assert "got 1234567890, expected 1234567891" in compare([1234567890], [1234567891], "int64").message
    assert "got 9007199254740993, expected 9007199254740992" in (
        compare(np.array([2**53 + 1]), np.array([2**53]), "int64").message
    )
    exact = Tolerance(0.0, 0.0)
    assert "got 1.0000000000000002, expected 1," in compare([1 + 2**-52], [1.0], "float64", exact).message


def test_numbers_of_numpy_stand_for_every_element():
    for number in (1, 1.0, True, np.float32(1), np.float64(1), np.int8(1), np.bool_(True)):
        assert compare(np.ones(3, np.float32), number)
    assert not compare(np.ones(3, np.float32), np.array([1.0]))


def test_complex_values_are_judged_by_their_parts():
    assert compare(np.array([1 + 2j], np.complex64), [1 + 2j])
    assert "imag part" in compare(np.array([1 + 2j], np.complex64), [1 + 3j]).message
    assert (
        "expected shape (2,), got (1,)" in compare(np.array([1j], np.complex64), np.array([1j, 2j])).message
    )


def test_the_floor_bounds_the_ulp_from_below():
    assert ulp_distance(1e-12, 0.0, "float32")[()] > 1e30
    assert ulp_distance(1e-12, 0.0, "float32", floor=1e-5)[()] < 2


def test_integers_differ_by_their_difference_exactly():
    big = 2**60
    assert ulp_distance(np.array([big + 1, 7]), np.array([big, 10]), "int64").tolist() == [1.0, 3.0]
    assert default_tolerance("int64") == Tolerance(0.0, 0.0)
    assert not compare(np.array([big + 1]), np.array([big])).ok
    assert compare(mx.array([True, False]), [True, False]).ok


def test_stats_find_the_worst_element():
    stats = error_stats([[1.0, 2.0], [3.0, 4.5]], [[1.0, 2.0], [3.0, 4.0]], "float32")
    assert stats.worst_index == (1, 1)
    assert (stats.worst_actual, stats.worst_desired, stats.max_abs) == (4.5, 4.0, 0.5)


def test_stats_of_nothing():
    stats = error_stats(np.zeros((0, 3)), np.zeros((0, 3)), "float32")
    assert (stats.max_ulp, stats.worst_index, stats.count) == (0.0, None, 0)


def test_stats_refuse_other_shapes():
    with pytest.raises(ValueError, match=r"Shapes differ: the result has \(2,\), the oracle \(1, 2\)"):
        error_stats([1.0, 2.0], [[1.0, 2.0]], "float32")


@pytest.mark.parametrize("dtype", DTYPES)
def test_compare_draws_the_line_at_the_default(dtype):
    tolerance = DEFAULT_TOLERANCES[dtype]
    limit = tolerance.atol + tolerance.rtol * 100
    assert compare([100 + 0.99 * limit], [100.0], dtype).ok
    verdict = compare([100 + 1.01 * limit], [100.0], dtype)
    assert not verdict.ok
    assert not bool(verdict)


@pytest.mark.parametrize(
    ("actual", "desired"),
    [
        ([math.nan], [1.0]),
        ([1.0], [math.nan]),
        ([math.inf], [-math.inf]),
        ([1e30], [math.inf]),
        ([math.inf], [1e30]),
        ([[1.0]], [1.0]),
        ([], [1.0]),
    ],
)
def test_compare_fails_however_wide_the_tolerance(actual, desired):
    wide = Tolerance(rtol=0.5, atol=1e6)
    assert not compare(actual, desired, "float32", wide).ok


def test_compare_message_says_what_and_where():
    desired = np.ones((2, 3))
    actual = desired.copy()
    actual[1, 2] = 1.001
    actual[0, 1] = 1.0001
    verdict = compare(actual, desired, "float32", name="swiglu")
    assert verdict.message.splitlines() == [
        "swiglu: 2 of 6 elements (33.3 %) are outside the tolerance",
        "  worst element [1, 2]: got 1.001, expected 1, 8389 ULP of float32 apart (|difference| 0.001)",
        "  tolerance: rtol 1.3e-06, atol 1e-05",
        "  all elements: max 8389 ULP, RMS 3442 ULP, max |difference| 0.001",
    ]


def test_compare_message_of_shapes():
    assert compare([1.0, 2.0], [1.0]).message == "result: expected shape (1,), got (2,)."


def test_a_number_stands_for_every_element():
    assert compare(mx.ones((2, 3)), 1.0).ok
    assert not compare(mx.ones((2, 3)), 1.1).ok


def test_max_ulp_bounds_inside_the_tolerance():
    actual = [1 + 4 * 2**-23]
    assert compare(actual, [1.0], "float32", Tolerance(1e-5, 0, max_ulp=4)).ok
    verdict = compare(actual, [1.0], "float32", Tolerance(1e-5, 0, max_ulp=3))
    assert "4 ULP of float32 apart" in verdict.message
    assert "rtol 1e-05, atol 0, at most 3 ULP" in verdict.message


def test_max_rms_bounds_the_whole():
    actual = [1 + 4 * 2**-23, 1.0]
    assert compare(actual, [1.0, 1.0], "float32", Tolerance(1e-5, 0, max_rms=3)).ok
    verdict = compare(actual, [1.0, 1.0], "float32", Tolerance(1e-5, 0, max_rms=2))
    assert not verdict.ok
    assert verdict.message.startswith("result: the RMS error is over its bound")


def test_rms_floor_takes_ulps_at_the_size_of_the_whole():
    desired = [1.0, -1.0, 1e-4]
    actual = [1.0, -1.0, 1e-4 + 2**-23]
    assert compare(actual, desired, "float32").stats.max_ulp > 1000
    by_the_whole = Tolerance(1.3e-6, 1e-5, max_ulp=3, rms_floor=1)
    verdict = compare(actual, desired, "float32", by_the_whole)
    assert verdict.ok
    assert verdict.stats.max_ulp == pytest.approx(2)
    assert compare([math.inf], [math.inf], "float32", by_the_whole).ok


@pytest.mark.parametrize("value", [mx.float32, mx.float16, mx.bfloat16, mx.int32, mx.bool_])
def test_mlx_arrays_convert(value):
    array = mx.array([0, 1, 1]).astype(value)
    assert as_float64(array).tolist() == [0.0, 1.0, 1.0]
    assert f"mlx.core.{dtype_name(array)}" == str(value)


def test_complex_values_are_refused():
    with pytest.raises(TypeError, match=r"compare their \.real and \.imag"):
        as_float64(np.array([1j]))


def test_tolerances_must_be_bounds():
    with pytest.raises(ValueError, match=r"Tolerance\.rtol must be zero or more, got -1"):
        Tolerance(-1, 0)
    with pytest.raises(ValueError, match=r"Tolerance\.max_ulp must be zero or more, got nan"):
        Tolerance(0, 0, math.nan)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("float32", None, "float32"),
        (None, "bfloat16", "bfloat16"),
        ("float32", "bfloat16", "bfloat16"),
        ("float16", "float32", "float16"),
        ("int32", "float32", "float32"),
        ("int32", "int32", "int32"),
        ("int32", None, "float64"),
        (None, None, "float64"),
    ],
)
def test_coarser_dtype(first, second, expected):
    assert coarser_dtype(first, second) == expected


def test_an_rtol_finer_than_the_dtype_is_widened():
    asked = Tolerance(1e-4, 1e-4)
    assert widened_for("float32", asked) == asked
    assert widened_for("float16", asked).rtol == 1e-3
    assert widened_for("bfloat16", asked).rtol == 1.6e-2
    assert widened_for("bfloat16", Tolerance(1e-2, 0)).rtol == 1e-2
    assert widened_for("bfloat16", Tolerance(0, 0)).rtol == 0
    assert widened_for("int32", asked) == asked


def test_tables_do_not_count_thousands_where_terms_cancel():
    desired = np.array([1.0, -1.0, 1e-7])
    stats = error_stats(desired + np.array([0.0, 0.0, 2e-7]), desired, "float32", floor=0.0)
    assert stats.max_ulp > 1e6
    assert 1 < stats.typical[0] < 4
    assert stats.typical[1] < stats.typical[0]


def test_a_huge_difference_where_little_is_allowed_is_a_failure_without_a_warning():
    with np.errstate(all="raise"):
        agreement = compare([1e300, 0.0], [0.0, 0.0], "float32", Tolerance(0.0, 0.0, reason="exact"))
    assert not agreement
    assert "worst element [0]" in agreement.message


@pytest.mark.parametrize(("rtol", "atol"), [(math.inf, 0.0), (0.0, math.inf)])
def test_a_tolerance_that_nothing_is_outside_of_is_refused(rtol, atol):
    with pytest.raises(ValueError, match="must be finite, got inf: nothing would be outside"):
        Tolerance(rtol, atol, reason="anything goes")
