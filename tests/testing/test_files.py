"""Files that are written whole or not at all."""

import os

import pytest

from zmlx.testing.files import write_whole

pytestmark = pytest.mark.cpu


def test_missing_directories_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    write_whole(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "c.txt"
    path.write_text("old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
