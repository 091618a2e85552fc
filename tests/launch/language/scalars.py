"""Scalar types, their arithmetic, conversions and literals."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from language.row import Row
from zmlx.testing.tolerance import round_to

_integers = partial(Row, "Integers")
_floats = partial(Row, "Floating point")
_conversions = partial(Row, "Conversions and literals")


def truncated(a: Any, b: Any) -> Any:
    """Division towards zero."""
    a, b = np.asarray(a, dtype=object), np.asarray(b, dtype=object)
    quotient = abs(a) // abs(b)
    return np.where((a < 0) != (b < 0), -quotient, quotient)


def remainder(a: Any, b: Any) -> Any:
    return np.asarray(a, dtype=object) - truncated(a, b) * np.asarray(b, dtype=object)


def bf(values: Any) -> Any:
    return round_to(np.asarray(values, np.float64), "bfloat16").astype(np.float32)


def f32(values: Any) -> Any:
    return np.asarray(values).astype(np.float32)


def shifted(values: Any, amounts: Any, bits: int) -> Any:
    """Left by ``amounts`` modulo ``bits``, in the type of the values."""
    amounts = amounts % bits
    return np.left_shift(values, amounts.astype(values.dtype))


INTEGERS = (
    _integers(
        "`uint` wraps around",
        "out[i] = u[i] * w[i] + u[i] - w[i];",
        lambda V: V.u * V.w + V.u - V.w,
        "uint32",
    ),
    _integers("`ulong`: 64 bits", "out[i] = q[i] * 3 + u[i];", lambda V: V.q * np.uint64(3) + V.u, "uint64"),
    _integers(
        "`long`: 64 bits",
        "out[i] = (l[i] >> 3) + long(n[i]) * m[i];",
        lambda V: (V.l >> 3) + V.n.astype("int64") * V.m,
        "int64",
    ),
    _integers("division truncates", "out[i] = n[i] / j[i];", lambda V: truncated(V.n, V.j)),
    _integers("`%` has the sign of the dividend", "out[i] = n[i] % j[i];", lambda V: remainder(V.n, V.j)),
    _integers(
        "unsigned division",
        "out[i] = u[i] / (w[i] | 1u) + u[i] % (w[i] | 1u);",
        lambda V: V.u // (V.w | 1) + V.u % (V.w | 1),
        "uint32",
    ),
    _integers(
        "`char`, `uchar` promote to int",
        "out[i] = c[i] * c[i] + a[i] * a[i];",
        lambda V: V.c.astype("int32") ** 2 + V.a.astype("int32") ** 2,
    ),
    _integers(
        "`short`, `ushort` promote to int",
        "out[i] = s[i] * 3 - r[i];",
        lambda V: V.s.astype("int32") * 3 - V.r.astype("int32"),
    ),
    _integers(
        "`char` keeps 8 bits",
        "char k = char(c[i] + 100); out[i] = k;",
        lambda V: (V.c.astype("int32") + 100).astype("int8"),
    ),
    _integers(
        "`uchar` keeps 8 bits",
        "uchar k = a[i]; k += 77; k *= 3; out[i] = k;",
        lambda V: (V.a + np.uint8(77)) * np.uint8(3),
    ),
    _integers(
        "`short` and `ushort` keep 16 bits",
        "short k = short(s[i] * 5); ushort o = r[i]; o -= 9; out[i] = k + o;",
        lambda V: (V.s * np.int16(5)).astype("int32") + (V.r - np.uint16(9)),
    ),
    _integers(
        "signed meets unsigned",
        "out[i] = (n[i] < w[i]) + 2 * (c[i] < a[i]) + 4 * (n[i] < l[i]);",
        lambda V: (V.n.astype("uint32") < V.w) + 2 * (V.c.astype(int) < V.a) + 4 * (V.n < V.l),
    ),
    _integers(
        "bitwise operators",
        "out[i] = (u[i] & w[i]) ^ ~(u[i] | 0xf0u);",
        lambda V: (V.u & V.w) ^ ~(V.u | np.uint32(0xF0)),
        "uint32",
    ),
    _integers(
        "`<<` takes the amount modulo 32", "out[i] = u[i] << v[i];", lambda V: shifted(V.u, V.v, 32), "uint32"
    ),
    _integers(
        "`>>` of int keeps the sign", "out[i] = n[i] >> v[i];", lambda V: V.n >> (V.v % 32).astype("int32")
    ),
    _integers("`>>` of uint brings zeros", "out[i] = u[i] >> v[i];", lambda V: V.u >> (V.v % 32), "uint32"),
    _integers(
        "64-bit shifts: modulo 64",
        "out[i] = (q[i] << v[i]) ^ (q[i] >> (v[i] + 1));",
        lambda V: shifted(V.q, V.v, 64) ^ (V.q >> ((V.v + 1) % 64).astype("uint64")),
        "uint64",
    ),
    _integers(
        "small types are shifted as int",
        "out[i] = (c[i] << v[i]) ^ (a[i] << 7);",
        lambda V: shifted(V.c.astype("int32"), V.v, 32) ^ (V.a.astype("int32") << 7),
    ),
    _integers(
        "`<<=`, `>>=`",
        "uint o = u[i]; o <<= v[i]; uint f = u[i]; f >>= v[i] + 3; out[i] = o ^ f;",
        lambda V: shifted(V.u, V.v, 32) ^ (V.u >> ((V.v + 3) % 32)),
        "uint32",
    ),
    _integers(
        "negative shift amounts: modulo 32",
        "out[i] = u[i] << -int(v[i]);",
        lambda V: shifted(V.u, -V.v.astype("int64"), 32),
        "uint32",
    ),
    _integers(
        "`++`, `--`, compound assignment",
        "int o = n[i] / 4; o++; ++o; o -= 5; o *= 3; o %= 1000; o |= 64; o--; out[i] = o;",
        lambda V: (remainder((truncated(V.n, 4) + 2 - 5) * 3, 1000).astype("int32") | 64) - 1,
    ),
    _integers(
        "`bool` arithmetic",
        "bool o = t[i]; o = o + 5; out[i] = t[i] + t[i] + o * 10 + !t[i] * 100;",
        lambda V: V.t * 2 + 10 + ~V.t * 100,
    ),
    _integers(
        "`bool` inputs and outputs",
        "out[i] = !t[i] || (n[i] > 0 && t[i]);",
        lambda V: ~V.t | (V.n > 0),
        "bool",
    ),
    _integers(
        "8-bit inputs and outputs", "out[i] = c[i] ^ char(a[i]);", lambda V: V.c ^ V.a.astype("int8"), "int8"
    ),
    _integers(
        "16-bit inputs and outputs", "out[i] = r[i] + s[i];", lambda V: V.r + V.s.astype("uint16"), "uint16"
    ),
    _integers(
        "`size_t`, `ptrdiff_t`: 64 bits",
        "size_t o = size_t(u[i]) << 32; ptrdiff_t f = &x[3] - &x[i]; out[i] = o + f;",
        lambda V: (V.u.astype("int64") << 32) + 3 - np.arange(64),
        "int64",
    ),
    _integers(
        "sizes of the scalar types",
        "out[i] = sizeof(bool) + 10 * sizeof(char) + 100 * sizeof(short) + 1000 * sizeof(int) + "
        "10000 * sizeof(long)"
        " + 100000 * sizeof(half) + 1000000 * sizeof(bfloat) + 10000000 * sizeof(float) + 100000000 "
        "* sizeof(size_t);",
        lambda V: np.full(64, 842284211),
    ),
    _integers(
        "fixed-width names",
        "out[i] = int8_t(n[i]) + uint8_t(n[i]) + int16_t(n[i]) + uint16_t(n[i]) + int32_t(3)"
        " + int(uint32_t(4)) + int(int64_t(5)) + int(uint64_t(6));",
        lambda V: (
            V.n.astype("int8").astype(int)
            + V.n.astype("uint8")
            + V.n.astype("int16")
            + V.n.astype("uint16")
            + 18
        ),
    ),
    _integers(
        "increments of memory",
        "out[i] = 3; out[i]++; ++out[i]; out[i] <<= v[i] % 5; out[i] -= i;",
        lambda V: (5 << (V.v % 5).astype(int)) - np.arange(64),
    ),
)

FLOATS = (
    _floats("float arithmetic", "out[i] = x[i] * y[i];", lambda V: V.x * V.y, "float32"),
    _floats("float division, by zero too", "out[i] = x[i] / y[i];", lambda V: V.x / V.y, "float32"),
    _floats(
        "float comparisons with NaN",
        (
            "out[i] = (x[i] < y[i]) + 2 * (x[i] <= y[i]) + 4 * (x[i] == y[i]) + 8 * (x[i] != y[i]) + 16 "
            "* !(x[i] > y[i]);"
        ),
        lambda V: (V.x < V.y) + 2 * (V.x <= V.y) + 4 * (V.x == V.y) + 8 * (V.x != V.y) + 16 * ~(V.x > V.y),
    ),
    _floats("the sign of zero", "out[i] = -x[i] * 0.0f;", lambda V: -V.x * np.float32(0), "float32"),
    _floats(
        "half rounds after each operation",
        "out[i] = h[i] * k[i] + h[i] - k[i];",
        lambda V: V.h * V.k + V.h - V.k,
        "float16",
    ),
    _floats("half division", "out[i] = h[i] / k[i];", lambda V: V.h / V.k, "float16"),
    _floats(
        "half overflows to infinity",
        "out[i] = h[i] * half(2000) + k[i];",
        lambda V: V.h * np.float16(2000) + V.k,
        "float16",
    ),
    _floats(
        "half with int: half",
        "out[i] = h[i] * 3 + n[i] % 5000;",
        lambda V: V.h * np.float16(3) + remainder(V.n, 5000).astype("float16"),
        "float32",
    ),
    _floats(
        "half with float: float",
        "out[i] = h[i] * 3.0f + k[i] / 7.0f;",
        lambda V: f32(V.h) * np.float32(3) + f32(V.k) / np.float32(7),
        "float32",
        ulp=1,
    ),
    _floats(
        "half comparisons",
        "out[i] = (h[i] < k[i]) + 2 * (h[i] >= 1) + 4 * (h[i] == 0.0f) + 8 * !h[i];",
        lambda V: (V.h < V.k) + 2 * (V.h >= 1) + 4 * (V.h == 0) + 8 * (V.h == 0),
    ),
    _floats(
        "half `++`, `-`, compound assignment",
        "half o = h[i]; o++; o -= k[i]; o *= 0.5f; o += 1; out[i] = -o;",
        lambda V: -(f32(V.h + np.float16(1) - V.k) * np.float32(0.5)).astype("float16") - np.float16(1),
        "float16",
    ),
    _floats(
        "int `+=` half: rounded as half",
        "int o = 2049; o += k[i] * half(0) + half(1); out[i] = o;",
        lambda V: np.where(np.isfinite(V.k), 2048, 0) + 0 * V.n,
    ),
    _floats(
        "bfloat rounds after each operation",
        "out[i] = b[i] * d[i] + b[i] - d[i];",
        lambda V: bf(bf(bf(np.float64(V.b) * V.d) + np.float64(V.b)) - V.d),
        "bfloat16",
    ),
    _floats(
        "bfloat division",
        "out[i] = b[i] / (d[i] + bfloat(8));",
        lambda V: bf(np.float64(V.b) / bf(np.float64(V.d) + 8)),
        "bfloat16",
    ),
    _floats(
        "bfloat overflows to infinity",
        "out[i] = b[i] * bfloat(1e36f);",
        lambda V: bf(np.float64(V.b) * bf(1e36)),
        "bfloat16",
    ),
    _floats(
        "bfloat with float: float",
        "out[i] = b[i] * 0.1f + d[i];",
        lambda V: V.b * np.float32(0.1) + V.d,
        "float32",
        ulp=1,
    ),
    _floats(
        "bfloat comparisons",
        "out[i] = (b[i] < d[i]) + 2 * (b[i] != d[i]) + 4 * (b[i] > 0);",
        lambda V: (V.b < V.d) + 2 * (V.b != V.d) + 4 * (V.b > 0),
    ),
    _floats(
        "bfloat compound assignment",
        "bfloat o = b[i]; o += d[i]; o *= bfloat(3); o -= 1; out[i] = o;",
        lambda V: bf(bf(bf(np.float64(V.b) + V.d) * 3) - 1),
        "bfloat16",
    ),
    _floats(
        "`numeric_limits`",
        "float o[] = {numeric_limits<float>::max(), numeric_limits<float>::lowest(), "
        "numeric_limits<half>::max(),"
        " numeric_limits<float>::epsilon(), numeric_limits<half>::epsilon(), "
        "float(numeric_limits<bfloat>::epsilon()),"
        " float(numeric_limits<int>::min()), float(numeric_limits<uchar>::max())}; out[i] = o[i % 8];",
        lambda V: np.tile(
            np.array([3.4028235e38, -3.4028235e38, 65504, 2**-23, 2**-10, 2**-7, -(2**31), 255]), 8
        ),
        "float32",
    ),
    _floats(
        "limits and constants as macros",
        "float o[] = {FLT_MAX, HALF_MAX, INFINITY, float(INT_MAX), M_PI_F, M_E_F, M_SQRT2_F, "
        "float(UCHAR_MAX)};"
        " out[i] = o[i % 8];",
        lambda V: np.tile(np.array([3.4028235e38, 65504, np.inf, 2**31, np.pi, np.e, 2**0.5, 255]), 8),
        "float32",
    ),
    _floats(
        "infinities and NaN stay in safe mode",
        (
            "float o = x[i] - x[i]; out[i] = (o != o) + 2 * (x[i] * 0.0f == 0.0f) + 4 * (exp(-INFINITY) "
            "== 0.0f);"
        ),
        lambda V: ~np.isfinite(V.x) + 2 * np.isfinite(V.x) + 4,
    ),
    _floats(
        "`math_mode` relaxed and fast are accepted",
        "out[i] = p[i] * g[i] + 1.0f;",
        lambda V: V.p * V.g + np.float32(1),
        "float32",
        math_mode="fast",
    ),
)


def _converted(values: Any, dtype: str, low: float, high: float) -> Any:
    """Toward zero, for values inside the type's range; 0 elsewhere."""
    inside = (values > low) & (values < high)
    return np.where(inside, np.trunc(np.where(inside, values, 0)), 0).astype(dtype)


CONVERSIONS = (
    _conversions(
        "float to int truncates",
        "out[i] = abs(x[i]) < 2e9f ? int(x[i] * 3.7f) : 0;",
        lambda V: np.where(np.abs(V.x) < 2e9, _converted(V.x * np.float32(3.7), "int32", -2.1e9, 2.1e9), 0),
    ),
    _conversions(
        "float to the small integers, in range",
        "out[i] = char(p[i]) + uchar(abs(p[i])) + short(p[i]) + ushort(abs(p[i]));",
        lambda V: 2 * np.trunc(V.p) + 2 * np.trunc(np.abs(V.p)),
    ),
    _conversions(
        "float to long",
        "out[i] = long(p[i] * 1e12f);",
        lambda V: (V.p * np.float32(1e12)).astype("int64"),
        "int64",
    ),
    _conversions(
        "int to float rounds to nearest even",
        "out[i] = float(n[i]) + u[i];",
        lambda V: f32(V.n) + f32(V.u),
        "float32",
    ),
    _conversions(
        "long to float", "out[i] = l[i]; out[i] += float(q[i]);", lambda V: f32(V.l) + f32(V.q), "float32"
    ),
    _conversions(
        "float to half: nearest even, subnormal, overflow",
        "out[i] = x[i];",
        lambda V: V.x.astype("float16"),
        "float16",
    ),
    _conversions("float to bfloat: nearest even", "out[i] = bfloat(x[i]);", lambda V: bf(V.x), "bfloat16"),
    _conversions(
        "half to float and bfloat",
        "out[i] = float(h[i]) + float(bfloat(h[i]));",
        lambda V: f32(V.h) + bf(V.h),
        "float32",
    ),
    _conversions("bfloat to half", "out[i] = half(b[i]);", lambda V: V.b.astype("float16"), "float16"),
    _conversions(
        "int to half",
        "out[i] = half(s[i]) + half(a[i]);",
        lambda V: V.s.astype("float16") + V.a.astype("float16"),
        "float16",
    ),
    _conversions(
        "half to int",
        "out[i] = int(h[i]) + uint(abs(k[i]));",
        lambda V: np.trunc(f32(V.h)) + np.trunc(np.abs(f32(V.k))),
    ),
    _conversions(
        "to bool",
        "out[i] = bool(x[i]) + 2 * bool(h[i]) + 4 * bool(n[i]) + 8 * (b[i] ? 1 : 0);",
        lambda V: (V.x != 0) + 2 * (V.h != 0) + 4 * (V.n != 0) + 8 * (V.b != 0),
    ),
    _conversions(
        "implicit conversions of arguments and results",
        (
            "half o = p[i]; float f = o; int y = f; bfloat z = bfloat(y); "
            "out[i] = lang_half(n[i] % 100) + float(z);"
        ),
        lambda V: remainder(V.n, 100).astype("float32") * np.float32(0.5) + np.trunc(V.p),
        "float32",
        header="half lang_half(float v) { return v * 0.5h; }",
    ),
    _conversions(
        "C, functional and `static_cast`",
        "out[i] = (int)p[i] + int(p[i]) + static_cast<int>(p[i]) + (int)(p[i] + 1);",
        lambda V: 3 * np.trunc(V.p) + np.trunc(V.p + 1),
    ),
    _conversions(
        "`as_type`",
        "out[i] = as_type<uint>(x[i]) ^ as_type<uint>(n[i]) ^ as_type<ushort>(h[i]);",
        lambda V: V.x.view("uint32") ^ V.n.view("uint32") ^ V.h.view("uint16"),
        "uint32",
    ),
    _conversions(
        "`as_type` back",
        "out[i] = as_type<float>(as_type<uint>(p[i]) + 1u);",
        lambda V: (V.p.view("uint32") + np.uint32(1)).view("float32"),
        "float32",
    ),
    _conversions(
        "literals without suffix are float",
        "out[i] = p[i] * 0.1 + 1e-3 + .5 + 2.;",
        lambda V: V.p * np.float32(0.1) + np.float32(1e-3) + np.float32(0.5) + np.float32(2),
        "float32",
        ulp=1,
    ),
    _conversions(
        "half literals",
        "out[i] = h[i] * 0.1h + 2.5H;",
        lambda V: V.h * np.float16(0.1) + np.float16(2.5),
        "float16",
    ),
    _conversions(
        "hexadecimal float literals",
        "out[i] = 0x1.8p+1 + 0x1p-3f + p[i];",
        lambda V: np.float32(3.125) + V.p,
        "float32",
    ),
    _conversions(
        "hexadecimal, binary, octal, separated integers",
        "out[i] = 0xFF + 0b1010 + 017 + 1'000 + 'A' + '\\n' + 3u + 4l;",
        lambda V: np.full(64, 255 + 10 + 15 + 1000 + 65 + 10 + 7),
    ),
    _conversions(
        "`?:` between half and float",
        "out[i] = t[i] ? h[i] : 0.1;",
        lambda V: np.where(V.t, f32(V.h), np.float32(0.1)),
        "float32",
    ),
    _conversions(
        "`?:` between half and int",
        "half o = t[i] ? h[i] : 7; out[i] = t[i] ? 3 : o;",
        lambda V: np.where(V.t, 3, 7),
        "float16",
    ),
    _conversions(
        "`?:` between bfloat and int, nested",
        "out[i] = t[i] ? b[i] : n[i] > 0 ? 1 : d[i];",
        lambda V: np.where(V.t, V.b, np.where(V.n > 0, 1, V.d)),
        "bfloat16",
    ),
    _conversions(
        "`?:` evaluates one side",
        "int o = 0; (t[i] ? o += 1 : o += 10); out[i] = t[i] ? o : j[1000000 * t[i]];",
        lambda V: np.where(V.t, 1, V.j[0]),
    ),
    _conversions(
        "`?:` as a reference",
        "int o = 1, f = 2; (t[i] ? o : f) = 9; out[i] = o * 10 + f;",
        lambda V: np.where(V.t, 92, 19),
    ),
)

ROWS = (*INTEGERS, *FLOATS, *CONVERSIONS)
