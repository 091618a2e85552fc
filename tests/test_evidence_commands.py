"""``python -m zmlx bench-cmp`` and ``bench --keep``: which files, what is written, exit statuses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zmlx.__main__ import main
from zmlx.testing.bench import run as bench
from zmlx.testing.bench.measurement import PLANS, Measurement
from zmlx.testing.bench.table import to_json
from zmlx.testing.bench.timing import Timing

pytestmark = pytest.mark.cpu

ABOUT = {"device": "a CPU", "mlx": "0.32.4", "date": "2026-01-02", "threads": "2"}


def measured(seconds: float, **changes: Any) -> bench.Benchmark:
    line = Measurement(
        "f.g", "float32", "loop", Timing((seconds,) * 11), direction="forward", shapes=((2, 2),)
    )
    return replace(bench.Benchmark("cpu", ABOUT, PLANS["cpu"], (line,)), **changes)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's, the working directory."""
    (tmp_path / "pyproject.toml").write_text(
        '[tool.zmlx]\nops = "zmlx.testing.op_db:op_db"\n', encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(path: Path, found: bench.Benchmark) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_json(found), encoding="utf-8")
    return str(path)


def test_a_loss_is_exit_status_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = put(folder / "old.json", measured(1.0)), put(folder / "new.json", measured(1.3))
    assert main(["bench-cmp", old, old]) == 0
    assert capsys.readouterr().out.endswith("PASS: 1 same (of 1)\n")
    assert main(["bench-cmp", old, new, "--markdown", "build/page.md"]) == 1
    shown = capsys.readouterr()
    assert shown.out.endswith("FAIL: 1 SLOWER (of 1)\n")
    assert shown.err == "wrote build/page.md\n"
    assert "| f.g | forward | float32 | 2x2 |" in (folder / "build" / "page.md").read_text(encoding="utf-8")
    assert main(["bench-cmp", old, new, "--tolerance", "0.5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["verdict"] == "same"


@pytest.mark.parametrize(
    ("how", "status"), [(KeyboardInterrupt(), 130), (OSError("the disk is full"), 1)], ids=["stopped", "disk"]
)
def test_a_run_that_is_stopped_leaves_what_it_has_measured(
    how: BaseException,
    status: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    so_far = measured(1.0, missing=7)

    def fake(*selection: Any, keep: Callable[[bench.Benchmark], None], **options: Any) -> bench.Benchmark:
        keep(so_far)
        raise how

    monkeypatch.setattr(bench, "bench", fake)
    assert main(["bench", "--output-dir", "build/bench"]) == status
    assert "Stopped before its end: 7 benchmarks were not measured.\n" in capsys.readouterr().out
    assert (folder / "build" / "bench" / "cpu.json").read_text(encoding="utf-8") == f"{to_json(so_far)}\n"


def test_without_files_the_last_benchmark_follows_the_last_release(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said() -> str:
        return capsys.readouterr().err.strip()

    assert main(["bench-cmp"]) == 1
    where = folder / "build" / "bench"
    assert said() == f"zmlx: There is no benchmark in {where}. Run `nox -s bench` first, or name two files."
    put(where / "cpu.json", measured(1.3))
    assert main(["bench-cmp"]) == 1
    assert said() == (
        f"zmlx: No benchmark of cpu is kept in {folder / 'benchmarks'}. `python -m zmlx bench --keep NAME` keeps "
        "that of a release; or name two files."
    )
    put(folder / "benchmarks" / "1.0-cpu.json", measured(1.0))
    assert main(["bench-cmp"]) == 1
    shown = capsys.readouterr().out
    assert "1.0-cpu.json (cpu: a CPU" in shown
    assert "1 SLOWER" in shown
    # Of two back ends the one that was measured last.
    later = put(where / "cuda.json", measured(1.0, backend="cuda"))
    os.utime(later, (2e9, 2e9))
    put(folder / "benchmarks" / "1.0-cuda.json", measured(1.0, backend="cuda"))
    assert main(["bench-cmp"]) == 0
    assert "1.0-cuda.json (cuda: a CPU" in capsys.readouterr().out


def test_what_cannot_be_compared_or_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = put(folder / "one.json", measured(1.0))
    other = put(folder / "other.json", measured(1.0, environment={**ABOUT, "device": "another"}))
    assert main(["bench-cmp", one, other]) == 2
    assert "not measured on one machine: device 'a CPU' and 'another'" in capsys.readouterr().err
    assert main(["bench-cmp", one, other, "--any-machine"]) == 0
    assert "note: two machines: device" in capsys.readouterr().out
    assert main(["bench-cmp", one]) == 2
    assert capsys.readouterr().err == ("zmlx: bench-cmp: expected two files, OLD and NEW, or none; got 1.\n")
    assert main(["bench-cmp", one, one, one]) == 2
    assert "expected two files, OLD and NEW, or none; got 3." in capsys.readouterr().err
    (folder / "broken.json").write_text('{"schema": 2', encoding="utf-8")
    assert main(["bench-cmp", one, "broken.json"]) == 1
    assert capsys.readouterr().err.startswith("zmlx: broken.json is damaged: ")


def test_keep_writes_the_json_of_a_release(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = measured(1.0)
    monkeypatch.setattr(bench, "bench", lambda *_, **__: found)
    assert main(["bench", "--keep", "1.2.0"]) == 0
    path = folder / "benchmarks" / "1.2.0-cpu.json"
    assert path.read_text(encoding="utf-8") == to_json(found) + "\n"
    assert capsys.readouterr().err == f"wrote {path}\n"
    monkeypatch.setattr(bench, "bench", lambda *_, **__: pytest.fail("it ran before the name was looked at"))
    assert main(["bench", "--keep", "../1"]) == 2
    assert "--keep: expected a name of letters" in capsys.readouterr().err
