"""The judge: a kernel that nobody trusts yet against an operation of the table.

In: a Python file with a function, and the `OpInfo` of what it is to compute. Out: one `Verdict`, with reasons. The
candidate's Python runs in a process of its own (worker), which launches nothing itself: its launches come as data
(transport, launches) to a second process without the candidate's Python (replayer), and what they write there, under
the checker and into poisoned outputs, is what the candidate gets back. The plan of the questions, the oracle and all
comparing (plan, evidence, provenance) stay in the judge's process.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zmlx.testing.judge.hearing import Limits as Limits
    from zmlx.testing.judge.hearing import judge as judge
    from zmlx.testing.judge.verdict import REASONS as REASONS
    from zmlx.testing.judge.verdict import SCHEMA as SCHEMA
    from zmlx.testing.judge.verdict import Reason as Reason
    from zmlx.testing.judge.verdict import Verdict as Verdict

#: Where each public name lives; imported when first used, so that the command's help costs no NumPy.
_HOMES = {
    "REASONS": "zmlx.testing.judge.verdict",
    "SCHEMA": "zmlx.testing.judge.verdict",
    "Limits": "zmlx.testing.judge.hearing",
    "Reason": "zmlx.testing.judge.verdict",
    "Verdict": "zmlx.testing.judge.verdict",
    "judge": "zmlx.testing.judge.hearing",
}

__all__ = ["REASONS", "SCHEMA", "Limits", "Reason", "Verdict", "judge"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
