"""``python -m zmlx judge``: exit status, JSON, and requests that make no sense."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("mlx.core")

import mlx.core as mx

from zmlx.__main__ import main
from zmlx.testing.judge import REASONS, SCHEMA, Verdict, judge
from zmlx.testing.judge.choice import find_operation
from zmlx.testing.judge.verdict import Timing

HERE = Path(__file__).parent
HONEST = HERE / "honest_signed_square.py"


@pytest.fixture(autouse=True)
def _in_this_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(HERE)
    monkeypatch.syspath_prepend(str(HERE))
    before = mx.default_device()
    yield
    mx.set_default_device(before)


def test_accepted_is_0_and_json_says_what_was_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", str(HONEST), "--op", "small_ops:signed_square", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["schema"] == SCHEMA == 1
    assert body["accepted"] is True
    assert body["reasons"] == []
    assert body["operation"] == "small.signed_square"
    assert body["launches"] >= body["cases"] >= 10
    assert set(body["looked_at"]) == {"legality", "nvrtc"}
    assert body["timing"] is None


def test_refused_is_1_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    cheat = str(HERE / "cheats" / "mlx_operations.py")
    assert main(["judge", cheat, "--op", "small_ops:SIGNED_SQUARE", "--function", "signed_square"]) == 1
    out = capsys.readouterr().out
    assert f"no-kernel: {REASONS['no-kernel']}" in out
    assert out.rstrip().endswith("REFUSED: no-kernel")


def test_a_function_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", str(HONEST), "--op", "small_ops:row_max"]) == 1
    assert (
        "expected a function 'row_max' in it; it has KERNEL, launch, signed_square" in capsys.readouterr().out
    )


REQUESTS = {
    "no file": (["none.py", "--op", "small_ops:row_max"], "none.py: expected a Python file (*.py)"),
    "no seeds": (
        [str(HONEST), "--op", "small_ops:row_max", "--seeds", "0"],
        "--seeds: expected 1 or more, got 0",
    ),
    "no time": (
        [str(HONEST), "--op", "small_ops:row_max", "--time-limit", "0"],
        "--time-limit: expected a number above 0, got 0.0",
    ),
    "no such operation": (
        [str(HONEST), "--op", "small_ops:rowmax"],
        "--op small_ops:rowmax: expected one operation, and small_ops:OPS has no operation of that name.",
    ),
    "several operations": ([str(HONEST), "--op", "small_ops:OPS"], "has 2 operations of that name"),
}


@pytest.mark.parametrize("request_", REQUESTS)
def test_requests_that_make_no_sense_are_2(request_: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, words = REQUESTS[request_]
    assert main(["judge", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_operations_go_by_name_entry_or_table() -> None:
    assert find_operation("small_ops:row_max").op.name == "small.row_max"
    assert find_operation("small_ops:small.row_max").op.name == "small.row_max"
    assert find_operation("small_ops:ROW_MAX").op.name == "small.row_max"
    assert find_operation("zmlx.testing.op_db:swiglu").op.name == "transformer.swiglu"


def test_times_are_shown_and_are_no_part_of_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["judge", str(HONEST), "--op", "small_ops:signed_square", "--against-time", "--json"]
    assert main(arguments) == 0
    timing = json.loads(capsys.readouterr().out)["timing"]
    assert timing["ratio"] == pytest.approx(timing["incumbent"] / timing["candidate"])
    assert timing["candidate"] > 0

    slow = Verdict("a.py", "small.row_max", timing=Timing(2e-3, 1e-3, 9, "hidden shape 1"))
    assert slow.accepted
    assert "candidate 2000 us, incumbent 1000 us, ratio 0.50" in slow.text()


def test_an_operation_that_fails_its_own_oracle_judges_nobody() -> None:
    wrong = replace(find_operation("small_ops:row_max").op, op=lambda x: mx.min(x, axis=-1))
    verdict = judge(HONEST, wrong, function="signed_square")
    assert "nothing-judged" in verdict.codes


def test_only_known_reasons_and_one_of_a_kind() -> None:
    verdict = Verdict("a.py", "small.row_max")
    verdict.refuse("stale", "one", "first")
    verdict.refuse("stale", "two", "second")
    assert [(r.case, r.message) for r in verdict.reasons] == [("one", "first")]
    with pytest.raises(KeyError):
        verdict.refuse("because", "one", "first")


PROJECT = {
    "pyproject.toml": """
[tool.zmlx]
ops = "mine.ops:OPS"
""",
    "mine/__init__.py": "",
    "mine/ops.py": """
import mlx.core as mx

from zmlx.testing import OpInfo, SampleInput

OPS = (
    OpInfo(
        "mine.scaled",
        lambda x, factor=1.0: x * factor,
        lambda x, factor=1.0: x * factor,
        lambda rng: [SampleInput("small", (rng("small").normal((4, 6)),), {"factor": 3.0})],
        "x times a number",
        dtypes=("float32",),
    ),
)
""",
    "mine/texts.py": 'SOURCE = "uint i = thread_position_in_grid.x; y[i] = x[i] * f[0];"',
    "candidate.py": """
import mlx.core as mx
from mine.texts import SOURCE

kernel = mx.fast.metal_kernel(name="scaled", input_names=["x", "f"], output_names=["y"], source=SOURCE)


def scaled(x, factor=1.0):
    return kernel(
        inputs=[x, mx.array([factor])],
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
        grid=(x.size, 1, 1),
        threadgroup=(1, 1, 1),
    )[0]
""",
}


def test_a_project_of_ones_own(tmp_path: Path) -> None:
    """The operation by its name, with keyword arguments; the candidate imports from the project."""
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "zmlx", "judge", "candidate.py", "--op", "scaled", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["operation"] == "mine.scaled"


def test_help_needs_no_mlx_and_has_the_exit_status() -> None:
    code = (
        "import sys; sys.modules['mlx'] = sys.modules['numpy'] = None; from zmlx.__main__ import main; main()"
    )
    command = [sys.executable, "-c", code, "judge", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "Exit status 0: accepted. 1: refused" in done.stdout
