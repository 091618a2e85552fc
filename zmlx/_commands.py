"""What commands of ``python -m zmlx`` have in common: options, progress, the project that is meant, written files.

`zmlx.__main__` puts the commands together.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from zmlx import _compat

if TYPE_CHECKING:
    from zmlx.testing.project import Project

Run = Callable[[argparse.Namespace], int]
Commands = argparse._SubParsersAction


class Add(Protocol):
    """Adds a command's parser."""

    def __call__(
        self,
        to: Commands[argparse.ArgumentParser],
        name: str,
        brief: str,
        text: str,
        run: Run | None,
    ) -> argparse.ArgumentParser: ...


def terminal_width() -> int | None:
    """The columns that a table may take: those of the terminal, or of $COLUMNS; None where neither says."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return shutil.get_terminal_size().columns
    return None


def show_progress(done: int, total: int, name: str) -> None:
    """One line that rewrites itself, for people only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K[{done + 1}/{total}] {name}")
        sys.stderr.flush()


def clear_progress() -> None:
    """Take that line away."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()


def write_and_say(path: Path, text: str) -> None:
    """Write a file whole, and say so beside what is printed."""
    from zmlx.testing.files import write_whole

    write_whole(path, text)
    print(f"wrote {path}", file=sys.stderr)


def find_and_say(options: argparse.Namespace) -> Project:
    """The project of the working directory. The first line of output says which; with --json, stderr does."""
    from zmlx.testing.project import find_project

    project = find_project(tables=options.ops)
    print(project.heading(), file=sys.stderr if getattr(options, "json", False) else sys.stdout, flush=True)
    return project


def golden_dir(options: argparse.Namespace) -> Path:
    """``--golden-dir``, else that of the project here."""
    from zmlx.testing.project import find_project

    given: Path | None = options.golden_dir
    return given if given is not None else find_project().golden_dir


def evidence_dir(options: argparse.Namespace) -> Path:
    """``--evidence-dir``, else that of the project here."""
    from zmlx.testing.evidence import EVIDENCE_DIR
    from zmlx.testing.project import find_project

    given: Path | None = options.evidence_dir
    return given if given is not None else find_project().root / EVIDENCE_DIR


def ops_option(parser: argparse.ArgumentParser) -> None:
    """--ops, for commands that work on a table of operations."""
    parser.add_argument(
        "--ops",
        action="append",
        default=[],
        metavar="MODULE:NAME",
        help="the table of operations (default: that of the project here, by [tool.zmlx] in its pyproject.toml)",
    )


def backend_option(parser: argparse.ArgumentParser) -> None:
    """--backend."""
    parser.add_argument(
        "--backend",
        choices=_compat.BACKENDS,
        help="where to run (default: ZMLX_TEST_BACKEND, or that of MLX's default device)",
    )


def golden_dir_option(parser: argparse.ArgumentParser) -> None:
    """--golden-dir."""
    parser.add_argument(
        "--golden-dir",
        type=Path,
        metavar="DIR",
        help="where the golden files are (default: those of the project here: golden_values)",
    )


def evidence_dir_option(parser: argparse.ArgumentParser) -> None:
    """--evidence-dir."""
    parser.add_argument(
        "--evidence-dir",
        type=Path,
        metavar="DIR",
        help="show what `verify` and `leaks` wrote there (default: build/evidence of the project here)",
    )
