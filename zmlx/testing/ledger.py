"""What a test session measured: worst errors, launches, registered golden values.

Each xdist worker keeps one and sends it to the controller as plain lists; the controller merges them.
"""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

_ORDER = "float64 float32 float16 bfloat16"

ErrorKey = tuple[str, str, str]
LaunchKey = tuple[str, str, str]
ExampleKey = tuple[str, str, str]


class Measured(Protocol):
    """What an error measure has: `zmlx.testing.tolerance.ErrorStats`."""

    @property
    def max_ulp(self) -> float: ...

    @property
    def rms(self) -> float: ...


@dataclass(frozen=True)
class WorstError:
    """The largest errors of one kernel in one dtype on one back end; `case` is that of `max_ulp`."""

    max_ulp: float
    rms: float
    case: str
    count: int = 1

    def merged(self, other: WorstError) -> WorstError:
        worst = max(self, other, key=lambda w: w.max_ulp)
        return WorstError(worst.max_ulp, max(self.rms, other.rms), worst.case, self.count + other.count)


@dataclass
class Ledger:
    """Figures of one process, or of all workers once merged."""

    errors: dict[ErrorKey, WorstError] = field(default_factory=dict)
    launches: Counter[LaunchKey] = field(default_factory=Counter)
    #: Of property-based tests, by operation (or what else is counted), profile and what became of them.
    examples: Counter[ExampleKey] = field(default_factory=Counter)
    #: Paths through kernels that their launches took.
    paths: Counter[str] = field(default_factory=Counter)
    golden: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    #: Tests that this session left out, and those that might have registered values and were skipped: it cannot say
    #: that a value is stale.
    deselected: int = 0
    skipped: list[str] = field(default_factory=list)
    #: Tests that were collected, before any were deselected.
    collected: int = 0

    def record_error(self, kernel: str, dtype: str, backend: str, stats: Measured, case: str) -> None:
        """Keep `stats` if it is the worst so far of its kernel, dtype and back end."""
        max_ulp, rms = getattr(stats, "typical", (stats.max_ulp, stats.rms))
        self._add_error((kernel, dtype, backend), WorstError(max_ulp, rms, case))

    def _add_error(self, key: ErrorKey, error: WorstError) -> None:
        self.errors[key] = self.errors[key].merged(error) if key in self.errors else error

    def record_examples(self, name: str, profile: str, counts: Mapping[str, int]) -> None:
        """Add what became of the examples of a property-based test."""
        for what, count in counts.items():
            self.examples[name, profile, what] += count

    def record_paths(self, paths: Mapping[str, int]) -> None:
        """Add launches by the path that they took through their kernel."""
        for path, count in paths.items():
            self.paths[path] += count

    def record_golden(self, backend: str, name: str, case: dict[str, Any]) -> None:
        """Keep a registered value; two different ones of one name are a conflict."""
        known = self.golden.setdefault(backend, {}).setdefault(name, case)
        if known != case:
            self.conflicts.append(
                f"golden value {name!r} was registered twice for {backend} with different values"
            )

    def to_wire(self) -> str:
        """JSON text: execnet's own form of numbers ends at 32 bits, and one that does not fit loses the rest."""
        wire = {
            "errors": [[*key, e.max_ulp, e.rms, e.case, e.count] for key, e in self.errors.items()],
            "launches": [[*key, count] for key, count in self.launches.items()],
            "examples": [[*key, count] for key, count in self.examples.items()],
            "paths": dict(self.paths),
            "golden": self.golden,
            "conflicts": self.conflicts,
            "deselected": self.deselected,
            "skipped": self.skipped,
            "collected": self.collected,
        }
        return json.dumps(wire)

    def merge_wire(self, text: str) -> None:
        """Add what another process sent."""
        wire = json.loads(text)
        self.deselected = max(self.deselected, wire["deselected"])  # every worker collects everything
        self.collected = max(self.collected, wire["collected"])
        self.skipped += [name for name in wire["skipped"] if name not in self.skipped]
        for kernel, dtype, backend, max_ulp, rms, case, count in wire["errors"]:
            self._add_error((kernel, dtype, backend), WorstError(max_ulp, rms, case, count))
        for kernel, backend, path, count in wire["launches"]:
            self.launches[kernel, backend, path] += count
        for name, profile, what, count in wire["examples"]:
            self.examples[name, profile, what] += count
        self.record_paths(wire["paths"])
        for backend, cases in wire["golden"].items():
            for name, case in cases.items():
                self.record_golden(backend, name, case)
        self.conflicts += wire["conflicts"]

    def _error_rows(self) -> list[tuple[str, ...]]:
        dtypes = sorted(
            {dtype for _, dtype, _ in self.errors}, key=lambda d: (d not in _ORDER, _ORDER.find(d))
        )
        rows = [("kernel", "back end", *dtypes, "cases", "worst case")]
        for kernel, backend in dict.fromkeys((kernel, backend) for kernel, _, backend in self.errors):
            found = [self.errors.get((kernel, dtype, backend)) for dtype in dtypes]
            cells = [f"{e.max_ulp:.3g} / {e.rms:.2g}" if e is not None else "-" for e in found]
            present = [e for e in found if e is not None]
            worst = max(present, key=lambda e: e.max_ulp)
            rows.append((kernel, backend, *cells, str(sum(e.count for e in present)), worst.case))
        return [rows[0], *sorted(rows[1:])]

    def summary_lines(self) -> list[str]:
        """The two tables of the terminal summary; empty if there is nothing to tell."""
        lines: list[str] = []
        if self.errors:
            lines.append(
                "worst error against the oracle, max / RMS in ULPs of the output dtype at the RMS of the result:"
            )
            lines += ["  " + line for line in _aligned(self._error_rows())]
        if self.launches:
            by_path: Counter[tuple[str, str]] = Counter()
            for (_, backend, path), count in self.launches.items():
                by_path[backend, path] += count
            kernels = len({kernel for kernel, _, _ in self.launches})
            parts = [
                f"{backend} {count}" if backend == path else f"{backend}/{path} {count}"
                for (backend, path), count in sorted(by_path.items())
            ]
            lines.append(f"kernel launches: {', '.join(parts)} ({kernels} kernels)")
        return lines + self._example_lines()

    def _example_lines(self) -> list[str]:
        """How many examples were drawn: for each operation, and of which launches took which path."""
        lines: list[str] = []
        for profile in sorted({profile for _, profile, _ in self.examples}):
            by_name: dict[str, dict[str, int]] = {}
            for (name, of, what), count in sorted(self.examples.items()):
                if of == profile:
                    by_name.setdefault(name, {})[what] = count
            total = sum(counts.get("examples", 0) for counts in by_name.values())
            lines.append(f"property-based examples (profile {profile}): {total}")
            lines += _wrapped(f"{name} {_counted(counts)}" for name, counts in by_name.items())
        if self.paths:
            lines.append("their launches, by the path through the kernel:")
            lines += _wrapped(f"{path} {count}" for path, count in sorted(self.paths.items()))
        return lines


def _wrapped(parts: Iterable[str]) -> list[str]:
    text = ", ".join(part.replace(" ", "\0") for part in parts)  # lines end between two parts
    lines = textwrap.wrap(text, 106, break_long_words=False, break_on_hyphens=False)
    return ["  " + line.replace("\0", " ") for line in lines]


def _counted(counts: Mapping[str, int]) -> str:
    others = [f"{count} {what}" for what, count in counts.items() if what != "examples" and count]
    return f"{counts.get('examples', 0)}" + (f" ({', '.join(others)})" if others else "")


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Names flush left, figures flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = (0, 1, len(widths) - 1)
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
