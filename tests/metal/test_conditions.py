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
        ("__has_include(<metal_tensor>)", False),
        ("__has_include(<MetalPerformancePrimitives/MetalPerformancePrimitives.h>)", False),
        ("__has_include(<metal_stdlib>) && !__has_include(<cuda_fp16.h>)", True),
        ('__has_include("mine.h")', False),
        ("__has_feature(cxx_rvalue_references) && !__has_feature(cxx_exceptions)", True),
        ("defined(__has_extension) && __has_extension(cxx_rtti)", False),
        ("defined(__has_include) && __has_include(<simd/simd.h>)", True),
        ("defined(__METAL_MACOS__)", False),
        ("defined(__HAVE_SIMDGROUP_MATRIX__)", True),
        ("defined(__CUDACC__) || __linux__", False),
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
    found = {name: int(value) for name, value in re.findall(r"^#define (\w+) (\d+)", text, re.MULTILINE)}
    assert found == {**PREDEFINED, "__clang__": 1}
    text = Path(RUNTIME / "check" / "legality.h").read_text()
    found = dict(re.findall(r"^#define (__\w+__) (\d+)$", text, re.MULTILINE))
    assert {name: int(value) for name, value in found.items()} == PREDEFINED
