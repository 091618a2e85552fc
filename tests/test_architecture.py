"""One direction of sight: that the contracts in pyproject.toml hold is for `nox -s lint`; here, that they can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import zmlx

pytest.importorskip("importlinter", reason="import-linter is not installed in this Python")

pytestmark = pytest.mark.cpu

ROOT = Path(zmlx.__file__).parent.parent


@pytest.fixture(scope="module")
def command():
    """What the session runs."""
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    (line,) = (line for line in noxfile.splitlines() if line.startswith("LINT_IMPORTS = "))
    return [sys.executable, "-c", line.partition(" = ")[2].strip('"')]


@pytest.fixture
def checkout(tmp_path):
    """A copy of the package and of its contracts."""
    shutil.copytree(ROOT / "zmlx", tmp_path / "zmlx", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(command, checkout):
    environment = {"PYTHONPATH": str(checkout), "PATH": "", "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"}
    return subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, env=environment, encoding="utf-8"
    )


def test_the_package_keeps_its_contracts(command, checkout):
    done = lint(command, checkout)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "planted", "said"),
    [
        (
            "launch/host.py",
            "from zmlx.check import findings",
            "zmlx.launch is not allowed to import zmlx.check",
        ),
        ("launch/memory.py", "import zmlx.kernels", "zmlx.launch is not allowed to import zmlx.kernels"),
        (
            "metal/tokens.py",
            "from zmlx.translate import dump",
            "zmlx.metal is not allowed to import zmlx.trans",
        ),
        ("kernels/_rows.py", "import zmlx.check", "zmlx.kernels is not allowed to import zmlx.check"),
        ("check/run.py", "import zmlx.testing", "zmlx.check is not allowed to import zmlx.testing"),
        ("metal/tokens.py", "from zmlx.metal import structure", "No cycles are allowed in zmlx.metal."),
    ],
)
def test_a_planted_import_breaks_one(command, checkout, module, planted, said):
    file = checkout / "zmlx" / module
    file.write_text(
        f"{file.read_text(encoding='utf-8')}\n\ndef _planted():\n    {planted}\n", encoding="utf-8"
    )
    done = lint(command, checkout)
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stdout


def test_a_new_folder_must_be_given_a_stage(command, checkout):
    (checkout / "zmlx" / "elsewhere.py").write_text("")
    done = lint(command, checkout)
    assert done.returncode == 1
    assert "elsewhere" in done.stdout + done.stderr
