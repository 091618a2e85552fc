"""Statements and declarations of a kernel's body."""

from __future__ import annotations

import pytest

from zmlx.metal.statements import Statement, Unclear, parse
from zmlx.metal.structure import Program

pytestmark = pytest.mark.cpu


def statements(source: str) -> tuple[Program, list[Statement]]:
    program = Program("", source)
    return program, parse(program.body.main, 0, len(program.body.main) - 1)


def outline(statement: Statement) -> str | list:
    """A statement as its kind, and what is in it."""
    inside = [outline(s) for s in statement.children]
    if statement.otherwise is not None:
        inside.append([outline(s) for s in statement.otherwise])
    return [statement.keyword or statement.kind, inside] if inside else statement.keyword or statement.kind


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a = b; f(x);", ["simple", "simple"]),
        (";", ["simple"]),
        ("if (a) b = 1; else if (c) d = 2; else e = 3;", [["if", ["simple", [["if", ["simple", ["simple"]]]]]]]),
        ("if constexpr (N > 1) { a = 1; }", [["if constexpr", ["simple"]]]),
        ("for (int i = 0; i < 4; ++i) { if (i == 2) continue; break; }", [["for", [["if", ["continue"]], "break"]]]),
        ("while (a < b) a *= 2;", [["while", ["simple"]]]),
        ("do { a += 1; } while (a < 3); return;", [["do", ["simple"]], "return"]),
        ("{ int a = 1; { a = 2; } }", [["block", ["declaration", ["block", ["simple"]]]]]),
        ("switch (a) { case 1: b = 2; break; default: b = 3; } c = 1;", ["switch", "simple"]),
        ("using T2 = vec<T, 2>; struct P { int a; };", ["definition", "definition"]),
        ("MLX_MTL_PRAGMA_UNROLL for (int i = 0; i < 4; ++i) a += i; b = 1;", [["for", ["simple"]], "simple"]),
    ],
)  # fmt: skip
def test_statements(source, expected):
    assert [outline(s) for s in statements(source)[1]] == expected


@pytest.mark.parametrize(
    "source",
    [
        "a * b;",  # C++ too reads this as a pointer
        "const device float* p = x + 4;",
        "threadgroup float s[4][8], t;",
        "unsigned long n = 3ul;",
        "auto v = f(a, b), w = c < d ? a : b;",
        "metal::vec<float, 4> v(1.0f), w{};",
        "float const k = 2;",
        "float *p = x, q = 3;",
    ],
)
def test_declarations(source):
    _, (statement,) = statements(source)
    assert statement.kind == "declaration"


@pytest.mark.parametrize(
    "source",
    ["a = b * c;", "f(a)(b);", "x[i] = 2;", "++a;", "*p = 3;", "a < b;", "p->q = 1;", "T(a);", "v.x += 1;"],
)
def test_what_declares_nothing(source):
    _, (statement,) = statements(source)
    assert statement.kind == "simple"


def test_what_a_declaration_tells():
    program, (statement,) = statements("const device float* p = x + 4, *const q = 0, r[2][3] = {{1}};")
    fragment = program.body.main

    def text(span):
        return "" if span is None else " ".join(fragment.text(i) for i in range(span[0], span[1] + 1))

    assert text(statement.type) == "const device float"
    told = [
        (fragment.text(d.name), d.pointer, d.constant, text(d.extents), text(d.initialiser), d.form)
        for d in statement.declarators
    ]
    assert told == [
        ("p", True, False, "", "x + 4", "="),
        ("q", True, True, "", "0", "="),
        ("r", False, True, "[ 2 ] [ 3 ]", "{ { 1 } }", "="),
    ]


def test_parts_of_a_loop():
    program, (loop,) = statements("for (uint i = a, j = 0; i < b && c; i += 2, ++j) { d = i; }")
    fragment = program.body.main
    assert loop.init is not None
    assert [fragment.text(d.name) for d in loop.init.declarators] == ["i", "j"]
    assert fragment.render(*loop.head) == "i < b && c"
    assert fragment.render(*loop.step) == "i += 2, ++j"
    _, (endless,) = statements("for (;;) { break; }")
    assert endless.init is None
    assert endless.head[0] > endless.head[1]
    assert endless.step[0] > endless.step[1]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("REPEAT(3)", "a statement that begins with `REPEAT` and has no semicolon"),
        ("for (int v : table) a += v;", "a `for` over a range"),
        ("if (int k = f(); k > 2) a = 1;", "`if` with an initialiser"),
        ("auto [a, b] = pair;", "`auto`"),
        ("switch (a) { case 1: return; }", "a `switch` with `return` or `continue` in it"),
        ("{ a = 1;", "`{` without its end"),
    ],
)
def test_what_is_not_understood(source, reason):
    with pytest.raises(Unclear) as error:
        statements(source)
    assert str(error.value) == reason
