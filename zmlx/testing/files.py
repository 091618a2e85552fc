"""Writing files so that a reader finds the old one or the new one, never half of either."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path`, as UTF-8, whole or not at all; missing directories are made.

    It goes to a temporary file beside `path`, which then takes its name: a full disk or a crash leaves the old
    file as it was.

    Raises
    ------
    OSError
        If the directory cannot be made or written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, "x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
