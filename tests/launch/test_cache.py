"""The on-disk cache: rebuilt when broken, built once by many, harmless when it cannot be written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time

import pytest

from zmlx.__main__ import main
from zmlx.errors import KernelCompileError, KernelRuntimeError
from zmlx.launch import cache
from zmlx.launch.loading import loadable

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


def test_an_entry_under_another_kernels_key_is_rebuilt():
    other = "cd" * 32
    right = cache.cached("host", KEY, ".so", Builder(b"mine"))
    theirs = cache.cached("host", other, ".so", Builder(b"theirs"))
    for suffix in (".so", ".json"):
        right.with_suffix(suffix).write_bytes(theirs.with_suffix(suffix).read_bytes())
    assert cache.cached("host", KEY, ".so", Builder(b"mine")).read_bytes() == b"mine"
    assert json.loads(right.with_suffix(".json").read_text())["key"] == KEY


def test_a_cache_that_was_filled_before_it_became_read_only_is_used(folder, monkeypatch):
    entry = cache.cached("host", KEY, ".so", Builder())
    cache._writable.cache_clear()
    # As on a read-only file system, for root too.
    monkeypatch.setattr(cache.tempfile, "TemporaryFile", no_space(errno.EROFS))
    build = Builder(b"again")
    assert cache.cached("host", KEY, ".so", build) == entry
    assert build.calls == 0
    with pytest.warns(RuntimeWarning, match=r"Read-only file system.*Make the folder writable"):
        new = cache.cached("host", "ef" * 32, ".so", build)
    assert folder not in new.parents


def no_space(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("how", ["writing", "compiling"])
def test_a_full_disk_warns_and_works(folder, how):
    key = cache.digest(how)
    built = []

    def build(path) -> None:
        if folder in path.parents:
            if how == "writing":
                no_space(errno.ENOSPC)()
            raise KernelCompileError("does not compile", "ld: final link failed: No space left on device")
        built.append(path)
        path.write_bytes(b"built")

    cache._warn_full.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"the disk is full.*zmlx cache prune.*set ZMLX_CACHE_DIR"):
        entry = cache.cached("host", key, ".so", build)
    assert entry.read_bytes() == b"built"
    assert folder not in entry.parents
    assert cache.cached("host", key, ".so", build) == entry
    assert len(built) == 1


MOUNTED = """
mount -t tmpfs -o {options} tmpfs {folder} || exit 77
exec {python} -c '
import mlx.core as mx, zmlx
kernel = zmlx.metal_kernel("mounted", ["x"], ["out"], "out[thread_position_in_grid.x] = x[0] + 41;")
out = kernel(inputs=[mx.ones(8)], output_shapes=[(8,)], output_dtypes=[mx.float32], grid=(8, 1, 1),
             threadgroup=(8, 1, 1), stream=mx.cpu)[0]
print(out.tolist()[7])
'
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare, to mount a file system of its own")
@pytest.mark.parametrize(
    ("options", "words"), [("noexec", "mounted without noexec"), ("size=64k", "the disk is full")]
)
def test_a_kernel_runs_from_a_cache_on_such_a_file_system(tmp_path, options, words):
    script = MOUNTED.format(options=options, folder=tmp_path, python=sys.executable)
    run = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        env={**os.environ, cache.CACHE_VARIABLE: str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    if "unshare" in run.stderr or run.returncode == 77:
        pytest.skip(f"no file system can be mounted here: {run.stderr.strip()}")
    assert run.stdout == "42.0\n", run.stderr
    assert "RuntimeWarning" in run.stderr
    assert words in run.stderr


def test_a_library_that_cannot_be_loaded_says_what_to_do(tmp_path):
    broken = tmp_path / "k.so"
    broken.write_bytes(b"no library")
    with pytest.raises(
        KernelRuntimeError, match=r"cannot be loaded.*Set ZMLX_CACHE_DIR or TMPDIR to a folder"
    ):
        loadable(broken)


def age(entry, days) -> None:
    moment = time.time() - days * 24 * 3600
    os.utime(entry.with_suffix(".json"), (moment, moment))


def test_the_command_shows_prunes_and_clears(folder, capsys):
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == f"kernel cache: {folder}\n  empty\n"
    keys = [f"{number:064x}" for number in range(4)]
    made = [cache.cached("host", key, ".so", Builder(b"x" * 1_000_000)) for key in keys]
    made.append(cache.cached("header", KEY, ".h.gch", Builder(b"x" * 2_000_000)))
    stale = made[0].parent / "0123-left.so"
    stale.write_bytes(b"half")
    os.utime(stale, (1, 1))
    age(made[0], 40)
    age(made[1], 10)
    age(made[2], 5)
    assert main(["cache", "show"]) == 0
    shown = capsys.readouterr().out
    assert "host          4 entries     4.0 MB   kernels for the CPU" in shown
    assert "header        1 entries     2.0 MB   precompiled headers" in shown
    assert "not used for longest: 40 days ago; last used: today" in shown
    assert "1 files left over" in shown
    assert main(["cache", "prune"]) == 0
    assert (
        "removed 1 entries (1.0 MB) and 1 left-over files; 4 entries (5.0 MB) remain"
        in capsys.readouterr().out
    )
    assert [entry.exists() for entry in made] == [False, True, True, True, True]
    assert not stale.exists()
    assert main(["cache", "prune", "--max-size", "4.5"]) == 0
    assert [entry.exists() for entry in made] == [False, False, True, True, True]
    assert main(["cache", "prune", "--days", "1"]) == 0
    assert [entry.exists() for entry in made] == [False, False, False, True, True]
    (folder / "mine.txt").write_text("not of the cache")
    assert main(["cache", "clear"]) == 0
    assert "removed 2 entries (3.0 MB)" in capsys.readouterr().out
    assert not any(entry.exists() for entry in made)
    assert (folder / "mine.txt").exists()
    assert cache.cached("host", keys[0], ".so", Builder()).read_bytes() == b"built"


def test_an_entry_in_use_is_not_pruned():
    entry = cache.cached("host", KEY, ".so", Builder())
    age(entry, 40)
    cache.cached("host", KEY, ".so", Builder())
    assert main(["cache", "prune"]) == 0
    assert entry.exists()


def test_the_commands_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["cache", "--help"])
    shown = capsys.readouterr().out
    for words in ("ZMLX_CACHE_DIR", "cache prune --days 7 --max-size 100", "Removing them is always safe"):
        assert words in shown
    assert main(["cache", "prune", "--days", "-1"]) == 2


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
