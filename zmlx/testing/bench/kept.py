"""A benchmark's JSON file, read back. Needs neither MLX nor NumPy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zmlx.testing.evidence import EvidenceError, Form, read_form, reading

#: 2: `direction`, `shapes` and what was selected; `spread` in timings and beside `of_copy`.
SCHEMA = 2

#: The folder of a project in which the file of a release is kept, as NAME-BACKEND.json.
KEPT_DIR = "benchmarks"

FORM = Form(
    what="a benchmark file",
    schema=SCHEMA,
    keys={
        "backend": str,
        "environment": dict,
        "plan": dict,
        "selected": dict,
        "measurements": list,
    },
    advice="`python -m zmlx bench --output-dir DIR` writes one.",
)

#: What a row must be called by, and what by which two runs are told to be of one plan.
_PLAN = ("rows", "columns", "distinct", "traffic", "lazy", "lead", "norm_rows")


@dataclass(frozen=True)
class Key:
    """What a row measures: the same in two files means that they can be compared."""

    name: str
    direction: str
    dtype: str
    shape: str


@dataclass(frozen=True)
class KeptRow:
    """One row.

    Attributes
    ----------
    key : Key
        What it measures.
    seconds, spread : float
        Median of a launch, and half the distance between the quartiles as a fraction of it; 0 if it failed.
    rounds : int
        Of how many.
    of_copy, of_copy_spread : float or None, float
        The speed as a share of that of a copy, timed in turn; None where none was.
    failure : str
        Why it has no time, or "".
    """

    key: Key
    seconds: float
    spread: float
    rounds: int
    of_copy: float | None
    of_copy_spread: float
    failure: str


@dataclass(frozen=True)
class KeptRun:
    """A benchmark as its file has it; `kernel` and `dtype` are what was selected, `missing` how many of those were
    not reached before the run was stopped."""

    path: Path
    backend: str
    environment: Mapping[str, str]
    plan: Mapping[str, Any]
    kernel: str
    dtype: str | None
    rows: Mapping[Key, KeptRow]
    missing: int = 0

    @property
    def sizes(self) -> dict[str, Any]:
        """What of the plan must be equal for two runs to be comparable."""
        return {name: self.plan.get(name) for name in _PLAN}


def read_run(path: Path) -> KeptRun:
    """Read a benchmark file.

    Raises
    ------
    zmlx.testing.evidence.EvidenceError
        It cannot be read, is damaged, is none, has another schema, or names a row twice.
    """
    raw = read_form(path, FORM)
    rows: dict[Key, KeptRow] = {}
    for number, body in enumerate(raw["measurements"]):
        with reading(f"measurement {number}", path, FORM):
            row = _row(body)
        if row.key in rows and not (row.failure or rows[row.key].failure):
            raise EvidenceError(
                f"{path}: {row.key.name} ({row.key.direction} {row.key.dtype}) is there twice. {FORM.advice}"
            )
        rows[row.key] = row if not row.failure or row.key not in rows else rows[row.key]
    selected = raw["selected"]
    return KeptRun(
        path,
        raw["backend"],
        raw["environment"],
        raw["plan"],
        selected.get("kernel", "*"),
        selected.get("dtype"),
        rows,
        int(selected.get("missing", 0)),
    )


def _row(body: Mapping[str, Any]) -> KeptRow:
    timing = body["timing"]
    dtype = body["dtype"] or ""
    # What has no dtype is told apart by what ran: the ways to copy.
    name = body["name"] if dtype else f"{body['name']} ({body['path']})"
    shape = " ".join("x".join(str(int(n)) for n in one) for one in body["shapes"])
    key = Key(name, body["direction"] or "", dtype, shape)
    if timing is None:
        return KeptRow(key, 0.0, 0.0, 0, None, 0.0, str(body["failure"] or "it has no time"))
    seconds, spread = float(timing["median_s"]), float(timing["spread"])
    if not seconds > 0 or not spread >= 0:
        raise ValueError(f"a median of {seconds} s with a spread of {spread}")
    share = body["of_copy"]
    if share is not None and not float(share) > 0:
        raise ValueError(f"a speed of {share} of the copy's")
    of_copy = None if share is None else float(share)
    return KeptRow(key, seconds, spread, int(timing["rounds"]), of_copy, float(body["of_copy_spread"]), "")


def kept_path(folder: Path, name: str, backend: str) -> Path:
    """Where the file of a release is kept.

    Raises
    ------
    ValueError
        `name` cannot be part of a file's name.
    """
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise ValueError(
            f"--keep: expected a name of letters, digits, '.', '+', '-', '_', such as 1.2.0; got {name!r}."
        )
    return folder / KEPT_DIR / f"{name}-{backend}.json"


def kept_files(folder: Path, backend: str) -> Iterator[Path]:
    """The files that are kept of a back end, in no order."""
    yield from (folder / KEPT_DIR).glob(f"*-{backend}.json")


def newest_kept(folder: Path, backend: str) -> KeptRun | None:
    """The file of the latest release of a back end, by its date and then its name; None if none is kept.

    Raises
    ------
    zmlx.testing.evidence.EvidenceError
        One of them cannot be used.
    """
    runs = [read_run(path) for path in kept_files(folder, backend)]
    return max(runs, key=lambda run: (run.environment.get("date", ""), _version(run.path)), default=None)


def _version(path: Path) -> list[tuple[int, int | str]]:
    """1.10 after 1.9."""
    parts = re.findall(r"\d+|\D+", path.stem)
    return [(1, int(part)) if part.isdigit() else (0, part) for part in parts]
