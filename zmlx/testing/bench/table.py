"""A benchmark as text, Markdown and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zmlx.testing.bench.contest import BACKWARD
from zmlx.testing.bench.kept import SCHEMA
from zmlx.testing.bench.measurement import Measurement, Versus
from zmlx.testing.bench.peers import PEERS
from zmlx.testing.bench.rivals import COMPILED, MLX
from zmlx.testing.bench.run import Benchmark
from zmlx.testing.bench.timing import Timing
from zmlx.testing.bench.units import duration, three_digits
from zmlx.testing.files import write_whole
from zmlx.testing.report.model import NONE
from zmlx.testing.report.tables import Table, aligned_lines, markdown_lines, markdown_text, plain_table

_HEADER = (
    "benchmark",
    "dtype",
    "path",
    "median",
    "±",
    "rate",
    "of copy",
    "against MLX",
    "against mx.compile",
)

LEGEND = (
    "Median time of one launch, and half the distance between the quartiles. The rate counts the bytes that must "
    "move; a copy of as many, timed in turn, would be 100%. 2.0x: the rival takes twice as long as the kernel."
)


def _versus(versus: Versus | None) -> str:
    if versus is None:
        return NONE
    name = versus.name.removeprefix(versus.column).strip()  # the column's title says it
    return f"{three_digits(versus.ratio)}x {name}".rstrip()


def _cells(line: Measurement) -> tuple[str, ...]:
    name = f"{line.name} {BACKWARD}" if line.direction == BACKWARD else line.name
    if line.timing is None:
        return (name, line.dtype or NONE, line.path or NONE, "FAIL", *(NONE,) * 5)
    rate = NONE if line.rate is None else f"{three_digits(line.rate)} {line.unit}"
    return (
        name,
        line.dtype or NONE,
        line.path or NONE,
        duration(line.timing.median),
        f"{line.timing.spread:.0%}",
        rate,
        NONE if line.of_copy is None else f"{line.of_copy:.0%}",
        _versus(line.best(MLX)),
        _versus(line.best(COMPILED)),
    )


def _table(found: Benchmark) -> Table:
    header: tuple[str, ...] = _HEADER
    rows = [_cells(line) for line in found.measurements]
    best = [line.best(PEERS) for line in found.measurements]
    if any(best):
        header = (*header, "against peers")
        rows = [(*cells, _versus(versus)) for cells, versus in zip(rows, best, strict=True)]
    return plain_table("", header, tuple(rows))


def heading(found: Benchmark) -> str:
    """Where the numbers come from, in a line."""
    about, plan = found.environment, found.plan
    threads = f", {about['threads']} threads" if "threads" in about else ""
    return (
        f"{found.backend}: {about['device']}{threads}, MLX {about['mlx']}, {about['date']}; kernels make "
        f"{plan.rows} rows of {plan.columns}"
    )


def stopped(found: Benchmark) -> list[str]:
    """That a run is not whole, if it is not."""
    if not found.missing:
        return []
    are = "benchmark was" if found.missing == 1 else "benchmarks were"
    return [f"Stopped before its end: {found.missing} {are} not measured."]


def render_terminal(found: Benchmark) -> str:
    """The table as aligned text, then what failed."""
    parts = [heading(found), "", *aligned_lines(_table(found)), "", LEGEND, *found.peers, *stopped(found)]
    parts += [f"FAIL {line.failure}" for line in found.failures]
    return "\n".join(parts) + "\n"


def render_markdown(found: Benchmark) -> str:
    """GitHub Markdown, for a file and for ``GITHUB_STEP_SUMMARY``."""
    table = _table(found)
    parts = ["## zmlx: benchmarks", "", markdown_text(heading(found)), ""]
    parts += [*markdown_lines([table.header, *table.rows]), "", LEGEND]
    parts += [f"\n{markdown_text(note)}" for note in (*found.peers, *stopped(found))]
    if found.failures:
        parts += ["", "### Failures", "", *(f"- {markdown_text(line.failure)}" for line in found.failures)]
    return "\n".join(parts) + "\n"


def _timing(timing: Timing) -> dict[str, Any]:
    low, high = timing.quartiles
    return {
        "median_s": timing.median,
        "quartiles_s": [low, high],
        "spread": timing.spread,
        "best_s": min(timing.seconds),
        "rounds": len(timing.seconds),
    }


def _json_line(line: Measurement) -> dict[str, Any]:
    return {
        "name": line.name,
        "dtype": line.dtype or None,
        "direction": line.direction or None,
        "shapes": [list(shape) for shape in line.shapes],
        "path": line.path or None,
        "timing": None if line.timing is None else _timing(line.timing),
        "rate": line.rate,
        "unit": line.unit or None,
        "of_copy": line.of_copy,
        "of_copy_spread": line.of_copy_spread,
        "against": [
            {"column": v.column, "name": v.name, "ratio": v.ratio, "timing": _timing(v.timing)}
            for v in line.versus
        ],
        "failure": line.failure or None,
    }


def to_json(found: Benchmark) -> str:
    """Everything, every rival with its own time, for programs."""
    body = {
        "schema": SCHEMA,
        "ok": found.exit_code == 0,
        "backend": found.backend,
        "environment": dict(found.environment),
        "plan": asdict(found.plan),
        "peers": list(found.peers),
        "selected": {"kernel": found.kernel, "dtype": found.dtype, "missing": found.missing},
        "measurements": [_json_line(line) for line in found.measurements],
    }
    return json.dumps(body, indent=2, allow_nan=False)


def write_files(found: Benchmark, directory: Path) -> list[Path]:
    """Write BACKEND.md and BACKEND.json there, each whole or not at all; returns their paths.

    Raises
    ------
    OSError
        If the directory cannot be made or written to.
    """
    texts = {".md": render_markdown(found), ".json": to_json(found) + "\n"}
    paths = []
    for suffix, text in texts.items():
        paths.append(directory / f"{found.backend}{suffix}")
        write_whole(paths[-1], text)
    return paths
