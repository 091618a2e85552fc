"""``#include`` followed in the text itself: what compiles a kernel, Metal's compiler among it, sees no folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

_INCLUDE = re.compile(r'\s*#\s*(?:include|import)\s*(?:"([^"\n]+)"|<([^>\n]+)>)')
_ONCE = re.compile(r"^\s*#\s*pragma\s+once\b", re.MULTILINE)

#: What MLX puts in front of every kernel: it is there already, and would be defined twice. What these include besides
#: (macros) is not.
PRELUDE = frozenset(
    f"mlx/backend/metal/kernels/{name}.h" for name in ("bf16", "bf16_math", "complex", "utils")
)


def follow_includes(text: str, folders: Sequence[Path], what: str) -> str:
    """``text`` with the files that it includes in the place of their lines; what is in no folder stays as it is.

    Parameters
    ----------
    text
        Metal source.
    folders
        Where files are looked for, after the folder of the file that includes them.
    what
        Whose text it is, for messages.

    Raises
    ------
    FileNotFoundError
        One of ``folders`` is no folder.
    ValueError
        Files include each other in a circle, or one is not UTF-8.
    """
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(
                f"[metal_kernel] Expected `include_dirs` to be folders, got {str(folder)!r}, which is none."
            )
    return "\n".join(_lines(text, None, list(folders), [], set(), what))


def _lines(
    text: str, home: Path | None, folders: list[Path], around: list[Path], done: set[Path], what: str
) -> Iterator[str]:
    for line in text.split("\n"):
        included = _INCLUDE.match(line)
        path = (
            _found(included[1] or included[2], home if included[1] else None, folders) if included else None
        )
        if path is None:
            yield line
        elif path in around:
            chain = " -> ".join(each.name for each in (*around, path))
            raise ValueError(f"[metal_kernel] {what}: files include each other in a circle: {chain}.")
        elif path not in done:
            inner = read_source(path, what)
            if _ONCE.search(inner):
                done.add(path)
            if path.as_posix().endswith(tuple(PRELUDE)):
                inner = "\n".join(line for line in inner.split("\n") if _INCLUDE.match(line))
            # A file is no place for this: it is part of another now.
            yield from _lines(_ONCE.sub("", inner), path.parent, folders, [*around, path], done, what)


def _found(name: str, home: Path | None, folders: list[Path]) -> Path | None:
    places = [folder / name for folder in ([home] if home else []) + folders]
    return next((place.resolve() for place in places if place.is_file()), None)


def read_source(path: Path, what: str) -> str:
    """The text of a file, for a source that messages call ``what``."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"[metal_kernel] {what}: {path} is not UTF-8 ({error}).") from None
