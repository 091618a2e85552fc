"""`zmlx.nox_sessions`: what a project's noxfile gets, and what its sessions install and run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

nox = pytest.importorskip("nox", reason="nox is not installed in this Python")

from zmlx import _distribution  # noqa: E402
from zmlx.sessions import host, matrix  # noqa: E402
from zmlx.sessions import project as sessions  # noqa: E402
from zmlx.sessions.host import Driver, Host  # noqa: E402

pytestmark = pytest.mark.cpu

ROOT = Path(__file__).parent.parent.parent
LAPTOP = Host("Linux", "x86_64", Driver(problem="there is no NVIDIA driver"))
GPU = Host("Linux", "x86_64", Driver(13000, 1))
NOXFILE = "import nox\nimport zmlx\n\nzmlx.nox_sessions()\n"
XDIST = ["-n", "2", "--dist", "worksteal"]


class FakeSession(SimpleNamespace):
    """Takes down the commands that a session gives."""

    def __init__(self, *posargs: str) -> None:
        super().__init__(posargs=list(posargs), venv_backend="uv", commands=[])

    def run(self, *command: str, **_: object) -> str:
        self.commands.append(list(command))
        return "ready: MLX 0 on Device(cpu, 0)\n"

    def log(self, text: str) -> None:
        pass


def test_a_noxfile_of_three_lines_has_all_sessions(tmp_path: Path) -> None:
    (tmp_path / "noxfile.py").write_text(NOXFILE, encoding="utf-8")
    found = subprocess.run(
        [sys.executable, "-m", "nox", "-l"], cwd=tmp_path, capture_output=True, text=True, env=environment()
    )
    assert found.returncode == 0, found.stderr
    listed = dict(re.findall(r"^[*-] ([\w-]+) -> (.+)$", found.stdout, re.M))
    assert list(listed) == ["cpu", "metal", "cuda", "golden-gen", "golden-cmp", "cuda-compile", "check"]
    assert all(text.endswith(".") for text in listed.values())


def environment() -> dict[str, str]:
    import os

    return {
        **os.environ,
        "NO_COLOR": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }


@pytest.mark.parametrize(
    ("name", "machine", "extras", "commands"),
    [
        (
            "cpu",
            LAPTOP,
            "[cpu]",
            [["pytest", "--backend=cpu", *XDIST, "-m", f"({host.SUITES['cpu'].markers})"]],
        ),
        ("cuda", GPU, "[cuda13]", [["pytest", "--backend=cuda", *XDIST]]),
        ("golden-gen", LAPTOP, "[cpu]", [["zmlx", "golden", "record", "--backend", "cpu"]]),
        (
            "golden-cmp",
            LAPTOP,
            "[cpu]",
            [["zmlx", "golden", "compare", "--backend", "cpu", "--report-dir", "build/report"]],
        ),
        ("cuda-compile", LAPTOP, "[cpu]", [["zmlx", "cuda-compile"]]),
        ("check", LAPTOP, "[cpu,lint]", [["pytest", "--backend=cpu", *XDIST, "--zmlx-check"]]),
    ],
)
def test_what_a_session_installs_and_runs(
    name: str,
    machine: Host,
    extras: str,
    commands: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        matrix, "install", lambda session, root, *wanted, alone: installed.append((str(root), *wanted))
    )
    monkeypatch.setattr(host, "this_host", lambda: machine)
    monkeypatch.setattr(host, "count_cores", lambda: 2)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.zmlx]\nzmlx-from = "git+https://host/z.git"\n', encoding="utf-8"
    )
    body, _ = sessions.SESSIONS[name]
    session: Any = FakeSession()
    body(sessions.project_matrix(tmp_path, ["hypothesis"]), session)
    nvrtc = [sessions.NVRTC_REQUIREMENT] if name == "cuda-compile" else []
    zmlx = f"zmlx{extras} @ git+https://host/z.git"
    assert installed == [(str(tmp_path), zmlx, *sessions.TEST_REQUIREMENTS, "hypothesis", *nvrtc)]
    probe, *rest = session.commands
    assert probe[:2] == ["python", "-c"]
    assert rest == [["python", "-m", *command] for command in commands]


def test_a_project_that_can_be_installed_is(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "mine"\nversion = "1"\n', encoding="utf-8")
    assert sessions.project_matrix(tmp_path).requirements(("cpu",))[-2:] == ["-e", "."]


def test_zmlx_comes_from_where_this_one_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def recorded(about: dict[str, Any]) -> str:
        found = SimpleNamespace(read_text=lambda name: json.dumps(about))
        monkeypatch.setattr(_distribution.importlib.metadata, "distribution", lambda name: found)
        return sessions.project_matrix(tmp_path).requirements(())[0]

    assert (
        recorded({"url": "file:///home/me/my%20zmlx", "dir_info": {}}) == "zmlx @ file:///home/me/my%20zmlx"
    )
    git = {"url": "https://host/z.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}
    assert recorded(git) == "zmlx @ git+https://host/z.git@c0ffee"
    assert recorded({"url": "https://host/zmlx.whl", "archive_info": {}}) == "zmlx @ https://host/zmlx.whl"


def test_without_metadata_it_is_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise _distribution.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(_distribution.importlib.metadata, "distribution", missing)
    assert _distribution.source() == str(ROOT)
    monkeypatch.setattr(_distribution, "__file__", "/nowhere/zmlx/_distribution.py")
    with pytest.raises(_distribution.SourceUnknownError) as caught:
        _distribution.source()
    assert str(caught.value) == (
        "Where to install zmlx from is not known: it was not installed from a folder or a git URL, and it is not a "
        'checkout. Write it into pyproject.toml:\n[tool.zmlx]\nzmlx-from = "git+https://HOST/PATH.git"    # or a folder'
    )


def test_the_name_is_that_of_the_package() -> None:
    project = nox.project.load_toml(ROOT / "pyproject.toml")["project"]
    assert project["name"] == _distribution.NAME
