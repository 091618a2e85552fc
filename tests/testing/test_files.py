"""Files that are written whole or not at all."""

import os
import stat

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


def test_a_symbolic_link_stays_one(tmp_path):
    real, link = tmp_path / "elsewhere" / "real.txt", tmp_path / "link.txt"
    real.parent.mkdir()
    real.write_text("old")
    link.symlink_to(real)
    write_whole(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_what_is_no_file_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="no regular file"):
        write_whole(pipe, "new")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_temporary_of_the_same_process_number_is_in_nobodys_way(tmp_path):
    path, other = tmp_path / "cpu.json", tmp_path / f".cpu.json.{os.getpid()}.tmp"
    other.write_text("another container's, being written")
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert other.exists()


def test_abandoned_temporaries_are_removed(tmp_path):
    path, left = tmp_path / "cpu.json", tmp_path / ".cpu.json.123.tmp"
    left.write_text("half")
    os.utime(left, (0, 0))
    write_whole(path, "new")
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_stay(tmp_path):
    path = tmp_path / "a.txt"
    write_whole(path, "old")
    assert path.stat().st_mode & 0o444 & ~0o077 == 0o400
    path.chmod(0o640)
    write_whole(path, "new")
    assert path.stat().st_mode & 0o777 == 0o640
