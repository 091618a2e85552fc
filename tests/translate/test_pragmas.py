"""Pragmas that forbid the fusing of products and sums."""

from __future__ import annotations

import pytest

from zmlx.metal.signature import KernelSource
from zmlx.translate import translate
from zmlx.translate.pragmas import forbids_contraction

pytestmark = pytest.mark.cpu

OFF = [
    "#pragma clang fp contract(off)",
    "#pragma METAL fp contract(off)",
    "#pragma METAL fp contract( off ) // exact",
    "#  pragma  clang fp \\\n contract(off)",
    "#pragma STDC FP_CONTRACT OFF",
    '_Pragma("clang fp contract(off)")',
    '#define EXACT _Pragma("METAL fp contract(off)")',
    "#pragma METAL fp math_mode(safe) contract(off)",
]
OTHERS = [
    "#pragma clang fp contract(on)",
    "#pragma METAL fp contract(fast)",
    "#pragma METAL fp math_mode(safe)",
    "#pragma STDC FP_CONTRACT ON",
    "// #pragma clang fp contract(off)",
    "#pragma unroll",
    "#pragma clang loop unroll(full)",
    "int off = contract(off);",
]


@pytest.mark.parametrize("place", ["header", "source"])
@pytest.mark.parametrize(("pragma", "forbids"), [*((p, True) for p in OFF), *((p, False) for p in OTHERS)])
def test_who_forbids(pragma, forbids, place):
    texts = {"header": "", "source": "", place: f"{pragma}\nint a;\n"}
    assert forbids_contraction(KernelSource("k", ("x",), ("out",), **texts)) is forbids


@pytest.mark.parametrize("target", ["host", "cuda"])
@pytest.mark.parametrize("pragma", [*OFF, *OTHERS[:4]])
def test_the_lines_go_and_their_breaks_stay(pragma, target):
    text = translate(KernelSource("k", ("x",), ("out",), f"{pragma}\nint a;\n"), target).body
    assert not any(word in text for word in ("contract", "CONTRACT", "math_mode"))
    assert text.count("\n") == pragma.count("\n") + 2


def test_other_pragmas_stay():
    assert (
        translate(KernelSource("k", ("x",), ("out",), "#pragma unroll\n"), "host").body == "#pragma unroll\n"
    )
