"""What a name in a kernel's body means, and where it is changed."""

from __future__ import annotations

import pytest

from zmlx.metal.signature import KernelSource
from zmlx.metal.statements import parse
from zmlx.metal.structure import Program
from zmlx.translate.variables import Body, Variables, close_over_macros

pytestmark = pytest.mark.cpu


def variables_of(source: str, header: str = "") -> Variables:
    kernel = KernelSource("k", ("x",), ("out",), source, header)
    program = Program(header, source)
    fragment = program.body.main
    statements = parse(fragment, 0, len(fragment) - 1)
    body = Body(kernel, program, statements, frozenset(), frozenset(), False)
    body.grouped = {s for outer in statements for s in outer.walk()}
    return Variables(body)


def written(variables: Variables, first: int, last: int) -> list[str]:
    return sorted({variable.name for _, variable, _ in variables.writes(first, last)})


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("int a = x[0]; a += 1; out[0] = a;", ["a"]),
        ("int a = x[0]; ++a; out[0] = a--;", ["a"]),
        ("int a[2]; a[0] = x[0]; out[0] = a[0];", ["a"]),
        ("int2 a; a.x = x[0]; out[0] = a.x;", ["a"]),
        ("int a = x[0]; out[0] = a == 1 ? 2 : a;", []),
    ],
)
def test_what_changes_a_variable(source, names):
    variables = variables_of(source)
    last = len(variables.fragment) - 1
    assert [name for name in written(variables, 0, last) if name not in ("x", "out")] == names


def test_parameters_and_attributes_are_variables_too():
    origins = {v.name: v.origin for v in variables_of("out[thread_position_in_grid.x] = x[x_shape[0]];").all}
    assert origins["x"] == "input"
    assert origins["out"] == "output"
    assert origins["x_shape"] == "shape"
    assert origins["thread_position_in_grid"] == "attribute"


def test_names_in_macros_count():
    program = Program("#define A (B + c)\n#define B d\n", "out[0] = A;")
    assert close_over_macros(program, ["A"]) == {"A", "B", "c", "d"}
