from __future__ import annotations

import pytest

from zmlx.metal.signature import ArrayType, KernelSource, make_signature
from zmlx.translate import translate
from zmlx.translate.unit import may_use_small_floats

pytestmark = pytest.mark.cpu


def body(source: str, header: str = "", small_floats: bool = False) -> str:
    return translate(KernelSource("k", ("x",), ("out",), source, header), "cuda", small_floats).body


@pytest.mark.parametrize(
    ("metal", "cpp"),
    [
        ("a = v.xy;", "a = v.swizzle(metal::swz<0, 1>());"),
        ("v.xy = w.zw;", "v.swizzle_ref(metal::swz<0, 1>()) = w.swizzle(metal::swz<2, 3>());"),
        ("v.rgb += 1;", "v.swizzle_ref(metal::swz<0, 1, 2>()) += 1;"),
        ("a = p->wzyx;", "a = p->swizzle(metal::swz<3, 2, 1, 0>());"),
        ("a = v.xyz.zx;", "a = v.swizzle(metal::swz<0, 1, 2>()).swizzle(metal::swz<2, 0>());"),
        ("a = v.xx == w.yy;", "a = v.swizzle(metal::swz<0, 0>()) == w.swizzle(metal::swz<1, 1>());"),
        ("float2 xy = v.xy;", "float2 xy = v.swizzle(metal::swz<0, 1>());"),
        ("a = v.x + v.w + v.a;", "a = v.x + v.w + v.a;"),
        ("a = v.xyq + v.rgx;", "a = v.xyq + v.rgx;"),
        ("a = s.ab();", "a = s.ab();"),
    ],
)
def test_swizzles(metal, cpp):
    assert body(metal) == cpp


def test_a_member_that_looks_like_a_swizzle_is_left_alone():
    header = "struct Pair { float2 xy; float2 zw, ab; float2 rg[2]; };"
    assert body("p.xy = q.ab; r.rg[0] = s.zw;", header) == "p.xy = q.ab; r.rg[0] = s.zw;"
    assert "swizzle" in body("float2 xy = p.xy;", "float2 xy(float a) { float2 zw; return a; }")


@pytest.mark.parametrize(
    ("metal", "cpp"),
    [
        ("a << n", "a << zmlx_by << n"),
        ("a >> n + 1", "a >> zmlx_by >> n + 1"),
        ("a << n >> m", "a << zmlx_by << n >> zmlx_by >> m"),
        ("a <<= n;", "a <<= zmlx_by <<= n;"),
        ("a >>= n - 1;", "a >>= zmlx_by >>= n - 1;"),
        ("a << 3", "a << 3"),
        ("a >> 31u;", "a >> 31u;"),
        ("a <<= 7;", "a <<= 7;"),
        ("a << 32", "a << zmlx_by << 32"),
        ("a << 3 + n", "a << zmlx_by << 3 + n"),
        ("(a >> 4) & 15", "(a >> 4) & 15"),
        (
            "vec<vec<float, 4>, 2> v; vec<packed_vec<float, 4>>w;",
            "vec<vec<float, 4>, 2> v; vec<packed_vec<float, 4>>w;",
        ),
        ("a > > b", "a > > b"),
        ("S operator<<(S a, int b);", "S operator<<(S a, int b);"),
        ("x = a < b >> c;", "x = a < b >> zmlx_by >> c;"),
    ],
)
def test_shifts(metal, cpp):
    assert body(metal) == cpp


def test_the_preprocessor_does_its_own_shifts():
    header = "#define N (1 << M)\n#define M 4\n#define K (1 << M)\n#if N > 3 && (1 << M)\n#endif\n"
    translated = translate(KernelSource("k", ("x",), ("out",), "", header), "cuda").header
    assert translated == header.replace("K (1 << M)", "K (1 << zmlx_by << M)")


def cast(first: str, second: str) -> str:
    return f"static_cast<::metal::detail::arm_t<decltype(({first})), decltype(({second}))>>"


@pytest.mark.parametrize(
    ("metal", "first", "second"),
    [
        ("float v = c ? h : 1.0;", "h", "1.0f"),
        ("v = i < n && i > 0 ? x[i] : 0;", "x[i]", "0"),
        ("f(c ? a : b, d);", "a", "b"),
        ("v = (c ? a + 1 : b) * 2;", "a + 1", "b"),
        ("v = w[c ? i : j];", "i", "j"),
        ("Tile<c ? 1 : 2> t;", "1", "2"),
        ("switch (k) { case 1: v = c ? a : b; }", "a", "b"),
        ("v = c ? f(a, b) : T(0);", "f(a, b)", "T(0)"),
        ("v = c ? a.x : b->y;", "a.x", "b->y"),
    ],
)
def test_conditionals(metal, first, second):
    text = body(metal, "template <int N> struct Tile {};", small_floats=True)
    assert f"? ({cast(first, second)}({first})) : ({cast(second, first)}({second}))" in text


def test_chains_of_conditionals_stay_short():
    chain = " : ".join(f"i == {k} ? h[{k}]" for k in range(40)) + " : 0.0f"
    text = body(f"float v = {chain};", small_floats=True)
    assert text.count("static_cast") == 80
    assert len(text) < 100_000


@pytest.mark.parametrize(
    "metal",
    [
        "c ? a = 1 : b = 2;",
        "v = c ? [&] { return 1; }() : 2;",
        "v = a ?: b;",
        "label: x = y;",
        "for (auto v : w) f(v);",
    ],
)
def test_conditionals_that_are_left_alone(metal):
    assert body(metal, small_floats=True) == metal


@pytest.mark.parametrize(
    ("source", "dtype", "template", "expected"),
    [
        ("out[0] = x[0];", "float32", [], False),
        ("out[0] = x[0];", "float16", [], True),
        ("out[0] = x[0];", "bfloat16", [], True),
        ("out[0] = x[0];", "float32", [("T", "float16_t")], True),
        ("out[0] = x[0];", "float32", [("T", "float"), ("N", 3)], False),
        ("half h = x[0];", "float32", [], True),
        ("packed_bfloat3 h;", "float32", [], True),
        ("simdgroup_half8x8 h;", "float32", [], True),
        ("float halfway = x[0];", "float32", [], False),
    ],
)
def test_whether_small_floats_occur(source, dtype, template, expected):
    kernel = KernelSource("k", ("x",), ("out",), source)
    assert (
        may_use_small_floats(make_signature(kernel, [ArrayType(dtype, 1)], ["float32"], template)) is expected
    )
