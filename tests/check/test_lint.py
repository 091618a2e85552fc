"""What the Metal compiler would refuse is named, with its line, and nothing else is."""

from __future__ import annotations

import pytest
from wrong_kernels import CASES, Case

import zmlx
from zmlx.check.lint import lint
from zmlx.metal.signature import ArrayType, KernelSource, make_signature

pytestmark = pytest.mark.cpu


def findings(source, header="", inputs=1, threadgroup=(64, 1, 1)):
    names = tuple(f"x{i}" for i in range(inputs))
    kernel = KernelSource("k", names, ("out",), source, header)
    signature = make_signature(kernel, [ArrayType("float32", 1)] * inputs, ["float32"])
    return lint(signature, threadgroup)


#: source, header, line, what the message says
WRONG = {
    "double": ("float a = 1;\ndouble v = a;", "", 2, "`double`: Metal has no double"),
    "pointer": ("float s[4];\nfloat* p = s;", "", 2, "`float*`: a pointer without an address space"),
    "pointer parameter": (
        "",
        "void f(\n  const float* p) {}",
        2,
        "`float*`: a pointer without an address space",
    ),
    "pointer of a template": (
        "",
        "template <typename T>\nT f(T* p) { return *p; }",
        2,
        "`T*`: a pointer without",
    ),
    "initialised threadgroup variable": (
        "\nthreadgroup float s[4] = {0};",
        "",
        2,
        "variable s has an initialiser",
    ),
    "recursion": (
        "",
        "float f(float x) {\n  return x > 0 ? f(x - 1) : 0;\n}",
        2,
        "the function f calls itself",
    ),
    "mutual recursion": (
        "",
        "float g(float x);\nfloat f(float x) { return g(x); }\nfloat g(float x) { return f(x); }",
        2,
        "calls itself",
    ),
    "virtual": ("", "struct A {\n  virtual float f();\n};", 2, "`virtual`: Metal has no virtual functions"),
    "new": ("device float* p = out;\nauto q = new float[4];", "", 2, "`new`: Metal has no dynamic memory"),
    "delete": ("delete[] p;", "", 1, "`delete`"),
    "malloc": ("auto q = malloc(4);", "", 1, "`malloc`"),
    "std": ("out[0] = std::exp(1.0f);", "", 1, "`std::`: Metal does not have the C++ library"),
    "exceptions": ("try { out[0] = 1; } catch (...) {}", "", 1, "`try`: Metal has no exceptions"),
    "throw": ("throw 1;", "", 1, "`throw`"),
    "goto": ("a: out[0] = 1;\ngoto a;", "", 2, "`goto`: Metal has no goto"),
    "64-bit atomics": (
        "auto p = (device atomic_ulong*)out;\natomic_fetch_add_explicit(p, 1, memory_order_relaxed);",
        "",
        2,
        "atomic_fetch_add_explicit on 64 bits",
    ),
    "include": ("", "#include <vector>", 1, "`#include <vector>`"),
    "printf": ('printf("%d", 1);', "", 1, "`printf`"),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_is_found_with_its_line(name):
    source, header, line, message = WRONG[name]
    found = [f for f in findings(source, header) if message in f.message]
    assert found, [str(f) for f in findings(source, header)]
    assert {f.kind for f in found} == {"metal-lint"}
    assert found[0].line == line
    assert found[0].advice
    assert found[0].severity == "warning"


RIGHT = {
    "pointers": "device float* p = out; const device float* q = x0; threadgroup float s[4]; threadgroup float* t = s;",
    "products": "float a = 2, b = 3; float c = (a * b) + float(a) * b; int n = sizeof(float) * 4;",
    "casts": "auto v = *(device float4*)out; auto w = reinterpret_cast<const device half*>(x0);",
    "function pointers": "float (*f)(float) = exp; out[0] = f(1);",
    "members": "struct S { int free; }; S s; s.free = 1;",
    "comments": "// double std::exp new\n/* goto */ out[0] = 1;",
    "references": "thread float& r = a; const constant int& n = m;",
    "assigned later": "threadgroup float s[4]; s[0] = 1; threadgroup int n; n = 2;",
    "32-bit atomics": "atomic_fetch_add_explicit((device atomic_uint*)out, 1, memory_order_relaxed);",
    "64-bit minimum": "atomic_min_explicit((device atomic_ulong*)out, 1, memory_order_relaxed);",
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_code_is_left_alone(name):
    assert [str(f) for f in findings(RIGHT[name])] == []


def test_overloads_are_not_recursion():
    header = """
        float f(float x) { return x; }
        float f(int x) { return f(float(x)); }
        struct S { float f() { return ::f(1); } };
    """
    assert not findings("", header)


def test_too_many_buffers():
    (found,) = findings("out[0] = 1;", inputs=31)
    assert found.message == "takes 32 buffers, counting shapes and strides; Metal has 31"
    assert not findings("out[0] = 1;", inputs=30)


def test_too_large_threadgroups():
    (found,) = findings("out[0] = 1;", threadgroup=(32, 32, 2))
    assert found.message == "is launched with threadgroups of 2048 threads; Metal has 1024"


def test_wrong_kernels_of_other_kinds_are_good_metal():
    for case in CASES:
        assert not findings(case.source.replace(" x[", " x0["), case.header), case.name


def test_the_launch_raises_before_it_runs():
    case = Case(
        "lints",
        "metal-lint",
        "uint i = thread_position_in_grid.x;\nfloat a[1];\nfloat* p = a;\nout[i] = p[0];",
        (),
    )
    with zmlx.checked() as check, pytest.raises(zmlx.KernelCheckError, match="write `device float"):
        case.run()
    assert check.accesses == 0
