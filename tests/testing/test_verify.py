from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from zmlx import _compat
from zmlx.testing.evidence import EvidenceError
from zmlx.testing.opinfo import OpInfo, SampleInput
from zmlx.testing.verification import Change, Failure, Row, Verification, read_verification
from zmlx.testing.verify import VerifyError, select, verify

pytestmark = pytest.mark.cpu


def samples(rng: Any) -> Iterator[SampleInput]:
    yield SampleInput("small", (rng("small").normal((3, 8)),))
    yield SampleInput("empty", (np.zeros((0, 8)),))


def square(x: Any) -> Any:
    return x * x


def square_vjp(x: Any, cotangent: Any) -> tuple[Any]:
    return (2 * x * cotangent,)


def make(name: str = "made.square", **changes: Any) -> OpInfo:
    fields: dict[str, Any] = {
        "op": square,
        "oracle": lambda x: x * x,
        "oracle_vjp": square_vjp,
        "differentiable": (0,),
        "samples": samples,
        "source": "arithmetic",
        "kernel": False,
    }
    return OpInfo(name=name, **{**fields, **changes})


def double_on_the_gpu(x: Any) -> Any:
    import zmlx

    kernel = zmlx.metal_kernel(
        "verify_double", ["x"], ["y"], "uint i = thread_position_in_grid.x; y[i] = x[i] + x[i];"
    )
    (y,) = kernel(
        inputs=[x],
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
        grid=(x.size, 1, 1),
        threadgroup=(32, 1, 1),
    )
    return y


def check(*ops: OpInfo, **selection: Any) -> Verification:
    return verify("cpu", ops=ops, **selection)


def test_right_operations_pass_forward_and_gradient() -> None:
    found = check(make())
    assert found.ok
    assert found.exit_code == 0
    assert [(row.op, row.dtype, row.samples) for row in found.rows] == [
        ("made.square", "float32", 2),
        ("made.square", "float16", 2),
        ("made.square", "bfloat16", 2),
    ]
    for row in found.rows:
        assert 0 < row.forward[1] <= row.forward[0] <= 0.51
        assert row.gradient is not None
        assert row.gradient[0] <= 1.01


def test_the_table_names_the_machine_and_every_row() -> None:
    text = check(make()).text()
    lines = text.splitlines()
    assert lines[0].startswith("cpu: ")
    assert "MLX " in lines[0]
    assert [line.split()[:3] for line in lines[3:6]] == [
        ["made.square", "float32", "2"],
        ["made.square", "float16", "2"],
        ["made.square", "bfloat16", "2"],
    ]
    assert all(line.endswith("PASS") for line in lines[3:6])
    assert lines[-1] == "1 operation, 6 cases: all within tolerance of the oracle"


def test_a_wrong_result_fails_with_the_worst_element_and_a_command() -> None:
    found = check(make(oracle=lambda x: 1.001 * x * x), dtype="float32")
    assert found.exit_code == 1
    assert [failure.direction for failure in found.failures] == ["forward"]
    text = found.text()
    assert re.search(
        r"FAIL forward: made.square/float32/small: \d+ of 24 elements \(.* %\) are outside", text
    )
    assert "worst element" in text
    command = "python -m zmlx verify --backend cpu --kernel made.square --dtype float32"
    assert f"  to reproduce: {command}" in text
    assert text.endswith("1 operation, 2 cases: 1 failure")


def test_a_wrong_gradient_fails() -> None:
    found = check(make(oracle_vjp=lambda x, c: (3 * x * c,)), dtype="float32")
    assert [failure.direction for failure in found.failures] == ["gradient"]
    assert "made.square/float32/small, gradient of argument 0" in found.failures[0].message


def test_an_operation_without_gradient_has_none() -> None:
    (row,) = check(make(oracle_vjp=None, differentiable=()), dtype="float32").rows
    assert row.gradient is None
    assert not row.failures


def test_a_case_that_raises_fails_and_the_others_run() -> None:
    def broken(x: Any) -> Any:
        raise RuntimeError("out of luck")

    found = check(make("made.broken", op=broken), make(), dtype="float32")
    assert [bool(row.failures) for row in found.rows] == [True, False]
    assert "made.broken/float32/small: RuntimeError: out of luck" in found.failures[0].message


def test_a_kernel_that_launches_passes() -> None:
    op = make(
        "made.double",
        op=double_on_the_gpu,
        oracle=lambda x: 2 * x,
        kernel=True,
        oracle_vjp=None,
        differentiable=(),
    )
    found = check(op, dtype="float32")
    assert found.ok, found.text()
    assert found.rows[0].forward == (0.0, 0.0)


def test_a_kernel_that_did_not_launch_fails_although_its_numbers_are_right() -> None:
    found = check(make(kernel=True), dtype="float32")
    assert [failure.case for failure in found.failures] == ["made.square/float32/small"]
    assert "no kernel ran on cpu; a fallback took its place" in found.failures[0].message


def test_a_wrong_shape_and_a_wrong_number_of_outputs_fail() -> None:
    # (The sum of an empty array ends the process on CUDA, MLX 0.32.4.)
    found = check(
        make(op=lambda x: x.sum() if x.size else x, oracle_vjp=None, differentiable=()), dtype="float32"
    )
    assert "expected shape (3, 8), got ()" in found.failures[0].message
    found = check(make(op=lambda x: (x, x), oracle_vjp=None, differentiable=()), dtype="float32")
    assert "2 outputs, the oracle has 1" in found.failures[0].message


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("*", ["norms.rmsnorm", "norms.layernorm", "softmax.softmax_lastdim"]),
        ("norms.*", ["norms.rmsnorm", "norms.layernorm"]),
        ("rmsnorm", ["norms.rmsnorm"]),
        ("norms.rmsnorm", ["norms.rmsnorm"]),
        ("soft*", ["softmax.softmax_lastdim"]),
    ],
)
def test_select_by_pattern(kernel: str, expected: list[str]) -> None:
    ops = [make(name) for name in ("norms.rmsnorm", "norms.layernorm", "softmax.softmax_lastdim")]
    assert [op.name for op, _ in select(ops, "cpu", kernel, "float32")] == expected


def test_select_of_nothing_lists_what_there_is() -> None:
    ops = [
        make("norms.rmsnorm", dtypes={"cpu": ("float32",)}),
        make("norms.layernorm", dtypes={"cuda": ("float32",)}),
    ]
    with pytest.raises(
        VerifyError, match=r"^No operation matches 'swigl'. Known: norms.rmsnorm, norms.layernorm.$"
    ):
        select(ops, "cpu", "swigl")
    with pytest.raises(
        VerifyError, match=r"'norms.\*' supports dtype 'float8' on cpu; they support float32.$"
    ):
        select(ops, "cpu", "norms.*", "float8")
    with pytest.raises(VerifyError, match=r"supports any dtype on cpu; they support none there.$"):
        select(ops, "cpu", "layernorm")


def test_unknown_and_missing_back_ends() -> None:
    with pytest.raises(ValueError, match="expected one of metal, cuda, cpu; got 'tpu'"):
        verify("tpu", ops=[make()])
    missing = [name for name, state in _compat.availability().items() if not state.available]
    for name in missing:
        with pytest.raises(_compat.BackendUnavailableError, match=f"{name} is not available here"):
            verify(name, ops=[make()])


def test_json_holds_the_same_and_survives_infinite_errors() -> None:
    found = check(make(oracle=lambda x: np.full_like(x, np.inf)), dtype="float32")
    body = json.loads(found.to_json())
    assert body["ok"] is False
    assert body["backend"] == "cpu"
    assert body["rows"][0]["forward"][0] is None
    assert body["rows"][0]["failures"][0]["case"] == "made.square/float32/small"


def test_progress_counts_every_case() -> None:
    seen: list[tuple[int, int, str]] = []
    check(make(), dtype="float16", progress=lambda *step: seen.append(step))
    assert seen == [(0, 2, "made.square/float16/small"), (1, 2, "made.square/float16/empty")]


def test_the_device_and_the_environment_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    mx = _compat.import_mx()
    monkeypatch.delenv("MLX_ENABLE_TF32", raising=False)
    before = mx.default_device()
    seen: list[str | None] = []
    check(make(op=lambda x: seen.append(os.environ.get("MLX_ENABLE_TF32")) or x * x), dtype="float32")
    assert set(seen) == {"0"}
    assert "MLX_ENABLE_TF32" not in os.environ
    assert mx.default_device() == before


def test_nothing_verified_is_not_a_success() -> None:
    assert Verification("cpu", {"device": "d", "mlx": "m", "tf32": "0"}, ()).exit_code == 1


@pytest.mark.parametrize(
    ("width", "head"),
    [
        (None, "operation dtype samples forward ULP@RMS rms gradient ULP@RMS rms"),
        (200, "operation dtype samples forward ULP@RMS rms gradient ULP@RMS rms"),
        (71, "operation dtype samples forward ULP@RMS gradient ULP@RMS"),
        (62, "operation dtype forward ULP@RMS gradient ULP@RMS"),
        (30, "operation dtype"),
        (5, "operation dtype"),
    ],
)
def test_the_table_fits_the_terminal(width, head):
    row = Row("mine.square", "bfloat16", 2, (0.5, 0.2), (0.5, 0.2), ())
    about = {"device": "a CPU", "mlx": "0.32.4", "tf32": "0"}
    lines = Verification("cpu", about, (row,)).text(width).splitlines()
    assert lines[2].split() == head.split()
    assert lines[3].endswith("  PASS")
    assert width is None or width < 30 or len(lines[3]) <= width


@pytest.mark.parametrize(
    ("width", "head"),
    [
        (None, "operation dtype samples forward ULP@RMS rms gradient ULP@RMS rms runs TF32"),
        (100, "operation dtype samples forward ULP@RMS gradient ULP@RMS runs TF32"),
        (90, "operation dtype forward ULP@RMS gradient ULP@RMS runs TF32"),
        (62, "operation dtype forward ULP@RMS gradient ULP@RMS"),
        (30, "operation dtype"),
    ],
)
def test_columns_of_what_was_asked_for(width, head):
    """Those that no row has are left out."""
    one = Row("mine.square", "bfloat16", 2, (0.5, 0.2), (0.5, 0.2), (), repeats=Change(3, 10))
    other = Row("f.g", "float32", 2, (0.5, 0.2), None, (), tf32=Change(0, note="not here"))
    about = {"device": "a CPU", "mlx": "0.32.4", "tf32": "0"}
    text = Verification("cpu", about, (one, other)).text(width)
    lines = text.splitlines()
    assert lines[2].split() == head.split()
    shown = lines[3].split()[-4:]
    assert (shown == ["same", "bits", "-", "PASS"]) == ("TF32" in head)
    assert "runs: 3 runs of every sample, forward and gradient; all rows have the same bits" in lines
    assert "TF32:" not in text  # nothing was run for it


def test_what_reproduces_a_failure_names_the_table_that_ops_named():
    failure = Failure("f.g/float32/s", "forward", "wrong")
    row = Row("f.g", "float32", 2, (math.inf, 0.2), None, (failure,))
    found = Verification("cpu", {"device": "a CPU", "mlx": "0", "tf32": "0"}, (row,))
    command = "  to reproduce: python -m zmlx verify --backend cpu --kernel f.g --dtype float32"
    assert command in found.text().splitlines()
    assert f"{command} --ops mine.ops:A" in found.text(tables=["mine.ops:A"]).splitlines()


def test_the_file_that_reports_read(tmp_path):
    rows = (
        Row("f.g", "float32", 2, (math.inf, 0.2), None, (Failure("f.g/float32/s", "forward", "wrong"),)),
        Row(
            *("f.h", "float32", 2, (0.5, 0.2), (0.5, 0.2), ()),
            repeats=Change(3, 10),
            orders=Change(4, 10, 2, math.inf),
            tf32=Change(0, note="not on this back end"),
        ),
    )
    found = Verification("cpu", {"device": "a CPU"}, rows)
    path = tmp_path / "cpu-verify.json"
    path.write_text(found.to_json(), encoding="utf-8")
    assert read_verification(path) == found
    body = json.loads(found.to_json())
    body["rows"][1]["orders"]["unheard"] = 1
    path.write_text(json.dumps(body), encoding="utf-8")
    expected = r"a row is damaged \(TypeError: .*unheard.*\)\. `python -m zmlx verify --output-dir DIR` writes one\.$"
    with pytest.raises(EvidenceError, match=expected):
        read_verification(path)


def test_an_oracle_of_mlx_operations_is_said():
    row = Row("mine.square", "bfloat16", 2, (0.5, 0.2), None, (), "float32")
    about = {"device": "a CPU", "mlx": "0.32.4", "tf32": "0"}
    text = Verification("cpu", about, (row, row)).text()
    assert "\noracle of MLX operations in float32, whose own rounding counts too: mine.square\n" in text


@pytest.mark.parametrize(
    ("field", "complaint"),
    [
        ("kernels", "zmlx_other was not launched on cpu."),
        ("grad_kernels", "zmlx_other was not launched for the gradient."),
    ],
)
def test_a_kernel_that_an_entry_names_must_run(field, complaint):
    from dataclasses import replace

    from zmlx.testing.op_db.softmax import OPS

    op = next(op for op in OPS if op.name == "softmax.softmax_lastdim")
    found = verify("cpu", dtype="float32", ops=[replace(op, **{field: ("zmlx_other",)})])
    assert {failure.message.split(": ", 1)[1] for failure in found.failures} == {complaint}
    assert not any("/no_" in failure.case for failure in found.failures)  # nothing to launch for
    assert verify("cpu", dtype="float32", ops=[op]).ok
