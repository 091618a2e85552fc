from __future__ import annotations

import pytest

from zmlx.metal.structure import Program

pytestmark = pytest.mark.cpu


def main(source: str, header: str = ""):
    return Program(header, source).body.main


def test_brackets_know_their_partner_and_what_is_around_them():
    code = main("f(a, (b))[c]")
    assert code.partner(1) == 7
    assert code.partner(7) == 1
    assert code.parent(5) == 4
    assert code.parent(0) == -1
    assert main("(a").partner(0) == -1
    assert main("a)").partner(1) == -1


@pytest.mark.parametrize(
    ("source", "lists"),
    [
        ("vec<float, 4> v;", ["<float, 4>"]),
        ("vec<vec<float, 4>, 2> v;", ["<vec<float, 4>, 2>", "<float, 4>"]),
        ("as_type<uint>(x) < y", ["<uint>"]),
        ("a < b", []),
        ("a < b && c > (d)", []),
        ("if (i < n) x = y > 2;", []),
        ("for (i = 0; i < n; ++i) v[i] >>= 1;", []),
        ("metal::is_same_v<T, float>", ["<T, float>"]),
        ("simd_sum<float>(x)", ["<float>"]),
        ("Tile<4>::size", ["<4>"]),
        ("mine<(a > b)> x;", ["<(a > b)>"]),
        ("numeric_limits<T>::max() >> 1", ["<T>"]),
        ("static_cast<vec<half, 4>>(v)", ["<vec<half, 4>>", "<half, 4>"]),
    ],
)
def test_template_arguments_and_comparisons(source, lists):
    code = main(source, "template <bool B> struct mine {};")
    found = [code.render(first, last) for first, last in sorted(code.angles.items()) if first < last]
    assert found == lists


@pytest.mark.parametrize(
    ("source", "end"),
    [
        ("a = 1; b;", ";"),
        ("{ a; b; } c;", "}"),
        ("if (a) b; else if (c) { d; } else e; f;", "e ;"),
        ("if constexpr (a) { b; } c;", "}"),
        ("for (a; b; c) d(e); f;", ";"),
        ("for (;;) for (;;) { a; } b;", "}"),
        ("while (a) b; c;", "b ;"),
        ("do { a; } while (b); c;", ") ;"),
        ("do a; while (b); c;", ") ;"),
        ("switch (a) { case 1: b; } c;", "}"),
        ("x = f({1, 2}, [&] { return 3; }); y;", ") ;"),
    ],
)
def test_statements_end(source, end):
    code = main(source)
    last = code.statement_end(0)
    assert " ".join(code.text(i) for i in range(last + 1)).endswith(end)
    assert code.text(last + 1) in ("b", "c", "d", "e", "f", "y")


def test_macros_and_directives_are_apart():
    header = "#define N 4 // four\n#define ADD(a, b) \\\n  ((a) + \\\n (b))\n#if N > 3\nint x;\n#endif\n"
    program = Program(header, "")
    assert [(m.name, m.parameters) for m in program.header.macros] == [("N", None), ("ADD", ("a", "b"))]
    assert [m.body.render(0, len(m.body) - 1) for m in program.header.macros] == ["4", "((a) + (b))"]
    assert [d.word for d in program.header.directives] == ["if", "endif"]
    assert program.header.main.render(0, 2) == "int x;"
    assert program.condition_names == {"N"}
    assert program.header.render() == header


def test_a_macro_without_parameters_may_begin_with_a_bracket():
    (macro,) = Program("#define PAIR (1, 2)\n", "").header.macros
    assert macro.parameters is None
    assert macro.body.render(0, 4) == "(1, 2)"


def test_erased_code_leaves_its_lines():
    program = Program("", "a\nb\nc d")
    program.body.main.erase(0, 2)
    assert program.body.render() == "\n\n d"


def test_every_template_of_the_runtime_is_known():
    """`name<` in a kernel must be taken for template arguments where the runtime declares such a class."""
    import re

    from zmlx.runtime import RUNTIME

    text = "\n".join(path.read_text() for path in sorted((RUNTIME / "msl").glob("*.h")))
    inner = "(?:detail|zmlx_detail|impl)"
    text = re.sub(rf"namespace {inner} \{{.*?\n\}}  // namespace {inner}", "", text, flags=re.DOTALL)
    classes = re.findall(r"^template <[^\n]*>\n(?:struct|class) (\w+)", text, flags=re.M)
    assert len(classes) > 10
    program = Program("", "")
    written_by_the_translator = {"zmlx_storage", "swz"}
    assert {name for name in classes if not program.is_template(name)} == written_by_the_translator
