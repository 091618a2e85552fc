"""Vector types: constructors, swizzles, operators, packed forms, layout in memory."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from language.row import Row
from language.scalars import bf, f32, shifted
from language.values import Values

_vectors = partial(Row, "Vectors")
_layout = partial(Row, "Vectors in memory")

WIDTHS = {"2": 2, "3": 3, "4": 4}


def columns(*parts: Any) -> Any:
    """Vectors laid out one after the other, from their components."""
    return np.stack(np.broadcast_arrays(*parts), 1).ravel()


def first_of(values: Any, count: int) -> Any:
    """Components ``values[i + k]`` of a vector, wrapping around."""
    return [np.roll(values, -k) for k in range(count)]


def _loads(kind: str, name: str, lanes: int = 4) -> str:
    parts = ", ".join(f"{name}[(i + {k}) % 64]" for k in range(lanes))
    return f"{kind}{lanes}({parts})"


def _store(lanes: int, vector: str = "o") -> str:
    return f"for (int k_ = 0; k_ < {lanes}; ++k_) out[i * {lanes} + k_] = {vector}[k_];"


_ARITHMETIC = {
    "float": ("p", "g", "float32"),
    "half": ("h", "k", "float16"),
    "bfloat": ("b", "d", "bfloat16"),
    "int": ("n", "m", "int32"),
    "uint": ("u", "w", "uint32"),
    "char": ("c", "c", "int8"),
    "uchar": ("a", "a", "uint8"),
    "short": ("s", "s", "int16"),
    "ushort": ("r", "r", "uint16"),
    "long": ("l", "l", "int64"),
    "ulong": ("q", "q", "uint64"),
}


def _arithmetic(kind: str) -> list[Row]:
    """``a * b + a - 3`` in vectors of 2, 3 and 4, each with the element type's arithmetic."""
    first, second, dtype = _ARITHMETIC[kind]

    def expected(lanes: int, V: Values) -> Any:
        a, b = first_of(V[first], lanes), first_of(V[second], lanes)
        if kind == "bfloat":
            return columns(
                *(bf(bf(bf(np.float64(x) * y) + np.float64(x)) - 3) for x, y in zip(a, b, strict=True))
            )
        three = V[first].dtype.type(3)
        return columns(*(x * y + x - three for x, y in zip(a, b, strict=True)))

    return [
        _vectors(
            f"`{kind}{lanes}` arithmetic",
            f"{kind}{lanes} f = {_loads(kind, first, lanes)}; "
            f"{kind}{lanes} o = f * {_loads(kind, second, lanes)} + f - {kind}(3);"
            f" {_store(lanes)}",
            partial(expected, lanes),
            dtype,
        )
        for lanes in (2, 3, 4)
    ]


VECTORS = (
    *(row for kind in _ARITHMETIC for row in _arithmetic(kind)),
    _vectors(
        "`bool2`, `bool3`, `bool4`",
        (
            "bool4 o = bool4(t[i], n[i] > 0, true, false) && !bool4(bool2(t[i]), bool2(false, true)); "
            "out[i] = o.x + 2 * o.y + 4 * o.z + 8 * o.w;"
        ),
        lambda V: (V.n > 0) * ~V.t * 2 + 4,
    ),
    _vectors(
        "constructors from scalars and vectors",
        "float4 o = float4(p[i], float2(g[i], 1), 2) + float4(float3(p[i]), 5) + float4(float2(1, "
        "2), float2(3, 4)) + float4(7);"
        f" {_store(4)}",
        lambda V: columns(V.p + V.p + 8, V.g + V.p + 9, 1 + V.p + 10, np.full(64, 2 + 5 + 4 + 7)),
        "float32",
    ),
    _vectors(
        "conversion between element types",
        (
            f"int4 o = int4(float4(p[i], g[i], -1.5f, 2.9f)) + int4(uint4(u[i]) & 7u) + int4(half4(h[i] * "
            f"half(0))); {_store(4)}"
        ),
        lambda V: columns(np.trunc(V.p), np.trunc(V.g), -1, 2) + np.repeat((V.u & 7).astype("int32"), 4),
    ),
    _vectors(
        "`vec<T, N>`",
        f"vec<float, 3> o(p[i], g[i], 1); o += vec<float, 3>(vec<int, 3>(1, 2, 3)); {_store(3)}",
        lambda V: columns(V.p + 1, V.g + 2, 4),
        "float32",
    ),
    _vectors(
        "scalar operands",
        (
            "float2 o = 2 * float2(p[i], g[i]) - 1; o = 1.0f - o; o /= 4; out[i * 2] = o.x; "
            "out[i * 2 + 1] = o.y;"
        ),
        lambda V: columns((2 - 2 * V.p) / 4, (2 - 2 * V.g) / 4),
        "float32",
    ),
    _vectors(
        "components by name: `xyzw`, `rgba`",
        (
            "float4 o = float4(p[i], g[i], 3, 4); o.x += o.w; o.g = o.r * 2; o.b -= 1; "
            "out[i] = o.r + o.y * o.z - o.a;"
        ),
        lambda V: (V.p + 4) + (V.p + 4) * 2 * 2 - 4,
        "float32",
    ),
    _vectors(
        "components by index, dynamic too",
        "int4 o = int4(n[i], 2, 3, 4); o[v[i] % 4] = 7; o[1] += 1; out[i] = o[(v[i] + 1) % 4] % 1000;",
        lambda V: _dynamic_index(V),
    ),
    _vectors(
        "swizzles read",
        "float4 f = float4(p[i], g[i], 3, 4); float4 o = f.wzyx + f.xxyy * f.rgba + float4(f.zw, "
        "f.yx); float2 m = f.xyz.zx;"
        " out[i] = o.x + 10 * o.y + 100 * o.z + m.x;",
        lambda V: (4 + V.p * V.p + 3) + 10 * (3 + V.p * V.g + 4) + 100 * (V.g + V.g * 3 + V.g) + 3,
        "float32",
    ),
    _vectors(
        "swizzles written",
        "float4 o = float4(p[i], g[i], 3, 4); o.xy = o.yx; o.zw += 1; o.yz = o.zy; "
        "o.rb *= float2(2, 3); o.xyzw = o.wzyx + 0.5f;"
        f" {_store(4)}",
        lambda V: columns(np.full(64, 5.5), 3 * V.p + 0.5, np.full(64, 4.5), 2 * V.g + 0.5),
        "float32",
    ),
    _vectors(
        "swizzles of arrays, pointers and members",
        "struct lang_pair { float4 first, second; }; lang_pair o[2]; o[0].first = float4(p[i]); "
        "o[1].second.xy = float2(g[i], 1);"
        " thread lang_pair* f = &o[1]; f->second.zw = o[0].first.xy; "
        "out[i] = f->second.xyz.z + o[1].second.yx.y;",
        lambda V: V.p + V.g,
        "float32",
    ),
    _vectors(
        "a member may be called like a swizzle",
        "lang_box o; o.ab = p[i]; o.xy = float2(1, 2); out[i] = o.ab + o.xy.x;",
        lambda V: V.p + 1,
        "float32",
        header="struct lang_box { float ab; float2 xy; };",
        alone=True,
    ),
    _vectors(
        "comparisons give bool vectors",
        (
            "bool4 o = float4(p[i], g[i], 1, 2) < float4(g[i], p[i], p[i], 2); "
            "out[i] = o.x + 2 * o.y + 4 * o.z + 8 * o.w;"
        ),
        lambda V: (V.p < V.g) + 2 * (V.g < V.p) + 4 * (V.p > 1),
    ),
    _vectors(
        "`any`, `all`, `select`",
        "int2 f = int2(n[i], m[i]); int2 o = select(f, int2(5, 6), f > 0); "
        "out[i] = any(f > 0) + 2 * all(f > 0) + 4 * (o.x == 5) + 8 * (o.y == 6)"
        " + 16 * select(1, 2, t[i]);",
        lambda V: (
            ((V.n > 0) | (V.m > 0))
            + 2 * ((V.n > 0) & (V.m > 0))
            + 4 * ((V.n > 0) | (V.n == 5))
            + 8 * ((V.m > 0) | (V.m == 6))
            + 16 * np.where(V.t, 2, 1)
        ),
    ),
    _vectors(
        "bitwise operators and shifts",
        (
            "uint2 o = (uint2(u[i], w[i]) & 0xffffu) ^ ~uint2(w[i]); o = (o << uint2(v[i], 3)) >> 2; "
            "o |= uint2(1); out[i] = o.x ^ o.y;"
        ),
        lambda V: (
            ((shifted((V.u & 0xFFFF) ^ ~V.w, V.v, 32) >> 2) | 1) ^ (((((V.w & 0xFFFF) ^ ~V.w) << 3) >> 2) | 1)
        ),
        "uint32",
    ),
    _vectors(
        "`&&`, `||`, `!`, unary `-`, `~`, `++`",
        (
            "int2 o = int2(n[i], m[i]); o++; ++o; o = -o; o = ~o; "
            "bool2 f = !(o > 0) || (o < -5 && bool2(t[i], true)); out[i] = o.x + f.x * 2 - f.y;"
        ),
        lambda V: _logic(V),
    ),
    _vectors(
        "integer division and remainder",
        "int2 o = int2(n[i], 7) / int2(j[i]); o %= 5; out[i] = o.x * 10 + o.y;",
        lambda V: _division(V),
    ),
    _vectors(
        "compound assignment of every operator",
        (
            "uint3 o = uint3(u[i], w[i], 5); o += 3; o -= uint3(1, 2, 3); o *= 7; o ^= uint3(w[i]); "
            "o <<= 3; o >>= uint3(1, 2, 3); out[i] = o.x ^ o.y ^ o.z;"
        ),
        lambda V: _compound(V),
        "uint32",
    ),
    _vectors(
        "`?:` with vectors",
        "float2 o = t[i] ? float2(p[i], 1) : float2(2); out[i] = o.x + o.y;",
        lambda V: np.where(V.t, V.p + 1, 4),
        "float32",
    ),
    _vectors(
        "`as_type` of vectors",
        (
            "uchar4 o = as_type<uchar4>(u[i]); out[i] = as_type<uint>(o.wzyx) ^ "
            "as_type<uint>(half2(h[i], k[i])) ^ uint(o[2]);"
        ),
        lambda V: (
            V.u.byteswap()
            ^ (V.h.view("uint16").astype("uint32") | V.k.view("uint16").astype("uint32") << 16)
            ^ (V.u >> 16 & 255)
        ),
        "uint32",
    ),
    _vectors(
        "arguments and results of functions",
        "float3 o = float3(p[i], g[i], 1); lang_scale(o, 3); o = lang_turn(o); out[i] = o.x + 10 * o.y;",
        lambda V: 3 * V.g + 30,
        "float32",
        header=(
            "void lang_scale(thread float3& v, float by) { v *= by; v.z = by; "
            "}\nfloat3 lang_turn(const float3 v) { return v.yzx; }"
        ),
    ),
    _vectors(
        "half and bfloat vectors in mixed expressions",
        (
            "float4 o = float4(half4(h[i])) * 0.5f + float4(bfloat4(b[i])); "
            "out[i] = o.x + float(half2(p[i], g[i]).y);"
        ),
        lambda V: f32(V.h) * np.float32(0.5) + V.b + V.g,
        "float32",
        ulp=1,
    ),
    _vectors(
        "aggregates of vectors",
        (
            "float2 o[3] = {float2(p[i], 1), {g[i], 2}, float2(0)}; o[2] = o[0] + o[1]; "
            "out[i] = o[2].x * o[2].y;"
        ),
        lambda V: (V.p + V.g) * 3,
        "float32",
    ),
)


def _dynamic_index(V: Values) -> Any:
    o = np.stack([V.n.astype("int64"), np.full(64, 2), np.full(64, 3), np.full(64, 4)], 1)
    rows = np.arange(64)
    o[rows, V.v % 4] = 7
    o[:, 1] += 1
    return np.fmod(o[rows, (V.v + 1) % 4], 1000)


def _logic(V: Values) -> Any:
    x, y = (~-(a.astype("int32") + np.int32(2)) for a in (V.n, V.m))
    f = ~(x > 0) | ((x < -5) & V.t)
    g = ~(y > 0) | (y < -5)
    return x + f * np.int32(2) - g


def _division(V: Values) -> Any:
    from language.scalars import remainder, truncated

    return remainder(truncated(V.n, V.j), 5) * 10 + remainder(truncated(np.full(64, 7), V.j), 5)


def _compound(V: Values) -> Any:
    three = [V.u, V.w, np.full(64, 5, "uint32")]
    total = np.zeros(64, "uint32")
    for k, o in enumerate(three):
        o = ((o + np.uint32(3) - np.uint32(k + 1)) * np.uint32(7)) ^ V.w
        total ^= (o << np.uint32(3)) >> np.uint32(k + 1)
    return total


_SIZES = (
    "sizeof(float2)",
    "sizeof(float3)",
    "sizeof(float4)",
    "sizeof(half3)",
    "sizeof(uchar3)",
    "sizeof(long3)",
    "sizeof(bool3)",
    "alignof(float2)",
    "alignof(half4)",
    "alignof(uchar3)",
    "sizeof(packed_float3)",
    "alignof(packed_float3)",
    "sizeof(packed_half3)",
    "sizeof(packed_uchar3)",
    "alignof(packed_short2)",
    "sizeof(packed_long3)",
    "sizeof(lang_layout)",
    "alignof(lang_layout)",
)

#: Of vectors of 16 bytes and more, on the CPU.
_ALIGNMENT = (
    "MLX's CPU arrays begin 8 bytes past a multiple of 16, so that is all that vectors are aligned to there"
)

LAYOUT = (
    _layout(
        "sizes and alignments",
        f"int o[] = {{{', '.join(f'int({size})' for size in _SIZES)}}}; out[i] = o[i % 18];",
        lambda V: np.array([8, 16, 16, 8, 4, 32, 4, 8, 8, 4, 12, 4, 6, 3, 2, 24, 24, 8])[np.arange(64) % 18],
        header="struct lang_layout { half3 a; float b; packed_float3 c; };",
    ),
    _layout(
        "16 and 32 byte alignment",
        (
            "struct lang_wide { float a; float4 b; }; out[i] = alignof(float4) + 100 * sizeof(lang_wide) "
            "+ 10000 * alignof(long4);"
        ),
        lambda V: np.full(64, 16 + 3200 + 320000),
        differs={"cpu": _ALIGNMENT},
    ),
    _layout(
        "packed vectors: arithmetic and conversion",
        (
            "packed_float3 o = float3(p[i], g[i], 1); o.x += 2; o[1] *= 2; float3 f = o; "
            "f = o * 2.0f + f; packed_half2 m = packed_half2(half2(f.xy)); out[i] = f.z + m.y;"
        ),
        lambda V: 3 + (6 * V.g).astype("float16").astype("float32"),
        "float32",
    ),
    _layout(
        "packed vectors: swizzles and comparison",
        (
            "packed_uchar4 o = packed_uchar4(uchar4(a[i], 1, 2, 3)); bool4 f = o == uchar4(1, 1, 3, 3); "
            "out[i] = o.wx.x + 10 * f.y + 100 * f.z + 1000 * any(f) + 10000 * all(uchar4(o) == o);"
        ),
        lambda V: np.full(64, 3 + 10 + 1000 + 10000),
    ),
    _layout(
        "a pointer to vectors over scalars",
        "const device float4* o = (const device float4*)p; out[i] = o[i % 16].z + o[(i + 1) % 16].x;",
        lambda V: np.tile(V.p[2::4] + np.roll(V.p[::4], -1), 4),
        "float32",
    ),
    _layout(
        "`reinterpret_cast` to 16-byte loads",
        "uint4 o = reinterpret_cast<const device uint4*>(u)[i % 16]; out[i] = o.x ^ o.y ^ o.z ^ o.w;",
        lambda V: np.tile(np.bitwise_xor.reduce(V.u.reshape(16, 4), 1), 4),
        "uint32",
    ),
    _layout(
        "16-byte stores",
        "if (i < 16) ((device int4*)out)[i] = *((const device int4*)(n + 4 * i)) / 2;",
        lambda V: V.n // 2 + ((V.n < 0) & (V.n % 2 != 0)),
    ),
    _layout(
        "packed loads of three",
        "float3 o = float3(((const device packed_float3*)p)[i % 21]); out[i] = o.x + 10 * o.z;",
        lambda V: (V.p[:63:3] + 10 * V.p[2::3])[np.arange(64) % 21],
        "float32",
    ),
    _layout(
        "half vectors as 16-bit pairs",
        "half2 o = ((const device half2*)h)[i / 2]; out[i] = i % 2 ? o.y : o.x;",
        lambda V: V.h,
        "float16",
    ),
    _layout(
        "vectors of chars",
        ("uchar4 o = ((const device uchar4*)a)[i % 16]; uint4 f = uint4(o); out[i] = f.x + f.y + f.z + f.w;"),
        lambda V: np.tile(V.a.reshape(16, 4).astype("uint32").sum(1), 4),
        "uint32",
    ),
)

ROWS = (*VECTORS, *LAYOUT)
