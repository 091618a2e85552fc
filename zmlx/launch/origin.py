"""Where a kernel was made."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """The Python file and line on which a kernel was made."""

    file: str
    line: int


def caller_origin(depth: int) -> Origin:
    """The file and line of the caller ``depth`` frames up."""
    frame = sys._getframe(depth + 1)
    return Origin(frame.f_code.co_filename, frame.f_lineno)
