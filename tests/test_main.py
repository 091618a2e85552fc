from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import zmlx
from zmlx import __main__ as command_line
from zmlx import _compat, doctor, evidence_commands, golden_commands, project_commands
from zmlx.__main__ import main
from zmlx._commands import clear_progress, show_progress
from zmlx.golden_commands import README_BEGIN, README_END, update_readme
from zmlx.testing import verify
from zmlx.testing.bench import run as bench
from zmlx.testing.bench import table as bench_table
from zmlx.testing.bench.measurement import PLANS, Measurement
from zmlx.testing.golden import run as golden
from zmlx.testing.golden.comparison import CaseResult, Comparison, Finding
from zmlx.testing.golden.file import GoldenError, GoldenFile
from zmlx.testing.leak_figures import Leaks
from zmlx.testing.op_db import op_db
from zmlx.testing.project import find_project
from zmlx.testing.report.evidence import load_evidence
from zmlx.testing.report.model import build_report
from zmlx.testing.report.text import render_markdown, render_terminal
from zmlx.testing.verification import read_verification

pytestmark = pytest.mark.cpu

CHECKOUT = Path(zmlx.__file__).parent.parent
RESULT = CaseResult("cpu", "oracle", "f.g/float32/small", "f.g", "float32", 0.5, 0.2, 8, False, True)
AGREES = Comparison("", {"cpu": GoldenFile("cpu")}, {}, (RESULT,), ())
FINDING = Finding("ratchet", "cpu", "f.g/float32/small", "the error grew")
DISAGREES = Comparison("", {"cpu": GoldenFile("cpu")}, {}, (RESULT,), (FINDING,))


def run(*arguments: str, cwd: Path = CHECKOUT, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zmlx", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH")))),
            **environ,
        },
        check=False,
    )


def test_help_teaches_with_examples_and_does_not_import_mlx() -> None:
    code = "import sys; from zmlx.__main__ import main; sys.argv = ['zmlx', '--help']\ntry: main()\n"
    code += "except SystemExit as end: sys.exit(9 if 'mlx' in sys.modules else end.code)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT, check=False
    )
    assert found.returncode == 0
    for command in ("doctor", "verify", "golden compare", "golden record", "report", "bench"):
        assert f"python -m zmlx {command}" in found.stdout


@pytest.mark.parametrize(
    "command",
    [
        *(
            ["doctor"],
            ["verify"],
            ["check"],
            ["lint"],
            ["golden"],
            ["golden", "record"],
            ["golden", "compare"],
        ),
        *(
            ["golden", "migrate"],
            ["cache"],
            ["cache", "prune"],
            ["report"],
            ["bench"],
            ["init"],
            ["new-kernel"],
        ),
        *(["show"], ["cuda-compile"]),
    ],
)
def test_every_command_has_a_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: python -m zmlx {command[0]}")
    assert "Exit status 0: " in text


def test_the_examples_of_the_help_parse() -> None:
    parser = command_line.build_parser()
    texts = (
        command_line.EXAMPLES,
        command_line.VERIFY,
        golden_commands.GOLDEN,
        golden_commands.REPORT,
        evidence_commands.BENCH,
        evidence_commands.BENCH_CMP,
        evidence_commands.LEAKS,
        command_line.CHECK,
        *(
            project_commands.INIT,
            project_commands.NEW_KERNEL,
            project_commands.SHOW,
            project_commands.CUDA_COMPILE,
        ),
    )
    lines = [line for text in texts for line in text.splitlines() if line.startswith("  python -m zmlx ")]
    assert len(lines) >= 20
    for line in lines:
        words = line.split("  ")[1].replace("'", "").split()
        assert parser.parse_args(words[3:]).run


def test_check_without_a_script_runs_the_operations_here(tmp_path: Path) -> None:
    found = run("init", "--name", "mine", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    ops = tmp_path / "mine" / "ops.py"
    # In one dtype: each kernel is compiled for the checker, which takes seconds.
    made = ops.read_text()
    assert made.count("    op=relu2,\n") == 1
    ops.write_text(made.replace("    op=relu2,\n", '    op=relu2,\n    dtypes=("float32",),\n'))
    clean = run("check", "--json", "found.json", cwd=tmp_path)
    assert clean.returncode == 0, clean.stdout
    assert clean.stdout.startswith("operations: mine.ops:OPS (pyproject.toml), 1 operation\n")
    assert "1 operation, 6 cases: all within tolerance of the oracle\n" in clean.stdout
    assert clean.stdout.endswith(" memory accesses: no finding\n")
    assert json.loads((tmp_path / "found.json").read_text())["findings"] == []
    ops.write_text(ops.read_text().replace("float a = x[i];", "float a = x[i + 1];", 1))
    found = run("check", cwd=tmp_path)
    assert found.returncode == 1
    assert "out of bounds" in found.stdout or "outside" in found.stdout


def test_check_of_nothing_is_a_request_that_makes_no_sense() -> None:
    found = run("check", "--kernel", "swigl")
    assert found.returncode == 2
    assert found.stderr.startswith("zmlx: No operation matches 'swigl'. Known: ")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"zmlx {zmlx.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "the following arguments are required: COMMAND", id="nothing"),
        pytest.param(["golden"], "the following arguments are required: ACTION", id="no-action"),
        pytest.param(["verify", "--backend", "tpu"], "invalid choice: 'tpu'", id="back-end"),
        pytest.param(["bench", "--backend", "tpu"], "invalid choice: 'tpu'", id="bench-back-end"),
        pytest.param(["frobnicate"], "invalid choice: 'frobnicate'", id="command"),
    ],
)
def test_usage_errors_exit_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(GoldenError("cpu.json is truncated"), 1, id="golden"),
        pytest.param(_compat.BackendUnavailableError("no GPU"), 1, id="back-end"),
        pytest.param(ImportError("zmlx needs MLX", name="mlx.core"), 1, id="mlx"),
        pytest.param(PermissionError(13, "Permission denied", "/x"), 1, id="permission"),
        pytest.param(verify.VerifyError("No operation matches 'x'."), 2, id="selection"),
    ],
)
def test_errors_are_one_message(
    error: Exception, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(verify, "verify", fail)
    assert main(["verify"]) == status
    assert capsys.readouterr().err == f"zmlx: {error}\n"
    assert main(["--traceback", "verify"]) == status
    assert "Traceback" in capsys.readouterr().err


def test_a_missing_requirement_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    monkeypatch.setattr(verify, "verify", fail)
    assert main(["verify"]) == 1
    assert capsys.readouterr().err == (
        "zmlx: No module named 'numpy'. zmlx needs numpy for this: install zmlx with its requirements into "
        f"{sys.executable}. `report`, `bench-cmp` and `golden compare --offline` do without.\n"
    )


@pytest.mark.parametrize("error", [KeyError("x"), ImportError("no name 'f'", name="zmlx.testing.golden.run")])
def test_mistakes_of_zmlx_keep_their_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(verify, "verify", fail)
    with pytest.raises(type(error)):
        main(["verify"])


def test_interruption_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, "verify", interrupt)
    assert main(["verify"]) == 130


@pytest.mark.parametrize(("status", "code"), [("pass", 0), ("fail", 1)])
def test_doctor(
    status: Any, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    diagnosis = doctor.Diagnosis((doctor.Finding("One kernel", "cpu", status, "detail"),))
    monkeypatch.setattr(doctor, "diagnose", lambda directory: asked.append(directory) or diagnosis)
    assert main(["doctor"]) == code
    assert capsys.readouterr().out == f"{diagnosis.text()}\n"
    assert main(["doctor", "--json", "--golden-dir", "here"]) == code
    assert json.loads(capsys.readouterr().out)["ok"] is (code == 0)
    assert asked == [None, Path("here")]


@pytest.mark.parametrize("json_wanted", [False, True])
def test_verify_passes_its_selection_on(
    json_wanted: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked: list[Any] = []
    row = verify.Row("f.g", "float16", 2, (0.5, 0.2), None, ())
    found = verify.Verification("cpu", {"device": "a CPU", "mlx": "0.32.4", "tf32": "0"}, (row,))

    def fake(*selection: Any, ops: Any, progress: Any, project: Any, **more: Any) -> verify.Verification:
        asked.append((*selection, more))
        assert ops == project.ops == op_db
        return found

    monkeypatch.setattr(verify, "verify", fake)
    wanted = ["verify", "--backend", "cpu", "--kernel", "g*", "--dtype", "float16"]
    assert main([*wanted, "--json"] if json_wanted else wanted) == 0
    assert asked == [("cpu", "g*", "float16", {"runs": 3, "orders": False})]
    shown = capsys.readouterr()
    heading = find_project().heading()
    assert shown.out.strip() == (found.to_json() if json_wanted else f"{heading}\n{found.text()}")
    assert shown.err == (f"{heading}\n" if json_wanted else "")
    place = tmp_path / "evidence"
    assert main([*wanted, "--runs", "5", "--orders", "--output-dir", str(place)]) == 0
    assert asked[1][-1] == {"runs": 5, "orders": True}
    assert read_verification(place / "cpu-verify.json") == found
    assert capsys.readouterr().err == f"wrote {place / 'cpu-verify.json'}\n"


@pytest.mark.parametrize(("failure", "status"), [("", 0), ("f.g/float16: wrong", 1)], ids=["well", "failed"])
def test_bench_prints_and_writes_either_way(
    failure: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    asked: list[Any] = []
    line = Measurement("f.g", "float16", failure=failure)
    about = {"device": "a CPU", "mlx": "0.32.4", "date": "2026-01-02"}
    found = bench.Benchmark("cpu", about, PLANS["cpu"], (line,))

    def fake(
        *selection: Any, small: bool, seconds: Any, ops: Any, progress: Any, keep: Any
    ) -> bench.Benchmark:
        asked.append((*selection, small, seconds))
        assert ops == op_db
        keep(found)
        return found

    monkeypatch.setattr(bench, "bench", fake)
    wanted = [
        "bench",
        "--backend",
        "cpu",
        "--kernel",
        "g*",
        "--dtype",
        "float16",
        "--quick",
        "--seconds",
        "2",
    ]
    assert main([*wanted, "--output-dir", str(tmp_path)]) == status
    shown = capsys.readouterr()
    assert shown.out.strip() == f"{find_project().heading()}\n{bench_table.render_terminal(found)}".strip()
    assert shown.err == f"wrote {tmp_path / 'cpu.md'}\nwrote {tmp_path / 'cpu.json'}\n"
    assert json.loads((tmp_path / "cpu.json").read_text())["ok"] is (status == 0)
    assert main(["bench", "--json"]) == status
    assert json.loads(capsys.readouterr().out)["backend"] == "cpu"
    assert asked == [("cpu", "g*", "float16", True, 2.0), (None, "*", None, False, None)]


@pytest.mark.parametrize(
    "command", [["verify"], ["golden", "record"], ["golden", "compare"], ["report"], ["bench"]], ids=" ".join
)
def test_ops_names_another_table(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("OPS = ()\n")
    found = run(*command, "--ops", "mine:OPS", cwd=tmp_path)
    assert found.returncode == 2
    assert found.stderr == "zmlx: mine:OPS: there is no operation. Add a zmlx.testing.OpInfo.\n"


@pytest.mark.parametrize("command", [["show", "swiglu"], ["cache"]], ids=["much", "little"])
def test_a_reader_that_has_gone_is_no_error(command: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    found = subprocess.run(
        [sys.executable, "-m", "zmlx", *command],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert found.stderr == ""
    assert found.returncode == 141


def test_bench_of_nothing_lists_what_there_is() -> None:
    found = run("bench", "--backend", "cpu", "--kernel", "swigl")
    assert found.returncode == 2
    assert found.stderr.startswith("zmlx: No benchmark matches 'swigl'. Known: activations.exp, ")
    assert "engine.compile" in found.stderr


def test_golden_record_writes_where_it_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked: list[Any] = []
    file = GoldenFile("cpu", {"device": "a CPU"}, {})

    def fake(backend: str, path: Path, ops: Any, kernel: str, progress: Any) -> golden.Recording:
        asked.append((backend, path))
        assert (ops, kernel) == (op_db, "*")
        return golden.Recording(path / "cpu.json", file, (), (), ())

    monkeypatch.setattr(golden, "record", fake)
    monkeypatch.delenv("ZMLX_TEST_BACKEND", raising=False)
    assert main(["golden", "record", "--backend", "cpu", "--golden-dir", str(tmp_path)]) == 0
    assert asked == [("cpu", tmp_path)]
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == find_project().heading()
    assert second.startswith(f"{tmp_path / 'cpu.json'}: 0 cases on cpu (a CPU)")


@pytest.mark.parametrize(("comparison", "status"), [(AGREES, 0), (DISAGREES, 1)], ids=["agrees", "disagrees"])
def test_golden_compare_writes_the_report_either_way(
    comparison: Comparison,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    asked: list[Any] = []

    def fake(directory: Path, backend: str | None, ops: Any, pending_until: Any, progress: Any) -> Comparison:
        asked.append((directory, backend))
        assert ops == op_db
        return comparison

    monkeypatch.setattr(golden, "compare_live", fake)
    out = tmp_path / "build" / "report"
    arguments = ["golden", "compare", "--golden-dir", str(tmp_path), "--report-dir", str(out)]
    arguments += ["--evidence-dir", str(tmp_path / "evidence")]
    assert main(arguments) == status
    assert asked == [(tmp_path, None)]
    shown = capsys.readouterr().out
    assert shown.startswith(f"{find_project().heading()}\n{render_terminal(build_report(comparison))}")
    assert ("the error grew" in shown) is (status == 1)
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.md"]


@pytest.mark.parametrize(("comparison", "status"), [(AGREES, 0), (DISAGREES, 1)], ids=["agrees", "disagrees"])
def test_report(
    comparison: Comparison,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(golden, "compare_recorded", lambda directory, ops, pending_until: comparison)
    readme = tmp_path / "README.md"
    readme.write_text(f"# zmlx\n\n{README_BEGIN}\nold\n{README_END}\n\nThe end.\n")
    page, markdown, evidence = tmp_path / "a.html", tmp_path / "a.md", tmp_path / "evidence"
    evidence.mkdir()
    (evidence / "cpu-leaks.json").write_text(Leaks("cpu", {"device": "a CPU"}, 7, 8, ()).to_json())
    arguments = ["report", "--html", str(page), "--markdown", str(markdown), "--update-readme", str(readme)]
    arguments += ["--evidence-dir", str(evidence)]
    assert main(arguments) == status
    assert page.read_text().startswith("<!")
    found = build_report(comparison, evidence=load_evidence(evidence))
    assert markdown.read_text() == render_markdown(found)
    assert "many launches on cpu" in markdown.read_text()
    text = readme.read_text()
    if status:
        assert "\nold\n" in text
        assert f"{readme} is left as it was, for the report fails" in capsys.readouterr().err
    else:
        assert "\nold\n" not in text
        assert "f.g" in text
        assert f"{readme}: updated" in capsys.readouterr().out
        assert main(arguments) == 0
        assert f"{readme}: up to date" in capsys.readouterr().out


def test_update_readme_replaces_what_is_between_the_markers(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{README_BEGIN}\nold\n{README_END}\nafter\n")
    assert update_readme(readme, "new\nlines")
    assert readme.read_text() == f"before\n{README_BEGIN}\nnew\nlines\n{README_END}\nafter\n"
    assert not update_readme(readme, "new\nlines")


@pytest.mark.parametrize(
    "text",
    [
        "no markers\n",
        f"{README_BEGIN}\n",
        f"{README_END}\n{README_BEGIN}\n",
        f"{README_BEGIN}\n{README_BEGIN}\n{README_END}\n",
        f"{README_BEGIN}\n{README_END}\n{README_END}\n",
    ],
)
def test_update_readme_needs_both_markers_once(text: str, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(
        ValueError, match="needs one line '<!-- zmlx report: begin -->' and after it one line"
    ):
        update_readme(readme, "new")
    assert readme.read_text() == text


def test_a_missing_golden_directory_is_one_message(tmp_path: Path) -> None:
    found = run("report", "--golden-dir", str(tmp_path / "nowhere"))
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    assert "nowhere does not exist" in found.stderr


def test_a_back_end_that_is_not_here_is_one_message() -> None:
    missing = next(name for name, state in _compat.availability().items() if not state.available)
    found = run("verify", "--backend", missing)
    assert found.returncode == 1
    assert f"{missing} is not available here" in found.stderr
    assert "Traceback" not in found.stderr


def test_an_unknown_name_in_the_variable_is_one_message() -> None:
    found = run("verify", ZMLX_TEST_BACKEND="tpu")
    assert found.returncode == 2
    assert "ZMLX_TEST_BACKEND: expected one of metal, cuda, cpu; got 'tpu'" in found.stderr
    assert "Traceback" not in found.stderr


class Terminal:
    def __init__(self, is_terminal: bool) -> None:
        self.text = ""
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal, expected in ((True, "\r\033[K[1/3] f.g\r\033[K"), (False, "")):
        stream = Terminal(is_terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        show_progress(0, 3, "f.g")
        clear_progress()
        assert stream.text == expected


WITHOUT_MLX = """
import runpy, sys
sys.modules.update({"mlx": None, "mlx.core": None})
runpy.run_module("zmlx", run_name="__main__")
"""


@pytest.mark.parametrize("command", [["report"], ["golden", "compare", "--offline"]], ids=" ".join)
def test_recorded_files_are_compared_without_mlx(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MLX, *command],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (
        "note: MLX does not import here: values were compared with the oracle and with each other"
        in done.stdout
    )
    assert "6 kernels agree on cuda and cpu" in done.stdout.splitlines()[-1]
