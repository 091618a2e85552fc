"""The runtime's types: half and bfloat, vectors and swizzles, integers, complex numbers, MLX's prelude."""

from __future__ import annotations

from operator import eq, ge, gt, le, lt, ne

import numpy as np
import pytest
from cxx import EXPORT, Library, Loop, refusal, vectorised

pytestmark = pytest.mark.cpu

ARITHMETIC = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
COMPARISON = {
    "equal": "==",
    "not_equal": "!=",
    "less": "<",
    "greater": ">",
    "less_equal": "<=",
    "greater_equal": ">=",
}
INTEGERS = ("char", "uchar", "short", "ushort", "int", "uint", "long", "ulong")

INTEGER_UNARY = ("clz", "ctz", "popcount", "reverse_bits")
INTEGER_BINARY = ("addsat", "subsat", "hadd", "rhadd", "mulhi", "absdiff", "rotate", "max", "min")
INTEGER_TERNARY = ("madhi", "madsat", "median3", "max3", "min3", "clamp")


def unsigned(kind: str) -> str:
    return kind if kind.startswith("u") else f"u{kind}"


def integer_loops(kind: str) -> list[Loop]:
    x, y, z = (f"{kind} {name}" for name in "xyz")
    return [
        *(Loop(f"{kind}_{name}", kind, (x,), f"{name}(x)") for name in (*INTEGER_UNARY, "abs")),
        *(
            Loop(f"{kind}_{name}", unsigned(kind) if name == "absdiff" else kind, (x, y), f"{name}(x, y)")
            for name in INTEGER_BINARY
        ),
        *(Loop(f"{kind}_{name}", kind, (x, y, z), f"{name}(x, y, z)") for name in INTEGER_TERNARY),
        Loop(f"{kind}_extract_bits", kind, (x, "uint o", "uint n"), "extract_bits(x, o, n)"),
        Loop(f"{kind}_insert_bits", kind, (x, y, "uint o", "uint n"), "insert_bits(x, y, o, n)"),
    ]


def small_float_loops(kind: str) -> list[Loop]:
    x, y = f"{kind} x", f"{kind} y"
    return [
        Loop(f"float_to_{kind}", kind, ("float x",), f"{kind}(x)"),
        Loop(f"{kind}_to_float", "float", (x,), "static_cast<float>(x)"),
        *(Loop(f"{kind}_{name}", kind, (x, y), f"x {op} y") for name, op in ARITHMETIC.items()),
        *(Loop(f"{kind}_{name}", "bool", (x, y), f"x {op} y") for name, op in COMPARISON.items()),
        Loop(f"{kind}_plus_float", "float", (x, "float y"), "x + y"),
        Loop(f"{kind}_times_int", kind, (x, "int y"), "x * y"),
        Loop(f"{kind}_negate", kind, (x,), "-x"),
        Loop(f"{kind}_two_steps", kind, (x, y), "x * y + x"),
        Loop(
            f"{kind}_accumulate",
            kind,
            (x, "float y"),
            f"[&] {{ {kind} a = x; a += y; a *= 2; a++; return a; }}()",
        ),
        Loop(f"{kind}_to_int", "int", (x,), "static_cast<int>(x)"),
    ]


LOOPS = [
    *small_float_loops("half"),
    *small_float_loops("bfloat"),
    *(loop for kind in INTEGERS for loop in integer_loops(kind)),
    Loop("mul24", "int", ("int x", "int y"), "mul24(x, y)"),
    Loop("umul24", "uint", ("uint x", "uint y"), "mul24(x, y)"),
    Loop("mad24", "int", ("int x", "int y", "int z"), "mad24(x, y, z)"),
    *(
        Loop(f"complex_{name}", "complex64_t", ("complex64_t x", "complex64_t y"), f"x {op} y")
        for name, op in {**ARITHMETIC, "remainder": "%"}.items()
    ),
    *(
        Loop(f"complex_{name}", "bool", ("complex64_t x", "complex64_t y"), f"x {op} y")
        for name, op in COMPARISON.items()
    ),
    Loop("complex_times_real", "complex64_t", ("complex64_t x", "float y"), "2 * (x * y) + 1.0f"),
    Loop("complex_log1p", "complex64_t", ("complex64_t x",), "log1p(x)"),
    Loop("bits_of_float", "uint", ("float x",), "as_type<uint>(x)"),
    Loop("half2_of_bits", "half", ("uint x",), "as_type<half2>(x).y"),
    Loop("float_is_true", "bool", ("float x",), "cast_to<bool>(x)"),
    Loop("complex_is_true", "bool", ("complex64_t x",), "cast_to<bool>(x)"),
    Loop("ternary_of_half_and_float", "float", ("half x", "float y"), "TERNARY(x > 0, x, y)"),
    Loop("ternary_of_half_and_int", "half", ("half x",), "TERNARY(x > 0, x, 0)"),
    Loop("ternary_of_bfloat_and_infinity", "float", ("bfloat x",), "TERNARY(x > 0, x, -INFINITY)"),
    Loop("nested_ternary", "half", ("half x", "int y"), "TERNARY(x > 1, x, TERNARY(x > 0, half(y), 0))"),
]

# Vectors are made of the floats (ints) of the input array, and what is computed of them is written to the output.
VECTORS = f"""
#define ARM(a, b) static_cast<detail::arm_t<decltype((a)), decltype((b))>>(a)
#define TERNARY(c, a, b) ((c) ? ARM(a, b) : ARM(b, a))

{EXPORT} void float_vectors(float* out, const float* in) {{
  const float4 a(in[0], in[1], in[2], in[3]);
  const float4 b = {{in[4], in[5], in[6], in[7]}};
  int n = 0;
  auto put = [&](auto v) {{ for (int i = 0; i < 4; ++i) out[n++] = v[i]; }};
  put(a + b); put(a - b); put(a * b); put(a / b); put(2 * a); put(a / 2); put(-a); put(1.0f - a);
  put(float4(b < a)); put(float4(a == b)); put(float4((a > 1.0f) && (b > 1.0f))); put(float4(!(a > b)));
  float4 c = a; c += b; c *= 2; c -= 1.0f; c /= b; put(c);
  put(select(a, b, a > b)); put(max(a, b)); put(clamp(a, 1.0f, 2.0f)); put(fma(a, b, a)); put(exp(a) * 0 + a);
  put(float4(int4(a))); put(float4(half4(a))); put(abs(-a));
}}

{EXPORT} void swizzles(float* out, const float* in) {{
  float4 v(in[0], in[1], in[2], in[3]);
  int n = 0;
  auto put = [&](float4 x) {{ for (int i = 0; i < 4; ++i) out[n++] = x[i]; }};
  put(v.swizzle(swz<3, 2, 1, 0>()));
  put(float4(v.swizzle(swz<1, 0>()), v.swizzle(swz<0, 0>())));
  float4 w = v; w.swizzle_ref(swz<0, 1>()) = w.swizzle(swz<1, 0>()); put(w);
  w = v; w.swizzle_ref(swz<3, 0>()) += float2(10, 20); put(w);
  w = v; w.swizzle_ref(swz<0, 1, 2>()) *= 3; put(w);
  w = v; w.swizzle_ref(swz<1, 3>()) = 7; put(w);
  w = v; w.swizzle_ref(swz<0, 2>()) = w.swizzle_ref(swz<2, 0>()); put(w);
  packed_float3 p = v.swizzle(swz<0, 1, 2>()); p.swizzle_ref(swz<2, 0>()) -= 1; put(float4(p, 0));
}}

{EXPORT} void constructors(float* out, const float* in) {{
  int n = 0;
  auto put = [&](float4 x) {{ for (int i = 0; i < 4; ++i) out[n++] = x[i]; }};
  const float2 two(in[0], in[1]);
  const float3 three(in[0], in[1], in[2]);
  put(in[0]); put(float4(two, two)); put(float4(two, 8, 9)); put(float4(8, two, 9)); put(float4(8, 9, two));
  put(float4(three, 9)); put(float4(9, three)); put(float4(float3(8, two), 9)); put(float4{{}});
  packed_float3 packed[2] = {{three, float3(4, 5, 6)}};
  float3 sum = packed[0] + packed[1]; put(float4(sum, 0)); put(float4(packed[1] * 2, packed[1].z));
  float4 r = 0; r.r = 1; r.g = 2; r.b = r.x + r.y; r.a = r.z + 1; put(r);
  float4 runtime = 0; for (int i = 0; i < 4; ++i) runtime[i] = in[i] * i; put(runtime);
}}

{EXPORT} void int_vectors(int* out, const int* in) {{
  const int4 a(in[0], in[1], in[2], in[3]), b(in[4], in[5], in[6], in[7]);
  int n = 0;
  auto put = [&](int4 x) {{ for (int i = 0; i < 4; ++i) out[n++] = x[i]; }};
  put(a % 7); put(a & b); put(a | b); put(a ^ b); put(~a); put(a << 33); put(a >> 34); put(a << b);
  int4 c = a; c <<= 1; c |= 1; c ^= b; c %= 1000; ++c; c--; put(c);
  put(int4(char4(a) + char4(b))); put(int4(uchar4(a) * uchar4(2))); put(int4(absdiff(a, b)));
  put(popcount(a)); put(rotate(a, b)); put(extract_bits(a, 2, 5)); put(insert_bits(a, b, 4, 8)); put(addsat(a, b));
}}

{EXPORT} void geometry(float* out, const float* in) {{
  const float3 a(in[0], in[1], in[2]), b(in[3], in[4], in[5]);
  int n = 0;
  auto put = [&](float3 v) {{ for (int i = 0; i < 3; ++i) out[n++] = v[i]; }};
  put(float3(dot(a, b), length(a), distance(a, b))); put(cross(a, b)); put(normalize(a));
  put(reflect(a, normalize(b))); put(refract(normalize(a), normalize(b), 0.5f));
  put(float3(length_squared(a), distance_squared(a, b), fast::length(a))); put(faceforward(a, b, a));
  put(refract(normalize(a), normalize(b), 50.0f)); put(float3(dot(float2(a.x, a.y), float2(b.x, b.y))));
}}

{EXPORT} void truth(int* out) {{
  for (int i = 0; i < 16; ++i) {{
    const bool4 v(i & 1, i & 2, i & 4, i & 8);
    out[6 * i] = all(v);
    out[6 * i + 1] = any(v);
    out[6 * i + 2] = all(v.swizzle(swz<0, 1, 2>()));
    out[6 * i + 3] = any(v.swizzle(swz<0, 1, 2>()));
    out[6 * i + 4] = all(v.swizzle(swz<0, 1>()));
    out[6 * i + 5] = any(v.swizzle(swz<0, 1>()));
  }}
}}

{EXPORT} void locations(long* out, const int* shape, const long* strides, const long* other, long ndim, long count) {{
  for (long i = 0; i < count; ++i) {{
    const uint3 grid(i % shape[ndim - 1], i / shape[ndim - 1] % shape[ndim - 2], i / shape[ndim - 1] / shape[ndim - 2]);
    out[4 * i] = elem_to_loc(i, shape, strides, int(ndim));
    out[4 * i + 1] = elem_to_loc<long>(grid, shape, strides, int(ndim));
    out[4 * i + 2] = elem_to_loc_2_nd(grid, shape, strides, other, int(ndim)).y;
    out[4 * i + 3] = elem_to_loc_3_nd<long>(grid, shape, other, other, strides, int(ndim)).z;
  }}
}}

template <int DIM, bool General>
void walk(long* out, const int* shape, const long* strides, int ndim, int count, int step) {{
  LoopedElemToLoc<DIM, long, General> loop(ndim);
  for (int i = 0; i < count; ++i) {{
    out[i] = loop.location();
    if (step == 1) loop.next(shape, strides); else loop.next(step, shape, strides);
  }}
}}
{EXPORT} void walks(long* out, const int* shape, const long* strides, long ndim, long count, long step) {{
  walk<1, true>(out, shape, strides, ndim, count, step);
  walk<2, true>(out + count, shape, strides, ndim, count, step);
  walk<3, true>(out + 2 * count, shape, strides, ndim, count, step);
  walk<3, false>(out + 3 * count, shape, strides, ndim, count, step);
}}
"""


@pytest.fixture(scope="module")
def types() -> Library:
    return Library(LOOPS, VECTORS)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(31)


@pytest.fixture(autouse=True)
def quiet():
    """Oracles overflow on purpose."""
    with np.errstate(all="ignore"):
        yield


def any_float(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(0, 2**32, count, dtype=np.uint64).astype(np.uint32).view(np.float32)


def bfloat(x: np.ndarray) -> np.ndarray:
    """The bits of the bfloat16 nearest to float32 values, ties to even; NaN stays NaN."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), (bits >> 16 | 0x40).astype(np.uint16), rounded)


def from_bfloat(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def assert_bits(actual: np.ndarray, desired: np.ndarray, isnan: np.ndarray) -> None:
    """The same bits; where a NaN is wanted, any will do."""
    actual, desired = actual.view(np.uint16), desired.view(np.uint16)
    wrong = np.flatnonzero((actual != desired) & ~isnan)
    assert wrong.size == 0, [(int(i), hex(actual[i]), hex(desired[i])) for i in wrong[:5]]


EVERY = np.arange(65536, dtype=np.uint16)


def test_half_to_float_is_exact_for_every_half(types):
    half = EVERY.view(np.float16)
    actual = types("half_to_float", half)
    assert np.array_equal(actual, half.astype(np.float32), equal_nan=True)
    assert np.array_equal(np.signbit(actual), np.signbit(half))


def test_float_to_half_rounds_to_nearest_even(types, rng):
    ties = EVERY.view(np.float16).astype(np.float32)[:-1]
    ties = np.concatenate(
        [(ties[1:] + ties[:-1]) / 2, np.float32([65519.996, 65520, 65536, 2.0**-25, 2.9802326e-08])]
    )
    for x in (any_float(rng, 1_000_000), ties, -ties, rng.uniform(-9e4, 9e4, 100_000).astype(np.float32)):
        actual = types("float_to_half", x)
        assert_bits(actual, x.astype(np.float16), np.isnan(x))
        assert np.array_equal(np.isnan(actual), np.isnan(x))


def test_float_to_bfloat_rounds_to_nearest_even(types, rng):
    x = np.concatenate(
        [any_float(rng, 1_000_000), (np.arange(2**16, dtype=np.uint32) << 16 | 0x8000).view(np.float32)]
    )
    assert np.array_equal(types("float_to_bfloat", x), bfloat(x))
    assert np.array_equal(types("bfloat_to_float", EVERY).view(np.uint32), EVERY.astype(np.uint32) << 16)


@pytest.mark.parametrize("name", ARITHMETIC)
def test_half_arithmetic_rounds_after_each_operation(types, rng, name):
    x, y = (rng.integers(0, 65536, 500_000).astype(np.uint16).view(np.float16) for _ in range(2))
    desired = getattr(np, name)(x, y)
    assert_bits(types(f"half_{name}", x, y), desired, np.isnan(desired))


@pytest.mark.parametrize("name", ARITHMETIC)
def test_bfloat_arithmetic_rounds_after_each_operation(types, rng, name):
    x, y = (rng.integers(0, 65536, 500_000).astype(np.uint16) for _ in range(2))
    exact = getattr(np, name)(from_bfloat(x), from_bfloat(y))
    assert_bits(types(f"bfloat_{name}", x, y), bfloat(exact), np.isnan(exact))


@pytest.mark.parametrize("name", COMPARISON)
def test_comparisons_of_small_floats(types, rng, name):
    x, y = (rng.integers(0, 65536, 100_000).astype(np.uint16) for _ in range(2))
    y[::3] = x[::3]
    assert np.array_equal(types(f"half_{name}", x.view(np.float16), y.view(np.float16)),
                          getattr(np, name)(x.view(np.float16), y.view(np.float16)))  # fmt: skip
    assert np.array_equal(types(f"bfloat_{name}", x, y), getattr(np, name)(from_bfloat(x), from_bfloat(y)))


def test_half_rounds_between_operations(types):
    x, y = np.float16([1.001]), np.float16([1.003])
    assert types("half_two_steps", x, y) == x * y + x != (x.astype(np.float32) * y + x).astype(np.float16)


def test_mixed_arithmetic(types, rng):
    """With an integer in the small type, with a float in float; compound assignment rounds back."""
    x = rng.uniform(-100, 100, 1000).astype(np.float16)
    f, i = rng.uniform(-9, 9, 1000).astype(np.float32), rng.integers(-50, 50, 1000).astype(np.int32)
    assert np.array_equal(types("half_plus_float", x, f), x.astype(np.float32) + f)
    assert np.array_equal(types("half_times_int", x, i), x * i.astype(np.float16))
    assert np.array_equal(types("half_negate", x), -x)
    assert np.array_equal(types("half_to_int", x), x.astype(np.int32))
    stepped = (x.astype(np.float32) + f).astype(np.float16) * np.float16(2) + np.float16(1)
    assert np.array_equal(types("half_accumulate", x, f), stepped)
    bits = bfloat(x.astype(np.float32))
    b = from_bfloat(bits)
    assert np.array_equal(types("bfloat_plus_float", bits, f), b + f)
    assert np.array_equal(types("bfloat_times_int", bits, i), bfloat(b * i))
    assert np.array_equal(types("bfloat_two_steps", bits, bits), bfloat(from_bfloat(bfloat(b * b)) + b))
    stepped = bfloat(from_bfloat(bfloat(from_bfloat(bfloat(b + f)) * 2)) + 1)
    assert np.array_equal(types("bfloat_accumulate", bits, f), stepped)
    assert np.array_equal(types("bfloat_negate", bits), bits ^ 0x8000)
    assert np.array_equal(types("bfloat_to_int", bits), b.astype(np.int32))


def test_int_to_half_overflows_to_infinity(types):
    assert types("half_times_int", np.float16([1, -1]), np.int32([65520, 100_000])).tolist() == [
        np.inf,
        -np.inf,
    ]


def test_ternary_types(types):
    """`c ? half : float` has the type that Metal gives to it, where the arms are cast as a translator casts them."""
    x = np.float16([1.5, -1.5])
    assert types("ternary_of_half_and_float", x, np.float32([0.1, 0.1])).tolist() == [1.5, np.float32(0.1)]
    assert types("ternary_of_half_and_int", x).tolist() == [1.5, 0.0]
    assert types("ternary_of_bfloat_and_infinity", bfloat(x.astype(np.float32))).tolist() == [1.5, -np.inf]
    assert types("nested_ternary", np.float16([2, 0.5, -1]), np.int32([7, 7, 7])).tolist() == [2, 7, 0]


def test_as_type(types, rng):
    x = any_float(rng, 1000)
    assert np.array_equal(types("bits_of_float", x), x.view(np.uint32))
    bits = x.view(np.uint32)
    assert np.array_equal(types("half2_of_bits", bits).view(np.uint16), (bits >> 16).astype(np.uint16))


def test_cast_to_bool_sees_subnormals(types):
    x = np.float32([0, -0.0, 1e-45, np.nan, 2])
    assert types("float_is_true", x).tolist() == [False, False, True, True, True]
    assert types("complex_is_true", np.complex64([0, 1e-45j, 1])).tolist() == [False, True, True]


FACTS = [
    "sizeof(float3) == 16 && alignof(float3) == 8 && sizeof(float4) == 16 && alignof(float4) == 8",
    "sizeof(float2) == 8 && alignof(float2) == 8 && alignof(half4) == 8 && alignof(uchar4) == 4",
    "sizeof(packed_float3) == 12 && alignof(packed_float3) == 4 && sizeof(packed_half3) == 6",
    "sizeof(half3) == 8 && sizeof(bfloat4) == 8",
    "sizeof(char3) == 4 && sizeof(bool2) == 2 && sizeof(long3) == 32",
    "sizeof(long) == 8 && sizeof(int64_t) == 8",
    "sizeof(uint) == 4 && sizeof(size_t) == 8 && sizeof(bool) == 1",
    "is_same_v<float16_t, half> && is_same_v<bfloat16_t, bfloat> && is_same_v<uint2, vec<uint, 2>>",
    "is_same_v<decltype(half(1) * 2), half> && is_same_v<decltype(2u / half(1)), half>",
    "is_same_v<decltype(half(1) * 2.0f), float> && is_same_v<decltype(bfloat(1) - 1.0f), float>",
    "is_same_v<decltype(bfloat(1) * half(1).bits), bfloat> && is_same_v<decltype(half(1) > 0), bool>",
    "is_convertible_v<float, half> && is_convertible_v<half, float> && is_convertible_v<int, half>",
    "is_convertible_v<bfloat, float>",
    "!is_convertible_v<float, bfloat> && !is_convertible_v<half, bfloat>",
    "!is_convertible_v<bfloat, half>",
    "is_convertible_v<packed_float3, float3> && is_convertible_v<float3, packed_float3>",
    "!is_convertible_v<int4, float4>",
    "is_convertible_v<float, float4> && !is_convertible_v<float4, half4>",
    "is_integral_v<ushort> && !is_integral_v<half>",
    "is_floating_point_v<half> && is_floating_point_v<bfloat>",
    "is_signed_v<int> && !is_signed_v<uchar>",
    "is_unsigned_v<ulong> && is_same_v<make_unsigned_t<short>, ushort>",
    "is_same_v<enable_if_t<true, int>, conditional_t<false, float, int>>",
    "is_same_v<remove_cv_t<const int>, int>",
    "numeric_limits<half>::max().bits == 0x7bff && numeric_limits<half>::epsilon() == half(0x1p-10f)",
    "numeric_limits<half>::lowest() == half(-65504)",
    "HALF_MAX == 65504.0f && numeric_limits<half>::digits == 11",
    "numeric_limits<bfloat>::max().bits == 0x7f7f && numeric_limits<bfloat>::min().bits == 0x0080",
    "numeric_limits<float>::infinity() == INFINITY",
    "numeric_limits<float>::max() == FLT_MAX && MAXFLOAT == FLT_MAX",
    "numeric_limits<char>::max() == 127",
    "numeric_limits<short>::min() == -32768 && numeric_limits<long>::min() == LONG_MIN",
    "numeric_limits<ulong>::max() == ULONG_MAX",
    "numeric_limits<uint>::max() == UINT_MAX && numeric_limits<int>::digits == 31",
    "numeric_limits<bool>::max() == true && numeric_limits<bool>::digits == 1",
    "half(1.0f / 3).bits == 0x3555 && half(65520.0f).bits == 0x7c00 && half(-0.0f).bits == 0x8000",
    "half(0x1p-24f).bits == 1 && half(0x1p-25f).bits == 0",
    "half(0x1.8p-25f).bits == 1 && M_PI_H == half(3.140625f)",
    "bfloat(1.0f / 3).bits == 0x3eab",
    "Limits<half>::max == INFINITY && Limits<half>::finite_min == -65504.0f",
    "Limits<int>::min == INT_MIN && Limits<bool>::max",
    "Limits<float>::min == -INFINITY && Limits<uint8_t>::finite_max == 255",
    "Limits<complex64_t>::min.imag == -INFINITY",
    "WorkPerThread<half>::n == 4 && WorkPerThread<uint8_t>::n == 8",
    "is_same_v<ConditionalType<true, int, float>::type, int>",
    "is_same_v<ConditionalType<false, int, float>::type, float>",
    "is_same_v<decltype(exp(half(1))), half> && is_same_v<decltype(fast::exp(half(1))), float>",
    "is_same_v<decltype(precise::exp(bfloat(1))), bfloat> && is_same_v<decltype(pow(half(1), 2)), half>",
    "sizeof(array<half, 3>) == 6 && array<int, 2>{{3, 4}}[1] == 4 && array<float, 5>::size() == 5",
    "float4(1, 2, 3, 4).w == 4 && int2(1.9f, 2.9f).x == 1 && (float2(1, 2) + 1).y == 3",
    "complex64_t(1, 2) * complex64_t(3, 4) == complex64_t(-5, 10) && float(complex64_t(1, 2)) == 1",
]


def test_compile_time_facts():
    assert refusal("\n".join(f"static_assert({fact});" for fact in FACTS)) == ""


ARMS = """
#define ARM(a, b) static_cast<detail::arm_t<decltype((a)), decltype((b))>>(a)
#define TERNARY(c, a, b) ((c) ? ARM(a, b) : ARM(b, a))
bool c = true; int i = 1, j = 2; float4 v = 1; half h[2]; const half* p = h;
TERNARY(c, i, j) = 3;
TERNARY(c, void(), void());
const half* q = TERNARY(c, p, 0);
const half* r = TERNARY(c, p + 1, nullptr);
float4 w = TERNARY(c, v, 0.0f);
static_assert(is_same_v<decltype(TERNARY(c, 1, 2u)), uint> && is_same_v<decltype(TERNARY(c, 1, 2.0f)), float>);
static_assert(is_same_v<decltype(TERNARY(c, h[0], h[1])), half&> && is_same_v<decltype(TERNARY(c, i, h[0])), half>);
static_assert(is_same_v<decltype(TERNARY(c, bfloat(1), 2)), bfloat>);
static_assert(is_same_v<decltype(TERNARY(c, p[0], 2.0f)), float>);
"""


def test_arms_of_other_types_are_left_alone():
    assert refusal(ARMS) == ""


STATEMENTS = [
    "half h = 1; h += 2; h = h / 3.0f; float f = h; int i = h; bool b = h; f += h; i *= h;",
    "half h = 1; bool b = h; if (h && !b) h = -h; while (h > 2) h--; for (half k = 0; k < 3; ++k) h += k;",
    "half h[4] = {0}; h[1] = 2; h[2]++; union { half a[2]; uint b; } u; u.a[0] = h[1]; half2 v = {h[0], h[1]};",
    "bfloat b = bfloat(1.0f); b = 2; b += 1.5f; b = static_cast<bfloat>(half(1)); float f = b; half h = half(b);",
    "float4 v = 1; v = {1, 2, 3, 4}; v *= 2; float3 w; w.x = v.r; const float2 t[] = {{1, 2}, {3, 4}}; w.y = t[1].y;",
    "using namespace metal; uint3 g = {1u, 2, 3}; uint i = g.x + g.y * g.z; bool4 m = float4(1) < 2; if (all(m)) ++i;",
    "complex64_t z; z = 1.0f; z += complex64_t(1, 2); z *= 2; float f = z; float2 v = z; z = v; z = z / 2 + 1;",
    "enum Kind { A = 2 }; half h = half(A); h = h * A; int4 v = int4(A); v += A; float f = max(float(A), 1.0f);",
    "MLX_MTL_PRAGMA_UNROLL for (int i = 0; i < 4; ++i) { float4 v; v[i] = i; }",
    "float x = metal::exp(1.0f) + fast::sin(2.0f) + precise::tanh(1.0f) + metal::fast::log(2.0f) + ceildiv(5, 2);",
    "float x = M_PI_F + M_E_F + M_SQRT2_F + INFINITY + NAN + MAXFLOAT + INT_MAX + half(1) + M_PI_H;",
    "constexpr float4 table[2] = {float4(1), {1, 2, 3, 4}}; constexpr half h = half(1) + half(2); float x = h;",
]


def test_what_metal_accepts_is_accepted():
    assert refusal("\n".join(f"{{ {statement} }}" for statement in STATEMENTS)) == ""


@pytest.mark.tools
@pytest.mark.parametrize(
    "body",
    [
        "bfloat b = 1.0f;",
        "bfloat b = half(1);",
        "half h = bfloat(1);",
        "float4 v = int4(1);",
        "float4 v = float4(1) + int4(1);",
        "float4 v = float4(1) + float3(1);",
        "float4 v(1, 2, 3);",
        "float2 v(float3(1));",
        "float2 v = float2(1).swizzle(swz<0, 2>());",
        "float x = cross(float2(1), float2(1)).x;",
        "int i = popcount(1.0f);",
        "uint u = as_type<uint>(half(1));",
        "half h = half(1) % half(2);",
    ],
)
def test_what_metal_refuses_is_refused(body):
    assert "probe:1:" in refusal(body)


def test_float_vectors(types, rng):
    a, b = rng.uniform(0.5, 3, (2, 4)).astype(np.float32)
    b[0] = a[0]
    out = np.empty((21, 4), np.float32)
    types.call("float_vectors", out, np.concatenate([a, b]))
    compound = ((a + b) * np.float32(2) - np.float32(1)) / b
    desired = [
        a + b, a - b, a * b, a / b, 2 * a, a / 2, -a, 1 - a, b < a, a == b, (a > 1) & (b > 1), ~(a > b), compound,
        np.where(a > b, b, a), np.maximum(a, b), np.clip(a, 1, 2), (a.astype(np.float64) * b + a).astype(np.float32), a,
        np.trunc(a), a.astype(np.float16), a,
    ]  # fmt: skip
    for row, want in zip(out, desired, strict=True):
        assert np.array_equal(row, np.asarray(want, np.float32))


def test_swizzles_are_read_and_written(types):
    out = np.empty((8, 4), np.float32)
    types.call("swizzles", out, np.float32([1, 2, 3, 4]))
    assert out.tolist() == [
        [4, 3, 2, 1],
        [2, 1, 1, 1],
        [2, 1, 3, 4],
        [21, 2, 3, 14],
        [3, 6, 9, 4],
        [1, 7, 3, 7],
        [3, 2, 1, 4],
        [0, 2, 2, 0],
    ]


def test_vector_constructors(types):
    out = np.empty((13, 4), np.float32)
    types.call("constructors", out, np.float32([1, 2, 3, 4]))
    assert out.tolist() == [
        [1, 1, 1, 1],
        [1, 2, 1, 2],
        [1, 2, 8, 9],
        [8, 1, 2, 9],
        [8, 9, 1, 2],
        [1, 2, 3, 9],
        [9, 1, 2, 3],
        [8, 1, 2, 9],
        [0, 0, 0, 0],
        [5, 7, 9, 0],
        [8, 10, 12, 6],
        [1, 2, 3, 4],
        [0, 2, 6, 12],
    ]


def test_int_vectors(types, rng):
    a = rng.integers(-(2**31), 2**31, 4).astype(np.int32)
    b = rng.integers(0, 2**31, 4).astype(np.int32)
    out = np.empty((17, 4), np.int32)
    types.call("int_vectors", out, np.concatenate([a, b]))
    amount = b & 31
    compound = np.fmod((a << 1 | 1) ^ b, 1000)
    bits = a.view(np.uint32)
    field = bits >> 2 & 31
    inserted = (bits & ~np.uint32(0xFF0)) | (b.view(np.uint32) << 4 & 0xFF0)
    wide = np.int64(a) + b
    rotated = bits << amount.view(np.uint32) | bits >> (-amount & 31).view(np.uint32)
    chars, uchars = a.astype(np.int8) + b.astype(np.int8), a.astype(np.uint8) * np.uint8(2)
    desired = [
        np.fmod(a, 7), a & b, a | b, a ^ b, ~a, a << 1, a >> 2, a << amount, compound, chars, uchars,
        np.abs(np.int64(a) - b).astype(np.uint32).view(np.int32), [bin(x).count("1") for x in bits],
        rotated.view(np.int32), np.where(field > 15, field.astype(np.int32) - 32, field), inserted.view(np.int32),
        np.clip(wide, -(2**31), 2**31 - 1),
    ]  # fmt: skip
    for row, want in zip(out, desired, strict=True):
        assert np.array_equal(row, np.asarray(want).astype(np.int32)), (row, want)


def test_all_and_any(types):
    out = np.empty((16, 6), np.int32)
    types.call("truth", out)
    for i, row in enumerate(out.tolist()):
        bits = [i >> k & 1 for k in range(4)]
        assert row == [function(bits[:n]) for n in (4, 3, 2) for function in (all, any)]


def test_geometry(types, rng):
    a, b = rng.uniform(-2, 2, (2, 3)).astype(np.float32)
    out = np.empty((9, 3), np.float32)
    types.call("geometry", out, np.concatenate([a, b]))
    a, b = a.astype(np.float64), b.astype(np.float64)
    norm = np.linalg.norm
    i, n = a / norm(a), b / norm(b)
    cosine = n @ i
    k = 1 - 0.25 * (1 - cosine**2)
    desired = [
        [a @ b, norm(a), norm(a - b)],
        np.cross(a, b),
        i,
        a - 2 * (n @ a) * n,
        0.5 * i - (0.5 * cosine + np.sqrt(k)) * n,
        [a @ a, (a - b) @ (a - b), norm(a)],
        a if b @ a < 0 else -a,
        [0, 0, 0],
        [a[:2] @ b[:2]] * 3,
    ]
    np.testing.assert_allclose(out, desired, rtol=2e-6, atol=1e-6)


def integer_samples(kind: str, rng: np.random.Generator, count: int = 4_000) -> np.ndarray:
    """Values of all magnitudes, with the limits of the type and their neighbours."""
    info = np.iinfo({"char": np.int8, "uchar": np.uint8}.get(kind, DTYPE[kind]))
    values = rng.integers(info.min, info.max, count, dtype=info.dtype, endpoint=True)
    values >>= rng.integers(0, info.bits, count).astype(info.dtype)
    values[:400:5], values[1:400:5], values[2:400:5], values[3:400:5] = info.min, info.max, 0, info.max - 1
    return rng.permutation(values)


DTYPE = {
    "short": np.int16, "ushort": np.uint16, "int": np.int32, "uint": np.uint32, "long": np.int64, "ulong": np.uint64,
    "char": np.int8, "uchar": np.uint8,
}  # fmt: skip


def integer_oracle(name: str, low: int, high: int, bits: int):
    """The function's meaning on Python's integers."""
    mask = (1 << bits) - 1

    def wrap(v: int) -> int:
        v &= mask
        return v - (1 << bits) if v > high else v

    def saturate(v: int) -> int:
        return min(max(v, low), high)

    def extract(x: int, o: int, n: int) -> int:
        field = (x & mask) >> o & ((1 << n) - 1)
        return field - (1 << n) if low < 0 and n and field >> (n - 1) else field

    return {
        "clz": lambda x: bits - (x & mask).bit_length(),
        "ctz": lambda x: bits if x == 0 else (x & -x & mask).bit_length() - 1,
        "popcount": lambda x: bin(x & mask).count("1"),
        "reverse_bits": lambda x: wrap(int(f"{x & mask:0{bits}b}"[::-1], 2)),
        "abs": lambda x: wrap(abs(x)),
        "addsat": lambda x, y: saturate(x + y),
        "subsat": lambda x, y: saturate(x - y),
        "hadd": lambda x, y: (x + y) >> 1,
        "rhadd": lambda x, y: (x + y + 1) >> 1,
        "mulhi": lambda x, y: x * y >> bits,
        "absdiff": lambda x, y: abs(x - y),
        "rotate": lambda x, y: wrap((x & mask) << (y % bits) | (x & mask) >> (-y % bits)),
        "max": max,
        "min": min,
        "madhi": lambda x, y, z: wrap((x * y >> bits) + z),
        "madsat": lambda x, y, z: saturate(x * y + z),
        "median3": lambda x, y, z: sorted((x, y, z))[1],
        "max3": max,
        "min3": min,
        "clamp": lambda x, y, z: min(max(x, y), z),
        "extract_bits": extract,
        "insert_bits": lambda x, y, o, n: wrap((x & ~(((1 << n) - 1) << o)) | (y & ((1 << n) - 1)) << o),
    }[name]


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize(
    "name", [*INTEGER_UNARY, "abs", *INTEGER_BINARY, *INTEGER_TERNARY, "extract_bits", "insert_bits"]
)
def test_integer_functions(types, rng, kind, name):
    info = np.iinfo(DTYPE[kind])
    loop = types.loops[f"{kind}_{name}"]
    samples = [integer_samples(kind, rng) for _ in loop.inputs]
    if name.endswith("_bits") and name != "reverse_bits":
        samples[-2] = rng.integers(0, info.bits, samples[0].size).astype(np.uint32)
        samples[-1] = (rng.random(samples[0].size) * (info.bits - samples[-2] + 1)).astype(np.uint32)
    actual = types(loop.name, *samples)
    oracle = integer_oracle(name, int(info.min), int(info.max), info.bits)
    for row, got in zip(zip(*(s.tolist() for s in samples), strict=True), actual.tolist(), strict=True):
        assert got == oracle(*row), (row, got)


def test_24_bit_products(types, rng):
    x, y = (rng.integers(-(2**31), 2**31, 1000).astype(np.int32) for _ in range(2))
    low = [(v << 8) >> 8 for v in (x, y)]
    assert np.array_equal(types("mul24", x, y), low[0] * low[1])
    assert np.array_equal(types("mad24", x, y, x), low[0] * low[1] + x)
    u, v = x.view(np.uint32), y.view(np.uint32)
    assert np.array_equal(types("umul24", u, v), (u & 0xFFFFFF) * (v & 0xFFFFFF))


def complex_samples(rng: np.random.Generator) -> np.ndarray:
    return (rng.normal(size=1000) + 1j * rng.normal(size=1000)).astype(np.complex64)


@pytest.mark.parametrize("name", ARITHMETIC)
def test_complex_arithmetic(types, rng, name):
    x, y = complex_samples(rng), complex_samples(rng)
    desired = getattr(np, name)(x.astype(complex), y.astype(complex))
    error = np.abs(types(f"complex_{name}", x, y) - desired) / (
        np.abs(x) * np.maximum(np.abs(y), 1 / np.abs(y)) + np.abs(y)
    )
    assert error.max() < 4e-7


def test_complex_division_does_not_overflow_on_the_way(types):
    x = np.complex64([1e30 + 1e30j])
    assert types("complex_divide", x, x).tolist() == [1]


def test_complex_with_reals(types, rng):
    x, y = complex_samples(rng), rng.normal(size=1000).astype(np.float32)
    assert np.array_equal(types("complex_times_real", x, y), (x * y) * 2 + 1)


def test_complex_order_is_lexicographic(types, rng):
    x, y = np.round(complex_samples(rng)), np.round(complex_samples(rng))
    pairs = [((a.real, a.imag), (b.real, b.imag)) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    compare = dict(zip(COMPARISON, (eq, ne, lt, gt, le, ge), strict=True))
    for name, function in compare.items():
        assert types(f"complex_{name}", x, y).tolist() == [function(a, b) for a, b in pairs]


def test_complex_remainder_has_the_sign_of_the_divisor(types, rng):
    x, y = complex_samples(rng), complex_samples(rng)
    actual = types("complex_remainder", x, y)
    np.testing.assert_allclose(actual.real, np.mod(x.real, y.real), atol=1e-4)
    np.testing.assert_allclose(actual.imag, np.mod(x.imag, y.imag), atol=1e-4)


def test_complex_log1p(types, rng):
    x = np.concatenate([complex_samples(rng), complex_samples(rng) * np.float32(1e-4)])
    desired = np.log1p(x.astype(complex))
    np.testing.assert_allclose(types("complex_log1p", x), desired, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 5), (2, 3, 4, 5)])
def test_elem_to_loc(types, shape):
    array = np.empty(tuple(reversed(shape)), np.int8).T[..., ::-1]
    count = int(np.prod(shape))
    strides = np.array(array.strides, np.int64)
    other = strides * 3 + 1
    out = np.empty((count, 4), np.int64)
    types.call("locations", out, np.int32(shape), strides, other, len(shape), count)
    positions = np.stack(np.unravel_index(np.arange(count), shape), 1)
    assert np.array_equal(out[:, 0], positions @ strides)
    assert np.array_equal(out[:, 1], positions @ strides)
    assert np.array_equal(out[:, 2], positions @ other)
    assert np.array_equal(out[:, 3], positions @ strides)


@pytest.mark.parametrize("step", [1, 3, 17])
def test_looped_elem_to_loc(types, step):
    shape, strides = np.int32([3, 4, 5]), np.int64([100, 7, 11])
    count = -(-60 // step)
    out = np.empty((4, count), np.int64)
    types.call("walks", out, shape, strides, 3, count, step)
    desired = np.stack(np.unravel_index(np.arange(0, 60, step), shape), 1) @ strides
    for row in out:
        assert np.array_equal(row, desired)


@pytest.mark.tools
def test_loops_vectorise():
    names = {
        "float_to_half",
        "half_to_float",
        "float_to_bfloat",
        "bfloat_to_float",
        "half_multiply",
        "bfloat_add",
    }
    names |= {"half_two_steps"}
    assert vectorised([loop for loop in LOOPS if loop.name in names]) == names
