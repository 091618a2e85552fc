"""Formulas as text: what they may be, and what messages say of what they may not."""

from __future__ import annotations

import re

import pytest

from zmlx.kernels._formula import FormulaError, constant, parse, variable
from zmlx.kernels._formula.nodes import Extent, apply
from zmlx.kernels._formula.parse import known_functions


def _out(text, **more):
    (node,) = parse(text, **more).results.values()
    return node


def test_equal_formulas_are_one_node():
    assert _out("x * exp(-x)") is _out("h = exp(-x); x * h")
    assert _out("x + y") is not _out("y + x")


def test_variables_are_in_order_of_mention():
    assert list(parse("h = gate * up; h + bias").names) == ["gate", "up", "bias", "h"]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("x ** 2", "x * x"),
        ("x ** -1", "1 / x"),
        ("x ** 0.5", "sqrt(x)"),
        ("x ** -0.5", "rsqrt(x)"),
        ("square(x)", "x * x"),
        ("+x", "x"),
        ("--x", "x"),
        ("a if x > 0 else b", "where(x > 0, a, b)"),
        ("0 < x < 1 and not y > 2", None),
        ("silu(x)", "x * sigmoid(x)"),
        ("exp(\n  x\n)", "exp(x)"),
    ],
)
def test_ways_to_say_it(text, same):
    if same is None:
        with pytest.raises(FormulaError, match="Expected a number, got a condition"):
            parse(text)
    else:
        assert _out(text) is _out(same)


def test_comparisons_in_a_row_hold_together():
    node = _out("where(0 < x < 1, x, 0)")
    low, high = node.arguments[0].arguments
    assert (node.arguments[0].function, low.function, high.function) == ("both", "less", "less")
    assert low.arguments == (constant(0), variable("x"))
    assert high.arguments == (variable("x"), constant(1))


def test_results_are_lines():
    program = parse("r = x * x; c = x / r", results=("c", "r"))
    assert list(program.results) == ["c", "r"]


def test_extents_are_those_of_what_varies_most():
    extents = {"x": Extent.ELEMENT, "a": Extent.UNIFORM}
    assert _out("exp(a) * 2", extents=extents).extent == Extent.UNIFORM
    assert _out("exp(a) * x", extents=extents).extent == Extent.ELEMENT


def test_known_names_are_nodes_of_another_formula():
    other = parse("h = exp(x); h + 1")
    assert _out("dy * h", extents={"dy": Extent.ELEMENT}, known=other.names) is apply(
        "multiply", variable("dy"), other.names["h"]
    )


def _message(text, **more):
    with pytest.raises(FormulaError) as raised:
        parse(text, **more)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x +", "Expected Python's syntax: invalid syntax. The formula: 'x +'."),
        ("  ;", "Expected an expression, got nothing. The formula: '  ;'."),
        ("h = x", "Expected an expression, the result, as the last line. The formula: 'h = x'."),
        (
            "x; y",
            "Expected lines of `name = expression`, and an expression as the last line in 'x'. The formula: 'x; y'.",
        ),
        ("h = x; h = y; h", "Expected each name to be given once, got 'h' again in 'h = y'."),
        ("exp = x; x", "Expected a name that is no function's, got 'exp' in 'exp = x'."),
        ("exp", "'exp' is a function: call it in 'exp'."),
        ("exp(x, y)", "Expected exp() to have 1 argument(s), got 2 in 'exp(x, y)'."),
        ("clip(x)", "Expected clip() to have 3 argument(s), got 1 in 'clip(x)'."),
        ("x > 0", "Expected a number, got a condition; write where(condition, a, b) in 'x > 0'."),
        ("where(x, 1, 2)", "Expected a condition such as `x > 0`, got a number in 'x'."),
        (
            "sum(x)",
            "sum() of one argument is of a row, which zmlx.row_kernel has and zmlx.elementwise not",
        ),
        (
            "at(x, 1)",
            "at() of two arguments is of a row, which zmlx.row_kernel has and zmlx.elementwise not in 'at(x, 1)'.",
        ),
        ("True * x", "Expected a number in 'True'."),
        (
            "x @ y",
            "Expected numbers, names, + - * / **, comparisons, `a if c else b` and functions in 'x @ y'.",
        ),
        ("x.T", "Expected numbers, names, + - * / **, comparisons, `a if c else b` and functions in 'x.T'."),
        ("gamma(x)", "Expected one of the functions abs, "),
    ],
)
def test_what_is_no_formula(text, message):
    said = _message(text, function="mine")
    assert said.startswith(f"[mine] {message.partition('. The formula')[0].rstrip('.')}"), said
    assert said.endswith(f"The formula: {text!r}.")


def test_unknown_names_are_told_with_the_known_ones():
    said = _message("x + z", extents={"x": Extent.ELEMENT, "a": Extent.UNIFORM})
    assert said == "[elementwise] Expected one of the names a, x, got 'z' in 'z'. The formula: 'x + z'."


def test_a_result_needs_its_line():
    assert _message("r = x", results=("q",)) == (
        "[elementwise] Expected a line that defines the result 'q'. The formula: 'r = x'."
    )


def test_a_formula_is_text():
    with pytest.raises(TypeError, match=re.escape("[elementwise] Expected a formula as text, got int.")):
        parse(3)  # type: ignore[arg-type]


def test_every_function_is_known_and_documented():
    from zmlx.kernels._formula.functions import FUNCTIONS, MACROS

    assert {"exp", "where", "silu", "normal_cdf"} <= set(known_functions(rows=False))
    assert {name for name, function in FUNCTIONS.items() if function.doc} | set(MACROS) == set(
        known_functions(rows=False)
    )


def test_what_is_written_in_the_language_is_documented():
    from zmlx.kernels._formula.functions import MACRO_DOCS, MACROS

    assert set(MACRO_DOCS) == set(MACROS)
