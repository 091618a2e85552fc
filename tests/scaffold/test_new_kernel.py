"""`python -m zmlx new-kernel`: a kernel from the template passes at once, in zmlx's checkout and in a project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import zmlx
from zmlx.scaffold.init import init
from zmlx.scaffold.new_kernel import new_kernel
from zmlx.scaffold.render import ScaffoldError

pytestmark = pytest.mark.cpu

CHECKOUT = Path(zmlx.__file__).parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of zmlx to add to."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "zmlx", tmp_path / "zmlx", ignore=ignored)
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    shutil.copy(CHECKOUT / "tests" / "test_ops.py", tmp_path / "tests")
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))),
        # Bytecode is told by the second and the size of a file: a planted fault may change neither.
        "PYTHONDONTWRITEBYTECODE": "1",
        "ZMLX_TEST_BACKEND": "cpu",
        # Those of a Python that is not ours may warn, and warnings are errors here.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_two_files_and_one_command_are_a_kernel_of_the_catalogue(checkout: Path) -> None:
    made = run(checkout, "zmlx", "new-kernel", "rectifiers", "relu_squared")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith(
        "wrote zmlx/kernels/rectifiers.py\nwrote zmlx/testing/op_db/rectifiers.py\n\n"
    )
    added = run(checkout, "zmlx", "new-kernel", "reductions", "second")
    assert added.returncode == 0, added.stderr
    found = run(checkout, "zmlx", "verify", "--kernel", "re*s.[rs]e[lc]*")
    assert "2 operations, 48 cases: all within tolerance of the oracle" in found.stdout, (
        found.stdout + found.stderr
    )
    plugin = ("-p", "zmlx.testing.plugin", "-p", "no:cacheprovider", "--backend=cpu")
    tests = run(
        checkout, "pytest", "-q", *plugin, "tests/test_ops.py", "-k", "relu_squared or second or has_a_test"
    )
    assert tests.returncode == 0, tests.stdout
    assert "rectifiers.relu_squared" in tests.stdout  # in the summary's errors


def test_a_new_family_is_tidy(checkout: Path) -> None:
    pytest.importorskip("ruff", reason="ruff is not installed in this Python")
    new_kernel(checkout, "rectifiers", "relu_squared")
    for command in (["check"], ["format", "--check"]):
        found = run(checkout, "ruff", *command, "zmlx/kernels", "zmlx/testing/op_db")
        assert found.returncode == 0, found.stdout


def test_a_name_that_is_taken(checkout: Path, tmp_path: Path) -> None:
    before = (checkout / "zmlx" / "kernels" / "norms.py").read_bytes()
    with pytest.raises(ScaffoldError, match=r"norms\.py has a 'rmsnorm' already\. Choose another name\.$"):
        new_kernel(checkout, "norms", "rmsnorm")
    assert (checkout / "zmlx" / "kernels" / "norms.py").read_bytes() == before


@pytest.mark.parametrize(
    ("family", "name"), [("no-family", "a"), ("a", "1st"), ("_private", "a"), ("a", "for")]
)
def test_names_that_cannot_be_used(family: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(ScaffoldError, match=r"^(FAMILY|NAME): expected a name such as my_kernels, got '"):
        new_kernel(tmp_path, family, name)


def test_a_folder_that_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(
        ScaffoldError, match=r"is neither zmlx's checkout nor a project .* python -m zmlx init$"
    ):
        new_kernel(tmp_path, "a", "b")


def test_a_table_that_is_made_by_a_call_is_left_to_its_author(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    init(tmp_path, "zmlx_example_called")
    ops = tmp_path / "zmlx_example_called" / "ops.py"
    ops.write_text(ops.read_text().replace("OPS = (_relu2_info,)", "OPS = tuple([_relu2_info])"))
    before = ops.read_bytes()
    with pytest.raises(ScaffoldError, match=r"expected OPS = \(…\), a tuple that can be added to\. Add"):
        new_kernel(tmp_path, "mine", "second")
    assert ops.read_bytes() == before
    sys.modules.pop("zmlx_example_called", None)
