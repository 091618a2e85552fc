"""What zmlx's own sessions run. Sessions themselves run in CI; their choices are in tests/sessions."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("nox", reason="nox is not installed in this Python")

from zmlx.sessions import environment, matrix
from zmlx.sessions import host as hosts
from zmlx.sessions.host import Driver, Host
from zmlx.testing.evidence import EVIDENCE_DIR

pytestmark = pytest.mark.cpu

ROOT = Path(__file__).parent.parent


def load_noxfile() -> ModuleType:
    spec = importlib.util.spec_from_file_location("zmlx_noxfile", ROOT / "noxfile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


noxfile: Any = load_noxfile()

MAC = Host("Darwin", "arm64", Driver(problem="no driver"))
LAPTOP = Host("Linux", "x86_64", Driver(problem="there is no NVIDIA driver"))
GPU_13 = Host("Linux", "x86_64", Driver(13000, 1))
GPU_12 = Host("Linux", "aarch64", Driver(12080, 1))


def test_every_extra_of_the_wheels_is_one_of_the_package() -> None:
    extras = set(noxfile.PYPROJECT["project"]["optional-dependencies"])
    assert {wheel.extra for wheel in hosts.WHEELS} - {""} == extras - {"lint"}  # which brings no MLX


def test_oldest_is_the_lower_bound_that_the_package_declares() -> None:
    project = noxfile.PYPROJECT["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["cpu"]]
    bounds = {
        name: re.findall(rf"^{name}\b.*?>=([\d.]+)", "\n".join(declared), re.M) for name in ("mlx", "numpy")
    }
    mlx, numpy = noxfile.OLDEST
    assert set(bounds["mlx"]) == {mlx.removeprefix("mlx==")}
    assert bounds["numpy"] == [re.findall(r"==([\d.]+)\.\*", numpy)[0]]


def test_no_environment_is_made_for_a_session_that_will_be_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "this_host", lambda: LAPTOP)
    assert environment.environment_kind("cuda") == "none"
    monkeypatch.setattr(hosts, "this_host", lambda: GPU_13)
    assert environment.environment_kind("cuda") is None


def test_the_noxfile_runs_where_nox_alone_is_installed(tmp_path: Path) -> None:
    """It puts the checkout on the path, and what it imports from there needs neither MLX nor NumPy."""
    code = (
        "import runpy, sys\n"
        "sys.modules.update(dict.fromkeys(('mlx', 'numpy', 'filelock', 'platformdirs')))\n"  # an import fails
        "runpy.run_path(sys.argv[1], run_name='noxfile')\n"
    )
    # nox itself may be on the path; the checkout must not.
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = os.pathsep.join(entry for entry in given if entry and Path(entry).resolve() != ROOT)
    subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "noxfile.py")],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
    )


# ---- what a session runs ----


class FakeSession(SimpleNamespace):
    """Takes down the commands that a session function gives."""

    def __init__(self, *posargs: str, venv_backend: str = "uv") -> None:
        super().__init__(name="fake", posargs=list(posargs), venv_backend=venv_backend)
        self.commands: list[list[str]] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.env: dict[str, str] = {}

    def run(self, *command: str, **_: object) -> str:
        self.commands.append(list(command))
        return "MLX may print a line of its own\nready: MLX 0 on Device(cpu, 0)\n"

    def log(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def no_install(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    installed: list[tuple[str, ...]] = []

    def note(session: object, root: Path, *requirements: str, alone: Sequence[str] = ()) -> None:
        installed.append((*requirements, *(f"--no-deps {requirement}" for requirement in alone)))

    monkeypatch.setattr(matrix, "install", note)
    monkeypatch.setattr(hosts, "count_cores", lambda: 64)
    return installed


@pytest.mark.parametrize(
    ("name", "host", "install", "workers", "markers"),
    [
        ("cpu", LAPTOP, ".[cpu]", "16", "(cpu or not (metal or cuda or gpu)) and (not tools)"),
        ("cpu", MAC, ".", "16", "(cpu or not (metal or cuda or gpu)) and (not tools)"),
        ("tools", MAC, ".", "16", "(cpu or not (metal or cuda or gpu)) and (tools)"),
        ("metal", MAC, ".", "4", "(not tools)"),
        ("cuda", GPU_13, ".[cuda13]", "4", "(not tools)"),
        ("cuda", GPU_12, ".[cuda12]", "4", "(not tools)"),
    ],
)
def test_suite_command(
    name: str,
    host: Any,
    install: str,
    workers: str,
    markers: str,
    monkeypatch: pytest.MonkeyPatch,
    no_install: list[tuple[str, ...]],
) -> None:
    monkeypatch.setattr(hosts, "this_host", lambda: host)
    session = FakeSession("-k", "swiglu")
    getattr(noxfile, name).func(session)
    backend = "cpu" if name == "tools" else name  # also on a Mac, where the best one would be Metal
    assert no_install[0][:2] == ("-e", install)
    probe, suite = session.commands
    assert probe[:2] == ["python", "-c"]
    assert probe[-1] == backend
    expected = ["python", "-m", "pytest", f"--backend={backend}", "-n", workers, "--dist", "worksteal"]
    assert suite == [*expected, "-m", markers, "-k", "swiglu"]


def test_golden_cmp_shares_the_options_that_both_of_its_tools_know(
    monkeypatch: pytest.MonkeyPatch, no_install: list[tuple[str, ...]]
) -> None:
    monkeypatch.setattr(hosts, "this_host", lambda: LAPTOP)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    session = FakeSession("--golden-dir", "elsewhere", "-v")
    noxfile.golden_cmp.func(session)
    _, compare, tests = session.commands
    assert compare[1:5] == ["-m", "zmlx", "golden", "compare"]
    assert compare[5:] == ["--backend", "cpu", "--report-dir", "build/report", "--golden-dir", "elsewhere"]
    files = noxfile.GOLDEN_TESTS
    assert tests[3:] == ["--backend=cpu", "-m", "golden", *files, "--golden-dir", "elsewhere", "-v"]


def test_golden_cmp_looks_where_tests_are_marked_golden() -> None:
    marked = re.compile(r"^(@|pytestmark = )pytest\.mark\.golden", re.MULTILINE)
    found = [path for path in (ROOT / "tests").rglob("test_*.py") if marked.search(path.read_text("utf-8"))]
    assert [path.relative_to(ROOT).as_posix() for path in found] == [*noxfile.GOLDEN_TESTS]


def test_bench_writes_its_table_and_passes_what_follows_on(
    monkeypatch: pytest.MonkeyPatch, no_install: list[tuple[str, ...]], tmp_path: Path
) -> None:
    monkeypatch.setattr(hosts, "this_host", lambda: GPU_13)
    page = tmp_path / "summary"
    page.write_text("", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    monkeypatch.setattr(noxfile, "BENCH_DIR", str(tmp_path / "bench"))
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "cuda.md").write_text("# fast\n", encoding="utf-8")
    session = FakeSession("--quick", "--require-backend", "--kernel", "swiglu")
    noxfile.bench.func(session)
    assert no_install[0][:2] == ("-e", ".[cuda13]")
    _, command = session.commands
    assert command[1:4] == ["-m", "zmlx", "bench"]
    place = ["--output-dir", str(tmp_path / "bench")]
    assert command[4:] == ["--backend", "cuda", *place, "--quick", "--kernel", "swiglu"]
    assert page.read_text(encoding="utf-8") == "# fast\n"
    noxfile.bench.func(session := FakeSession("--backend", "cpu"))
    assert session.commands[-1][4:] == ["--backend", "cpu", *place]


@pytest.mark.parametrize(
    ("host", "posargs", "peers"),
    [(GPU_13, ("--peers",), True), (GPU_13, (), False), (LAPTOP, ("--peers",), False)],
    ids=["asked for", "not asked for", "not on CUDA"],
)
def test_bench_installs_peers_where_it_is_asked_to(
    host: Any,
    posargs: tuple[str, ...],
    peers: bool,
    monkeypatch: pytest.MonkeyPatch,
    no_install: list[tuple[str, ...]],
) -> None:
    monkeypatch.setattr(hosts, "this_host", lambda: host)
    session = FakeSession(*posargs, "--quick")
    noxfile.bench.func(session)
    assert any(requirement.startswith("liger-kernel") for requirement in no_install[0]) is peers
    assert session.commands[-1][-1] == "--quick"
    assert "--peers" not in session.commands[-1]


def test_leaks_writes_its_figures_where_reports_look(
    monkeypatch: pytest.MonkeyPatch, no_install: list[tuple[str, ...]]
) -> None:
    monkeypatch.setattr(hosts, "this_host", lambda: LAPTOP)
    session = FakeSession("--launches", "50", "--require-backend")
    noxfile.leaks.func(session)
    place = ["--output-dir", str(EVIDENCE_DIR)]
    assert session.commands[-1][1:] == [
        *("-m", "zmlx", "leaks", "--backend", "cpu", *place, "--launches", "50")
    ]


def test_bench_cmp_installs_nothing_and_shows_its_page(
    monkeypatch: pytest.MonkeyPatch, no_install: list[tuple[str, ...]], tmp_path: Path
) -> None:
    page = tmp_path / "summary"
    page.write_text("", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    monkeypatch.setattr(noxfile, "BENCH_CMP_DIR", str(tmp_path / "cmp"))
    (tmp_path / "cmp").mkdir()
    (tmp_path / "cmp" / "comparison.md").write_text("# same\n", encoding="utf-8")
    session = FakeSession("old.json", "new.json", "--require-backend", "--tolerance", "0.2")
    noxfile.bench_cmp.func(session)
    assert no_install == []
    (command,) = session.commands
    assert command[1:4] == ["-m", "zmlx", "bench-cmp"]
    written = ["--markdown", f"{tmp_path / 'cmp'}/comparison.md"]
    assert command[4:] == [*written, "old.json", "new.json", "--tolerance", "0.2"]
    assert page.read_text(encoding="utf-8") == "# same\n"


def probe(backend: str, **variables: str) -> str:
    """What the session's first command finds, here with other environment variables."""
    command = [sys.executable, "-c", environment.PROBE, backend]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip().splitlines()[-1]


def test_the_probe_looks_for_a_compiler(tmp_path: Path) -> None:
    assert probe("cpu").startswith("ready: ")
    found = probe("cpu", PATH=str(tmp_path), CXX="")
    assert found.startswith("broken: [metal_kernel] No C++ compiler")
    assert "Looked for c++, g++, clang++ on PATH" in found or "Looked for $CXX, c++" in found
    assert "set CXX to a C++17 compiler" in found
    assert probe("cpu", CXX="no-such-compiler").startswith("broken: ")


class FailingSession(FakeSession):
    """Its commands print what it is given; errors and skips are exceptions, as in nox."""

    def __init__(self, output: str) -> None:
        super().__init__()
        self.output = output

    def run(self, *command: str, **_: object) -> str:
        self.commands.append(list(command))
        return self.output

    def error(self, text: str) -> None:
        raise RuntimeError(f"error: {text}")

    def skip(self, text: str) -> None:
        raise RuntimeError(f"skip: {text}")


def test_no_compiler_ends_a_session_before_its_tests(
    monkeypatch: pytest.MonkeyPatch, no_install: list[tuple[str, ...]]
) -> None:
    monkeypatch.setattr(hosts, "this_host", lambda: LAPTOP)
    monkeypatch.delenv("ZMLX_REQUIRE_BACKEND", raising=False)
    session = FailingSession("broken: [metal_kernel] No C++ compiler: apt install g++\n")
    with pytest.raises(RuntimeError) as ended:
        noxfile.cpu.func(session)
    assert str(ended.value) == "error: [metal_kernel] No C++ compiler: apt install g++"
    assert len(session.commands) == 1  # the probe, and no pytest
    with pytest.raises(RuntimeError, match="skip: cpu cannot be used: MLX does not import"):
        noxfile.cpu.func(FailingSession("missing: MLX does not import\n"))


@pytest.mark.parametrize("posargs", [(), ("-k", "swiglu")], ids=["alone", "with arguments"])
def test_check_says_that_arguments_leave_the_clients_out(
    posargs: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, no_install: list[tuple[str, ...]]
) -> None:
    monkeypatch.setattr(hosts, "this_host", lambda: LAPTOP)
    session = FakeSession(*posargs)
    noxfile.check.func(session)
    _, first, *more = session.commands
    assert first[-len(noxfile.CHECKED_TESTS) - len(posargs) :] == [*noxfile.CHECKED_TESTS, *posargs]
    if posargs:
        assert not more
        assert session.warnings == [
            "The clients are left out, because arguments were given: they are checked by nox -s check alone."
        ]
    else:
        assert not session.warnings
        assert [command[-1] for command in more] == ["tests/clients"]


@pytest.mark.parametrize("name", ["clients", "check"])
def test_clients_are_pinned_and_those_with_heavy_dependencies_come_without(
    name: str, monkeypatch: pytest.MonkeyPatch, no_install: list[tuple[str, ...]]
) -> None:
    monkeypatch.setattr(hosts, "this_host", lambda: LAPTOP)
    session = FakeSession()
    getattr(noxfile, name).func(session)
    (installed,) = no_install
    assert any(requirement.startswith("mlx-lm==") for requirement in installed)
    alone = [requirement for requirement in installed if requirement.startswith("--no-deps")]
    assert [requirement.partition("==")[0] for requirement in alone] == [
        "--no-deps mlx-audio",
        "--no-deps mlx-vlm",
    ]
    assert session.env["ZMLX_REQUIRE_CLIENTS"] == "mlx_lm mlx_audio mlx_vlm"


class Environment:
    """What `install` asks of a session with an environment of its own."""

    def __init__(self, location: Path) -> None:
        self.venv_backend = "venv"
        self.virtualenv = SimpleNamespace(location=str(location))
        self.installed: list[tuple[str, ...]] = []

    def install(self, *arguments: str) -> None:
        self.installed.append(arguments)

    def run_install(self, *command: str, log: bool) -> None:
        subprocess.run([sys.executable, *command[1:]], check=True)

    def log(self, text: str) -> None:
        pass


def test_what_is_installed_alone_is_installed_last_and_once(tmp_path: Path) -> None:
    session = Environment(tmp_path)
    for _ in range(2):
        environment.install(session, tmp_path, "numpy", alone=["heavy==1"])
    assert session.installed == [("numpy",), ("--no-deps", "heavy==1")]
    environment.install(session, tmp_path, "numpy", alone=["heavy==2"])
    assert session.installed[2:] == [("numpy",), ("--no-deps", "heavy==2")]


def test_step_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = tmp_path / "report"
    reports.mkdir()
    (reports / "agreement.md").write_text("# agreed\n", encoding="utf-8")
    (reports / "agreement.html").write_text("<p>", encoding="utf-8")
    page = tmp_path / "summary"
    page.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    environment.add_step_summary(reports)
    assert page.read_text(encoding="utf-8") == "before\n# agreed\n"


# ---- nox itself ----


def run_nox(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    hidden = {"ZMLX_REQUIRE_BACKEND", "ZMLX_TEST_BACKEND", "PYTEST_ADDOPTS", "FORCE_COLOR"}
    clean = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**clean, "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


#: A back end that this machine cannot have.
ABSENT = "cuda" if sys.platform == "darwin" else "metal"


def test_a_session_without_its_hardware_is_skipped_with_the_reason() -> None:
    result = run_nox("-m", "nox", "-s", ABSENT)
    assert result.returncode == 0
    assert f"{ABSENT} needs" in result.stdout
    assert "skipped" in result.stderr
    assert "Creating virtual environment" not in result.stderr


@pytest.mark.parametrize(
    ("posargs", "environment"),
    [(("--", "--require-backend"), {}), ((), {"ZMLX_REQUIRE_BACKEND": "1"})],
    ids=["option", "variable"],
)
def test_required_hardware_that_is_missing_is_an_error(
    posargs: tuple[str, ...], environment: dict[str, str]
) -> None:
    result = run_nox("-m", "nox", "-s", ABSENT, *posargs, **environment)
    assert result.returncode == 1
    assert f"{ABSENT} needs" in result.stdout


def test_noxfile_runs_as_a_script_and_its_list_reads_like_documentation() -> None:
    result = run_nox("noxfile.py", "-l")
    assert result.returncode == 0
    listed = dict(re.findall(r"^[*-] ([\w-]+) -> (.+)$", result.stdout, re.M))
    assert {"cpu", "metal", "cuda", "golden-gen", "golden-cmp", "cuda-compile"} <= set(listed)
    for name, text in listed.items():
        assert text.endswith("."), f"{name}: its description is no sentence: {text}"


def test_no_venv_uses_this_python_as_it_is() -> None:
    nodeid = "tests/test_noxfile.py::test_step_summary"
    result = run_nox("-m", "nox", "-s", "tools", "--no-venv", "--no-install", "--", nodeid, "-n", "0")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout


def test_no_venv_alone_says_what_to_add() -> None:
    result = run_nox("-m", "nox", "-s", "cpu", "--no-venv")
    assert result.returncode == 1
    assert "--no-venv uses this Python as it is and installs nothing: add --no-install" in result.stderr


def test_a_session_in_which_no_test_executed_fails() -> None:
    result = run_nox(
        "-m",
        "nox",
        "-s",
        "tools",
        "--no-venv",
        "--no-install",
        "--",
        "tests/test_noxfile.py",
        "-n",
        "0",
        "-k",
        "nothing_matches",
    )
    assert result.returncode == 1
    assert "no test executed" in result.stdout


def test_report_browser_gives_its_browser_to_the_tests(
    monkeypatch: pytest.MonkeyPatch, no_install: list[tuple[str, ...]]
) -> None:
    monkeypatch.setattr(hosts, "this_host", lambda: LAPTOP)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if name == "google-chrome" else None)
    session = FakeSession()
    noxfile.report_browser.func(session)
    assert session.env["ZMLX_TEST_BROWSER"] == "/usr/bin/google-chrome"
    assert session.env["ZMLX_TEST_SCREENSHOTS"].endswith("report-browser")
    assert "tests/testing/report/test_browser.py" in session.commands[-1]


def test_report_browser_is_skipped_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, no_install: list[tuple[str, ...]]
) -> None:
    class Skipped(Exception):
        pass

    def skip(reason: str) -> None:
        raise Skipped(reason)

    monkeypatch.setattr("shutil.which", lambda name: None)
    session = FakeSession()
    session.skip = skip
    with pytest.raises(Skipped, match="No browser: none of chromium, chromium-browser, google-chrome"):
        noxfile.report_browser.func(session)
    assert session.commands == []
