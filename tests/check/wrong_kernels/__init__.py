"""Small wrong kernels by kind, each with the repair that makes it right; see `case.Case`."""

from __future__ import annotations

from wrong_kernels.alignment import ALIGNMENT
from wrong_kernels.arithmetic import ARITHMETIC
from wrong_kernels.bounds import BOUNDS
from wrong_kernels.case import BARRIER, Case
from wrong_kernels.device_races import DEVICE_RACES
from wrong_kernels.divergence import DIVERGENCE
from wrong_kernels.group_races import GROUP_RACES
from wrong_kernels.groups import GROUPS
from wrong_kernels.lanes import LANES
from wrong_kernels.locals import LOCALS
from wrong_kernels.memory_order import MEMORY_ORDER
from wrong_kernels.races import RACES
from wrong_kernels.schedule import SCHEDULE
from wrong_kernels.uninitialized import UNINITIALIZED

__all__ = ["BARRIER", "CASES", "Case"]

CASES = (
    *BOUNDS,
    *RACES,
    *UNINITIALIZED,
    *DIVERGENCE,
    *MEMORY_ORDER,
    *SCHEDULE,
    *LANES,
    *ALIGNMENT,
    *ARITHMETIC,
    *GROUPS,
    *LOCALS,
    *DEVICE_RACES,
    *GROUP_RACES,
)
