"""A comparison in a few lines, for a terminal and for the message of a test."""

from __future__ import annotations

from zmlx._text import count
from zmlx.testing.golden.comparison import Comparison, figure_text
from zmlx.testing.golden.grouping import finding_lines, group_findings


def summary_lines(comparison: Comparison) -> list[str]:
    """A line for each pair, then what is wrong, then the verdict."""
    lines = [comparison.reference_note()]
    rows = [("compared", "cases", "identical", "max ULP")]
    rows += [
        (
            f"{comparison.label(p.subject)} with {comparison.label(p.against)}"
            + (" (gradients)" if p.gradients else ""),
            str(p.cases),
            str(p.identical),
            figure_text(p.worst.max_ulp),
        )
        for p in comparison.pairs()
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for name, *figures in rows:
        padded = [text.rjust(width) for text, width in zip(figures, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]))
    lines += [f"note: {note}" for note in comparison.notes]
    lines += [f"pending: {pending.message()}" for pending in comparison.pending]
    lines += finding_lines(group_findings(comparison))
    if comparison.ok:
        waiting = sum(len(pending.cases) for pending in comparison.pending)
        judged = "nothing outside its tolerance" if comparison.judged else "tolerances were not judged here"
        verdict = f"golden values agree: {count(len(comparison.results), 'comparison')}, {judged}"
        lines.append(verdict + (f"; {count(waiting, 'case')} pending" if waiting else ""))
    elif comparison.findings:
        lines.append(f"golden values do not agree: {count(len(comparison.findings), 'finding')}")
    else:
        lines.append("nothing was compared, which is a failure: op_db has no golden case here")
    return lines
