"""Golden files that were made to look right: each is an error that says what is wrong, and none a traceback."""

import json
import os

import pytest

from zmlx.testing.golden import file as golden_file
from zmlx.testing.golden.file import GoldenCase, GoldenError, GoldenFile, load, migrate, save

pytestmark = pytest.mark.cpu

GOOD = {"dtype": "float32", "shape": [2], "values": [0.5, 1.0]}


def write(path, case, schema=2, environment=None):
    environment = environment or {"device": "d"}
    checksum = golden_file._checksum(schema, "cpu", environment, {"a": case})
    body = {
        "schema": schema,
        "backend": "cpu",
        "environment": environment,
        "checksum": checksum,
        "cases": {"a": case},
    }
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


def test_a_file_of_schema_1_is_read_and_migrated(tmp_path):
    path = write(tmp_path / "cpu.json", GOOD, schema=1)
    before = load(path)
    assert migrate(path)
    assert json.loads(path.read_text())["schema"] == 2
    assert load(path) == before
    assert not migrate(path)
