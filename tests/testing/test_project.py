"""Whose operations a command works on, and what is said of a table that cannot be used."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from zmlx.testing.op_db import op_db
from zmlx.testing.project import OWN_TABLE, Project, ProjectError, find_project, load_ops
from zmlx.testing.session import Session
from zmlx.testing.tolerance import Tolerance, default_tolerance

pytestmark = pytest.mark.cpu

ROOT = Path(__file__).parent.parent.parent

TABLE = """
import numpy as np
from zmlx.testing.opinfo import OpInfo, SampleInput
from zmlx.testing.tolerance import Tolerance

def samples(rng):
    yield SampleInput("small", (rng("small").normal((2, 3)),))

def made(name, **more):
    return OpInfo(name=name, op=lambda x: x, oracle=lambda x: x, samples=samples, source="itself", **more)

OPS = (made("mine.one"), made("mine.two", tolerances={"float16": Tolerance(0.0, 0.0)}))
SINGLE = OPS[0]
WRONG = (OPS[0], "two")
TWICE = (OPS[0], OPS[0])
EMPTY = ()
NUMBER = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose modules are forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.startswith("zmlx_example")]:
        monkeypatch.delitem(sys.modules, name)
    package = tmp_path / "zmlx_example"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "ops.py").write_text(TABLE, encoding="utf-8")
    (package / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    (package / "lacking.py").write_text("import zmlx_absent_package\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text('[tool.zmlx]\nops = "zmlx_example.ops:OPS"\n', encoding="utf-8")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("zmlx_example")]:
        del sys.modules[name]


def test_the_table_of_pyproject_toml(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = folder / "zmlx_example"
    monkeypatch.chdir(inner)
    project = find_project()
    assert (project.root, project.table_name, project.origin) == (
        folder,
        "zmlx_example.ops:OPS",
        "pyproject.toml",
    )
    assert project.golden_dir == folder / "golden_values"
    assert "zmlx_example" not in sys.modules  # found without importing anything of it
    assert [op.name for op in project.ops] == ["mine.one", "mine.two"]
    assert project.heading() == "operations: zmlx_example.ops:OPS (pyproject.toml), 2 operations"


def test_a_package_under_src(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "zmlx_example").rename(folder / "src" / "zmlx_example")
    assert len(find_project(folder).ops) == 2


def test_ops_on_the_command_line_come_first(folder: Path) -> None:
    project = find_project(folder, ["zmlx_example.ops:SINGLE"])
    assert project.heading() == "operations: zmlx_example.ops:SINGLE (--ops), 1 operation"
    with pytest.raises(
        ProjectError, match=r"^--ops: expected package\.module:NAME, such as .*; got 'ops'\.$"
    ):
        find_project(folder, ["ops"])


def test_an_entry_point(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pyproject.toml").unlink()
    point = SimpleNamespace(value="zmlx_example.ops:OPS", dist=SimpleNamespace(name="example"))
    asked = []
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda *, group: (asked.append(group), [point])[1]
    )
    project = find_project(folder)
    assert asked == ["zmlx.ops"]
    assert project.heading() == (
        "operations: zmlx_example.ops:OPS (entry point zmlx.ops of example), 2 operations"
    )


def test_without_a_project_the_operations_are_those_of_zmlx(tmp_path: Path) -> None:
    project = find_project(tmp_path)
    assert project.tables == (OWN_TABLE,)
    assert project.ops == op_db
    assert project.heading() == (
        f"operations: {OWN_TABLE} (zmlx's own, for this folder and those above have no [tool.zmlx] in a "
        f"pyproject.toml), {len(op_db)} operations"
    )


def test_a_section_without_ops_says_so(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.zmlx]\n", encoding="utf-8")
    assert (
        find_project(folder).origin
        == f"zmlx's own, for {folder / 'pyproject.toml'} names no ops in [tool.zmlx]"
    )


def test_zmlx_is_a_project_like_any_other() -> None:
    project = find_project(ROOT / "docs")
    assert (project.root, project.origin) == (ROOT, "pyproject.toml")
    assert project.ops == op_db
    assert project.golden_dir == ROOT / "golden_values"


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (
            "zmlx_example_absent.ops:OPS",
            (
                "there is no module 'zmlx_example_absent' to import. Run the command in the "
                "project's folder, or install the project into this Python."
            ),
        ),
        ("zmlx_example.absent:OPS", "there is no module 'zmlx_example.absent' to import."),
        (
            "zmlx_example.lacking:OPS",
            (
                "importing zmlx_example.lacking raised ModuleNotFoundError: No module named "
                "'zmlx_absent_package'. To see where: python -c 'import zmlx_example.lacking'"
            ),
        ),
        (
            "zmlx_example.broken:OPS",
            "importing zmlx_example.broken raised ZeroDivisionError: division by zero. ",
        ),
        ("zmlx_example.ops:OP", "zmlx_example.ops has no 'OP'. Did you mean 'OPS'? Name a tuple of zmlx."),
        ("zmlx_example.ops:NUMBER", "expected a tuple of zmlx.testing.OpInfo, got int."),
        ("zmlx_example.ops:WRONG", "expected entry 1 to be a zmlx.testing.OpInfo, got str."),
        (
            "zmlx_example.ops:TWICE",
            "two entries are named 'mine.one' (the first is in zmlx_example.ops:TWICE); ",
        ),
        ("zmlx_example.ops:EMPTY", "there is no operation. Add a zmlx.testing.OpInfo."),
    ],
)
def test_a_table_that_cannot_be_used(folder: Path, table: str, complaint: str) -> None:
    with pytest.raises(ProjectError) as caught:
        load_ops([table], folder)
    assert str(caught.value).startswith(f"{table}: ")
    assert complaint in str(caught.value)


def test_two_tables_may_not_share_a_name(folder: Path) -> None:
    with pytest.raises(ProjectError, match=r"'mine.one' \(the first is in zmlx_example.ops:OPS\)"):
        load_ops(["zmlx_example.ops:OPS", "zmlx_example.ops:SINGLE"], folder)


def test_tolerances_of_the_project_are_defaults(folder: Path) -> None:
    loose = {"rtol": 0.5, "atol": 0.0, "reason": "a table of 8 bits"}
    project = Project(folder, ("zmlx_example.ops:OPS",), "--ops", folder, {"mine.*": {"float16": loose}})
    one, two = project.ops
    assert (
        one.tolerance("float16")
        == one.tolerance("float16", grad=True)
        == Tolerance(0.5, 0.0, reason="a table of 8 bits")
    )
    assert one.tolerance("float32") == default_tolerance("float32")
    assert two.tolerance("float16") == Tolerance(0.0, 0.0)  # its own


def test_a_loose_tolerance_of_the_project_needs_a_reason(folder: Path) -> None:
    project = Project(
        folder, ("zmlx_example.ops:OPS",), "--ops", folder, {"one": {"float16": {"rtol": 0.5, "atol": 0.0}}}
    )
    with pytest.raises(
        ProjectError, match=r"\[tool\.zmlx\.tolerances\]: mine\.one: tolerances\['float16'\] .* `reason`"
    ):
        _ = project.ops


@pytest.mark.parametrize(
    ("tolerances", "complaint"),
    [
        (
            '"mine.onne" = { float16 = { rtol = 1e-9, atol = 0 } }',
            (
                "'mine.onne' matches no operation. Did you mean 'mine.one'? zmlx_example.ops:OPS has: mine.one, "
                "mine.two. Correct it, or take it out."
            ),
        ),
        (
            '"mine.*" = { float16 = { rtol = 1e-9, atol = 0 } }\n"yours.*" = { float16 = { rtol = 1, atol = 0 } }',
            "'yours.*' matches no operation. zmlx_example.ops:OPS has: mine.one, mine.two.",
        ),
        (
            '"two" = { bfloat16 = { rtol = 1e-9, atol = 0 } }',
            (
                "'two' has a tolerance for bfloat16, which no operation that it matches claims (mine.two: float16, "
                "float32). Correct it, or take it out."
            ),
        ),
    ],
)
def test_a_tolerance_for_nothing_is_told(folder: Path, tolerances: str, complaint: str) -> None:
    package = folder / "zmlx_example" / "ops.py"
    package.write_text(
        TABLE.replace('made("mine.two", ', 'made("mine.two", dtypes={"cuda": ("float32", "float16")}, ')
    )
    with (folder / "pyproject.toml").open("a") as file:
        file.write(f"[tool.zmlx.tolerances]\n{tolerances}\n")
    with pytest.raises(ProjectError) as caught:
        _ = find_project(folder).ops
    text = str(caught.value)
    assert text.startswith(f"{folder / 'pyproject.toml'}, [tool.zmlx.tolerances]: {complaint}")
    # Another table has other operations.
    assert len(find_project(folder, ["zmlx_example.ops:SINGLE"]).ops) == 1


def test_a_session_of_pytest_finds_modules_in_src_until_it_ends(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    session = Session(None, "", False, tmp_path, False)
    before = list(sys.path)
    session.make_importable(tmp_path)
    session.make_importable(tmp_path)
    # Behind all others: pytest and the project's own settings come first.
    assert sys.path == [*before, str(tmp_path / "src"), str(tmp_path)]
    session.close()
    assert sys.path == before


def test_finding_a_project_imports_no_numpy(folder: Path) -> None:
    code = (
        "import sys, pathlib; from zmlx.testing.project import find_project;"
        "find_project(pathlib.Path(sys.argv[1])).golden_dir;"
        "assert not {'numpy', 'mlx', 'zmlx_example'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, cwd=ROOT)
