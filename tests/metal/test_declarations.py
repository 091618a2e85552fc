from __future__ import annotations

import pytest

from zmlx.metal.declarations import declarations, used_names
from zmlx.metal.structure import Program

pytestmark = pytest.mark.cpu


def found(header: str) -> list[tuple[str, str]]:
    return [(d.kind, d.scope + d.name) for d in declarations(Program(header, "").header.main)]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("float f(float x) { return x; }", [("function", "f")]),
        ("float f(float x); float g() { return 1; }", [("function", "g")]),
        ("METAL_FUNC static inline float f() { return 1; }", [("function", "f")]),
        ("__attribute__((always_inline)) float f() { return 1; }", [("function", "f")]),
        ("template <typename T, int N = 4> [[clang::x]] vec<T, N> f(T a = T(1)) {}", [("function", "f")]),
        ("auto f(float x) -> float { return x; }", [("function", "f")]),
        ("void f() const noexcept {} int g() {}", [("function", "f"), ("function", "g")]),
        ("float t[2] = {1, 2}; float u{3}; void f() {}", [("function", "f")]),
        ("using T = float; typedef float4 V; static_assert(sizeof(T) == 4, \"\"); void f() {}", [("function", "f")]),
        ("namespace a::b { void f() {} } namespace { void g() {} }", [("function", "f"), ("function", "g")]),
        ("struct S { float x; };", [("class", "S")]),
        ("struct A : B<int> { A(int i) : B<int>(i), x{i} {} ~A() {} int x; };",
         [("class", "A"), ("function", "A::A"), ("function", "A::A")]),
        ("template <typename T> struct S<T, 4> { T operator()(T a) const { return a; } };",
         [("class", "S"), ("function", "S::operator()")]),
        ("struct S { struct I { void f() {} }; private: float operator[](int i) { return i; } };",
         [("class", "S"), ("class", "S::I"), ("function", "S::I::f"), ("function", "S::operator[]")]),
        ("float2 operator+(float2 a, S b) { return a; }", [("function", "operator+")]),
        ("S& operator=(int b) { return *this; }", [("function", "operator=")]),
        ("enum class E : int { A, B = 1 << 3 }; enum { X };", [("class", "E"), ("class", "enum")]),
        ("#define MAKE(T) T f(T x) { return x; }\nMAKE(float)\nMAKE(int);\nvoid g() {}",
         [("macro", "MAKE"), ("macro", "MAKE"), ("function", "g")]),
        ("struct P f(struct P p) { return p; }", [("function", "f")]),
        ("constant constexpr float a = 1, b = f(2); void g() {}", [("function", "g")]),
    ],
)  # fmt: skip
def test_declarations(header, expected):
    names = found(header)
    if ("class", "enum") in expected:
        names, expected = names[:1], expected[:1]
    assert names == expected


def test_ranges_of_a_function():
    header = Program("int x; template <int N> int f(int a, int b) { return a; } int y;", "").header.main
    (function,) = declarations(header)
    assert header.render(function.first, function.last).startswith("template <int N>")
    assert header.render(*function.parameters) == "(int a, int b)"
    assert header.render(*function.body) == "{ return a; }"


def test_names_that_a_kernel_reaches():
    header = """
        #define TWICE(x) doubled(x)
        float doubled(float x) { return inner(x) * 2; }
        float inner(float x) { return simd_sum(x); }
        float unused(float x) { threadgroup_barrier(mem_flags::mem_none); return x; }
        struct Op { float apply(float x) { return quad_sum(x); } };
    """
    names = used_names(Program(header, "out[0] = TWICE(x[0]);"))
    assert {"TWICE", "doubled", "inner", "simd_sum", "out"} <= names
    assert not {"threadgroup_barrier", "quad_sum"} & names
    assert "quad_sum" in used_names(Program(header, "Op op; out[0] = op.apply(x[0]);"))


def test_what_is_not_understood_counts_as_used():
    names = used_names(Program("float x = [] { return simd_sum(1); }();", "out[0] = x;"))
    assert "simd_sum" in names
