"""A benchmark's table, in text, Markdown and JSON."""

import json
from dataclasses import replace

import pytest

from zmlx.testing.bench.measurement import PLANS, Measurement, Versus
from zmlx.testing.bench.rivals import COMPILED, MLX
from zmlx.testing.bench.run import Benchmark
from zmlx.testing.bench.table import render_markdown, render_terminal, to_json, write_files
from zmlx.testing.bench.timing import Timing
from zmlx.testing.bench.units import duration

pytestmark = pytest.mark.cpu

ABOUT = {"device": "a CPU", "mlx": "0.32.4", "date": "2026-01-02", "threads": "2"}
LINE = Measurement(
    "f.g",
    "bfloat16",
    "loop",
    Timing((0.001, 0.002, 0.003)),
    4e6,
    "GB/s",
    0.5,
    (
        Versus(MLX, "mx.slow", Timing((0.02,) * 3), 10.0),
        Versus(COMPILED, "mx.compile", Timing((0.006,) * 3), 3.0),
        Versus(COMPILED, "mx.compile in float32", Timing((0.004,) * 3), 2.0),
    ),
)
COPY = Measurement("engine.copy", path="memcpy", timing=Timing((1e-6,)), work=2e3, unit="GB/s")
BROKEN = Measurement("f.h", "float32", failure="f.h/float32: RuntimeError: a|b")
FOUND = Benchmark("cpu", ABOUT, PLANS["cpu"], (LINE, COPY))
FAILED = Benchmark("cpu", ABOUT, PLANS["cpu"], (LINE, BROKEN))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.5, "1.50 s"), (0.25, "250 ms"), (0.0123, "12.3 ms"), (1e-6, "1.00 µs"), (5e-8, "0.05 µs")],
)
def test_durations_have_three_digits(seconds, text):
    assert duration(seconds) == text


def test_the_table_shows_the_fastest_of_each_column():
    heading, _, header, line, copy, *_ = render_terminal(FOUND).splitlines()
    assert heading == "cpu: a CPU, 2 threads, MLX 0.32.4, 2026-01-02; kernels make 2048 rows of 2048"
    assert header.split()[:4] == ["benchmark", "dtype", "path", "median"]
    assert " ".join(line.split()) == (
        "f.g bfloat16 loop 2.00 ms 25% 2.00 GB/s 50% 10.0x mx.slow 2.00x in float32"
    )
    assert " ".join(copy.split()) == "engine.copy - memcpy 1.00 µs 0% 2.00 GB/s - - -"


def test_failures_are_in_the_table_and_below_it():
    text = render_terminal(FAILED)
    assert text.splitlines()[4].split() == ["f.h", "float32", "-", "FAIL", "-", "-", "-", "-", "-"]
    assert text.endswith("\nFAIL f.h/float32: RuntimeError: a|b\n")
    assert "FAIL" not in render_terminal(FOUND)


def test_markdown():
    text = render_markdown(FAILED)
    assert (
        "| f.g | bfloat16 | loop | 2.00 ms | 25% | 2.00 GB/s | 50% | 10.0x mx.slow | 2.00x in float32 |"
        in text
    )
    assert "- f.h/float32: RuntimeError: a\\|b" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1


def test_json_has_every_rival_and_the_quartiles():
    body = json.loads(to_json(FOUND))
    assert (body["ok"], body["schema"], body["backend"]) == (True, 2, "cpu")
    assert body["plan"]["rows"] == PLANS["cpu"].rows
    line, copy = body["measurements"]
    assert line["timing"] == {
        "median_s": 0.002,
        "quartiles_s": [0.0015, 0.0025],
        "spread": 0.25,
        "best_s": 0.001,
        "rounds": 3,
    }
    assert [(v["name"], v["ratio"]) for v in line["against"]] == [
        ("mx.slow", 10.0),
        ("mx.compile", 3.0),
        ("mx.compile in float32", 2.0),
    ]
    assert copy["dtype"] is None
    failed = json.loads(to_json(FAILED))
    assert failed["ok"] is False
    assert failed["measurements"][1]["timing"] is None
    assert failed["measurements"][1]["failure"] == BROKEN.failure


@pytest.mark.parametrize(("missing", "were"), [(1, "1 benchmark was"), (12, "12 benchmarks were")])
def test_a_run_that_was_stopped_says_so(missing, were):
    found = replace(FOUND, missing=missing)
    said = f"Stopped before its end: {were} not measured."
    assert said in render_terminal(found).splitlines()
    assert said in render_markdown(found).splitlines()
    body = json.loads(to_json(found))
    assert (body["ok"], body["selected"]["missing"]) == (False, missing)
    assert "Stopped" not in render_terminal(FOUND) + render_markdown(FOUND)


def test_files_are_named_after_the_back_end(tmp_path):
    folder = tmp_path / "build" / "bench"
    assert write_files(FOUND, folder) == [folder / "cpu.md", folder / "cpu.json"]
    assert (folder / "cpu.md").read_text(encoding="utf-8") == render_markdown(FOUND)
    assert json.loads((folder / "cpu.json").read_text(encoding="utf-8")) == json.loads(to_json(FOUND))
    assert sorted(path.name for path in folder.iterdir()) == ["cpu.json", "cpu.md"]
