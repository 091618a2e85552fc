"""What Metal's compiler refuses is refused, and nothing else."""

from __future__ import annotations

import pytest
from legality_table import ACCEPTED, REFUSED, Program

from zmlx.__main__ import main
from zmlx.check.legality import front_end
from zmlx.check.legality.front_end import available
from zmlx.check.legality.judge import judge, static_findings
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
    "bfloat of a half": "bfloat b = half(1); out[0] = b;",
}


@pytest.mark.parametrize("source", UNCLEAR.values(), ids=UNCLEAR)
def test_nothing_is_said_of_what_is_not_known(source):
    assert judge(signature(Program("", source, ""))).findings == ()


def test_vectors_are_named_as_metal_names_them():
    (finding,) = judge(signature(Program("", "half4 v = half4(1); float4 f = v; out[0] = f.x;", ""))).findings
    assert finding.message == (
        "cannot initialize a variable of type 'vec<float, 4>' with an lvalue of type 'vec<half, 4>': vectors do not "
        "become another type by themselves (MSL, Vector Data Types)"
    )
    (finding,) = judge(signature(Program("", "out[0] = float4(1) + int4(2);", ""))).findings
    assert "('float4' and 'int4') are not permitted" in finding.message


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
