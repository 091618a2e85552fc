"""A comparison of two benchmarks as text, Markdown and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from zmlx.testing.bench.kept import KeptRow, KeptRun
from zmlx.testing.bench.regression import VERDICTS, Compared, Regression
from zmlx.testing.bench.units import duration
from zmlx.testing.report.tables import aligned_lines, markdown_lines, markdown_text, plain_table

SCHEMA = 1
NONE = "-"

_HEADER = ("kernel", "direction", "dtype", "shape", "old", "new", "ratio", "noise", "verdict")


def legend(found: Regression) -> str:
    """What the columns mean."""
    return (
        "Median time of a launch, and its speed as a share of a copy's that was timed in turn with it. Ratio: the new "
        "speed by the old, by times and by shares, the one that is nearer to 1.00x; below it is slower. Noise: how "
        "far off the medians of both runs may be, by the quartiles and the number of their rounds. A ratio below "
        f"{1 - found.tolerance:.2f}x less the noise fails."
    )


def _value(row: KeptRow | None) -> str:
    if row is None:
        return NONE
    if row.failure:
        return "failed"
    share = "" if row.of_copy is None else f" ({row.of_copy:.0%})"
    return duration(row.seconds) + share


def _cells(row: Compared) -> tuple[str, ...]:
    key = row.key
    compared = (NONE, NONE) if row.ratio is None else (f"{row.ratio:.2f}x", f"{row.noise:.0%}")
    names = (key.name, key.direction or NONE, key.dtype or NONE, key.shape or NONE)
    return (*names, _value(row.old), _value(row.new), *compared, row.verdict)


def _run(run: KeptRun) -> str:
    facts = run.environment
    about = ", ".join(
        f"{label}{facts[name]}"
        for label, name in (("", "device"), ("zmlx ", "zmlx"), ("MLX ", "mlx"), ("", "date"))
        if name in facts
    )
    return f"{run.path} ({run.backend}: {about})"


def _rows(found: Regression) -> list[Compared]:
    """What fails first, then by verdict, each in the order of the file."""
    order = list(VERDICTS)
    return sorted(found.rows, key=lambda row: order.index(row.verdict))


def verdict_line(found: Regression) -> str:
    """The verdict in a sentence."""
    counts = found.counts
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    return f"{'FAIL' if found.exit_code else 'PASS'}: {told} (of {sum(counts.values())})"


def _failures(found: Regression) -> list[str]:
    return [
        f"{row.verdict} {row.key.name} {row.key.direction} {row.key.dtype}: "
        + (row.new.failure if row.new is not None and row.new.failure else VERDICTS[row.verdict][1])
        for row in _rows(found)
        if row.fails
    ]


def render_terminal(found: Regression) -> str:
    """The table as aligned text, what fails, and the verdict last."""
    table = plain_table("", _HEADER, tuple(_cells(row) for row in _rows(found)))
    parts = [f"old: {_run(found.old)}", f"new: {_run(found.new)}", *(f"note: {note}" for note in found.notes)]
    parts += ["", *aligned_lines(table), "", legend(found), *_failures(found), verdict_line(found)]
    return "\n".join(parts) + "\n"


def render_markdown(found: Regression) -> str:
    """GitHub Markdown, for a file and for ``GITHUB_STEP_SUMMARY``."""
    parts = [f"## zmlx: benchmarks, {markdown_text(verdict_line(found))}", ""]
    parts += [f"- old: {markdown_text(_run(found.old))}", f"- new: {markdown_text(_run(found.new))}"]
    parts += [f"- {markdown_text(note)}" for note in found.notes]
    parts += ["", *markdown_lines([_HEADER, *(_cells(row) for row in _rows(found))]), "", legend(found)]
    parts += ["", *(f"- {markdown_text(line)}" for line in _failures(found))]
    return "\n".join(parts).rstrip() + "\n"


def _json_row(row: Compared) -> dict[str, Any]:
    def side(kept: KeptRow | None) -> dict[str, Any] | None:
        if kept is None:
            return None
        body = asdict(kept)
        body.pop("key")
        return body

    return {
        **asdict(row.key),
        "old": side(row.old),
        "new": side(row.new),
        "ratio": row.ratio,
        "noise": row.noise,
        "verdict": row.verdict.lower(),
    }


def to_json(found: Regression) -> str:
    """The same for programs."""
    body = {
        "schema": SCHEMA,
        "ok": found.exit_code == 0,
        "old": str(found.old.path),
        "new": str(found.new.path),
        "tolerance": found.tolerance,
        "notes": list(found.notes),
        "rows": [_json_row(row) for row in found.rows],
    }
    return json.dumps(body, indent=2, allow_nan=False)
