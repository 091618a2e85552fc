"""What Metal's compiler refuses is refused, and nothing else."""

from __future__ import annotations

import pytest
from legality_table import ACCEPTED, REFUSED, Program

from zmlx.__main__ import main
from zmlx.check.legality import front_end
from zmlx.check.legality.front_end import available
from zmlx.check.legality.judge import judge, static_findings
from zmlx.check.legality.sections import TITLES
from zmlx.metal.signature import ArrayType, KernelSource, Signature, make_signature

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.skipif(not available(), reason="there is no libclang; pip install '.[lint]'"),
]


def signature(program: Program) -> Signature:
    kernel = KernelSource(
        "k", ("w", "x", "z"), ("out",), program.source, program.header, atomic_outputs=program.atomic
    )
    inputs = [
        ArrayType("float32", 1, small=True),
        ArrayType("float32", 1),
        ArrayType("float32", 0, small=True),
    ]
    return make_signature(kernel, inputs, [program.dtype], program.template)


def test_the_table_is_large_and_half_of_it_is_refused():
    assert len(REFUSED) >= 60
    assert len(ACCEPTED) >= 60
    names = [p.name for p in REFUSED], [p.name for p in ACCEPTED]
    assert all(len(set(part)) == len(part) for part in names)


@pytest.mark.parametrize("program", REFUSED, ids=lambda p: p.name)
def test_refused(program):
    found = judge(signature(program)).findings
    assert found
    assert {f.kind for f in found} == {"not-metal"}
    assert all(f.line and f.advice and "__" not in f.message for f in found), [str(f) for f in found]
    if program.paragraph.startswith("MSL "):
        cited = {f.message.rpartition("(MSL ")[2].partition(", ")[0] for f in found}
        assert any(program.paragraph.removeprefix("MSL ").startswith(number) for number in cited if number)


@pytest.mark.parametrize("program", ACCEPTED, ids=lambda p: p.name)
def test_accepted_and_understood(program):
    judgement = judge(signature(program))
    assert [str(f) for f in judgement.findings] == []
    assert not judgement.unclear


#: What Metal accepts, or may accept, and the front end does not understand: nothing is said of it.
UNCLEAR = {
    "direct initialisation": "float4 f = float4(1); half4 h(f); out[0] = h.x;",
    "a static_cast of a vector": "auto h = static_cast<half4>(float4(1)); out[0] = h.x;",
    "comparisons of all widths": "bool4 m = (half4(1) < half4(2)) & (float4(1) < float4(2)); out[0] = any(m);",
    "a comparison kept": "auto m = half4(1) < half4(2); m = float4(1) < float4(2); out[0] = any(m);",
    "half4 times float": "float4 f = float4(half4(1) * 2.0f); out[0] = f.x;",
    "a vector's element in braces": "float4 f = float4(1); half4 h{f}; out[0] = h.x;",
    "a sum assigned to a bfloat": "bfloat b = bfloat(1); b += x[0]; b *= 2.5f; out[0] = b;",
}


@pytest.mark.parametrize("source", UNCLEAR.values(), ids=UNCLEAR)
def test_nothing_is_said_of_what_is_not_known(source):
    assert judge(signature(Program("", source, ""))).findings == ()


def test_a_type_that_is_not_known_is_no_int():
    """The front end goes on with int for it."""
    program = Program("", "out[0] = 1;", "", "mystery f(float2 v) {\n  return v;\n}\n")
    judgement = judge(signature(program))
    assert (judgement.findings, judgement.unclear) == ((), 2)


@pytest.mark.parametrize(
    ("source", "types"),
    [
        ("auto v = float4(1); device float* p = &v;", ("device float *", "float4 thread *")),
        ("threadgroup half4* p = out;", ("threadgroup half4 *", "device float *")),
        ("const device packed_float3* p = w;", ("const device packed_float3 *", "const constant float *")),
    ],
)
def test_types_are_named_as_metal_names_them(source, types):
    (finding,) = judge(signature(Program("", source, ""))).findings
    assert all(f"'{kind}'" in finding.message for kind in types), finding.message


def test_paragraphs_are_sections_of_the_specification():
    cited = {p.paragraph for p in REFUSED + ACCEPTED if p.paragraph.startswith("MSL ")}
    assert {paragraph.removeprefix("MSL ") for paragraph in cited} <= set(TITLES)


def test_a_metal_file_is_linted(tmp_path, capsys):
    path = tmp_path / "k.metal"
    path.write_text(
        "kernel void f(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {\n"
        "  threadgroup float s[32];\n  s[i] = x[i];\n  device float* p = s;\n  x[i] = p[0];\n}\n"
    )
    assert main(["lint", str(path)]) == 1
    out = capsys.readouterr().out
    assert "header line 4: device float* p = s;" in out
    assert "zmlx looked at 1 file: 1 finding: 1 not-metal" in out
    path.write_text(path.read_text().replace("device float* p", "threadgroup float* p"))
    assert main(["lint", str(path)]) == 0


def test_python_files_are_not_linted(capsys):
    assert main(["lint", "x.py"]) == 2
    assert "x.py is Python: lint reads Metal source. `python -m zmlx check x.py`" in capsys.readouterr().err


def test_without_libclang_it_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(front_end, "_index", lambda: None)
    assert main(["lint", str(tmp_path)]) == 1
    assert "pip install '.[lint]'" in capsys.readouterr().err
    found, notes = static_findings(signature(REFUSED[0]), (1, 1, 1))
    assert (found, notes) == ([], [front_end.MISSING])


@pytest.mark.parametrize(
    ("name", "message", "advice"),
    [
        (
            "int4 to float4",
            "an implicit conversion from int4 to float4 (MSL 2.22, Implicit Type Conversions)",
            "convert it by a constructor",
        ),
        (
            "vector argument",
            "`first` is called with an implicit conversion from int4 to float4",
            "constructor",
        ),
        ("half4 added to float4", "an operator on float4 and half4", "constructor"),
        ("swizzle of another length", "from float4 to a swizzle of 2 components", "constructor"),
        (
            "fma of two types",
            "`fma` is called with float4, float4, half4: a vector becomes no other type by itself (MSL 2.22",
            "constructor",
        ),
        (
            "exp of integers",
            "`exp` is called with int4, and takes numbers and vectors of floats",
            "constructor",
        ),
        (
            "any of floats",
            "`any` is called with float4, and takes a bool or a vector of bools",
            "any(v != 0)",
        ),
        (
            "a vector as a lane",
            "called with float, ushort2, and takes a number for one of the vectors",
            "v.x",
        ),
        (
            "vector for a method",
            "`f` is called with an implicit conversion from int4 to float4",
            "constructor",
        ),
        ("vector for a constructor", "`S` is called with an implicit conversion from int4", "constructor"),
        ("vector for a constructor of a template", "`S<float>` is called with an implicit", "constructor"),
        ("vector for a lambda", "a lambda is called with an implicit conversion from int4", "constructor"),
        (
            "constructor takes device, given constant",
            "`view` is given constant memory and takes device memory (MSL 4, Address Spaces)",
            "template parameter",
        ),
        ("vector as a condition", "float4 as a condition (MSL 2.22", "all(v), any(v)"),
        ("bfloat to half", "an implicit conversion from bfloat to half", "write half(float(…))"),
        ("float to bfloat", "an implicit conversion from float to bfloat", "write bfloat(…)"),
        ("pointer to another type", "from a pointer to float to a pointer to int", "cast the pointer"),
        ("const dropped", "from a pointer to const float to a pointer to float", "inputs are const"),
        ("const dropped for an argument", "`f` is called with a pointer to const float", "inputs are const"),
    ],
)
def test_what_is_said_of_conversions(name, message, advice):
    (program,) = (p for p in REFUSED if p.name == name)
    (finding,) = judge(signature(program)).findings
    assert message in finding.message
    assert advice in finding.advice
