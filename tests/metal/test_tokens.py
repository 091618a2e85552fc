from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmlx.metal.tokens import code_names, join, line_end, one_line, tokenize

pytestmark = pytest.mark.cpu

SNIPPETS = [
    "float",
    " ",
    "\n",
    "x1",
    "1.0f",
    "0x1F",
    "1e-3",
    "+",
    "->",
    "::",
    "(",
    ")",
    "[",
    "]",
    '"a\\"b"',
    "'c'",
]
SNIPPETS += ["// comment\n", "/* two\nlines */", "#define A", "\\\n", "…", "@", "1.", ".5h", "<<=", "…"]


@given(st.lists(st.sampled_from(SNIPPETS)).map("".join) | st.text())
def test_nothing_is_lost(source):
    tokens = tokenize(source)
    assert join(tokens) == source
    assert all(
        t.line == source[: sum(len(u.text) for u in tokens[:i])].count("\n") + 1 for i, t in enumerate(tokens)
    )


def test_comments_and_strings_hold_no_names():
    assert list(code_names('a /* b */ "c" // d\n e')) == ["a", "e"]


@pytest.mark.parametrize(
    "text", ["1.0f", "1e-3", ".5", "0x1.8p+3f", "1'000u", "3.h", "2.5e+10"], ids=lambda text: f"<{text}>"
)
def test_a_number_is_one_token(text):
    assert [t.kind for t in tokenize(text)] == ["number"]


def test_subtraction_is_not_part_of_a_number():
    assert [t.text for t in tokenize("3-2")] == ["3", "-", "2"]


def test_shifts_left_are_one_token_and_shifts_right_two():
    assert [t.text for t in tokenize("a<<b>>c>>=d")] == ["a", "<<", "b", ">", ">", "c", ">>=", "d"]


def test_what_translation_puts_around_a_token_is_part_of_the_text():
    tokens = tokenize("a + b")
    tokens[0].before, tokens[0].after, tokens[4].text = "(", ")", "c"
    assert join(tokens) == "(a) + c"


def test_moved_code_fits_on_one_line():
    assert one_line(tokenize("a /* gone\n */ +\n   b // too\n")) == "a + b"


def test_lines_that_go_on_may_end_as_on_windows() -> None:
    tokens = tokenize("#define N \\\r\n  4 // a \\\r\n  b\r\nN")
    end = line_end(tokens, 0)
    assert [t.text for t in tokens[:end] if t.is_code] == ["#define", "N", "4"]
    assert [(t.text, t.line) for t in tokens[end:] if t.is_code] == [("N", 4)]
