"""The table of operations from which tests, golden values, benchmarks and docs are generated.

In: the functions of `zmlx.kernels`, named and not imported, and of MLX itself (`stock`). Out: `op_db`, one `OpInfo` for
each: its float64 oracle with the source of its formula, samples, dtypes, tolerances, error inputs, rivals. One module
for each module of `zmlx.kernels`. Must not know: MLX, until an entry is run; who runs it.
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
