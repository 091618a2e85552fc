"""The report as a file: HTML, Markdown or text, by its suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zmlx.testing.report.html import render_html
from zmlx.testing.report.model import Report
from zmlx.testing.report.text import render_markdown, render_terminal

RENDERERS: dict[str, Callable[[Report], str]] = {
    ".html": render_html,
    ".md": render_markdown,
    ".txt": render_terminal,
}


def write_report(report: Report, path: str | Path) -> Path:
    """Write the report as HTML, Markdown or text, by the suffix of `path`; missing directories are made.

    Raises
    ------
    ValueError
        For another suffix; the message lists those that are known.
    """
    target = Path(path)
    if target.suffix not in RENDERERS:
        raise ValueError(f"Expected a report file ending in {', '.join(RENDERERS)}, got {target.name!r}.")
    text = RENDERERS[target.suffix](report)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target
