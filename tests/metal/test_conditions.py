"""Conditions of ``#if`` that are known before anything is compiled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zmlx.metal.conditions import PREDEFINED, evaluate, is_defined
from zmlx.metal.tokens import tokenize

pytestmark = pytest.mark.cpu


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("__METAL_VERSION__ >= 310", True),
        ("__METAL_VERSION__ >= 400", False),
        ("(__METAL_VERSION__ >= 400) || defined(__METAL__)", True),
        ("defined __METAL__ && !defined(__METAL_IOS__)", True),
        ("defined(__HAVE_TENSOR__)", False),
        ("__HAVE_TENSOR__", False),
        ("!0", True),
        ("0", False),
        ("1 + 2 * 2 == 5 && 4 - 1 != 2", True),
        ("0 /* off */", False),
        ("MINE", None),
        ("defined(MINE)", None),
        ("__METAL__ && MINE", None),
        ("__has_include(<metal_tensor>)", None),
        ("__FAST_MATH__", None),
        ("__GNUC__ > 3", None),
        ("(1", None),
        ("1 2", None),
        ("", None),
        ("defined(", None),
    ],
)
def test_conditions(condition, holds):
    assert evaluate(tokenize(condition)) is holds


def test_names():
    assert is_defined("__METAL__") is True
    assert is_defined("__HAVE_TENSOR__") is False
    assert is_defined("MINE") is None


def test_the_runtime_defines_the_same():
    from zmlx.runtime import RUNTIME

    text = Path(RUNTIME / "msl" / "predefined.h").read_text()
    assert {name: int(value) for name, value in re.findall(r"#define (\w+) (\d+)", text)} == PREDEFINED
