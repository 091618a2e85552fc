"""``python -m zmlx judge``: exit status, JSON, and requests that make no sense."""

from __future__ import annotations

import json
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
