"""Who is told that this is Metal: the code of the packages for which a `pretend_metal` block is open.

MLX's own modules and zmlx never are, since they decide by the answer where work runs.
"""

from __future__ import annotations

from types import FrameType

from zmlx.launch.replacement import lock

_TRUTHFUL = ("zmlx", "mlx")

#: The packages of each `pretend_metal` that lasts; an empty tuple stands for all.
_pretences: list[tuple[str, ...]] = []


def begin(packages: tuple[str, ...]) -> None:
    """From now on the code of these packages is told; of all, if there are none."""
    with lock:
        _pretences.append(packages)


def end(packages: tuple[str, ...]) -> None:
    """Take one `begin` back."""
    with lock:
        _pretences.remove(packages)


def is_told(frame: FrameType) -> bool:
    """Whether the code that runs in ``frame`` gets the pretended answer."""
    if not _pretences:
        return False
    module = str(frame.f_globals.get("__name__", ""))
    if _within(module, _TRUTHFUL):
        return False
    return any(not packages or _within(module, packages) for packages in _pretences)


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
