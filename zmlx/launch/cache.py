"""The on-disk cache of compiled kernels.

An entry is a file and, written after it, a small JSON note with the entry's key, the file's size and its SHA-256. An
entry without a matching note is broken (a killed process, a full disk, a file under another's name) and is built again.
Files are written under a temporary name and renamed, and a lock per entry lets one process build while the others wait
for the result.

======================================  ==============================================================
the folder                              entries
======================================  ==============================================================
can be written                          are read and built there
cannot be written                       that are there are read; others are built for this process only
is full                                 likewise
must not hold programs (noexec)         are copied to where they can be loaded from
======================================  ==============================================================
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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
def _writable(folder: Path) -> bool:
    """Whether ``folder`` can be written to; if not, a warning says so."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError as error:
        _warn(folder, error.strerror or str(error), "Make the folder writable")
        return False


def _warn(folder: Path, reason: str, advice: str) -> None:
    warnings.warn(
        f"zmlx cannot write its kernel cache {str(folder)!r} ({reason}); kernels are compiled anew in every process. "
        f"{advice} or set {CACHE_VARIABLE} to one that is.",
        RuntimeWarning,
        stacklevel=2,
    )


@lru_cache
def _warn_full(folder: Path) -> None:
    """Once a process."""
    advice = "Free some space (`python -m zmlx cache prune` removes what was not used for long)"
    warnings.warn(
        f"zmlx cannot write its kernel cache {str(folder)!r} (the disk is full); kernels that are not in it are "
        f"compiled anew in every process. {advice} or set {CACHE_VARIABLE} to a folder on another disk.",
        RuntimeWarning,
        stacklevel=2,
    )


_FULL = {errno.ENOSPC, errno.EDQUOT}
#: What compilers and linkers say of these.
_FULL_TEXTS = tuple(os.strerror(number) for number in sorted(_FULL))


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in _FULL
    return any(text in f"{error} {getattr(error, 'log', '')}" for text in _FULL_TEXTS)


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


def digest_of_files(root: Path, files: Iterable[Path]) -> str:
    """`digest` of the names, from ``root``, and contents of files: where the folder lies makes no difference."""
    parts: list[str | bytes] = []
    for path in files:
        parts += [path.relative_to(root).as_posix(), path.read_bytes()]
    return digest(*parts)


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
    folder = cache_dir()
    entry = _entry(folder, kind, key, suffix)
    if not rebuild and _is_whole(entry, key):
        _note_use(entry)
        return entry
    if _writable(folder) and (not entry.parent.exists() or os.access(entry.parent, os.W_OK)):
        try:
            return _built(entry, key, build, rebuild)
        except Exception as error:
            if not _is_full(error):
                raise
            _warn_full(folder)
    return _built(_entry(Path(_temporary().name), kind, key, suffix), key, build, rebuild)


_builds: Counter[str] = Counter()


def entries_built() -> int:
    """How many entries this process has built so far."""
    return _builds.total()


def _built(entry: Path, key: str, build: Callable[[Path], None], rebuild: bool) -> Path:
    entry.parent.mkdir(parents=True, exist_ok=True)
    from filelock import FileLock

    with FileLock(entry.with_suffix(".lock")):
        if not rebuild and _is_whole(entry, key):
            return entry
        with _temporary_beside(entry) as temporary:
            build(temporary)
            data = temporary.read_bytes()
            note = {"key": key, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            with _temporary_beside(_note(entry)) as temporary_note:
                temporary_note.write_text(json.dumps(note))
                temporary.replace(entry)
                temporary_note.replace(_note(entry))
                _builds[entry.suffix] += 1
    return entry


#: Seconds after which another use of an entry is noted, by its note's time.
_USE_INTERVAL = 24 * 3600.0


def _note_use(entry: Path) -> None:
    """Say that an entry was used, for `python -m zmlx cache prune`."""
    with contextlib.suppress(OSError):  # a cache that cannot be written is not pruned either
        if time.time() - _note(entry).stat().st_mtime > _USE_INTERVAL:
            os.utime(_note(entry))


def copy_to_run(entry: Path) -> Path:
    """A copy of an entry in a folder of this process's own, for where the cache must not hold programs (noexec).

    Raises
    ------
    OSError
        There is no room for it.
    """
    handle, name = tempfile.mkstemp(dir=_temporary().name, suffix=entry.suffix)
    os.close(handle)
    return Path(shutil.copy(entry, name))


def _entry(folder: Path, kind: str, key: str, suffix: str) -> Path:
    return folder / kind / key[:2] / f"{key}{suffix}"


def _note(entry: Path) -> Path:
    return entry.with_suffix(".json")


def _is_whole(entry: Path, key: str) -> bool:
    try:
        note = json.loads(_note(entry).read_text())
        data = entry.read_bytes()
    except (OSError, ValueError):
        return False
    return (
        isinstance(note, dict)
        and note.get("key") == key
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
