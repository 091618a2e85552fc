"""The table of operations from which tests, golden values, benchmarks and docs are generated.

In: the functions of `zmlx.kernels`, named and not imported, and of MLX itself (`stock`). Out: `op_db`, one `OpInfo` for
each: its float64 oracle with the source of its formula, samples, dtypes, tolerances, error inputs, rivals. One module
for each module of `zmlx.kernels`, found here by its ``OPS``. Must not know: MLX, until an entry is run; who runs it.
"""

from __future__ import annotations

import importlib
import pkgutil

from zmlx.testing.opinfo import OpInfo

__all__ = ["op_db"]

#: By family; MLX's own operations come last.
_FAMILIES = sorted(
    (m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")),
    key=lambda name: (name == "stock", name),
)

op_db: tuple[OpInfo, ...] = tuple(
    op for family in _FAMILIES for op in importlib.import_module(f"{__name__}.{family}").OPS
)
