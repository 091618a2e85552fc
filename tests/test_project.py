"""The project's own files hold together: package, workflow, scripts and documentation."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from zmlx import _distribution
from zmlx.scaffold.tables import TABLES, replaced

pytestmark = pytest.mark.cpu

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "cross-backend-ci.yml"
GUIDE = ROOT / "docs" / "cross_backend_testing.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def session_names() -> list[str]:
    """The sessions of noxfile.py, without importing nox."""
    names = []
    for node in ast.parse(text_of(ROOT / "noxfile.py")).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if ast.unparse(decorator).startswith("nox.session"):
                keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
                named = [ast.literal_eval(k.value) for k in keywords if k.arg == "name"]
                names.append(named[0] if named else node.name)
    return names


# ---- the package ----


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    builders = pytest.importorskip(
        "hatchling.builders.wheel", reason="hatchling is not installed in this Python"
    )
    directory = tmp_path_factory.mktemp("wheel")
    path = next(builders.WheelBuilder(str(ROOT)).build(directory=str(directory), versions=["standard"]))
    return zipfile.ZipFile(path)


def test_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    built = {name for name in wheel.namelist() if name.startswith("zmlx/")}
    here = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "zmlx").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert built == here
    assert "zmlx/py.typed" in built
    assert any(name.startswith("zmlx/runtime/") and name.endswith(".h") for name in built)


def test_wheel_registers_the_command_and_the_plugin_under_its_module_name(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert wheel.read(entry_points).decode().split() == [
        *("[console_scripts]", "zmlx", "=", "zmlx.__main__:main"),
        *("[pytest11]", "zmlx.testing.plugin", "=", "zmlx.testing.plugin"),
    ]


def test_wheel_takes_mlx_by_marker_on_macos_and_by_extra_on_linux(wheel: zipfile.ZipFile) -> None:
    (metadata,) = [name for name in wheel.namelist() if name.endswith("dist-info/METADATA")]
    mlx = [line for line in wheel.read(metadata).decode().splitlines() if "Requires-Dist: mlx" in line]
    assert len(mlx) == 4
    for line in mlx:
        platform = "linux" if "extra ==" in line else "darwin"
        assert f"sys_platform == '{platform}'" in line, line


def imported_packages(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(text_of(file))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).partition(".")[0])
    return found - set(sys.stdlib_module_names)


def test_package_imports_nothing_that_it_does_not_declare() -> None:
    declared = {"zmlx", "mlx", "numpy", "filelock", "platformdirs", "tomli"}
    text = text_of(ROOT / "pyproject.toml")
    assert all(f'"{name}' in text for name in declared)
    for file in (ROOT / "zmlx").rglob("*.py"):
        # The plugin and the generated tests run inside pytest and nowhere else, sessions inside nox.
        # Where an entry has a strategy, it is drawn from by Hypothesis, which asks for it.
        extra = {
            "testing": {"pytest"},
            "op_db": {"hypothesis"},
            "generated": {"pytest", "hypothesis"},
            "sessions": {"nox"},
        }
        allowed = declared | extra.get(file.parent.name, set())
        assert imported_packages(file) <= allowed, file.name


def test_changelog_has_an_entry_for_this_version() -> None:
    import zmlx

    assert re.search(rf"^## {re.escape(zmlx.__version__)}\b", text_of(ROOT / "CHANGELOG.md"), re.M)


# ---- the workflow ----


@pytest.fixture(scope="session")
def workflow() -> dict[Any, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed in this Python")
    loaded = yaml.safe_load(text_of(WORKFLOW))
    assert isinstance(loaded, dict)
    return loaded


def commands(workflow: dict[Any, Any]) -> list[str]:
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


def test_workflow_runs_nox_sessions_and_nothing_else(workflow: dict[Any, Any]) -> None:
    known = set(session_names())
    used: set[str] = set()
    for command in commands(workflow):
        if command == 'python -m pip install "nox[uv]"':
            continue
        match = re.fullmatch(r"python -m nox -s ([\w -]+?)(?: -- .+)?", command)
        assert match, f"not a nox session: {command}"
        used.update(match[1].split())
    assert used <= known
    assert used == known, f"sessions that CI never runs: {sorted(known - used)}"


def test_workflow_pins_every_action_by_commit() -> None:
    uses = re.findall(r"uses: (\S+)(.*)", text_of(WORKFLOW))
    assert uses
    pins: dict[str, set[str]] = {}
    for action, comment in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"{action} does not say its version"
        pins.setdefault(action.split("@")[0], set()).add(action + comment)
    assert {name for name, versions in pins.items() if len(versions) > 1} == set()


def test_workflow_has_no_more_rights_than_it_needs(workflow: dict[Any, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow["jobs"].values())
    assert "secrets." not in text_of(WORKFLOW)
    assert "concurrency" in workflow


def test_no_failure_is_hidden(workflow: dict[Any, Any]) -> None:
    assert workflow["env"]["ZMLX_REQUIRE_BACKEND"] == "1"
    for name, job in workflow["jobs"].items():
        assert "timeout-minutes" in job, name
        assert "continue-on-error" not in job, name
        assert all("continue-on-error" not in step for step in job["steps"]), name
    for path in (WORKFLOW, ROOT / ".ci" / "run"):
        assert "|| true" not in text_of(path), path


def test_workflow_covers_the_platforms_and_pythons_that_the_package_names(workflow: dict[Any, Any]) -> None:
    matrix = workflow["jobs"]["cpu"]["strategy"]["matrix"]
    pythons = re.findall(r"Programming Language :: Python :: (3\.\d+)", text_of(ROOT / "pyproject.toml"))
    assert matrix["python"] == pythons
    systems = {*matrix["os"], *(row["os"] for row in matrix["include"])}
    assert {"ubuntu-24.04", "ubuntu-24.04-arm", "macos-15"} <= systems
    assert "macos-15" in workflow["jobs"]["metal"]["strategy"]["matrix"]["os"]
    cuda = workflow["jobs"]["cuda"]
    assert cuda["runs-on"] == "${{ vars.ZMLX_CUDA_RUNNER }}"
    assert cuda["if"].startswith("vars.ZMLX_CUDA_RUNNER != ''")


def test_agreement_job_downloads_what_the_other_jobs_upload(workflow: dict[Any, Any]) -> None:
    def names(job: dict[Any, Any], action: str, **matrix: str) -> set[str]:
        found = set()
        for step in job["steps"]:
            if step.get("uses", "").startswith(f"actions/{action}-artifact"):
                name = step["with"]["name"]
                for key, value in matrix.items():
                    name = name.replace("${{ matrix." + key + " }}", value)
                found.add(name)
        return found

    jobs = workflow["jobs"]
    cpu = jobs["cpu"]["strategy"]["matrix"]
    rows = [(os_name, python) for os_name in cpu["os"] for python in cpu["python"]]
    rows += [(row["os"], row["python"]) for row in cpu["include"]]
    uploaded = {"golden-cuda"}
    for os_name, python in rows:
        uploaded |= names(jobs["cpu"], "upload", os=os_name, python=python)
    for os_name in jobs["metal"]["strategy"]["matrix"]["os"]:
        uploaded |= names(jobs["metal"], "upload", os=os_name)
    assert names(jobs["cuda"], "upload") == {"golden-cuda"}
    wanted = jobs["agreement"]["strategy"]["matrix"]
    for cpu_name in wanted["cpu"]:
        for metal in wanted["metal"]:
            assert names(jobs["agreement"], "download", cpu=cpu_name, metal=metal) <= uploaded


# ---- scripts ----


def test_ci_script_is_sound() -> None:
    script = ROOT / ".ci" / "run"
    assert "set -euo pipefail" in text_of(script)
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    called = set(re.findall(r"[\w-]+", " ".join(re.findall(r"nox -s ([\w -]+)", text_of(script)))))
    assert {"golden-cmp", "cpu", "cuda-compile", "lint", "typecheck", "docs", "metal", "cuda"} <= called


# ---- documentation ----

#: What users were promised: the guide keeps a section for each.
PROMISED_SECTIONS = """\
Overview
Backend detection
Pytest markers
Example usage
Fixtures
Backend fixtures
Device fixture
Cross-backend comparison
Golden value testing
Generating golden values
Comparing across backends
In-code golden values
CI configuration
GitHub Actions matrix
Running tests locally
Run all tests
Run only CPU-compatible tests
Run only Metal-specific tests
Run tests excluding slow ones
Writing cross-backend tests
Best practices
Example: cross-backend kernel test
Troubleshooting
Tests skipped on Linux
Golden value mismatches
Metal not available in CI
Future work
""".splitlines()


def headings(page: Path) -> list[str]:
    without_code = re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S)
    return re.findall(r"^#+ (.+)$", without_code, re.M)


def test_guide_keeps_every_section() -> None:
    missing = [title for title in PROMISED_SECTIONS if title not in headings(GUIDE)]
    assert missing == []


@pytest.mark.parametrize("name", session_names())
def test_every_session_is_documented(name: str) -> None:
    assert f"nox -s {name}" in text_of(GUIDE)


class OptionGroup:
    """Stands for pytest's parser; keeps the names of options."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def getgroup(self, *_: str) -> OptionGroup:
        return self

    def addoption(self, name: str, **_: Any) -> None:
        self.names.append(name)


def test_every_option_of_the_plugin_is_in_the_guide() -> None:
    from zmlx.testing import plugin

    group: Any = OptionGroup()
    plugin.pytest_addoption(group)
    rows = re.findall(r"^\| `(--[\w-]+)", text_of(GUIDE), re.M)
    assert sorted(rows) == sorted(group.names)


def test_every_command_is_in_the_guide() -> None:
    from zmlx.__main__ import build_parser

    def commands_of(parser: Any) -> list[str]:
        named = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
        found = [(name, commands_of(inner)) for choices in named for name, inner in choices.items()]
        return [" ".join([name, below]) for name, more in found for below in more or [""]]

    rows = re.findall(r"^\| `python -m zmlx ([a-z -]+)", text_of(GUIDE), re.M)
    wanted = [name.strip() for name in commands_of(build_parser())]
    wanted = [name for name in wanted if not name.startswith("cache ")] + ["cache"]
    assert sorted(row.partition(" --")[0].strip() for row in rows) == sorted(set(wanted))


def test_readme_names_no_session_that_does_not_exist() -> None:
    for page in PAGES:
        for names in re.findall(r"nox -s ((?:[\w-]+ )*[\w-]+)", text_of(page).replace("nox -s NAME", "")):
            first = names.split()[0]
            assert first in session_names(), f"{page.name}: nox -s {names}"


def anchor(title: str) -> str:
    """GitHub's and Zensical's id of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text_of(page)):
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if fragment:
            assert fragment in {anchor(title) for title in headings(file)}, f"{page.name}: {target}"


def test_agreement_in_the_readme_is_that_of_the_recorded_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m zmlx report --update-readme README.md` brings it up to date."""
    from zmlx.__main__ import main

    readme = tmp_path / "README.md"
    readme.write_text(text_of(ROOT / "README.md"), encoding="utf-8")
    arguments = ["report", "--golden-dir", str(ROOT / "golden_values"), "--update-readme", str(readme)]
    status = main(arguments)
    assert status == 0, capsys.readouterr()
    current = text_of(readme) == text_of(ROOT / "README.md")
    assert current, "golden_values has changed since: run python -m zmlx report --update-readme README.md"


@pytest.mark.parametrize(("file", "name"), list(TABLES))
def test_tables_are_those_of_the_code(file: str, name: str) -> None:
    """`python -m zmlx.scaffold.tables` brings them up to date."""
    text = text_of(ROOT / file)
    current = replaced(text, name, TABLES[file, name](ROOT), file) == text
    assert current, f"{file}: the table {name!r} is stale: run python -m zmlx.scaffold.tables"


def test_no_text_says_to_install_another_project_s_package() -> None:
    """The package of this name on PyPI is not this one."""
    own = _distribution.NAME
    pattern = re.compile(rf"pip3? install (?:-\S+ )*['\"]?{own}(?![\w@-])(?! @)")
    files = [*PAGES, *(ROOT / "zmlx").rglob("*.py"), *(ROOT / "zmlx").rglob("*.txt"), ROOT / "noxfile.py"]
    assert [path.name for path in files if pattern.search(text_of(path))] == []
    assert pattern.search(f"pip install {own}[cpu]")
    assert pattern.search(f"pip install -U {own} pytest")
    assert not pattern.search(f"pip install '{own} @ git+https://host/z.git'")


def test_every_kernel_is_in_the_documentation() -> None:
    from zmlx.testing.op_db import op_db

    page = text_of(ROOT / "docs" / "kernels.md")
    kernels = [op.name for op in op_db if op.kernel]
    assert kernels
    assert [name for name in kernels if f"`{name}(" not in page] == []


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text_of(page), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_the_documentation_is_valid(page: Path) -> None:
    for block in python_blocks(page):
        compile(block, page.name, "exec")


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.name)
def test_examples_in_the_documentation_run(page: Path, tmp_path: Path, backend: str) -> None:
    """Each block runs by itself: its top level as it is, its tests with pytest, on this session's back end.

    A block that shows a fragment (a class body, a command's output) is marked as ``py`` instead.
    """
    for number, block in enumerate(python_blocks(page)):
        (tmp_path / f"test_block_{number}.py").write_text(
            block + f"\n\ndef test_block_{number}_ran():\n    pass\n", encoding="utf-8"
        )
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull, f"--rootdir={tmp_path}"]
    plugin = ["-p", "zmlx.testing.plugin"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *plugin, f"--backend={backend}", str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
