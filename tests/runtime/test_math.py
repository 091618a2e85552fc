"""The runtime's float functions against float64, over all floats and where they are hard; and that they vectorise."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from cxx import Library, Loop, refusal, vectorised

pytestmark = pytest.mark.cpu


def reduce_half_turns(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x pi as a quarter (0 to 3) and an angle in [-pi/4, pi/4]; exact, for x in half turns."""
    y = x - 2 * np.rint(x / 2)
    quarter = np.rint(2 * y)
    return quarter % 4, (y - quarter / 2) * np.pi


def sinpi(x: np.ndarray) -> np.ndarray:
    quarter, angle = reduce_half_turns(x)
    y = np.select(
        [quarter == 0, quarter == 1, quarter == 2],
        [np.sin(angle), np.cos(angle), -np.sin(angle)],
        -np.cos(angle),
    )
    return np.where(np.isfinite(x), np.where(y == 0, np.copysign(0.0, x), y), np.nan)


def cospi(x: np.ndarray) -> np.ndarray:
    quarter, angle = reduce_half_turns(x)
    y = np.select(
        [quarter == 0, quarter == 1, quarter == 2],
        [np.cos(angle), -np.sin(angle), -np.cos(angle)],
        np.sin(angle),
    )
    return np.where(np.isfinite(x), y + 0.0, np.nan)


def away_from_zero(x: np.ndarray) -> np.ndarray:
    whole = np.trunc(x)
    return np.where(np.abs(x - whole) >= 0.5, whole + np.copysign(1, x), whole)


@dataclass(frozen=True)
class Case:
    """A function of one float, its float64 meaning, where it is hard and the error in ULP that it may have."""

    name: str
    oracle: Callable[[np.ndarray], np.ndarray]
    low: float
    high: float
    max_ulp: float


# The limits are the worst cases measured with and without fused multiply-add, rounded up.
UNARY = [
    Case("exp", np.exp, -104, 89, 1.1),
    Case("exp2", np.exp2, -150, 128, 1.1),
    Case("exp10", lambda x: np.power(10.0, x), -45, 38.6, 1.3),
    Case("log", np.log, 0.3, 3, 1.0),
    Case("log2", np.log2, 0.3, 3, 2.0),
    Case("log10", np.log10, 0.3, 3, 2.0),
    Case("sin", np.sin, -1000, 1000, 1.7),
    Case("cos", np.cos, -1000, 1000, 1.7),
    Case("tan", np.tan, -1000, 1000, 3.7),
    Case("sinpi", sinpi, -20, 20, 1.7),
    Case("cospi", cospi, -20, 20, 1.7),
    Case("tanpi", lambda x: sinpi(x) / cospi(x), -20, 20, 3.7),
    Case("asin", np.arcsin, -1, 1, 2.5),
    Case("acos", np.arccos, -1, 1, 1.4),
    Case("atan", np.arctan, -5, 5, 2.0),
    Case("sinh", np.sinh, -90, 90, 1.8),
    Case("cosh", np.cosh, -90, 90, 1.6),
    Case("tanh", np.tanh, -2, 2, 1.6),
    Case("asinh", np.arcsinh, -5, 5, 2.1),
    Case("acosh", np.arccosh, 1, 5, 2.8),
    Case("atanh", np.arctanh, -1, 1, 2.5),
    Case("rsqrt", lambda x: 1 / np.sqrt(x), 0, 10, 1.6),
    Case("sqrt", np.sqrt, 0, 10, 0.5),
    Case("round", away_from_zero, -5, 5, 0.0),
    Case("rint", np.rint, -5, 5, 0.0),
    Case("floor", np.floor, -5, 5, 0.0),
    Case("ceil", np.ceil, -5, 5, 0.0),
    Case("trunc", np.trunc, -5, 5, 0.0),
    Case("fabs", np.abs, -5, 5, 0.0),
]
BINARY = (
    "pow",
    "powr",
    "atan2",
    "fmod",
    "fdim",
    "copysign",
    "nextafter",
    "fmax",
    "fmin",
    "max",
    "min",
    "divide",
    "step",
)
TERNARY = ("clamp", "fma", "median3", "fmedian3", "fmin3", "fmax3", "min3", "max3", "mix", "smoothstep")

PARAMETERS = ("float x", "float y", "float z")
LOOPS = [
    *(Loop(c.name, "float", PARAMETERS[:1], f"{c.name}(x)") for c in UNARY),
    *(Loop(name, "float", PARAMETERS[:2], f"{name}(x, y)") for name in BINARY),
    *(Loop(name, "float", PARAMETERS, f"{name}(x, y, z)") for name in TERNARY),
    *(Loop(name, "float", PARAMETERS[:1], f"{name}(x)") for name in ("fract", "saturate", "sign", "log1p")),
    *(
        Loop(name, "bool", PARAMETERS[:1], f"{name}(x)")
        for name in ("isnan", "isinf", "isfinite", "isnormal", "signbit")
    ),
    Loop("isordered", "bool", PARAMETERS[:2], "isordered(x, y)"),
    Loop("isunordered", "bool", PARAMETERS[:2], "isunordered(x, y)"),
    Loop("hypot", "float", PARAMETERS[:2], "hypot(x, y)"),
    Loop("ilogb", "int", PARAMETERS[:1], "ilogb(x)"),
    Loop("ldexp", "float", ("float x", "int n"), "ldexp(x, n)"),
    Loop("frexp_fraction", "float", PARAMETERS[:1], "[&] { int e; return frexp(x, e); }()"),
    Loop("frexp_exponent", "int", PARAMETERS[:1], "[&] { int e; frexp(x, e); return e; }()"),
    Loop("modf_fraction", "float", PARAMETERS[:1], "[&] { float w; return modf(x, w); }()"),
    Loop("modf_whole", "float", PARAMETERS[:1], "[&] { float w; modf(x, w); return w; }()"),
    Loop(
        "sincos_difference",
        "float",
        PARAMETERS[:1],
        "[&] { float c; float s = sincos(x, c); return s - c; }()",
    ),
    *(
        Loop(f"half_{name}", "half", ("half x",), f"{name}(x)")
        for name in ("exp", "log", "tanh", "sqrt", "sin", "floor")
    ),
    *(
        Loop(f"bfloat_{name}", "bfloat", ("bfloat x",), f"{name}(x)")
        for name in ("exp", "log", "tanh", "sqrt", "sin")
    ),
    Loop("half_pow", "half", ("half x", "half y"), "pow(x, y)"),
    Loop("half_max", "half", ("half x", "half y"), "max(x, y)"),
    Loop("half_nextafter", "half", ("half x", "half y"), "nextafter(x, y)"),
    Loop("half_isnormal", "bool", ("half x",), "isnormal(x)"),
    Loop("fast_exp", "float", PARAMETERS[:1], "fast::exp(x)"),
    Loop("precise_exp", "float", PARAMETERS[:1], "metal::precise::exp(x)"),
]

# The first five are those whose images are exact.
SPECIAL = np.array(
    [
        *(0.0, -0.0, np.inf, -np.inf, np.nan),
        *(1e-45, -1e-45, 1.1754942e-38, 1.1754944e-38, 3.4028235e38, -3.4028235e38),
        *(1, -1, 0.5, -0.5, 2, -2, 1.5, -1.5, 2.5, 3, -3, 4),
        *(0.49999997, 0.99999994, 16777215, 16777216, 33554432),
    ],
    np.float32,
)
PAIRS = tuple(a.ravel() for a in np.meshgrid(SPECIAL, SPECIAL))
TRIPLES = tuple(a.ravel() for a in np.meshgrid(SPECIAL, SPECIAL, SPECIAL))


@pytest.fixture(scope="module")
def math() -> Library:
    return Library(LOOPS)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture(autouse=True)
def quiet():
    """Oracles meet invalid arguments on purpose."""
    with np.errstate(all="ignore"):
        yield


def any_float(rng: np.random.Generator, count: int) -> np.ndarray:
    """Floats with random bits: all exponents, both signs, NaN and infinities."""
    return rng.integers(0, 2**32, count, dtype=np.uint64).astype(np.uint32).view(np.float32)


def ulp_error(actual: np.ndarray, desired: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    """Distance in units of the last place of ``desired``, a float64 array; infinite where only one is NaN.

    Infinity counts as the number that would follow the largest finite one.
    """
    largest = np.finfo(dtype).max
    below = np.nextafter(largest, dtype(0))  # NumPy's spacing of the largest number is infinite
    unit = np.spacing(np.minimum(np.abs(desired.astype(dtype)), below)).astype(np.float64)
    end = 2 * float(largest) - float(below)
    error = np.abs(np.clip(actual.astype(np.float64), -end, end) - np.clip(desired, -end, end)) / unit
    nan = np.isnan(desired)
    return np.where(nan | np.isnan(actual), np.where(nan & np.isnan(actual), 0.0, np.inf), error)


def assert_within(
    actual: np.ndarray, desired: np.ndarray, max_ulp: float, *inputs: np.ndarray, dtype: type = np.float32
) -> None:
    error = ulp_error(actual, desired, dtype)
    worst = int(np.argmax(error))
    assert error[worst] <= max_ulp, (
        f"{error[worst]:.3f} ULP at {[float(i[worst]) for i in inputs]}: got {actual[worst]!r}, want {desired[worst]!r}"
    )


def assert_same(actual: np.ndarray, desired: np.ndarray, *inputs: np.ndarray) -> None:
    """Equal values and signs; NaN equals NaN."""
    wrong = ~(
        (actual == desired) & (np.signbit(actual) == np.signbit(desired))
        | (np.isnan(actual) & np.isnan(desired))
    )
    assert not wrong.any(), [
        (*(float(i[k]) for i in inputs), actual[k], desired[k]) for k in np.flatnonzero(wrong)[:5]
    ]


@pytest.mark.parametrize("case", UNARY, ids=lambda case: case.name)
def test_error_is_bounded(math, rng, case):
    for x in (SPECIAL, any_float(rng, 400_000), rng.uniform(case.low, case.high, 400_000).astype(np.float32)):
        y = math(case.name, x)
        desired = case.oracle(x.astype(np.float64))
        assert_within(y, desired, case.max_ulp, x)


@pytest.mark.parametrize("case", UNARY, ids=lambda case: case.name)
def test_images_of_zeros_and_infinities_are_exact(math, case):
    x = SPECIAL[:5]
    assert_same(math(case.name, x), case.oracle(x.astype(np.float64)).astype(np.float32), x)


def test_exp_of_minus_infinity_is_zero(math):
    x = np.full(8, -np.inf, np.float32)
    for name in ("exp", "exp2", "exp10", "fast_exp", "precise_exp"):
        assert_same(math(name, x), np.zeros(8, np.float32), x)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="asks for the flags of x86 processors")
@pytest.mark.parametrize("name", ["exp", "exp2", "exp10", "fast_exp", "pow"])
def test_what_vanishes_is_no_subnormal_on_the_way(math, name):
    """One costs the processor a hundred cycles and more, and masks of attention are full of such exponents."""
    libm, underflow = ctypes.CDLL("libm.so.6"), 0x10
    x = np.concatenate([np.full(16, -np.inf), np.linspace(-1e4, -151, 112)]).astype(np.float32)
    base = (np.full_like(x, 2.0),) if name == "pow" else ()
    libm.feclearexcept(underflow)
    y = math(name, *base, x)
    assert not libm.fetestexcept(underflow)
    assert not y.any()
    math(
        name,
        *base,
        np.full(16, -150 if name in ("exp2", "pow") else -45 if name == "exp10" else -100, np.float32),
    )
    assert libm.fetestexcept(underflow)  # that is how it is told


def test_huge_arguments_of_sine_are_reduced(math):
    """The largest float, and the floats that come closest to a multiple of pi/2; sines from 600-bit arithmetic."""
    x = np.array([3.4028235e38, 16367173 * 2.0**73, 10741887 * 2.0**12, 10057457 * 2.0**63], np.float32)
    sine = np.array(
        [-0.5218765233336585, -3.2295395964952422e-09, -4.0252920638371055e-09, -1.2935713969140711e-08]
    )
    assert_within(math("sin", x), sine, 1.7, x)
    x = np.array([16367173 * 2.0**72, 10741887 * 2.0**11, 10057457 * 2.0**62], np.float32)
    cosine = np.array([-1.6147697982476211e-09, -2.0126460319185528e-09, -6.467856984570355e-09])
    assert_within(math("cos", x), cosine, 1.7, x)


@pytest.mark.parametrize(
    ("name", "oracle", "max_ulp"),
    [
        ("pow", np.power, 1.0),
        ("atan2", np.arctan2, 2.1),
        ("fmod", np.fmod, 0.0),
        ("hypot", np.hypot, 2.0),
        ("divide", np.divide, 0.5),
        ("fmax", np.fmax, 0.0),
        ("fmin", np.fmin, 0.0),
        ("max", np.fmax, 0.0),
        ("min", np.fmin, 0.0),
        ("fdim", lambda x, y: np.where(np.isnan(x) | np.isnan(y), np.nan, np.where(x > y, x - y, 0)), 0.5),
    ],
)
def test_error_is_bounded_for_two_arguments(math, rng, name, oracle, max_ulp):
    pairs = [
        PAIRS,
        (any_float(rng, 400_000), any_float(rng, 400_000)),
        (rng.uniform(0, 5, 400_000).astype(np.float32), rng.uniform(-20, 20, 400_000).astype(np.float32)),
        (
            rng.uniform(-5, 5, 200_000).astype(np.float32),
            np.rint(rng.uniform(-30, 30, 200_000)).astype(np.float32),
        ),
        (
            rng.uniform(0.9, 1.1, 200_000).astype(np.float32),
            rng.uniform(-900, 900, 200_000).astype(np.float32),
        ),
    ]
    for x, y in pairs:
        assert_within(math(name, x, y), oracle(x.astype(np.float64), y.astype(np.float64)), max_ulp, x, y)


@pytest.mark.parametrize(
    ("name", "oracle"), [("pow", np.power), ("atan2", np.arctan2), ("copysign", np.copysign)]
)
def test_signs_of_zeros_and_infinities(math, name, oracle):
    x, y = PAIRS
    actual, desired = math(name, x, y), oracle(x.astype(np.float64), y.astype(np.float64)).astype(np.float32)
    assert np.array_equal(np.signbit(actual) | np.isnan(desired), np.signbit(desired) | np.isnan(desired))


def test_nextafter(math, rng):
    for x, y in (PAIRS, (any_float(rng, 100_000), any_float(rng, 100_000))):
        assert_same(math("nextafter", x, y), np.nextafter(x, y), x, y)


def test_powr_knows_no_negative_base(math, rng):
    x, y = rng.uniform(0, 5, 10_000).astype(np.float32), rng.uniform(-9, 9, 10_000).astype(np.float32)
    assert_within(math("powr", x, y), np.power(x.astype(np.float64), y), 1.0, x, y)
    assert np.isnan(math("powr", -x[x > 0], y[x > 0])).all()
    undefined = [(0, 0), (np.inf, 0), (1, np.inf), (1, -np.inf)]
    assert np.isnan(math("powr", *np.array(undefined).T)).all()


def test_fma_rounds_once(math):
    x = np.float32([1 + 2.0**-12])
    assert_same(math("fma", x, x, np.float32([-1])), np.float32([2.0**-11 + 2.0**-24]), x)


def test_three_argument_functions(math):
    number = ~np.isnan(np.stack(TRIPLES)).any(0)
    ordered = x, y, z = tuple(a[number] for a in TRIPLES)
    assert np.array_equal(math("median3", *ordered), np.median(np.stack(ordered), 0))
    assert np.array_equal(math("fmedian3", *ordered), np.median(np.stack(ordered), 0))
    for name in ("fmin3", "min3", "fmax3", "max3"):
        oracle = np.fmin if "min" in name else np.fmax
        assert np.array_equal(
            math(name, *TRIPLES), oracle(oracle(TRIPLES[0], TRIPLES[1]), TRIPLES[2]), equal_nan=True
        )
    sorted_bounds = y <= z
    x, y, z = (a[sorted_bounds] for a in (x, y, z))
    assert np.array_equal(math("clamp", x, y, z), np.clip(x, y, z))


def test_blending_functions(math, rng):
    x, y, a = (rng.uniform(0, 1, 1000).astype(np.float32) for _ in range(3))
    assert np.array_equal(math("mix", x, y, a), x + (y - x) * a)
    t = np.clip((a - x) / (y - x), 0, 1)
    assert np.array_equal(math("smoothstep", x, y, a), t * t * (3 - 2 * t))
    assert np.array_equal(math("step", x, y), (y >= x).astype(np.float32))
    x = rng.uniform(-9, 9, 1000).astype(np.float32)
    assert np.array_equal(math("saturate", x), np.clip(x, 0, 1))
    assert np.array_equal(math("sign", SPECIAL), np.nan_to_num(np.sign(SPECIAL), nan=0.0))
    assert np.array_equal(np.signbit(math("sign", SPECIAL[:2])), [False, True])


def test_fract_is_below_one(math, rng):
    x = np.concatenate([rng.uniform(-9, 9, 1000), [-1e-10, -0.0, 2.0]]).astype(np.float32)
    assert np.array_equal(math("fract", x), np.minimum(x - np.floor(x), np.float32(1) - np.float32(2.0**-24)))


def test_log1p_of_small_numbers(math, rng):
    x = np.concatenate([rng.uniform(-0.9, 1, 10_000), 10.0 ** rng.uniform(-30, 30, 10_000)]).astype(
        np.float32
    )
    assert_within(math("log1p", x), np.log1p(x.astype(np.float64)), 3.0, x)
    assert_same(math("log1p", np.float32([0, np.inf, -2])), np.float32([0, np.inf, np.nan]))


def test_classification(math):
    x = SPECIAL
    assert np.array_equal(math("isnan", x), np.isnan(x))
    assert np.array_equal(math("isinf", x), np.isinf(x))
    assert np.array_equal(math("isfinite", x), np.isfinite(x))
    assert np.array_equal(math("signbit", x), np.signbit(x))
    assert np.array_equal(math("isnormal", x), np.isfinite(x) & (np.abs(x) >= np.finfo(np.float32).tiny))
    a, b = PAIRS
    assert np.array_equal(math("isordered", a, b), ~(np.isnan(a) | np.isnan(b)))
    assert np.array_equal(math("isunordered", a, b), np.isnan(a) | np.isnan(b))


def test_parts_of_a_float(math, rng):
    x = np.concatenate([SPECIAL, any_float(rng, 50_000)])
    finite = x[np.isfinite(x)]
    fraction, exponent = np.frexp(finite)
    assert_same(math("frexp_fraction", finite), fraction, finite)
    assert np.array_equal(math("frexp_exponent", finite), exponent)
    fraction, whole = np.modf(x)
    assert_same(math("modf_fraction", x), fraction, x)
    assert_same(math("modf_whole", x), whole, x)
    nonzero = finite[finite != 0]
    assert np.array_equal(math("ilogb", nonzero), np.frexp(nonzero)[1] - 1)
    assert np.array_equal(
        math("ilogb", np.float32([0, np.inf, np.nan])), np.int32([-(2**31), 2**31 - 1, -(2**31)])
    )
    n = rng.integers(-320, 320, x.size).astype(np.int32)
    assert_same(math("ldexp", x, n), np.ldexp(x.astype(np.float64), n).astype(np.float32), x, n)


def test_sincos(math, rng):
    x = rng.uniform(-100, 100, 1000).astype(np.float32)
    assert np.array_equal(math("sincos_difference", x), math("sin", x) - math("cos", x))


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("exp", np.exp),
        ("log", np.log),
        ("tanh", np.tanh),
        ("sqrt", np.sqrt),
        ("sin", np.sin),
        ("floor", np.floor),
    ],
)
def test_half_functions_for_every_half(math, name, oracle):
    x = np.arange(65536, dtype=np.uint16).view(np.float16)
    assert_within(math(f"half_{name}", x), oracle(x.astype(np.float64)), 0.51, x, dtype=np.float16)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [("exp", np.exp), ("log", np.log), ("tanh", np.tanh), ("sqrt", np.sqrt), ("sin", np.sin)],
)
def test_bfloat_functions_for_every_bfloat(math, name, oracle):
    bits = np.arange(65536, dtype=np.uint16)
    x = (bits.astype(np.uint32) << 16).view(np.float32)
    y = (math(f"bfloat_{name}", bits).astype(np.uint32) << 16).view(np.float32)
    desired = oracle(x.astype(np.float64))
    # One unit of bfloat is 2^16 of float; numbers that overflow are left to the float test.
    finite = ~(np.abs(desired) > 3.3e38)
    assert_within(y[finite], desired[finite], 0.51 * 2**16, x[finite])


def test_half_functions_of_two(math, rng):
    x, y = (rng.integers(0, 65536, 100_000).astype(np.uint16).view(np.float16) for _ in range(2))
    assert_same(math("half_max", x, y), np.fmax(x, y), x, y)
    assert_same(math("half_nextafter", x, y), np.nextafter(x, y), x, y)
    assert_within(math("half_pow", x, y), np.power(x.astype(np.float64), y), 0.51, x, y, dtype=np.float16)
    assert np.array_equal(math("half_isnormal", x), np.isfinite(x) & (np.abs(x) >= np.finfo(np.float16).tiny))


@pytest.mark.tools
@pytest.mark.parametrize(
    "expression",
    [
        "max(1.0f, half(2))",
        "min(1, 2u)",
        "clamp(1.5f, 0, 1)",
        "pow(half(1), 2.0f)",
        "select(1, 2.0f, true)",
        "max(short(1), 2)",
        "mulhi(1u, 2)",
        "sqrt(2)",
        "isnan(1)",
        "fma(half(1), 2.0f, half(1))",
    ],
)
def test_calls_that_metal_finds_ambiguous_are_refused(expression):
    message = refusal(f"auto y = {expression};")
    assert (
        "this call is ambiguous on Metal: cast the arguments to one type, as in max(x, T(0)) or sqrt(float(n))"
        in message
    )
    assert "probe:1:" in message


@pytest.mark.tools
@pytest.mark.parametrize(
    "expression",
    [
        "metal::log1p(1.0f)",
        "erf(1.0f)",
        "expm1(1.0f)",
        "metal::hypot(1.0f, 2.0f)",
        "remainder(1.0f, 2.0f)",
        "cbrt(1.0f)",
    ],
)
def test_functions_that_metal_lacks_are_missing(expression):
    assert refusal(f"auto y = {expression};")


@pytest.mark.tools
def test_refusal_is_empty_for_what_compiles():
    assert refusal("auto y = max(1.0f, 2.0f) + pow(half(2), 2) + pow(2.0f, 3) + max(bfloat(1), 2.0f);") == ""


@pytest.mark.tools
def test_loops_vectorise():
    # All but fmod, where a huge quotient needs a loop; some compilers vectorise what surrounds it.
    names = {case.name for case in UNARY} | set(BINARY) | {"half_exp", "bfloat_tanh"}
    loops = [loop for loop in LOOPS if loop.name in names]
    assert vectorised(loops) >= names - {"fmod"}
