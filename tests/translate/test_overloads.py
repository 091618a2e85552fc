from __future__ import annotations

import pytest

from zmlx.errors import TranslationError
from zmlx.metal.signature import KernelSource
from zmlx.translate import translate

pytestmark = pytest.mark.cpu


def translated(header: str):
    return translate(KernelSource("k", ("x",), ("out",), "", header), "host")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("float f(device float* p) { return p[0]; }", "float f(threadgroup float* q) { return q[0]; }"),
        (
            "template <typename T> T f(const device T* p, int n) { return p[n]; }",
            "template <typename U> U f(const threadgroup U* q, int m) { return q[m]; }",
        ),
        ("void f(thread float& a) { a.p = 1; }", "void f(threadgroup float& p) { p.p = 1; }"),
        ("float f(const device float* p) { return *p; }", "float f(constant float* p) { return *p; }"),
        (
            "template <typename T> struct S<device T*> { T f() { return 1; } };",
            "template <typename T> struct S<threadgroup T*> { T f() { return 1; } };",
        ),
    ],
)
def test_overloads_that_do_the_same_become_one(first, second):
    text = translated(f"{first}\n{second}\n").header
    assert text.split("\n")[1].strip(";") == ""
    assert text.split("\n")[0] != ""


def test_members_for_several_address_spaces_become_one():
    header = """struct S {
        float v;
        float get() const device { return v; }
        float get() const thread { return v; }
        float get() const threadgroup { return v; }
        float get(int i) const { return v + i; }
    };"""
    text = translated(header).header
    assert text.count("get()") == 1
    assert text.count("get(int i)") == 1


def test_macros_that_make_overloads_become_one():
    header = "#define MAKE(space) float f(space float* p) { return *p; }\nMAKE(device)\nMAKE(threadgroup)\n"
    assert translated(header).header.count("MAKE(") == 2  # the definition, and one use


def test_overloads_that_differ_are_refused():
    header = "\nfloat f(device float* p) { return p[0]; }\n\nfloat f(threadgroup float* p) { return p[1]; }"
    with pytest.raises(TranslationError) as error:
        translated(header)
    assert str(error.value) == (
        "[metal_kernel] 'k', header line 4: `f` differs from the one in line 2 only in address spaces, which are "
        "one here, and does something else; give it another name. The kernel can run on Metal only."
    )


@pytest.mark.parametrize(
    "header",
    [
        "float f(float a) { return a; }\nint f(int a) { return a; }",
        "float f(device float* a) { return *a; }\nfloat f(device int* a) { return *a; }",
        "template <typename T> T f(device T* a) { return *a; }\ntemplate <> float f(device float* a) { return 2; }",
        "float f(float a) { return a; }\nfloat f(float b) { return b; }",
        (
            "template <int N> struct A { int f(thread int& x) { return x; } };\n"
            "template <> struct A<2> { int f(thread int& x) { return 2; } };"
        ),
        (
            "struct A { float f(thread float& x) { return x; } };\n"
            "struct B { float f(threadgroup float& x) { return x; } };"
        ),
    ],
)
def test_other_overloads_stay(header):
    assert translated(header).header.count("f(") == 2


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("float2 exp(float2 z) { return z; }", ("metal::exp",)),
        ("S max(S a, S b) { return a; } S min(S a, S b) { return a; }", ("metal::max", "metal::min")),
        ("half log1p(half x) { return x; }", ("metal::zmlx_kernel::log1p",)),
        ("template <typename T> T sign(T x) { return x; }", ()),
        ("template <typename T> vec<T, 2> exp(vec<T, 2> z) { return z; }", ("metal::exp",)),
        ("struct S { float exp(float x) { return x; } };", ()),
        ("float mine(float x) { return exp(x); }", ()),
    ],
)
def test_library_functions_that_are_overloaded(header, expected):
    assert translated(header).overloads == expected


def test_the_names_of_the_library_exist():
    from cxx import refusal

    from zmlx.translate.convergence import SITED_FUNCTIONS
    from zmlx.translate.overloads import LIBRARY_FUNCTIONS, PRELUDE_FUNCTIONS

    names = sorted(LIBRARY_FUNCTIONS - SITED_FUNCTIONS)
    text = "".join(f"using ::metal::{name};\n" for name in names)
    text += "".join(f"using ::metal::zmlx_kernel::{name};\n" for name in sorted(PRELUDE_FUNCTIONS))
    assert refusal(text) == ""
