"""Additions to Python source leave every other line as it is."""

from __future__ import annotations

import pytest

from zmlx.scaffold.source_edit import add_imports, add_to_all, add_to_sequence, defines

pytestmark = pytest.mark.cpu


@pytest.mark.parametrize(
    ("before", "element", "after"),
    [
        ("OPS = ()\nx = 1\n", "a", "OPS = (a,)\nx = 1\n"),
        ("OPS = (b,)\n", "a", "OPS = (b, a)\n"),
        ("OPS: tuple = (b, c)  # two\n", "a", "OPS: tuple = (b, c, a)  # two\n"),
        ("OPS = [b]\n", "a", "OPS = [b, a]\n"),
        ("OPS = (\n    b,\n    c,\n)\n", "a", "OPS = (\n    b,\n    c,\n    a,\n)\n"),
        ("OPS = (\n    b,\n    c\n)\n", "a", "OPS = (\n    b,\n    c,\n    a,\n)\n"),
        ("OPS = ()\n", "    f(\n        1,\n    )", "OPS = (\n    f(\n        1,\n    ),\n)\n"),
        ('OPS = ("ö",)\n', "a", 'OPS = ("ö", a)\n'),
    ],
)
def test_add_to_sequence(before: str, element: str, after: str) -> None:
    assert add_to_sequence(before, "OPS", element) == after


@pytest.mark.parametrize("text", ["OTHER = ()\n", "OPS = make()\n", "OPS = (*A, *B) + C\n", ""])
def test_what_is_no_literal_is_left_to_the_author(text: str) -> None:
    assert add_to_sequence(text, "OPS", "a") is None


def test_add_imports() -> None:
    text = '"""Doc."""\n\nimport os\nfrom a import B, d\n\nx = 1\n'
    wanted = ("os", "a:d", "a:C", "numpy as np", "e.f:g")
    assert add_imports(text, wanted) == (
        '"""Doc."""\n\nimport os\nfrom a import B, C, d\nimport numpy as np\nfrom e.f import g\n\nx = 1\n'
    )


def test_add_to_all_keeps_names_in_order() -> None:
    assert add_to_all('__all__ = ["b", "A"]\nx = 1\n', "a") == '__all__ = ["A", "a", "b"]\nx = 1\n'
    assert add_to_all("x = 1\n", "a") == "x = 1\n"


@pytest.mark.parametrize("name", ["f", "C", "a", "b", "os", "np", "d"])
def test_defines(name: str) -> None:
    text = "import os\nimport numpy as np\nfrom c import d\ndef f(): inside = 1\nclass C: pass\na = 1\nb: int = 2\n"
    assert defines(text, name)
    assert not defines(text, "inside")
