"""MLX and NumPy, imported when they are first needed. `import zmlx` imports neither."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def mlx() -> Any:
    """``mlx.core``. An import statement costs six times as much, which a launch would pay again and again."""
    import mlx.core as mx

    return mx


@cache
def numpy() -> Any:
    """``numpy``, likewise."""
    import numpy as np

    return np
