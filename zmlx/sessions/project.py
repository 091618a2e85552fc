"""The sessions of a project of one's own, for a noxfile of a few lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nox

from zmlx import _distribution
from zmlx._settings import find_settings
from zmlx.sessions import host
from zmlx.sessions.environment import environment_kind, missing, python, without
from zmlx.sessions.matrix import Matrix

TEST_REQUIREMENTS = ("pytest>=9.0", "pytest-xdist>=3.8", "hypothesis>=6.130")
NVRTC_REQUIREMENT = "nvidia-cuda-nvrtc==13.*"


def _cpu(matrix: Matrix, session: nox.Session) -> None:
    """The tests on the CPU: every kernel translated, compiled by the C++ compiler and run."""
    matrix.suite(session, "cpu")


def _metal(matrix: Matrix, session: nox.Session) -> None:
    """The tests on Metal; skipped where there is no Apple silicon GPU."""
    matrix.suite(session, "metal")


def _cuda(matrix: Matrix, session: nox.Session) -> None:
    """The tests on CUDA, with the MLX wheel for this driver; skipped where there is no NVIDIA GPU."""
    matrix.suite(session, "cuda")


def _golden_gen(matrix: Matrix, session: nox.Session) -> None:
    """Record golden values on this machine's back end, or on that of `-- --backend NAME`."""
    matrix.golden_gen(session)


def _golden_cmp(matrix: Matrix, session: nox.Session) -> None:
    """Compare what this machine computes with the golden values of all back ends; write build/report."""
    matrix.golden_cmp(session)


def _cuda_compile(matrix: Matrix, session: nox.Session) -> None:
    """Compile every kernel's CUDA text with NVRTC for all supported GPU architectures; needs no GPU."""
    if host.this_host().system == "Darwin":
        missing(session, "NVIDIA publishes no NVRTC for macOS")
    matrix.set_up(session, "cpu", NVRTC_REQUIREMENT)
    python(session, "-m", "zmlx", "cuda-compile", *without(session.posargs, "--require-backend"))


def _check(matrix: Matrix, session: nox.Session) -> None:
    """Run the tests under the checker: races, bounds, uninitialised memory, barriers."""
    matrix.set_up(session, "cpu", extras=("lint",))
    matrix.pytest(session, "cpu", session.posargs, "--zmlx-check")


#: Name of a session to what it runs and the back end without which no environment is made for it.
SESSIONS: dict[str, tuple[Callable[[Matrix, nox.Session], None], str]] = {
    "cpu": (_cpu, ""),
    "metal": (_metal, "metal"),
    "cuda": (_cuda, "cuda"),
    "golden-gen": (_golden_gen, ""),
    "golden-cmp": (_golden_cmp, ""),
    "cuda-compile": (_cuda_compile, ""),
    "check": (_check, ""),
}


def project_matrix(root: Path, requirements: Sequence[str] = ()) -> Matrix:
    """What the sessions of a project install: zmlx, pytest, the project itself if it can be installed, and more.

    zmlx comes from ``zmlx-from`` of ``[tool.zmlx]``, else from where the zmlx of nox's own Python came from.

    Raises
    ------
    zmlx._settings.SettingsError
        ``[tool.zmlx]`` cannot be used.
    zmlx._distribution.SourceUnknownError
        Nothing says where zmlx comes from.
    """
    settings = find_settings(root)
    source = (settings.zmlx_from if settings is not None else "") or _distribution.source()
    pyproject = root / "pyproject.toml"
    about = nox.project.load_toml(pyproject) if pyproject.is_file() else {}
    own = ["-e", "."] if "project" in about else []

    def wanted(extras: tuple[str, ...]) -> list[str]:
        return [_distribution.requirement(source, extras), *TEST_REQUIREMENTS, *requirements, *own]

    return Matrix(root, wanted)


def nox_sessions(root: Path | None = None, *, requirements: Sequence[str] = ()) -> None:
    """Define the sessions cpu, metal, cuda, golden-gen, golden-cmp, cuda-compile and check.

    >>> import nox, zmlx           # noxfile.py of a project; `python -m zmlx init` writes one
    >>> zmlx.nox_sessions()

    What follows ``--`` goes to pytest (for golden-gen, golden-cmp and cuda-compile to ``python -m zmlx``).

    Parameters
    ----------
    root : pathlib.Path, optional
        The project's folder; that of the calling noxfile unless given.
    requirements : sequence of str
        What the tests need besides zmlx, pytest and the project.

    Raises
    ------
    zmlx._settings.SettingsError
        ``[tool.zmlx]`` cannot be used.
    zmlx._distribution.SourceUnknownError
        Nothing says where zmlx comes from.
    """
    folder = root if root is not None else Path(sys._getframe(1).f_globals["__file__"]).resolve().parent
    matrix = project_matrix(folder, requirements)
    for name, (body, backend) in SESSIONS.items():
        session: Any = partial(body, matrix)
        session.__name__ = name.replace("-", "_")
        session.__doc__ = body.__doc__
        nox.session(session, name=name, venv_backend=environment_kind(backend) if backend else None)
