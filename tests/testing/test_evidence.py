"""Files of measurements that are damaged, of another kind or of another version."""

import json

import pytest

from zmlx.testing.evidence import EvidenceError, Form, read_form

pytestmark = pytest.mark.cpu

FORM = Form("a list of birds", 3, {"birds": list, "place": str}, "`count-birds` writes one.")
GOOD = {"schema": 3, "birds": ["wren"], "place": "here"}


def test_a_whole_file(tmp_path):
    path = tmp_path / "birds.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8")
    assert read_form(path, FORM) == GOOD


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is damaged: Expecting value in line 1, column 1."),
        (json.dumps(GOOD).encode()[:-1], "is damaged: Expecting ',' delimiter in line 1, column"),
        (b'{"schema": 3, \xff', "is damaged: byte 14 is not UTF-8."),
        (b'{"schema": NaN}', "is damaged: NaN is not JSON."),
        (b"[" * 100_000, "is damaged: "),
        (b"[3]", "is not a list of birds: it has no `schema`."),
        (b'{"birds": []}', "is not a list of birds: it has no `schema`."),
        (b'{"schema": 4}', ": expected schema 3, got 4: another version of zmlx wrote it."),
        (b'{"schema": 3, "birds": {}}', "expected 'birds' to be of type list, got dict."),
        (b'{"schema": 3, "birds": []}', "expected 'place' to be of type str, got NoneType."),
    ],
)
def test_what_is_wrong_is_said_with_the_command_that_writes_one(content, said, tmp_path):
    path = tmp_path / "birds.json"
    path.write_bytes(content)
    with pytest.raises(EvidenceError) as error:
        read_form(path, FORM)
    message = str(error.value)
    assert message.startswith(str(path))
    assert said in message
    assert message.endswith(". `count-birds` writes one.")
    assert "\n" not in message


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(EvidenceError, match=r"^There is no .*nothing\.json\. `count-birds` writes one\.$"):
        read_form(tmp_path / "nothing.json", FORM)
    with pytest.raises(EvidenceError, match="cannot be read: Is a directory"):
        read_form(tmp_path, FORM)
