"""The preprocessor for whole Metal files, by what it makes of small texts."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from zmlx.metal.preprocessor import preprocess

pytestmark = pytest.mark.cpu

#: A text, and what is left of it, without spaces.
TEXTS = {
    "object": ("#define N 4\nint a[N];", "int a[4];"),
    "function": ("#define SQUARE(x) ((x) * (x))\nSQUARE(a + 1)", "((a + 1) * (a + 1))"),
    "nested": ("#define F(x) x + G(x)\n#define G(x) x * 2\nF(3)", "3 + 3 * 2"),
    "its own name": ("#define foo foo + 1\nfoo", "foo + 1"),
    "not called": ("#define F(x) x\nint F;", "int F;"),
    "string": ('#define S(x) #x\nS(a  "b")', '"a \\"b\\""'),
    "argument of # is not expanded": ("#define N 4\n#define S(x) #x\nS(N)", '"N"'),
    "paste": ("#define CAT(a, b) a##b\nCAT(uint, 32) CAT(x,) CAT(, y)", "uint32 x y"),
    "empty in front of a paste": ("#define F(a, b) int a##b\nF(, y)", "int y"),
    "paste then expanded": ("#define ab 7\n#define CAT(a, b) a##b\nCAT(a, b)", "7"),
    "variadic": ("#define F(x, ...) x<__VA_ARGS__>\nF(f, a, b<c>)", "f<a, b<c>>"),
    "no variadic arguments": ("#define F(x, ...) x(1, ##__VA_ARGS__)\nF(f) F(f, 2)", "f(1) f(1, 2)"),
    "brackets": ("#define F(x, y, z) x | y | z\nF((a, b), c[1, 2])", "(a, b) | c[1 | 2]"),
    "names by parts": (
        '#define I(name, type) "v_" #name #type\n#define ALL(name) I(name, float) I(name, half)\nALL(sum)',
        '"v_" "sum" "float" "v_" "sum" "half"',
    ),
    "continued lines": ("#define F(x) \\\n  x + \\\n  1\nF(2)", "2 + 1"),
    "call over lines": ("#define F(x, y) x y\nF(1, // one\n  2)\n3", "1 2 3"),
    "undefined": ("#define N 4\n#undef N\nN", "N"),
    "defined": ("#if defined(A) || defined B || !defined(__METAL__)\n1\n#else\n2\n#endif", "2"),
    "arithmetic": ("#define N 3\n#if N * 2 > 5 && UNKNOWN == 0\n1\n#endif", "1"),
    "else if": ("#if 0\n1\n#elif __METAL_VERSION__ >= 300\n2\n#elif 1\n3\n#else\n4\n#endif", "2"),
    "dead branches": ("#ifdef A\n#if !\n#error no\n#elif !\n#endif\n#define N 1\n#else\nN\n#endif", "N"),
    "guard": ("#ifndef G\n#define G\n1\n#endif\n#ifndef G\n2\n#endif", "1"),
    "windows' line ends": ("#define F(x) \\\r\n  x + \\\r\n  1\r\nF(2)\r\n", "2 + 1"),
    "comment": ("#define N 4 // four\nN N", "4 4"),
    "kept": (
        "#include <metal_stdlib>\n#pragma unroll\nfor (;;) {}",
        "#include <metal_stdlib> #pragma unroll for (;;) {}",
    ),
}


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_preprocessed(name: str) -> None:
    text, expected = TEXTS[name]
    assert squeezed(preprocess(text)) == squeezed(expected)


@pytest.mark.parametrize("name", TEXTS)
def test_lines_stay_where_they_are(name: str) -> None:
    text = TEXTS[name][0]
    marked = preprocess(f"{text}\nlast_line")
    assert marked.split("\n")[text.count("\n") + 1] == "last_line"


@pytest.mark.parametrize("name", sorted(TEXTS.keys() - {"kept", "comment", "call over lines"}))
def test_a_compiler_says_the_same(name: str) -> None:
    """The C++ compiler of this machine is the oracle; of Metal's own names it is told here."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler here")
    out = subprocess.run(
        [compiler, "-E", "-P", "-x", "c++", "-D__METAL__=1", "-D__METAL_VERSION__=320", "-"],
        input=TEXTS[name][0],
        capture_output=True,
        text=True,
        check=True,
    )
    assert squeezed(preprocess(TEXTS[name][0])) == squeezed(out.stdout)


def test_macros_are_given() -> None:
    assert preprocess("#if WIDE\nN\n#endif", {"WIDE": "1", "N": "32"}).split() == ["32"]
    assert preprocess("#if WIDE\nN\n#endif", {"WIDE": "0"}).split() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n#error give N\n", r"line 2: #error give N"),
        (
            "\n\n#if 1 << 2\n#endif",
            r"line 3: expected a condition of integers, comparisons, .* but got `#if 1 << 2`. Give what",
        ),
    ],
)
def test_what_cannot_be_followed_is_said(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preprocess(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#define A -x\nb -A", "b - -x"),
        ("#define F(x) -x\nF(-1)", "- -1"),
        ("#define E\nb -E-c", "b - -c"),
        ("#define E\n#define N 1\nint E/**/a = b+E+N;", "int /**/a = b+ +1;"),
        ("#define P &x\nb&P", "b& &x"),
        ("#define G(a) vec<a>\nG(vec<int>)(x->y, ++z)", "vec<vec<int>>(x->y, ++z)"),
    ],
)
def test_what_a_macro_makes_does_not_run_into_its_neighbours(text: str, expected: str) -> None:
    assert " ".join(preprocess(text).split()) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n#ifdef A\n#if 0\n#endif\n", "line 2: `#ifdef` has no `#endif`. Write one behind what it holds."),
        ("\n#endif", "line 2: `#endif` belongs to no `#if`. Remove it, or write the `#if` before it."),
        ("#if 1\n#endif\n#else", "line 3: `#else` belongs to no `#if`."),
        ("#elif 1", "line 1: `#elif` belongs to no `#if`."),
    ],
)
def test_branches_have_a_begin_and_an_end(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        preprocess(text)
