"""The on-disk cache: rebuilt when broken, built once by many, harmless when it cannot be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

from zmlx.launch import cache

pytestmark = pytest.mark.cpu
KEY = "ab" * 32


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    cache._writable.cache_clear()
    yield tmp_path / "cache"
    cache._writable.cache_clear()


class Builder:
    def __init__(self, content: bytes = b"built") -> None:
        self.calls = 0
        self.content = content

    def __call__(self, path) -> None:
        self.calls += 1
        path.write_bytes(self.content)


def test_builds_once():
    build = Builder()
    first = cache.cached("host", KEY, ".so", build)
    assert first.read_bytes() == b"built"
    assert cache.cached("host", KEY, ".so", build) == first
    assert build.calls == 1


@pytest.mark.parametrize("damage", ["truncate", "change", "no note", "note not JSON", "note of another kind"])
def test_a_broken_entry_is_rebuilt(damage):
    build = Builder()
    entry = cache.cached("host", KEY, ".so", build)
    note = entry.with_suffix(".json")
    match damage:
        case "truncate":
            entry.write_bytes(b"bui")
        case "change":
            entry.write_bytes(b"BUILT")
        case "no note":
            note.unlink()
        case "note not JSON":
            note.write_text("{")
        case "note of another kind":
            note.write_text("[1]")
    assert cache.cached("host", KEY, ".so", build).read_bytes() == b"built"
    assert build.calls == 2
    assert json.loads(note.read_text())["size"] == 5


def test_a_build_that_fails_leaves_nothing(folder):
    def fail(path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("compiler died")

    with pytest.raises(RuntimeError, match="compiler died"):
        cache.cached("host", KEY, ".so", fail)
    assert [p.name for p in (folder / "host" / "ab").iterdir() if p.suffix != ".lock"] == []
    assert cache.cached("host", KEY, ".so", Builder()).read_bytes() == b"built"


def test_an_entry_can_be_rebuilt_on_demand():
    cache.cached("host", KEY, ".so", Builder(b"old"))
    assert cache.cached("host", KEY, ".so", Builder(b"new"), rebuild=True).read_bytes() == b"new"


def test_many_processes_build_an_entry_once(tmp_path):
    script = textwrap.dedent(
        f"""
        import sys, time
        from zmlx.launch.cache import cached
        def build(path):
            with open({str(tmp_path / "builds")!r}, "a") as log:
                log.write("x")
            time.sleep(0.3)
            path.write_bytes(b"built")
        assert cached("host", {KEY!r}, ".so", build).read_bytes() == b"built"
        """
    )
    processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    assert [p.wait(timeout=60) for p in processes] == [0] * 4
    assert (tmp_path / "builds").read_text() == "x"


def test_a_cache_that_cannot_be_written_warns_and_works(tmp_path, monkeypatch):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(in_the_way))
    with pytest.warns(
        RuntimeWarning, match=r"cannot write its kernel cache '.*file' \(.*\); kernels are compiled anew"
    ):
        entry = cache.cached("host", KEY, ".so", Builder())
    assert entry.read_bytes() == b"built"
    assert in_the_way.read_text() == "not a folder"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes to read-only folders"
)
def test_a_read_only_cache_warns_and_works(folder):
    folder.mkdir()
    folder.chmod(0o500)
    try:
        with pytest.warns(RuntimeWarning, match="Make the folder writable or set ZMLX_CACHE_DIR"):
            assert cache.cached("host", KEY, ".so", Builder()).read_bytes() == b"built"
    finally:
        folder.chmod(0o700)


def test_digest_tells_parts_apart():
    assert cache.digest("ab", "c") != cache.digest("a", "bc")
    assert cache.digest("a") == cache.digest(b"a")


def test_the_users_cache_folder_is_the_default(monkeypatch):
    monkeypatch.delenv(cache.CACHE_VARIABLE)
    assert cache.cache_dir().name == "zmlx"
