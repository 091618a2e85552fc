"""The judge: a kernel that nobody trusts yet against an operation of the table.

In: a Python file with a function, and the `OpInfo` of what it is to compute. Out: one `Verdict`, with reasons. The
candidate's Python runs in a process of its own (worker), which launches nothing itself: its launches come as data
(transport, launches) to a second process without the candidate's Python (replayer), and what they write there, under
the checker and into poisoned outputs, is what the candidate gets back. The plan of the questions, the oracle and all
comparing (plan, evidence, provenance) stay in the judge's process.
"""

from zmlx.testing.judge.hearing import Limits, judge
from zmlx.testing.judge.verdict import REASONS, SCHEMA, Reason, Verdict

__all__ = ["REASONS", "SCHEMA", "Limits", "Reason", "Verdict", "judge"]
