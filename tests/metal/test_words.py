"""Variables that are named by a word of Metal, which a name of a type of its library is not."""

from __future__ import annotations

import pytest

from zmlx.metal.tokens import tokenize
from zmlx.metal.words import reserved_names

pytestmark = pytest.mark.cpu


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("int half = 1;", ["half"]),
        ("uint a; float half;", ["half"]),
        ("const float bfloat[2] = {1, 2};", ["bfloat"]),
        ("float f(float half, uint kernel) { return half; }", ["half", "kernel"]),
        ("struct S { int bool : 4; };", ["bool"]),
        ("template <int half> int f();", ["half"]),
        ("auto bfloat = x[i];", ["bfloat"]),
        ("int uint = 1; float float2 = 2, vec = 3; auto packed_half3 = x[i];", []),
        ("size_t thread{1};", ["thread"]),
        ("long int a; unsigned short int b; short int c = 1;", []),
        ("half h = half(x[i]); uint u = uint(h); float2 v = float2(h, u);", []),
        ("typedef float half2;", []),
        ("float get() thread { return a; } float got() const device { return a; }", []),
        ("vec<half, 4> v; f<float, half>(x); sizeof(half);", []),
        ("out[i] = (half)x[i];", []),
    ],
)
def test_reserved_names(source, names):
    assert [token.text for token in reserved_names(tokenize(source))] == names
