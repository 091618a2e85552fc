"""What a report says of an operation besides its numbers: formula, file, tolerances."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

from zmlx._compat import BACKENDS
from zmlx.testing.golden.comparison import About
from zmlx.testing.opinfo import OpInfo
from zmlx.testing.tolerance import Tolerance


def source_file(op: OpInfo) -> str:
    """The file that a kernel is in, from the working directory if it is there; "" for an operation of MLX."""
    if not op.kernel:
        return ""
    function = op.op
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", None)
    spec = importlib.util.find_spec(module) if module else None
    if spec is None or spec.origin is None:
        return ""
    path, here = Path(spec.origin), Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)


def _tolerance_text(tolerance: Tolerance) -> str:
    return f"{tolerance}" + (f" ({tolerance.reason})" if tolerance.reason else "")


def about(ops: Iterable[OpInfo]) -> dict[str, About]:
    """By the operations' names."""
    return {
        op.name: About(
            op.source,
            source_file(op),
            {
                dtype: _tolerance_text(op.tolerance(dtype))
                for dtype in dict.fromkeys(d for b in BACKENDS for d in op.dtypes_on(b))
            },
        )
        for op in ops
    }
