"""Writing files so that a reader finds the old one or the new one, never half of either."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import tempfile
import time
from pathlib import Path

#: Seconds after which a temporary file is what a killed writer left.
_ABANDONED = 3600.0


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path`, as UTF-8, whole or not at all; missing directories are made.

    It goes to a temporary file beside `path`, which then takes its name: a full disk or a crash leaves the old
    file as it was. A symbolic link stays one: what it points to is written. Temporary files that killed writers left
    more than an hour ago are removed.

    Raises
    ------
    OSError
        If the directory cannot be made or written to, or something that is no file has the name.
    """
    target = Path(os.path.realpath(path))
    try:
        found = os.stat(target).st_mode
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        found = stat.S_IFREG | (0o666 & ~mask)
    if not stat.S_ISREG(found):
        raise OSError(0, "it is no regular file, and would be replaced by one", str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target)
    # A name that nobody else has: process numbers repeat between containers.
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    temporary = Path(name)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, stat.S_IMODE(found))
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_abandoned(target: Path) -> None:
    before = time.time() - _ABANDONED
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        # Another writer may remove it first, and another user's cannot be removed: neither stops this one.
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < before:
                left.unlink()
