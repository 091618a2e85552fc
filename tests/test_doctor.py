from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zmlx
from zmlx import doctor
from zmlx.doctor import ChildError, Diagnosis, Finding, ask_child, diagnose

pytestmark = pytest.mark.cpu

CHECKOUT = Path(zmlx.__file__).parent.parent


def by_name(diagnosis: Diagnosis, section: str) -> dict[str, Finding]:
    return {f.name: f for f in diagnosis.findings if f.section == section}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    return diagnose(tmp_path_factory.mktemp("golden"))


def test_this_machine_computes_the_kernel_on_every_available_back_end(here: Diagnosis) -> None:
    available = [f.name for f in here.findings if f.section == "Back ends" and f.status == "ok"]
    assert "cpu" in available
    assert list(here.passed) == available, here.text()
    assert here.exit_code == 0
    assert here.verdict == f"Kernels run on {', '.join(available)}."
    assert "64 threads through threadgroup memory by" in by_name(here, "One kernel")["cpu"].detail


def test_back_ends_that_are_missing_say_why(here: Diagnosis) -> None:
    states = by_name(here, "Back ends")
    assert tuple(states) == ("metal", "cuda", "cpu")
    for finding in states.values():
        assert finding.status in ("ok", "info")
        assert finding.detail
    if sys.platform == "linux":
        assert states["metal"].detail == "Metal needs macOS on Apple silicon; this is Linux"


def test_compiler_and_mlx_are_named(here: Diagnosis) -> None:
    compiler = by_name(here, "Compilers")["C++"]
    assert compiler.status == "ok"
    assert os.sep in compiler.detail
    mlx = by_name(here, "MLX")
    assert mlx["import"].detail.startswith("mlx.core ")
    assert mlx["default"].detail.split()[0] in ("metal", "cuda", "cpu")


def test_text_has_a_line_for_every_finding(here: Diagnosis) -> None:
    text = here.text()
    assert text.startswith(f"zmlx {zmlx.__version__}\n")
    assert text.endswith(here.verdict)
    for finding in here.findings:
        assert finding.detail.splitlines()[0] in text
    assert "\nMachine\n" in text
    assert "\nOne kernel\n  PASS  " in text


def test_json_is_for_programs(here: Diagnosis) -> None:
    body = json.loads(here.to_json())
    assert body["ok"] is True
    assert body["passed"] == list(here.passed)
    assert len(body["findings"]) == len(here.findings)
    assert {"section", "name", "status", "detail"} == set(body["findings"][0])


PASS, FAIL = Finding("One kernel", "cpu", "pass", "ran"), Finding("One kernel", "cuda", "fail", "did not")
WARN, INFO = Finding("MLX", "default", "warn", "odd"), Finding("Back ends", "metal", "info", "no Mac")


@pytest.mark.parametrize(
    ("findings", "exit_code", "verdict"),
    [
        pytest.param((PASS,), 0, "Kernels run on cpu.", id="pass"),
        pytest.param((PASS, WARN, INFO), 0, "Kernels run on cpu.", id="warnings-do-not-fail"),
        pytest.param((PASS, FAIL), 1, "Kernels run on cpu, but this failed: cuda.", id="one-fails"),
        pytest.param((FAIL,), 1, "No kernel can run here. Begin with the first FAIL above.", id="all-fail"),
        pytest.param((), 1, "No kernel can run here. Begin with the first FAIL above.", id="nothing-ran"),
    ],
)
def test_exit_code_and_verdict(findings: tuple[Finding, ...], exit_code: int, verdict: str) -> None:
    diagnosis = Diagnosis(findings)
    assert (diagnosis.exit_code, diagnosis.verdict) == (exit_code, verdict)


def run_without_mlx(tmp_path: Path, contents: str | None) -> subprocess.CompletedProcess[str]:
    """The doctor in a Python whose ``mlx`` package is `contents` as ``mlx/core.py``, or is missing."""
    fake = tmp_path / "site"
    (fake / "mlx").mkdir(parents=True)
    (fake / "mlx" / "__init__.py").write_text("")
    if contents is not None:
        (fake / "mlx" / "core.py").write_text(contents)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(fake), str(CHECKOUT)])}
    environ.pop("ZMLX_TEST_BACKEND", None)
    command = [sys.executable, "-m", "zmlx", "doctor", "--json", "--golden-dir", str(tmp_path)]
    return subprocess.run(command, capture_output=True, text=True, env=environ, cwd=tmp_path, check=False)


@pytest.mark.parametrize(
    ("contents", "cause"),
    [
        pytest.param(None, "Cause: ModuleNotFoundError: No module named 'mlx.core'", id="missing"),
        pytest.param(
            "raise ImportError('libmlx.so: gone')", "Cause: ImportError: libmlx.so: gone", id="broken"
        ),
        pytest.param("raise RuntimeError('no driver')", "Cause: RuntimeError: no driver", id="raises"),
        pytest.param("import os; os.abort()", "the process ended with signal SIGABRT", id="crashes"),
        pytest.param("import os; os._exit(3)", "the process ended with exit status 3", id="exits"),
    ],
)
def test_a_machine_without_a_working_mlx_is_diagnosed_not_crashed(
    contents: str | None, cause: str, tmp_path: Path
) -> None:
    run = run_without_mlx(tmp_path, contents)
    assert "Traceback" not in run.stdout + run.stderr
    assert run.returncode == 1
    body = json.loads(run.stdout)
    (finding,) = (f for f in body["findings"] if f["section"] == "MLX" and f["name"] == "import")
    assert finding["status"] == "fail"
    assert cause in finding["detail"]
    states = [f for f in body["findings"] if f["section"] == "Back ends"]
    assert [f["detail"] for f in states] == ["MLX does not import"] * 3
    assert body["passed"] == []


def test_the_advice_reaches_the_reader(tmp_path: Path) -> None:
    body = json.loads(run_without_mlx(tmp_path, None).stdout)
    (finding,) = (f for f in body["findings"] if f["section"] == "MLX" and f["name"] == "import")
    assert finding["detail"].startswith("zmlx needs MLX, and `import mlx.core` failed on this machine")
    assert "pip install" in finding["detail"]


def test_the_variable_is_named_as_the_reason_for_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "_kernels", lambda state: iter([]))
    monkeypatch.setenv("ZMLX_TEST_BACKEND", "cpu")
    assert by_name(diagnose(tmp_path), "MLX")["default"].detail == "cpu (ZMLX_TEST_BACKEND is set)"
    monkeypatch.setenv("ZMLX_TEST_BACKEND", "tpu")
    default = by_name(diagnose(tmp_path), "MLX")["default"]
    assert default.status == "warn"
    assert "expected one of metal, cuda, cpu; got 'tpu'" in default.detail


def answers(monkeypatch: pytest.MonkeyPatch, kernel: Any, tracing: str = "") -> None:
    """MLX with a CPU and a CUDA GPU, where the kernel does what `kernel(backend)` does.

    ``tracing``: why a traced launch on the CPU is not part of a graph.
    """
    there = {"available": True, "reason": "there"}
    mlx = {
        "version": "1",
        "file": "/x",
        "default": "cuda",
        "problem": "",
        "backends": {"metal": {"available": False, "reason": "no Mac"}, "cuda": there, "cpu": there},
    }

    def ask(function: str, *arguments: str, **_: Any) -> Any:
        if function == "tracing":
            return tracing
        return mlx if function == "mlx" else kernel(*arguments)

    monkeypatch.setattr(doctor, "ask_child", ask)


@pytest.mark.parametrize(
    ("reason", "status", "detail"),
    [
        ("", "ok", "on the CPU, in MLX's graph"),
        ("MLX is old", "info", "on the CPU by a kernel's `reference` only: MLX is old"),
    ],
)
def test_what_mx_compile_does_with_kernels_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reason: str, status: str, detail: str
) -> None:
    answers(monkeypatch, lambda backend: "fine", reason)
    found = by_name(diagnose(tmp_path), "One kernel")["mx.compile"]
    assert (found.status, found.detail) == (status, detail)


def test_a_kernel_that_fails_on_one_back_end_fails_the_diagnosis(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def kernel(backend: str) -> str:
        if backend == "cuda":
            raise ChildError("64 of 64 elements are wrong: element 0 is 0.0, not 126.0")
        return "fine"

    answers(monkeypatch, kernel)
    found = by_name(diagnose(tmp_path), "One kernel")
    assert found["cuda"] == Finding(
        "One kernel", "cuda", "fail", "64 of 64 elements are wrong: element 0 is 0.0, not 126.0"
    )
    assert found["cpu"].status == "pass"
    assert "metal" not in found
    assert diagnose(tmp_path).exit_code == 1


def test_no_compiler_is_a_warning_and_fails_the_kernel(tmp_path: Path) -> None:
    environ = {**os.environ, "CXX": "no-such-compiler", "ZMLX_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "zmlx", "doctor", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=CHECKOUT, check=False)
    body = json.loads(run.stdout)
    found = {(f["section"], f["name"]): f for f in body["findings"]}
    assert found["Compilers", "C++"]["status"] == "warn"
    assert "No C++ compiler" in found["Compilers", "C++"]["detail"]
    assert found["One kernel", "cpu"]["status"] == "fail"
    assert "CompilerNotFoundError" in found["One kernel", "cpu"]["detail"]
    assert run.returncode == 1


def test_a_section_that_cannot_be_examined_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing_dependency() -> Iterator[Finding]:
        raise ModuleNotFoundError("No module named 'filelock'", name="filelock")
        yield

    def damaged() -> Iterator[Finding]:
        raise OSError("input/output error")
        yield

    answers(monkeypatch, lambda backend: "fine")
    monkeypatch.setattr(doctor, "_compilers", missing_dependency)
    monkeypatch.setattr(doctor, "_cache", damaged)
    diagnosis = diagnose(tmp_path)
    assert by_name(diagnosis, "Compilers")["filelock"].detail == (
        "not installed, though zmlx needs it; pip install filelock"
    )
    assert by_name(diagnosis, "Kernel cache")["doctor"].detail == "OSError: input/output error"
    assert diagnosis.exit_code == 1


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    monkeypatch.setenv("ZMLX_CACHE_DIR", str(folder))
    (finding,) = doctor._cache()
    assert (finding.status, finding.detail) == ("ok", f"{folder}, not made yet")
    folder.mkdir()
    (folder / "a.so").write_bytes(b"x" * 250_000)
    (finding,) = doctor._cache()
    assert finding.detail == f"{folder}, 1 file, 0.2 MB"


def test_unwritable_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("not a folder")
    monkeypatch.setenv("ZMLX_CACHE_DIR", str(occupied / "cache"))
    (finding,) = doctor._cache()
    assert finding.status == "warn"
    assert "not writable, so kernels are compiled anew in every process; set ZMLX_CACHE_DIR" in finding.detail


def test_golden_files_with_their_ages(tmp_path: Path) -> None:
    from zmlx.testing.golden.case import GoldenCase
    from zmlx.testing.golden.file import GoldenFile, save

    yesterday = datetime.datetime.now(datetime.timezone.utc).date() - datetime.timedelta(days=1)
    about = {"date": yesterday.isoformat(), "mlx": "0.32.4", "device": "a CPU"}
    cases = {"f.g/float32/small": GoldenCase("float32", (1,), (0.5,))}
    save(GoldenFile("cpu", about, cases), tmp_path / "cpu.json")
    (tmp_path / "cuda.json").write_text('{"schema": 1, ')
    found = {f.name: f for f in doctor._goldens(tmp_path)}
    assert found["cpu"].detail == f"1 case, recorded on {yesterday}, 1 day ago, MLX 0.32.4 on a CPU"
    assert found["cuda"].status == "warn"
    assert re.match(r"damaged: .*cuda\.json is truncated: ", found["cuda"].detail)
    assert found["metal"] == Finding(
        "Golden values", "metal", "info", f"none recorded ({tmp_path / 'metal.json'})"
    )


def test_an_unreadable_date_is_shown_as_it_is() -> None:
    assert doctor._age("last week") == "recorded on 'last week'"


def test_find_golden_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctor.find_golden_dir() in (CHECKOUT / "golden_values", Path("golden_values"))
    (tmp_path / "golden_values").mkdir()
    assert doctor.find_golden_dir() == tmp_path / "golden_values"


def test_a_child_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ChildError, match="did not finish within 0 seconds"):
        ask_child("mlx", timeout=0.01)


def test_an_error_in_the_child_is_the_answer() -> None:
    with pytest.raises(
        ChildError, match=r"^ValueError: back end: expected one of metal, cuda, cpu; got 'tpu'"
    ):
        ask_child("kernel", "tpu")


def test_a_variable_can_be_removed_for_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZMLX_TEST_BACKEND", "tpu")
    assert ask_child("mlx", ZMLX_TEST_BACKEND=None)["problem"] == ""
    assert "got 'tpu'" in ask_child("mlx")["problem"]


@pytest.mark.parametrize(
    ("code", "text"),
    [(1, "exit status 1"), (-11, "signal SIGSEGV"), (-4, "signal SIGILL"), (-99, "signal 99")],
)
def test_how_a_process_ended(code: int, text: str) -> None:
    assert doctor._describe_exit(code) == text
