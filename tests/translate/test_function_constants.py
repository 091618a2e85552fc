"""Function constants: given, asked for, not reached, and refused."""

from __future__ import annotations

import mlx.core as mx
import pytest

import zmlx
from zmlx.errors import TranslationError

pytestmark = pytest.mark.cpu

HEADER = """
constant bool twice [[function_constant(0)]];
constant int more [[function_constant(1)]];
constant int added = is_function_constant_defined(more) ? more : 5;
int f(int x) { return twice ? 2 * x : x; }
"""


def run(source: str, header: str = HEADER, **constants: bool | int | float) -> list[int]:
    kernel = zmlx.metal_kernel("constants", ["x"], ["out"], source, header, function_constants=constants)
    (out,) = kernel(
        inputs=[mx.arange(1, 4)],
        output_shapes=[(3,)],
        output_dtypes=[mx.int32],
        grid=(3, 1, 1),
        threadgroup=(3, 1, 1),
        stream=mx.cpu,
    )
    values: list[int] = out.tolist()  # type: ignore[assignment]
    return values


AT = "uint i = thread_position_in_grid.x; out[i] = "


def test_values_are_given_by_name() -> None:
    assert run(f"{AT}f(x[i]);", twice=True) == [2, 4, 6]
    assert run(f"{AT}f(x[i]);", twice=False) == [1, 2, 3]
    assert run(f"{AT}x[i] + added;", more=7) == [8, 9, 10]


def test_who_asks_gets_the_default() -> None:
    assert run(f"{AT}x[i] + added;") == [6, 7, 8]


def test_one_that_the_kernel_does_not_reach_needs_no_value() -> None:
    assert run(f"{AT}x[i];") == [1, 2, 3]


def test_one_that_it_needs_is_refused() -> None:
    with pytest.raises(
        TranslationError,
        match=r"header line 2 .*: `twice`: function constants have no values here; give it with "
        r"function_constants=\{'twice': value\}\. Metal refuses it too\.",
    ):
        run(f"{AT}f(x[i]);")


def test_one_that_is_not_declared_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"Expected function_constants to be those of the header, got 'thrice', which it does not declare as "
        r"`constant … thrice \[\[function_constant\(0\)\]\];`\.",
    ):
        run(AT + "0;", thrice=True)


def test_a_value_is_a_number() -> None:
    with pytest.raises(
        ValueError, match=r"Expected function_constants\['twice'\] to be a bool or a number, got 'yes'\."
    ):
        run(AT + "0;", twice="yes")  # type: ignore[arg-type]
