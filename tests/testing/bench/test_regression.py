"""What counts as a loss between two benchmarks, what is only noise, and what cannot be compared."""

import json
from pathlib import Path

import pytest

from zmlx.testing.bench.kept import KeptRow, KeptRun, Key
from zmlx.testing.bench.regression import (
    FAILED,
    FASTER,
    GONE,
    MACHINE_ONLY,
    NEW,
    SAME,
    SLOWER,
    UNCLEAR,
    DifferentRunsError,
    compare_runs,
)
from zmlx.testing.bench.regression_text import render_markdown, render_terminal, to_json

pytestmark = pytest.mark.cpu

ABOUT = {"device": "a CPU", "architecture": "x", "machine": "x86_64", "threads": "2", "mlx": "1", "zmlx": "2"}
PLAN = {"rows": 8, "columns": 4, "distinct": 0, "traffic": 0, "lazy": False, "norm_rows": 2}
KEY = Key("f.g", "forward", "float32", "8x4")
COPY = Key("engine.copy (memcpy)", "", "", "")


def row(seconds=1.0, spread=0.0, of_copy=None, of_copy_spread=0.0, key=KEY, failure="", rounds=11):
    return KeptRow(key, seconds, spread, rounds, of_copy, of_copy_spread, failure)


def run(*rows, name="old", backend="cpu", kernel="*", dtype=None, plan=PLAN, missing=0, **facts):
    by_key = {r.key: r for r in rows}
    return KeptRun(Path(f"{name}.json"), backend, {**ABOUT, **facts}, plan, kernel, dtype, by_key, missing)


def compared(old, new, **options):
    (found,) = compare_runs(run(old), run(new, name="new"), **options).rows
    return found


@pytest.mark.parametrize(
    ("old", "new", "ratio", "verdict"),
    [
        (row(1.0), row(1.0), 1.0, SAME),
        (row(0.95), row(1.0), 0.95, SAME),
        (row(0.89), row(1.0), 0.89, SLOWER),
        (row(0.89, 0.03), row(1.0, 0.03), 0.89, UNCLEAR),  # the noise is 6 %
        (row(0.83, 0.03), row(1.0, 0.03), 0.83, SLOWER),
        (row(1.2), row(1.0), 1.2, FASTER),
        (row(1.2, 0.2), row(1.0), 1.2, SAME),
        # A share of the copy's speed beside the time: the one that is nearer to 1 counts.
        (row(0.5, of_copy=0.8), row(1.0, of_copy=0.4), 0.5, SLOWER),
        (row(0.5, of_copy=0.8), row(1.0, of_copy=0.78), 0.975, SAME),  # the machine is busy
        (row(1.0, of_copy=0.8), row(1.0, of_copy=0.4), 1.0, SAME),  # the copy was faster
        (row(1.0, of_copy=0.4), row(0.5, of_copy=0.6), 1.5, FASTER),
        (row(0.5, of_copy=0.4), row(1.0, of_copy=0.6), 1.0, SAME),  # slower by one, faster by the other
        (row(0.5, of_copy=0.8, of_copy_spread=0.3), row(0.9, of_copy=0.5), 0.625, UNCLEAR),
    ],
)  # fmt: skip
def test_verdicts(old, new, ratio, verdict):
    found = compared(old, new)
    assert found.ratio == pytest.approx(ratio)
    assert found.verdict == verdict
    assert compare_runs(run(old), run(new)).exit_code == (1 if verdict == SLOWER else 0)


def test_the_tolerance_is_asked_for():
    old, new = row(0.93), row(1.0)
    assert compared(old, new).verdict == SAME
    assert compared(old, new, tolerance=0.05).verdict == SLOWER
    with pytest.raises(ValueError, match=r"^--tolerance: expected a part of the speed, 0 or more, got -1\.$"):
        compared(old, new, tolerance=-1.0)


def test_more_rounds_leave_less_noise():
    def noise(rounds):
        return compared(row(1.0, 0.3, rounds=rounds), row(1.0, 0.1, rounds=rounds)).noise

    assert noise(3) == noise(9) == pytest.approx(0.4)
    assert noise(40) == pytest.approx(0.4 * 3.14 / 40**0.5)
    assert noise(160) == pytest.approx(noise(40) / 2)
    # The share of the copy's speed has a noise of its own.
    found = compared(row(0.5, 0.3, 0.8, 0.02, rounds=100), row(1.0, 0.3, 0.4, 0.02, rounds=100))
    assert (found.ratio, found.verdict) == (0.5, SLOWER)


def test_few_rounds_have_a_noise_that_is_not_known():
    old, new = row(0.85, rounds=3), row(1.0)
    assert compared(old, new).verdict == UNCLEAR
    found = compare_runs(run(old), run(new))
    assert found.notes == (
        "some rows have 3 rounds only, of which the noise is not known; it is taken to be 10%",
    )


def test_what_only_one_run_has():
    other = Key("f.other", "backward", "float16", "8x4")
    both, before, now = row(), row(key=other), row(key=other)
    failed = row(key=other, failure="no luck")
    for old, new, verdict, status in [
        ([both, before], [both], GONE, 1),
        ([both], [both, now], NEW, 0),
        ([both, before], [both, failed], FAILED, 1),
        ([both], [both, failed], FAILED, 1),
        ([both, failed], [both, now], NEW, 0),
        ([both, failed], [both], SAME, 0),
    ]:
        found = compare_runs(run(*old), run(*new))
        assert {r.key.name: r.verdict for r in found.rows} == {"f.g": SAME, "f.other": verdict}
        assert found.exit_code == status


def test_what_was_not_selected_is_not_gone():
    engine = Key("engine.launch (1000 elements)", "", "float32", "")
    half = Key("f.g", "forward", "float16", "8x4")
    old = run(row(), row(key=engine), row(key=half), row(key=COPY))

    def names(new):
        return [(r.key.name, r.key.dtype) for r in compare_runs(old, new).rows]

    assert names(run(row(), kernel="f.*", dtype="float32")) == [("f.g", "float32")]
    assert names(run(row(), kernel="g")) == [("f.g", "float32"), ("f.g", "float16")]
    assert ("engine.launch (1000 elements)", "float32") in names(run(row(key=engine), kernel="engine.*"))
    assert [r.verdict for r in compare_runs(old, run(row(), dtype="float32")).rows] == [SAME, GONE, GONE]


def test_what_a_stopped_run_did_not_reach_is_not_gone():
    old = run(row(), row(key=Key("f.h", "forward", "float32", "8x4")))
    found = compare_runs(old, run(row(), name="new", missing=1))
    assert [r.verdict for r in found.rows] == [SAME]
    assert found.notes == ("new.json was stopped before its end: 1 of its benchmarks are not in it",)
    assert [r.verdict for r in compare_runs(old, run(row(), name="new")).rows] == [SAME, GONE]


def test_copies_measure_the_machine():
    found = compare_runs(run(row(), row(0.1, key=COPY)), run(row(), row(1.0, key=COPY)))
    assert [r.verdict for r in found.rows] == [SAME, MACHINE_ONLY]
    assert found.exit_code == 0


def test_two_machines_are_refused_unless_asked_for():
    old, new = run(row(0.5, of_copy=0.5)), run(row(2.0, of_copy=0.5), name="new", device="b CPU", threads="4")
    with pytest.raises(DifferentRunsError) as error:
        compare_runs(old, new)
    assert str(error.value) == (
        "old.json and new.json were not measured on one machine: device 'a CPU' and 'b CPU'; threads '2' and '4'. "
        "Measure both on one, or add --any-machine to compare them for what that is worth."
    )
    found = compare_runs(old, new, any_machine=True)
    assert [(r.ratio, r.verdict) for r in found.rows] == [(1.0, SAME)]  # by the shares alone
    assert found.notes == ("two machines: device 'a CPU' and 'b CPU'; threads '2' and '4'",)


def test_two_back_ends_have_sizes_of_their_own():
    gpu = row(0.1, of_copy=0.9, key=Key("f.g", "forward", "float32", "64x64"))
    old, new = run(row(of_copy=0.5)), run(gpu, backend="cuda", plan={**PLAN, "rows": 64})
    with pytest.raises(
        DifferentRunsError, match=r"one machine: back end 'cpu' and 'cuda'. Measure both on one"
    ):
        compare_runs(old, new)
    (found,) = compare_runs(old, new, any_machine=True).rows
    assert (found.ratio, found.key.shape) == (1.8, "")


def test_other_sizes_and_nothing_in_common_are_refused():
    with pytest.raises(DifferentRunsError) as error:
        compare_runs(run(row()), run(row(), name="new", plan={**PLAN, "rows": 2}), any_machine=True)
    assert str(error.value) == (
        "old.json and new.json were measured at different sizes: rows 8 and 2. Measure both with --quick or both "
        "without."
    )
    with pytest.raises(DifferentRunsError, match=r"no row in common: the first has f\.g, the second none\.$"):
        compare_runs(run(row()), run())
    with pytest.raises(DifferentRunsError, match=r"no row in common"):
        compare_runs(run(row()), run(row(failure="x")))


# ---- text ----

FOUND = compare_runs(
    run(row(0.5, 0.01, 0.8, 0.02), row(key=COPY), row(key=Key("f.h", "backward", "float16", "8x4"))),
    run(
        row(1.0, 0.01, 0.4, 0.02),
        row(key=COPY),
        row(key=Key("f.h", "backward", "float16", "8x4"), failure="f.h: a|b"),
        name="new",
        mlx="3",
    ),
)


def test_the_table_has_losses_first_and_the_verdict_last():
    lines = render_terminal(FOUND).splitlines()
    assert lines[:4] == [
        "old: old.json (cpu: a CPU, zmlx 2, MLX 1)",
        "new: new.json (cpu: a CPU, zmlx 2, MLX 3)",
        "note: mlx: 1 before, 3 now",
        "",
    ]
    table = [" ".join(line.split()) for line in lines[4:8]]
    assert table == [
        "kernel direction dtype shape old new ratio noise verdict",
        "f.g forward float32 8x4 500 ms (80%) 1.00 s (40%) 0.50x 2% SLOWER",
        "f.h backward float16 8x4 1.00 s failed - - FAILED",
        "engine.copy (memcpy) - - - 1.00 s 1.00 s 1.00x 0% machine",
    ]
    assert lines[-3:] == [
        "SLOWER f.g forward float32: the speed dropped by more than the tolerance and the noise of both runs together",
        "FAILED f.h backward float16: f.h: a|b",
        "FAIL: 1 SLOWER, 1 FAILED, 1 machine (of 3)",
    ]
    assert render_terminal(compare_runs(run(row()), run(row()))).endswith("\nPASS: 1 same (of 1)\n")


def test_markdown_and_json():
    text = render_markdown(FOUND)
    assert "## zmlx: benchmarks, FAIL: 1 SLOWER" in text
    assert "| f.g | forward | float32 | 8x4 | 500 ms (80%) | 1.00 s (40%) | 0.50x | 2% | SLOWER |" in text
    assert "- FAILED f.h backward float16: f.h: a\\|b" in text
    body = json.loads(to_json(FOUND))
    assert (body["ok"], body["tolerance"], body["notes"]) == (False, 0.1, ["mlx: 1 before, 3 now"])
    first = body["rows"][0]
    assert (first["name"], first["ratio"], first["verdict"]) == ("f.g", 0.5, "slower")
    assert first["old"]["of_copy"] == 0.8
