"""Golden files of other git revisions: reading them, comparing with them, their history."""

from __future__ import annotations

import math
import subprocess
from dataclasses import replace

import pytest

from zmlx.__main__ import main
from zmlx.testing.golden.against import Change, against_lines, compare_with, tally
from zmlx.testing.golden.case import GoldenCase
from zmlx.testing.golden.file import GoldenError, GoldenFile, save
from zmlx.testing.golden.revisions import (
    MOST_REVISIONS,
    GitMissingError,
    RevisionError,
    files_at,
    history,
)

pytestmark = pytest.mark.cpu

CASE = GoldenCase("float32", (1,), (0.5,), "input", "source", 1.0, 0.5)


def git(folder, *arguments):
    settings = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main")
    command = ["git", "-C", str(folder), *settings, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write(folder, backend="cpu", **cases):
    folder.mkdir(exist_ok=True)
    named = {f"f.{name}/float32/s": case for name, case in cases.items()}
    save(GoldenFile(backend, {"device": "d"}, named), folder / f"{backend}.json")


@pytest.fixture
def golden(tmp_path):
    """A repository with three revisions of cpu.json: two that can be read, one that is damaged."""
    folder = tmp_path / "golden_values"
    git(tmp_path, "init", "-q")
    for step in ({"a": CASE}, {"a": replace(CASE, max_ulp=3.0), "b": CASE}):
        write(folder, **step)
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-qm", "record")
    (folder / "cpu.json").write_text("{")
    git(tmp_path, "commit", "-qam", "damage")
    write(folder, a=replace(CASE, max_ulp=3.0), b=CASE)
    return folder


def test_files_of_a_revision(golden):
    assert files_at(golden, "HEAD~2")["cpu"].cases == {"f.a/float32/s": CASE}
    assert sorted(files_at(golden, "HEAD~1")["cpu"].cases) == ["f.a/float32/s", "f.b/float32/s"]


def test_a_damaged_file_of_a_revision_is_named_by_it(golden):
    with pytest.raises(GoldenError, match=r"^cpu\.json of revision HEAD is truncated"):
        files_at(golden, "HEAD")


@pytest.mark.parametrize("revision", ["nowhere", "--all", "-n1", "HEAD~99", ""])
def test_an_unknown_revision(golden, revision):
    with pytest.raises(
        RevisionError, match=r"git knows no revision '.*' in .*golden_values\. Name a commit, branch"
    ):
        files_at(golden, revision)


def test_a_revision_without_golden_files(golden, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "more")
    with pytest.raises(RevisionError, match=r"^Revision HEAD has none of metal\.json, cuda\.json, cpu\.js"):
        files_at(tmp_path / "other", "HEAD")


def test_a_folder_in_no_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(
        RevisionError, match=r"is in no git repository that can be read \(fatal: not a git repo"
    ):
        files_at(tmp_path, "HEAD")


def test_a_machine_without_git(golden, monkeypatch):
    monkeypatch.setenv("PATH", str(golden))
    with pytest.raises(GitMissingError, match=r"There is no git on the PATH.*apt install git"):
        files_at(golden, "HEAD")


def test_history_goes_from_the_oldest_and_says_what_cannot_be_read(golden):
    points = history(golden, 10)
    assert [dict(point.errors) for point in points] == [{"f.a": 1.0}, {"f.a": 3.0, "f.b": 1.0}, {}]
    assert points[2].trouble.startswith("cpu.json of revision")
    assert {point.backend for point in points} == {"cpu"}
    assert len(history(golden, 1)) == 1


@pytest.mark.parametrize("most", [0, -1, MOST_REVISIONS + 1])
def test_a_history_is_bounded(golden, most):
    with pytest.raises(RevisionError, match=f"A history has 1 to 50 revisions; got {most}"):
        history(golden, most)


def changes(then, now):
    return compare_with({"cpu": GoldenFile("cpu", {}, now)}, {"cpu": GoldenFile("cpu", {}, then)})


@pytest.mark.parametrize(
    ("then", "now", "verdict", "reason"),
    [
        (CASE, CASE, "same", ""),
        (CASE, replace(CASE, max_ulp=1.009), "same", ""),
        (CASE, replace(CASE, values=(0.25,)), "same", "other values, as exact as before"),
        (CASE, replace(CASE, max_ulp=0.9), "better", ""),
        (CASE, replace(CASE, max_ulp=1.1), "worse", ""),
        (CASE, replace(CASE, rms=0.6), "worse", "RMS 0.5, now 0.6"),
        (CASE, replace(CASE, max_ulp=math.inf), "worse", ""),
        (None, CASE, "new", ""),
        (CASE, replace(CASE, input_hash="other"), "new", "its inputs have changed"),
        (CASE, None, "gone", ""),
    ],
)
def test_verdicts(then, now, verdict, reason):
    (change,) = changes({"f.a/x/s": then} if then else {}, {"f.a/x/s": now} if now else {})
    assert (change.verdict, change.reason, change.op) == (verdict, reason, "f.a")


@pytest.mark.parametrize(
    ("before", "after", "much"), [(1.0, 2.01, True), (1.0, 1.9, False), (0.1, 0.9, False)]
)
def test_an_error_that_doubles_is_a_regression(before, after, much):
    assert Change("cpu", "f.a/x/s", "worse", before, after).is_regression is much


def test_text_of_a_comparison_with_a_revision():
    then = {"f.a/x/s": CASE, "f.a/x/t": CASE, "f.b/x/s": CASE}
    now = {"f.a/x/s": replace(CASE, max_ulp=3.0), "f.a/x/t": CASE, "f.c/x/s": replace(CASE, max_ulp=1e-30)}
    found = changes(then, now)
    assert against_lines(found, "main") == [
        "Against main (cases, by their recorded error)",
        "operation  better  same  worse  new  gone",
        "f.a             -     1      1    -     -",
        "f.b             -     -      -    -     1",
        "f.c             -     -      -    1     -",
        "  worse  cpu  f.a/x/s: 1 -> 3 ULP, more than twice",
        "  gone  cpu  f.b/x/s: 1 ULP",
        "  new  cpu  f.c/x/s: below 0.001 ULP",
        "0 better, 1 same, 1 worse, 1 new, 1 gone",
    ]
    assert tally(found)["f.a"]["worse"] == 1
    assert against_lines(found, "main", most=1)[-2] == "  and 2 more cases"


@pytest.mark.parametrize(
    ("revision", "status", "said"),
    [
        ("HEAD~1", 0, "0 better, 2 same, 0 worse, 0 new, 0 gone"),
        ("HEAD~2", 1, "0 better, 0 same, 1 worse, 1 new, 0 gone"),
        ("nowhere", 2, "git knows no revision 'nowhere'"),
        pytest.param("", 2, "git knows no revision ''", id="a variable that is not set"),
    ],
)
def test_the_command(golden, capsys, monkeypatch, revision, status, said):
    from zmlx.testing.golden import offline

    # Its cases are of no table, which is not what is tested here.
    monkeypatch.setattr(
        offline, "compare_anywhere", lambda directory, _: offline.compare_values(directory, "x")
    )
    page = golden.parent / "page.html"
    more = ["--html", str(page), "--history", "5"]
    assert main(["report", "--golden-dir", str(golden), "--against", revision, *more]) == status
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
    if status < 2:
        text = page.read_text(encoding="utf-8")
        assert f"Against {revision}" in text
        assert "largest recorded error by revision: cpu " in text
        assert "Revisions without values" in text
