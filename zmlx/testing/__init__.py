"""Testing one kernel on several back ends.

In: `OpInfo` entries (``op_db/``, or a project's own table), each a kernel with its oracle and samples. Out: a pytest
plugin and ``generated/`` tests, ``golden/`` values and their comparison, ``report/`` pages, ``bench/`` tables, and
``judge/``'s verdicts on candidates. The modules beside the folders are what these share (project, opinfo, variations,
layouts, tolerance, conditioning, selection, environment) and the plugin's own (plugin, session, markers, fixtures,
ledger, checking, reproduce). Sees all other folders; none of them sees it.

For projects of one's own: `OpInfo`, `SampleInput`, `ErrorInput`, `Tolerance`, `Rivals`, `Peer`, `opinfo_tests`. Names
are imported when they are first used, so that loading the plugin costs no NumPy and no MLX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zmlx.testing.generated.suite import opinfo_tests as opinfo_tests
    from zmlx.testing.opinfo import ErrorInput as ErrorInput
    from zmlx.testing.opinfo import OpInfo as OpInfo
    from zmlx.testing.opinfo import SampleInput as SampleInput
    from zmlx.testing.rivals import Peer as Peer
    from zmlx.testing.rivals import Rivals as Rivals
    from zmlx.testing.tolerance import Tolerance as Tolerance

#: Where each public name lives.
_HOMES = {
    "ErrorInput": "zmlx.testing.opinfo",
    "OpInfo": "zmlx.testing.opinfo",
    "Peer": "zmlx.testing.rivals",
    "Rivals": "zmlx.testing.rivals",
    "SampleInput": "zmlx.testing.opinfo",
    "Tolerance": "zmlx.testing.tolerance",
    "opinfo_tests": "zmlx.testing.generated.suite",
}

__all__ = ["ErrorInput", "OpInfo", "Peer", "Rivals", "SampleInput", "Tolerance", "opinfo_tests"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zmlx.testing' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
