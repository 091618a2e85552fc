"""A case's name, put together and taken apart."""

from __future__ import annotations

import pytest

from zmlx.testing.case_names import CaseName, split_case


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("norms.rmsnorm/float32/odd", ("norms.rmsnorm", "float32", "odd")),
        ("one value", ("one value", "", "")),
        ("mine/float32", ("mine", "float32", "")),
        ("mine/a/b/c", ("mine", "a", "b/c")),
    ],
)
def test_a_name_has_three_parts_and_lacks_some(name: str, parts: tuple[str, str, str]) -> None:
    assert split_case(name) == parts


def test_a_name_that_was_taken_apart_goes_together_again() -> None:
    name = CaseName("norms.rmsnorm", "float32", "odd")
    assert split_case(str(name)) == name
