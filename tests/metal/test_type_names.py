"""Metal's names of types, and the dtypes of what they point to."""

from __future__ import annotations

import pytest

from zmlx.metal.type_names import NumberType, aliases, number_type

pytestmark = pytest.mark.cpu

#: What the names stand for that a file gives and a kernel's template has.
KNOWN = {
    **aliases("typedef float real; using wide = real; using metal::half; typedef unsigned int index;"),
    "T": "half",
    "loop": "loop",
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("float", NumberType("float32")),
        ("half", NumberType("float16")),
        ("bfloat16_t", NumberType("bfloat16")),
        ("unsigned", NumberType("uint32")),
        ("unsigned long", NumberType("uint64")),
        ("long long", None),
        ("unsigned short int", NumberType("uint16")),
        ("short int", NumberType("int16")),
        ("size_t", NumberType("uint64")),
        ("complex64_t", NumberType("complex64")),
        ("metal::float4", NumberType("float32", 4)),
        ("packed_half3", NumberType("float16", 3)),
        ("vec<T, 2>", NumberType("float16", 2)),
        ("metal::atomic<uint>", NumberType("uint32", atomic=True)),
        ("atomic_int", NumberType("int32", atomic=True)),
        ("wide", NumberType("float32")),
        ("index", NumberType("uint32")),
        ("T", NumberType("float16")),
        ("Params", None),
        ("struct2", None),
        ("vec<Params, 2>", None),
        ("loop", None),
    ],
)
def test_a_name_stands_for_a_type(name: str, expected: NumberType | None) -> None:
    assert number_type(name, KNOWN) == expected
