"""``python -m zmlx cache``: what compiled kernels take on the disk, and how to get it back."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Files that are not entries: left over by a process that was killed, older than this many seconds.
_LEFT_OVER = 3600.0
_KINDS = {
    "host": "kernels for the CPU",
    "header": "precompiled headers",
    "cuda": "kernels for CUDA",
    "text": "translations",
    "checked": "kernels under the checker",
}


@dataclass(frozen=True)
class Entry:
    """One compiled file with its note. ``used`` is when it was last used, to a day."""

    kind: str
    file: Path
    size: int
    used: float

    def remove(self) -> None:
        """The note first: an entry without one is built again."""
        self.file.with_suffix(".json").unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)


def entries(folder: Path) -> list[Entry]:
    """The entries of a cache folder, the one that was not used for longest first."""
    found = []
    for note in folder.glob("*/*/*.json"):
        for file in note.parent.glob(f"{note.stem}.*"):
            if file.suffix not in (".json", ".lock"):
                with contextlib.suppress(FileNotFoundError):  # another process is pruning too
                    size = file.stat().st_size + note.stat().st_size
                    found.append(Entry(note.parent.parent.name, file, size, note.stat().st_mtime))
    return sorted(found, key=lambda entry: (entry.used, entry.file))


def _left_over(folder: Path, older_than: float) -> Iterator[Path]:
    """Temporary files, files without a note, and locks without a file, which nobody has touched for a while."""
    known = {entry.file.with_suffix("") for entry in entries(folder)}
    for file in folder.glob("*/*/*"):
        if file.with_suffix("") not in known and file.is_file():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - file.stat().st_mtime >= older_than:
                    yield file


def show(folder: Path) -> str:
    """What is in the cache, as text."""
    found = entries(folder)
    lines = [f"kernel cache: {folder}"]
    if not found:
        return "\n".join([*lines, "  empty"])
    counts, sizes = Counter(e.kind for e in found), Counter[str]()
    for entry in found:
        sizes[entry.kind] += entry.size
    for kind in sorted(counts):
        lines.append(
            f"  {kind:8} {counts[kind]:6} entries {_size(sizes[kind]):>10}   {_KINDS.get(kind, '')}".rstrip()
        )
    lines.append(f"  {'total':8} {len(found):6} entries {_size(sizes.total()):>10}")
    lines.append(f"  not used for longest: {_days(found[0].used)}; last used: {_days(found[-1].used)}")
    left = sum(1 for _ in _left_over(folder, _LEFT_OVER))
    if left:
        lines.append(f"  {left} files left over by processes that were killed; `prune` removes them")
    return "\n".join(lines)


def prune(folder: Path, days: float, megabytes: float | None) -> str:
    """Remove entries that were not used for ``days`` days, then the oldest until all take at most ``megabytes``."""
    if days < 0 or (megabytes is not None and megabytes < 0):
        raise ValueError("expected a number of days and of megabytes that is 0 or more.")
    found = entries(folder)
    oldest = time.time() - days * 24 * 3600
    gone = [entry for entry in found if entry.used < oldest]
    kept = found[len(gone) :]
    if megabytes is not None:
        total = sum(entry.size for entry in kept)
        while kept and total > megabytes * 1e6:
            total -= kept[0].size
            gone.append(kept.pop(0))
    for entry in gone:
        entry.remove()
    left = 0
    for file in list(_left_over(folder, _LEFT_OVER)):
        file.unlink(missing_ok=True)
        left += 1
    return (
        f"kernel cache: {folder}\n  removed {len(gone)} entries ({_size(sum(e.size for e in gone))}) and {left} "
        f"left-over files; {len(kept)} entries ({_size(sum(e.size for e in kept))}) remain"
    )


def clear(folder: Path) -> str:
    """Remove all entries, and what is left over. Nothing else in the folder is touched."""
    found = entries(folder)
    for entry in found:
        entry.remove()
    for file in list(_left_over(folder, _LEFT_OVER)):
        file.unlink(missing_ok=True)
    return f"kernel cache: {folder}\n  removed {len(found)} entries ({_size(sum(e.size for e in found))})"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _days(moment: float) -> str:
    days = int((time.time() - moment) // (24 * 3600))
    return "today" if days <= 0 else "yesterday" if days == 1 else f"{days} days ago"
