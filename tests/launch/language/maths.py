"""<metal_math>, <metal_common>, <metal_relational> and <metal_geometric>."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from language.row import Row
from language.scalars import bf, f32
from language.values import Values
from zmlx.testing.tolerance import round_to

_row = partial(Row, "Maths")
_modes = partial(Row, "fast:: and precise::")
_small = partial(Row, "Maths in half and bfloat")
_geometry = partial(Row, "Geometry")

F = np.float64


def _scalar(function: Callable[..., float]) -> Callable[..., Any]:
    return np.vectorize(function, otypes=[np.float64])


def _round(x: Any) -> Any:
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


#: Name -> (argument, NumPy function of it in float64). One row each; arguments keep off the places where a function
#: is badly conditioned, which is not what is tested here.
ONE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "exp": ("p[i]", np.exp),
    "exp2": ("p[i]", np.exp2),
    "exp10": ("p[i]", lambda x: 10.0**x),
    "log": ("e[i]", np.log),
    "log2": ("e[i]", np.log2),
    "log10": ("e[i]", np.log10),
    "sin": ("e[i]", np.sin),
    "cos": ("e[i]", np.cos),
    "tan": ("e[i]", np.tan),
    "sinpi": ("e[i]", lambda x: np.sin(np.pi * np.fmod(x, 2))),
    "cospi": ("e[i]", lambda x: np.cos(np.pi * np.fmod(x, 2))),
    "tanpi": ("e[i]", lambda x: np.tan(np.pi * np.fmod(x, 1))),
    "asin": ("p[i] / 8", np.arcsin),
    "acos": ("p[i] / 8", np.arccos),
    "atan": ("p[i]", np.arctan),
    "sinh": ("p[i]", np.sinh),
    "cosh": ("p[i]", np.cosh),
    "tanh": ("p[i]", np.tanh),
    "asinh": ("p[i]", np.arcsinh),
    "acosh": ("1 + e[i]", np.arccosh),
    "atanh": ("p[i] / 9", np.arctanh),
    "sqrt": ("e[i]", np.sqrt),
    "rsqrt": ("e[i]", lambda x: 1 / np.sqrt(x)),
    "floor": ("x[i]", np.floor),
    "ceil": ("x[i]", np.ceil),
    "trunc": ("x[i]", np.trunc),
    "rint": ("p[i] * 4", np.rint),
    "round": ("p[i] * 4", _round),
    "fabs": ("x[i]", np.abs),
    "abs": ("x[i]", np.abs),
    "fract": ("p[i]", lambda x: x - np.floor(x)),
    "saturate": ("p[i]", lambda x: np.clip(x, 0, 1)),
    "sign": ("p[i]", np.sign),
}
_EXACT = {"floor", "ceil", "trunc", "rint", "round", "fabs", "abs", "fract", "saturate", "sign", "sqrt"}

#: Name -> (arguments, function of the two or three of them).
MORE: dict[str, tuple[str, Callable[..., Any]]] = {
    "atan2": ("p[i], g[i] + 9", np.arctan2),
    "pow": ("e[i], g[i]", np.power),
    "powr": ("e[i], g[i]", np.power),
    "fmod": ("e[i], 0.75f", np.fmod),
    "divide": ("p[i], e[i]", np.divide),
    "copysign": ("x[i], y[i]", np.copysign),
    "fdim": ("p[i], g[i]", lambda x, y: np.maximum(x - y, 0)),
    "fmax": ("x[i], y[i]", np.fmax),
    "fmin": ("x[i], y[i]", np.fmin),
    "max": ("p[i], g[i]", np.maximum),
    "min": ("p[i], g[i]", np.minimum),
    "step": ("p[i], g[i]", lambda x, y: (y >= x) * 1.0),
    "fma": ("e[i], e[i], -p[i]", lambda x, y, z: x * y + z),
    "clamp": ("p[i], -2.0f, 3.0f", np.clip),
    "mix": ("p[i], g[i], 0.25f", lambda x, y, a: x + (y - x) * a),
    "smoothstep": (
        "-4.0f, 4.0f, p[i]",
        lambda lo, hi, x: (lambda t: t * t * (3 - 2 * t))(np.clip((x - lo) / (hi - lo), 0, 1)),
    ),
    "max3": ("p[i], g[i], 1.0f", lambda x, y, z: np.maximum(np.maximum(x, y), z)),
    "min3": ("p[i], g[i], 1.0f", lambda x, y, z: np.minimum(np.minimum(x, y), z)),
    "median3": ("p[i], g[i], 1.0f", lambda x, y, z: np.median(np.stack(np.broadcast_arrays(x, y, z)), 0)),
    "nextafter": ("p[i], g[i]", lambda x, y: np.nextafter(np.float32(x), np.float32(y))),
}
_EXACT |= {
    "copysign",
    "fmax",
    "fmin",
    "max",
    "min",
    "step",
    "clamp",
    "max3",
    "min3",
    "median3",
    "nextafter",
    "fmod",
}

#: ULPs that back ends may be off; CUDA's own functions are the reason for those above 4.
_ULPS = {
    "tan": 6,
    "tanpi": 6,
    "pow": 8,
    "powr": 8,
    "exp10": 6,
    "sinpi": 6,
    "cospi": 6,
    "acosh": 6,
    "divide": 1,
    "smoothstep": 6,
}


def _argument(text: str, V: Values) -> Any:
    """The value of an argument's text, computed as float32 as the kernel does."""
    names = {name: V[name] for name in V}
    code = (
        text.replace("[i]", "").replace("f,", ",").rstrip("f") if text[-1] == "f" else text.replace("[i]", "")
    )
    with np.errstate(all="ignore"):
        value = eval(code.replace("0f", "0").replace("5f", "5"), {}, names)
    return F(np.float32(value))


def _call(name: str, arguments: str, prefix: str = "") -> str:
    return f"out[i] = {prefix}{name}({arguments});"


def _rows_of_functions() -> list[Row]:
    rows = []
    for name, (arguments, function) in {**ONE, **MORE}.items():

        def expected(V: Values, arguments: str = arguments, function: Callable[..., Any] = function) -> Any:
            return function(*(_argument(part.strip(), V) for part in arguments.split(",")))

        ulp = 0.0 if name in _EXACT else _ULPS.get(name, 4)
        rows.append(
            _row(
                f"`{name}`",
                _call(name, arguments),
                expected,
                "float32",
                ulp=ulp,
                atol=3e-6 if name in ("sin", "cos", "tan") else 0,
            )
        )
    return rows


def _frexp(V: Values) -> Any:
    fraction, exponent = np.frexp(np.where(np.isfinite(V.x), V.x, 1))
    return fraction.astype("float32") * 1000 + exponent


MATHS = (
    *_rows_of_functions(),
    _row(
        "`sincos`",
        "float o; float f = sincos(e[i], o); out[i] = f + 2 * o;",
        lambda V: np.sin(F(V.e)) + 2 * np.cos(F(V.e)),
        "float32",
        ulp=8,
        atol=1e-6,
    ),
    _row(
        "`modf`",
        "float o; float f = modf(p[i], o); out[i] = f * 100 + o;",
        lambda V: np.modf(V.p)[0] * 100 + np.modf(V.p)[1],
        "float32",
        atol=1e-30,
    ),
    _row(
        "`frexp`",
        "int o; float f = frexp(isfinite(x[i]) ? x[i] : 1.0f, o); out[i] = f * 1000 + o;",
        _frexp,
        "float32",
        ulp=1,
    ),
    _row(
        "`ldexp`",
        "out[i] = ldexp(p[i], int(v[i]) - 40);",
        lambda V: np.ldexp(V.p, V.v.astype(int) - 40),
        "float32",
    ),
    _row(
        "`ilogb`",
        "out[i] = ilogb(e[i]) + ilogb(p[i] + 9);",
        lambda V: np.floor(np.log2(F(V.e))) + np.floor(np.log2(F(V.p) + 9)),
    ),
    _row(
        "`isnan`, `isinf`, `isfinite`, `isnormal`, `signbit`",
        (
            "out[i] = isnan(x[i]) + 2 * isinf(x[i]) + 4 * isfinite(x[i]) + 8 * isnormal(x[i]) + 16 * "
            "signbit(x[i] * (isnan(x[i]) ? 0.0f : 1.0f));"
        ),
        lambda V: (
            np.isnan(V.x)
            + 2 * np.isinf(V.x)
            + 4 * np.isfinite(V.x)
            + 8 * (np.isfinite(V.x) & (V.x != 0))
            + 16 * (np.signbit(V.x) & ~np.isnan(V.x))
            if not np.isnan(V.x).any()
            else _classes(V)
        ),
    ),
    _row(
        "`isordered`, `isunordered`",
        "out[i] = isordered(x[i], y[i]) + 2 * isunordered(x[i], y[i]);",
        lambda V: np.where(np.isnan(V.x) | np.isnan(V.y), 2, 1),
    ),
    _row(
        "of vectors",
        (
            "float4 o = exp(float4(p[i], g[i], 0, 1)) + max(float4(p[i]), float4(g[i], 1, 2, 3)) + "
            "pow(float4(e[i]), 2.0f); out[i] = o.x + o.y + o.z + o.w;"
        ),
        lambda V: (
            np.exp(F(V.p))
            + np.exp(F(V.g))
            + 1
            + np.e
            + np.maximum(V.p, V.g)
            + np.maximum(V.p, 1)
            + np.maximum(V.p, 2)
            + np.maximum(V.p, 3)
            + 4 * F(V.e) ** 2
        ),
        "float32",
        ulp=12,
        atol=1e-5,
    ),
    _row(
        "infinities and NaN",
        (
            "out[i] = exp(-INFINITY) + (log(0.0f) == -INFINITY) + 2 * isnan(log(-1.0f)) + 4 * "
            "isnan(sqrt(-1.0f)) + 8 * (tanh(INFINITY) == 1) + 16 * (exp(200.0f) == INFINITY) + 32 * "
            "isnan(exp(NAN)) + 64 * isnan(sin(INFINITY)) + 128 * (atan2(0.0f, -1.0f) > 3) + 256 * "
            "(pow(0.0f, -1.0f) == INFINITY) + 512 * (rsqrt(0.0f) == INFINITY) + 1024 * (fmax(NAN, 1.0f) "
            "== 1);"
        ),
        lambda V: np.full(64, 2047.0),
        "float32",
    ),
    _row(
        "of integers: as float",
        "out[i] = sqrt(float(v[i])) + floor(2.5f) + exp2(float(j[i]));",
        lambda V: np.sqrt(F(V.v)) + 2 + np.exp2(F(V.j)),
        "float32",
        ulp=2,
    ),
)


def _classes(V: Values) -> Any:
    finite, nan = np.isfinite(V.x), np.isnan(V.x)
    sign = np.where(nan, False, np.signbit(V.x))
    return np.where(
        nan,
        1 + 16 * np.signbit(np.nan * np.zeros(1))[0],
        2 * np.isinf(V.x) + 4 * finite + 8 * (finite & (V.x != 0)) + 16 * sign,
    )


_FAST = (
    "exp",
    "exp2",
    "exp10",
    "log",
    "log2",
    "log10",
    "sin",
    "cos",
    "tan",
    "sqrt",
    "rsqrt",
    "tanh",
    "atan2",
    "pow",
    "powr",
    "fmax",
    "clamp",
    "divide",
)


def _of_mode(mode: str, name: str) -> Row:
    arguments, function = {**ONE, **MORE}[name]

    def expected(V: Values) -> Any:
        return function(*(_argument(part.strip(), V) for part in arguments.split(",")))

    loose = (
        {"ulp": 256, "atol": 3e-5}
        if mode == "fast"
        else {
            "ulp": 0.0 if name in _EXACT else _ULPS.get(name, 4),
            "atol": 3e-6 if name in ("sin", "cos", "tan") else 0,
        }
    )
    return _modes(f"`{mode}::{name}`", _call(name, arguments, f"{mode}::"), expected, "float32", **loose)


MODES = tuple(_of_mode(mode, name) for mode in ("fast", "precise") for name in _FAST)

_HALVES = ("exp", "log", "sin", "tanh", "sqrt", "rsqrt", "floor", "round", "fabs", "saturate", "sign")


def _small_expected(kind: str, function: Callable[..., Any], name: str, V: Values) -> Any:
    dtype = {"half": "float16", "bfloat": "bfloat16"}[kind]
    value = round_to(F(V.e) if name in ("log", "sqrt", "rsqrt") else F(V.p) / 2, dtype)
    return round_to(function(value), dtype)


def _of_small(kind: str, name: str) -> Row:
    argument = f"{kind}({'e[i]' if name in ('log', 'sqrt', 'rsqrt') else 'p[i] / 2'})"
    dtype = {"half": "float16", "bfloat": "bfloat16"}[kind]
    return _small(
        f"`{name}({kind})`",
        _call(name, argument),
        partial(_small_expected, kind, ONE[name][1], name),
        dtype,
        ulp=1,
    )


SMALL = (
    *(_of_small(kind, name) for kind in ("half", "bfloat") for name in _HALVES),
    _small(
        "`max`, `min`, `clamp`, `fma`, `mix` of half",
        (
            "half o = max(h[i], k[i]) - min(h[i], half(1)); o = clamp(o, half(-5), half(5)); "
            "out[i] = fma(o, half(2), half(1)) + mix(half(1), half(3), half(0.5));"
        ),
        lambda V: (
            np.clip(np.maximum(V.h, V.k) - np.minimum(V.h, np.float16(1)), -5, 5) * np.float16(2)
            + np.float16(1)
            + np.float16(2)
        ),
        "float16",
    ),
    _small(
        "`max`, `min`, `abs` of bfloat",
        "out[i] = max(b[i], d[i]) - abs(min(b[i], bfloat(1)));",
        lambda V: bf(F(np.maximum(V.b, V.d)) - np.abs(np.minimum(V.b, 1))),
        "bfloat16",
    ),
    _small(
        "of half vectors",
        "half4 o = exp(half4(p[i] / 4, 0, 1, 2)); out[i] = o.x + float(o.w);",
        lambda V: f32(np.exp(F(V.p) / 4).astype("float16")) + f32(np.float16(np.exp(2))),
        "float32",
        ulp=2**13,
    ),
    _small(
        "`isnan`, `isinf` of half and bfloat",
        "out[i] = isnan(h[i]) + 2 * isinf(h[i] * half(9)) + 4 * isfinite(b[i]) + 8 * isnan(b[i] - b[i]);",
        lambda V: 2 * np.isinf(V.h * np.float16(9)) + 4,
    ),
)

GEOMETRY = (
    _geometry(
        "`dot`, `length`, `distance`",
        (
            "float3 f = float3(p[i], g[i], 2), o = float3(1, 2, p[i]); "
            "out[i] = dot(f, o) + length_squared(f) + distance_squared(f, o) + length(float2(3, 4)) + "
            "distance(float2(1), float2(4, 5));"
        ),
        lambda V: (
            V.p
            + 2 * V.g
            + 2 * V.p
            + V.p**2
            + V.g**2
            + 4
            + (V.p - 1) ** 2
            + (V.g - 2) ** 2
            + (2 - V.p) ** 2
            + 10
        ),
        "float32",
    ),
    _geometry(
        "`cross`, `normalize`",
        (
            "float3 o = cross(float3(p[i], g[i], 1), float3(2, 3, 4)); "
            "float3 f = normalize(float3(p[i] + 9, 3, 4)); out[i] = o.x + 2 * o.y + 3 * o.z + f.x * f.x "
            "+ f.y * f.y + f.z * f.z;"
        ),
        lambda V: (V.g * 4 - 3) + 2 * (2 - V.p * 4) + 3 * (V.p * 3 - V.g * 2) + 1,
        "float32",
        atol=1e-5,
    ),
    _geometry(
        "`reflect`, `refract`, `faceforward`",
        (
            "float2 o = reflect(float2(p[i], g[i]), float2(0, 1)); "
            "float2 f = refract(float2(0, -1), float2(0, 1), 0.5f); "
            "float2 m_ = faceforward(float2(0, 1), float2(p[i], g[i]), float2(0, 1)); "
            "out[i] = o.x + 10 * o.y + 100 * f.y + m_.y;"
        ),
        lambda V: V.p - 10 * V.g - 100 + np.where(V.g < 0, 1, -1),
        "float32",
        atol=1e-4,
    ),
    _geometry(
        "of half vectors",
        "out[i] = dot(half3(p[i], 1, 2), half3(2, g[i], 1)) + length(half2(3, 4));",
        lambda V: 2 * V.p + V.g + 2 + 5,
        "float16",
    ),
)

ROWS = (*MATHS, *MODES, *SMALL, *GEOMETRY)
assert math.pi > 3
