"""The C++ that kernels are compiled with, and nothing that Python runs.

In: nothing; these are headers and two small libraries. Out: `RUNTIME`, the folder, for the launchers and the checker.
``msl/`` is Metal's library and MLX's prelude, the same on every target; ``host/`` and ``cuda/`` say how threads run and
meet on each; ``check/`` is what an instrumented kernel calls. ``msl/`` knows of no target but by the macros in
``msl/config.h``.
"""

from pathlib import Path

#: The folder; includes in it are written from here, as ``#include "msl/types.h"``.
RUNTIME = Path(__file__).parent
