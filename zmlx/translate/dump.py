"""``ZMLX_DUMP=<folder>``: what each pass makes of a kernel, as files to read and to compare.

    <folder>/<kernel>-<pipeline>-<digest>/00-metal.txt, 01-branches.txt, 02-refuse.txt, …

Each file has the header and the body, in front of each a ``#line`` by which its lines are counted as the author counts.
A pass that changed nothing leaves a file too: ``diff`` of two neighbours shows what a pass did.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

from zmlx.translate.unit import Unit, line_marker

#: The folder to write to.
DUMP_VARIABLE = "ZMLX_DUMP"


def _nothing(step: str, unit: Unit) -> None:
    """Dumping is off."""


def writer(unit: Unit, pipeline: str) -> Callable[[str, Unit], None]:
    """What writes the next file of a translation when it is called; it does nothing without ``$ZMLX_DUMP``.

    Raises
    ------
    OSError
        The folder cannot be written to; the message names the variable.
    """
    root = os.environ.get(DUMP_VARIABLE)
    if not root:
        return _nothing
    kernel = unit.kernel
    # One kernel may be translated in several ways in a process: as its arrays' types allow.
    variant = hashlib.sha256(repr((kernel.digest, unit.small_floats, unit.known)).encode()).hexdigest()
    folder = Path(root) / f"{_plain(kernel.name)}-{pipeline}-{variant[:8]}"
    count = 0

    def write(step: str, unit: Unit) -> None:
        nonlocal count
        text = "".join(f"{line_marker(kernel, part)}{text}\n" for part, text in unit.texts().items())
        path = folder / f"{count:02}-{step}.txt"
        whole = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            whole.write_text(text, encoding="utf-8")
            whole.replace(path)
        except OSError as error:
            raise OSError(f"{DUMP_VARIABLE}={root}: cannot write there ({error})") from error
        count += 1

    return write


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]", "_", name)[:80]
