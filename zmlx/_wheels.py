"""The wheels that MLX comes in, and whether the installed ones are whole.

On Linux ``mlx`` is the Python half, and one of ``mlx-cpu``, ``mlx-cuda-12`` and ``mlx-cuda-13`` brings the
library. pip lets several of these be installed together, and each overwrites the others' files: the last one
wins, and uninstalling it leaves nothing.
"""

from __future__ import annotations

import csv
import importlib.metadata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

BACKEND_WHEELS = ("mlx-metal", "mlx-cpu", "mlx-cuda-12", "mlx-cuda-13", "mlx-cuda")
_LIBRARIES = ("libmlx.so", "libmlx.dylib")


@dataclass(frozen=True)
class WheelVerdict:
    """A wheel, or "wheels" for all together, and what is right or wrong with it."""

    name: str
    ok: bool
    detail: str


def installed_wheels() -> dict[str, importlib.metadata.Distribution]:
    """MLX's own distribution and those of its back ends, as far as they are installed."""
    found = {}
    for name in ("mlx", *BACKEND_WHEELS):
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _damage(wheel: importlib.metadata.Distribution) -> str:
    """What happened to a wheel's library, if anything. Sizes suffice: no two builds have the same."""
    # Not `wheel.files`: since Python 3.12 it leaves out the files that are gone.
    for name, _, size in csv.reader((wheel.read_text("RECORD") or "").splitlines()):
        path = Path(str(wheel.locate_file(name)))
        if path.name not in _LIBRARIES:
            continue
        if not path.exists():
            return f"its {path.name} is gone"
        if size and path.stat().st_size != int(size):
            return f"its {path.name} was overwritten by another wheel's"
    return ""


def check_wheels(wheels: Mapping[str, importlib.metadata.Distribution]) -> Iterator[WheelVerdict]:
    """Judge installed wheels: one back end, of MLX's own version, with its library in place."""
    core = wheels.get("mlx")
    for name, wheel in wheels.items():
        damage = _damage(wheel)
        if damage:
            fix = f"pip install --force-reinstall --no-deps {name}=={wheel.version}"
            yield WheelVerdict(name, False, f"{wheel.version}, but {damage}; {fix}")
        elif core is not None and wheel.version != core.version:
            fix = f"pip install {name}=={core.version}"
            yield WheelVerdict(name, False, f"{wheel.version} beside mlx {core.version}; {fix}")
        else:
            yield WheelVerdict(name, True, str(wheel.version))
    backends = [name for name in wheels if name != "mlx"]
    if len(backends) > 1:
        yield WheelVerdict(
            "wheels",
            False,
            f"{' and '.join(backends)} overwrite each other's files\n"
            f"pip uninstall -y {' '.join(wheels)}\n"
            "and install one of zmlx[cpu], zmlx[cuda12] and zmlx[cuda13]",
        )
