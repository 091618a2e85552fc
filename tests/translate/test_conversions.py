"""Where floats may become integers: which tokens are taken for what. The values are in tests/launch."""

from __future__ import annotations

import pytest

from zmlx.metal.signature import KernelSource, make_signature
from zmlx.translate import pipeline, translate
from zmlx.translate.unit import known_types

pytestmark = pytest.mark.cpu


def body(source: str, header: str = "", known=()) -> str:
    return pipeline.run(KernelSource("k", ("x",), ("out",), source, header), "host-loop", False, known).body


def header(text: str) -> str:
    return translate(KernelSource("k", ("x",), ("out",), "", text), "host", False).header


@pytest.mark.parametrize(
    ("metal", "cpp"),
    [
        ("f(int(x));", "f(zmlx_cast<int>(x));"),
        ("f(uint8_t(x + 1));", "f(zmlx_cast<uint8_t>(x + 1));"),
        ("f((int)x);", "f(zmlx_cast<int>(x));"),
        ("f((unsigned int)x[i].y * 2);", "f(zmlx_cast<unsigned int>( x[i].y) * 2);"),
        ("f(-(int)x);", "f(-zmlx_cast<int>(x));"),
        ("f((float)(int)x);", "f((float)zmlx_cast<int>(x));"),
        ("f((int)(float)x);", "f(zmlx_cast<int>((float)x));"),
        ("f((int)-x);", "f(zmlx_cast<int>(-x));"),
        ("f((int)g(x)[0]->y++);", "f(zmlx_cast<int>(g(x)[0]->y++));"),
        ("f((int)a::b<float>(x) + c);", "f(zmlx_cast<int>(a::b<float>(x)) + c);"),
        ("f((int)(x + y));", "f(zmlx_cast<int>((x + y)));"),
        ("f(static_cast<int>(x));", "f(zmlx_cast<int>(x));"),
        ("f(static_cast<const uint>(x));", "f(zmlx_cast<const uint>(x));"),
        ("f(static_cast<float>(x));", "f(static_cast<float>(x));"),
        ("f(metal::uint(x), (metal::uint)x);", "f(zmlx_cast<uint>(x), zmlx_cast<uint>(x));"),
        ("f(static_cast<metal::uint>(x));", "f(zmlx_cast<metal::uint>(x));"),
        ("int a[2] = {int(x), (int)x};", "int a[2] = {zmlx_cast<int>(x), zmlx_cast<int>(x)};"),
        ("f((int)3);", "f((int)3);"),
        ("f(int(3), int(), int4(x));", "f(int(3), int(), int4(x));"),
        ("f(sizeof(int), (float)x);", "f(sizeof(int), (float)x);"),
        ("auto p = (device int*)x;", "auto p = ( int*)x;"),
        ("void (*g)(int) = h;", "void (*g)(int) = h;"),
    ],
)
def test_casts(metal, cpp):
    assert body(metal) == cpp


@pytest.mark.parametrize(
    "text",
    [
        "struct F { float operator()(int) const { return 1; } };",
        "struct F { float operator[](uint) const { return 1; } F operator+(int) const { return *this; } };",
        "struct F { F() = default; F(const F&) = delete; F(int) = delete; F& operator=(const F&) = default; };",
    ],
)
def test_members_are_no_casts_and_no_assignments(text):
    assert header(text) == text


@pytest.mark.parametrize(
    ("metal", "cpp"),
    [
        ("int n = x;", "int n = zmlx_init<int>(x);"),
        (
            "const uint n = x, m = 2, k = y;",
            "const uint n = zmlx_init<uint>(x), m = 2, k = zmlx_init<uint>(y);",
        ),
        ("unsigned long long n = x;", "unsigned long long n = zmlx_init<unsigned long long>(x);"),
        ("metal::uint n = x;", "metal::uint n = zmlx_init<uint>(x);"),
        ("int n(x);", "int n(zmlx_init<int>(x));"),
        ("for (int n = x; n < 3; n++) {}", "for (int n = zmlx_init<int>(x); n < 3; n++) {}"),
        ("int n = c ? x : y;", "int n = zmlx_init<int>(c ? x : y);"),
        ("int n; int m = n + 1; int k = m * n;", "int n; int m = n + 1; int k = m * n;"),
        ("int n = 3; int a[2] = {n, n};", "int n = 3; int a[2] = {n, n};"),
        ("uint i = thread_position_in_grid.x;", "uint i = thread_position_in_grid.x;"),
        ("float y = x, z = x; auto w = x;", "float y = x, z = x; auto w = x;"),
        ("int& r = n; int* p = q;", "int& r = n; int* p = q;"),
    ],
)
def test_declarations(metal, cpp):
    assert body(metal) == cpp


@pytest.mark.parametrize(
    ("metal", "cpp"),
    [
        ("n = x;", "n ->* zmlx_into = x;"),
        ("a[i] = x;", "a[i] ->* zmlx_into = x;"),
        ("*p = x;", "*p ->* zmlx_into = x;"),
        ("s.n = x; q->n += x;", "s.n ->* zmlx_into = x; q->n ->* zmlx_into += x;"),
        ("(*q).n -= x;", "(*q).n ->* zmlx_into -= x;"),
        ("a = b = x;", "a ->* zmlx_into = b ->* zmlx_into = x;"),
        ("if (c) n = x; else m = y;", "if (c) n ->* zmlx_into = x; else m ->* zmlx_into = y;"),
        ("for (; c; n = x, m = y) {}", "for (; c; n ->* zmlx_into = x, m ->* zmlx_into = y) {}"),
        ("switch (n) { case 1: m = x; }", "switch (n) { case 1: m ->* zmlx_into = x; }"),
        ("n = 3; n += 1; n %= x; n <<= 2;", "n = 3; n += 1; n %= x; n <<= 2;"),
        ("float y; y = x; y += x;", "float y; y = x; y += x;"),
        ("T y = x, z = x; T* p = x; S<int> s = x;", "T y = x, z = x; T* p = x; S<int> s = x;"),
        ("auto f = [y = x]() { return y; };", "auto f = [y = x]() { return y; };"),
        ("enum { A = 1, B = A };", "enum { A = 1, B = A };"),
        ("enum class E : uint { A, B = A };", "enum class E : uint { A, B = A };"),
        ("using U = V; S s = {.a = x, .b = y}; a = {x};", "using U = V; S s = {.a = x, .b = y}; a = {x};"),
        ("struct { int b : 3; } s; s.b = x;", "struct { int b : 3; } s; s.b = x;"),
        # A macro's call, of which nothing says that a statement ends with it.
        ("M(y) T z = x, w = x;", "M(y) T z = x, w = x;"),
        (
            "M(y) M(z) const metal::uint v = x, w = x;",
            "M(y) M(z) const metal::uint v = zmlx_init<uint>(x), w = zmlx_init<uint>(x);",
        ),
        ("M(y) n = x, m = y;", "M(y) n ->* zmlx_into = x, m ->* zmlx_into = y;"),
        (
            "decltype(x) y = x, z = x;",
            "decltype(x) y = zmlx_init<decltype ( x )>(x), z = zmlx_init<decltype ( x )>(x);",
        ),
        ("if (c) n = x, m = y;", "if (c) n ->* zmlx_into = x, m ->* zmlx_into = y;"),
    ],
)
def test_assignments(metal, cpp):
    assert body(metal) == cpp


@pytest.mark.parametrize(
    ("metal", "cpp"),
    [
        ("int f(float x) { return x; }", "int f(float x) { return zmlx_init<int>(x); }"),
        (
            "template <typename T> T f(float x) { T y = x; return T(y); }",
            "template <typename T> T f(float x) { T y = zmlx_init<T>(x); return zmlx_init<T>(zmlx_cast<T>(y)); }",
        ),
        ("float f(float x) { return x; }", "float f(float x) { return x; }"),
        (
            "int f(float x) { auto g = [](float v) { return v; }; return g(x); }",
            "int f(float x) { auto g = [](float v) { return v; }; return zmlx_init<int>(g(x)); }",
        ),
        (
            "auto f(float x) { return [](float v) -> int { return v; }(x); }",
            "auto f(float x) { return [](float v) -> int { return zmlx_init<int>(v); }(x); }",
        ),
        (
            "#define I(v) int(v)\n#define SET(a, b) a = b\n",
            "#define I(v) zmlx_cast<int>(v)\n#define SET(a, b) a = b\n",
        ),
        (
            "struct S { int n; float y; S(float x) : n(x), y(x) {} };",
            "struct S { int n; float y; S(float x) : n(zmlx_init<decltype(n)>(x)), y(x) {} };",
        ),
        ("#define C(T, v) static_cast<T>(v)\n", "#define C(T, v) zmlx_cast<T>(v)\n"),
        ("#define N int(3.5)\n#if N\n#endif\n", "#define N int(3.5f)\n#if N\n#endif\n"),
    ],
)
def test_results_and_macros(metal, cpp):
    assert header(metal) == cpp


def test_arguments_of_functions_with_one_declaration():
    one = "float f(float x, int n) { return x; }\n"
    two = one + "float f(float x, float n) { return x; }\n"
    assert body("y(f(x, x), f(x, 3));", one) == "y(f(x, zmlx_init<int>(x)), f(x, 3));"
    assert body("y(f(x, x));", two) == "y(f(x, x));"
    assert (
        body("auto g = [](int n) { return n; }; y(g(x));")
        == "auto g = [](int n) { return n; }; y(g(zmlx_init<int>(x)));"
    )
    assert body("auto f = [](float n) { return n; }; y(f(x, x));", one).endswith("y(f(x, x));")
    assert body("y(abs(x));", "int abs(int n) { return n; }") == "y(abs(x));"


def test_a_name_in_a_macro_is_what_it_is_where_the_macro_is_used():
    declared = "int f(int n) { return n; }\n#define TRUNCATED int(n)\n"
    assert header(declared) == declared
    text = translate(
        KernelSource("k", ("x",), ("out",), "float n = x; out[i] = TRUNCATED;", declared), "host"
    ).header
    assert "#define TRUNCATED zmlx_cast<int>(n)" in text


def test_what_is_known_of_the_call_keeps_texts_as_they_are():
    kernel = KernelSource("k", ("x",), ("out", "count"), "")
    signature = make_signature(kernel, [], ["float32", "int16"], [("T", "float"), ("I", "int32_t"), ("N", 3)])
    known = known_types(signature)
    assert known == (("T", False), ("I", True), ("out", False), ("count", True))
    assert (
        body("out[i] = x; count[i] = x; f(T(x), I(x)); I n = x; T y = x;", known=known)
        == "out[i] = x; count[i] ->* zmlx_into = x; f(T(x), zmlx_cast<I>(x)); I n = zmlx_init<I>(x); T y = x;"
    )


def test_cuda_needs_none_of_it():
    source = "int n = x; out[i] = (int)x + n;"
    assert translate(KernelSource("k", ("x",), ("out",), source), "cuda").body == source
