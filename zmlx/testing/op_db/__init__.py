"""The table of operations from which tests, golden values, benchmarks and docs are generated.

One module for each module of `zmlx.kernels`, and `stock` for operations of MLX itself.
"""

from __future__ import annotations

from zmlx.testing.op_db import norms, reductions, softmax, stock, transformer
from zmlx.testing.opinfo import OpInfo

__all__ = ["op_db"]

op_db: tuple[OpInfo, ...] = (
    *transformer.OPS,
    *norms.OPS,
    *softmax.OPS,
    *reductions.OPS,
    *stock.OPS,
)
