"""The on-disk cache of compiled kernels.

An entry is a file and, written after it, a small JSON note with the file's size and SHA-256. An entry without a
matching note is broken (a killed process, a full disk) and is built again. Files are written under a temporary name
and renamed, and a lock per entry lets one process build while the others wait for the result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

#: Where compiled kernels are kept, instead of the user's cache folder.
CACHE_VARIABLE = "ZMLX_CACHE_DIR"


def cache_dir() -> Path:
    """The folder compiled kernels are kept in: ``$ZMLX_CACHE_DIR``, else ``zmlx`` in the user's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("zmlx", appauthor=False))


@lru_cache
def _writable(folder: Path) -> Path:
    """``folder``, or a folder of this process's own where it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        fallback = Path(_temporary().name)
        warnings.warn(
            f"zmlx cannot write its kernel cache {str(folder)!r} ({error.strerror}); kernels are compiled anew in "
            f"every process. Make the folder writable or set {CACHE_VARIABLE} to one that is.",
            RuntimeWarning,
            stacklevel=2,
        )
        return fallback


@lru_cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="zmlx-")


def digest(*parts: str | bytes) -> str:
    """SHA-256 of the parts, each told apart from the next, in hexadecimal."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()


def cached(kind: str, key: str, suffix: str, build: Callable[[Path], None], *, rebuild: bool = False) -> Path:
    """The cache entry for ``key``, built by ``build(path)`` if it is missing or broken.

    Parameters
    ----------
    kind
        A sub-folder, such as ``"host"`` or ``"cuda"``.
    key
        Hexadecimal digest of all that the entry depends on.
    suffix
        File name ending, with its dot.
    build
        Writes the file to the path that it is given; what it raises is passed on and leaves no entry.
    rebuild
        Build even if the entry looks whole.
    """
    entry = _entry(_writable(cache_dir()), kind, key, suffix)
    if not rebuild and _is_whole(entry):
        return entry
    if entry.is_file() and not os.access(entry.parent, os.W_OK):
        entry = _entry(Path(_temporary().name), kind, key, suffix)
    entry.parent.mkdir(parents=True, exist_ok=True)
    from filelock import FileLock

    with FileLock(entry.with_suffix(".lock")):
        if not rebuild and _is_whole(entry):
            return entry
        with _temporary_beside(entry) as temporary:
            build(temporary)
            data = temporary.read_bytes()
            note = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            with _temporary_beside(_note(entry)) as temporary_note:
                temporary_note.write_text(json.dumps(note))
                temporary.replace(entry)
                temporary_note.replace(_note(entry))
    return entry


def _entry(folder: Path, kind: str, key: str, suffix: str) -> Path:
    return folder / kind / key[:2] / f"{key}{suffix}"


def _note(entry: Path) -> Path:
    return entry.with_suffix(".json")


def _is_whole(entry: Path) -> bool:
    try:
        note = json.loads(_note(entry).read_text())
        data = entry.read_bytes()
    except (OSError, ValueError):
        return False
    return (
        isinstance(note, dict)
        and note.get("size") == len(data)
        and note.get("sha256") == hashlib.sha256(data).hexdigest()
    )


@contextlib.contextmanager
def _temporary_beside(entry: Path) -> Iterator[Path]:
    """A path in the entry's folder for writing before a rename; what is left of it is removed."""
    handle, name = tempfile.mkstemp(dir=entry.parent, prefix=entry.stem[:16] + "-", suffix=entry.suffix)
    os.close(handle)
    path = Path(name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
