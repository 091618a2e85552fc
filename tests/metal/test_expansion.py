"""Macros written out as the preprocessor does."""

from __future__ import annotations

import pytest

from zmlx.metal.expansion import expand
from zmlx.metal.structure import Program

pytestmark = pytest.mark.cpu

HEADER = """
#define ONE 1
#define TWICE(a) ((a) + (a))
#define SWAP(a, b) { auto t = a; a = b; \\
                     b = t; }
#define NESTED(a) TWICE(TWICE(a))
#define NOTHING
#define SELF(a) SELF(a) + ONE
#define PASTED(op) simd_##op
#define EMPTY() meet()
"""


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = ONE;", "x = 1;"),
        ("x = TWICE(y);", "x = ((y) + (y));"),
        ("TWICE(f(a, b))", "((f(a, b)) + (f(a, b)))"),
        ("NESTED(ONE)", "((((1) + (1))) + (((1) + (1))))"),
        ("SELF(2)", "SELF(2) + 1"),
        ("EMPTY();", "meet();"),
        ("EMPTY;", "EMPTY;"),
        ("PASTED(sum)(x)", "PASTED(sum)(x)"),
        ("// ONE\n'ONE' \"ONE\" ONEs", "// ONE\n'ONE' \"ONE\" ONEs"),
        ("#if ONE\nONE\n#endif", "#if ONE\n1\n#endif"),
        ("TWICE (a[1, 2])", "((a[1, 2]) + (a[1, 2]))"),
    ],
)
def test_expansion(source, expected):
    program = Program(HEADER, source)
    assert expand(program, source, frozenset(program.macros)) == expected


def test_continued_lines_become_one():
    program = Program(HEADER, "")
    text = expand(program, "SWAP(p, q)", frozenset(program.macros))
    assert " ".join(text.split()) == "{ auto t = p; p = q; q = t; }"


def test_only_the_named_macros_are_written_out():
    program = Program(HEADER, "")
    assert expand(program, "TWICE(ONE)", frozenset({"TWICE"})) == "((ONE) + (ONE))"


@pytest.mark.parametrize(
    "source",
    [
        "a;\nTWICE(x +\n  y)\nlast",
        "SWAP(p,\n\n q) /* and\n more */\nlast",
        "NESTED(TWICE(\n1)\n)\nlast",
        "TWICE(x // what\n)\nlast",
    ],
)
def test_lines_stay_where_they_are(source):
    program = Program(HEADER, source)
    text = expand(program, source, frozenset(program.macros))
    assert text.count("\n") == source.count("\n")
    assert text.splitlines()[-1] == "last"
    assert "//" not in text
