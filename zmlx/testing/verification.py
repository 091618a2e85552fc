"""What `verify` found: rows, failures, the table, and the file that reports read. Needs neither MLX nor NumPy."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zmlx._text import count
from zmlx.testing.case_names import split_case
from zmlx.testing.evidence import Form, read_form, reading

SCHEMA = 1
SUFFIX = "-verify.json"

FORM = Form(
    what="a file of verify",
    schema=SCHEMA,
    keys={"backend": str, "environment": dict, "rows": list},
    advice="`python -m zmlx verify --output-dir DIR` writes one.",
)


@dataclass(frozen=True)
class Failure:
    """One case that is wrong, and why."""

    case: str
    direction: str
    message: str


@dataclass(frozen=True)
class Change:
    """What became of results and gradients when something that should not matter was changed.

    Attributes
    ----------
    runs : int
        How many runs were held against the first, it included.
    elements, differing : int
        Of one run, over all samples; and those of them whose bits are not the first run's in some other.
    max_ulp : float
        The largest difference, in ULPs of the dtype at the RMS of the array.
    note : str
        Why nothing was run, or "".
    """

    runs: int
    elements: int = 0
    differing: int = 0
    max_ulp: float = 0.0
    note: str = ""

    @property
    def cell(self) -> str:
        """For a table."""
        if self.note:
            return self.note
        return f"{self.max_ulp:.3g} ULP" if self.differing else "same bits"

    def text(self, what: str) -> str:
        """As a clause: "same bits in 3 runs"."""
        if self.note:
            return self.note
        if not self.differing:
            return f"same bits in {self.runs} {what}"
        return (
            f"{self.differing} of {self.elements} elements differ in {self.runs} {what}, by up to {self.max_ulp:.3g} "
            "ULP at the RMS"
        )


@dataclass(frozen=True)
class Row:
    """All samples of one operation in one dtype.

    Attributes
    ----------
    op, dtype : str
        Which.
    samples : int
        How many.
    forward, gradient : tuple of float
        (largest, root mean square) errors in ULPs at the RMS of the result; `gradient` is None for an operation without
        one.
    failures : tuple of Failure
        What is wrong.
    oracle_precision : str
        That of the entry.
    repeats, orders, tf32 : Change or None
        Results of several runs; of one run with its threads in several orders, by the checker; with and without TF32.
        None where that was not asked for or has no meaning.
    """

    op: str
    dtype: str
    samples: int
    forward: tuple[float, float]
    gradient: tuple[float, float] | None
    failures: tuple[Failure, ...]
    oracle_precision: str = "float64"
    repeats: Change | None = None
    orders: Change | None = None
    tf32: Change | None = None


#: Columns of the table by name: how they are headed, and whether they are flushed left.
_COLUMNS: Mapping[str, tuple[str, bool]] = {
    "operation": ("operation", True),
    "dtype": ("dtype", True),
    "samples": ("samples", False),
    "forward": ("forward ULP@RMS", False),
    "forward rms": ("rms", False),
    "gradient": ("gradient ULP@RMS", False),
    "gradient rms": ("rms", False),
    "repeats": ("runs", False),
    "orders": ("orders", False),
    "tf32": ("TF32", False),
    "verdict": ("", True),
}

#: Shown where at least one row has something there.
_OPTIONAL = ("repeats", "orders", "tf32")

#: What is left out, one after the other, until the table fits.
_DISPENSABLE = (("forward rms", "gradient rms"), ("samples",), _OPTIONAL, ("forward", "gradient"))


@dataclass(frozen=True)
class Verification:
    """What `zmlx.testing.verify.verify` found."""

    backend: str
    environment: Mapping[str, str]
    rows: tuple[Row, ...]

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Everything that is wrong."""
        return tuple(failure for row in self.rows for failure in row.failures)

    @property
    def ok(self) -> bool:
        """Something ran, and nothing is wrong."""
        return bool(self.rows) and not self.failures

    @property
    def exit_code(self) -> int:
        """0 if `ok`, else 1."""
        return 0 if self.ok else 1

    def text(self, width: int | None = None, tables: Sequence[str] = ()) -> str:
        """The table, then each failure with a command that reproduces it, then the verdict.

        Where the table is wider than `width`, columns are left out: the RMS errors first, then the counts. `tables` are
        those that ``--ops`` named.
        """
        about = self.environment
        lines = [f"{self.backend}: {about['device']}, MLX {about['mlx']}, TF32 {about['tf32']}", ""]
        lines += self._table(width)
        weak = [row.op for row in self.rows if row.oracle_precision != "float64"]
        if weak:
            names = ", ".join(dict.fromkeys(weak))
            lines += ["", f"oracle of MLX operations in float32, whose own rounding counts too: {names}"]
        legend = [line for line in (self._legend(*asked) for asked in _LEGENDS) if line]
        lines += ["", *legend] if legend else []
        for failure in self.failures:
            op, dtype, _ = split_case(failure.case)
            command = f"python -m zmlx verify --backend {self.backend} --kernel {op} --dtype {dtype}"
            command += " --orders" if failure.direction == "orders" else ""
            command += "".join(f" --ops {shlex.quote(table)}" for table in tables)
            lines += ["", f"FAIL {failure.direction}: {failure.message}", f"  to reproduce: {command}"]
        samples = sum(row.samples for row in self.rows)
        verdict = "all within tolerance of the oracle"
        if self.failures:
            verdict = count(len(self.failures), "failure")
        operations = count(len({row.op for row in self.rows}), "operation")
        lines += ["", f"{operations}, {count(samples, 'case')}: {verdict}"]
        return "\n".join(lines)

    def _table(self, width: int | None) -> list[str]:
        heads = {name: head for name, (head, _) in _COLUMNS.items()}
        table = [heads, *(_cells(row) for row in self.rows)]
        widths = {name: max(len(line[name]) for line in table) for name in _COLUMNS}
        shown = [
            name
            for name in _COLUMNS
            if name not in _OPTIONAL or any(getattr(row, name) is not None for row in self.rows)
        ]
        for names in _DISPENSABLE:
            if width is None or sum(widths[name] + 2 for name in shown) - 2 <= width:
                break
            shown = [name for name in shown if name not in names]
        return [
            "  ".join(
                line[name].ljust(widths[name]) if _COLUMNS[name][1] else line[name].rjust(widths[name])
                for name in shown
            ).rstrip()
            for line in table
        ]

    def _legend(self, name: str, what: str, meaning: str) -> str:
        changes = [change for row in self.rows for change in [getattr(row, name)] if change is not None]
        runs = max((change.runs for change in changes), default=0)
        if not runs:
            return ""
        differing = sum(bool(change.differing) for change in changes)
        said = f"{differing} of {len(changes)} rows differ" if differing else "all rows have the same bits"
        return (
            f"{name.replace('repeats', 'runs').replace('tf32', 'TF32')}: {meaning.format(runs=runs)}; {said}"
        )

    def to_json(self) -> str:
        """The same for programs. An infinite error stands as null, which JSON can hold."""
        body = {
            "schema": SCHEMA,
            "ok": self.ok,
            "backend": self.backend,
            "environment": dict(self.environment),
            "rows": [asdict(row) for row in self.rows],
        }
        return json.dumps(_finite(body), indent=2, allow_nan=False)


#: Attribute of a row, what its runs are called, and the legend.
_LEGENDS = (
    ("repeats", "runs", "{runs} runs of every sample, forward and gradient"),
    ("orders", "orders", "each launch with its threads in {runs} orders, on the CPU, small samples"),
    ("tf32", "settings", "MLX_ENABLE_TF32 1 against 0"),
)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cells(row: Row) -> dict[str, str]:
    def figures(pair: Sequence[float] | None) -> tuple[str, str]:
        return ("-", "-") if pair is None else (f"{pair[0]:.3g}", f"{pair[1]:.3g}")

    def cell(change: Change | None) -> str:
        return "-" if change is None else change.cell

    verdict = "FAIL" if row.failures else "PASS"
    changes = (cell(row.repeats), cell(row.orders), cell(row.tf32))
    texts = (
        row.op,
        row.dtype,
        str(row.samples),
        *figures(row.forward),
        *figures(row.gradient),
        *changes,
        verdict,
    )
    return dict(zip(_COLUMNS, texts, strict=True))


def read_verification(path: Path) -> Verification:
    """Read what `Verification.to_json` wrote.

    Raises
    ------
    zmlx.testing.evidence.EvidenceError
        It cannot be read, is damaged, is none, or has another schema.
    """
    raw = read_form(path, FORM)
    with reading("a row", path, FORM):
        return Verification(raw["backend"], raw["environment"], tuple(_row(body) for body in raw["rows"]))


def _row(body: Mapping[str, Any]) -> Row:
    def number(value: Any) -> float:
        return math.inf if value is None else float(value)

    def change(name: str) -> Change | None:
        raw = body[name]
        return None if raw is None else Change(**{**raw, "max_ulp": number(raw["max_ulp"])})

    def pair(raw: Sequence[Any]) -> tuple[float, float]:
        one, other = raw
        return number(one), number(other)

    return Row(
        str(body["op"]),
        str(body["dtype"]),
        int(body["samples"]),
        pair(body["forward"]),
        None if body["gradient"] is None else pair(body["gradient"]),
        tuple(Failure(**failure) for failure in body["failures"]),
        str(body["oracle_precision"]),
        change("repeats"),
        change("orders"),
        change("tf32"),
    )
