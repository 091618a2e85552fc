"""A benchmark's JSON file is read back as it was written, or not at all."""

import json
from dataclasses import replace

import pytest

from zmlx.testing.bench.kept import Key, kept_path, newest_kept, read_run
from zmlx.testing.bench.measurement import PLANS, Measurement
from zmlx.testing.bench.run import Benchmark
from zmlx.testing.bench.table import to_json
from zmlx.testing.bench.timing import Timing
from zmlx.testing.evidence import EvidenceError

pytestmark = pytest.mark.cpu

ABOUT = {"device": "a CPU", "date": "2026-01-02"}
LINES = (
    Measurement(
        *("f.g", "float32", "loop", Timing((1.0, 2.0, 3.0))),
        of_copy=0.5,
        of_copy_spread=0.1,
        direction="backward",
        shapes=((2, 3), (3,)),
    ),
    Measurement("f.h", "float16", failure="no luck", direction="forward"),
    Measurement("engine.copy", path="memcpy", timing=Timing((1.0,))),
    Measurement("engine.copy", path="mx.negative", timing=Timing((2.0,))),
)
FOUND = Benchmark("cpu", ABOUT, PLANS["cpu"], LINES, "f.*", "float32")


def written(folder, found=FOUND, name="cpu.json", edit=lambda body: None):
    body = json.loads(to_json(found))
    edit(body)
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(body), encoding="utf-8")
    return path


def test_what_was_written_comes_back(tmp_path):
    run = read_run(written(tmp_path))
    assert (run.backend, run.environment, run.kernel, run.dtype) == ("cpu", ABOUT, "f.*", "float32")
    assert (run.missing, read_run(written(tmp_path, replace(FOUND, missing=3))).missing) == (0, 3)
    assert run.sizes["rows"] == PLANS["cpu"].rows
    kernel, failed, memcpy, negative = run.rows.values()
    assert kernel.key == Key("f.g", "backward", "float32", "2x3 3")
    assert (kernel.seconds, kernel.spread, kernel.rounds) == (2.0, 0.25, 3)
    assert (kernel.of_copy, kernel.of_copy_spread, kernel.failure) == (0.5, 0.1, "")
    assert (failed.failure, failed.of_copy) == ("no luck", None)
    assert [row.key.name for row in (memcpy, negative)] == [
        "engine.copy (memcpy)",
        "engine.copy (mx.negative)",
    ]


def first(**changes):
    return lambda body: body["measurements"][0].update(changes)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda body: body.update(schema=1), "expected schema 2, got 1: another version of zmlx wrote it."),
        (lambda body: body.pop("plan"), "is not a benchmark file: expected 'plan' to be of type dict"),
        (lambda body: body["measurements"].insert(1, 7), "measurement 1 is damaged (TypeError: "),
        (lambda body: body["measurements"][0].pop("name"), "measurement 0 is damaged (KeyError: 'name')"),
        (first(timing={"median_s": 0, "spread": 0, "rounds": 1}), "a median of 0.0 s with a spread of 0.0"),
        (first(timing={"median_s": "fast", "spread": 0, "rounds": 1}), "measurement 0 is damaged (ValueError"),
        (first(of_copy=-1), "a speed of -1 of the copy's"),
        (first(shapes=[["a"]]), "measurement 0 is damaged (ValueError: invalid literal"),
        (lambda body: body["measurements"].append(body["measurements"][0]), "f.g (backward float32) is there twice"),
    ],
)  # fmt: skip
def test_damage_is_told_in_a_line(edit, said, tmp_path):
    path = written(tmp_path, edit=edit)
    with pytest.raises(EvidenceError) as error:
        read_run(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert said in message
    assert message.endswith("`python -m zmlx bench --output-dir DIR` writes one.")


def test_every_truncation_is_noticed(tmp_path):
    path = written(tmp_path)
    text = path.read_text(encoding="utf-8")
    for length in range(0, len(text), 7):
        path.write_text(text[:length], encoding="utf-8")
        with pytest.raises(EvidenceError, match="is damaged"):
            read_run(path)


def test_a_row_that_failed_after_its_first_lines_is_no_second_row(tmp_path):
    lines = (LINES[3], Measurement("engine.copy", path="mx.negative", failure="stopped"))
    for order in (lines, lines[::-1]):
        run = read_run(written(tmp_path, replace(FOUND, measurements=order)))
        (row,) = run.rows.values()
        assert not row.failure


def test_where_a_release_is_kept(tmp_path):
    assert kept_path(tmp_path, "1.2.0+cu13", "cuda") == tmp_path / "benchmarks" / "1.2.0+cu13-cuda.json"
    for name in ("", "../1", "1 2", ".1"):
        with pytest.raises(ValueError, match=r"^--keep: expected a name of letters, digits, .* got '"):
            kept_path(tmp_path, name, "cuda")


def test_the_newest_is_that_of_the_last_date_then_of_the_highest_version(tmp_path):
    assert newest_kept(tmp_path, "cpu") is None
    for name, date in [("1.9.0", "2026-01-02"), ("1.10.0", "2026-01-02"), ("2.0.0", "2026-01-01")]:
        found = replace(FOUND, environment={**ABOUT, "date": date})
        written(tmp_path / "benchmarks", found, f"{name}-cpu.json")
    written(tmp_path / "benchmarks", replace(FOUND, backend="cuda"), "3.0.0-cuda.json")
    assert newest_kept(tmp_path, "cpu").path.name == "1.10.0-cpu.json"
    assert newest_kept(tmp_path, "cuda").path.name == "3.0.0-cuda.json"
    assert newest_kept(tmp_path, "metal") is None
