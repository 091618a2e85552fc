"""Golden files that something has damaged: each damage is one line, or changes nothing. Recorders that are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from zmlx.__main__ import main
from zmlx.testing.golden.against import compare_with
from zmlx.testing.golden.case import GoldenCase
from zmlx.testing.golden.file import GoldenError, GoldenFile, load, save
from zmlx.testing.golden.offline import compare_values
from zmlx.testing.report.html import render_html
from zmlx.testing.report.model import build_report
from zmlx.testing.report.text import render_markdown, render_terminal

pytestmark = pytest.mark.cpu

#: How often a recorder is killed; ZMLX_TEST_KILLS=100 kills it more often.
KILLS = int(os.environ.get("ZMLX_TEST_KILLS", "10"))

CASES = {
    "a.b/float32/s": GoldenCase("float32", (2,), (0.1, "nan"), "1f", "2e", 0.5, 0.25),
    "a.c/int8/s": GoldenCase("int8", (1,), (-7,), environment={"date": "x"}, other_sources={"cuda": "3d"}),
}
SMALL = GoldenFile("cpu", {"device": "d"}, CASES)


@pytest.fixture
def path(tmp_path):
    save(SMALL, tmp_path / "cpu.json")
    return tmp_path / "cpu.json"


def refusal(path):
    """The message with which a file is refused, or None; anything but a GoldenError is a failure."""
    try:
        return None if load(path) == SMALL else "other contents were accepted"
    except GoldenError as error:
        return str(error)


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80], ids=hex)
def test_every_flipped_byte_is_refused_in_one_line_or_changes_nothing(path, flip):
    text = path.read_bytes()
    accepted = []
    for place in range(len(text)):
        path.write_bytes(text[:place] + bytes([text[place] ^ flip]) + text[place + 1 :])
        said = refusal(path)
        if said is None:
            accepted.append(place)
            continue
        assert said.startswith(str(path)), (place, said)
        assert "\n" not in said, (place, said)
        assert "Restore the file" in said or "Use the zmlx that wrote it" in said, (place, said)
    # What is accepted is white space between tokens: JSON has several characters for it.
    assert all(text[place : place + 1].isspace() for place in accepted)


def test_every_truncation_is_refused_in_one_line(path):
    text = path.read_bytes()
    for length in range(len(text.rstrip())):
        path.write_bytes(text[:length])
        said = refusal(path)
        assert said is not None, length
        assert ("is empty" if length == 0 else "is truncated") in said, (length, said)
        assert "\n" not in said


def replaced(old, new):
    return lambda path: path.write_text(path.read_text().replace(old, new, 1))


def as_folder(path):
    path.unlink()
    path.mkdir()


DAMAGE = {
    "a key twice": (replaced('"dtype"', '"dtype": "int8", "dtype"'), "the key 'dtype' appears twice"),
    "a case twice": (
        lambda path: path.write_text(path.read_text().replace('"a.c/int8/s"', '"a.b/float32/s"')),
        "the key 'a.b/float32/s' appears twice",
    ),
    "a newer schema": (replaced('"schema": 3', '"schema": 4'), "has schema 4; this zmlx reads schema 1 to 3"),
    "UTF-16": (lambda path: path.write_text(path.read_text(), encoding="utf-16"), "is not text"),
    "a byte order mark": (
        lambda path: path.write_text(path.read_text(), encoding="utf-8-sig"),
        "is not JSON",
    ),
    "a folder": (as_folder, "is a folder; move it out of the way"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE.keys())
def test_other_damage_is_refused_in_one_line(path, damage, said):
    damage(path)
    message = refusal(path)
    assert said in message
    assert "\n" not in message


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(path):
    path.chmod(0)
    assert refusal(path) == f"Cannot read {path}: Permission denied. Check its permissions."


def test_a_file_without_permission_whoever_runs_this(path, monkeypatch):
    def denied(self, **_):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "read_text", denied)
    assert refusal(path) == f"Cannot read {path}: Permission denied. Check its permissions."


def test_the_commands_say_it_in_one_line_and_fail(path, capsys):
    text = path.read_text()
    path.write_text(text[:-40])
    assert main(["report", "--golden-dir", str(path.parent)]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL file")]
    assert len(lines) == 1
    assert f"{path} is truncated" in lines[0]


# The text is made once, so that most of the time goes into writing it.
RECORDER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from zmlx.testing.golden.case import GoldenCase
    from zmlx.testing.golden.file import GoldenFile, save

    cases = {f"a.b/float32/{i}": GoldenCase("float32", (20000,), (0.125,) * 20000) for i in range(2)}
    text = GoldenFile("cpu", {}, cases).dumps()
    GoldenFile.dumps = lambda self: text
    while True:
        save(GoldenFile("cpu"), Path(sys.argv[1]))
        print(".", flush=True)
    """
)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_recorder_that_is_killed_leaves_a_whole_file(tmp_path):
    path = tmp_path / "cpu.json"
    drawn = random.Random(7)
    inside = 0
    for _ in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", RECORDER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()  # the first file is there
        time.sleep(drawn.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        golden = load(path)
        assert sorted(golden.cases) == ["a.b/float32/0", "a.b/float32/1"]
        assert all(len(case.values) == 20000 for case in golden.cases.values())
        inside += len(list(tmp_path.glob(".cpu.json.*.tmp"))) > 0
        for left in tmp_path.glob(".cpu.json.*.tmp"):
            left.unlink()
    print(f"{KILLS} kills, {inside} of them while a file was being written")


def test_a_temporary_file_that_a_killed_recorder_left_is_no_golden_file(path, capsys):
    (path.parent / ".cpu.json.abc.tmp").write_text('{"schema": 3, "ba')
    assert load(path) == SMALL
    main(["report", "--golden-dir", str(path.parent)])
    assert "tmp" not in capsys.readouterr().out
    assert json.loads(path.read_text())["schema"] == 3


@pytest.mark.parametrize("render", [render_html, render_markdown, render_terminal])
def test_a_damaged_file_is_called_damaged_wherever_back_ends_are_named(path, render):
    """It was recorded: nothing may say that it was not."""
    (path.parent / "cuda.json").write_text(path.read_text().replace('"cpu"', '"cuda"')[:-20])
    text = render(build_report(compare_values(path.parent, "a test")))
    assert "cuda.json is damaged; see the findings" in text
    assert text.count("cuda.json is truncated: it ends in line") == 1
    # Metal is the one that no one has recorded.
    assert text.count("not recorded; on such a machine: ") == 1
    assert "not recorded; on such a machine: python -m zmlx golden record --backend metal" in text
    if render is render_markdown:
        assert "| a.b | not recorded | damaged | 0.50 |" in text
    if render is render_html:
        assert ">not recorded</td>" in text
        assert ">damaged</td>" in text


def test_explaining_a_case_names_damaged_files(path, capsys):
    (path.parent / "cuda.json").write_text("{")
    compare = ["golden", "compare", "--golden-dir", str(path.parent), "--explain"]
    assert main([*compare, "a.b/float32/s"]) == 0
    assert "cuda.json: damaged; `python -m zmlx report` says how" in capsys.readouterr().out.splitlines()
    assert main([*compare, "a.d/float32/s"]) == 2
    said = capsys.readouterr().err
    assert "No golden file has a case 'a.d/float32/s'." in said
    assert said.endswith("cuda.json: damaged; `python -m zmlx report` says how.\n")


def test_a_folder_of_damaged_files_is_none_in_which_nothing_is_recorded(path, capsys):
    path.write_text("{")
    (path.parent / "metal.json").write_text("{")
    assert main(["report", "--golden-dir", str(path.parent)]) == 1
    printed = capsys.readouterr().out
    assert (
        f"Every golden file in {path.parent} is damaged (cpu.json, metal.json); see what is said" in printed
    )
    assert "reference: the float64 oracle, for metal.json is damaged" in printed
    assert "Record one" not in printed


def test_cases_of_a_damaged_file_are_not_gone():
    then = {"cpu": SMALL, "cuda": SMALL}
    assert {change.verdict for change in compare_with({"cpu": SMALL}, then)} == {"same", "gone"}
    assert {change.verdict for change in compare_with({"cpu": SMALL}, then, ["cuda"])} == {"same"}
