"""Mutants: what a table may hold, and what becomes of a fault that a test notices, of one that none does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from zmlx.__main__ import main
from zmlx.testing.mutants import Mutant
from zmlx.testing.mutants.mutant import MutantError, load_table
from zmlx.testing.mutants.run import check_table, run_mutants, select

pytestmark = pytest.mark.cpu

ROOT = Path(__file__).parents[3]
DOUBLED = Mutant("doubled", "wrong factor", "mine.py", "2 * x", "3 * x", ("test_mine.py",))


def test_the_table_of_the_kernels_fits_their_sources():
    table = load_table(ROOT / "tests" / "mutants.py")
    assert len(table) >= 32
    assert len({mutant.operator for mutant in table}) >= 10
    check_table(ROOT, table)


@pytest.mark.parametrize(
    ("change", "text", "message"),
    [
        ({"pattern": "4 * x"}, "2 * x", "mine.py has no '4 \\* x'. The source has changed"),
        ({}, "2 * x + 2 * x", "has '2 \\* x' 2 times, expected once. Make the pattern longer"),
        ({"occurrence": 3}, "2 * x + 2 * x", "2 times, there is no occurrence 3"),
        ({"replacement": "2 * x"}, "2 * x", "the replacement is what the pattern is, which is no fault"),
    ],
)
def test_a_mutant_that_cannot_be_planted_says_why(change, text, message):
    with pytest.raises(MutantError, match=message):
        replace(DOUBLED, **change).apply(text)


@pytest.mark.parametrize(
    ("occurrence", "made"), [(1, "3 * x + 2 * x"), (2, "2 * x + 3 * x"), (-1, "3 * x + 3 * x")]
)
def test_which_of_several_places(occurrence, made):
    assert replace(DOUBLED, occurrence=occurrence).apply("2 * x + 2 * x") == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected MUTANTS, a tuple of Mutant, got NoneType"),
        ("MUTANTS = ()", "MUTANTS is empty, which would prove nothing"),
        (
            "from zmlx.testing.mutants import Mutant\nM = Mutant('a', '', '', 'x', 'y', ())\nMUTANTS = (M, M)",
            "two mutants are called a. Give each a name of its own",
        ),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path, text, message):
    path = tmp_path / "mutants.py"
    path.write_text(text)
    with pytest.raises(MutantError, match=message):
        load_table(path)


def test_a_missing_table_is_a_message(tmp_path, capsys):
    assert main(["mutants", str(tmp_path / "none.py")]) == 2
    assert "there is no such file. Expected a Python file that defines MUTANTS" in capsys.readouterr().err


def test_nothing_that_matches_lists_the_names():
    with pytest.raises(
        MutantError, match=r"No mutant, operator or file matches 'tripled'\. Known mutants: doubled"
    ):
        select([DOUBLED], "tripled")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of two functions, one of them tested, whose tests load no other plugin."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n')
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["zmlx.testing.plugin"]\n')
    (tmp_path / "mine.py").write_text("def twice(x):\n    return 2 * x\n\n\ndef minus(x):\n    return -x\n")
    (tmp_path / "test_mine.py").write_text(
        "import mine\n\n\ndef test_twice():\n    assert mine.twice(2) == 4\n"
    )
    return tmp_path


def test_what_becomes_of_mutants(project):
    before = {path.name: path.read_bytes() for path in project.iterdir() if path.is_file()}
    untested = Mutant("sign", "sign", "mine.py", "-x", "x", ("test_mine.py",))
    table = (DOUBLED, untested, replace(untested, name="known", equivalent="minus is for nobody"))
    found = run_mutants(project, table, jobs=2)
    assert [trial.state for trial in found.trials] == ["noticed", "survived", "equivalent"]
    assert found.exit_code == 1
    text = found.text()
    assert "equivalent: known: minus is for nobody" in text
    assert "FAIL sign survived: no test of test_mine.py noticed that mine.py has 'x' for '-x'." in text
    assert text.endswith("3 mutants: 1 noticed, 1 equivalent, 1 survived, 0 broken")
    assert {path.name: path.read_bytes() for path in project.iterdir() if path.is_file()} == before


def test_tests_that_fail_without_a_mutant_prove_nothing(project):
    (project / "test_mine.py").write_text("def test_twice():\n    assert False\n")
    with pytest.raises(MutantError, match=r"Without any mutant, pytest test_mine\.py ends with status 1"):
        run_mutants(project, [DOUBLED])
