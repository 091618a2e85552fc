"""Golden files that were made to look right: each is an error that says what is wrong, and none a traceback."""

import json
import os
import subprocess
from dataclasses import replace

import pytest

from zmlx.testing.golden import checksum
from zmlx.testing.golden.case import GoldenCase
from zmlx.testing.golden.file import GoldenError, GoldenFile, load, migrate, save

pytestmark = pytest.mark.cpu

GOOD = {"dtype": "float32", "shape": [2], "values": [0.5, 1.0]}


def write(path, case, schema=3, environment=None):
    """A file of any schema with the right checksums."""
    environment = environment or {"device": "d"}
    body = {"schema": schema, "backend": "cpu", "environment": environment, "cases": {"a": case}}
    if schema < 3:
        body["checksum"] = checksum.of_file(schema, "cpu", environment, {"a": case})
    else:
        whole = {**environment, **case.get("environment", {})}
        body["cases"] = {"a": {**case, "checksum": checksum.of_case("cpu", "a", whole, case)}}
    path.write_text(json.dumps(body))
    return path


WRONG = {
    "a dtype that is a list": {"dtype": ["float32"]},
    "a value that is a list": {"values": [[0.5], 1.0]},
    "a value that is an object": {"values": [{}, 1.0]},
    "a value past the dtype": {"dtype": "float16", "values": [1e9, 1.0]},
    "an integer past the dtype": {"dtype": "int8", "values": [300, 1]},
    "an integer past float64": {"values": [10**400, 1]},
    "a bool that is 2": {"dtype": "bool", "values": [2, 1]},
    "a size past memory": {"shape": [10**30, 0], "values": []},
    "too many dimensions": {"shape": [1] * 100, "values": [1.0]},
    "an error figure that is a list": {"error": {"max_ulp": [1], "rms": 0.1}},
    "an error figure past float64": {"error": {"max_ulp": 10**400, "rms": 0.1}},
    "a hash that is a number": {"input_hash": 3},
    "an oracle that is a number": {"oracle": 3},
    "an environment that is no text": {"environment": {"device": 3}},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_wrong_types_inside_a_right_checksum(tmp_path, change):
    with pytest.raises(GoldenError, match=r"case a: .*Restore the file"):
        load(write(tmp_path / "cpu.json", {**GOOD, **change}))


def test_an_environment_that_is_no_text(tmp_path):
    with pytest.raises(GoldenError, match="environment must be text, got 'device': 3"):
        load(write(tmp_path / "cpu.json", GOOD, environment={"device": 3}))


def test_deep_nesting(tmp_path):
    path = tmp_path / "cpu.json"
    path.write_text('{"schema": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(GoldenError, match="nested too deeply"):
        load(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / "cpu.json"
    os.mkfifo(path)
    with pytest.raises(GoldenError, match="no regular file"):
        load(path)
    with pytest.raises(GoldenError, match="no regular file"):
        save(GoldenFile("cpu"), path)


def test_the_environment_is_in_the_checksum(tmp_path):
    path = tmp_path / "cpu.json"
    save(GoldenFile("cpu", {"device": "slow"}, {"a": GoldenCase.from_json(GOOD)}), path)
    path.write_text(path.read_text().replace("slow", "fast"))
    with pytest.raises(GoldenError, match="does not match its checksum"):
        load(path)


def test_the_environment_of_a_case_is_in_its_checksum(tmp_path):
    path = tmp_path / "cpu.json"
    alone = replace(GoldenCase.from_json(GOOD), environment={"device": "slow"})
    save(GoldenFile("cpu", {"device": "other", "mlx": "1"}, {"a": alone}), path)
    assert load(path).environment_of("a") == {"device": "slow", "mlx": "1"}
    path.write_text(path.read_text().replace("slow", "fast"))
    with pytest.raises(GoldenError, match="case a: the case does not match its checksum"):
        load(path)


def test_two_added_cases_change_no_common_line(tmp_path):
    """Two people record a case each, and git puts both into one file."""
    both = {name: GoldenCase.from_json(GOOD) for name in "abcde"}
    texts = {
        "base": GoldenFile("cpu", {"device": "d"}, {name: both[name] for name in "bd"}),
        "ours": GoldenFile("cpu", {"device": "d"}, {name: both[name] for name in "abd"}),
        "theirs": GoldenFile("cpu", {"device": "d"}, {name: both[name] for name in "bcd"}),
    }
    for name, golden in texts.items():
        (tmp_path / name).write_text(golden.dumps())
    merged = subprocess.run(
        ["git", "merge-file", "-p", "ours", "base", "theirs"], cwd=tmp_path, capture_output=True
    )
    assert merged.returncode == 0, merged.stdout
    (tmp_path / "cpu.json").write_bytes(merged.stdout)
    assert sorted(load(tmp_path / "cpu.json").cases) == ["a", "b", "c", "d"]


def test_a_checksum_of_the_whole_file_is_of_older_schemas(tmp_path):
    path = tmp_path / "cpu.json"
    save(GoldenFile("cpu", {"device": "d"}, {"a": GoldenCase.from_json(GOOD)}), path)
    path.write_text(path.read_text().replace('"backend"', '"checksum": "x", "backend"', 1))
    with pytest.raises(
        GoldenError, match=r"was edited: a file of schema 3 has a checksum in each case only\."
    ):
        load(path)


def test_several_wrong_cases_are_one_message(tmp_path):
    path = tmp_path / "cpu.json"
    save(GoldenFile("cpu", {"device": "slow"}, {name: GoldenCase.from_json(GOOD) for name in "abc"}), path)
    path.write_text(path.read_text().replace("slow", "fast"))
    with pytest.raises(
        GoldenError, match=r"cpu\.json, case a \(and 2 more\): the case does not match its checksum\."
    ):
        load(path)


@pytest.mark.parametrize("schema", [1, 2])
def test_a_file_of_an_older_schema_is_read_and_migrated(tmp_path, schema):
    path = write(tmp_path / "cpu.json", GOOD, schema=schema)
    before = load(path)
    assert migrate(path)
    assert json.loads(path.read_text())["schema"] == 3
    assert load(path) == before
    assert not migrate(path)
