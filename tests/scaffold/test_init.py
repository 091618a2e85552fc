"""`python -m zmlx init`: what it writes, that it replaces nothing, and a project of one's own from end to end."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import zmlx
from zmlx._settings import SettingsError
from zmlx.scaffold.init import init
from zmlx.scaffold.render import ScaffoldError
from zmlx.sessions.project import SESSIONS

pytestmark = pytest.mark.cpu

CHECKOUT = Path(zmlx.__file__).parent.parent

FILES = {
    *("pyproject.toml", "mine/__init__.py", "mine/ops.py", "tests/test_ops.py", "noxfile.py"),
    *("golden_values/.gitkeep", ".github/workflows/zmlx.yml"),
}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    hidden = {"ZMLX_REQUIRE_BACKEND", "ZMLX_TEST_BACKEND", "PYTEST_ADDOPTS"}
    clean = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={
            **clean,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH")))),
            # Bytecode is told by the second and the size of a file: a planted fault may change neither.
            "PYTHONDONTWRITEBYTECODE": "1",
            "ZMLX_TEST_BACKEND": "cpu",
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_what_is_written(tmp_path: Path) -> None:
    made = init(tmp_path, "mine")
    assert set(made.written) == set(contents(tmp_path)) == FILES
    assert made.kept == ()
    assert "wrote mine/ops.py\n" in made.text()
    assert "pip install zmlx" not in "".join(text.decode() for text in contents(tmp_path).values())


def test_a_folder_that_others_do_not_have_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        "a folder that other machines do not have: for them, write a git URL" in init(tmp_path, "mine").text()
    )
    monkeypatch.setattr("zmlx._distribution.source", lambda: "git+https://host/zmlx.git")
    made = init(tmp_path / "second", "mine")
    assert "other machines" not in made.text()
    assert "zmlx @ git+https://host/zmlx.git" in (tmp_path / "second" / "noxfile.py").read_text()


def test_nothing_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "ops.py").write_text("OPS = ()\n")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'mine'\n")
    made = init(tmp_path, "mine")
    assert made.kept == ("pyproject.toml", "mine/ops.py")
    assert (tmp_path / "mine" / "ops.py").read_text() == "OPS = ()\n"
    assert "kept  mine/ops.py, which was there" in made.text()
    assert 'pyproject.toml has no [tool.zmlx]. Add:\n\n[tool.zmlx]\nops = "mine.ops:OPS"\n' in made.text()
    before = contents(tmp_path)
    again = init(tmp_path, "mine")
    assert again.written == ()
    assert set(again.kept) == FILES
    assert contents(tmp_path) == before


def test_a_project_that_has_the_table_is_not_told_to_add_it(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.zmlx]\nops = 'a.b:C'\n")
    assert init(tmp_path, "mine").to_add == ""


def test_the_package_is_named_after_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my-kernels"
    folder.mkdir()
    init(folder)
    assert (folder / "my_kernels" / "ops.py").is_file()


def made_in(folder: Path) -> str:
    """Where the table of a new project is."""
    init(folder)
    (ops,) = [path for path in contents(folder) if path.endswith("ops.py") and not path.startswith("tests/")]
    return ops


@pytest.mark.parametrize(
    ("project", "package"),
    [
        ('name = "My-Kernels.fast"', "My_Kernels_fast"),
        ('name = "kernels"', "kernels"),
        ("", "a_folder"),
    ],
)
def test_the_package_is_named_after_the_project(tmp_path: Path, project: str, package: str) -> None:
    folder = tmp_path / "a-folder"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(f"[project]\n{project}\n")
    assert made_in(folder) == f"{package}/ops.py"


@pytest.mark.parametrize(
    ("there", "project", "ops"),
    [
        (["src/sk/__init__.py"], "scikit", "src/sk/ops.py"),
        (["src/Mine/__init__.py", "src/other/one.py"], "mine", "src/Mine/ops.py"),
        (["src/mine/__init__.py", "src/mine.egg-info/PKG-INFO", "src/native/a.cpp"], "x", "src/mine/ops.py"),
        (["src/a.cpp"], "mine", "mine/ops.py"),
        (["src/native/a.cpp"], "mine", "mine/ops.py"),
        (["mine/__init__.py", "src/other/__init__.py", "src/another/__init__.py"], None, None),
    ],
)
def test_the_package_is_the_one_in_src(
    tmp_path: Path, there: list[str], project: str | None, ops: str | None
) -> None:
    for path in there:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    if project is not None:
        (tmp_path / "pyproject.toml").write_text(f"[project]\nname = '{project}'\n")
        assert made_in(tmp_path) == ops
        return
    with pytest.raises(ScaffoldError) as caught:
        init(tmp_path)
    assert str(caught.value) == "src has several packages: another, other. Choose one: --name another"
    assert init(tmp_path, "mine").kept == ("mine/__init__.py",)
    assert "src/new/ops.py" in init(tmp_path, "new").written


def test_an_empty_src_is_for_the_package(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    assert "src/mine/ops.py" in init(tmp_path, "mine").written


def test_names_that_the_project_gives_and_nobody_can_use(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = '3d-kernels'\n")
    with pytest.raises(ScaffoldError) as caught:
        init(tmp_path)
    assert str(caught.value) == (
        "[project].name in pyproject.toml: expected a name such as my_kernels, got '3d_kernels'. "
        "Choose one: --name my_kernels"
    )
    (tmp_path / "pyproject.toml").write_text("[project")
    with pytest.raises(SettingsError, match=r"pyproject\.toml cannot be read: "):
        init(tmp_path)
    assert set(contents(tmp_path)) == {"pyproject.toml"}


def test_a_project_with_src_from_end_to_end(tmp_path: Path) -> None:
    """It need not be installed."""
    package = tmp_path / "src" / "my_kernels"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("VERSION = 1\n")
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text("[project]\nname = 'my-kernels'\nversion = '1'\n")
    made = run(tmp_path, "zmlx", "init")
    assert made.returncode == 0, made.stderr
    assert "wrote src/my_kernels/ops.py\n" in made.stdout
    assert (package / "__init__.py").read_text() == "VERSION = 1\n"
    with pyproject.open("a") as file:
        file.write(init(tmp_path).to_add)
    for command in (
        ("zmlx", "verify", "--dtype", "float16"),
        ("zmlx", "new-kernel", "my_kernels", "second"),
        (
            "pytest",
            "-q",
            "-p",
            "zmlx.testing.plugin",
            "-p",
            "no:cacheprovider",
            "-k",
            "test_forward and float16",
        ),
    ):
        found = run(tmp_path, *command)
        assert found.returncode == 0, found.stdout + found.stderr
    assert "_second_info" in (package / "ops.py").read_text()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my kernels", "--name: expected a name such as my_kernels, got 'my kernels'."),
        ("class", "--name: expected a name such as my_kernels, got 'class'."),
        ("mlx", "--name: 'mlx' is another package's name. Choose one: --name my_kernels"),
        # It would come before Python's own module for whatever runs in the folder.
        ("json", "--name: 'json' is another package's name. Choose one: --name my_kernels"),
    ],
)
def test_names_that_cannot_be_used(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ScaffoldError) as caught:
        init(tmp_path, name)
    assert str(caught.value) == message
    assert contents(tmp_path) == {}


def test_the_files_are_tidy(tmp_path: Path) -> None:
    pytest.importorskip("ruff", reason="ruff is not installed in this Python")
    init(tmp_path, "mine")
    for command in (["check", "--isolated", "--select", "E,F,I,B,UP"], ["format", "--isolated", "--check"]):
        found = run(tmp_path, "ruff", *command, "--line-length", "120", ".")
        assert found.returncode == 0, found.stdout


def test_the_noxfile_is_short_and_names_where_zmlx_comes_from(tmp_path: Path) -> None:
    init(tmp_path, "mine")
    text = (tmp_path / "noxfile.py").read_text()
    assert len(text.splitlines()) <= 15
    assert re.search(r'# dependencies = \["nox>=2025\.5\.1", "zmlx @ \S+"\]', text)
    assert "zmlx.nox_sessions()" in ast.unparse(ast.parse(text))


@pytest.fixture
def workflow(tmp_path: Path) -> dict[Any, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed in this Python")
    init(tmp_path, "mine")
    text = (tmp_path / ".github" / "workflows" / "zmlx.yml").read_text()
    loaded = yaml.safe_load(text)
    assert isinstance(loaded, dict)
    return loaded


def test_the_workflow_runs_sessions_that_there_are(workflow: dict[Any, Any]) -> None:
    used: set[str] = set()
    for job in workflow["jobs"].values():
        assert set(job) <= {"runs-on", "timeout-minutes", "steps", "if"}
        for step in job["steps"]:
            assert set(step) <= {"uses", "with", "run"}
            assert ("uses" in step) != ("run" in step)
            if "run" in step and step["run"] != 'python -m pip install "nox[uv]"':
                used.update(step["run"].removeprefix("python -m nox -s ").split())
    assert used == set(SESSIONS) - {"golden-gen"}


def test_the_workflow_is_as_strict_as_zmlx_s_own(workflow: dict[Any, Any], tmp_path: Path) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads the key `on` so
    assert workflow["env"]["ZMLX_REQUIRE_BACKEND"] == "1"
    own = (CHECKOUT / ".github" / "workflows" / "cross-backend-ci.yml").read_text()
    text = (tmp_path / ".github" / "workflows" / "zmlx.yml").read_text()
    for action in re.findall(r"uses: (.+)", text):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
        assert action in own, f"{action}: zmlx's own workflow has another version"


def test_a_project_from_end_to_end(tmp_path: Path) -> None:
    """Every command works on its kernels, from its folder, and a planted fault fails each of them."""
    made = run(tmp_path, "zmlx", "init", "--name", "mine")
    assert made.returncode == 0, made.stderr
    heading = "operations: mine.ops:OPS (pyproject.toml), 1 operation\n"

    def works(*command: str) -> str:
        found = run(tmp_path, *command)
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout

    assert works("zmlx", "verify").startswith(heading)
    recorded = works("zmlx", "golden", "record", "--backend", "cpu")
    assert f"{tmp_path / 'golden_values' / 'cpu.json'}: 6 cases on cpu" in recorded
    assert "PASS" in works("zmlx", "golden", "compare", "--backend", "cpu")
    assert works("zmlx", "report").startswith(heading)
    assert "53 passed" in works("pytest", "-q", "-p", "zmlx.testing.plugin", "-p", "no:cacheprovider")
    shown = works("zmlx", "show", "relu2", "--dtype", "float16")
    assert [line for line in shown.splitlines() if "====" in line] == [
        f"// ==== {language} ({backend}): {name}, of mine.relu2 in float16 ===="
        for language, backend in (("Metal", "metal"), ("C++", "cpu"), ("CUDA", "cuda"))
        for name in ("relu2", "relu2_vjp")
    ]
    added = works("zmlx", "new-kernel", "mine", "second")
    assert added.startswith("wrote mine/ops.py\n")
    assert "2 operations, 36 cases: all within tolerance" in works("zmlx", "verify")
    works("zmlx", "golden", "record", "--backend", "cpu", "--kernel", "second")

    ops = tmp_path / "mine" / "ops.py"
    ops.write_text(ops.read_text().replace("a < 0 ? 0 : a * a", "a < 1 ? 0 : a * a", 1))
    for command, complaint in (
        (("zmlx", "verify"), "FAIL forward: mine.relu2/float32/small"),
        (("zmlx", "golden", "compare", "--backend", "cpu"), "FAIL"),
        (("zmlx", "golden", "record", "--backend", "cpu"), "Not recorded, for it is wrong."),
        (("pytest", "-q", "-p", "zmlx.testing.plugin", "-k", "test_forward"), "are outside the tolerance"),
    ):
        found = run(tmp_path, *command)
        assert found.returncode == 1, found.stdout
        assert complaint in found.stdout + found.stderr
