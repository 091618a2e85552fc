"""What a report says of an operation besides its numbers: formula, file, tolerances."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zmlx._compat import BACKENDS
from zmlx.testing.golden.comparison import About
from zmlx.testing.opinfo import OpInfo
from zmlx.testing.tolerance import Tolerance


def source_file(op: OpInfo) -> str:
    """The file that a kernel is in, from the working directory if it is there; "" for an operation of MLX.

    A function that MLX has wrapped (mx.custom_function, mx.compile) does not tell; then it is the entry's file.
    """
    if not op.kernel:
        return ""
    origin = next(filter(None, map(_python_file, (op.op, op.samples))), None)
    if origin is None:
        return ""
    path, here = Path(origin), Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)


def _python_file(function: Any) -> str | None:
    """The file of the module that a function is from; None for one that is not from Python."""
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", None)
    spec = importlib.util.find_spec(module) if module and module != "__main__" else None
    return spec.origin if spec is not None and spec.origin and spec.origin.endswith(".py") else None


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
